//! memcached's responses as one: multi-gets, and requests that go to every server.

use super::listed::{Listed, Listing};
use crate::engine::clients::output::{Output, PORTION, Source};
use crate::engine::scattered::Came;
use crate::failure::Failure;
use crate::proto::memcache::reply;
use crate::proto::memcache::request::Words;
use crate::proto::memcache::response::Status;
use crate::proto::memcache::version::Version;
use crate::time::Instant;
use std::sync::Arc;

/// The end of the list of a part's keys.
pub(in crate::engine) const NO_KEY: u32 = u32::MAX;

/// What the responses of several servers become.
#[derive(Debug)]
pub(in crate::engine) struct Merge {
    wanted: Wanted,
    /// The first error line that a server answered, or that is told of its failure.
    error: Option<Vec<u8>>,
}

/// What is made of them.
#[derive(Debug)]
pub(super) enum Wanted {
    /// Values of a multi-get, in the order of the request.
    Values(Values),
    /// One word from all servers: `flush_all`, `stats reset`, `verbosity`.
    Word(Word),
    /// `stats` listings, added up.
    Listing(Box<Listing>),
    /// `version`: the lowest so far.
    Version(Option<Version>),
}

/// The values of a multi-get, or of a part of a long one.
#[derive(Debug)]
pub(in crate::engine) struct Values {
    /// One for each key of the request, in its order.
    pub(in crate::engine) keys: Vec<KeySlot>,
    /// Those of each part.
    pub(in crate::engine) chains: Vec<Chain>,
    /// The `VALUE` blocks, in the order in which they came: the last of them.
    blocks: Vec<u8>,
    /// Those before them, and how many bytes they are. A large one is in the buffer that it came in.
    pieces: Vec<Arc<Vec<u8>>>,
    in_pieces: usize,
    /// More of the same request follows: no `END` yet.
    pub(in crate::engine) unfinished: bool,
}

/// The keys of a part of a multi-get.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Chain {
    pub(in crate::engine) first: u32,
    last: u32,
}

impl Chain {
    /// No keys yet.
    pub(in crate::engine) const EMPTY: Self = Self { first: NO_KEY, last: NO_KEY };
}

/// A key of a multi-get.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct KeySlot {
    /// The next key of the same part, or [`NO_KEY`].
    pub(in crate::engine) next: u32,
    /// Where its block lies in its piece.
    offset: u32,
    /// Length of its block; 0 for a miss.
    len: u32,
    /// The number of its piece. That of the last one is how many there are before it.
    piece: u16,
    /// Length of the key itself, so that it need not be looked for in the request once more.
    pub(in crate::engine) key_len: u8,
}

impl KeySlot {
    /// A key that nothing is known of.
    pub(in crate::engine) const MISSING: Self = Self { next: NO_KEY, offset: 0, len: 0, piece: 0, key_len: 0 };
}

/// Most bytes that are reserved for the values of a multi-get before they come.
const RESERVED: usize = 4 << 10;

/// Values up to so many bytes are put together at once, and the buffer that they were in is used again.
const KEPT_BLOCKS: usize = 8 << 10;

/// From so many bytes on, values are put down in another piece: what grows is moved.
const PIECE: usize = 256 << 10;

/// Keys up to so many are kept room for.
const KEPT_KEYS: usize = 128;

impl Values {
    /// No values at all.
    pub(in crate::engine) const EMPTY: Self = Self {
        keys: Vec::new(),
        chains: Vec::new(),
        blocks: Vec::new(),
        pieces: Vec::new(),
        in_pieces: 0,
        unfinished: false,
    };

    /// Has no values yet, of so many keys, which belong to no part yet.
    pub(in crate::engine) fn reset(&mut self, count: usize, unfinished: bool) {
        self.keys.clear();
        self.keys.resize(count, KeySlot::MISSING);
        self.chains.clear();
        self.blocks.clear();
        self.pieces.clear();
        self.in_pieces = 0;
        self.unfinished = unfinished;
    }

    /// The keys of a part that have no value, of which all keys are these: their places, and the keys.
    #[cold]
    pub(in crate::engine) fn missing<'w>(&self, part: u16, keys: Words<'w>) -> (Vec<u32>, Vec<&'w [u8]>) {
        let first = self.chains.get(usize::from(part)).map_or(NO_KEY, |chain| chain.first);
        let places = std::iter::successors(Some(first), |place| Some(self.key_behind(*place, 1)));
        let is_missing = |(place, _): &(u32, &[u8])| self.keys.get(*place as usize).is_some_and(|slot| slot.len == 0);
        places.zip(keys).filter(is_missing).unzip()
    }

    /// The keys at these places are all that is left of a part.
    #[cold]
    pub(in crate::engine) fn relink(&mut self, part: u16, places: &[u32]) {
        let Some(chain) = self.chains.get_mut(usize::from(part)) else { return };
        let (first, last) = (places.first().copied().unwrap_or(NO_KEY), places.last().copied().unwrap_or(NO_KEY));
        *chain = Chain { first, last };
        for (place, next) in places.iter().zip(places.iter().skip(1).chain([&NO_KEY])) {
            if let Some(slot) = self.keys.get_mut(*place as usize) {
                slot.next = *next;
            }
        }
    }

    /// Whether its buffers are worth keeping for another request.
    pub(in crate::engine) fn is_worth_keeping(&self) -> bool {
        self.pieces.is_empty() && self.blocks.capacity() <= KEPT_BLOCKS && self.keys.capacity() <= KEPT_KEYS
    }

    /// Puts the key number `index`, of so many bytes, behind the others of its part.
    #[inline]
    pub(in crate::engine) fn link(&mut self, part: usize, index: usize, key_len: usize) {
        if let Some(slot) = self.keys.get_mut(index) {
            slot.key_len = u8::try_from(key_len).unwrap_or(0); // no key is longer
        }
        let chain = &mut self.chains[part];
        let index = u32::try_from(index).unwrap_or(NO_KEY); // a part of a request has fewer keys
        match self.keys.get_mut(chain.last as usize) {
            Some(last) => last.next = index,
            None => chain.first = index,
        }
        chain.last = index;
    }

    /// The key that stands `count` behind another one of the same part.
    #[inline]
    pub(in crate::engine) fn key_behind(&self, key: u32, count: usize) -> u32 {
        (0..count).fold(key, |key, _| self.keys.get(key as usize).map_or(NO_KEY, |slot| slot.next))
    }

    /// Says where, in the blocks that are kept next, the block of a key lies.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a piece stays below 4 GiB, and there are few: see `fits` and `end_piece`"
    )]
    pub(in crate::engine) fn place(&mut self, key: u32, offset: usize, len: usize) {
        if let Some(slot) = self.keys.get_mut(key as usize) {
            (slot.offset, slot.len) = ((self.blocks.len() + offset) as u32, len as u32);
            slot.piece = self.pieces.len() as u16;
        }
    }

    /// Keeps blocks, of which the largest has so many bytes.
    #[inline]
    pub(in crate::engine) fn keep(&mut self, blocks: &[u8], largest: usize) {
        if self.blocks.capacity() == 0 {
            // The others are taken to be like these.
            self.blocks.reserve(blocks.len().max((largest * self.keys.len()).min(RESERVED)));
        }
        self.blocks.extend_from_slice(blocks);
        if self.blocks.len() >= PIECE {
            self.end_piece();
        }
    }

    /// The next block begins a piece. Whether it does: there is an end to how many there can be.
    #[cold]
    #[inline(never)]
    fn end_piece(&mut self) -> bool {
        if self.pieces.len() + 1 >= usize::from(u16::MAX) {
            return self.blocks.is_empty();
        }
        if !self.blocks.is_empty() {
            self.in_pieces += self.blocks.len();
            self.pieces.push(Arc::new(std::mem::take(&mut self.blocks)));
        }
        true
    }

    /// Keeps the block of a key, at the front of the buffer that it came in. `false` if it is to be copied.
    #[cold]
    #[inline(never)]
    pub(in crate::engine) fn share(&mut self, key: u32, len: usize, whole: &Arc<Vec<u8>>) -> bool {
        if !self.fits(len) || !self.end_piece() {
            return false;
        }
        self.place(key, 0, len);
        self.in_pieces += len;
        self.pieces.push(Arc::clone(whole));
        true
    }

    /// The block of a key.
    #[inline]
    pub(in crate::engine) fn block(&self, key: &KeySlot) -> &[u8] {
        let piece = self.pieces.get(usize::from(key.piece)).map_or(&self.blocks, |piece| piece);
        &piece[key.offset as usize..][..key.len as usize]
    }

    /// Gives up the block of a key that has been passed on, if it is in a piece of its own.
    fn drop_block(&mut self, index: usize) {
        let Some(key) = self.keys.get_mut(index) else { return };
        if let Some(piece) = self.pieces.get_mut(usize::from(key.piece)).filter(|piece| piece.len() == key.len as usize)
        {
            self.in_pieces -= piece.len();
            *piece = Arc::default();
            *key = KeySlot::MISSING;
        }
    }

    /// Bytes of all blocks.
    pub(in crate::engine) const fn len(&self) -> usize {
        self.blocks.len() + self.in_pieces
    }

    /// Memory that it holds.
    const fn footprint(&self) -> usize {
        self.len() + self.keys.len() * size_of::<KeySlot>()
    }

    /// Whether further blocks of `len` bytes can be held.
    pub(in crate::engine) fn fits(&self, len: usize) -> bool {
        self.blocks.len() + len < u32::MAX as usize
    }

    /// Appends what the client gets.
    fn write(&self, error: Option<&[u8]>, out: &mut Output) {
        if self.len() <= KEPT_BLOCKS {
            let block = |key: &KeySlot| &self.blocks[key.offset as usize..(key.offset + key.len) as usize];
            out.append_with(self.blocks.len(), |out| {
                self.keys.iter().map(block).for_each(|block| out.extend_from_slice(block));
            });
        } else {
            self.keys.iter().for_each(|key| out.append(self.block(key)));
        }
        if !self.unfinished {
            out.append(error.unwrap_or(reply::END));
        }
    }
}

/// The values of a multi-get, all of which have come, on their way to its client.
#[derive(Debug)]
struct PassedOn {
    values: Values,
    /// What stands behind them.
    end: Vec<u8>,
    /// The key of which the block is written next, and how much of that has been.
    next: usize,
    within: usize,
    /// Bytes that are still to be written.
    left: usize,
}

impl Source for PassedOn {
    fn write(&mut self, out: &mut Vec<u8>, about: usize) -> bool {
        let (before, until) = (out.len(), out.len() + about);
        while out.len() < until
            && let Some(key) = self.values.keys.get(self.next)
        {
            let rest = &self.values.block(key)[self.within..];
            let part = rest.len().min(until - out.len());
            out.extend_from_slice(&rest[..part]);
            self.within += part;
            if part == rest.len() {
                self.values.drop_block(self.next);
                (self.next, self.within) = (self.next + 1, 0);
            }
        }
        let more = self.next < self.values.keys.len();
        if !more {
            out.extend_from_slice(&self.end);
        }
        self.left = self.left.saturating_sub(out.len() - before);
        more
    }

    fn left(&self) -> usize {
        self.left.max(1)
    }

    fn footprint(&self) -> usize {
        self.values.blocks.capacity() + self.values.in_pieces + self.values.keys.capacity() * size_of::<KeySlot>()
    }
}

/// One word from every server.
#[derive(Debug)]
pub(super) struct Word {
    /// The word when all is well.
    pub(super) word: &'static [u8],
    /// It is said only if every server has done it. Otherwise it is said as well if a server is out, which has to do it later.
    pub(super) strict: bool,
    /// When a flush is to take effect, if that is later.
    pub(super) due: Option<Instant>,
}

impl Merge {
    /// Nothing has come yet.
    pub(super) const fn new(wanted: Wanted) -> Self {
        Self { wanted, error: None }
    }

    /// Is to be used for the values of so many keys. `None` where it was for something else.
    #[inline]
    pub(super) fn begin_values(&mut self, count: usize, unfinished: bool) -> Option<&mut Values> {
        self.error = None;
        let Wanted::Values(values) = &mut self.wanted else { return None };
        values.reset(count, unfinished);
        Some(values)
    }

    /// The values, if it is for some.
    #[inline]
    pub(in crate::engine) const fn values(&self) -> Option<&Values> {
        if let Wanted::Values(values) = &self.wanted { Some(values) } else { None }
    }

    /// As [`Merge::values`].
    #[cold]
    pub(in crate::engine) const fn values_mut(&mut self) -> Option<&mut Values> {
        if let Wanted::Values(values) = &mut self.wanted { Some(values) } else { None }
    }

    /// As [`Merge::values`], with the error that is told behind them.
    #[inline]
    pub(super) const fn values_and_error(&mut self) -> Option<(&mut Values, &mut Option<Vec<u8>>)> {
        if let Wanted::Values(values) = &mut self.wanted { Some((values, &mut self.error)) } else { None }
    }

    /// An answer has come.
    #[inline]
    pub(in crate::engine) fn came(&mut self, response: &[u8], whole: Option<&Arc<Vec<u8>>>, status: Status) -> Came {
        match &self.wanted {
            Wanted::Values(_) if matches!(status, Status::Done | Status::Absent) => Came::NOTHING, // they are in their places
            Wanted::Values(_) | Wanted::Word(_) | Wanted::Listing(_) | Wanted::Version(_) => {
                self.other_came(response, whole, status)
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn other_came(&mut self, response: &[u8], whole: Option<&Arc<Vec<u8>>>, status: Status) -> Came {
        match (&mut self.wanted, status) {
            (Wanted::Listing(listing), Status::Done) => {
                let before = listing.footprint();
                listing.came(response, whole);
                return Came { grown: listing.footprint() - before, version: None };
            }
            (Wanted::Version(lowest), Status::Done) => {
                let version = Version::find(response);
                *lowest = Version::lower(version.clone(), lowest.take());
                return Came { grown: 0, version: Some(version) };
            }
            (_, Status::Error | Status::OutOfMemory) => self.tell(response),
            _ => {}
        }
        Came::NOTHING
    }

    /// A server has failed. It is told if the pool tells failures, and where nobody is to think that it has done what it was
    /// told.
    pub(in crate::engine) fn failed(&mut self, failure: Failure, tells: bool) {
        if tells || matches!(&self.wanted, Wanted::Word(word) if word.strict) {
            self.tell(reply::error(failure));
        }
    }

    /// There is an error line for its client.
    pub(super) fn tell(&mut self, line: &[u8]) {
        self.error.get_or_insert_with(|| line.to_vec());
    }

    /// The error of parts of a long multi-get that have left is that of those that follow.
    pub(in crate::engine) fn pass_error_on(&mut self, carried: &mut Option<Box<[u8]>>) {
        let earlier = carried.take().map(Vec::from);
        self.error = self.error.take().or(earlier);
        if self.is_unfinished() {
            *carried = self.error.take().map(Vec::into_boxed_slice);
        }
    }

    /// Appends what the client gets.
    pub(in crate::engine) fn write(&self, out: &mut Output) {
        let error = self.error.as_deref();
        let mut text = Vec::new();
        match &self.wanted {
            Wanted::Values(values) => return values.write(error, out),
            Wanted::Word(word) => return out.append(error.unwrap_or(word.word)),
            // The others' is told.
            Wanted::Version(Some(version)) => text = [b"VERSION ", version.word(), b"\r\n"].concat(),
            Wanted::Version(None) => text.extend_from_slice(reply::VERSION),
            Wanted::Listing(listing)
                if !listing.answered
                    && let Some(error) = error =>
            {
                return out.append(error);
            }
            Wanted::Listing(listing) => listing.summed.write(&mut text),
        }
        out.push(text);
    }

    /// Whether it is put together while it is written.
    #[inline]
    pub(in crate::engine) const fn is_long(&self) -> bool {
        match &self.wanted {
            Wanted::Values(values) => values.len() > PORTION,
            Wanted::Listing(listing) => listing.is_long(),
            Wanted::Word(_) | Wanted::Version(_) => false,
        }
    }

    /// As [`Merge::write`], of what is long.
    #[cold]
    #[inline(never)]
    pub(in crate::engine) fn write_on(self, out: &mut Output) {
        let values = match self.wanted {
            Wanted::Values(values) => values,
            Wanted::Listing(listing) => return out.append_from(Box::new(Listed::new(*listing))),
            Wanted::Word(_) | Wanted::Version(_) => return self.write(out),
        };
        let end = if values.unfinished { Vec::new() } else { self.error.unwrap_or_else(|| reply::END.to_vec()) };
        let left = values.len() + end.len();
        out.append_from(Box::new(PassedOn { values, end, next: 0, within: 0, left }));
    }

    /// When what it waits for is to take effect, if that is later.
    pub(in crate::engine) const fn due(&self) -> Option<Instant> {
        if let Wanted::Word(word) = &self.wanted { word.due } else { None }
    }

    /// What a request that waits for it takes of its client's window.
    pub(in crate::engine) const fn window(&self) -> usize {
        if let Wanted::Values(values) = &self.wanted { values.keys.len() } else { 1 }
    }

    /// Whether more of the same request follows.
    #[inline]
    pub(in crate::engine) const fn is_unfinished(&self) -> bool {
        matches!(&self.wanted, Wanted::Values(values) if values.unfinished)
    }

    /// Whether its buffers are worth keeping for another request.
    #[inline]
    pub(in crate::engine) fn is_worth_keeping(&self) -> bool {
        matches!(&self.wanted, Wanted::Values(values) if values.is_worth_keeping())
    }

    /// Memory that it holds.
    pub(in crate::engine) fn footprint(&self) -> usize {
        match &self.wanted {
            Wanted::Values(values) => values.footprint(),
            Wanted::Listing(listing) => listing.footprint(),
            Wanted::Word(_) | Wanted::Version(_) => 0,
        }
    }
}
