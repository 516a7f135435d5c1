//! The front of an outbox that has large requests in it: these stay in the buffers that they came in.

use std::collections::VecDeque;

use super::outbox::Offset;
use crate::engine::shared::Shared;

/// What stands in front of the bytes that are appended to.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    parts: VecDeque<Part>,
    /// Bytes that wait to be written.
    waiting: usize,
}

#[derive(Debug)]
struct Part {
    start: Offset,
    bytes: Bytes,
    /// As those of the [outbox](super::outbox::Outbox).
    head: usize,
    written: usize,
}

#[derive(Debug)]
enum Bytes {
    /// Small requests, one behind the other.
    Own(Vec<u8>),
    /// A large one.
    Whole(Shared),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Whole(bytes) => bytes,
        }
    }
}

impl Part {
    fn len(&self) -> usize {
        self.bytes.get().len()
    }

    fn has(&self, offset: Offset) -> bool {
        offset.since(self.start) < self.len()
    }
}

impl Ahead {
    /// Puts there what has been appended so far.
    #[cold]
    #[inline(never)]
    pub(super) fn push_own(&mut self, start: Offset, bytes: Vec<u8>, (head, written): (usize, usize)) {
        self.waiting += bytes.len() - written;
        self.parts.push_back(Part { start, bytes: Bytes::Own(bytes), head, written });
    }

    /// Puts there a large request.
    #[cold]
    #[inline(never)]
    pub(super) fn push_whole(&mut self, start: Offset, request: Shared) {
        self.waiting += request.len();
        self.parts.push_back(Part { start, bytes: Bytes::Whole(request), head: 0, written: 0 });
    }

    /// How many bytes wait to be written.
    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Bytes that have been written and are kept until they are answered.
    #[cold]
    #[inline(never)]
    pub(super) fn unanswered(&self) -> usize {
        self.parts.iter().map(|part| part.written - part.head).sum()
    }

    /// The first bytes that wait to be written, if any do.
    #[cold]
    #[inline(never)]
    pub(super) fn unwritten(&self) -> &[u8] {
        let first = self.parts.iter().find(|part| part.written < part.len());
        first.map_or(&[], |part| &part.bytes.get()[part.written..])
    }

    /// `count` bytes were written. Returns how many of them were not of these.
    #[cold]
    #[inline(never)]
    pub(super) fn wrote(&mut self, count: usize) -> usize {
        let mut left = count;
        for part in &mut self.parts {
            let of_part = left.min(part.len() - part.written);
            part.written += of_part;
            left -= of_part;
        }
        self.waiting -= count - left;
        left
    }

    /// Up to where has been written, if something waits to be.
    #[cold]
    #[inline(never)]
    pub(super) fn written_end(&self) -> Option<Offset> {
        let first = self.parts.iter().find(|part| part.written < part.len())?;
        Some(first.start.behind(first.written))
    }

    fn part_of(&self, offset: Offset) -> Option<&Part> {
        self.parts.iter().find(|part| part.has(offset))
    }

    /// Whether no byte of the request that starts there has been written.
    #[cold]
    #[inline(never)]
    pub(super) fn is_unwritten(&self, start: Offset) -> bool {
        self.part_of(start).is_some_and(|part| start.since(part.start) >= part.written)
    }

    /// From a request on, as far as it is in one place with what is behind it.
    #[cold]
    #[inline(never)]
    pub(super) fn from(&self, start: Offset) -> &[u8] {
        self.part_of(start).map_or(&[], |part| &part.bytes.get()[start.since(part.start)..])
    }

    /// The large request that starts there, if one does.
    #[cold]
    #[inline(never)]
    pub(super) fn whole(&self, start: Offset) -> Option<&Shared> {
        match &self.part_of(start)?.bytes {
            Bytes::Whole(request) => Some(request),
            Bytes::Own(_) => None,
        }
    }

    /// Everything before `start` has been answered. Whether nothing is left here; and the largest buffer that is done with.
    pub(super) fn release(&mut self, start: Offset) -> (bool, Vec<u8>) {
        let mut spent = Vec::new();
        while let Some(part) = self.parts.front_mut() {
            if part.has(start) {
                part.head = start.since(part.start).min(part.written);
                return (false, spent);
            }
            part.head = part.written;
            if part.written < part.len() {
                return (false, spent); // an early refusal
            }
            let buffer = match self.parts.pop_front().map(|part| part.bytes) {
                Some(Bytes::Own(bytes)) => bytes,
                Some(Bytes::Whole(request)) => request.into_buffer().unwrap_or_default(),
                None => break,
            };
            if buffer.capacity() > spent.capacity() {
                spent = buffer;
            }
        }
        (true, spent)
    }

    /// Memory that it holds.
    #[cold]
    #[inline(never)]
    pub(super) fn footprint(&self) -> usize {
        let of = |part: &Part| match &part.bytes {
            Bytes::Own(bytes) => bytes.capacity(),
            Bytes::Whole(request) => request.footprint(),
        };
        size_of::<Self>() + self.parts.iter().map(of).sum::<usize>() + self.parts.capacity() * size_of::<Part>()
    }
}
