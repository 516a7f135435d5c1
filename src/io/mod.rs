//! The shell: sockets, threads, the clock, signals. Everything that is not true of every shell is in the engine.
//!
//! A worker is a thread with an event loop and one engine ([`worker`]): it asks the kernel what has happened ([`poller`])
//! and moves bytes between sockets ([`stream`]) and the engine, those of [`client`]s and of [`server`]s. [`listener`] accepts,
//! [`connect`] opens connections on a thread of its own, [`proxy`] puts the parts together, [`signal`] tells them when to stop.

mod again;
mod alarm;
mod client;
mod clients;
pub mod clock;
mod connect;
mod departing;
mod dialect;
mod discovery;
pub mod events;
pub(crate) mod files;
mod inherited;
mod links;
pub(crate) mod listener;
mod listening;
pub mod log;
mod mailbox;
mod operator;
mod poller;
pub mod program;
pub mod proxy;
pub(crate) mod readers;
pub mod reload;
pub(crate) mod rounds;
mod server;
pub mod signal;
mod slack;
mod socket_file;
mod state;
mod stats;
mod stream;
mod supervise;
mod systemd;
mod tell;
pub(crate) mod terminal;
mod turn;
pub mod upgrade;
mod watch;
mod worker;

pub use inherited::Inherited;
pub use listener::NotListening;
pub use operator::Operator;
pub use proxy::{Observed, Proxy, StartError};
pub(crate) use readers::accept;
pub use slack::give_back_with;
