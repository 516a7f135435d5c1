//! What a client has sent that could not be used yet, and what that waits for.

use crate::engine::buffers::{BEHIND, HUGE, LARGE};
use crate::engine::memory::grow::{grow_to, growth};
use crate::proto::memcache::Verb;
use crate::proto::memcache::request::Skip;
use crate::time::Instant;

/// A multi-get of which not all keys have been sent yet, its line being at the front of the input.
#[derive(Debug)]
pub(crate) struct LongGet {
    pub(crate) verb: Verb,
    pub(crate) exptime: Option<i32>,
    /// When the line was read.
    pub(crate) started: Instant,
    /// Bytes of the line that are left, its end included.
    pub(crate) rest: usize,
    /// Keys that are left.
    pub(crate) keys: usize,
}

/// Parsing has stopped short of what there is.
#[derive(Debug)]
struct Pause {
    /// When that was read; the time of the requests in it counts from then.
    since: Instant,
    /// It waits for the client's next turn, whatever else happens.
    until_turn: bool,
    /// Since when there is something that the client has not read.
    unread_since: Option<Instant>,
}

/// The unparsed input of one client.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about what was sent")]
pub(crate) struct Input {
    partial: Vec<u8>,
    /// Length of `partial` below which parsing it is useless.
    need: usize,
    pause: Option<Pause>,
    /// Until when the client's turns are short ones.
    short_turns_until: Instant,
    long_get: Option<Box<LongGet>>,
    skip: Skip,
    /// All of `partial` is a line that is not finished.
    in_line: bool,
    /// The last large request was very large.
    huge: bool,
    /// The request at the front waits for a server's queue to drain, or for memory.
    backpressured: bool,
    /// The large value that is being sent is refused: it has waited for memory for too long.
    frugal: bool,
    /// The client sends no more.
    ended: bool,
}

impl Input {
    pub(super) fn new() -> Self {
        Self {
            partial: Vec::new(),
            need: 0,
            pause: None,
            short_turns_until: Instant::ZERO,
            long_get: None,
            skip: Skip::NONE,
            in_line: false,
            huge: false,
            backpressured: false,
            frugal: false,
            ended: false,
        }
    }

    // --- What there is -------------------------------------------------------------------------------------------

    /// Bytes that are kept.
    #[inline]
    pub(in crate::engine) fn len(&self) -> usize {
        self.partial.len()
    }

    /// Whether none are.
    #[inline]
    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.partial.is_empty()
    }

    /// They.
    pub(in crate::engine) fn unparsed(&self) -> &[u8] {
        &self.partial
    }

    /// Memory that they take.
    #[inline]
    pub(in crate::engine) fn capacity(&self) -> usize {
        self.partial.capacity()
    }

    /// Whether what comes next is parsed where it was read.
    #[inline]
    pub(in crate::engine) fn is_clear(&self) -> bool {
        self.is_empty() && !self.is_paused()
    }

    /// Whether the message that has begun may be whole.
    pub(in crate::engine) fn is_whole(&self) -> bool {
        self.len() >= self.need
    }

    /// Whether all that there is is one message that is parsed next.
    pub(in crate::engine) fn is_one_message(&self) -> bool {
        !self.is_paused() && self.skip.is_none() && self.long_get.is_none() && self.len() == self.need
    }

    /// Bytes that are missing of the message that has begun; `None` where none has, or where more of it is of no use yet.
    pub(in crate::engine) fn missing(&self) -> Option<usize> {
        (!self.is_empty() && !self.is_paused()).then(|| self.need.saturating_sub(self.len()))
    }

    /// How much is best read at a time where no message has begun.
    pub(in crate::engine) fn best_read(&self) -> usize {
        if self.huge { BEHIND } else { usize::MAX }
    }

    // --- What comes ----------------------------------------------------------------------------------------------

    /// Keeps what was not used of what was parsed where it was read.
    #[inline]
    pub(in crate::engine) fn keep(&mut self, unused: &[u8]) {
        self.partial.extend_from_slice(unused);
    }

    /// How much of `rest` belongs to what is kept, as far as is known; what follows is parsed where it lies.
    pub(in crate::engine) fn share(&self, rest: &[u8]) -> usize {
        let wanted = match self.pause {
            Some(_) => rest.len(),
            // An unfinished line needs a byte more, and its end most of all.
            None if self.need <= self.len() + 1 => memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1),
            None => self.need - self.len(),
        };
        wanted.min(rest.len())
    }

    /// Appends bytes that belong to what is kept. A message may come to `most` of them, and an unfinished line is taken for
    /// something else from each of `lengths` on. Says whether it is to be parsed.
    pub(in crate::engine) fn append(&mut self, bytes: &[u8], most: usize, lengths: &[usize]) -> bool {
        let before = self.len();
        grow_to(&mut self.partial, bytes, most);
        let is_as_before = || lengths.iter().all(|length| (before > *length) == (self.len() > *length));
        if self.in_line && !bytes.ends_with(b"\n") && is_as_before() {
            self.need = self.len() + 1; // the line is not looked through again
        }
        !self.is_paused() && self.is_whole()
    }

    /// Where the rest of the message that has begun is read to.
    pub(in crate::engine) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.partial
    }

    /// A large message has been read to its end in its [`buffer`](Input::buffer).
    pub(in crate::engine) fn was_filled(&mut self) {
        self.huge = self.need >= HUGE;
    }

    /// So many bytes were read elsewhere.
    pub(in crate::engine) fn was_read(&mut self, count: usize) {
        self.huge &= count < BEHIND || self.need >= HUGE;
    }

    /// Room that is about to be made for more, where messages double up to `most` bytes.
    pub(in crate::engine) fn next_growth(&self, most: usize) -> usize {
        let (len, spare) = (self.len(), self.capacity() - self.len());
        let missing = self.need.saturating_sub(len);
        if spare >= missing.clamp(1, LARGE) {
            0
        } else if missing < LARGE && len >= LARGE {
            growth(len, LARGE, most)
        } else {
            missing.max(LARGE).min(len.max(LARGE))
        }
    }

    /// The client sends no more.
    pub(in crate::engine) fn end(&mut self) {
        self.ended = true;
    }

    /// Whether it sends no more.
    #[inline]
    pub(in crate::engine) fn has_ended(&self) -> bool {
        self.ended
    }

    // --- What is parsed ------------------------------------------------------------------------------------------

    /// Takes what there is, to be parsed; what is not used is [put back](Input::put_back).
    pub(in crate::engine) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.partial)
    }

    /// Gives back what was taken, of which the first `used` bytes were used.
    pub(in crate::engine) fn put_back(&mut self, mut buffer: Vec<u8>, used: usize) {
        buffer.drain(..used);
        self.partial = buffer;
    }

    /// The next message is looked at, and nothing is known of it.
    #[inline]
    pub(in crate::engine) fn begin_message(&mut self) {
        self.need = 0;
    }

    /// The message at the front is parsed again when there are `need` bytes of it; `in_line` says that all there is is a
    /// line that is not finished.
    pub(in crate::engine) fn await_more(&mut self, need: usize, in_line: bool) {
        (self.need, self.in_line) = (need, in_line);
    }

    /// What follows is dropped.
    pub(in crate::engine) fn skip_on(&mut self, skip: Skip) {
        self.skip = skip;
    }

    /// Whether what follows is dropped.
    #[inline]
    pub(in crate::engine) fn is_skipping(&self) -> bool {
        !self.skip.is_none()
    }

    /// Drops what it can of `input`; says how many bytes that was.
    #[inline]
    pub(in crate::engine) fn skip(&mut self, input: &[u8]) -> usize {
        if self.is_skipping() { self.skip.apply(input) } else { 0 }
    }

    /// Whether the large value that is being sent is to be refused.
    pub(in crate::engine) fn refuse_large(&mut self, is_refused: bool) {
        self.frugal = is_refused;
    }

    /// Whether it is.
    #[inline]
    pub(in crate::engine) fn refuses_large(&self) -> bool {
        self.frugal
    }

    /// The multi-get at the front, as far as it is left, goes on later.
    pub(in crate::engine) fn put_long_get(&mut self, long: Box<LongGet>) {
        self.long_get = Some(long);
    }

    /// The multi-get at the front, as far as it is left.
    pub(in crate::engine) fn take_long_get(&mut self) -> Option<Box<LongGet>> {
        self.long_get.take()
    }

    /// Whether there is one.
    #[inline]
    pub(in crate::engine) fn has_long_get(&self) -> bool {
        self.long_get.is_some()
    }

    /// The time of the multi-get at the front counts from then.
    pub(in crate::engine) fn restart_long_get(&mut self, now: Instant) {
        if let Some(long) = &mut self.long_get {
            long.started = now;
        }
    }

    // --- What it waits for -----------------------------------------------------------------------------------------

    /// Parsing stops short of what was read at `since`. The client has had something to read since `unread_since`.
    pub(in crate::engine) fn pause(&mut self, since: Instant, unread_since: Option<Instant>) {
        self.pause = Some(Pause { since, until_turn: false, unread_since });
    }

    /// Whether it has.
    #[inline]
    pub(in crate::engine) fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// Parsing goes on. Says when was read what it had stopped short of.
    #[inline]
    pub(in crate::engine) fn resume(&mut self) -> Option<Instant> {
        self.pause.take().map(|pause| pause.since)
    }

    /// The time of what parsing has stopped short of counts from now on.
    pub(in crate::engine) fn restart(&mut self, now: Instant) {
        if let Some(pause) = &mut self.pause {
            pause.since = now;
        }
        self.restart_long_get(now);
    }

    /// The client has read something, and `is_unread` says whether there is more for it. Where it `was_choked`, the time that it
    /// took to read is its own: none of it counts for what parsing has stopped short of.
    pub(in crate::engine) fn was_written(&mut self, was_choked: bool, is_unread: bool, now: Instant) {
        let Some(pause) = &mut self.pause else { return };
        let unread_since = std::mem::replace(&mut pause.unread_since, is_unread.then_some(now));
        if was_choked && let Some(unread_since) = unread_since {
            let own = now.since(unread_since);
            pause.since = pause.since + own;
            if let Some(long) = &mut self.long_get {
                long.started = long.started + own;
            }
        }
    }

    /// The client has had its turn: what was read at `since` goes on in the next, and turns are short ones for a while.
    pub(in crate::engine) fn end_turn(&mut self, since: Instant, short_until: Instant) {
        self.pause = Some(Pause { since, until_turn: true, unread_since: None });
        self.short_turns_until = short_until;
    }

    /// The client's next turn has come.
    pub(in crate::engine) fn begin_turn(&mut self) {
        if let Some(pause) = &mut self.pause {
            pause.until_turn = false;
        }
    }

    /// Whether it waits for the client's next turn.
    pub(super) fn waits_for_turn(&self) -> bool {
        self.pause.as_ref().is_some_and(|pause| pause.until_turn)
    }

    /// Until when the client's turns are short ones.
    #[inline]
    pub(in crate::engine) fn short_turns_until(&self) -> Instant {
        self.short_turns_until
    }

    /// The request at the front waits for a server's queue to drain, or for memory.
    pub(in crate::engine) fn hold_back(&mut self) {
        self.backpressured = true;
    }

    /// It waits for that no longer.
    #[inline]
    pub(in crate::engine) fn let_go(&mut self) {
        self.backpressured = false;
    }

    /// Whether it waits for that, or has waited.
    #[inline]
    pub(in crate::engine) fn is_held_back(&self) -> bool {
        self.backpressured
    }

    /// Since when a request has waited for that; `None` when none does.
    pub(in crate::engine) fn held_back_since(&self) -> Option<Instant> {
        self.pause.as_ref().filter(|_| self.backpressured).map(|pause| pause.since)
    }

    /// Nothing of it is wanted any more.
    pub(super) fn abandon(&mut self) {
        (self.partial, self.pause, self.long_get) = (Vec::new(), None, None);
    }

    /// Gives back what is not needed at the moment.
    #[inline]
    pub(super) fn relax(&mut self) {
        if self.partial.is_empty() && self.partial.capacity() > 0 {
            self.partial = Vec::new();
        }
    }
}
