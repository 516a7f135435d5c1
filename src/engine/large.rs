//! Large values: read straight into a buffer of their own, handed on in it, and the buffer used again.
//!
//! A value is collected whole before any of it is passed on, so that a server which dies in the middle of it costs a miss
//! and never half a value. What can be saved is the copying around it. Once the length of a message is known and much of
//! it is missing, the shell reads into the very buffer that holds its beginning ([`Room::Here`]). What the client's
//! socket does not take of it at once stays in that buffer, which becomes part of the client's output. Written out, it
//! goes to the [`BufferPool`] for the next one: fresh pages cost as much as a copy.

use super::ids::{LinkId, SessionId};
use super::input::Dispatched;
use super::memory;
use super::request::Asked;
use super::ticket::Marks;
use super::{Engine, Outlet};
use crate::outcome::{self, Class};
use crate::proto::memcache::request::{self, Parsed, Request};
use crate::proto::memcache::response::Violation;
use crate::proto::memcache::{Verb, encode};
use crate::proto::resp::reply::Scanned;
use crate::time::Instant;

/// A message of which so many bytes are missing is read into a buffer of its own.
pub(super) const LARGE: usize = 16 << 10;

/// Bytes of what follows that are read along with the end of a large message. Reading no further than its end would need
/// another call to learn that nothing follows, and one more for the beginning of the next.
pub(super) const BEHIND: usize = 4 << 10;

/// Where messages of this size come, more of them may: what is read of the next before its length is known has to be
/// copied, so it is no more than [`BEHIND`].
pub(super) const HUGE: usize = 128 << 10;

/// What is left of a response, and smaller than this, is copied.
const WORTH_KEEPING: usize = 16 << 10;

/// The sizes of buffers that are kept for later.
const STOCKED: std::ops::RangeInclusive<usize> = 64 << 10..=2 << 20;

/// The most that all of them take.
const KEPT_LIMIT: usize = 4 << 20;

/// Where the next bytes of a connection are best read to.
#[derive(Debug)]
pub enum Room<'a> {
    /// Anywhere, but no more than this at a time. Report with `client_data` or `link_data`.
    Anywhere(usize),
    /// To the end of the message that they belong to, up to its capacity. Report with `client_filled` or `link_filled`.
    /// How much one read brings is limited by what the kernel keeps for a socket (`tcp_rmem`).
    Here(&'a mut Vec<u8>),
    /// Nowhere, until [`Effect::Read`](super::Effect::Read): nobody takes them at the moment.
    Nowhere,
}

/// What is allocated with this size or more, the allocator gives back to the system as soon as it is free
/// (`oversize_threshold` of jemalloc). What has grown to it where it stood is kept for ten seconds.
const GIVEN_BACK: usize = 8 << 20;

/// Makes room for so many bytes behind a message, and no more.
pub(super) fn enlarge(message: &mut Vec<u8>, more: usize) {
    let wanted = message.len() + more;
    if wanted >= GIVEN_BACK && message.capacity() < wanted {
        let mut larger = Vec::with_capacity(wanted);
        larger.extend_from_slice(message);
        *message = larger;
    } else {
        message.reserve_exact(more);
    }
}

/// What one message may take.
#[derive(Debug, Clone, Copy)]
struct Space {
    at_rest: usize,
    /// While it is moved to a larger place, and both are there.
    moving: usize,
}

/// Buffers that large values have been in, for the next ones: their pages are there.
#[derive(Debug)]
pub(super) struct BufferPool {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
    limit: usize,
}

impl BufferPool {
    /// An empty one, of a worker with so much memory.
    pub(super) fn new(memory_limit: usize) -> Self {
        Self { buffers: Vec::new(), bytes: 0, limit: KEPT_LIMIT.min(memory_limit / 16) }
    }

    /// Memory that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a buffer that nobody needs any more.
    fn put(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if !STOCKED.contains(&capacity) || capacity > self.limit {
            return;
        }
        buffer.clear();
        while self.bytes + capacity > self.limit {
            // The smaller ones give way; when there are none, the new one does.
            let smaller = (0..self.buffers.len())
                .min_by_key(|index| self.buffers[*index].capacity())
                .filter(|index| self.buffers[*index].capacity() < capacity);
            let Some(index) = smaller else { return };
            self.bytes -= self.buffers.swap_remove(index).capacity();
        }
        self.bytes += capacity;
        self.buffers.push(buffer);
    }

    /// The smallest that has room for `wanted` bytes; if none has, the largest that has room for more than `least`.
    fn take(&mut self, wanted: usize, least: usize) -> Option<Vec<u8>> {
        let capacity = |index: &usize| self.buffers[*index].capacity();
        // Of equal ones the last that came: its pages are still in the caches.
        let index = (0..self.buffers.len())
            .rev()
            .filter(|index| capacity(index) >= wanted)
            .min_by_key(capacity)
            .or_else(|| (0..self.buffers.len()).max_by_key(capacity).filter(|index| capacity(index) > least))?;
        let buffer = self.buffers.remove(index);
        self.bytes -= buffer.capacity();
        Some(buffer)
    }

    /// Makes room behind the beginning of a message of which so much is missing, and not much more. Room grows with what
    /// has come, not with what was announced, unless there would be no room to move it once more.
    fn make_room(&mut self, message: &mut Vec<u8>, missing: usize, space: Space) {
        let wanted = missing + BEHIND;
        if message.capacity() - message.len() < missing.min(LARGE) {
            let mut grown = wanted.min(message.len().max(LARGE));
            let whole = message.len() + wanted;
            if whole <= space.at_rest && message.len() + grown + whole > space.moving {
                grown = wanted;
            }
            match self.take(message.len() + wanted, message.len() + grown) {
                Some(mut larger) => {
                    larger.extend_from_slice(message);
                    self.put(std::mem::replace(message, larger));
                }
                None => enlarge(message, grown),
            }
        }
        if message.capacity() - message.len() > wanted + BEHIND {
            message.shrink_to(message.len() + wanted); // where it stands: only the end of it is given back
        }
    }
}

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
        let Some(session) = self.sessions.get_mut(id.index()).filter(|session| session.generation == id.generation)
        else {
            return Room::Anywhere(usize::MAX);
        };
        if session.paused.is_some() || session.partial.is_empty() {
            return Room::Anywhere(if session.huge { BEHIND } else { usize::MAX });
        }
        let missing = session.need.saturating_sub(session.partial.len());
        if missing < LARGE {
            return Room::Anywhere(usize::MAX);
        }
        let space = self.space(self.session_ref(id).map_or(0, |session| session.partial.capacity()));
        self.with_buffers(|buffers, engine| {
            if let Some(session) = engine.session(id) {
                buffers.make_room(&mut session.partial, missing, space);
            }
        });
        self.charge_session(id);
        match self.session(id) {
            Some(session) => Room::Here(&mut session.partial),
            None => Room::Anywhere(usize::MAX),
        }
    }

    /// Bytes of a client were read into [`Engine::client_room`].
    #[inline(never)]
    pub fn client_filled(&mut self, id: SessionId, now: Instant) {
        self.refresh(now);
        if let Some(session) = self.session(id)
            && session.partial.len() >= session.need
        {
            session.huge = session.need >= HUGE;
            self.hand_on(id, now);
            self.parse_partial(id, now);
            if let Some(session) = self.session(id).filter(|session| session.partial.is_empty()) {
                let buffer = std::mem::take(&mut session.partial);
                self.keep_buffer(buffer);
            }
            self.charge_session(id);
        } else if self.memory.held() > self.memory.limits().input {
            self.starve(id, 0, now);
        }
        self.settle(now);
    }

    /// A large `set` that is all that a client has sent goes out in the buffer that it came in, if nothing else is on its
    /// way to its server. Otherwise it is left to be carried out like any other request.
    fn hand_on(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.session(id) else { return };
        let is_next = session.paused.is_none() && session.has_room() && session.skip.is_none() && !session.closing;
        let pool = session.pool;
        if !is_next || session.long_get.is_some() || session.redis.is_some() || session.partial.len() != session.need {
            return;
        }
        let mut buffer = std::mem::take(&mut session.partial);
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
        let outcome = self.send_one(id, asked, Marks::NONE, &key, now, |out, cap| {
            if out.is_empty() && cap.is_none() {
                std::mem::swap(out, &mut buffer);
            } else if let Parsed::Complete { request: Request::Store(store), .. } = request::parse(&buffer, value_limit)
            {
                encode::store(out, &store, cap);
            }
        });
        if outcome == Dispatched::Backpressured {
            self.put_off_request();
            return self.put_back(id, buffer);
        }
        self.note_large(id, number, len);
        self.count_request(pool);
        self.end_request(pool, outcome::Outcome::Local);
        if let Some(session) = self.session(id) {
            session.need = 0;
        }
        self.keep_buffer(buffer);
        self.arm_session(id);
    }

    fn put_back(&mut self, id: SessionId, buffer: Vec<u8>) {
        if let Some(session) = self.session(id) {
            session.partial = buffer;
        }
    }

    /// So many bytes came from a client that is known for large values, and were read elsewhere.
    pub(super) fn client_read(&mut self, id: SessionId, count: usize) {
        if let Some(session) = self.session(id) {
            session.huge &= count < BEHIND || session.need >= HUGE;
        }
    }

    /// Where a server's next bytes are best read to.
    pub fn link_room(&mut self, id: LinkId, epoch: u32) -> Room<'_> {
        let link = &self.links[id.index()];
        if link.epoch != epoch || link.generation != id.generation || !link.is_up() {
            return Room::Anywhere(usize::MAX);
        }
        if link.listens()
            && let Some(room) = self.crawl_room(id)
        {
            return room;
        }
        let link = &self.links[id.index()];
        let Some(stream) = link.stream() else { return Room::Anywhere(usize::MAX) };
        if stream.partial.is_empty() {
            return Room::Anywhere(if stream.huge { BEHIND } else { usize::MAX });
        }
        let mut missing = stream.need.saturating_sub(stream.partial.len());
        if missing < LARGE {
            return Room::Anywhere(usize::MAX);
        }
        if stream.cursor.scan.is_some_and(|scan| scan.holds_more()) {
            // So much is missing at the least. Room that grows by little at a time is moved at every turn; room for more than
            // the whole may have is of no use.
            let (len, most) = (stream.partial.len(), self.reply_room(link).saturating_sub(BEHIND));
            missing = missing.max(memory::growth(len, 0, most).min(most.saturating_sub(len)));
        }
        let space = self.space(stream.partial.capacity());
        self.with_buffers(|buffers, engine| {
            if let Some(stream) = engine.links[id.index()].stream_mut() {
                buffers.make_room(&mut stream.partial, missing, space);
            }
        });
        self.charge_link(id);
        match self.links[id.index()].stream_mut() {
            Some(stream) => Room::Here(&mut stream.partial),
            None => Room::Anywhere(usize::MAX),
        }
    }

    /// `count` bytes of a server were read into [`Engine::link_room`]. `outlet` leads straight to the clients.
    #[inline(never)]
    pub fn link_filled(&mut self, id: LinkId, epoch: u32, count: usize, now: Instant, outlet: &mut dyn Outlet) {
        self.refresh(now);
        if self.link_is_current(id, epoch) && self.links[id.index()].is_up() {
            self.hear(id, count, now);
            if self.links[id.index()].stream().is_some_and(|stream| stream.partial.len() >= stream.need) {
                let outcome = self.deliver_large(id, outlet);
                self.judge(id, outcome, now);
            }
            let link = &self.links[id.index()];
            if link.crowded | link.leaves {
                self.after_delivery(id, now);
            }
        }
        self.settle(now);
    }

    /// Passes on the large response that has become whole, and what was read along with its end.
    fn deliver_large(&mut self, id: LinkId, outlet: &mut dyn Outlet) -> Result<(), Violation> {
        let Some(stream) = self.links[id.index()].stream_mut() else { return Ok(()) };
        stream.huge = stream.need >= HUGE;
        let mut buffer = std::mem::take(&mut stream.partial);
        let need = stream.need;
        let end = if stream.cursor.scan.is_some() { self.response_end(id, &buffer) } else { need };
        let behind = buffer.split_off(end);
        let rest = self.consume_large(id, buffer, behind, outlet)?;
        self.keep_partial(id, rest);
        Ok(())
    }

    /// Passes on what there is of responses in a large buffer and in what was read `behind` it; returns what is left of
    /// both. If the buffer is one response, the client gets it in this very buffer.
    pub(super) fn consume_large(
        &mut self,
        id: LinkId,
        mut buffer: Vec<u8>,
        mut behind: Vec<u8>,
        outlet: &mut dyn Outlet,
    ) -> Result<Vec<u8>, Violation> {
        self.charge_link(id); // the buffer is to be the client's
        let least = WORTH_KEEPING.max(buffer.capacity() / 4);
        let mut keeping = Keeping { outlet, len: buffer.len(), least, rest: None };
        let used = self.consume(id, &buffer, &mut keeping)?;
        match keeping.rest {
            _ if used < buffer.len() => {
                // It is longer than it said, as when the request that it turns out to be for is the last one of its line.
                buffer.drain(..used);
                buffer.append(&mut behind);
                behind = buffer;
            }
            Some(Rest { client, written, tail }) => {
                buffer.extend_from_slice(&tail);
                if let Some(session) = self.session(client) {
                    session.output.push_rest(buffer, written);
                }
                self.charge_session(client);
                self.touch_session(client);
            }
            None => self.keep_buffer(buffer),
        }
        if !behind.is_empty() {
            let used = self.consume(id, &behind, outlet)?;
            behind.drain(..used);
        }
        Ok(behind)
    }

    /// Where the response at the front of a server's bytes ends, if that is known and something follows.
    pub(super) fn response_end(&self, id: LinkId, input: &[u8]) -> usize {
        let mut scan = self.links[id.index()].scan();
        match scan.as_mut().map(|scan| scan.advance(input)) {
            Some(Scanned::Complete { len }) => len,
            _ => input.len(),
        }
    }

    /// Keeps the beginning of a response, unless its connection is over.
    pub(super) fn keep_partial(&mut self, id: LinkId, partial: Vec<u8>) {
        if let Some(stream) = self.links[id.index()].stream_mut() {
            stream.partial = partial;
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

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: Space = Space { at_rest: usize::MAX, moving: usize::MAX };

    #[test]
    fn a_message_is_moved_while_there_is_room_for_both_places() {
        let limit = 64 << 20;
        let (at_rest, moving) = memory::Limits::of(limit).room_for_one();
        for megabytes in [20, 30, 45, 59] {
            let (mut buffers, mut message, whole) = (BufferPool::new(limit), vec![0; 100], megabytes << 20);
            while message.len() < whole {
                let (before, sent) = (message.capacity(), message.len());
                buffers.make_room(&mut message, whole - sent, Space { at_rest, moving });
                let now = message.capacity();
                let both = if now == before { now } else { now + before };
                assert!(both <= limit + (8 << 20), "{before} and {now} bytes at once for {whole}");
                assert!(now <= 8 * sent.max(LARGE), "{now} bytes where {sent} have come of {whole}");
                message.resize(now.min(whole), 0);
            }
        }
    }

    #[test]
    fn room_grows_with_what_has_come() {
        let mut buffers = BufferPool::new(512 << 20);
        let mut message = vec![0; 100];
        while message.len() < 3 << 20 {
            let missing = (60 << 20) - message.len();
            buffers.make_room(&mut message, missing, PLENTY);
            let room = message.capacity() - message.len();
            assert!(room > 0 && room <= message.len().max(LARGE));
            message.resize(message.len() + room.min(70_000), 0);
        }
    }

    #[test]
    fn buffers_are_used_again_and_the_stock_stays_small() {
        let mut buffers = BufferPool::new(512 << 20);
        for size in [64 << 10, 1 << 20, 1 << 20, 2 << 20, 300_000, 10, 3 << 20] {
            buffers.put(Vec::with_capacity(size));
            assert!(buffers.bytes() <= KEPT_LIMIT);
        }
        assert_eq!(buffers.bytes(), 4 << 20, "the small one had to go");
        let mut message = b"VALUE key 0 900000\r\n".to_vec();
        buffers.make_room(&mut message, 900_000, PLENTY);
        assert_eq!((message.capacity(), &message[..]), (20 + 900_000 + BEHIND, &b"VALUE key 0 900000\r\n"[..]));
        assert_eq!(buffers.bytes(), 3 << 20);
        assert_eq!(BufferPool::new(1 << 20).limit, 64 << 10, "a worker with little memory keeps little");
    }
}
