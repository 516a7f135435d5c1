//! The bytes for one server, kept until they are answered.
//!
//! An outbox is a window of the stream to the server: in front what has been written and not yet answered, behind it
//! what has not been written. Positions are offsets in the whole stream (modulo 2^32), so a ticket can name the place
//! of its request. Keeping the written part serves two ends: a response is checked against the very request that it
//! should answer, and a request can be sent again when its connection dies.

use std::collections::VecDeque;

use crate::time::Instant;

/// Freed space in front that is not worth moving the rest for.
const SLACK: usize = 16 << 10;

/// Capacity that an empty outbox keeps.
const KEPT_CAPACITY: usize = 64 << 10;

/// Times of writes that are closer together than so many nanoseconds are told as one.
const WRITES_APART: u64 = 2_000_000;

/// Times of writes that are kept. When there are more, every other one goes: the longer ago, the less exact.
const WRITES_KEPT: usize = 64;

/// A position in the stream to a server, modulo 2^32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Offset(u32);

impl Offset {
    /// Bytes from `start` up to here.
    #[inline]
    pub(crate) const fn since(self, start: Self) -> usize {
        self.0.wrapping_sub(start.0) as usize
    }
}

/// Requests on their way to a server.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    /// Index of the first byte that is still needed.
    head: usize,
    /// Index of the first byte that has not been written.
    written: usize,
    /// Offset in the stream of index 0.
    base: u32,
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

    /// A large buffer of its own that it does not need any more.
    pub(crate) fn take_spent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.spent)
    }

    /// Whether [`Outbox::take_spent`] has one.
    #[inline]
    pub(crate) const fn has_spent(&self) -> bool {
        self.spent.capacity() > 0
    }

    /// The bytes from `start` on.
    #[inline]
    pub(crate) fn from(&self, start: Offset) -> &[u8] {
        &self.bytes[self.index(start)..]
    }

    /// The bytes between two offsets.
    pub(crate) fn between(&self, start: Offset, end: Offset) -> &[u8] {
        &self.bytes[self.index(start)..self.index(end)]
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
        &self.bytes[self.written..]
    }

    /// How many bytes wait to be written.
    #[inline]
    pub(crate) const fn waiting(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Bytes that have been written and are kept until they are answered.
    pub(crate) fn unanswered(&self) -> usize {
        self.written - self.head
    }

    /// Whether no byte from `start` on has been written.
    pub(crate) fn is_unwritten(&self, start: Offset) -> bool {
        self.index(start) >= self.written
    }

    /// The first `count` bytes of [`Outbox::unwritten`] were written.
    pub(crate) fn wrote(&mut self, count: usize) {
        self.written += count;
        debug_assert!(self.written <= self.bytes.len(), "wrote more than there was");
    }

    /// What has been written by now was written at `now`.
    #[inline]
    pub(crate) fn note_write(&mut self, now: Instant) {
        if now.as_nanos().saturating_sub(self.last_write.1.as_nanos()) >= WRITES_APART {
            self.keep_write(now);
        }
        self.last_write.0 = self.written_end();
    }

    #[inline(never)]
    fn keep_write(&mut self, now: Instant) {
        let end = self.written_end();
        let needed = offset(self.written - self.head);
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
        Offset(self.base.wrapping_add(offset(self.written)))
    }

    /// When what ends at `end` was written.
    pub(crate) fn written(&self, end: Offset) -> Written {
        if self.index(end) > self.written {
            return Written::Not;
        }
        // How far back from where writing is now: offsets themselves go round.
        let back = |offset: Offset| self.written_end().0.wrapping_sub(offset.0);
        let mut writes = self.writes.iter().chain([&self.last_write]);
        let write = writes.find(|(known, _)| back(*known) <= back(end));
        write.map_or(Written::Unknown, |(_, at)| Written::At(*at))
    }

    /// Everything before `start` has been answered.
    pub(crate) fn release(&mut self, start: Offset) {
        // An early refusal may answer a request of which the end has not been written yet.
        self.head = self.index(start).min(self.written);
        self.compact();
    }

    fn compact(&mut self) {
        if self.head == self.bytes.len() {
            self.advance_base(self.head);
            self.bytes.clear();
            if self.bytes.capacity() > KEPT_CAPACITY {
                self.spent = std::mem::take(&mut self.bytes);
            }
            (self.head, self.written) = (0, 0);
        } else if self.head >= SLACK && self.head >= self.bytes.len() - self.head {
            self.advance_base(self.head);
            self.bytes.drain(..self.head);
            self.written -= self.head;
            self.head = 0;
        }
    }

    fn advance_base(&mut self, by: usize) {
        self.base = self.base.wrapping_add(offset(by));
    }

    /// Memory that it holds.
    pub(crate) fn footprint(&self) -> usize {
        self.bytes.capacity() + self.spent.capacity()
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

    #[test]
    fn requests_stay_until_they_are_answered() {
        let mut outbox = Outbox::default();
        let first = outbox.end();
        outbox.tail().extend_from_slice(b"get a\r\n");
        let second = outbox.end();
        outbox.tail().extend_from_slice(b"get b\r\n");
        assert_eq!(outbox.unwritten(), b"get a\r\nget b\r\n");
        outbox.wrote(10);
        assert!(!outbox.is_unwritten(second), "some of it has left");
        outbox.release(second);
        assert_eq!(outbox.between(second, outbox.end()), b"get b\r\n");
        assert_eq!(outbox.unwritten(), b" b\r\n");
        let _ = first;
        outbox.wrote(4);
        outbox.release(outbox.end());
        assert!(outbox.unwritten().is_empty());
    }

    #[test]
    fn lines_are_joined_while_the_end_of_the_first_is_here() {
        let mut outbox = Outbox::default();
        let first = outbox.end();
        outbox.tail().extend_from_slice(b"get a\r\n");
        outbox.wrote(3);
        let second = outbox.end();
        outbox.tail().extend_from_slice(b"get bc\r\n");
        let joined = outbox.join(second, 3).unwrap();
        assert_eq!(outbox.between(first, joined), b"get a");
        assert_eq!(outbox.between(joined, outbox.end()), b" bc\r\n");
        assert_eq!(outbox.unwritten(), b" a bc\r\n");
        outbox.wrote(6);
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
            outbox.wrote(outbox.unwritten().len());
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
        outbox.wrote(13);
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
            outbox.wrote(7);
            outbox.note_write(at(10 * ms));
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
        outbox.wrote(4);
        outbox.note_write(at(20_001));
        assert_eq!(outbox.written(outbox.end()), Written::Not, "half of it is written");
        outbox.wrote(5);
        outbox.note_write(at(20_300));
        assert_eq!(outbox.written(outbox.end()), Written::At(at(20_300)));
        assert!(outbox.writes.len() <= 2, "what has been answered is forgotten: {:?}", outbox.writes);
    }
}
