//! memcached's text protocol: the classic commands and the meta commands, told apart request by request.
//!
//! Rules and error lines are memcached's own (`doc/protocol.txt`, and the behaviour of 1.6.18 where the text is
//! silent). Where memcached would run the data block of a refused storage command as commands, this parser swallows
//! it instead: see [`request::Skip`].

mod administration;
pub mod binary;
pub mod copy;
pub mod crawl;
pub mod door;
pub mod encode;
pub mod guard;
pub mod lifetime;
pub mod meta;
pub mod number;
mod refusal;
pub mod reply;
pub mod request;
pub mod response;
pub mod stats;
pub mod version;
mod words;

/// Longest key, in bytes (memcached's `KEY_MAX_LENGTH`).
pub const KEY_LIMIT: usize = 250;

/// Most bytes without a line end that are taken for the beginning of a command line, unless it lists keys. memcached gives
/// up behind as many.
pub const LINE_LIMIT: usize = LINE_SAFE;

/// Longest line that memcached is sure to take whole, in bytes. Of a longer one it may have read only a part, and then it
/// closes the connection, unless the line begins with `get ` or `gets `.
pub const LINE_SAFE: usize = 2048;

/// Longest line of a multi-get, in bytes: 10,000 keys of 250 bytes fit.
pub const KEYS_LINE_LIMIT: usize = 4 << 20;

pub use super::verb::Verb;
