//! Where a client is.

use std::net::SocketAddr;

/// Where a client's connection begins and ends, as the shell knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The address of the client and that of this end. Without one: the connection is that of a unix socket.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// The file descriptor.
    pub descriptor: i32,
}
