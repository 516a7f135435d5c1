//! softmiss: a fault-tolerant sharding proxy for memcached and Redis.

pub mod config;
pub mod engine;
pub mod failure;
pub mod health;
pub mod io;
pub mod proto;
pub mod ring;
pub mod stats;
pub mod time;
