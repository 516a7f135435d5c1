//! `version`: the lowest of a pool's servers, since clients choose by it what they may ask.
//!
//! What a server has said is remembered for as long as a connection to it lasts, and as its last word behind that. So a
//! `version` costs its servers nothing but for the first time, and each time after one of them may have been upgraded.

use super::merge::Wanted;
use crate::config::model::{PoolId, ServerId};
use crate::engine::ids::SessionId;
use crate::engine::memcache;
use crate::engine::request::Asked;
use crate::engine::scattered::Merge;
use crate::engine::servers::ticket::Marks;
use crate::engine::ways::To;
use crate::engine::{Engine, server_id};
use crate::proto::memcache::version::Version;
use crate::proto::memcache::{Verb, encode};
use crate::time::Instant;

impl Engine {
    /// `version`.
    pub(in crate::engine) fn servers_version(&mut self, id: SessionId, started: Instant, now: Instant) {
        let Some(pool) = self.pool_of(id) else { return };
        let state = &self.pools[pool.index()];
        let is_unknown = |server: &usize| {
            let member = &state.members[*server];
            member.is_open() && state.live[*server] && !member.version.is_fresh
        };
        let whom: Vec<To> = (0..state.members.len()).filter(is_unknown).map(|id| To::Server(server_id(id))).collect();
        let merge = Merge::Memcache(memcache::Merge::new(Wanted::Version(self.lowest_version(pool))));
        self.scatter(
            id,
            Asked::new(Verb::Version, started),
            Marks::NONE,
            (merge, &whom),
            now,
            |out: &mut Vec<u8>, _: usize| {
                encode::version(out);
                1
            },
        );
    }

    /// The lowest version that servers of a pool said last, whether they are there or not.
    pub(in crate::engine) fn lowest_version(&self, pool: PoolId) -> Option<Version> {
        self.pools[pool.index()].members.iter().filter_map(|member| member.version.version.clone()).min()
    }

    /// A server has said its version.
    pub(in crate::engine) fn learn_version(&mut self, pool: PoolId, server: ServerId, version: Option<Version>) {
        let known = &mut self.member_mut(pool, server).version;
        known.is_fresh = true;
        known.version = version.or_else(|| known.version.take());
    }

    /// A connection to a server is over: it may come back as another.
    pub(in crate::engine) fn doubt_version(&mut self, pool: PoolId, server: ServerId) {
        self.member_mut(pool, server).version.is_fresh = false;
    }
}
