//! What a server sends on an open connection, and how far that has been used.

use crate::failure::Failure;
use crate::proto::resp::reply::Scan;
use crate::time::Instant;
use std::time::Duration;

/// Bytes a second of large responses that take up a connection, and how many have to have come.
const BULK_RATE: u128 = 2 << 20;
const BULK: usize = 512 << 10;

/// What comes later than that behind the last of them is another row of large responses.
const BULK_PAUSE: Duration = Duration::from_millis(250);

/// What a server sends on a connection, as far as it has come, and what has been seen of the server there.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(super) cursor: Cursor,
    /// The server has answered something.
    answered: bool,
    /// Response bytes that are not a whole response yet.
    pub(super) partial: Vec<u8>,
    /// Length of `partial` below which looking at it is useless.
    need: usize,
    /// The last large response was very large.
    huge: bool,
    /// Bytes of a response that are dropped as they come: it is larger than is taken.
    unwanted: usize,
    /// The last write found no room for all that was to be written.
    pub(super) blocked: bool,
    /// It is given up as soon as its timer fires: what the server may still answer on it is not to be believed.
    condemned: bool,
    settling: Settling,
    bulk: Bulk,
}

/// Large responses that come one behind the other.
#[derive(Debug, Default)]
struct Bulk {
    since: Instant,
    last: Instant,
    bytes: usize,
}

impl Stream {
    /// How far the response to the front ticket has been used.
    #[inline(always)]
    pub(crate) const fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The same, to go on.
    #[inline(always)]
    pub(crate) const fn cursor_mut(&mut self) -> &mut Cursor {
        &mut self.cursor
    }

    /// For Redis: how far the response to the front ticket has been looked at, which consists of so many replies.
    #[inline(always)]
    pub(crate) fn scan(&mut self, replies: u32) -> &mut Scan {
        self.cursor.scan.get_or_insert_with(|| Scan::new(replies))
    }

    /// Whether something of the response to the front ticket has come.
    pub(crate) const fn has_begun(&self) -> bool {
        self.cursor.started || self.has_partial()
    }

    /// The server has answered something.
    #[inline(always)]
    pub(crate) const fn note_answer(&mut self) {
        self.answered = true;
    }

    /// Whether it has.
    #[inline(always)]
    pub(crate) const fn has_answered(&self) -> bool {
        self.answered
    }

    // --- Responses that are not whole yet ---------------------------------------------------------------------------

    /// Whether the beginning of a response is kept.
    #[inline(always)]
    pub(crate) const fn has_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// The beginning of a response, to be read to.
    #[inline]
    pub(crate) const fn partial(&mut self) -> &mut Vec<u8> {
        &mut self.partial
    }

    /// Its bytes, and the room that it has.
    #[inline]
    pub(crate) const fn partial_len(&self) -> (usize, usize) {
        (self.partial.len(), self.partial.capacity())
    }

    /// Takes it, to be looked at.
    #[inline]
    pub(crate) fn take_partial(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.partial)
    }

    /// Keeps what has been looked at, and is not whole.
    #[inline]
    pub(crate) fn keep_partial(&mut self, partial: Vec<u8>) {
        self.partial = partial;
    }

    /// To look at it is useless before it has so many bytes.
    #[inline(always)]
    pub(crate) const fn wait_for(&mut self, need: usize) {
        self.need = need;
    }

    /// How many that are.
    #[inline]
    pub(crate) const fn need(&self) -> usize {
        self.need
    }

    /// How many of them are missing.
    #[inline]
    pub(crate) const fn missing(&self) -> usize {
        self.need.saturating_sub(self.partial.len())
    }

    /// The last large response was very large, or is not the last any more.
    #[inline]
    pub(crate) const fn set_huge(&mut self, huge: bool) {
        self.huge = huge;
    }

    /// Whether it was.
    #[inline]
    pub(crate) const fn is_huge(&self) -> bool {
        self.huge
    }

    /// So many bytes came of a large response.
    pub(crate) fn note_bulk(&mut self, count: usize, now: Instant) {
        if now - self.bulk.last > BULK_PAUSE {
            self.bulk = Bulk { since: now, last: now, bytes: 0 };
        }
        self.bulk.last = now;
        self.bulk.bytes += count;
    }

    /// Whether large responses take up all of the connection, as far as it has been heard of within `span`: what comes behind
    /// them is late, and that is no fault of the server.
    pub(crate) fn is_taken_up(&self, now: Instant, span: Duration) -> bool {
        let Bulk { since, last, bytes } = self.bulk;
        let is_fast = bytes as u128 * 1_000_000_000 >= BULK_RATE * (last - since).as_nanos();
        bytes >= BULK && is_fast && now - last < span
    }

    // --- What is known of its server --------------------------------------------------------------------------------

    /// Whether invalidations may be sent.
    pub(crate) const fn settling(&self) -> Settling {
        self.settling
    }

    /// That is known.
    pub(crate) const fn settle(&mut self, settling: Settling) {
        self.settling = settling;
    }

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
