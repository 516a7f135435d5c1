//! A request that is swallowed, as far as it has to be known to be answered.

use crate::proto::resp::request::Swallowed;
use crate::time::Instant;

/// Bytes that are kept of what is behind the large argument: keys, and what tells how the request is to be carried out.
pub(super) const KEPT: usize = 64 << 10;

/// What stands in place of an argument that is not kept.
pub(super) const ABSENT: &[u8] = b"$0\r\n\r\n";

/// A request that is read and not kept, but for its small arguments: they tell which keys it was to change.
#[derive(Debug)]
pub(crate) struct Unread {
    pub(super) raw: Vec<u8>,
    /// The argument at hand is kept, and so many bytes more may be.
    pub(super) keeps: bool,
    pub(super) room: usize,
    pub(super) started: Instant,
}

impl Unread {
    pub(super) fn footprint(&self) -> usize {
        size_of::<Self>() + self.raw.capacity()
    }

    /// Takes a part of what is read.
    pub(super) fn see(&mut self, part: Swallowed<'_>) {
        match part {
            Swallowed::Argument(len) => {
                self.keeps = len <= self.room;
                if self.keeps {
                    self.room -= len;
                    self.raw.extend_from_slice(format!("${len}\r\n").as_bytes());
                } else {
                    self.raw.extend_from_slice(ABSENT);
                }
            }
            Swallowed::Bytes(bytes) if self.keeps => self.raw.extend_from_slice(bytes),
            Swallowed::Bytes(_) => {}
        }
    }
}
