//! The connections of a worker's clients.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::task::Poll;
use std::time::Duration;

use super::dialect::{Admission, Dialect};
use super::poller::{Announced, Poller, Seat};
use super::stream::Stream;
use crate::engine::ids::SessionId;
use crate::engine::{self, Engine, Outlet};
use crate::time::Instant;

/// How long a client that sends no more is kept while no byte moves, where requests have no time limit.
pub(super) const LEAVING_LIMIT: Duration = Duration::from_secs(5);

/// Responses in two pieces of up to so many bytes are copied together: a gathering write costs the kernel more than that.
const COPIED: usize = 2 << 10;

/// The connections of a worker's clients, each at the place of its session.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(super) places: Vec<Option<Client>>,
    /// Where two pieces become one, and what is asked in another protocol becomes text.
    pub(super) whole: Vec<u8>,
    /// Those that send no more and wait for an answer without a limit of time, and when they are looked at again. Whether
    /// such a client still listens cannot be known.
    leaving: VecDeque<Leaving>,
    /// Where one was that is to be told of.
    remembered: Option<(SessionId, String)>,
}

/// The connection of a client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: SessionId,
    pub(super) stream: Stream,
    /// Its translation, if it does not speak what the engine does, or may not speak to it yet.
    pub(super) dialect: Option<Box<Dialect>>,
    /// Whether it has to say who it is.
    pub(super) admission: Admission,
    /// What it speaks is known.
    pub(super) has_spoken: bool,
    /// It has had its turn, though there is more to read of it.
    pub(super) had_turn: bool,
    /// It has been written as much as in one turn, and there is more.
    pub(super) sated: bool,
    /// It had much to say when it was last read.
    pub(super) bulky: bool,
    /// It sends no more, and all that it sent has been read.
    pub(super) ended: bool,
    /// Bytes have gone to it or come from it since that was last asked.
    pub(super) moved: bool,
    /// It is among those that are [leaving](Clients::leaving).
    pub(super) leaves: bool,
}

#[derive(Debug)]
struct Leaving {
    id: SessionId,
    /// When it is looked at again.
    at: Instant,
    /// How far its requests had come.
    progress: usize,
}

impl Default for Clients {
    fn default() -> Self {
        let places = Vec::with_capacity(engine::EXPECTED_CLIENTS);
        Self { places, whole: Vec::new(), leaving: VecDeque::new(), remembered: None }
    }
}

impl Clients {
    /// A client has come.
    pub(super) fn insert(&mut self, id: SessionId, stream: Stream, has_spoken: bool, admission: Admission) {
        if self.places.len() <= id.index() {
            self.places.resize_with(id.index() + 1, || None);
        }
        self.places[id.index()] = Some(Client {
            id,
            stream,
            dialect: None,
            admission,
            has_spoken,
            had_turn: false,
            sated: false,
            bulky: false,
            ended: false,
            moved: false,
            leaves: false,
        });
    }

    /// A client has left: its connection is closed.
    pub(super) fn remove(&mut self, id: SessionId) {
        if let Some(place) = self.places.get_mut(id.index()) {
            *place = None;
        }
    }

    /// All of them.
    pub(crate) fn ids(&self) -> impl Iterator<Item = SessionId> {
        self.places.iter().flatten().map(|client| client.id)
    }

    /// The connection of a client that leaves for another process.
    pub(crate) fn part_with(&mut self, id: SessionId, poller: &Poller) -> Option<OwnedFd> {
        self.get(id)?;
        let socket = self.places[id.index()].take()?.stream.into_socket();
        // That it is open elsewhere would have it announced here on and on.
        let _ = poller.leave(&socket);
        Some(socket)
    }

    /// Whether a client has got all that was said to it, as far as that is known here; `None` if there is half a request of it.
    pub(crate) fn is_told_all(&mut self, id: SessionId) -> Option<bool> {
        let Some(dialect) = self.get(id).and_then(|client| client.dialect.as_ref()) else { return Some(true) };
        (!dialect.has_begun()).then(|| dialect.is_idle())
    }

    /// Whether a client has said who it is, if it has to.
    pub(crate) fn is_admitted(&mut self, id: SessionId) -> bool {
        self.get(id).is_none_or(|client| match &client.dialect {
            Some(dialect) => dialect.is_admitted(),
            None => client.admission != Admission::Asked,
        })
    }

    /// Takes note of what has happened to a client's connection. Whose it is, and whether it is to wait for its turn.
    #[inline]
    pub(crate) fn note(&mut self, seat: Seat, announced: Announced) -> Option<(SessionId, bool)> {
        let client = self.at(seat)?;
        client.stream.note(announced);
        let waits = client.bulky && announced.can_read() && !std::mem::replace(&mut client.had_turn, true);
        Some((client.id, waits))
    }

    /// A client that had its turn has another.
    pub(crate) fn again(&mut self, seat: Seat) -> Option<SessionId> {
        let client = self.at(seat)?;
        (client.had_turn, client.sated) = (false, false);
        Some(client.id)
    }

    /// A client sends no more, and waits without a limit of time.
    pub(super) fn leaves(&mut self, id: SessionId, progress: usize, now: Instant) {
        self.leaving.push_back(Leaving { id, at: now + LEAVING_LIMIT, progress });
    }

    /// When the next of those that are leaving is to be looked at.
    pub(crate) fn next_leaves(&self) -> Option<Instant> {
        self.leaving.front().map(|leaving| leaving.at)
    }

    /// Takes one that has waited for so long, and moved nothing meanwhile.
    pub(super) fn overdue(&mut self, engine: &Engine, now: Instant) -> Option<SessionId> {
        while self.leaving.front().is_some_and(|leaving| leaving.at <= now) {
            let Leaving { id, progress: before, .. } = self.leaving.pop_front()?;
            let Some(client) = self.get(id) else { continue };
            let progress = engine.client_progress(id);
            // Of one that has answers to read, the kernel will say when nobody is there.
            if !std::mem::take(&mut client.moved) && !client.stream.is_full() && progress == before {
                return Some(id);
            }
            self.leaving.push_back(Leaving { id, at: now + LEAVING_LIMIT, progress });
        }
        None
    }

    #[inline]
    fn at(&mut self, seat: Seat) -> Option<&mut Client> {
        self.places.get_mut(seat.place as usize)?.as_mut().filter(|client| seat_of(client.id) == seat)
    }

    /// Where a client is, or was, of which there is something to tell.
    pub(crate) fn peer(&mut self, id: SessionId) -> Option<String> {
        if self.remembered.as_ref().is_some_and(|(of, _)| *of == id) {
            return self.remembered.take().map(|(_, peer)| peer);
        }
        self.get(id)?.stream.peer()
    }

    /// Keeps in mind where a client was that leaves, since there is something to tell of it.
    pub(super) fn remember(&mut self, id: SessionId) {
        self.remembered = self.get(id).and_then(|client| Some((id, client.stream.peer()?)));
    }

    #[inline]
    pub(super) fn get(&mut self, id: SessionId) -> Option<&mut Client> {
        self.places.get_mut(id.index())?.as_mut().filter(|client| client.id == id)
    }
}

/// Where a client is found by what is announced of it.
pub(super) const fn seat_of(id: SessionId) -> Seat {
    Seat::new(id.index, id.generation)
}

impl Outlet for Clients {
    fn offer(&mut self, client: SessionId, pieces: [&[u8]; 2]) -> usize {
        let Self { places, whole, .. } = self;
        let place = places.get_mut(client.index()).and_then(Option::as_mut);
        let Some(Client { stream, moved, dialect, .. }) = place.filter(|place| place.id == client) else { return 0 };
        let [first, second] = pieces;
        if let Some(dialect) = dialect {
            let write = |answer: &[u8]| {
                *moved = true;
                written_of(stream.write([answer, b""]))
            };
            return if dialect.offer(pieces, write) { first.len() + second.len() } else { 0 };
        }
        *moved = true;
        let written = if second.is_empty() || first.len() + second.len() > COPIED {
            stream.write(pieces)
        } else {
            whole.clear();
            whole.extend_from_slice(first);
            whole.extend_from_slice(second);
            stream.write([whole, b""])
        };
        written_of(written)
    }
}

/// Bytes that were written. An error shows at the next write.
fn written_of(outcome: Poll<std::io::Result<usize>>) -> usize {
    if let Poll::Ready(Ok(count)) = outcome { count } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_client_is_offered_its_own_bytes_whatever_went_before() {
        let mut clients = Clients::default();
        let mut ends = Vec::new();
        for index in 0..2 {
            let (near, far) = UnixStream::pair().unwrap();
            near.set_nonblocking(true).unwrap();
            clients.insert(SessionId { index, generation: 0 }, Stream::new(near.into()), false, Admission::Free);
            ends.push(far);
        }
        assert_eq!(clients.offer(SessionId { index: 0, generation: 1 }, [b"of another in its place", b""]), 0);
        let large = vec![b'x'; COPIED];
        let offers: [[&[u8]; 2]; 5] =
            [[b"one", b"END"], [b"two", b""], [b"3", b"end"], [&large, b"END"], [b"", b"four"]];
        for (number, pieces) in offers.into_iter().enumerate() {
            let index = number % 2;
            let wanted = pieces.concat();
            let id = SessionId { index: u32::try_from(index).unwrap(), generation: 0 };
            assert_eq!(clients.offer(id, pieces), wanted.len());
            let mut got = vec![0; wanted.len()];
            ends[index].read_exact(&mut got).unwrap();
            assert!(got == wanted, "offer {number}");
        }
        assert_eq!(clients.again(Seat::new(0, 1)), None, "of another in its place");
        assert!(clients.again(Seat::new(0, 0)).is_some());
        drop(clients);
        assert!(ends.iter_mut().all(|end| end.read(&mut [0]).unwrap() == 0), "more than was offered");
    }
}
