//! Why a server failed a request: the one vocabulary of the engine, the log, the counters and the error texts.

use std::fmt;

/// What went wrong between this process and a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No server of the pool is in the ring, or the only one there could be is ejected.
    Ejected,
    /// The connect was refused.
    Refused,
    /// The server's host or network cannot be reached.
    Unreachable,
    /// The server's name does not resolve.
    Unresolved,
    /// The server's unix socket does not exist.
    NoSocket,
    /// The deadline passed.
    TimedOut,
    /// The server closed the connection in an orderly way.
    Closed,
    /// The connection was reset or broke.
    Reset,
    /// The server broke the protocol.
    Protocol,
    /// Too much is queued for the server.
    QueueFull,
    /// The process's memory limit is reached.
    NoMemory,
    /// `dedicated_connections` is reached: no connection is left for what needs one of its own.
    NoDedicated,
    /// The server has no memory for the item.
    ServerMemory,
    /// The server does not serve at the moment: it loads its data, or has lost its master.
    Unready,
    /// The server takes no writes.
    ReadOnly,
    /// The server refuses the password, the protocol or the database that a connection needs, or wants a password.
    Denied,
    /// The server has been silent for longer than it ever is, and is not asked anything more until it answers.
    Stalled,
    /// This host has no file descriptor or no memory for a connection: the server was never asked.
    NoResources,
    /// The server's response is longer than this program takes: the server has done nothing wrong.
    TooLarge,
    /// The server turned the connection away: it has as many as it takes (`maxclients`, `-c`).
    Full,
}

impl Failure {
    /// Every cause, in the order of their numbers.
    pub const ALL: [Self; 20] = [
        Self::Ejected,
        Self::Refused,
        Self::Unreachable,
        Self::Unresolved,
        Self::NoSocket,
        Self::TimedOut,
        Self::Closed,
        Self::Reset,
        Self::Protocol,
        Self::QueueFull,
        Self::NoMemory,
        Self::NoDedicated,
        Self::ServerMemory,
        Self::Unready,
        Self::ReadOnly,
        Self::Denied,
        Self::Stalled,
        Self::NoResources,
        Self::TooLarge,
        Self::Full,
    ];

    /// A word for logs and labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ejected => "ejected",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Unresolved => "unresolved",
            Self::NoSocket => "no_socket",
            Self::TimedOut => "timeout",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Full => "server_full",
            Self::Protocol => "protocol",
            Self::QueueFull => "queue_full",
            Self::NoMemory => "memory_limit",
            Self::NoDedicated => "dedicated_connections",
            Self::ServerMemory => "server_memory",
            Self::Unready => "server_not_ready",
            Self::ReadOnly => "server_read_only",
            Self::Denied => "server_denied",
            Self::Stalled => "stalled",
            Self::NoResources => "no_resources",
            Self::TooLarge => "value_limit",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ejected => "no live server",
            Self::Refused => "connection refused",
            Self::Unreachable => "host unreachable",
            Self::Unresolved => "host name does not resolve",
            Self::NoSocket => "unix socket does not exist",
            Self::TimedOut => "timed out",
            Self::Closed => "closed by the server",
            Self::Reset => "connection reset",
            Self::Full => "no more connections taken by the server",
            Self::Protocol => "protocol broken by the server",
            Self::QueueFull => "queue full",
            Self::NoMemory => "memory limit reached",
            Self::NoDedicated => "dedicated_connections reached",
            Self::ServerMemory => "server out of memory",
            Self::Unready => "server not ready",
            Self::ReadOnly => "server takes no writes",
            Self::Denied => "password, protocol or database refused by the server",
            Self::Stalled => "silent",
            Self::NoResources => "out of file descriptors or memory on this host",
            Self::TooLarge => "response above value_limit",
        })
    }
}
