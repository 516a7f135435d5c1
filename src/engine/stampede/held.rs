//! What is not answered yet: requests, and parts of them, that have missed keys.

use std::collections::BTreeMap;

use super::awaited::Former;
use crate::config::model::ServerId;
use crate::engine::redis::Profile;
use crate::engine::servers::ticket::{Marks, Ticket};
use crate::time::Instant;
use std::time::Duration;

/// A key as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// The bytes that say where it belongs.
    pub(super) routed: Box<[u8]>,
    /// As it stands on the wire, where that is base64.
    pub(super) base64: Option<Box<[u8]>>,
}

impl Key {
    pub(super) fn plain(key: &[u8]) -> Self {
        Self { routed: key.into(), base64: None }
    }

    /// As it stands on the wire.
    pub(super) fn wire(&self) -> &[u8] {
        self.base64.as_deref().unwrap_or(&self.routed)
    }

    /// Memory that it takes, about.
    pub(super) fn footprint(&self) -> usize {
        size_of::<Self>() + self.routed.len() + self.base64.as_ref().map_or(0, |wire| wire.len())
    }
}

/// A request, or a part of one, whose server has answered that keys are not there.
#[derive(Debug)]
pub(super) struct Held {
    /// Its number, and which part it is.
    pub(super) number: u32,
    pub(super) fragment: u16,
    pub(super) server: ServerId,
    /// What its connection was set to.
    pub(super) profile: Profile,
    /// As it was on its way.
    pub(super) ticket: Ticket,
    /// What is asked once more.
    pub(super) request: Box<[u8]>,
    /// What its client is told if there is nothing else.
    pub(super) response: Box<[u8]>,
    /// The keys that are waited for, the first in their order in front.
    pub(super) missing: Vec<Key>,
    /// Those that it missed and has been given former values of.
    pub(super) given: BTreeMap<Box<[u8]>, Former>,
    /// For a part of a multi-get: the places of all keys of it that were missed.
    pub(super) places: Vec<u32>,
    /// What it had taken of its time.
    pub(super) spent: Duration,
    /// It is counted as one that waits.
    pub(super) is_counted: bool,
    /// How often it was asked once more and missed all the same that it had missed before.
    pub(super) rounds: u32,
}

impl Held {
    /// Which part of which request it is.
    pub(super) const fn part(&self) -> (u32, u16) {
        (self.number, self.fragment)
    }

    /// Whether it is this part of a request.
    pub(super) fn is_of(&self, (number, fragment): (u32, u16)) -> bool {
        self.number == number && self.fragment == fragment
    }

    /// Whether it misses a key.
    pub(super) fn misses(&self, key: &[u8]) -> bool {
        self.missing.iter().any(|missing| &*missing.routed == key)
    }

    /// Memory that it takes, about.
    pub(super) fn footprint(&self) -> usize {
        let keys: usize = self.missing.iter().map(Key::footprint).sum();
        let given: usize = self.given.iter().map(|(key, former)| key.len() + former.len()).sum();
        let places = self.places.len() * size_of::<u32>();
        size_of::<Self>() + self.request.len() + self.response.len() + keys + given + places
    }

    /// As it goes out once more.
    pub(super) fn again(&self) -> Ticket {
        let marks = self.ticket.marks.without(Marks::JOINED | Marks::RESENT);
        let keys = match self.places.len() {
            0 => self.ticket.keys,
            count => u16::try_from(count).unwrap_or(u16::MAX),
        };
        Ticket { marks, keys, ..self.ticket }
    }
}

/// A client of which something is held, or was.
#[derive(Debug, Default)]
pub(super) struct Wait {
    pub(super) held: Vec<Held>,
    /// Memory of that and of what is asked once more.
    pub(super) bytes: usize,
    /// The number of the key that it waits for.
    pub(super) at: Option<u32>,
    /// Since when, and until when at the longest. Both hold until nothing is held or asked again.
    pub(super) since: Instant,
    pub(super) until: Instant,
    /// Somebody else has a lease for what it waits for.
    pub(super) is_refused: bool,
    /// What is asked once more, until that is answered.
    pub(super) again: Vec<Held>,
    /// It has a lease: its requests before this number wait for nothing.
    pub(super) computes_before: Option<u32>,
    /// The number that follows the last thing which it has sent that may change something.
    pub(super) changed_before: Option<u32>,
    /// The keys that it has leases for, by their hashes, and until when.
    pub(super) leases: Vec<(u64, Instant)>,
}

/// Leases of one client that are remembered.
const LEASES: usize = 64;

impl Wait {
    /// It has got a lease.
    pub(super) fn remember(&mut self, hash: u64, until: Instant, now: Instant) {
        self.leases.retain(|(known, until)| *known != hash && *until > now);
        if self.leases.len() >= LEASES {
            self.leases.remove(0);
        }
        self.leases.push((hash, until));
    }

    /// Its lease for a key is over.
    pub(super) fn forget(&mut self, hash: u64) {
        self.leases.retain(|(known, _)| *known != hash);
    }

    /// Whether it has a lease for a key.
    pub(super) fn has_lease(&self, hash: u64, now: Instant) -> bool {
        self.leases.iter().any(|(known, until)| *known == hash && *until > now)
    }
}
