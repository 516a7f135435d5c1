//! A connection, TCP or unix, and what the kernel has announced of it.

use std::io;
use std::os::fd::OwnedFd;
use std::task::Poll;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, sockopt};

use super::poller::{Announced, Poller, Token};

/// To read no more than `most` bytes of a message is worth what it costs if so many times as many may come.
const MUCH_MORE: usize = 8;

/// A connection. `Poll::Pending` says that there is nothing for now: what comes will be announced.
///
/// Its calls are made without the C library, which in a process of several threads lets a thread be cancelled in each of
/// them, at the cost of two locked instructions.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: OwnedFd,
    /// There may be something to read.
    readable: bool,
    /// The peer sends no more: what there is to read is all, and then the end.
    over: bool,
    /// Nobody is there any more: the peer hears nothing either.
    dead: bool,
    /// There is no room for what is to be written.
    full: bool,
    /// That there is room is announced.
    room_is_watched: bool,
}

impl Stream {
    /// Of a socket that does not block. Whether there is something to read is to be found out.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, readable: true, over: false, dead: false, full: false, room_is_watched: false }
    }

    /// The socket alone.
    pub(crate) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Has told what happens to it from now on.
    pub(crate) fn watch(&self, poller: &Poller, token: Token) -> io::Result<()> {
        poller.watch(&self.socket, token)
    }

    /// Takes note of what has happened to it.
    #[inline]
    pub(crate) fn note(&mut self, announced: Announced) {
        self.readable |= announced.can_read();
        self.over |= announced.is_over();
        self.dead |= announced.is_dead();
        self.full &= !announced.can_write();
    }

    /// Where the other end is, for people; `None` if it is gone and cannot be asked.
    #[cold]
    pub(crate) fn peer(&self) -> Option<String> {
        let address = socket2::SockRef::from(&self.socket).peer_addr().ok()?.as_socket();
        Some(address.map_or_else(|| "a unix socket".to_owned(), |address| address.to_string()))
    }

    /// Has what was written and not acknowledged dropped when the connection is closed: a server that is cut off must not
    /// be handed it when the network is back.
    pub(crate) fn discard(&self) {
        let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }

    /// Says nothing more on it. If it is closed before the peer has closed it, that is at once, as with
    /// [`Stream::discard`].
    pub(crate) fn fall_silent(&self) {
        self.discard();
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
    }

    /// Reads what there is, into `buffer`.
    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.readable {
            return Poll::Pending;
        }
        let room = buffer.len();
        let read = loop {
            match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                read => break read.map(|(count, _)| count),
            }
        };
        self.have_read(read, room)
    }

    /// Reads what there is, to the end of a message, up to its capacity, and `most` bytes where that is much more.
    pub(crate) fn append(&mut self, message: &mut Vec<u8>, most: usize) -> Poll<io::Result<usize>> {
        if !self.readable {
            return Poll::Pending;
        }
        let room = message.capacity() - message.len();
        if room / MUCH_MORE > most {
            return self.append_some(message, most);
        }
        let read = loop {
            match rustix::net::recv(&self.socket, spare_capacity(message), RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                read => break read.map(|(count, _)| count),
            }
        };
        self.have_read(read, room)
    }

    /// As [`Stream::append`], of so many bytes at most. What is read to has to be there for that, which costs a little.
    #[cold]
    fn append_some(&mut self, message: &mut Vec<u8>, most: usize) -> Poll<io::Result<usize>> {
        let len = message.len();
        message.resize(len + most, 0);
        let read = self.read(&mut message[len..]);
        let count = if let Poll::Ready(Ok(count)) = read { count } else { 0 };
        message.truncate(len + count);
        read
    }

    #[inline]
    fn have_read(&mut self, read: Result<usize, Errno>, room: usize) -> Poll<io::Result<usize>> {
        match read {
            Ok(count) => {
                // Less than there was room for is all that there was: what comes now is announced.
                self.readable = count == room || self.over;
                Poll::Ready(Ok(count))
            }
            Err(Errno::AGAIN) => {
                self.readable = false;
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    /// Whether there may be something to read.
    pub(crate) fn is_readable(&self) -> bool {
        self.readable
    }

    /// The peer sends no more. It may hear what it is told all the same.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the peer has closed the connection altogether, as far as can be known: of TCP it can only when the peer has
    /// reset it, of a unix socket always.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead
    }

    /// There is no room for what is to be written.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Writes what fits of two pieces, of which the second may be empty.
    #[inline]
    pub(crate) fn write(&mut self, pieces: [&[u8]; 2]) -> Poll<io::Result<usize>> {
        if self.full {
            return Poll::Pending;
        }
        let written = loop {
            let written = if pieces[1].is_empty() {
                rustix::net::send(&self.socket, pieces[0], SendFlags::NOSIGNAL)
            } else {
                let nothing = &mut SendAncillaryBuffer::default();
                rustix::net::sendmsg(&self.socket, &pieces.map(io::IoSlice::new), nothing, SendFlags::NOSIGNAL)
            };
            if written != Err(Errno::INTR) {
                break written;
            }
        };
        match written {
            Ok(count) => {
                self.full = count < pieces[0].len() + pieces[1].len();
                Poll::Ready(Ok(count))
            }
            Err(Errno::AGAIN) => {
                self.full = true;
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    /// Has told when there is room for more, if there is none.
    pub(crate) fn watch_room(&mut self, poller: &Poller, token: Token) -> io::Result<()> {
        if self.full && !self.room_is_watched {
            self.room_is_watched = true;
            poller.watch_room(&self.socket, token)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::super::poller::Seat;
    use super::*;
    use crate::io::poller::Events;

    fn pair() -> (Poller, Stream, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let (poller, stream) = (Poller::new().unwrap(), Stream::new(near.into()));
        stream.watch(&poller, Token::Client(Seat::new(0, 0))).unwrap();
        (poller, stream, far)
    }

    fn note(poller: &Poller, stream: &mut Stream) -> usize {
        let mut events = Events::default();
        let count = poller.wait(&mut events, false).unwrap();
        events.iter().for_each(|(_, announced)| stream.note(announced));
        count
    }

    fn count(moved: Poll<io::Result<usize>>) -> Option<usize> {
        match moved {
            Poll::Ready(moved) => Some(moved.unwrap()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn it_is_read_until_less_comes_than_there_was_room_for() {
        let (poller, mut stream, mut far) = pair();
        let mut buffer = [0; 4];
        assert_eq!(count(stream.read(&mut buffer)), None);
        far.write_all(b"sevenof").unwrap();
        assert!(!stream.is_readable(), "nothing has been announced yet");
        note(&poller, &mut stream);
        assert_eq!(count(stream.read(&mut buffer)), Some(4));
        assert!(stream.is_readable());
        let mut message = Vec::with_capacity(8);
        message.extend_from_slice(b"seve");
        assert_eq!(count(stream.append(&mut message, 8)), Some(3));
        assert_eq!((&message[..], stream.is_readable()), (&b"sevenof"[..], false));
        far.write_all(b"all of a long one").unwrap();
        note(&poller, &mut stream);
        message.reserve_exact(200);
        for (came, is_readable) in [(8, true), (8, true), (1, false)] {
            assert_eq!((count(stream.append(&mut message, 8)), stream.is_readable()), (Some(came), is_readable));
        }
        assert_eq!(message, b"sevenofall of a long one");
        message.truncate(7);
        message.shrink_to(8);
        far.write_all(b"nine").unwrap();
        drop(far);
        note(&poller, &mut stream);
        assert_eq!(count(stream.append(&mut message, 8)), Some(1));
        assert_eq!(count(stream.read(&mut [0; 9])), Some(3));
        assert!(stream.is_readable(), "its end is there to be read, and will not be announced again");
        assert_eq!(count(stream.read(&mut buffer)), Some(0));
    }

    #[test]
    fn what_does_not_fit_waits_until_room_is_announced() {
        let (poller, mut stream, mut far) = pair();
        let bytes = vec![7; 1 << 20];
        let written = count(stream.write([&bytes, b"end"])).unwrap();
        assert!(written < bytes.len(), "all of it fits");
        assert_eq!(count(stream.write([b"more", b""])), None);
        let mut heard = vec![0; written];
        far.read_exact(&mut heard).unwrap();
        assert_eq!(note(&poller, &mut stream), 0, "room is not announced unless that was asked for");
        stream.watch_room(&poller, Token::Client(Seat::new(0, 0))).unwrap();
        assert_eq!(note(&poller, &mut stream), 1);
        assert_eq!(count(stream.write([b"mo", b"re"])), Some(4));
    }
}
