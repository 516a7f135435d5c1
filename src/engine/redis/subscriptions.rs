//! What one client is subscribed to, and where: the account that [`pubsub`](super::pubsub) keeps.
//!
//! Every question is answered at the cost of one look-up, however many names there are.

use std::collections::BTreeMap;

use crate::config::model::ServerId;
use crate::engine::ids::LinkId;
use crate::proto::resp::args::{Args, Span};
use crate::proto::resp::command::Command;
use crate::proto::resp::plan::Plan;

/// Whether a channel is one on which a server tells what happens to its own keys (`notify-keyspace-events`).
pub(super) fn is_of_keys(channel: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 3] = [b"__keyspace@", b"__keyevent@", b"__subkey"];
    channel.starts_with(b"__") && BEGINNINGS.iter().any(|beginning| channel.starts_with(beginning))
}

/// What a subscription takes besides its name: its part of a half-full node of the tree, the name's own piece of memory,
/// and the list of its places if these are few. Measured with a hundred thousand short names.
pub(super) const NAME_COST: usize = 192;

/// Places of a name of which the memory is counted in [`NAME_COST`].
const FEW: usize = 4;

/// What a subscription is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Channel,
    Pattern,
    Shard,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Channel, Self::Pattern, Self::Shard];

    /// Whether every server may have messages of its own for a name of this kind.
    pub(super) fn is_everywhere(self, name: &[u8]) -> bool {
        match self {
            Self::Pattern => true,
            Self::Channel => is_of_keys(name),
            Self::Shard => false,
        }
    }

    pub(super) const fn subscribe(self) -> &'static [u8] {
        match self {
            Self::Channel => b"subscribe",
            Self::Pattern => b"psubscribe",
            Self::Shard => b"ssubscribe",
        }
    }

    pub(super) const fn unsubscribe(self) -> &'static [u8] {
        match self {
            Self::Channel => b"unsubscribe",
            Self::Pattern => b"punsubscribe",
            Self::Shard => b"sunsubscribe",
        }
    }
}

/// Where a name has been subscribed to: servers in order, and on which connections. Of a connection that is over, the server has
/// been told nothing.
pub(super) type Places = Vec<(ServerId, LinkId)>;

/// What a client is subscribed to, and where.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    names: [BTreeMap<Box<[u8]>, Places>; 3],
    /// The connection on which each server is heard.
    links: BTreeMap<ServerId, LinkId>,
    /// Bytes of all names.
    bytes: usize,
    /// Bytes of their places, where these are many.
    place_bytes: usize,
    /// A timer is set to subscribe anew.
    pub(super) timed: bool,
    /// How far it has come that everything is subscribed to where it belongs, if that is under way.
    pub(super) walk: Option<Walk>,
    /// The rest of a request that is carried out in portions.
    pub(super) rest: Option<Box<Rest>>,
}

/// A walk over all names in order.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The last name that was looked at.
    pub(super) behind: Option<(Kind, Box<[u8]>)>,
    /// Some names have nowhere to go at the moment.
    pub(super) waits: bool,
}

/// What is left of a long request.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) raw: Vec<u8>,
    pub(super) spans: Vec<Span>,
    pub(super) command: &'static Command,
    pub(super) plan: Plan,
    pub(super) kind: Kind,
    /// It subscribes.
    pub(super) adds: bool,
    /// The place of the next name among the arguments. A request that names nothing means all.
    pub(super) next: usize,
}

impl Rest {
    pub(super) fn args(&self) -> Args<'_> {
        Args::new(&self.raw, &self.spans)
    }
}

/// Bytes of a name's places, if they are many.
fn many(places: &Places) -> usize {
    if places.capacity() > FEW { places.capacity() * size_of::<(ServerId, LinkId)>() } else { 0 }
}

impl Subscriptions {
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it has ended, and nothing is to come.
    pub(super) fn is_over(&self) -> bool {
        self.is_empty() && self.rest.is_none() && self.walk.is_none()
    }

    /// Names of all kinds.
    pub(crate) fn len(&self) -> usize {
        self.names.iter().map(BTreeMap::len).sum()
    }

    /// Memory that it holds, about.
    pub(crate) fn footprint(&self) -> usize {
        let rest = self.rest.as_ref().map_or(0, |rest| rest.raw.capacity() + rest.spans.capacity() * size_of::<Span>());
        self.bytes + self.place_bytes + self.len() * NAME_COST + rest
    }

    /// Bytes of all names.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn contains(&self, kind: Kind, name: &[u8]) -> bool {
        self.names[kind as usize].contains_key(name)
    }

    /// Channels and patterns.
    pub(crate) fn counts(&self) -> [usize; 3] {
        [Kind::Channel, Kind::Pattern, Kind::Shard].map(|kind| self.count(kind))
    }

    pub(super) fn count(&self, kind: Kind) -> usize {
        self.names[kind as usize].len()
    }

    /// The number that confirmations of this kind tell.
    pub(super) fn told_count(&self, kind: Kind) -> i64 {
        let count = match kind {
            Kind::Shard => self.count(Kind::Shard),
            Kind::Channel | Kind::Pattern => self.count(Kind::Channel) + self.count(Kind::Pattern),
        };
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    /// Adds a name; `false` when it is there.
    pub(super) fn add(&mut self, kind: Kind, name: &[u8]) -> bool {
        let names = &mut self.names[kind as usize];
        if names.contains_key(name) {
            return false;
        }
        self.bytes += name.len();
        names.insert(name.into(), Vec::new());
        true
    }

    /// Takes a name away; returns the servers that have been told of it.
    pub(super) fn remove(&mut self, kind: Kind, name: &[u8]) -> Vec<ServerId> {
        let Some(mut places) = self.names[kind as usize].remove(name) else { return Vec::new() };
        self.bytes -= name.len();
        self.place_bytes -= many(&places);
        places.retain(|place| self.is_heard(*place));
        places.into_iter().map(|(server, _)| server).collect()
    }

    /// The first name of a kind.
    pub(super) fn first(&self, kind: Kind) -> Option<Box<[u8]>> {
        self.names[kind as usize].first_key_value().map(|(name, _)| name.clone())
    }

    /// A server is being told of a name.
    pub(super) fn note(&mut self, kind: Kind, name: &[u8], server: ServerId, link: LinkId) {
        if let Some(places) = self.names[kind as usize].get_mut(name) {
            match places.binary_search_by_key(&server, |(known, _)| *known) {
                Ok(at) => places[at].1 = link,
                Err(at) => {
                    let before = many(places);
                    places.insert(at, (server, link));
                    self.place_bytes += many(places) - before;
                }
            }
        }
    }

    /// A server is being told of the end of a name's subscription.
    pub(super) fn unnote(&mut self, kind: Kind, name: &[u8], server: ServerId) {
        if let Some(places) = self.names[kind as usize].get_mut(name) {
            places.retain(|(known, _)| *known != server);
        }
    }

    /// The name behind another, in the order of the walk, and the servers that have been told of it, in order.
    pub(super) fn behind(&self, last: Option<&(Kind, Box<[u8]>)>) -> Option<(Kind, Box<[u8]>, Vec<ServerId>)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = last.map_or(0, |(kind, _)| *kind as usize);
        Kind::ALL.into_iter().skip(from).find_map(|kind| {
            let start = match last {
                Some((known, name)) if *known == kind => Excluded(&**name),
                _ => Unbounded,
            };
            let (name, places) = self.names[kind as usize].range::<[u8], _>((start, Unbounded)).next()?;
            let heard = places.iter().filter(|place| self.is_heard(**place)).map(|(server, _)| *server);
            Some((kind, name.clone(), heard.collect()))
        })
    }

    fn is_heard(&self, (server, link): (ServerId, LinkId)) -> bool {
        self.links.get(&server) == Some(&link)
    }

    /// The connection on which a server is heard.
    pub(super) fn link(&self, server: ServerId) -> Option<LinkId> {
        self.links.get(&server).copied()
    }

    pub(super) fn set_link(&mut self, server: ServerId, link: LinkId) {
        self.links.insert(server, link);
    }

    /// A connection is over, and what was subscribed to on it.
    pub(super) fn forget_link(&mut self, link: LinkId) {
        self.links.retain(|_, known| *known != link);
    }

    /// Takes all connections.
    pub(super) fn take_links(&mut self) -> Vec<LinkId> {
        std::mem::take(&mut self.links).into_values().collect()
    }

    /// Drops up to `most` names; says how many.
    pub(crate) fn shrink(&mut self, most: usize) -> usize {
        let mut dropped = 0;
        for names in &mut self.names {
            while dropped < most
                && let Some((name, places)) = names.pop_first()
            {
                self.bytes -= name.len();
                self.place_bytes -= many(&places);
                dropped += 1;
            }
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(place: usize) -> LinkId {
        LinkId::first(place)
    }

    #[test]
    fn what_was_told_on_a_connection_ends_with_it() {
        let mut known = Subscriptions::default();
        assert!(known.add(Kind::Channel, b"a") && !known.add(Kind::Channel, b"a"));
        known.set_link(ServerId(0), link(7));
        known.note(Kind::Channel, b"a", ServerId(0), link(7));
        assert_eq!(known.behind(None), Some((Kind::Channel, b"a"[..].into(), vec![ServerId(0)])));
        known.forget_link(link(7));
        known.set_link(ServerId(0), link(7).next());
        assert_eq!(known.behind(None), Some((Kind::Channel, b"a"[..].into(), vec![])));
        known.note(Kind::Channel, b"a", ServerId(0), link(7).next());
        assert_eq!(known.remove(Kind::Channel, b"a"), [ServerId(0)]);
        assert_eq!((known.len(), known.bytes()), (0, 0));
    }

    #[test]
    fn the_places_of_a_name_are_counted_however_many_they_are() {
        for servers in [1, 3, 10, 65, 130] {
            let mut known = Subscriptions::default();
            for name in 0..10u8 {
                known.add(Kind::Pattern, &[name]);
                for server in (0..servers).rev() {
                    known.note(Kind::Pattern, &[name], ServerId(server), link(7));
                    known.note(Kind::Pattern, &[name], ServerId(server), link(8)); // once more, on another connection
                }
            }
            let size = usize::from(servers) * size_of::<(ServerId, LinkId)>();
            assert!(known.footprint() >= 10 * (1 + size), "{servers}: {}", known.footprint());
            assert!(known.footprint() <= 10 * (1 + NAME_COST + 2 * size), "{servers}: {}", known.footprint());
            known.unnote(Kind::Pattern, &[1], ServerId(0));
            known.remove(Kind::Pattern, &[0]);
            known.shrink(5);
            known.remove(Kind::Pattern, &[9]);
            known.shrink(100);
            assert_eq!((known.footprint(), known.len()), (0, 0), "{servers}");
        }
    }

    #[test]
    fn the_walk_comes_by_every_name_once_in_order() {
        let mut known = Subscriptions::default();
        for name in 0..300u16 {
            assert!(known.add(Kind::ALL[usize::from(name % 3)], &name.to_be_bytes()));
        }
        let (mut at, mut seen) = (None, Vec::new());
        while let Some((kind, name, _)) = known.behind(at.as_ref()) {
            seen.push((kind, name.clone()));
            at = Some((kind, name));
        }
        assert_eq!((seen.len(), seen.is_sorted()), (300, true));
        assert_eq!(known.counts(), [100, 100, 100]);
        assert_eq!((known.shrink(120), known.shrink(1000), known.len()), (120, 180, 0));
    }
}
