//! Leases are ended by what is stored and removed, and taken beside others.

use super::awaited::{hash, name, profile_of};
use super::held::Key;
use crate::config::model::PoolId;
use crate::engine::Engine;
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::redis::Profile;
use crate::engine::servers::ticket::{Intent, Marks};
use crate::proto::lease::{memcache, name as lease_name, resp};
use crate::proto::verb::Verb;
use crate::time::Instant;
use std::time::Duration;

impl Engine {
    /// Something has been sent for a client that stores or removes a key: nobody computes it any more, and who waits for it
    /// looks at once.
    #[cold]
    #[inline(never)]
    pub(in crate::engine) fn written(&mut self, id: SessionId, key: &[u8], now: Instant) {
        let Some(session) = self.session_ref(id) else { return };
        let (pool, profile) = (session.pool(), session.profile());
        let profile = profile_of(self.pools[pool.index()].redis, profile);
        if self.topology.pools[pool.index()].stampede.as_ref().is_none_or(|option| !option.is_for(key)) {
            return;
        }
        if let Some(wait) = self.stampede.waits.get_mut(&id) {
            wait.forget(hash(pool, key));
        }
        let Some(server) = self.pools[pool.index()].ring.route(key, 0) else { return };
        let Ok(link) = self.link_to(pool, id, server, now) else { return };
        self.end_lease_on(link, profile.is_some(), key, now);
        if let Some(number) = self.stampede.numbers.get(&name(pool, profile, key)).copied() {
            self.look_behind(number, now);
        }
    }

    /// Ends a lease that nobody has use for.
    pub(super) fn end_lease(&mut self, pool: PoolId, profile: Option<Profile>, key: &Key, now: Instant) {
        let server = self.pools[pool.index()].ring.route(&key.routed, 0);
        if let Some(link) = server.and_then(|server| self.link_for(pool, profile, server, now)) {
            self.end_lease_on(link, profile.is_some(), &key.routed, now);
        }
    }

    fn end_lease_on(&mut self, link: LinkId, is_redis: bool, key: &[u8], now: Instant) {
        let name = lease_name(key);
        if is_redis {
            let end = (Intent::Unheard, Verb::Command, Marks::NONE);
            self.go(link, end, now, |out| resp::end(out, &[name]));
        } else {
            let end = (Intent::Unheard, Verb::Delete, Marks::NONE);
            self.go(link, end, now, |out| memcache::end(out, &name));
        }
        self.charge_link(link);
    }

    /// A client computes a key beside one that it has the lease for: it takes this lease as well, if nobody has it.
    pub(super) fn take_lease(&mut self, id: SessionId, pool: PoolId, key: &Key, lease: Duration, now: Instant) {
        let Some(session) = self.session_ref(id) else { return };
        let profile = profile_of(self.pools[pool.index()].redis, session.profile());
        if let Some(wait) = self.stampede.waits.get_mut(&id) {
            wait.remember(hash(pool, &key.routed), now + lease, now);
        }
        let server = self.pools[pool.index()].ring.route(&key.routed, 0);
        let Some(link) = server.and_then(|server| self.link_for(pool, profile, server, now)) else { return };
        let name = lease_name(&key.routed);
        if profile.is_some() {
            let take = (Intent::Unheard, Verb::Command, Marks::NONE);
            self.go(link, take, now, |out| resp::take(out, &name, lease));
        } else {
            let take = (Intent::Unheard, Verb::Add, Marks::NONE);
            self.go(link, take, now, |out| memcache::take(out, &name, lease));
        }
        self.charge_link(link);
    }
}
