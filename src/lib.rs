//! softmiss: a fault-tolerant sharding proxy for memcached and Redis.

pub mod config;
pub mod failure;
pub mod proto;
pub mod time;
