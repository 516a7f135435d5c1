//! The keys of a load: where they are at home, and which bytes can be theirs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::Random;

pub(super) const KEYS_PER_CLIENT: usize = 60;

/// A key, where it is at home, and how often it has been written.
pub(super) struct Key {
    pub(super) name: String,
    pub(super) home: usize,
    pub(super) owner: usize,
    /// Versions that its owner has sent.
    pub(super) written: AtomicU64,
}

/// What clients and servers speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Memcached,
    Redis {
        /// The pool tells failures as errors.
        errors: bool,
    },
}

/// What all clients know.
pub(super) struct Book {
    pub(super) speaks: Speaks,
    pub(super) keys: Vec<Key>,
    /// For each server: something has happened to it, so nobody knows what it holds.
    suspect: Vec<AtomicBool>,
}

impl Book {
    /// The names of the keys of so many clients.
    pub(super) fn names(clients: usize) -> Vec<String> {
        (0..clients * KEYS_PER_CLIENT).map(|number| format!("{:010x}", Random(number as u64).next() >> 24)).collect()
    }

    /// Keys with their homes.
    pub(super) fn new(speaks: Speaks, homes: Vec<(String, usize)>, servers: usize) -> Self {
        let keys = homes.into_iter().enumerate();
        let keys = keys.map(|(number, (name, home))| {
            let owner = number / KEYS_PER_CLIENT;
            Key { name, home, owner, written: AtomicU64::new(0) }
        });
        Self { speaks, keys: keys.collect(), suspect: (0..servers).map(|_| AtomicBool::new(false)).collect() }
    }

    /// From here on, nobody can know what this server holds.
    pub(super) fn suspect(&self, server: usize) {
        self.suspect[server].store(true, Ordering::SeqCst);
    }

    /// Nothing has happened to this server of late.
    pub(super) fn trust(&self, server: usize) {
        self.suspect[server].store(false, Ordering::SeqCst);
    }

    /// Whether something has happened to the server that this key is at home on.
    pub(super) fn is_suspect(&self, key: usize) -> bool {
        self.suspect[self.keys[key].home].load(Ordering::SeqCst)
    }

    /// The bytes of a version of a key: 20 bytes to 20 KB, mostly few.
    pub(super) fn value(&self, key: usize, version: u64) -> Vec<u8> {
        let Key { name, owner, .. } = &self.keys[key];
        let mut random = Random((key as u64) << 32 | version);
        let length = match random.below(20) {
            0 => 10_000 + random.below(10_000),
            1..5 => 1000 + random.below(4000),
            _ => 20 + random.below(480),
        };
        let mut value = format!("{name} {owner} {version} ").into_bytes();
        while value.len() < length as usize {
            value.extend_from_slice(&random.next().to_le_bytes());
        }
        value.truncate((length as usize).max(20));
        value
    }

    /// The version that these bytes are of this key; `None` when they are not.
    pub(super) fn version_in(&self, key: usize, value: &[u8]) -> Option<u64> {
        let version = value.split(|byte| *byte == b' ').nth(2)?;
        let version = std::str::from_utf8(version).ok()?.parse().ok()?;
        let written = self.keys[key].written.load(Ordering::SeqCst);
        ((1..=written).contains(&version) && self.value(key, version) == value).then_some(version)
    }
}
