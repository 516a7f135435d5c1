//! Clients that have to say who they are (`sasl`). Whoever speaks to them looks here whether it is right.

use std::time::Duration;

use super::ids::SessionId;
use super::{Engine, Notice};
use crate::config::model::Users;
use crate::proto::bytes::is_same_secret;
use crate::time::Instant;

/// Pause between two notices of the same pool.
const PERIOD: Duration = Duration::from_secs(60);

impl Engine {
    /// Whether a client's pool asks who its clients are.
    #[must_use]
    pub fn asks_who(&self, id: SessionId) -> bool {
        self.users(id).is_some()
    }

    /// Whether this is the password of that user. Takes as long whoever it is of them, and wherever it is wrong.
    #[must_use]
    pub fn admits(&self, id: SessionId, user: &[u8], password: &[u8]) -> bool {
        let is_one = |(name, secret): (&str, &str)| {
            is_same_secret(user, name.as_bytes()) & is_same_secret(password, secret.as_bytes())
        };
        self.users(id).is_some_and(|users| users.iter().map(is_one).fold(false, |any, one| any | one))
    }

    fn users(&self, id: SessionId) -> Option<&Users> {
        self.topology.pools[self.client_pool(id)?.index()].sasl.as_ref()
    }

    /// So much was refused to a client, since it has not said who it is, or not said it right.
    #[cold]
    pub fn client_denied(&mut self, id: SessionId, times: u64, now: Instant) {
        let Some(pool) = self.pool_of(id) else { return };
        self.counters.pool(pool).auth_failures.add(times);
        if let Some(suppressed) = self.pools[pool.index()].denied.admit(now, PERIOD) {
            self.telemetry.stranger = Some(id);
            self.outputs.tell(Notice::NotAdmitted { pool, session: id, suppressed });
        }
    }
}
