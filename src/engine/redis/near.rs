//! Requests of Redis that are answered from what is kept here ([`near`](crate::engine::near)), or may change it.

use super::call::Call;
use crate::engine::Engine;
use crate::engine::ids::SessionId;
use crate::near::Name;
use crate::outcome::Outcome;
use crate::proto::resp::encode;
use crate::proto::resp::plan::{self, CommandClass, Everywhere, Split, Transaction};
use crate::proto::resp::request;
use crate::time::Instant;

/// Most keys of a request that is answered from here, and most bytes of their values.
const MOST: usize = 1024;
const MOST_BYTES: usize = 256 << 10;

impl Engine {
    /// Answers a `GET`, or an `MGET`, if all of its values can be given out.
    pub(super) fn says_near(&mut self, id: SessionId, call: Call<'_>, now: Instant) -> bool {
        let args = call.args;
        let is_get = call.command.name == "get" && args.len() == 2;
        let is_mget = call.plan.class == CommandClass::Split(Split::Values) && (2..=MOST).contains(&args.len());
        if !(is_get || is_mget) || !self.may_be_given(call.pool, id) {
            return false;
        }
        let Some(database) = self.client(id).map(|client| client.database) else { return false };
        let mut body = Vec::new();
        if is_mget {
            encode::array(&mut body, args.len() - 1);
        }
        // Keys that are missing are noted, all of them, so that the next one may find them.
        let (mut is_whole, mut given) = (true, Vec::new());
        for key in args.iter().skip(1) {
            match self.near_value(call.pool, Name { database, key }, now) {
                Some(value) => {
                    if is_whole && (is_get || body.len() + value.block.len() <= MOST_BYTES) {
                        body.extend_from_slice(&value.block);
                        given.push(value);
                    } else {
                        is_whole = false;
                    }
                }
                None => is_whole = false,
            }
        }
        if !is_whole || !self.has_room_beside(id, body.len()) {
            return false;
        }
        args.iter().skip(1).zip(&given).for_each(|(key, value)| self.count_near(call.pool, key, value, now));
        self.end_request(call.pool, Outcome::Hit);
        self.say(id, &body);
        self.charge_session(id);
        if self.near.wants_some() {
            self.fetch_wanted(now);
        }
        true
    }

    /// A request is being sent on that may change what is kept.
    pub(super) fn note_changes_of(&self, id: SessionId, call: Call<'_>) {
        let CommandClass::Transaction(transaction) = call.plan.class else { return self.note_changes_of_one(call) };
        if transaction != Transaction::Exec {
            return; // a WATCH changes nothing
        }
        let Some(queue) = self.client(id).and_then(|client| client.queue.as_ref()) else { return };
        if queue.bytes > self.memory.large {
            return self.near_changes_all(call.pool);
        }
        let mut spans = Vec::new();
        for (raw, command) in queue.iter() {
            let args = request::args(raw, &mut spans);
            self.note_changes_of_one(Call { raw, args, command, plan: plan::of(command), ..call });
        }
    }

    fn note_changes_of_one(&self, call: Call<'_>) {
        if !self.near.keeps(call.pool) {
            return;
        }
        if matches!(call.plan.class, CommandClass::Everywhere(Everywhere::Flush))
            || call.command.name == "swapdb"
            || call.raw.len() > self.memory.large
        {
            self.near_changes_all(call.pool);
        } else {
            self.near_changes(call.pool, self.keys_of(call).into_iter());
        }
    }
}
