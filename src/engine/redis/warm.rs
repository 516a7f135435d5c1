//! Requests of Redis for keys that have moved ([`warmup`](crate::engine::warmup)).

use super::call::Call;
use crate::engine::Engine;
use crate::engine::ids::SessionId;
use crate::engine::warmup::{Access, Key};
use crate::proto::resp::command::Flags;
use crate::proto::resp::plan::{self, CommandClass, Everywhere, Transaction};
use crate::proto::resp::request;
use crate::time::Instant;

impl Engine {
    /// Whether a request may go its way: see [`Engine::is_warm`].
    #[cold]
    #[inline(never)]
    pub(super) fn is_warm_call(&mut self, id: SessionId, call: Call<'_>, now: Instant) -> bool {
        if self.pools[call.pool.index()].warm.is_none() {
            return true;
        }
        let database = self.session_ref(id).map(|session| session.profile().database);
        match call.plan.class {
            CommandClass::Keyed
            | CommandClass::Split(_)
            | CommandClass::Script
            | CommandClass::Blocking(_)
            | CommandClass::Transaction(Transaction::Watch) => {
                if self.still_waits(id, call.started, now) {
                    return self.holds_off(id);
                }
                let keys = self.keys_of(call);
                let keys = keys.iter().map(|key| Key { routed: key, wire: key, base64: false, database });
                self.is_warm(id, keys, access(call), (call.started, now))
            }
            CommandClass::Everywhere(Everywhere::Flush) => self.may_flush(id, call.started, now),
            CommandClass::Everywhere(_)
            | CommandClass::Anywhere
            | CommandClass::Local(_)
            | CommandClass::Transaction(_) // an `EXEC` is looked at when it is ready
            | CommandClass::Subscribe(_)
            | CommandClass::Publish
            | CommandClass::Monitor
            | CommandClass::OfOne
            | CommandClass::Refused => true,
        }
    }

    /// As [`Engine::is_warm_call`], of what a client has queued.
    #[cold]
    #[inline(never)]
    pub(super) fn is_warm_exec(&mut self, id: SessionId, call: Call<'_>, now: Instant) -> bool {
        if self.pools[call.pool.index()].warm.is_none() {
            return true;
        }
        if self.still_waits(id, call.started, now) {
            return self.holds_off(id);
        }
        let Some(client) = self.redis(id) else { return true };
        let Some(queue) = client.queue.take_if(|queue| !queue.spoiled) else { return true };
        let mut database = Some(client.database);
        let (mut keys, mut changes, mut spans) = (Vec::new(), false, Vec::new());
        for (raw, command) in queue.iter() {
            let args = request::args(raw, &mut spans);
            let queued = Call { raw, args, command, plan: plan::of(command), ..call };
            if command.name == "select" {
                database = self.database_of(queued).or(database);
            }
            changes |= access(queued) != Access::Reads;
            keys.extend(self.keys_of(queued).into_iter().map(|key| (key.to_vec(), database)));
        }
        let access = if changes { Access::Changes } else { Access::Reads };
        let keys =
            keys.iter().map(|(key, database)| Key { routed: key, wire: key, base64: false, database: *database });
        let is_warm = self.is_warm(id, keys, access, (call.started, now));
        if let Some(client) = self.redis(id) {
            client.queue = Some(queue);
        }
        is_warm
    }
}

/// What a request does with its keys.
fn access(call: Call<'_>) -> Access {
    if call.plan.class == CommandClass::Transaction(Transaction::Watch) || call.command.flags.has(Flags::READONLY) {
        Access::Reads
    } else if call.command.name == "set" && call.args.len() == 3 {
        Access::Overwrites
    } else {
        Access::Changes
    }
}
