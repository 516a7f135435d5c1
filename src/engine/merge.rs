//! Several responses as one: multi-gets, and requests that go to every server.

use super::clients::output::Output;
use super::redis::gather::Gather;
use crate::proto::memcache::version::Version;
use crate::proto::memcache::{reply, stats};
use crate::time::Instant;

/// The end of the list of a part's keys.
pub(crate) const NO_KEY: u32 = u32::MAX;

/// What the responses of several servers become.
#[derive(Debug)]
pub(crate) enum Merge {
    /// Values of a multi-get, in the order of the request.
    Values(Values),
    /// One word from all servers: `flush_all`, `stats reset`, `verbosity`.
    Word(Word),
    /// `stats` listings, added up.
    Listing(Listing),
    /// `version`: the lowest so far.
    Version(Option<Version>),
    /// Redis: whatever is to be made of them.
    Gather(Gather),
}

/// The values of a multi-get, or of a part of a long one.
#[derive(Debug)]
pub(crate) struct Values {
    /// One for each key of the request, in its order.
    pub(crate) keys: Vec<KeySlot>,
    /// Those of each part.
    pub(crate) chains: Vec<Chain>,
    /// The `VALUE` blocks, in the order in which they came.
    pub(crate) blocks: Vec<u8>,
    /// More of the same request follows: no `END` yet.
    pub(crate) unfinished: bool,
}

/// The keys of a part of a multi-get.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain {
    pub(crate) first: u32,
    last: u32,
}

impl Chain {
    /// No keys yet.
    pub(crate) const EMPTY: Self = Self { first: NO_KEY, last: NO_KEY };
}

/// A key of a multi-get.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeySlot {
    /// The next key of the same part, or [`NO_KEY`].
    pub(crate) next: u32,
    /// Where its block lies in [`Values::blocks`].
    pub(crate) offset: u32,
    /// Length of its block; 0 for a miss.
    pub(crate) len: u32,
    /// Length of the key itself, so that it need not be looked for in the request once more.
    pub(crate) key_len: u8,
}

impl KeySlot {
    /// A key that nothing is known of.
    pub(crate) const MISSING: Self = Self { next: NO_KEY, offset: 0, len: 0, key_len: 0 };
}

/// Most bytes that are reserved for the values of a multi-get before they come.
const RESERVED: usize = 4 << 10;

/// Values up to so many bytes are put together at once, and the buffer that they were in is used again.
const KEPT_BLOCKS: usize = 8 << 10;

/// Keys up to so many are kept room for.
const KEPT_KEYS: usize = 128;

impl Values {
    /// No values at all.
    pub(crate) const EMPTY: Self = Self { keys: Vec::new(), chains: Vec::new(), blocks: Vec::new(), unfinished: false };

    /// Has no values yet, of so many keys, which belong to no part yet.
    pub(crate) fn reset(&mut self, count: usize, unfinished: bool) {
        self.keys.clear();
        self.keys.resize(count, KeySlot::MISSING);
        self.chains.clear();
        self.blocks.clear();
        self.unfinished = unfinished;
    }

    /// Whether its buffers are worth keeping for another request.
    pub(crate) fn is_worth_keeping(&self) -> bool {
        self.blocks.capacity() <= KEPT_BLOCKS && self.keys.capacity() <= KEPT_KEYS
    }

    /// Puts the key number `index`, of so many bytes, behind the others of its part.
    #[inline]
    pub(crate) fn link(&mut self, part: usize, index: usize, key_len: usize) {
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
    pub(crate) fn key_behind(&self, key: u32, count: usize) -> u32 {
        (0..count).fold(key, |key, _| self.keys.get(key as usize).map_or(NO_KEY, |slot| slot.next))
    }

    /// Says where, in the blocks that are kept next, the block of a key lies.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the blocks of one part stay below 4 GiB: see `fits`")]
    pub(crate) fn place(&mut self, key: u32, offset: usize, len: usize) {
        if let Some(slot) = self.keys.get_mut(key as usize) {
            (slot.offset, slot.len) = ((self.blocks.len() + offset) as u32, len as u32);
        }
    }

    /// Keeps blocks, of which the largest has so many bytes.
    #[inline]
    pub(crate) fn keep(&mut self, blocks: &[u8], largest: usize) {
        if self.blocks.capacity() == 0 {
            // The others are taken to be like these.
            self.blocks.reserve(blocks.len().max((largest * self.keys.len()).min(RESERVED)));
        }
        self.blocks.extend_from_slice(blocks);
    }

    /// Whether further blocks of `len` bytes can be held.
    pub(crate) fn fits(&self, len: usize) -> bool {
        self.blocks.len() + len < u32::MAX as usize
    }

    /// Appends what the client gets.
    fn write(&self, error: Option<&[u8]>, out: &mut Output) {
        let block = |key: &KeySlot| &self.blocks[key.offset as usize..(key.offset + key.len) as usize];
        if self.blocks.len() <= KEPT_BLOCKS {
            out.append_with(self.blocks.len(), |out| {
                self.keys.iter().map(block).for_each(|block| out.extend_from_slice(block));
            });
        } else {
            self.keys.iter().for_each(|key| out.append(block(key)));
        }
        if !self.unfinished {
            out.append(error.unwrap_or(reply::END));
        }
    }
}

/// One word from every server.
#[derive(Debug)]
pub(crate) struct Word {
    /// The word when all is well.
    pub(crate) word: &'static [u8],
    /// It is said only if every server has done it. Otherwise it is said as well if a server is out, which has to do it later.
    pub(crate) strict: bool,
    /// When a flush is to take effect, if that is later.
    pub(crate) due: Option<Instant>,
}

/// The listings of every server.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) summed: stats::Summed,
    pub(crate) answered: bool,
}

impl Merge {
    /// Whether every server has to have done it, and a failure of one is told.
    pub(crate) const fn is_strict(&self) -> bool {
        matches!(self, Self::Word(word) if word.strict)
    }

    /// Appends what the client gets; `error` is the first error line that there is for it.
    pub(crate) fn write(&self, error: Option<&[u8]>, out: &mut Output) {
        let mut text = Vec::new();
        match self {
            Self::Values(values) => return values.write(error, out),
            Self::Gather(gather) => return gather.write(out), // each of its parts has its own error
            Self::Word(word) => return out.append(error.unwrap_or(word.word)),
            // The others' is told.
            Self::Version(Some(version)) => text = [b"VERSION ", version.word(), b"\r\n"].concat(),
            Self::Version(None) => text.extend_from_slice(reply::VERSION),
            Self::Listing(Listing { answered: false, .. }) if let Some(error) = error => return out.append(error),
            Self::Listing(listing) => listing.summed.write(&mut text),
        }
        out.push(text);
    }

    /// When what it waits for is to take effect, if that is later.
    pub(crate) const fn due(&self) -> Option<Instant> {
        match self {
            Self::Word(word) => word.due,
            Self::Values(_) | Self::Listing(_) | Self::Version(_) | Self::Gather(_) => None,
        }
    }

    /// Redis: the database that it concerns.
    pub(crate) const fn database(&self) -> u32 {
        match self {
            Self::Gather(gather) => gather.database,
            Self::Values(_) | Self::Listing(_) | Self::Word(_) | Self::Version(_) => 0,
        }
    }

    /// What a request that waits for it takes of its client's window.
    pub(crate) const fn window(&self) -> usize {
        match self {
            Self::Gather(gather) => gather.how.keys(),
            Self::Values(values) => values.keys.len(),
            Self::Listing(_) | Self::Word(_) | Self::Version(_) => 1,
        }
    }

    /// Whether more of the same request follows.
    pub(crate) const fn is_unfinished(&self) -> bool {
        matches!(self, Self::Values(values) if values.unfinished)
    }

    /// Memory that it holds.
    pub(crate) fn footprint(&self) -> usize {
        match self {
            Self::Values(values) => values.blocks.len() + values.keys.len() * size_of::<KeySlot>(),
            Self::Gather(gather) => gather.footprint(),
            Self::Listing(listing) => listing.summed.footprint(),
            Self::Word(_) | Self::Version(_) => 0,
        }
    }
}
