//! A client's connection: the engine's output to the socket, the socket's input to the engine.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::task::Poll;
use std::time::Duration;

use tracing::warn;

use super::departing::Departing;
use super::dialect::{self, Admission, Dialect};
use super::poller::{Announced, Poller, Seat, Token};
use super::stream::Stream;
use super::turn::BULKY;
use super::worker::Worker;
use crate::config::model::PoolId;
use crate::engine::ids::SessionId;
use crate::engine::{self, Carried, Engine, Outlet, Peer, Room};
use crate::proto::memcache::binary::Unexpected;
use crate::time::Instant;

/// Bytes read of a client in one turn, after which other connections get theirs.
const READ_BUDGET: usize = 256 << 10;

/// Bytes read of a client at a time. What it may not be asked yet is kept for it, so no more than this of each client.
const READ_LIMIT: usize = 64 << 10;

/// Bytes written to a client or a server in one turn, after which other connections get theirs. Some of them have to be put together.
/// (A test has no socket that takes as much at once.)
pub(super) const WRITE_BUDGET: usize = if cfg!(test) { 64 << 10 } else { 1 << 20 };

/// How long a client that sends no more is kept while no byte moves, where requests have no time limit.
pub(crate) const LEAVING_LIMIT: Duration = Duration::from_secs(5);

/// Responses in two pieces of up to so many bytes are copied together: a gathering write costs the kernel more than that.
const COPIED: usize = 2 << 10;

/// The connections of a worker's clients, each at the place of its session.
#[derive(Debug)]
pub(crate) struct Clients {
    places: Vec<Option<Client>>,
    /// Where two pieces become one, and what is asked in another protocol becomes text.
    whole: Vec<u8>,
    /// Those that send no more and wait for an answer without a limit of time, and when they are looked at again. Whether
    /// such a client still listens cannot be known.
    leaving: VecDeque<Leaving>,
    /// Where one was that is to be told of.
    remembered: Option<(SessionId, String)>,
}

#[derive(Debug)]
struct Client {
    id: SessionId,
    stream: Stream,
    /// Its translation, if it does not speak what the engine does, or may not speak to it yet.
    dialect: Option<Box<Dialect>>,
    /// Whether it has to say who it is.
    admission: Admission,
    /// What it speaks is known.
    has_spoken: bool,
    /// It has had its turn, though there is more to read of it.
    had_turn: bool,
    /// It has been written as much as in one turn, and there is more.
    sated: bool,
    /// It had much to say when it was last read.
    bulky: bool,
    /// It sends no more, and all that it sent has been read.
    ended: bool,
    /// Bytes have gone to it or come from it since that was last asked.
    moved: bool,
    /// It is among those that are [leaving](Clients::leaving).
    leaves: bool,
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
    fn insert(&mut self, id: SessionId, stream: Stream, has_spoken: bool, admission: Admission) {
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
    fn remove(&mut self, id: SessionId) {
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

    /// When the next of those that are leaving is to be looked at.
    pub(crate) fn next_leaves(&self) -> Option<Instant> {
        self.leaving.front().map(|leaving| leaving.at)
    }

    /// Takes one that has waited for so long, and moved nothing meanwhile.
    fn overdue(&mut self, engine: &Engine, now: Instant) -> Option<SessionId> {
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
    fn remember(&mut self, id: SessionId) {
        self.remembered = self.get(id).and_then(|client| Some((id, client.stream.peer()?)));
    }

    #[inline]
    fn get(&mut self, id: SessionId) -> Option<&mut Client> {
        self.places.get_mut(id.index())?.as_mut().filter(|client| client.id == id)
    }
}

/// Where the connection of a client begins and ends.
fn peer_of(socket: &OwnedFd) -> Peer {
    let socket = socket2::SockRef::from(socket);
    let of = |address: std::io::Result<socket2::SockAddr>| address.ok()?.as_socket();
    let addresses = of(socket.peer_addr()).zip(of(socket.local_addr()));
    Peer { addresses, descriptor: socket.as_raw_fd() }
}

/// Where a client is found by what is announced of it.
const fn seat_of(id: SessionId) -> Seat {
    Seat::new(id.index, id.generation)
}

impl Outlet for Clients {
    fn offer(&mut self, client: SessionId, pieces: [&[u8]; 2]) -> usize {
        let Self { places, whole, .. } = self;
        let place = places.get_mut(client.index()).and_then(Option::as_mut);
        let Some(Client { stream, moved, dialect, .. }) = place.filter(|place| place.id == client) else { return 0 };
        if dialect.is_some() {
            return 0; // it is put into other words first
        }
        *moved = true;
        let [first, second] = pieces;
        let written = if second.is_empty() || first.len() + second.len() > COPIED {
            stream.write(pieces)
        } else {
            whole.clear();
            whole.extend_from_slice(first);
            whole.extend_from_slice(second);
            stream.write([whole, b""])
        };
        match written {
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(_)) | Poll::Pending => 0, // an error shows at the next write
        }
    }
}

/// What has become of a client.
#[derive(Debug, PartialEq, Eq)]
enum Became {
    /// It stays, and has said all for now.
    Quiet,
    /// It stays, and has not been read, or written, to the end of what there is. Others come first.
    Longwinded,
    /// It is finished with.
    Finished,
    /// It sends no more, and something that it asked is not answered.
    Leaving,
    /// Its connection broke.
    Broken,
}

impl Worker {
    /// Starts to serve a client.
    pub(crate) fn welcome(&mut self, pool: PoolId, socket: OwnedFd) {
        self.serve(Departing { pool, carried: Carried::default(), socket, unadmitted: None, stays: false });
    }

    /// As [`Worker::welcome`], of a client that comes from another process.
    pub(crate) fn serve(&mut self, client: Departing) {
        let Departing { pool, carried, socket, unadmitted, stays } = client;
        // In the middle of a request nothing can be told by the first byte.
        let has_spoken = !carried.input.is_empty();
        let id = self.engine.client_arrived(pool, carried, self.clock.now());
        if stays {
            self.engine.client_stays(id);
        }
        if self.engine.tells_of_clients(pool) {
            self.engine.client_is_at(id, peer_of(&socket), self.clock.now());
        }
        let admission = match unadmitted {
            _ if !self.engine.asks_who(id) => Admission::Free,
            Some(false) => Admission::Admitted,
            Some(true) | None => Admission::Asked,
        };
        self.clients.insert(id, Stream::new(socket), has_spoken, admission);
        self.is_to_leave_too(id);
        // Most have asked something by now, so that is read before the kernel is asked to announce it.
        self.serve_client(id);
        if let Some(client) = self.clients.get(id)
            && let Err(error) = client.stream.watch(&self.poller, Token::Client(seat_of(id)))
        {
            warn!(%error, "cannot watch a client connection (is fs.epoll.max_user_watches high enough?)");
            self.dismiss(id, true);
        }
    }

    /// Moves what can be moved between a client and the engine.
    #[inline]
    pub(crate) fn serve_client(&mut self, id: SessionId) {
        let now = self.clock.now();
        match self.exchange(id, now) {
            Became::Quiet => {}
            Became::Longwinded => self.again.push_back(Token::Client(seat_of(id))),
            Became::Finished => self.dismiss(id, false),
            Became::Leaving => self.is_leaving(id, now),
            Became::Broken => self.dismiss(id, true),
        }
        if self.hands_over() {
            self.depart(id);
        }
        self.pass_on(now);
    }

    /// A client sends no more. One that is gone altogether is let go, as far as that can be known: it may also have closed
    /// one direction only (`printf ... | nc`), and wait for its answers. Where requests have no time limit, and a server is
    /// silent, that would go on for ever.
    #[cold]
    fn is_leaving(&mut self, id: SessionId, now: Instant) {
        let Self { engine, clients, .. } = self;
        let Some(client) = clients.get(id) else { return };
        if client.ended && client.stream.is_dead() && !engine.client_has_more(id) {
            self.dismiss(id, true);
        } else if !client.leaves && engine.client_waits_for_ever(id) {
            (client.leaves, client.moved) = (true, false);
            let progress = engine.client_progress(id);
            clients.leaving.push_back(Leaving { id, at: now + LEAVING_LIMIT, progress });
        }
    }

    /// Lets those go that sent no more and got nothing for a while.
    pub(crate) fn let_go(&mut self, now: Instant) {
        while let Some(id) = self.clients.overdue(&self.engine, now) {
            self.dismiss(id, true);
        }
    }

    fn exchange(&mut self, id: SessionId, now: Instant) -> Became {
        let Self { engine, clients, scratch, poller, slack, most_read, handled, .. } = self;
        let Clients { places, whole, .. } = clients;
        let client = places.get_mut(id.index()).and_then(Option::as_mut).filter(|client| client.id == id);
        let Some(client) = client else {
            return Became::Quiet;
        };
        let Client { stream, dialect, admission, has_spoken, had_turn, sated, bulky, ended, moved, .. } = client;
        let most = READ_BUDGET.min(*most_read);
        let mut budget = most;
        let mut room = if *sated { 0 } else { WRITE_BUDGET };
        loop {
            loop {
                let output = match dialect {
                    None => engine.client_output(id),
                    Some(dialect) => match translated(engine, id, dialect, now) {
                        Ok(output) => output,
                        Err(Unexpected) => return Became::Broken,
                    },
                };
                if output.is_empty() {
                    break;
                }
                if room == 0 {
                    if !std::mem::replace(sated, true) {
                        *handled += WRITE_BUDGET; // which takes as long
                    }
                    return if std::mem::replace(had_turn, true) { Became::Quiet } else { Became::Longwinded };
                }
                match stream.write([&output[..output.len().min(room)], b""]) {
                    Poll::Ready(Ok(0) | Err(_)) => return Became::Broken,
                    Poll::Ready(Ok(count)) => {
                        *moved = true;
                        let done = dialect.as_mut().map_or(count, |dialect| dialect.wrote(count));
                        let made = if done > 0 { engine.client_wrote(id, done, now) } else { 0 };
                        room = (room - count).saturating_sub(made);
                    }
                    Poll::Pending if stream.watch_room(poller, Token::Client(seat_of(id))).is_err() => {
                        return Became::Broken;
                    }
                    Poll::Pending => break,
                }
            }
            if dialect.as_ref().is_some_and(|dialect| dialect.is_over()) {
                (*dialect, *admission) = (None, Admission::Admitted);
            }
            let status = engine.client_status(id);
            if status.finished {
                return Became::Finished;
            }
            let reads = status.reads && dialect.as_ref().is_none_or(|dialect| !dialect.is_full());
            if !reads || *had_turn || !stream.is_readable() {
                return if stream.is_over() && !status.reads { Became::Leaving } else { Became::Quiet };
            }
            if budget == 0 {
                *had_turn = true;
                return Became::Longwinded;
            }
            let (read, is_large) = match engine.client_room(id) {
                Room::Nowhere => return Became::Quiet,
                Room::Here(message) if dialect.is_none() => (stream.append(message, budget), true),
                Room::Here(_) => (stream.read(&mut scratch[..READ_LIMIT]), false),
                Room::Anywhere(most) => (stream.read(&mut scratch[..most.min(READ_LIMIT)]), false),
            };
            match read {
                Poll::Pending => return Became::Quiet,
                Poll::Ready(Err(_)) => return Became::Broken,
                Poll::Ready(Ok(0)) => {
                    *ended = true;
                    engine.client_ended(id, now);
                }
                Poll::Ready(Ok(count)) => {
                    *moved = true;
                    budget = budget.saturating_sub(count);
                    *bulky = is_large && most - budget >= BULKY;
                    *handled += count;
                    if is_large {
                        engine.client_filled(id, now);
                        slack.heed(engine.memory(), count);
                    } else {
                        if !std::mem::replace(has_spoken, true) {
                            *dialect = dialect::told_by(scratch[0], engine.client_is_of_memcached(id), *admission);
                        }
                        match dialect {
                            None => engine.client_data(id, &scratch[..count], now),
                            Some(dialect) => {
                                if dialect.is_guarded() {
                                    ask_guarded(engine, id, dialect, (&scratch[..count], whole), now);
                                } else {
                                    dialect.ask(&scratch[..count], whole);
                                }
                                engine.client_data(id, whole, now);
                            }
                        }
                    }
                    let has_answers = dialect.as_ref().is_some_and(|dialect| !dialect.output().is_empty());
                    if !stream.is_readable() && !engine.client_is_marked(id) && !has_answers {
                        return Became::Quiet;
                    }
                }
            }
        }
    }

    #[cold]
    fn dismiss(&mut self, id: SessionId, failed: bool) {
        if self.engine.is_stranger(id) {
            self.clients.remember(id);
        }
        self.engine.client_gone(id, failed);
        self.clients.remove(id);
        self.has_left();
    }
}

/// What is to be written to a client that is answered in other words.
fn translated<'a>(
    engine: &mut Engine,
    id: SessionId,
    dialect: &'a mut Dialect,
    now: Instant,
) -> Result<&'a [u8], Unexpected> {
    loop {
        let silent = dialect.make_ready(engine.client_output(id))?;
        if silent == 0 {
            return Ok(dialect.output());
        }
        engine.client_wrote(id, silent, now);
    }
}

/// What a client has sent that may have to say who it is.
#[cold]
fn ask_guarded(
    engine: &mut Engine,
    id: SessionId,
    dialect: &mut Dialect,
    (sent, text): (&[u8], &mut Vec<u8>),
    now: Instant,
) {
    let admits = |user: &[u8], password: &[u8]| engine.admits(id, user, password);
    dialect.ask_guarded(sent, text, engine.asks_who(id).then_some(&admits));
    let denied = dialect.take_denied();
    if denied > 0 {
        engine.client_denied(id, denied, now);
    }
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
