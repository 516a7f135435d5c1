//! The points of all of a pool's servers, computed once, and rings of some of the servers made from them.
//!
//! With ketama the points of a server do not depend on the others; only how many of them count does. So a ring without
//! some servers is the same circle, of which theirs are passed over. To take one costs a few steps a server, where
//! computing and sorting its points would cost a digest for every four.

use std::sync::Arc;

use super::{Placement, Ring, Slot, index_at_or_after, ketama, table};
use crate::config::model::{Distribution, Pool, ServerId};

/// The points of all servers of a pool.
#[derive(Debug, Clone)]
pub struct Circle {
    points: Arc<[Slot]>,
    /// For each point, which of its server's groups it is of.
    groups: Arc<[u32]>,
    starts: Arc<[u32]>,
    shift: u32,
    /// For each server, by its id, how many groups of it are there.
    known: Arc<[u32]>,
    /// With all servers live, every point counts.
    is_exact: bool,
}

/// A circle of which not all points count.
#[derive(Debug, Clone)]
pub(super) struct Thinned {
    circle: Circle,
    /// For each server, by its id, how many of its groups count; 0 when it is out.
    counted: Box<[u32]>,
}

impl Circle {
    /// The circle of a pool. Empty where servers have no points: with one server, or without ketama.
    #[must_use]
    pub fn new(pool: &Pool) -> Self {
        let none = Self {
            points: Arc::new([]),
            groups: Arc::new([]),
            starts: Arc::new([]),
            shift: 0,
            known: Arc::new([]),
            is_exact: true,
        };
        if pool.distribution != Distribution::Ketama || pool.servers.len() < 2 {
            return none;
        }
        none.with(pool, &counts(pool, |_| true), true)
    }

    /// As [`Ring::new`]: the ring of those servers for which `live` is true.
    #[must_use]
    pub fn ring(&mut self, pool: &Pool, live: &[bool]) -> Ring {
        if self.known.is_empty() || !live.contains(&true) {
            return Ring::new(pool, live);
        }
        let placement = if self.is_exact && pool.servers.iter().all(|server| live[server.id.index()]) {
            let Self { points, starts, shift, .. } = self;
            Placement::Ketama { points: Arc::clone(points), starts: Arc::clone(starts), shift: *shift }
        } else {
            Placement::Thinned(self.thinned(pool, counts(pool, |server| live[server])))
        };
        Ring { hash: pool.hash, tag: pool.hash_tag, placement }
    }

    /// The circle with as many points of each server as `counted` says.
    pub(super) fn thinned(&mut self, pool: &Pool, counted: Vec<u32>) -> Thinned {
        if self.known.iter().zip(&counted).any(|(known, counted)| known < counted) {
            *self = self.grown(pool, &counted);
        }
        Thinned { circle: self.clone(), counted: counted.into() }
    }

    /// With more points: where weights differ, some servers get more of them as others leave.
    #[cold]
    fn grown(&self, pool: &Pool, counted: &[u32]) -> Self {
        let sum = |groups: &[u32]| groups.iter().map(|count| *count as usize).sum::<usize>();
        // What earlier rings needed is kept for the next, but not more than is needed by far.
        if sum(&self.known) > 2 * sum(counted) {
            return self.with(pool, counted, false);
        }
        let wanted = self.known.iter().zip(counted).map(|(known, counted)| match known < counted {
            true => counted.saturating_add(counted / 8),
            false => *known,
        });
        self.with(pool, &wanted.collect::<Vec<_>>(), false)
    }

    /// The circle with so many groups of each server.
    fn with(&self, pool: &Pool, wanted: &[u32], is_exact: bool) -> Self {
        let kept = self.points.iter().copied().zip(self.groups.iter().copied());
        let mut all: Vec<(Slot, u32)> = kept.filter(|(slot, group)| *group < wanted[slot.server.index()]).collect();
        let mut ranks = vec![0; wanted.len()];
        for (rank, server) in pool.servers.iter().enumerate() {
            let id = server.id.index();
            ranks[id] = rank;
            for group in self.known.get(id).copied().unwrap_or(0)..wanted[id] {
                let slot = |point| (Slot { point, server: server.id }, group);
                all.extend(ketama::group_points(server.ring_name(), group).map(slot));
            }
        }
        // Points of equal value are in the order of the servers.
        all.sort_by_key(|(slot, _)| (slot.point, ranks[slot.server.index()]));
        let (points, groups): (Vec<Slot>, Vec<u32>) = all.into_iter().unzip();
        let (starts, shift) = table(&points);
        Self {
            points: points.into(),
            groups: groups.into(),
            starts: starts.into(),
            shift,
            known: wanted.into(),
            is_exact,
        }
    }
}

/// One more than the highest id of a pool's servers.
pub(super) fn ids(pool: &Pool) -> usize {
    pool.servers.iter().map(|server| server.id.index() + 1).max().unwrap_or(0)
}

/// How many groups of points each server, by its id, has while those are live for which `is_live` is true.
pub(super) fn counts(pool: &Pool, is_live: impl Fn(usize) -> bool) -> Vec<u32> {
    let live = || pool.servers.iter().filter(|server| is_live(server.id.index()));
    let total = live().map(|server| server.weight).fold(0, u32::saturating_add);
    let count = live().count();
    let mut counts = vec![0; ids(pool)];
    live().for_each(|server| counts[server.id.index()] = ketama::groups(server.weight, total, count));
    counts
}

impl Thinned {
    /// The first point at or after `hash` that counts.
    pub(super) fn first(&self, hash: u32) -> Option<Slot> {
        self.from(hash).find(|(slot, group)| *group < self.counted[slot.server.index()]).map(|(slot, _)| slot)
    }

    /// All points with their groups, around the circle from `hash` on.
    pub(super) fn from(&self, hash: u32) -> impl Iterator<Item = (Slot, u32)> {
        let Circle { points, groups, starts, shift, .. } = &self.circle;
        let start = if points.is_empty() { 0 } else { index_at_or_after(points, starts, *shift, hash) };
        (start..points.len()).chain(0..start).map(|at| (points[at], groups[at]))
    }

    /// The points that count, in ascending order.
    pub(super) fn slots(&self) -> impl DoubleEndedIterator<Item = Slot> + Clone {
        let all = self.circle.points.iter().copied().zip(self.circle.groups.iter().copied());
        all.filter(|(slot, group)| *group < self.counted[slot.server.index()]).map(|(slot, _)| slot)
    }

    /// How many groups of a server count.
    pub(super) fn counted(&self, server: ServerId) -> u32 {
        self.counted[server.index()]
    }
}
