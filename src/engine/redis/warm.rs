//! Requests of Redis for keys that have moved ([`warmup`](crate::engine::warmup)).

use super::call::Call;
use crate::engine::Engine;
use crate::engine::ids::SessionId;
use crate::engine::warmup::{Access, Key};
use crate::proto::resp::command::Flags;
use crate::proto::resp::plan::{CommandClass, Everywhere, Transaction};
use crate::time::Instant;

impl Engine {
    /// Whether a request may go its way: see [`Engine::is_warm`].
    #[cold]
    #[inline(never)]
    pub(super) fn is_warm_call(&mut self, id: SessionId, call: Call<'_>, now: Instant) -> bool {
        if self.pools[call.pool.index()].warm.is_none() {
            return true;
        }
        match call.plan.class {
            CommandClass::Keyed
            | CommandClass::Split(_)
            | CommandClass::Script
            | CommandClass::Blocking(_)
            | CommandClass::Transaction(Transaction::Watch) => {}
            CommandClass::Everywhere(Everywhere::Flush) => return self.may_flush(id, call.started, now),
            CommandClass::Everywhere(_)
            | CommandClass::Anywhere
            | CommandClass::Local(_)
            | CommandClass::Transaction(_)
            | CommandClass::Subscribe(_)
            | CommandClass::Publish
            | CommandClass::Monitor
            | CommandClass::OfOne
            | CommandClass::Refused => return true,
        }
        let is_plain_set = call.command.name == "set" && call.args.len() == 3;
        let watches = call.plan.class == CommandClass::Transaction(Transaction::Watch);
        let access = if watches || call.command.flags.has(Flags::READONLY) {
            Access::Reads
        } else if is_plain_set {
            Access::Overwrites
        } else {
            Access::Changes
        };
        let database = self.session_ref(id).map(|session| session.profile().database);
        let keys = self.keys_of(call);
        self.is_warm(
            id,
            keys.iter().map(|key| Key { routed: key, wire: key, base64: false, database }),
            access,
            (call.started, now),
        )
    }
}
