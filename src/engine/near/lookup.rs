//! Gets that are answered from what is kept.

use std::sync::Arc;
use std::time::Duration;

use crate::config::model::PoolId;
use crate::engine::clients::session::Session;
use crate::engine::dispatched::Dispatched;
use crate::engine::ids::SessionId;
use crate::engine::request::{Answer, Asked, Slot};
use crate::engine::servers::ticket::Marks;
use crate::engine::{Engine, server_id};
use crate::near::{Name, Value};
use crate::outcome::Outcome;
use crate::proto::memcache::{Verb, reply};
use crate::time::Instant;

/// Requests of a client that are looked at for one that may change something. With more in flight it is given nothing from
/// here.
const MOST: usize = 64;

impl Engine {
    /// As [`Engine::lone_get`], where values are kept.
    #[cold]
    #[inline(never)]
    pub(in crate::engine) fn near_get(
        &mut self,
        id: SessionId,
        key: &[u8],
        line: &[u8],
        started: Instant,
        now: Instant,
    ) -> Dispatched {
        if self.answers_near(id, key, now) {
            return Dispatched::Done;
        }
        let asked = Asked::new(Verb::Get, started);
        let sent = self.send_one(id, asked, Marks::NONE, key, now, |out, _| out.extend_from_slice(line));
        self.fetch_wanted(now);
        sent
    }

    /// Answers a get for one key of memcached's, if its value can be given out.
    pub(in crate::engine) fn answers_near(&mut self, id: SessionId, key: &[u8], now: Instant) -> bool {
        let Some(pool) = self.pool_of(id) else { return false };
        if !self.may_be_given(pool, id) {
            return false;
        }
        let Some(value) = self.near_value(pool, Name { database: 0, key }, now) else { return false };
        if !self.has_room_beside(id, value.block.len()) {
            return false; // it is asked for, and gets its share of memory as all do
        }
        self.end_request(pool, Outcome::Hit);
        self.count_near(pool, key, &value, now);
        let Some(session) = self.session(id) else { return true };
        if session.requests.is_empty() {
            session.output.append(&value.block);
            session.output.append(reply::END);
            self.work.cost += value.block.len();
            self.touch_session(id);
        } else {
            self.answer(id, &[&value.block, reply::END].concat());
        }
        self.charge_session(id);
        if self.near.wants_some() {
            self.fetch_wanted(now);
        }
        true
    }

    /// Whether a client may be given values from here: its pool keeps some, and nothing that it has asked, and that has not
    /// ended, may change any.
    pub(in crate::engine) fn may_be_given(&self, pool: PoolId, id: SessionId) -> bool {
        if !self.near.keeps(pool) {
            return false;
        }
        let reads = |slot: &Slot| match &slot.answer {
            Answer::Ready(_) => true,
            Answer::Of { request, .. } | Answer::Merged { request, .. } => request.verb.is_repeatable(),
            Answer::Crawled => false,
        };
        let only_reads = |session: &Session| {
            let requests = &session.requests;
            let are_few = requests.next_number().wrapping_sub(requests.first_number()) as usize <= MOST;
            !requests.may_have_unheard() && are_few && requests.iter().all(|(_, slot)| reads(slot))
        };
        self.session_ref(id).is_some_and(|session| !session.watches() && only_reads(session))
    }

    /// The value of a key, if it can be given out. If not, the key may be wanted.
    pub(in crate::engine) fn near_value(&mut self, pool: PoolId, name: Name<'_>, now: Instant) -> Option<Arc<Value>> {
        let option = self.topology.pools[pool.index()].near_cache.as_ref().filter(|option| option.is_for(name.key))?;
        let (ttl, stale) = (option.ttl, option.stale_on_error);
        let near = self.near.of(pool)?;
        let state = &self.pools[pool.index()];
        let server = state.ring.route(name.key, 0);
        let is_there = server.is_some_and(|server| state.live[server.index()]);
        match server.and_then(|server| Some((server, near.fresh(name, server.index(), now)?))) {
            Some((_, value)) => {
                if is_due(&value, ttl, now) {
                    self.near.want(pool, name, ttl, now);
                }
                Some(value)
            }
            None => {
                let last = stale.filter(|_| !is_there);
                let last = last.and_then(|most| near.last_known(name, most, now));
                if last.is_none() {
                    self.near.miss(pool, name, ttl, now);
                }
                last
            }
        }
    }

    /// A value that is kept has been given to a client. Its server does not see how often the key is asked for.
    pub(in crate::engine) fn count_near(&mut self, pool: PoolId, key: &[u8], value: &Value, now: Instant) {
        let counters = self.counters.pool(pool);
        if now < value.until { &counters.near_hits } else { &counters.near_stale }.add(1);
        self.sample_lost(pool, server_id(value.server), key, now);
    }
}

/// Whether a value is to be fetched anew, so that there is another when its time is over.
fn is_due(value: &Value, ttl: Duration, now: Instant) -> bool {
    let whole = value.until - value.asked;
    whole >= ttl && (now - value.asked) * 4 >= whole * 3
}
