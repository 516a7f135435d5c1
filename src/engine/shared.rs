//! A large message in the buffer that it came in.

use std::ops::{Deref, Range};
use std::sync::Arc;

/// Part of a buffer that several may hold. To copy what is large would take longer than anybody is to wait for.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    buffer: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Shared {
    /// `part`, if it lies in the buffer and is half of it or more: as long as it is there, all of the buffer is.
    pub(super) fn of(part: &[u8], buffer: &Arc<Vec<u8>>) -> Option<Self> {
        // Places of bytes are compared, and none is read by them.
        let start = part.as_ptr().addr().checked_sub(buffer.as_ptr().addr())?;
        let range = start..start.checked_add(part.len())?;
        let is_worth_it = range.len() >= buffer.capacity() / 2;
        (range.end <= buffer.len() && is_worth_it).then(|| Self { buffer: Arc::clone(buffer), range })
    }

    /// All of a buffer.
    pub(super) fn all(buffer: Vec<u8>) -> Self {
        let range = 0..buffer.len();
        Self { buffer: Arc::new(buffer), range }
    }

    /// Memory that the buffer takes.
    pub(super) fn footprint(&self) -> usize {
        self.buffer.capacity()
    }

    /// The buffer, if nobody else holds it.
    pub(super) fn into_buffer(self) -> Option<Vec<u8>> {
        Arc::try_unwrap(self.buffer).ok()
    }
}

impl Deref for Shared {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_the_buffers_or_it_is_not() {
        let (buffer, other) = (Arc::new(b"0123456789".to_vec()), b"0123456789".to_vec());
        let part = Shared::of(&buffer[3..8], &buffer).expect("its own");
        assert_eq!(&*part, b"34567");
        assert!(Shared::of(&buffer[3..7], &buffer).is_none(), "most would be kept for nothing");
        assert_eq!(&*Shared::of(&buffer, &buffer).expect("all of it"), b"0123456789");
        assert!(Shared::of(&other[3..8], &buffer).is_none());
        assert!(part.clone().into_buffer().is_none(), "there is another");
        drop(buffer);
        assert_eq!(part.into_buffer(), Some(other));
    }
}
