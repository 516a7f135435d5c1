//! softmiss: a fault-tolerant sharding proxy for memcached and Redis.

pub mod config;
