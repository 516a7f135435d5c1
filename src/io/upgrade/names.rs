//! Pools that have another name in the file by now than their predecessor had for them: as in a reload, they are known by where
//! they listen.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::model::{Config, Listen, Pool, Protocol};
use crate::config::roster::is_at;

/// A pool, as its successor may know it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Named {
    name: String,
    #[serde(default)]
    redis: bool,
    /// Where it listens: at one of these.
    #[serde(default)]
    tcp: Option<SocketAddr>,
    #[serde(default)]
    unix: Option<PathBuf>,
}

impl Named {
    pub(super) fn of(pool: &Pool) -> Self {
        let (tcp, unix) = match &pool.listen {
            Listen::Tcp { address, .. } => (Some(*address), None),
            Listen::Unix { path, .. } => (None, Some(path.clone())),
        };
        Self { name: pool.name.clone(), redis: pool.protocol == Protocol::Redis, tcp, unix }
    }

    fn listen(&self) -> Option<Listen> {
        let tcp = self.tcp.map(|address| Listen::Tcp { text: address.to_string(), address });
        tcp.or_else(|| Some(Listen::Unix { path: self.unix.clone()?, mode: None }))
    }
}

/// The names that pools have now, by those that a predecessor had for them, where these are others.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<String, String>);

impl Names {
    /// Those of the pools of a configuration.
    pub(super) fn between(before: &[Named], config: &Config) -> Self {
        let is_here = |named: &&Named| config.pools.iter().any(|pool| pool.name == named.name);
        let was_there = |pool: &&Pool| before.iter().any(|named| named.name == pool.name);
        let mut names = BTreeMap::new();
        for named in before.iter().filter(|named| !is_here(named)) {
            let Some(listen) = named.listen() else { continue };
            let is_it = |pool: &&Pool| {
                (pool.protocol == Protocol::Redis) == named.redis && is_at(&pool.listen, &listen) && !was_there(pool)
            };
            if let Some(pool) = config.pools.iter().find(is_it) {
                names.insert(named.name.clone(), pool.name.clone());
            }
        }
        Self(names)
    }

    /// What a pool is called now.
    pub(super) fn now<'a>(&'a self, name: &'a str) -> &'a str {
        self.0.get(name).map_or(name, String::as_str)
    }

    /// Puts it in the place of a name.
    pub(super) fn put(&self, name: &mut String) {
        if let Some(now) = self.0.get(name) {
            name.clone_from(now);
        }
    }
}
