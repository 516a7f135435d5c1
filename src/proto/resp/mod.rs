//! Redis's protocol: RESP2 and RESP3, and what is known of its commands.
//!
//! Rules and error texts are those of Redis 7.0.15 and of the protocol's specification.

pub mod args;
pub mod command;
pub mod copy;
pub mod encode;
pub mod fallback;
pub mod plan;
pub mod reply;
pub mod request;
pub mod unmade;

/// The version of the protocol that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Version {
    /// What every connection starts with.
    #[default]
    Resp2,
    /// What `HELLO 3` asks for.
    Resp3,
}
