//! What the operator sees and does over HTTP, and what is told to statsd: metrics, states, the dashboard.
//!
//! It runs on a thread of its own and only reads what the workers publish, so that nobody who looks can slow a request
//! down. What the operator changes goes the way that a worker's own findings go: into the registry that all share.

use std::net::SocketAddr;

mod flush;
mod guard;
mod history;
mod hot;
mod http;
mod operate;
mod page;
mod pools;
mod query;
mod ready;
mod recent;
mod refusal;
pub(crate) mod route;
pub mod statsd;
mod view;

pub use http::Admin;

/// Where the admin port is when nobody says otherwise.
pub const USUAL: SocketAddr = crate::config::USUAL_PORTS[1].1;
