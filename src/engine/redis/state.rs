//! What a worker keeps for all its Redis pools.

use super::call::Recent;
use super::piece::Shares;
use super::texts::{Noted, Scripts};
use crate::engine::ways::To;
use crate::proto::resp::args::Span;

/// What is common to the Redis pools of a worker, and what is kept from one request to the next for its room.
#[derive(Debug)]
pub(in crate::engine) struct State {
    /// The scripts that have passed through, known to all workers, and those that this worker has put there.
    pub(super) scripts: Scripts,
    pub(super) known_scripts: Noted,
    /// The number of the newest client.
    pub(super) last_client: u64,
    /// The commands that were asked for last.
    pub(super) recent: Recent,
    /// Where the arguments of the request at hand lie.
    pub(in crate::engine) spans: Vec<Span>,
    /// Of the request at hand, if it has parts: where they are to go. If it is split: its shares, the share of each key, the
    /// next key of that share.
    pub(super) whom: Vec<To>,
    pub(super) shares: Shares,
    pub(super) order: Vec<u16>,
    pub(super) chain: Vec<u32>,
}

impl State {
    /// Of a worker without clients.
    pub(in crate::engine) fn new(scripts: Scripts, worker: usize) -> Self {
        Self {
            scripts,
            known_scripts: Noted::default(),
            last_client: worker as u64,
            recent: Recent::default(),
            spans: Vec::new(),
            whom: Vec::new(),
            shares: Shares::default(),
            order: Vec::new(),
            chain: Vec::new(),
        }
    }
}
