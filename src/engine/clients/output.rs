//! Response bytes on their way to a client.
//!
//! Small responses are copied together, so that one write carries many of them. A large one keeps the buffer that it
//! came in: copying it would cost more than a further write, and twice the memory.

use std::collections::VecDeque;

/// Responses of this size and more are not copied.
const LARGE: usize = 32 << 10;

/// Bytes up to which small responses are copied together.
const FULL: usize = 64 << 10;

/// Capacity that an empty output keeps for the next response.
const KEPT_CAPACITY: usize = 512;

/// Bytes to be written, in order.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// The last piece; small responses are appended here.
    tail: Vec<u8>,
    /// Pieces before it.
    pieces: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that have been written.
    written: usize,
    len: usize,
}

impl Output {
    /// Bytes that wait to be written.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends a copy of some bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if self.tail.len() >= FULL {
            self.seal();
        }
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends what `write` appends, about `len` bytes.
    pub(crate) fn append_with(&mut self, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if self.tail.len() >= FULL {
            self.seal();
        }
        self.tail.reserve(len);
        let before = self.tail.len();
        write(&mut self.tail);
        self.len += self.tail.len() - before;
    }

    /// Appends bytes that nobody else needs.
    pub(crate) fn push(&mut self, bytes: Vec<u8>) {
        if bytes.len() < LARGE {
            self.append(&bytes);
            return;
        }
        self.seal();
        self.len += bytes.len();
        self.pieces.push_back(bytes);
    }

    /// Appends what follows the first `written` bytes, which have been written already.
    pub(crate) fn push_rest(&mut self, bytes: Vec<u8>, written: usize) {
        if self.len > 0 {
            return self.append(&bytes[written..]);
        }
        self.len = bytes.len() - written;
        self.written = written;
        self.pieces.push_back(bytes);
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.tail));
        }
    }

    /// The next bytes to write: all there are, or a piece of them.
    pub(crate) fn front(&self) -> &[u8] {
        &self.pieces.front().unwrap_or(&self.tail)[self.written..]
    }

    /// The first `count` bytes of [`Output::front`] were written. Returns the buffer of a piece that is done with.
    pub(crate) fn wrote(&mut self, count: usize) -> Option<Vec<u8>> {
        self.written += count;
        self.len -= count;
        match self.pieces.front() {
            Some(piece) if self.written >= piece.len() => {
                let done = self.pieces.pop_front();
                self.written = 0;
                if self.pieces.is_empty() {
                    self.pieces = VecDeque::new();
                }
                done
            }
            None if self.written >= self.tail.len() => {
                self.written = 0;
                self.tail.clear();
                (self.tail.capacity() > FULL).then(|| std::mem::take(&mut self.tail))
            }
            _ => None,
        }
    }

    /// Gives back what an empty output does not need.
    pub(crate) fn relax(&mut self) {
        if self.len == 0 && self.tail.capacity() > KEPT_CAPACITY {
            self.tail = Vec::new();
        }
    }

    /// Memory that it holds, if that is in one piece.
    #[inline]
    pub(crate) fn small_footprint(&self) -> Option<usize> {
        self.pieces.is_empty().then_some(self.tail.capacity())
    }

    /// Bytes that wait in its last piece, pieces before that, and memory that these hold.
    pub(crate) fn shares(&self) -> (usize, usize, usize) {
        let before: usize = self.pieces.iter().map(Vec::len).sum();
        let held = self.pieces.iter().map(Vec::capacity).sum();
        ((self.len + self.written).saturating_sub(before).min(self.len), self.pieces.len(), held)
    }

    /// Memory that it holds.
    pub(crate) fn footprint(&self) -> usize {
        self.tail.capacity() + self.pieces.iter().map(Vec::capacity).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_order_however_they_came_and_are_written() {
        let mut output = Output::default();
        let mut expected = Vec::new();
        let mut read = Vec::new();
        for round in 0..400usize {
            let bytes = vec![round.to_le_bytes()[0]; (round * 7919) % 90_000];
            expected.extend_from_slice(&bytes);
            if round % 3 == 0 {
                output.append(&bytes)
            } else {
                output.push(bytes)
            }
            while output.len() > 200_000 {
                let count = output.front().len().min(1 + round * 131);
                read.extend_from_slice(&output.front()[..count]);
                output.wrote(count);
            }
        }
        while output.len() > 0 {
            let count = output.front().len();
            assert!(count > 0, "{} bytes are left and none to be written", output.len());
            read.extend_from_slice(output.front());
            output.wrote(count);
        }
        assert!(read == expected);
        output.relax();
        assert!(output.footprint() <= KEPT_CAPACITY);
    }
}
