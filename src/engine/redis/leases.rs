//! Requests of Redis that are looked at before they are carried out: they wait for keys that are brought along, and end leases
//! ([`stampede`](crate::engine::stampede)).

use super::call::{Call, Performed};
use crate::engine::Engine;
use crate::engine::ids::SessionId;
use crate::proto::resp::command::{Command, Flags};
use crate::proto::resp::plan::{self, CommandClass, Transaction};
use crate::proto::resp::request;
use crate::time::Instant;

/// Most keys of a request, or of a transaction, whose leases are ended. Those of others run out.
const MOST: usize = 1024;

/// Commands that store a string where there was none, or remove what there was. What holds something else than a string is
/// not asked for by `GET`, and what changes only what is there ends no lease.
const ENDS: &[&str] = &[
    "append",
    "bitop",
    "copy",
    "decr",
    "decrby",
    "del",
    "getdel",
    "getset",
    "incr",
    "incrby",
    "incrbyfloat",
    "mset",
    "msetex",
    "msetnx",
    "psetex",
    "rename",
    "renamenx",
    "restore",
    "set",
    "setbit",
    "setex",
    "setnx",
    "setrange",
    "unlink",
];

impl Engine {
    /// As [`Engine::redis_perform`], where requests are looked at first.
    #[cold]
    #[inline(never)]
    pub(super) fn look_and_perform_call(&mut self, id: SessionId, call: Call<'_>, now: Instant) -> Performed {
        // One for several servers may be long, and is looked at when it is ready.
        let is_split = matches!(call.plan.class, CommandClass::Split(_));
        if self.warmup.is_on() && !is_split && !self.is_warm_call(id, call, now) {
            return Performed::Backpressured;
        }
        let may_be_waited_for =
            self.topology.pools[call.pool.index()].stampede.is_some() || self.stampede.holds_some(id);
        let changes = may_be_waited_for && !call.command.flags.has(Flags::READONLY);
        let keys = if changes { self.keys_that_change(id, call) } else { Vec::new() };
        if self.near.is_on() && !call.command.flags.has(Flags::READONLY) {
            self.note_changes_of(id, call);
        } else if self.near.is_on() && self.says_near(id, call, now) {
            return Performed::Done;
        }
        if changes && self.stampede.copies() {
            self.copy_ahead_of_call(id, call, &keys, now);
        }
        self.looks_first = false;
        let performed = self.redis_perform(id, call, now);
        self.look_first();
        self.has_gone_out(id);
        if self.near.wants_some() {
            self.fetch_wanted(now);
        }
        if changes && performed == Performed::Done {
            self.may_have_changed(id, now);
            keys.iter().for_each(|key| self.written(id, key, now));
        }
        performed
    }

    /// The keys that a request stores or removes.
    fn keys_that_change(&mut self, id: SessionId, call: Call<'_>) -> Vec<Vec<u8>> {
        if call.raw.len() > self.memory.large {
            return Vec::new();
        }
        if call.plan.class != CommandClass::Transaction(Transaction::Exec) {
            return if ends_leases(call.command, call.plan.class) { self.first_keys_of(call) } else { Vec::new() };
        }
        let Some(queue) = self.redis(id).and_then(|client| client.queue.take()) else { return Vec::new() };
        let (mut keys, mut spans) = (Vec::new(), Vec::new());
        for (raw, command) in queue.iter().take(if queue.bytes > self.memory.large { 0 } else { MOST }) {
            let plan = plan::of(command);
            if keys.len() < MOST && ends_leases(command, plan.class) {
                let args = request::args(raw, &mut spans);
                keys.extend(self.first_keys_of(Call { raw, args, command, plan, ..call }));
            }
        }
        keys.truncate(MOST);
        if let Some(client) = self.redis(id) {
            client.queue = Some(queue);
        }
        keys
    }

    fn first_keys_of(&self, call: Call<'_>) -> Vec<Vec<u8>> {
        self.keys_of(call).into_iter().take(MOST).map(<[u8]>::to_vec).collect()
    }
}

/// Whether a command stores or removes strings. A script may.
fn ends_leases(command: &Command, class: CommandClass) -> bool {
    let is_script = class == CommandClass::Script && !command.flags.has(Flags::READONLY);
    is_script || ENDS.contains(&command.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::resp::command;

    #[test]
    fn commands_that_end_leases_are_ordered_and_write() {
        assert!(ENDS.is_sorted());
        for name in ENDS {
            // One of them is newer than the table.
            assert!(command::find(name.as_bytes()).is_none_or(|found| found.flags.has(Flags::WRITE)), "{name}");
        }
    }
}
