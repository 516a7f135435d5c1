//! The protocols: bytes to requests, bytes to responses, and the words in which a failure is told.
//!
//! Everything here is a pure function over byte slices: no I/O, no clock, no state between calls. Parsers return
//! borrowed ranges of what they were given and never allocate from a length that a peer declared.

pub(crate) mod bytes;
pub mod http;
pub mod lease;
pub mod memcache;
pub(crate) mod names;
pub mod resp;
pub mod stale;
pub mod verb;
