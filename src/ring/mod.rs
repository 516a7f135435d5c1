//! From a key to a server, over the servers that are live.
//!
//! A [`Ring`] holds all that routing needs, so that [`Ring::route`] is a hash and a look-up: no lock, no allocation.
//! Placement is twemproxy's, bit for bit. When a server leaves or returns, a worker takes the next ring from the pool's
//! [`Circle`]: no point is computed anew, those of servers that are out are passed over.

pub mod circle;
pub mod hash;
pub mod ketama;
pub mod returns;
pub mod tag;

use std::ops::Range;
use std::sync::Arc;

use crate::config::model::{Distribution, HashKind, Pool, Server, ServerId};
pub use circle::Circle;
use circle::Thinned;
pub use returns::Returns;

/// Where keys belong, for one set of live servers.
#[derive(Debug, Clone)]
pub struct Ring {
    hash: HashKind,
    tag: Option<[u8; 2]>,
    placement: Placement,
}

#[derive(Debug, Clone)]
enum Placement {
    /// No server is live.
    Nowhere,
    /// The pool has one server: no key is hashed.
    Only(ServerId),
    /// Every point counts.
    Ketama {
        points: Arc<[Slot]>,
        /// For each value of a hash's upper bits, where in `points` to start looking.
        starts: Arc<[u32]>,
        shift: u32,
    },
    /// Some points do not.
    Thinned(Thinned),
    /// Each live server, repeated by its weight.
    Modula(Vec<ServerId>),
    /// The live servers.
    Random(Vec<ServerId>),
}

/// A point of the ring and the server that stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) point: u32,
    pub(super) server: ServerId,
}

/// Whether two pools with servers of the same ring names have the same way from a key to one of those names.
#[must_use]
pub fn is_alike(one: &Pool, other: &Pool) -> bool {
    let way = |pool: &Pool| (pool.hash, pool.hash_tag, pool.distribution);
    let shares = |server: &Server| (server.ring_name().to_owned(), server.weight);
    way(one) == way(other) && one.servers.iter().map(shares).eq(other.servers.iter().map(shares))
}

/// Why a key belongs to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The part of the key that was hashed.
    pub hashed: Range<usize>,
    /// Its hash.
    pub hash: u32,
    /// The point of the ring that it came to, with ketama.
    pub point: Option<u32>,
    /// The server there; `None` when no server is live, or when any may take it (`random`).
    pub server: Option<ServerId>,
}

/// The hash of a key in a pool, its hash tag applied.
#[must_use]
pub fn hash_key(pool: &Pool, key: &[u8]) -> u32 {
    hash::hash(pool.hash, &key[tag::hashed_range(pool.hash_tag, key)])
}

impl Ring {
    /// The ring of those servers of a pool for which `live`, by their ids, is true.
    #[must_use]
    pub fn new(pool: &Pool, live: &[bool]) -> Self {
        let live = pool.servers.iter().filter(|server| live[server.id.index()]);
        let servers = live.map(|server| (server.id, server.ring_name(), server.weight));
        let ids = || servers.clone().map(|(id, _, _)| id);
        let placement = if ids().next().is_none() {
            Placement::Nowhere
        } else if let [only] = &pool.servers[..] {
            Placement::Only(only.id)
        } else {
            match pool.distribution {
                Distribution::Ketama => whole(ketama::points(servers)),
                Distribution::Modula => {
                    Placement::Modula(servers.flat_map(|(id, _, weight)| (0..weight).map(move |_| id)).collect())
                }
                Distribution::Random => Placement::Random(ids().collect()),
            }
        };
        Self { hash: pool.hash, tag: pool.hash_tag, placement }
    }

    /// The server that a key belongs to; `None` when no server is live. `random` is a number that the caller drew, for
    /// the distribution of that name.
    #[must_use]
    #[inline]
    pub fn route(&self, key: &[u8], random: u32) -> Option<ServerId> {
        match &self.placement {
            Placement::Ketama { points, starts, shift } => {
                Some(first_at_or_after(points, starts, *shift, self.hash_of(key)).server)
            }
            Placement::Nowhere
            | Placement::Thinned(_)
            | Placement::Only(_)
            | Placement::Modula(_)
            | Placement::Random(_) => self.route_otherwise(key, random),
        }
    }

    #[inline(never)]
    fn route_otherwise(&self, key: &[u8], random: u32) -> Option<ServerId> {
        match &self.placement {
            Placement::Ketama { .. } | Placement::Nowhere => None,
            Placement::Thinned(thinned) => thinned.first(self.hash_of(key)).map(|slot| slot.server),
            Placement::Only(server) => Some(*server),
            Placement::Modula(slots) => Some(slots[self.hash_of(key) as usize % slots.len()]),
            Placement::Random(servers) => Some(servers[random as usize % servers.len()]),
        }
    }

    #[inline]
    fn hash_of(&self, key: &[u8]) -> u32 {
        if self.hash == HashKind::Fnv1a_64 && self.tag.is_none() && !key.is_empty() {
            return hash::fnv1a_64(key); // what almost all have
        }
        self.hash_otherwise(key)
    }

    #[inline(never)]
    fn hash_otherwise(&self, key: &[u8]) -> u32 {
        hash::hash(self.hash, &key[tag::hashed_range(self.tag, key)])
    }

    /// Whether the number that is drawn for a key decides where it goes.
    #[must_use]
    #[inline]
    pub const fn is_random(&self) -> bool {
        matches!(self.placement, Placement::Random(_))
    }

    /// Why a key belongs where [`Ring::route`] sends it.
    #[must_use]
    pub fn explain(&self, key: &[u8]) -> Explanation {
        let hashed = tag::hashed_range(self.tag, key);
        let hash = hash::hash(self.hash, &key[hashed.clone()]);
        let (point, server) = match &self.placement {
            Placement::Nowhere | Placement::Random(_) => (None, None),
            Placement::Only(server) => (None, Some(*server)),
            Placement::Ketama { points, starts, shift } => {
                let slot = first_at_or_after(points, starts, *shift, hash);
                (Some(slot.point), Some(slot.server))
            }
            Placement::Thinned(thinned) => {
                let slot = thinned.first(hash);
                (slot.map(|slot| slot.point), slot.map(|slot| slot.server))
            }
            Placement::Modula(slots) => (None, Some(slots[hash as usize % slots.len()])),
        };
        Explanation { hashed, hash, point, server }
    }

    /// The part of all hashes that each server takes, for ids below `count`. With one server, or with `random`, the parts
    /// are equal.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share is for reading")]
    pub fn shares(&self, count: usize) -> Vec<f64> {
        let mut shares = vec![0.0; count];
        let mut add = |server: ServerId, share: f64| {
            if let Some(sum) = shares.get_mut(server.index()) {
                *sum += share;
            }
        };
        match &self.placement {
            Placement::Nowhere => {}
            Placement::Only(server) => add(*server, 1.0),
            Placement::Ketama { points, .. } => add_arcs(points.iter().copied(), add),
            Placement::Thinned(thinned) => add_arcs(thinned.slots(), add),
            Placement::Modula(servers) | Placement::Random(servers) => {
                for server in servers {
                    add(*server, 1.0 / servers.len() as f64);
                }
            }
        }
        shares
    }
}

/// Adds to each server the part of the circle that its points take.
fn add_arcs(slots: impl DoubleEndedIterator<Item = Slot> + Clone, mut add: impl FnMut(ServerId, f64)) {
    let mut before = slots.clone().next_back().map_or(0, |slot| slot.point);
    for slot in slots {
        // Around the circle: the first point also takes what lies behind the last.
        add(slot.server, f64::from(slot.point.wrapping_sub(before)) / 4_294_967_296.0);
        before = slot.point;
    }
}

/// The ring of points that all count.
fn whole(points: Vec<Slot>) -> Placement {
    if points.is_empty() {
        return Placement::Nowhere;
    }
    let (starts, shift) = table(&points);
    Placement::Ketama { points: points.into(), starts: starts.into(), shift }
}

/// A table over the upper bits of the hash, so that a look-up takes a step or two instead of nine.
fn table(points: &[Slot]) -> (Vec<u32>, u32) {
    let bits = (points.len() * 2).next_power_of_two().trailing_zeros().clamp(1, 16);
    let shift = 32 - bits;
    let mut at = 0;
    let starts = (0..1u32 << bits).map(|prefix| {
        while points.get(at).is_some_and(|slot| slot.point < prefix << shift) {
            at += 1;
        }
        u32::try_from(at).unwrap_or(u32::MAX)
    });
    (starts.collect(), shift)
}

#[inline]
fn first_at_or_after(points: &[Slot], starts: &[u32], shift: u32, hash: u32) -> Slot {
    points.get(index_at_or_after(points, starts, shift, hash)).copied().unwrap_or(points[0])
}

/// Where the first point at or after `hash` is; behind the last if there is none.
#[inline]
fn index_at_or_after(points: &[Slot], starts: &[u32], shift: u32, hash: u32) -> usize {
    let mut at = starts[(hash >> shift) as usize] as usize;
    while points.get(at).is_some_and(|slot| slot.point < hash) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests;
