//! Clients that speak what is not spoken here: named now and then, since whoever looks for why a client fails looks here.

use super::language::Language;
use std::time::Duration;

use super::ids::SessionId;
use super::{Engine, Notice};
use crate::time::Instant;

/// Pause between two notices of the same language.
const PERIOD: Duration = Duration::from_secs(60);

impl Engine {
    /// Whether there was something to tell of this client: what it speaks.
    #[must_use]
    pub fn is_stranger(&self, id: SessionId) -> bool {
        self.telemetry.stranger == Some(id)
    }

    /// A request is none of this protocol: if its first bytes tell which it is of, the operator is told, now and then.
    #[cold]
    #[inline(never)]
    pub(super) fn look_for_stranger(&mut self, id: SessionId, request: &[u8], now: Instant) {
        if let Some(language) = Language::of(request) {
            self.tell_of_stranger(id, language, now);
        }
    }

    /// A client speaks something else.
    #[cold]
    #[inline(never)]
    pub(super) fn tell_of_stranger(&mut self, session: SessionId, language: Language, now: Instant) {
        let Some(pool) = self.pool_of(session) else { return };
        if let Some(suppressed) = self.pools[pool.index()].strangers[language as usize].admit(now, PERIOD) {
            self.telemetry.stranger = Some(session);
            self.outputs.tell(Notice::Stranger { pool, session, language, suppressed });
        }
    }
}
