//! What a process and its successor tell each other, over a socket that only they have: frames, some with a descriptor.
//!
//! A frame is a byte that says its kind, the length of its body, and its body. Bodies are JSON, of which each side takes what
//! it knows; what follows the JSON of a client are the bytes that it has sent. A kind of frame that is not known is not
//! answered, but where an answer is due: a client that is not understood is left where it is.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::names::Named;

/// The largest body: a value of `value_limit` that has not come to its end, and what goes with it.
const LIMIT: usize = (1 << 30) + (1 << 20);

const HEAD: usize = 5;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Who hands over: [`Hello`].
    Hello = b'h',
    /// A listening socket.
    Listener = b'l',
    /// What servers have missed, and which are out: a record as in `state_dir`. The one before [`Kind::Go`] is whole; what
    /// follows later has been added to it.
    Missed = b'm',
    /// That is all that has to be known to start.
    Start = b's',
    /// The successor serves: [`Ready`].
    Ready = b'r',
    /// It cannot; the body says why.
    Failed = b'f',
    /// Servers that the operator keeps out by now, in place of those in [`Kind::Hello`]: a list of [`KeptOut`].
    KeptOut = b'k',
    /// Clients come in by the successor from here on.
    Go = b'g',
    /// A client: [`Client`], and its bytes.
    Client = b'c',
    /// The successor has it.
    Taken = b't',
    /// The successor does not understand it.
    Left = b'x',
    /// What was counted: [`Counted`](crate::stats::carried::Counted).
    Counted = b'n',
    /// Nothing more comes.
    End = b'e',
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Hello,
        Self::Listener,
        Self::Missed,
        Self::Start,
        Self::Ready,
        Self::Failed,
        Self::KeptOut,
        Self::Go,
        Self::Client,
        Self::Taken,
        Self::Left,
        Self::Counted,
        Self::End,
    ];
}

/// Who hands over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Its version, for people.
    pub(super) version: String,
    /// Its process id.
    pub(super) pid: u32,
    /// No client of a Redis pool has a larger number.
    #[serde(default)]
    pub(super) clients: u64,
    /// Servers that the operator keeps out.
    #[serde(default)]
    pub(super) kept_out: Vec<KeptOut>,
    /// Its pools.
    #[serde(default)]
    pub(super) pools: Vec<Named>,
}

/// A server that the operator keeps out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::io) struct KeptOut {
    /// The name of its pool, and its own.
    pub(in crate::io) pool: String,
    pub(in crate::io) server: String,
    /// It is drained, not ejected.
    pub(in crate::io) drains: bool,
}

/// The successor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ready {
    /// Its version, for people.
    pub(super) version: String,
}

/// A client.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Client {
    /// The name of its pool.
    pub(super) pool: String,
    /// Redis: what it has set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) redis: Option<crate::engine::CarriedRedis>,
    /// memcached: it has still to say who it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) unadmitted: bool,
}

/// One frame.
#[derive(Debug)]
pub(super) struct Frame {
    /// What it is; `None` where that is not known here.
    pub(super) kind: Option<Kind>,
    pub(super) body: Vec<u8>,
    pub(super) descriptor: Option<OwnedFd>,
}

impl Frame {
    /// Its body, which is JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> io::Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }

    /// Its body, which is JSON, and what follows that.
    pub(super) fn json_and_rest<T: DeserializeOwned>(&self) -> io::Result<(T, &[u8])> {
        let mut all = serde_json::Deserializer::from_slice(&self.body).into_iter::<T>();
        let of =
            all.next().ok_or(ErrorKind::InvalidData)?.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        let at = all.byte_offset();
        Ok((of, &self.body[at..]))
    }
}

/// Sends a frame whose body is JSON, and bytes behind that.
pub(super) fn send(
    to: &UnixStream,
    kind: Kind,
    json: Option<&impl Serialize>,
    rest: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut body = json.map(serde_json::to_vec).transpose()?.unwrap_or_default();
    body.extend_from_slice(rest);
    let len = u32::try_from(body.len()).ok().filter(|len| *len as usize <= LIMIT).ok_or(ErrorKind::InvalidData)?;
    let mut head = [kind as u8, 0, 0, 0, 0];
    head[1..].copy_from_slice(&len.to_le_bytes());
    let sent = send_head(to, &head, descriptor)?;
    (&mut &*to).write_all(&head[sent..])?;
    (&mut &*to).write_all(&body)
}

/// A frame without JSON.
pub(super) fn send_bare(
    to: &UnixStream,
    kind: Kind,
    rest: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    send(to, kind, None::<&()>, rest, descriptor)
}

fn send_head(to: &UnixStream, head: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptor.into_iter().collect();
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(ErrorKind::InvalidInput.into());
    }
    loop {
        match rustix::net::sendmsg(to.as_fd(), &[IoSlice::new(head)], &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            sent => return Ok(sent?),
        }
    }
}

/// The next frame. `None` at the end of what the other side sends.
pub(super) fn receive(from: &UnixStream) -> io::Result<Option<Frame>> {
    let (mut head, mut have, mut descriptor) = ([0; HEAD], 0, None);
    while have < HEAD {
        let (read, came) = receive_some(from, &mut head[have..])?;
        descriptor = descriptor.or(came);
        match read {
            0 if have == 0 => return Ok(None),
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            _ => have += read,
        }
    }
    let [kind, len @ ..] = head;
    let len = u32::from_le_bytes(len) as usize;
    if len > LIMIT {
        return Err(io::Error::new(ErrorKind::InvalidData, "a message that is too long"));
    }
    let mut body = Vec::new();
    from.take(len as u64).read_to_end(&mut body)?;
    if body.len() < len {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let kind = Kind::ALL.into_iter().find(|known| *known as u8 == kind);
    Ok(Some(Frame { kind, body, descriptor }))
}

/// Whether the other side has ended.
pub(super) fn has_ended(of: &UnixStream) -> io::Result<bool> {
    let mut polled = [PollFd::new(of, PollFlags::empty())];
    match rustix::event::poll(&mut polled, Some(&Timespec::default())) {
        Ok(_) => Ok(polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn receive_some(from: &UnixStream, into: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(into)];
    let read = loop {
        match rustix::net::recvmsg(from.as_fd(), &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            read => break read?.bytes,
        }
    };
    let rights = |message| if let RecvAncillaryMessage::ScmRights(rights) = message { Some(rights) } else { None };
    let descriptor = control.drain().filter_map(rights).flatten().next();
    Ok((read, descriptor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_as_they_were_sent_with_their_descriptors() {
        let (near, far) = UnixStream::pair().unwrap();
        let (one, mut other) = UnixStream::pair().unwrap();
        let client = Client { pool: "p".to_owned(), redis: None, unadmitted: false };
        send(&near, Kind::Client, Some(&client), b"{\"get \0\xff", Some(one.as_fd())).unwrap();
        send_bare(&near, Kind::End, b"", None).unwrap();
        drop((near, one));
        let frame = receive(&far).unwrap().unwrap();
        let (client, rest) = frame.json_and_rest::<Client>().unwrap();
        assert_eq!((frame.kind, client.pool.as_str(), rest), (Some(Kind::Client), "p", &b"{\"get \0\xff"[..]));
        UnixStream::from(frame.descriptor.unwrap()).write_all(b"x").unwrap();
        other.read_exact(&mut [0]).unwrap();
        let frame = receive(&far).unwrap().unwrap();
        assert_eq!((frame.kind, frame.body.len(), frame.descriptor.is_none()), (Some(Kind::End), 0, true));
        assert!(receive(&far).unwrap().is_none());
    }

    #[test]
    fn what_is_not_known_is_no_error_and_what_is_cut_off_is_one() {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(&[b'?', 2, 0, 0, 0, b'a', b'b', b'c', 9, 0, 0, 0, b'x']).unwrap();
        drop(near);
        let frame = receive(&far).unwrap().unwrap();
        assert_eq!((frame.kind, &frame.body[..]), (None, &b"ab"[..]));
        assert_eq!(receive(&far).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}
