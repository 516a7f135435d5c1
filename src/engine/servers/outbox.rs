//! The bytes for one server, kept until they are answered.
//!
//! An outbox is a window of the stream to the server: in front what has been written and not yet answered, behind it
//! what has not been written. Positions are offsets in the whole stream (modulo 2^32), so a ticket can name the place
//! of its request. Keeping the written part serves two ends: a response is checked against the very request that it
//! should answer, and a request can be sent again when its connection dies.

use std::collections::VecDeque;

use super::ahead::Ahead;
use crate::engine::shared::Shared;
use crate::time::Instant;

/// Freed space in front that is not worth moving the rest for.
const SLACK: usize = 16 << 10;

/// Capacity that an empty outbox keeps.
const KEPT_CAPACITY: usize = 64 << 10;

/// Times of writes that are closer together than so many nanoseconds are told as one.
const WRITES_APART: u64 = 2_000_000;

/// Times of writes that are kept. When there are more, every other one goes: the longer ago, the less exact.
const WRITES_KEPT: usize = 64;

/// No index is as high. So the checks of bounds that are made at each turn find out as well where nothing can be found.
const AHEAD: usize = usize::MAX / 2;

/// A position in the stream to a server, modulo 2^32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Offset(u32);

impl Offset {
    /// Bytes from `start` up to here.
    #[inline]
    pub(crate) const fn since(self, start: Self) -> usize {
        self.0.wrapping_sub(start.0) as usize
    }

    /// So many bytes behind it.
    pub(super) const fn behind(self, bytes: usize) -> Self {
        Self(self.0.wrapping_add(offset(bytes)))
    }
}

/// Requests on their way to a server.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    /// Index of the first byte that is still needed.
    head: usize,
    /// Index of the first byte that has not been written; [`AHEAD`] while that stands ahead.
    written: usize,
    /// Offset in the stream of index 0.
    base: u32,
    /// What stands before that, where large requests do.
    ahead: Option<Box<Ahead>>,
    /// How many bytes of that wait to be written, and [`AHEAD`], while any do; else 0. And the memory that it takes. Both are asked
    /// at each turn.
    ahead_waiting: usize,
    ahead_footprint: usize,
    /// A large buffer that is done with.
    spent: Vec<u8>,
    /// Up to where had been written when: the last time, and those before, oldest first.
    last_write: (Offset, Instant),
    writes: VecDeque<(Offset, Instant)>,
}

/// When the end of a request was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// It was not.
    Not,
    /// Then, or [`WRITES_APART`] later.
    At(Instant),
    /// That is not known any more.
    Unknown,
}

impl Outbox {
    /// Where the next byte goes.
    pub(crate) fn end(&self) -> Offset {
        Offset(self.base.wrapping_add(offset(self.bytes.len())))
    }

    /// The buffer to append a request to.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends a large request in the buffer that it came in.
    pub(super) fn push_whole(&mut self, request: Shared) {
        let written = self.tail_written();
        let ahead = self.ahead.get_or_insert_default();
        if !self.bytes.is_empty() {
            let (start, bytes) = (Offset(self.base), std::mem::take(&mut self.bytes));
            self.base = self.base.wrapping_add(offset(bytes.len()));
            ahead.push_own(start, bytes, (self.head, written));
        }
        let (start, len) = (Offset(self.base), request.len());
        ahead.push_whole(start, request);
        (self.ahead_waiting, self.ahead_footprint) = (AHEAD + ahead.waiting(), ahead.footprint());
        self.advance_base(len);
        (self.head, self.written) = (0, AHEAD);
    }

    /// How many of `bytes` have been written.
    const fn tail_written(&self) -> usize {
        if self.written == AHEAD { 0 } else { self.written }
    }

    /// The large request that starts there, if it is one that was appended so.
    pub(super) fn whole(&self, start: Offset) -> Option<&Shared> {
        self.ahead.as_ref()?.whole(start)
    }

    /// A large buffer of its own that it does not need any more.
    pub(crate) fn take_spent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.spent)
    }

    /// The bytes from `start` on: the request that starts there, and what is in one place with it.
    #[inline]
    pub(crate) fn from(&self, start: Offset) -> &[u8] {
        if self.ahead.is_some() { self.stands_ahead(start) } else { &self.bytes[self.index(start)..] }
    }

    /// The bytes of a request.
    pub(crate) fn between(&self, start: Offset, end: Offset) -> &[u8] {
        if self.ahead.is_some() {
            return self.stands_ahead(start).get(..end.since(start)).unwrap_or_default();
        }
        &self.bytes[self.index(start)..self.index(end)]
    }

    #[cold]
    #[inline(never)]
    fn stands_ahead(&self, start: Offset) -> &[u8] {
        let ahead = || self.ahead.as_ref().map_or(&[][..], |ahead| ahead.from(start));
        self.bytes.get(self.index(start)..).unwrap_or_else(ahead)
    }

    /// Makes the line that starts at `start`, the last one, go on with the line in front of it: without the first `word`
    /// bytes. Returns where it starts then; `None` when the end of the line in front has begun to leave.
    pub(crate) fn join(&mut self, start: Offset, word: usize) -> Option<Offset> {
        let at = self.index(start);
        let joined = at.checked_sub(2).filter(|joined| *joined >= self.written)?;
        self.bytes.copy_within(at + word.., joined);
        self.bytes.truncate(self.bytes.len() - 2 - word);
        Some(Offset(start.0.wrapping_sub(2)))
    }

    fn index(&self, offset: Offset) -> usize {
        offset.0.wrapping_sub(self.base) as usize
    }

    /// Bytes that wait to be written.
    pub(crate) fn unwritten(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_else(|| self.unwritten_ahead())
    }

    #[cold]
    #[inline(never)]
    fn unwritten_ahead(&self) -> &[u8] {
        self.ahead.as_ref().map_or(&[], |ahead| ahead.unwritten())
    }

    /// How many bytes wait to be written.
    #[inline]
    pub(crate) const fn waiting(&self) -> usize {
        self.bytes.len().wrapping_sub(self.written).wrapping_add(self.ahead_waiting)
    }

    /// Bytes that have been written and are kept until they are answered.
    pub(crate) fn unanswered(&self) -> usize {
        self.tail_written() - self.head + self.ahead.as_ref().map_or(0, |ahead| ahead.unanswered())
    }

    /// Whether no byte from `start` on has been written.
    pub(crate) fn is_unwritten(&self, start: Offset) -> bool {
        let index = self.index(start);
        match &self.ahead {
            Some(ahead) if index > self.bytes.len() => ahead.is_unwritten(start),
            _ => index >= self.tail_written(),
        }
    }

    /// The first `count` bytes of [`Outbox::unwritten`] were written at `now`. Whether none waits any more.
    #[inline]
    pub(crate) fn wrote(&mut self, count: usize, now: Instant) -> bool {
        let written = self.written + count;
        if written > self.bytes.len() {
            return self.wrote_ahead(count, now);
        }
        self.written = written;
        self.note_write(Offset(self.base).behind(written), now);
        written == self.bytes.len()
    }

    #[cold]
    #[inline(never)]
    fn wrote_ahead(&mut self, count: usize, now: Instant) -> bool {
        debug_assert!(self.written == AHEAD, "wrote more than there was");
        let Some(ahead) = &mut self.ahead else { return true };
        let of_tail = ahead.wrote(count);
        self.ahead_waiting = AHEAD + ahead.waiting();
        if ahead.waiting() == 0 {
            (self.written, self.ahead_waiting) = (of_tail, 0);
        }
        self.note_write(self.written_end(), now);
        self.waiting() == 0
    }

    /// What ends at `end` was written at `now`.
    #[inline]
    fn note_write(&mut self, end: Offset, now: Instant) {
        if now.as_nanos().saturating_sub(self.last_write.1.as_nanos()) >= WRITES_APART {
            self.keep_write(end, now);
        }
        self.last_write.0 = end;
    }

    #[inline(never)]
    fn keep_write(&mut self, end: Offset, now: Instant) {
        let needed = offset(self.unanswered());
        while self.writes.front().is_some_and(|(known, _)| end.0.wrapping_sub(known.0) >= needed) {
            self.writes.pop_front(); // everything that was written then has been answered
        }
        if self.writes.len() == WRITES_KEPT {
            let mut is_odd = true;
            self.writes.retain(|_| {
                is_odd = !is_odd;
                is_odd
            });
        }
        self.writes.push_back(std::mem::replace(&mut self.last_write, (end, now)));
    }

    fn written_end(&self) -> Offset {
        let ahead = self.ahead.as_ref().and_then(|ahead| ahead.written_end());
        ahead.unwrap_or_else(|| Offset(self.base).behind(self.tail_written()))
    }

    /// When what ends at `end` was written.
    pub(crate) fn written(&self, end: Offset) -> Written {
        // Nobody is asked for half of what offsets can tell before the first of it is answered.
        if self.written_end().since(end) > u32::MAX as usize / 2 {
            return Written::Not;
        }
        // How far back from where writing is now: offsets themselves go round.
        let back = |offset: Offset| self.written_end().0.wrapping_sub(offset.0);
        let mut writes = self.writes.iter().chain([&self.last_write]);
        let write = writes.find(|(known, _)| back(*known) <= back(end));
        write.map_or(Written::Unknown, |(_, at)| Written::At(*at))
    }

    /// Everything before `start` has been answered. Whether there is something to [take](Outbox::take_spent).
    pub(crate) fn release(&mut self, start: Offset) -> bool {
        if self.ahead.is_some() {
            return self.release_ahead(start);
        }
        // An early refusal may answer a request of which the end has not been written yet.
        self.head = self.index(start).min(self.written);
        self.compact()
    }

    /// The same where something stands ahead.
    #[cold]
    #[inline(never)]
    fn release_ahead(&mut self, start: Offset) -> bool {
        let Some(ahead) = &mut self.ahead else { return false };
        let (is_over, spent) = ahead.release(start);
        if spent.capacity() > KEPT_CAPACITY {
            self.spent = spent;
        }
        self.ahead_footprint = if is_over { 0 } else { ahead.footprint() };
        if is_over {
            self.ahead = None;
            self.head = self.index(start).min(self.written);
            self.compact();
        }
        self.spent.capacity() > 0
    }

    /// Whether there is a large buffer that is not needed any more.
    fn compact(&mut self) -> bool {
        let mut is_spent = false;
        if self.head == self.bytes.len() {
            self.advance_base(self.head);
            self.bytes.clear();
            if self.bytes.capacity() > KEPT_CAPACITY {
                self.spent = std::mem::take(&mut self.bytes);
                is_spent = true;
            }
            (self.head, self.written) = (0, 0);
        } else if self.head >= SLACK && self.head >= self.bytes.len() - self.head {
            self.advance_base(self.head);
            self.bytes.drain(..self.head);
            self.written -= self.head;
            self.head = 0;
        }
        is_spent
    }

    fn advance_base(&mut self, by: usize) {
        self.base = self.base.wrapping_add(offset(by));
    }

    /// Memory that it holds. What is done with is [taken](Outbox::take_spent) at once.
    pub(crate) fn footprint(&self) -> usize {
        self.bytes.capacity() + self.ahead_footprint
    }
}

/// A number of bytes, as offsets count them.
#[expect(clippy::cast_possible_truncation, reason = "offsets count modulo 2^32")]
const fn offset(bytes: usize) -> u32 {
    bytes as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn requests_stay_until_they_are_answered() {
        let mut outbox = Outbox::default();
        let first = outbox.end();
        outbox.tail().extend_from_slice(b"get a\r\n");
        let second = outbox.end();
        outbox.tail().extend_from_slice(b"get b\r\n");
        assert_eq!(outbox.unwritten(), b"get a\r\nget b\r\n");
        outbox.wrote(10, Instant::ZERO);
        assert!(!outbox.is_unwritten(second), "some of it has left");
        outbox.release(second);
        assert_eq!(outbox.between(second, outbox.end()), b"get b\r\n");
        assert_eq!(outbox.unwritten(), b" b\r\n");
        let _ = first;
        outbox.wrote(4, Instant::ZERO);
        outbox.release(outbox.end());
        assert!(outbox.unwritten().is_empty());
    }

    #[test]
    fn a_large_request_stays_in_its_buffer_between_the_others() {
        let large = Arc::new(vec![b'x'; 100_000]);
        let mut outbox = Outbox {
            base: u32::MAX - 50_000,
            last_write: (Offset(u32::MAX - 50_000), Instant::ZERO),
            ..Outbox::default()
        };
        let mut starts = Vec::new();
        for _ in 0..2 {
            starts.push(outbox.end());
            outbox.tail().extend_from_slice(b"get a\r\n");
            starts.push(outbox.end());
            outbox.push_whole(Shared::of(&large[10..], &large).expect("its own"));
        }
        starts.push(outbox.end());
        outbox.tail().extend_from_slice(b"get b\r\n");
        let end = outbox.end();
        assert_eq!(end.since(starts[0]), 2 * (7 + 99_990) + 7);
        assert_eq!((outbox.waiting(), outbox.unanswered()), (199_994 + 7, 0));
        let of = |outbox: &Outbox, place: usize| {
            outbox.between(starts[place], starts.get(place + 1).copied().unwrap_or(end)).to_vec()
        };
        let wanted = |place: usize| match place {
            4 => b"get b\r\n".to_vec(),
            1 | 3 => large[10..].to_vec(),
            _ => b"get a\r\n".to_vec(),
        };
        let mut written = 0;
        let mut answered = 0;
        // Written in pieces of which none goes beyond what stands in one place.
        while outbox.waiting() > 0 {
            let piece = outbox.unwritten();
            assert!(!piece.is_empty());
            let count = piece.len().min(30_000);
            outbox.wrote(count, Instant::from_nanos(1_000_000 * (1 + written as u64)));
            written += count;
            for (place, start) in starts.iter().enumerate().skip(answered) {
                assert_eq!(outbox.is_unwritten(*start), start.since(starts[0]) >= written, "{place}");
                assert_eq!(of(&outbox, place), wanted(place));
                let end = starts.get(place + 1).copied().unwrap_or(end);
                let is_written = end.since(starts[0]) <= written;
                assert_eq!(outbox.written(end) != Written::Not, is_written, "{place}");
                assert_eq!(outbox.whole(*start).is_some(), place % 2 == 1);
                if is_written {
                    outbox.release(end);
                    answered = place + 1;
                }
            }
            let kept = starts.get(answered).map_or(0, |start| written.saturating_sub(start.since(starts[0])));
            assert_eq!((outbox.waiting(), outbox.unanswered()), (end.since(starts[0]) - written, kept));
        }
        assert_eq!(answered, 5);
        assert!(outbox.ahead.is_none(), "what is answered is let go");
        assert_eq!(Arc::strong_count(&large), 1);
        outbox.tail().extend_from_slice(b"get c\r\n");
        assert_eq!((outbox.from(end), outbox.unwritten()), (&b"get c\r\n"[..], &b"get c\r\n"[..]));
    }

    #[test]
    fn a_large_request_that_is_refused_early_is_written_to_its_end() {
        let mut outbox = Outbox::default();
        let buffer = Arc::new(vec![b'x'; 100_000]);
        outbox.push_whole(Shared::of(&buffer, &buffer).expect("its own"));
        drop(buffer);
        let second = outbox.end();
        outbox.tail().extend_from_slice(b"get a\r\n");
        outbox.wrote(10, Instant::ZERO);
        outbox.release(second);
        assert_eq!((outbox.unwritten().len(), outbox.between(second, outbox.end())), (99_990, &b"get a\r\n"[..]));
        outbox.wrote(99_990, Instant::ZERO);
        assert_eq!(outbox.unwritten(), b"get a\r\n");
        outbox.wrote(7, Instant::ZERO);
        assert!(outbox.release(outbox.end()));
        assert_eq!(outbox.take_spent().len(), 100_000, "for the next large one");
    }

    #[test]
    fn lines_are_joined_while_the_end_of_the_first_is_here() {
        let mut outbox = Outbox::default();
        let first = outbox.end();
        outbox.tail().extend_from_slice(b"get a\r\n");
        outbox.wrote(3, Instant::ZERO);
        let second = outbox.end();
        outbox.tail().extend_from_slice(b"get bc\r\n");
        let joined = outbox.join(second, 3).unwrap();
        assert_eq!(outbox.between(first, joined), b"get a");
        assert_eq!(outbox.between(joined, outbox.end()), b" bc\r\n");
        assert_eq!(outbox.unwritten(), b" a bc\r\n");
        outbox.wrote(6, Instant::ZERO);
        let third = outbox.end();
        outbox.tail().extend_from_slice(b"get d\r\n");
        assert_eq!(outbox.join(third, 3), None, "half of the line's end is written");
        assert_eq!(outbox.unwritten(), b"\nget d\r\n");
        outbox.release(joined);
        outbox.release(third);
        let fourth = outbox.end();
        outbox.tail().extend_from_slice(b"get e\r\n");
        assert!(outbox.join(fourth, 3).is_some());
        assert_eq!(outbox.unwritten(), b"\nget d e\r\n");
    }

    #[test]
    fn offsets_survive_compaction_and_wrapping() {
        let mut outbox = Outbox { base: u32::MAX - 100, ..Outbox::default() };
        let mut starts = VecDeque::new();
        for round in 0u32..3000 {
            starts.push_back((outbox.end(), round));
            outbox.tail().extend_from_slice(format!("{round:0>40}\r\n").as_bytes());
            outbox.wrote(outbox.unwritten().len(), Instant::ZERO);
            if starts.len() > 600 {
                let (start, number) = starts.pop_front().unwrap();
                assert!(outbox.from(start).starts_with(format!("{number:0>40}").as_bytes()));
                outbox.release(starts.front().unwrap().0);
            }
        }
    }

    #[test]
    fn an_early_answer_does_not_drop_what_is_still_to_be_written() {
        let mut outbox = Outbox::default();
        outbox.tail().extend_from_slice(b"set a 0 0 5\r\nhello\r\n");
        outbox.wrote(13, Instant::ZERO);
        outbox.release(outbox.end());
        assert_eq!(outbox.unwritten(), b"hello\r\n");
    }

    #[test]
    fn it_is_known_when_a_request_was_written() {
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let base = u32::MAX - 20;
        let mut outbox = Outbox { base, last_write: (Offset(base), Instant::ZERO), ..Outbox::default() };
        let mut ends = Vec::new();
        for ms in 1..=2000 {
            outbox.tail().extend_from_slice(b"get a\r\n");
            assert_eq!(outbox.written(outbox.end()), Written::Not);
            outbox.wrote(7, at(10 * ms));
            ends.push(outbox.end());
        }
        assert!(outbox.writes.len() <= WRITES_KEPT);
        for (ms, end) in (1..).zip(&ends) {
            let Written::At(told) = outbox.written(*end) else { panic!("the write at {ms} is forgotten") };
            assert!(told >= at(10 * ms), "nothing is told as written before it was");
            let late = (told - at(10 * ms)).as_millis();
            assert!(late <= 64 * 10 + u128::from(2000 - ms) * 10, "{late} ms late for what was {ms}");
        }
        assert_eq!(outbox.written(ends[1999]), Written::At(at(20_000)));
        outbox.release(ends[1999]);
        outbox.tail().extend_from_slice(b"get bcd\r\n");
        outbox.wrote(4, at(20_001));
        assert_eq!(outbox.written(outbox.end()), Written::Not, "half of it is written");
        outbox.wrote(5, at(20_300));
        assert_eq!(outbox.written(outbox.end()), Written::At(at(20_300)));
        assert!(outbox.writes.len() <= 2, "what has been answered is forgotten: {:?}", outbox.writes);
    }
}
