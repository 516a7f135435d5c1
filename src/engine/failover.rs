//! Writes while servers are out of the ring: what they are told elsewhere, and who misses them.
//!
//! With `on_eject: rehash` a write for an ejected server goes to another one. Two things keep its traces from doing harm:
//! - `failover_ttl` bounds the lifetime of what is written away from home;
//! - `rejoin: safe` notes the key with every server that would own it if it alone were back. Before that server takes
//!   part again it has to forget the key ([`owed`](super::owed)).

use super::Engine;
use super::degrade::Asked;
use super::link::{LinkState, Ticket};
use crate::config::model::{OnEject, Pool, PoolId, Rejoin, ServerId};
use crate::health::debts::OwedKey;
use crate::proto::memcache::lifetime::Cap;
use crate::ring::Ring;
use crate::time::Instant;

fn has_equal_weights(pool: &Pool) -> bool {
    pool.servers.windows(2).all(|pair| pair[0].weight == pair[1].weight)
}

impl Engine {
    /// The bound on lifetimes away from home, while any server is out.
    pub(super) fn failover_cap(&self, pool: PoolId, now: Instant) -> Option<Cap> {
        let seconds = self.config.pools[pool.index()].failover_ttl?;
        if self.pools[pool.index()].all_live {
            return None;
        }
        let since_start = now - Instant::ZERO;
        Some(Cap { seconds, now: (self.started_at + since_start).as_secs() })
    }

    /// Whether writes that a server misses are noted.
    pub(super) fn is_safe(&self, pool: PoolId) -> bool {
        self.config.pools[pool.index()].rejoin == Rejoin::Safe
    }

    /// Builds the rings that tell who misses a write.
    pub(super) fn prepare_failover(&mut self, pool: PoolId, now: Instant) {
        let config = &self.config.pools[pool.index()];
        let state = &mut self.pools[pool.index()];
        state.all_live = state.live.iter().all(|live| *live);
        state.without.clear();
        if config.rejoin != Rejoin::Safe || config.on_eject == OnEject::Hold {
            return;
        }
        let out: Vec<usize> = (0..state.live.len()).filter(|server| !state.live[*server]).collect();
        for server in &out {
            let mut live = state.live.clone();
            live[*server] = true;
            state.without.push((super::server_id(*server), Ring::new(config, &live)));
        }
        // Where weights differ, servers have more or fewer points as others leave, and two of three that return may own
        // keys that neither would own alone.
        if out.len() > 2 && !has_equal_weights(config) {
            out.iter().for_each(|server| self.board.owe_flush(pool, super::server_id(*server), now));
        }
    }

    /// Notes a write that goes to `server` with the servers that miss it. `false` when one of them is back in the ring.
    ///
    /// Those are the key's home, and each server that would own the key if it alone were back. The home may be live and
    /// own less than it will, where weights differ; it forgets the key at once.
    pub(super) fn note_absent(
        &mut self,
        pool: PoolId,
        server: ServerId,
        asked: Asked<'_>,
        marks: u8,
        key: &[u8],
        now: Instant,
    ) -> bool {
        let state = &self.pools[pool.index()];
        let home = state.home.route(key, 0);
        let owed = || OwedKey { key: asked.key.into(), base64: marks & Ticket::BASE64 != 0 };
        for (absent, ring) in &state.without {
            if *absent != server
                && (home == Some(*absent) || ring.route(key, 0) == Some(*absent))
                && !self.board.owe_absent(pool, *absent, owed(), now)
            {
                return false;
            }
        }
        if let Some(home) = home
            && home != server
            && !state.without.is_empty()
            && state.live[home.index()]
        {
            let link = state.links[home.index()][0];
            self.board.owe_key(pool, home, owed(), now);
            if self.links[link.index()].state == LinkState::Up {
                self.pay_open(link, now);
            } else {
                self.start_connect(link, now);
            }
        }
        true
    }

    /// Notes that a write did not reach the server that it was for.
    #[cold]
    pub(super) fn owe(&mut self, pool: PoolId, server: ServerId, asked: Asked<'_>, marks: u8, now: Instant) {
        if asked.verb.is_write() && self.is_safe(pool) {
            let owed = OwedKey { key: asked.key.into(), base64: marks & Ticket::BASE64 != 0 };
            self.board.owe_key(pool, server, owed, now);
            self.remind(pool, server, now);
        }
    }

    /// Notes that the response to a write never came: nobody knows whether it was carried out. `request` is what was
    /// sent.
    pub(super) fn owe_lost(&self, pool: PoolId, server: ServerId, ticket: Ticket, request: &[u8], now: Instant) {
        if !ticket.verb.is_write() || !self.is_safe(pool) {
            return;
        }
        let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
        if let Some(key) = line.split(|byte| *byte == b' ').nth(1) {
            self.board.owe_key(pool, server, OwedKey { key: key.into(), base64: ticket.is(Ticket::BASE64) }, now);
        }
    }
}
