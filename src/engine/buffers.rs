//! Buffers that large values are read to, handed on and used again.

use std::ops::Deref;
use std::sync::Arc;

/// A message of which so many bytes are missing is read into a buffer of its own.
pub(super) const LARGE: usize = 16 << 10;

/// Bytes of what follows that are read along with the end of a large message. Reading no further than its end would need
/// another call to learn that nothing follows, and one more for the beginning of the next.
pub(super) const BEHIND: usize = 4 << 10;

/// Where messages of this size come, more of them may: what is read of the next before its length is known has to be
/// copied, so it is no more than [`BEHIND`].
pub(super) const HUGE: usize = 128 << 10;

/// Of a message of which so much has come, the rest is believed to come: there is room for it at once, where that is a small
/// part of what there is.
const MEANT: usize = 1 << 20;

/// The sizes of buffers that are kept for later.
pub(super) const STOCKED: std::ops::RangeInclusive<usize> = 64 << 10..=2 << 20;

/// The most that all of them take.
pub(super) const KEPT_LIMIT: usize = 4 << 20;

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
pub(super) const GIVEN_BACK: usize = 8 << 20;

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

/// A response that waits for others.
#[derive(Debug)]
pub(super) enum Kept {
    /// A copy of it.
    Copied(Vec<u8>),
    /// The buffer that it came in, of which it is all.
    Whole(Arc<Vec<u8>>),
}

impl Kept {
    /// Keeps a response. `whole` is the buffer at hand, if that has one response in it: it is shared, where a copy of what
    /// is large would take longer than anybody is to wait for.
    #[inline]
    pub(super) fn of(response: &[u8], whole: Option<&Arc<Vec<u8>>>) -> Self {
        match whole {
            Some(whole) if whole.len() == response.len() => Self::Whole(Arc::clone(whole)),
            _ => Self::Copied(response.to_vec()),
        }
    }
}

impl Deref for Kept {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Whole(bytes) => bytes,
        }
    }
}

/// What one message may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Space {
    pub(super) at_rest: usize,
    /// While it is moved to a larger place, and both are there.
    pub(super) moving: usize,
}

/// Buffers that large values have been in, for the next ones: their pages are there.
#[derive(Debug)]
pub(super) struct BufferPool {
    pub(super) buffers: Vec<Vec<u8>>,
    pub(super) bytes: usize,
    pub(super) limit: usize,
}

impl BufferPool {
    /// An empty one, of a worker with so much memory.
    pub(super) fn new(memory_limit: usize) -> Self {
        Self { buffers: Vec::new(), bytes: 0, limit: KEPT_LIMIT.min(memory_limit / 16) }
    }

    /// Keeps what a worker with so much memory may keep, from here on.
    pub(super) fn set_limit(&mut self, memory_limit: usize) {
        self.limit = KEPT_LIMIT.min(memory_limit / 16);
        while self.bytes > self.limit
            && let Some(buffer) = self.buffers.pop()
        {
            self.bytes -= buffer.capacity();
        }
    }

    /// Memory that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a buffer that nobody needs any more.
    pub(super) fn put(&mut self, mut buffer: Vec<u8>) {
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
    pub(super) fn take(&mut self, wanted: usize, least: usize) -> Option<Vec<u8>> {
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
    pub(super) fn make_room(&mut self, message: &mut Vec<u8>, missing: usize, space: Space) {
        let wanted = missing + BEHIND;
        if message.capacity() - message.len() < missing.min(LARGE) {
            let whole = message.len() + wanted;
            let is_meant = message.len() >= MEANT && whole <= space.moving / 8;
            let mut grown = if is_meant { wanted } else { wanted.min(message.len().max(LARGE)) };
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

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: Space = Space { at_rest: usize::MAX, moving: usize::MAX };

    #[test]
    fn a_message_is_moved_while_there_is_room_for_both_places() {
        let limit = 64 << 20;
        let (at_rest, moving) = crate::engine::memory::Limits::of(limit).room_for_one();
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
            assert!(room > 0 && (room <= message.len().max(LARGE) || message.len() >= MEANT));
            message.resize(message.len() + room.min(70_000), 0);
        }
        assert_eq!(message.capacity(), (60 << 20) + BEHIND, "moved no more when much of it has come");
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
