//! A client's connection: the engine's output to the socket, the socket's input to the engine.

use std::os::fd::{AsRawFd, OwnedFd};
use std::task::Poll;

use tracing::warn;

use super::clients::{Client, Clients, seat_of};
use super::departing::Departing;
use super::dialect::{self, Admission, Dialect};
use super::poller::Token;
use super::stream::Stream;
use super::turn::BULKY;
use super::worker::Worker;
use crate::config::model::PoolId;
use crate::engine::ids::SessionId;
use crate::engine::{Carried, Engine, Peer, Room};
use crate::proto::memcache::binary::Unexpected;
use crate::time::Instant;

/// Bytes read of a client in one turn, after which other connections get theirs.
const READ_BUDGET: usize = 256 << 10;

/// Bytes read of a client at a time. What it may not be asked yet is kept for it, so no more than this of each client.
const READ_LIMIT: usize = 64 << 10;

/// Bytes written to a client or a server in one turn, after which other connections get theirs. Some of them have to be put together.
/// (A test has no socket that takes as much at once.)
pub(super) const WRITE_BUDGET: usize = if cfg!(test) { 64 << 10 } else { 1 << 20 };

/// Where the connection of a client begins and ends.
fn peer_of(socket: &OwnedFd) -> Peer {
    let socket = socket2::SockRef::from(socket);
    let of = |address: std::io::Result<socket2::SockAddr>| address.ok()?.as_socket();
    let addresses = of(socket.peer_addr()).zip(of(socket.local_addr()));
    Peer { addresses, descriptor: socket.as_raw_fd() }
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
        client.ended = client.ended || engine.client_stops(id, now);
        if client.ended && client.stream.is_dead() && !engine.client_has_more(id) {
            self.dismiss(id, true);
        } else if !client.leaves && engine.client_waits_for_ever(id) {
            (client.leaves, client.moved) = (true, false);
            let progress = engine.client_progress(id);
            clients.leaves(id, progress, now);
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
