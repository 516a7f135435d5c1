//! Work that would take too long in one event, done in portions: between two of them everybody else is served.
//!
//! What a client asks for thousands of names, or what a change of the ring does to all subscribers, is put in one queue.
//! A timer that is due at once works some of it off; the loop comes by all connections before the timer is looked at
//! again.

use super::chore::{Chore, PORTION};
use std::time::Duration;

use super::Engine;
use super::deadline::Timer;
use super::redis::subscriptions::Subscriptions;

use crate::time::Instant;

impl Engine {
    /// Has something done soon, after what is waiting.
    #[cold]
    pub(super) fn put_off(&mut self, chore: Chore, now: Instant) {
        self.chores.queue.push_back(chore);
        self.time_chores(now);
    }

    fn time_chores(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.chores.timed, true) {
            // A moment later, so that it is not due in the same look at the time.
            self.timers.set(now + Duration::from_nanos(1), Timer::Chores);
        }
    }

    /// Does a portion of what is waiting.
    #[cold]
    pub(super) fn work_off(&mut self, now: Instant) {
        self.chores.timed = false;
        let mut budget = PORTION;
        while budget > 0
            && let Some(chore) = self.chores.queue.pop_front()
        {
            let done = match chore {
                Chore::Subscribe(id) => self.subscribe_on(id, budget, now),
                Chore::Resubscribe(id) => self.resubscribe_on(id, budget, now),
                Chore::Inquire(search) => self.search_on(search, budget, now),
                Chore::Dismiss(pool, from) => self.dismiss_on(pool, from, budget, now),
                Chore::Retime(pool, from) => self.retime_on(pool, from, budget, now),
                Chore::Weigh(from) => self.weigh_on(from, budget, now),
                Chore::GoOn(id) => self.next_turn(id, now),
                Chore::Prepare(id) => self.prepare_on(id, budget, now),
                Chore::Relieve(id) => {
                    if self.servers.has(id) {
                        self.relieve(id, now);
                    }
                    budget
                }
                Chore::Move(pool) => {
                    self.follow_all(pool, now);
                    self.move_subscriptions(pool, now)
                }
                Chore::Follow(pool, from) => self.follow_on(pool, from, budget, now),
                Chore::Discard(mut subscriptions) => {
                    let dropped = subscriptions.shrink(budget);
                    if !subscriptions.is_empty() {
                        self.chores.queue.push_back(Chore::Discard(subscriptions));
                    }
                    dropped
                }
            };
            budget = budget.saturating_sub(done.max(1));
        }
        if !self.chores.queue.is_empty() {
            self.time_chores(now);
        }
    }

    /// Lets go of what a client was subscribed to, at once if it is little.
    #[cold]
    pub(super) fn let_go(&mut self, subscriptions: Box<Subscriptions>) {
        if subscriptions.len() > PORTION {
            self.put_off(Chore::Discard(subscriptions), Instant::ZERO);
        }
    }
}
