//! Another process of this program takes over while clients stay: a new binary, say.
//!
//! The successor is started with the arguments of this process, and has a socket to it as its standard input ([`wire`]). It is
//! given the listening sockets and what is known of the servers, reads the file, and says that it serves. Then clients come in
//! there, and each that is here goes over between two of its requests. Whoever is in a transaction, listens to a subscription or
//! waits for something has `drain_timeout` to come to the end of that. Until the successor says that it serves, nothing
//! changes here; should it end before all have gone over, those that have not stay.

mod depart;
mod names;
mod predecessor;
mod stage;
mod start;
mod successor;
mod wire;

pub use predecessor::Voice;
pub(super) use predecessor::{Listens, Predecessor, Succession};
pub use stage::Stays;
pub(super) use stage::Upgrade;
