//! To whom a key would belong if servers that are out came back.
//!
//! What is written while servers are out has to be forgotten by whoever may own the key when some of them are back. With
//! servers of equal weight that are those at whose points one comes by on the way around the circle from the key's hash,
//! up to the first that counts whoever is back: one walk, however many are out.

use super::circle::{self, Thinned};
use super::{Circle, Ring, ketama};
use crate::config::model::{Distribution, HashKind, Pool, ServerId};

/// To whom keys belong in the rings with more servers than one ring has.
#[derive(Debug)]
pub struct Returns(Kind);

#[derive(Debug)]
enum Kind {
    /// Few rings are possible.
    Each(Vec<Ring>),
    /// The servers have equal weights.
    Walk {
        /// The circle with the most groups of each server that count in any of the rings.
        widest: Thinned,
        /// The fewest groups that count of a server that is live.
        fewest: u32,
        live: Box<[bool]>,
        hash: HashKind,
        tag: Option<[u8; 2]>,
    },
}

impl Returns {
    /// What may become of the ring of the servers for which `live` is true. `None` when that cannot be told at a bounded
    /// cost: weights differ, so that servers have more or fewer points as others leave, and more than two are out.
    #[must_use]
    pub fn new(circle: &mut Circle, pool: &Pool, live: &[bool]) -> Option<Self> {
        let out: Vec<usize> = pool.servers.iter().map(|server| server.id.index()).filter(|it| !live[*it]).collect();
        let with = |back: &[usize]| (0..live.len()).map(|it| live[it] || back.contains(&it)).collect::<Vec<bool>>();
        let weight = pool.servers.first().map_or(0, |server| server.weight);
        let is_even = pool.servers.iter().all(|server| server.weight == weight);
        if is_even && pool.servers.len() > 1 && pool.distribution == Distribution::Ketama {
            // Rounding makes it one group less for some numbers of servers.
            let total = |count: usize| weight.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
            let groups = |count| ketama::groups(weight, total(count), count);
            let possible = (pool.servers.len() - out.len() + 1..=pool.servers.len()).map(groups);
            let (fewest, most) = possible.fold((u32::MAX, 0), |(low, high), it| (low.min(it), high.max(it)));
            let widest = circle.thinned(pool, vec![most; circle::ids(pool)]);
            let (hash, tag) = (pool.hash, pool.hash_tag);
            return Some(Self(Kind::Walk { widest, fewest, live: live.into(), hash, tag }));
        }
        let mut ring = |back: &[usize]| circle.ring(pool, &with(back));
        let rings = match out[..] {
            [] => Vec::new(),
            [only] => vec![ring(&[only])],
            [one, other] => vec![ring(&[one]), ring(&[other]), ring(&[one, other])],
            _ => return None,
        };
        Some(Self(Kind::Each(rings)))
    }

    /// Puts into `owners` who owns a key in any of those rings, each once.
    pub fn owners(&self, key: &[u8], owners: &mut Vec<ServerId>) {
        owners.clear();
        match &self.0 {
            Kind::Each(rings) => owners.extend(rings.iter().filter_map(|ring| ring.route(key, 0))),
            Kind::Walk { widest, fewest, live, hash, tag } => {
                let hash = super::hash::hash(*hash, &key[super::tag::hashed_range(*tag, key)]);
                for (slot, group) in widest.from(hash) {
                    if group < widest.counted(slot.server) {
                        owners.push(slot.server);
                        if live[slot.server.index()] && group < *fewest {
                            break;
                        }
                    }
                }
            }
        }
        owners.sort_unstable();
        owners.dedup();
    }
}
