//! The monkey: kills, hangs and revives nodes, one thing every few seconds.

use std::time::Duration;

use super::node::{Condition, Node};

/// Random numbers that repeat with the seed (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// The monkey.
pub(super) struct Monkey {
    random: Random,
    /// Things done so far.
    pub(super) deeds: u64,
}

impl Monkey {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Random(seed), deeds: 0 }
    }

    /// How long it waits before it does something.
    pub(super) fn rest(&mut self) -> Duration {
        Duration::from_millis(2500 + self.random.below(2500))
    }

    /// Does something; says what.
    pub(super) fn act(&mut self, nodes: &[Node]) -> String {
        self.deeds += 1;
        let sick: Vec<_> = nodes.iter().filter(|node| node.condition() != Condition::Well).collect();
        let well: Vec<_> = nodes.iter().filter(|node| node.condition() == Condition::Well).collect();
        // Mostly one node is sick at a time; now and then two, rarely all.
        let heals = match sick.len() {
            0 => false,
            1 => self.random.below(4) > 0,
            2 => self.random.below(8) > 0,
            _ => true,
        };
        let choices = if heals || well.is_empty() { &sick } else { &well };
        let Some(node) = choices.get(usize::try_from(self.random.below(choices.len().max(1) as u64)).unwrap_or(0))
        else {
            return "found nothing to do".to_owned();
        };
        if node.condition() != Condition::Well {
            return match node.revive() {
                Ok(()) => format!("brought {} back", node.name),
                Err(error) => format!("could not bring {} back: {error}", node.name),
            };
        }
        if self.random.below(2) == 0 {
            node.kill();
            format!("killed {}", node.name)
        } else {
            node.hang();
            format!("hung {}", node.name)
        }
    }
}
