//! Ketama: each server stands at many points of a circle of 2^32; a key belongs to the first point at or after its hash.

use super::Slot;
use crate::config::model::ServerId;
pub(super) use crate::config::model::ketama_groups as groups;

/// Longest text that is hashed for a point, in bytes (twemproxy 0.5.0 cuts it there).
const TEXT_LIMIT: usize = 272;

/// The points of the live servers, given as (id, name, weight), in ascending order.
pub(super) fn points<'a>(servers: impl Iterator<Item = (ServerId, &'a str, u32)> + Clone) -> Vec<Slot> {
    let total_weight = servers.clone().map(|(_, _, weight)| weight).fold(0, u32::saturating_add);
    let live = servers.clone().count();
    let mut points = Vec::new();
    for (server, name, weight) in servers {
        for group in 0..groups(weight, total_weight, live) {
            points.extend(group_points(name, group).map(|point| Slot { point, server }));
        }
    }
    // Stable: points of equal value stay in the order of the servers.
    points.sort_by_key(|slot| slot.point);
    points
}

/// The points of one of a server's groups.
pub(super) fn group_points(name: &str, group: u32) -> impl Iterator<Item = u32> {
    let mut text = format!("{name}-{group}").into_bytes();
    text.truncate(TEXT_LIMIT);
    let digest = md5::compute(&text).0;
    (0..4).map(move |place| u32::from_le_bytes([0, 1, 2, 3].map(|byte| digest[place * 4 + byte])))
}
