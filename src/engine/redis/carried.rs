//! What a Redis client has set up, as it goes over to another process with the client.

use serde::{Deserialize, Serialize};

use super::{Client, Replies};
use crate::engine::Engine;
use crate::proto::resp::Version;

/// What a Redis client has set up. What another version of this program does not know of it, it leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedRedis {
    /// Its number (`CLIENT ID`).
    number: u64,
    /// It speaks RESP3.
    resp3: bool,
    trusted: bool,
    has_user: bool,
    /// The database that it has selected.
    pub database: u32,
    name: Vec<u8>,
    library: [Vec<u8>; 2],
    no_evict: bool,
    /// It wants no answers (`CLIENT REPLY OFF`).
    #[serde(default)]
    is_silent: bool,
}

impl CarriedRedis {
    pub(in crate::engine) fn of(client: &Client) -> Self {
        Self {
            number: client.number,
            resp3: client.version == Version::Resp3,
            trusted: client.trusted,
            has_user: client.has_user,
            database: client.database,
            name: client.name.clone(),
            library: client.library.clone(),
            no_evict: client.no_evict,
            is_silent: client.replies == Replies::Off,
        }
    }

    pub(in crate::engine) fn give_to(self, client: &mut Client) {
        client.number = self.number;
        client.version = if self.resp3 { Version::Resp3 } else { Version::Resp2 };
        (client.trusted, client.has_user, client.no_evict) = (self.trusted, self.has_user, self.no_evict);
        client.database = self.database;
        (client.name, client.library) = (self.name, self.library);
        client.replies = if self.is_silent { Replies::Off } else { Replies::On };
    }
}

impl Client {
    /// Whether it has begun something that only this process can bring to its end: a transaction, subscriptions, something
    /// that it waits for on a connection of its own.
    pub(in crate::engine) fn is_bound(&self) -> bool {
        let is_skipping = matches!(self.replies, Replies::SkipThis | Replies::SkipNext);
        self.queue.is_some()
            || self.watch.is_some()
            || self.subscriptions.is_some()
            || self.monitors
            || self.asking.is_some()
            || self.unread.is_some()
            || self.long.is_some()
            || !self.dedicated.is_empty()
            || !self.swallow.is_none()
            || is_skipping
    }
}

impl Engine {
    /// The numbers of clients that come from here on are larger than this one: smaller ones may be those of clients that come
    /// over from another process.
    pub fn number_clients_after(&mut self, number: u64) {
        let workers = self.topology.counters.len() as u64;
        self.redis.last_client += number.next_multiple_of(workers.max(1));
    }
}
