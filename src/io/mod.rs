//! The shell: sockets, threads, the clock, signals. Everything that is not true of every shell is in the engine.
//!
//! A worker is a thread with a current-thread runtime and one engine ([`worker`]). Each connection is one task that owns
//! its socket: [`client`] and [`server`] are two short poll functions between a socket and the engine. [`listener`]
//! accepts, [`proxy`] puts the parts together, [`signal`] tells them when to stop.

mod alarm;
mod client;
pub mod clock;
pub mod events;
mod links;
pub(crate) mod listener;
pub mod log;
mod operator;
pub mod proxy;
mod server;
pub mod signal;
mod stats;
mod stream;
mod tell;
mod worker;

pub use operator::Operator;
pub use proxy::{Observed, Proxy, StartError};
