//! Clients that are cut off for the memory that they hold.

use super::TICK;
use crate::config::model::PoolId;
use crate::engine::deadline::Timer;
use crate::engine::ids::SessionId;
use crate::engine::{Engine, Notice, deliver, rate_limit};
use crate::time::Instant;

/// Clients that are cut off at most in one event when memory is above its margin, and places that are looked at for each
/// where nobody is a hoarder.
pub(super) const CUTS: usize = 32;
const LOOKS: usize = 512;

impl Engine {
    /// Memory is scarce: has it looked at again soon, and sees to it that it does not become much scarcer.
    #[cold]
    #[inline(never)]
    pub(in crate::engine) fn relieve_memory(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.memory.timed, true) {
            self.timers.set(now + TICK, Timer::Memory);
        }
        if self.memory.held() > self.memory.limits().all + self.memory.limits().margin {
            self.have_slack_given_back();
        }
        // More of them go at the next event, if need be.
        for _ in 0..CUTS {
            if self.memory.held() <= self.memory.limits().all + self.memory.limits().margin {
                break;
            }
            // Many that hold little each are as bad as a few that hold much.
            let Some((victim, charged)) = self.largest(|_| true).or_else(|| self.largest_of_some()) else { break };
            if charged >= deliver::SMALL {
                self.cut_off_client(victim);
            }
        }
    }

    /// Who holds most of some clients, others each time: to look at all of them for each that is cut off takes too long
    /// where they are many.
    fn largest_of_some(&mut self) -> Option<(SessionId, usize)> {
        let (from, places) = (self.memory.looked_at, self.clients.places());
        self.memory.looked_at = if from + LOOKS < places { from + LOOKS } else { 0 };
        let some = (from..places.min(from + LOOKS)).filter_map(|place| self.clients.at(place));
        let open = some.filter(|(_, session)| !session.is_closing());
        open.map(|(id, session)| (id, session.holding.charged())).max_by_key(|(_, charged)| *charged)
    }

    /// Memory is less than it was: those go who hold most, some at a time, until the others have room. Whether that is so, or nobody
    /// is left who holds much.
    #[cold]
    pub(in crate::engine) fn cut_off_to_fit(&mut self) -> bool {
        for _ in 0..CUTS {
            if self.memory.held() <= self.memory.limits().common {
                return true;
            }
            let Some((largest, _)) = self.largest(|session| !session.is_closing()) else { return true };
            self.cut_off_client(largest);
        }
        false
    }

    /// Ends a client's connection for what it holds.
    #[cold]
    pub(in crate::engine) fn cut_off_client(&mut self, id: SessionId) {
        let Some(session) = self.session(id).filter(|session| !session.is_closing()) else { return };
        let (pool, held) = (session.pool(), session.holding.charged());
        self.end_client(id);
        self.counters.pool(pool).clients_cut_off.add(1);
        self.counters.pool(pool).client_err.add(1);
        self.tell_cut_off(pool, held);
    }

    /// Ends a client's connection at once, with all that it holds, has asked and has not been told.
    #[cold]
    pub(in crate::engine) fn end_client(&mut self, id: SessionId) {
        self.give_up_waiting(id);
        let Some(session) = self.session(id) else { return };
        session.output = Default::default();
        session.holding.pardon();
        let subscriptions = session.redis_mut().and_then(|client| client.subscriptions.take());
        if let Some(client) = session.redis_mut() {
            client.forget();
        }
        if let Some(subscriptions) = subscriptions {
            self.let_go(subscriptions);
        }
        self.charge_session(id);
        self.touch_session(id);
    }

    /// Tells the operator that a client was cut off that held so much, unless the same was told a moment ago.
    fn tell_cut_off(&mut self, pool: PoolId, held: usize) {
        let all = self.counters.pool(pool).clients_cut_off.value();
        let told = &mut self.pools[pool.index()].cut_off;
        if told.0.is_some_and(|at| self.now - at < rate_limit::TELL_PERIOD) {
            return;
        }
        let clients = all - told.1;
        *told = (Some(self.now), all);
        let most = self.memory.limits().all;
        self.outputs.tell(Notice::CutOff { pool, held, most, clients });
    }
}
