//! The bytes for one server, kept until they are answered.
//!
//! An outbox is a window of the stream to the server: in front what has been written and not yet answered, behind it
//! what has not been written. Positions are offsets in the whole stream (modulo 2^32), so a ticket can name the place
//! of its request. Keeping the written part serves two ends: a response is checked against the very request that it
//! should answer, and a request can be sent again when its connection dies.

/// Freed space in front that is not worth moving the rest for.
const SLACK: usize = 16 << 10;

/// Capacity that an empty outbox keeps.
const KEPT_CAPACITY: usize = 64 << 10;

/// A position in the stream to a server, modulo 2^32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offset(u32);

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
}

impl Outbox {
    /// Where the next byte goes.
    #[expect(clippy::cast_possible_truncation, reason = "offsets count modulo 2^32")]
    pub(crate) fn end(&self) -> Offset {
        Offset(self.base.wrapping_add(self.bytes.len() as u32))
    }

    /// The buffer to append a request to.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// A large buffer of its own that it does not need any more.
    #[inline]
    pub(crate) fn take_spent(&mut self) -> Option<Vec<u8>> {
        (self.spent.capacity() > 0).then(|| std::mem::take(&mut self.spent))
    }

    /// The bytes from `start` on.
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

    #[expect(clippy::cast_possible_truncation, reason = "offsets count modulo 2^32")]
    fn advance_base(&mut self, by: usize) {
        self.base = self.base.wrapping_add(by as u32);
    }

    /// Memory that it holds.
    pub(crate) fn footprint(&self) -> usize {
        self.bytes.capacity() + self.spent.capacity()
    }
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
        let mut starts = std::collections::VecDeque::new();
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
}
