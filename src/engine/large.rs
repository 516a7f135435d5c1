//! Large values: read straight into a buffer of their own, handed on in it, and the buffer used again.
//!
//! A value is collected whole before any of it is passed on, so that a server which dies in the middle of it costs a miss
//! and never half a value. What can be saved is the copying around it. Once the length of a message is known and much of
//! it is missing, the shell reads into the very buffer that holds its beginning ([`Room::Here`]). What the client's
//! socket does not take of it at once stays in that buffer, which becomes part of the client's output. Written out, it
//! goes to the [`BufferPool`] for the next one: fresh pages cost as much as a copy.

use super::buffers::{BEHIND, BufferPool, HUGE, LARGE, Room, Space};
use super::dispatched::Dispatched;
use super::ids::{LinkId, SessionId};
use super::memory;
use super::request::Asked;
use super::servers::ticket::{Marks, Ticket};
use super::shared::Shared;
use super::{Engine, Outlet};
use crate::outcome::{self, Class};
use crate::proto::memcache::request::{self, Parsed, Request};
use crate::proto::memcache::response::Violation;
use crate::proto::memcache::{Verb, encode};
use crate::proto::resp::reply::Scanned;
use crate::time::Instant;
use std::sync::Arc;

/// What is left of a response, and smaller than this, is copied.
const WORTH_KEEPING: usize = 16 << 10;

/// An outlet for the response that is all of a buffer: it claims to have written what the buffer can be kept for.
struct Keeping<'a> {
    outlet: &'a mut dyn Outlet,
    len: usize,
    /// What is left has to be this much.
    least: usize,
    rest: Option<Rest>,
}

/// What a client is still to get of a buffer.
struct Rest {
    client: SessionId,
    /// Bytes that have been written.
    written: usize,
    /// What follows on the buffer.
    tail: Vec<u8>,
}

impl Outlet for Keeping<'_> {
    fn offer(&mut self, client: SessionId, pieces: [&[u8]; 2]) -> usize {
        let written = self.outlet.offer(client, pieces);
        let len = pieces[0].len() + pieces[1].len();
        if pieces[0].len() < self.len || len - written < self.least {
            return written;
        }
        self.rest = Some(Rest { client, written, tail: pieces[1].to_vec() });
        len
    }
}

impl Engine {
    /// Where a client's next bytes are best read to.
    pub fn client_room(&mut self, id: SessionId) -> Room<'_> {
        let Some(session) = self.clients.get_mut(id) else {
            return Room::Anywhere(usize::MAX);
        };
        let held = session.input.capacity();
        let Some(missing) = session.input.missing() else { return Room::Anywhere(session.input.best_read()) };
        if missing < LARGE {
            return Room::Anywhere(usize::MAX);
        }
        let space = self.space(held);
        self.with_buffers(|buffers, engine| {
            if let Some(session) = engine.session(id) {
                buffers.make_room(session.input.buffer(), missing, space);
            }
        });
        self.charge_session(id);
        match self.session(id) {
            Some(session) => Room::Here(session.input.buffer()),
            None => Room::Anywhere(usize::MAX),
        }
    }

    /// Bytes of a client were read into [`Engine::client_room`].
    #[inline(never)]
    pub fn client_filled(&mut self, id: SessionId, now: Instant) {
        self.refresh(now);
        if let Some(session) = self.session(id)
            && session.input.is_whole()
        {
            session.input.was_filled();
            self.hand_on(id, now);
            self.parse_partial(id, now);
            if let Some(session) = self.session(id).filter(|session| session.input.is_empty()) {
                let buffer = session.input.take();
                self.keep_buffer(buffer);
            }
            self.charge_session(id);
        } else if self.memory.held() > self.memory.limits().input {
            self.starve(id, 0, now);
        }
        self.settle(now);
    }

    /// A large `set` that is all that a client has sent goes out in the buffer that it came in: a very large one always, any
    /// other if nothing else is on its way to its server. What is not such a `set` is left to be carried out like any other
    /// request.
    fn hand_on(&mut self, id: SessionId, now: Instant) {
        let looks_first = self.looks_first;
        let Some(session) = self.session(id) else { return };
        let is_next = session.input.is_one_message() && session.has_room() && !session.is_closing();
        let pool = session.pool();
        if !is_next || session.redis().is_some() || looks_first {
            return;
        }
        let mut buffer = session.input.take();
        let value_limit = self.value_limit(pool);
        // The key is needed while the buffer changes hands.
        let key: Box<[u8]> = match request::parse(&buffer, value_limit) {
            Parsed::Complete { len, request: Request::Store(store) }
                if len == buffer.len() && store.canonical.is_some() =>
            {
                store.key.into()
            }
            Parsed::Incomplete { .. }
            | Parsed::Complete { .. }
            | Parsed::Refused { .. }
            | Parsed::Foreign
            | Parsed::Http => {
                return self.put_back(id, buffer);
            }
        };
        self.begin_request(Class::Set);
        let asked = Asked::of_key(Verb::Set, &key, false, now);
        let (number, len) = (self.next_number(id), buffer.len());
        let outcome = match self.place(id, asked, Marks::NONE, &key, now) {
            Ok((link, None)) if len > self.memory.large => {
                let whole = Shared::all(std::mem::take(&mut buffer));
                self.enqueue_on(id, asked, Marks::NONE, link, now, |link| link.append_whole(whole));
                Dispatched::Done
            }
            Ok((link, cap)) => {
                self.enqueue(id, asked, Marks::NONE, link, now, |out| {
                    if out.is_empty() && cap.is_none() {
                        std::mem::swap(out, &mut buffer);
                    } else if let Parsed::Complete { request: Request::Store(store), .. } =
                        request::parse(&buffer, value_limit)
                    {
                        encode::store(out, &store, cap);
                    }
                });
                Dispatched::Done
            }
            Err(outcome) => outcome,
        };
        if outcome == Dispatched::Backpressured {
            self.put_off_request();
            return self.put_back(id, buffer);
        }
        self.note_large(id, number, len);
        self.count_request(pool);
        self.end_request(pool, outcome::Outcome::Local);
        if let Some(session) = self.session(id) {
            session.input.begin_message();
        }
        self.keep_buffer(buffer);
        self.arm_session(id);
    }

    fn put_back(&mut self, id: SessionId, buffer: Vec<u8>) {
        if let Some(session) = self.session(id) {
            session.input.put_back(buffer, 0);
        }
    }

    /// So many bytes came from a client that is known for large values, and were read elsewhere.
    pub(super) fn client_read(&mut self, id: SessionId, count: usize) {
        if let Some(session) = self.session(id) {
            session.input.was_read(count);
        }
    }

    /// Where a server's next bytes are best read to.
    pub fn link_room(&mut self, id: LinkId, epoch: u32) -> Room<'_> {
        let Some(link) = self.servers.current(id, epoch).filter(|link| link.is_up()) else {
            return Room::Anywhere(usize::MAX);
        };
        if link.listens()
            && let Some(room) = self.crawl_room(id)
        {
            return room;
        }
        let link = &self.servers[id];
        let Some(stream) = link.stream() else { return Room::Anywhere(usize::MAX) };
        if !stream.has_partial() {
            return Room::Anywhere(if stream.is_huge() { BEHIND } else { usize::MAX });
        }
        let ((len, room), mut missing) = (stream.partial_len(), stream.missing());
        if missing < LARGE {
            return Room::Anywhere(usize::MAX);
        }
        if stream.cursor().scan.is_some_and(|scan| scan.holds_more()) {
            // So much is missing at the least. Room that grows by little at a time is moved at every turn; room for more than
            // the whole may have is of no use.
            let most = self.reply_room(link).saturating_sub(BEHIND);
            missing = missing.max(memory::growth(len, 0, most).min(most.saturating_sub(len)));
        }
        let space = self.space(room);
        self.with_buffers(|buffers, engine| {
            if let Some(stream) = engine.servers[id].stream_mut() {
                buffers.make_room(stream.partial(), missing, space);
            }
        });
        self.charge_link(id);
        match self.servers[id].stream_mut() {
            Some(stream) => Room::Here(stream.partial()),
            None => Room::Anywhere(usize::MAX),
        }
    }

    /// `count` bytes of a server were read into [`Engine::link_room`]. `outlet` leads straight to the clients.
    #[inline(never)]
    pub fn link_filled(&mut self, id: LinkId, epoch: u32, count: usize, now: Instant, outlet: &mut dyn Outlet) {
        self.refresh(now);
        if self.link_is_current(id, epoch) && self.servers[id].is_up() {
            self.hear(id, count, now);
            self.note_bulk(id, count, now);
            if self.servers[id].stream().is_some_and(|stream| stream.missing() == 0) {
                let outcome = self.deliver_large(id, outlet);
                self.judge(id, outcome, now);
            }
            let link = self.servers.get(id);
            if link.is_some_and(|link| link.is_crowded() | link.is_retired()) {
                self.after_delivery(id, now);
            }
        }
        self.settle(now);
    }

    /// Passes on the large response that has become whole, and what was read along with its end.
    fn deliver_large(&mut self, id: LinkId, outlet: &mut dyn Outlet) -> Result<(), Violation> {
        let Some(stream) = self.servers[id].stream_mut() else { return Ok(()) };
        let need = stream.need();
        stream.set_huge(need >= HUGE);
        let mut buffer = stream.take_partial();
        let (end, is_whole) =
            if stream.cursor().scan.is_some() { self.response_end(id, &buffer) } else { (need, true) };
        let behind = buffer.split_off(end);
        let rest = self.consume_large(id, (buffer, is_whole), behind, outlet)?;
        self.keep_partial(id, rest);
        Ok(())
    }

    /// Passes on what there is of responses in a large buffer and in what was read `behind` it; returns what is left of
    /// both. If the buffer is one response, the client gets it in this very buffer. What may not be whole needs more room.
    pub(super) fn consume_large(
        &mut self,
        id: LinkId,
        (mut buffer, is_whole): (Vec<u8>, bool),
        mut behind: Vec<u8>,
        outlet: &mut dyn Outlet,
    ) -> Result<Vec<u8>, Violation> {
        self.charge_link(id); // the buffer is to be the client's
        let least = WORTH_KEEPING.max(buffer.capacity() / 4);
        let mut keeping = Keeping { outlet, len: buffer.len(), least, rest: None };
        if is_whole && self.servers[id].queue().front().is_some_and(is_part) {
            buffer.shrink_to_fit(); // it may wait for a while
        }
        // Who waits for it with answers of others shares it, and keeps it.
        let buffer = Arc::new(buffer);
        self.memory.whole = Some(Arc::clone(&buffer));
        let used = self.consume(id, &buffer, &mut keeping);
        self.memory.whole = None;
        let used = used?;
        match (Arc::try_unwrap(buffer), keeping.rest) {
            (Ok(mut buffer), _) if used < buffer.len() => {
                // It is longer than it said, as when the request that it turns out to be for is the last one of its line.
                buffer.drain(..used);
                buffer.append(&mut behind);
                behind = buffer;
            }
            (Ok(mut buffer), Some(Rest { client, written, tail })) => {
                buffer.extend_from_slice(&tail);
                if let Some(session) = self.session(client) {
                    session.output.push_rest(buffer, written);
                }
                self.charge_session(client);
                self.touch_session(client);
            }
            (Ok(buffer), None) => self.keep_buffer(buffer),
            (Err(kept), _) if used < kept.len() => {
                behind.splice(..0, kept[used..].iter().copied());
            }
            (Err(_), _) => {}
        }
        if !behind.is_empty() {
            let used = self.consume(id, &behind, outlet)?;
            behind.drain(..used);
        }
        Ok(behind)
    }

    /// Where the response at the front of a server's bytes ends, if that is known and something follows; and whether it may
    /// be whole.
    pub(super) fn response_end(&self, id: LinkId, input: &[u8]) -> (usize, bool) {
        let mut scan = self.servers[id].scan();
        match scan.as_mut().map(|scan| scan.advance(input)) {
            Some(Scanned::Complete { len }) => (len, true),
            Some(_) => (input.len(), false),
            None => (input.len(), true),
        }
    }

    /// Keeps the beginning of a response, unless its connection is over.
    pub(super) fn keep_partial(&mut self, id: LinkId, partial: Vec<u8>) {
        if let Some(stream) = self.servers.stream(id) {
            stream.keep_partial(partial);
        }
    }

    /// Takes a buffer that nobody needs any more.
    pub(super) fn keep_buffer(&mut self, buffer: Vec<u8>) {
        self.with_buffers(|buffers, _| buffers.put(buffer));
    }

    /// What a message may take that takes `held` bytes now.
    fn space(&self, held: usize) -> Space {
        let (at_rest, moving) = self.memory.limits().room_for_one();
        let others = self.memory.held().saturating_sub(held);
        Space { at_rest: at_rest.saturating_sub(others), moving: moving.saturating_sub(others) }
    }

    fn with_buffers<T>(&mut self, change: impl FnOnce(&mut BufferPool, &mut Self) -> T) -> T {
        let mut buffers = std::mem::replace(&mut self.memory.buffers, BufferPool::new(0));
        let before = buffers.bytes();
        let result = change(&mut buffers, self);
        self.memory.recharge(before, buffers.bytes());
        self.memory.buffers = buffers;
        result
    }
}

/// Whether what a request gets waits for other parts of its answer.
fn is_part(ticket: Ticket) -> bool {
    ticket.is(Marks::PART)
        || ticket.is(Marks::SPLIT) && matches!(ticket.verb, Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats)
}
