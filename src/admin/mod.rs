//! What the operator sees and does over HTTP, and what is told to statsd: metrics, states, the dashboard.
//!
//! It runs on a thread of its own and only reads what the workers publish, so that nobody who looks can slow a request
//! down.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

mod http;
mod recent;
pub mod statsd;
mod view;

pub use http::Admin;

/// Where the admin port is when nobody says otherwise.
pub const USUAL: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 22223));
