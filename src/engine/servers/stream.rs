//! What a server sends on an open connection, and how far that has been used.

use crate::failure::Failure;
use crate::proto::resp::reply::Scan;
use crate::time::Instant;

/// What a server sends on a connection, as far as it has come, and what has been seen of the server there.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) cursor: Cursor,
    /// The server has answered something.
    pub(crate) answered: bool,
    /// Response bytes that are not a whole response yet.
    pub(crate) partial: Vec<u8>,
    /// Length of `partial` below which looking at it is useless.
    pub(crate) need: usize,
    /// The last large response was very large.
    pub(crate) huge: bool,
    /// Bytes of a response that are dropped as they come: it is larger than is taken.
    unwanted: usize,
    /// The last write found no room for all that was to be written.
    pub(super) blocked: bool,
    /// It is given up as soon as its timer fires: what the server may still answer on it is not to be believed.
    condemned: bool,
    pub(crate) settling: Settling,
}

impl Stream {
    /// Whether the last write found no room for all that was to be written.
    pub(crate) const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// It is to be given up as soon as its timer fires.
    pub(crate) const fn condemn(&mut self) {
        self.condemned = true;
    }

    pub(crate) const fn is_condemned(&self) -> bool {
        self.condemned
    }

    /// So many bytes that are to come are dropped.
    pub(crate) const fn drop_next(&mut self, count: usize) {
        self.unwanted = count;
    }

    /// How many of so many bytes that have come are to be dropped.
    #[inline(always)]
    pub(crate) fn take_unwanted(&mut self, len: usize) -> usize {
        let dropped = self.unwanted.min(len);
        self.unwanted -= dropped;
        dropped
    }
}

/// How far the response to the front ticket has been used, for a multi-get.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    /// Of a multi-get, the offset in the request line behind the last key that was looked at; of a listing, that in the
    /// response of the first line that has not come whole.
    pub(crate) line_at: usize,
    /// Index, in the merge, of the next key of this fragment.
    pub(crate) key: u32,
    /// A piece of the response has been used.
    pub(crate) started: bool,
    /// Values that came.
    pub(crate) found: u32,
    /// Something of the response was larger than is taken, for this reason, and has been dropped.
    pub(crate) dropped: Option<Failure>,
    /// For Redis: how far the response has been looked at.
    pub(crate) scan: Option<Scan>,
}

/// What is known of a server that is in the ring, and must not be sent invalidations before it has come to the end of
/// connections that were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Settling {
    /// There is nothing to wait for, or that has not been looked at.
    #[default]
    None,
    /// It is asked whether it is there.
    Asked,
    /// It has said so, at this time, and has older connections to come to the end of.
    Heard(Instant),
    /// It has not come to that end, so they were reset at this time.
    Reset(Instant),
}
