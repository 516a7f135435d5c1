//! softmiss: a fault-tolerant sharding proxy for memcached and Redis.

pub mod cli;
pub mod config;
pub mod demo;
pub mod engine;
pub mod failure;
pub mod health;
pub mod io;
pub mod proto;
pub mod ring;
pub mod stats;
pub mod time;
