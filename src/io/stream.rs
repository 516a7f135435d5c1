//! TCP and unix-socket connections as one type.

#![expect(clippy::wildcard_enum_match_arm, reason = "the kinds of I/O errors are open-ended")]

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{AsyncReadExt, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

use crate::config::model::Address;
use crate::failure::Failure;

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects to a server. A host name is looked up each time, and its addresses are tried in turn.
    pub(crate) async fn connect(address: &Address) -> Result<Self, Failure> {
        match address {
            Address::Unix(path) => Self::connect_unix(path).await,
            Address::Tcp { host, port } => {
                // An address in figures resolves at once, without a thread.
                let found = tokio::net::lookup_host((host.as_str(), *port)).await.map_err(|_| Failure::Unresolved)?;
                let mut last = Failure::Unresolved;
                for address in found {
                    match TcpStream::connect(address).await {
                        Ok(stream) => {
                            // Without it, the last packet of a batch waits for an acknowledgement: 40 ms.
                            let _ = stream.set_nodelay(true);
                            return Ok(Self::Tcp(stream));
                        }
                        Err(error) => last = failure_of(&error),
                    }
                }
                Err(last)
            }
        }
    }

    async fn connect_unix(path: &Path) -> Result<Self, Failure> {
        UnixStream::connect(path).await.map(Self::Unix).map_err(|error| failure_of(&error))
    }

    /// Has what was written and not acknowledged dropped when the connection is closed: a server that is cut off must not
    /// be handed it when the network is back.
    pub(crate) fn discard(&self) {
        if let Self::Tcp(stream) = self {
            let _ = socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
        }
    }

    /// Reads what there is, into `buffer`.
    pub(crate) fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut read = Err(Errno::AGAIN);
            // No call is made when the runtime knows that nothing is there.
            let _ = self.try_io(Interest::READABLE, |socket| {
                read = rustix::net::recv(socket, &mut *buffer, RecvFlags::empty()).map(|(count, _)| count);
                // Less than there was room for is all that there is: the next bytes will be announced. So the runtime
                // is told to wait for that, as its own reads do.
                let may_be_more = read == Ok(buffer.len()) || read == Err(Errno::INTR);
                if may_be_more { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
            });
            match read {
                Err(Errno::AGAIN | Errno::INTR) => ready!(self.poll_readable(context))?,
                read => return Poll::Ready(read.map_err(io::Error::from)),
            }
        }
    }

    /// Has the runtime note that the connection is not ready if `call` says so.
    ///
    /// The calls are made without the C library, which in a process of several threads lets a thread be cancelled in each of
    /// them, at the cost of two locked instructions.
    fn try_io<R>(&self, interest: Interest, call: impl FnOnce(BorrowedFd<'_>) -> io::Result<R>) -> io::Result<R> {
        match self {
            Self::Tcp(stream) => stream.try_io(interest, || call(stream.as_fd())),
            Self::Unix(stream) => stream.try_io(interest, || call(stream.as_fd())),
        }
    }

    /// Ready if there is something to read; the task is woken when there is, otherwise.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(context),
            Self::Unix(stream) => stream.poll_read_ready(context),
        }
    }

    /// Reads what there is, to the end of `buffer`.
    pub(crate) fn poll_append(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut impl BufMut,
    ) -> Poll<io::Result<usize>> {
        // Nothing is lost with a future that is dropped while it waits.
        match self {
            Self::Tcp(stream) => pin!(stream.read_buf(buffer)).poll(context),
            Self::Unix(stream) => pin!(stream.read_buf(buffer)).poll(context),
        }
    }

    /// Writes what fits at once; an error shows at the next [`Stream::poll_write`].
    pub(crate) fn try_write(&self, pieces: [&[u8]; 2]) -> usize {
        let written = self.try_io(Interest::WRITABLE, |socket| {
            let written = if pieces[1].is_empty() {
                rustix::net::send(socket, pieces[0], SendFlags::NOSIGNAL)
            } else {
                rustix::io::writev(socket, &pieces.map(io::IoSlice::new)) // no signal: the program ignores it
            };
            written.map_err(io::Error::from)
        });
        written.unwrap_or(0)
    }

    /// Writes what fits.
    pub(crate) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }
}

/// What an I/O error says about a server.
pub(crate) fn failure_of(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => {
            Failure::Unreachable
        }
        io::ErrorKind::NotFound => Failure::NoSocket,
        io::ErrorKind::TimedOut => Failure::TimedOut,
        _ => Failure::Reset,
    }
}
