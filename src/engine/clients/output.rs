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

/// Bytes of a long answer, about, that are put together at a time. Answers of more are long.
pub(crate) const PORTION: usize = 128 << 10;

/// Bytes that are put together in as long as one step of preparing takes.
const STEP: usize = 256;

/// A long answer that is put together while it is written.
pub(crate) trait Source: std::fmt::Debug + Send {
    /// Whether it can be written: one that begins with a count of what is there only once has to be looked through before.
    fn is_ready(&self) -> bool {
        true
    }

    /// Gets it more ready, in about so many steps. Says how many that took.
    fn prepare(&mut self, _steps: usize) -> usize {
        0
    }

    /// Appends about so many bytes, and at least one if there are more behind them. Whether there are.
    fn write(&mut self, out: &mut Vec<u8>, about: usize) -> bool;

    /// Bytes that are still to be written, about, and at least one.
    fn left(&self) -> usize;

    /// Memory that it holds.
    fn footprint(&self) -> usize;
}

/// What an output needs no more when something of it has been written.
#[derive(Debug)]
pub(crate) enum Spared {
    /// It holds what it held.
    Nothing,
    /// It holds other memory than before.
    Memory,
    /// The buffer of a piece that is done with, for whoever needs another.
    Buffer(Vec<u8>),
}

/// What follows bytes that are ready.
#[derive(Debug)]
enum Later {
    Bytes(Vec<u8>),
    Source(Box<dyn Source>),
}

impl Later {
    fn left(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Source(source) => source.left(),
        }
    }

    fn footprint(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.capacity(),
            Self::Source(source) => source.footprint(),
        }
    }
}

/// Bytes to be written, in order.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// The last piece; small responses are appended here.
    tail: Vec<u8>,
    /// Pieces before it.
    pieces: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that have been written.
    written: usize,
    /// Bytes that are ready, and wait to be written.
    len: usize,
    /// What follows them, if not all is ready. Something is ready as long as anything follows, unless that has to be
    /// [prepared](Output::prepare).
    later: Behind,
}

/// What is not ready. Few clients have any, so that it takes room of its own only then.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "an idle client takes as little as can be")]
struct Behind(Option<Box<VecDeque<Later>>>);

impl Behind {
    #[inline]
    fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn iter(&self) -> impl Iterator<Item = &Later> {
        self.0.iter().flat_map(|all| all.iter())
    }

    /// All of it, for whoever puts back what is left.
    fn take(&mut self) -> VecDeque<Later> {
        self.0.take().map(|all| *all).unwrap_or_default()
    }

    fn put_back(&mut self, left: VecDeque<Later>) {
        self.0 = (!left.is_empty()).then(|| Box::new(left));
    }

    fn all(&mut self) -> &mut VecDeque<Later> {
        self.0.get_or_insert_default()
    }
}

impl Output {
    /// Bytes that wait to be written; about, where an answer is not put together yet.
    pub(crate) fn len(&self) -> usize {
        if self.later.is_empty() { self.len } else { self.len_of_all() }
    }

    /// Those of them that are ready.
    pub(crate) const fn ready(&self) -> usize {
        self.len
    }

    #[cold]
    #[inline(never)]
    fn len_of_all(&self) -> usize {
        self.len + self.later.iter().map(Later::left).sum::<usize>()
    }

    /// Appends a copy of some bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if !self.later.is_empty() {
            return self.append_later(bytes.to_vec());
        }
        if self.tail.len() >= FULL {
            self.seal();
        }
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends what `write` appends, about `len` bytes.
    pub(crate) fn append_with(&mut self, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.later.is_empty() {
            let mut bytes = Vec::with_capacity(len);
            write(&mut bytes);
            return self.append_later(bytes);
        }
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
        if !self.later.is_empty() {
            return self.append_later(bytes);
        }
        self.seal();
        self.len += bytes.len();
        self.pieces.push_back(bytes);
    }

    /// Appends what follows the first `written` bytes, which have been written already.
    pub(crate) fn push_rest(&mut self, bytes: Vec<u8>, written: usize) {
        if self.len() > 0 {
            return self.append(&bytes[written..]);
        }
        self.len = bytes.len() - written;
        self.written = written;
        self.pieces.push_back(bytes);
    }

    /// Appends bytes behind what is not ready.
    #[cold]
    #[inline(never)]
    fn append_later(&mut self, bytes: Vec<u8>) {
        let later = self.later.all();
        match later.back_mut() {
            Some(Later::Bytes(last)) if last.len() + bytes.len() <= FULL => last.extend_from_slice(&bytes),
            _ => later.push_back(Later::Bytes(bytes)),
        }
    }

    /// Appends an answer that is put together while it is written.
    #[cold]
    #[inline(never)]
    pub(crate) fn append_from(&mut self, source: Box<dyn Source>) {
        self.later.all().push_back(Later::Source(source));
        if self.len == 0 {
            self.make_ready();
        }
    }

    /// Makes more ready, where nothing is.
    #[cold]
    #[inline(never)]
    fn make_ready(&mut self) {
        let mut later = self.later.take();
        while self.len < PORTION
            && let Some(next) = later.pop_front()
        {
            match next {
                Later::Bytes(bytes) => self.push(bytes),
                Later::Source(source) if !source.is_ready() => {
                    later.push_front(Later::Source(source));
                    break;
                }
                Later::Source(mut source) => {
                    let before = self.tail.len();
                    self.tail.reserve(PORTION - self.len);
                    let is_over = !source.write(&mut self.tail, PORTION - self.len);
                    self.len += self.tail.len() - before;
                    if !is_over {
                        later.push_front(Later::Source(source));
                        if self.len > 0 {
                            break; // that was a portion
                        }
                    }
                }
            }
        }
        self.later.put_back(later);
    }

    /// Whether nothing can be written before something is [prepared](Output::prepare).
    #[cold]
    pub(crate) fn is_unready(&self) -> bool {
        let next = self.later.iter().next();
        self.len == 0 && matches!(next, Some(Later::Source(source)) if !source.is_ready())
    }

    /// Gets what follows more ready, in about so many steps. Says how many that took.
    #[cold]
    #[inline(never)]
    pub(crate) fn prepare(&mut self, steps: usize) -> usize {
        let next = self.later.0.as_mut().and_then(|later| later.front_mut());
        let Some(Later::Source(source)) = next.filter(|_| self.len == 0) else { return 0 };
        let mut taken = source.prepare(steps);
        if source.is_ready() {
            self.make_ready();
            taken += self.len / STEP;
        }
        taken
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

    /// The first `count` bytes of [`Output::front`] were written.
    pub(crate) fn wrote(&mut self, count: usize) -> Spared {
        self.written += count;
        self.len -= count;
        if self.len == 0 && !self.later.is_empty() {
            return self.go_on();
        }
        match self.pieces.front() {
            Some(piece) if self.written >= piece.len() => {
                let done = self.pieces.pop_front();
                self.written = 0;
                if self.pieces.is_empty() {
                    self.pieces = VecDeque::new();
                }
                done.map_or(Spared::Nothing, Spared::Buffer)
            }
            None if self.written >= self.tail.len() => {
                self.written = 0;
                self.tail.clear();
                self.spare_tail().unwrap_or(Spared::Nothing)
            }
            _ => Spared::Nothing,
        }
    }

    /// All that was ready has been written: makes ready what follows. The last piece is used again.
    #[cold]
    #[inline(never)]
    fn go_on(&mut self) -> Spared {
        (self.written, self.pieces) = (0, VecDeque::new());
        self.tail.clear();
        self.make_ready();
        let is_over = self.len == 0 && self.later.is_empty();
        // An answer that is put together holds nothing from its last portion on.
        is_over.then(|| self.spare_tail()).flatten().unwrap_or(Spared::Memory)
    }

    /// Gives up the last piece, of which all has been written, if it is larger than one that is kept.
    fn spare_tail(&mut self) -> Option<Spared> {
        (self.tail.capacity() > FULL).then(|| Spared::Buffer(std::mem::take(&mut self.tail)))
    }

    /// Gives back what an empty output does not need. Says how many bytes that is.
    pub(crate) fn relax(&mut self) -> usize {
        if self.len() == 0 && self.tail.capacity() > KEPT_CAPACITY {
            return std::mem::take(&mut self.tail).capacity();
        }
        0
    }

    /// Memory that it holds, if that is in one piece.
    #[inline]
    pub(crate) fn small_footprint(&self) -> Option<usize> {
        (self.pieces.is_empty() && self.later.is_empty()).then_some(self.tail.capacity())
    }

    /// Bytes that wait in its last piece, pieces before that, and memory that these hold.
    pub(crate) fn shares(&self) -> (usize, usize, usize) {
        let before: usize = self.pieces.iter().map(Vec::len).sum();
        let held = self.pieces.iter().map(Vec::capacity).sum::<usize>() + self.footprint_of_later();
        let pieces = self.pieces.len() + self.later.iter().count();
        ((self.len + self.written).saturating_sub(before).min(self.len), pieces, held)
    }

    /// Memory that it holds.
    pub(crate) fn footprint(&self) -> usize {
        self.tail.capacity() + self.pieces.iter().map(Vec::capacity).sum::<usize>() + self.footprint_of_later()
    }

    fn footprint_of_later(&self) -> usize {
        self.later.iter().map(Later::footprint).sum()
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
