//! Several responses as one: multi-gets, and requests that go to every server.

use super::clients::output::Output;
use super::fragment::{Fragment, NO_KEY};
use super::redis::gather::Gather;
use crate::failure::Failure;
use crate::proto::memcache::version::Version;
use crate::proto::memcache::{reply, stats};
use crate::time::Instant;

/// What the responses of several servers become.
#[derive(Debug)]
pub(crate) enum Merge {
    /// Values of a multi-get, in the order of the request.
    Values(Values),
    /// One word from all servers: `flush_all`, `stats reset`, `verbosity`.
    Word(Word),
    /// `stats` listings, added up.
    Listing(Listing),
    /// `version`.
    Version(Lowest),
    /// Redis: whatever is to be made of them.
    Gather(Gather),
}

/// The values of a multi-get, or of a part of a long one.
#[derive(Debug)]
pub(crate) struct Values {
    /// One for each key of the request, in its order.
    pub(crate) keys: Vec<KeySlot>,
    pub(crate) fragments: Vec<Fragment>,
    /// The `VALUE` blocks, in the order in which they came.
    pub(crate) blocks: Vec<u8>,
    /// What to end with in place of `END`.
    pub(crate) error: Option<Vec<u8>>,
    /// More of the same request follows: no `END` yet.
    pub(crate) unfinished: bool,
}

/// A key of a multi-get.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeySlot {
    /// The next key of the same fragment, or [`NO_KEY`].
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
    pub(crate) const EMPTY: Self =
        Self { keys: Vec::new(), fragments: Vec::new(), blocks: Vec::new(), error: None, unfinished: false };

    /// Has no values yet, of so many keys, which belong to no fragment yet.
    pub(crate) fn reset(&mut self, count: usize, unfinished: bool) {
        self.keys.clear();
        self.keys.resize(count, KeySlot::MISSING);
        self.fragments.clear();
        self.blocks.clear();
        (self.error, self.unfinished) = (None, unfinished);
    }

    /// Whether its buffers are worth keeping for another request.
    pub(crate) fn is_worth_keeping(&self) -> bool {
        self.blocks.capacity() <= KEPT_BLOCKS && self.keys.capacity() <= KEPT_KEYS
    }

    /// Puts the key number `index`, of so many bytes, behind the others of its fragment.
    #[inline]
    pub(crate) fn link(&mut self, fragment: usize, index: usize, key_len: usize) {
        if let Some(slot) = self.keys.get_mut(index) {
            slot.key_len = u8::try_from(key_len).unwrap_or(0); // no key is longer
        }
        let fragment = &mut self.fragments[fragment];
        let index = u32::try_from(index).unwrap_or(NO_KEY); // a part of a request has fewer keys
        match self.keys.get_mut(fragment.last as usize) {
            Some(last) => last.next = index,
            None => fragment.first = index,
        }
        fragment.last = index;
    }

    /// The key that stands `count` behind another one of the same fragment.
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
    fn write(&self, out: &mut Output) {
        let block = |key: &KeySlot| &self.blocks[key.offset as usize..(key.offset + key.len) as usize];
        if self.blocks.len() <= KEPT_BLOCKS {
            out.append_with(self.blocks.len(), |out| {
                self.keys.iter().map(block).for_each(|block| out.extend_from_slice(block));
            });
        } else {
            self.keys.iter().for_each(|key| out.append(block(key)));
        }
        if !self.unfinished {
            out.append(self.error.as_deref().unwrap_or(reply::END));
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
    /// The first error line that a server answered.
    pub(crate) error: Option<Vec<u8>>,
    pub(crate) servers: Vec<Fragment>,
}

/// The listings of every server.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) summed: stats::Summed,
    /// The first error line that a server answered.
    pub(crate) error: Option<Vec<u8>>,
    pub(crate) answered: bool,
    pub(crate) servers: Vec<Fragment>,
}

/// The lowest version of some servers.
#[derive(Debug)]
pub(crate) struct Lowest {
    /// The lowest so far.
    pub(crate) version: Option<Version>,
    pub(crate) servers: Vec<Fragment>,
}

impl Lowest {
    /// Appends the answer to `version`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match &self.version {
            Some(version) => {
                [&b"VERSION "[..], version.word(), b"\r\n"].iter().for_each(|part| out.extend_from_slice(part))
            }
            None => out.extend_from_slice(reply::VERSION),
        }
    }
}

impl Merge {
    /// The servers that take part, and whether each has answered.
    pub(crate) fn fragments(&self) -> &[Fragment] {
        match self {
            Self::Values(values) => &values.fragments,
            Self::Word(word) => &word.servers,
            Self::Listing(listing) => &listing.servers,
            Self::Version(lowest) => &lowest.servers,
            Self::Gather(gather) => &gather.servers,
        }
    }

    /// Marks a fragment as answered; `false` when it was already.
    pub(crate) fn finish(&mut self, fragment: u16) -> bool {
        let fragments = match self {
            Self::Values(values) => &mut values.fragments,
            Self::Word(word) => &mut word.servers,
            Self::Listing(listing) => &mut listing.servers,
            Self::Version(lowest) => &mut lowest.servers,
            Self::Gather(gather) => &mut gather.servers,
        };
        fragments.get_mut(usize::from(fragment)).is_some_and(|fragment| !std::mem::replace(&mut fragment.done, true))
    }

    /// A server answered with an error line.
    pub(crate) fn error(&mut self, line: &[u8]) {
        let error = match self {
            Self::Values(values) => &mut values.error,
            Self::Word(word) => &mut word.error,
            Self::Listing(listing) => &mut listing.error,
            Self::Gather(_) => return,  // each of its parts has its own
            Self::Version(_) => return, // the others' is told
        };
        if error.is_none() {
            *error = Some(line.to_vec());
        }
    }

    /// A server failed. It is told if the pool tells failures as `errors`, and where nobody is to think that it has done
    /// what it was told.
    pub(crate) fn failed(&mut self, failure: Failure, errors: bool) {
        if errors || matches!(self, Self::Word(word) if word.strict) {
            self.error(reply::error(failure));
        }
    }

    /// Appends what the client gets.
    pub(crate) fn write(&self, out: &mut Output) {
        match self {
            Self::Values(values) => values.write(out),
            Self::Gather(gather) => gather.write(out),
            Self::Word(word) => out.append(word.error.as_deref().unwrap_or(word.word)),
            Self::Version(lowest) => {
                let mut text = Vec::new();
                lowest.write(&mut text);
                out.push(text);
            }
            Self::Listing(listing) => match &listing.error {
                Some(error) if !listing.answered => out.append(error),
                _ => {
                    let mut text = Vec::new();
                    listing.summed.write(&mut text);
                    out.push(text);
                }
            },
        }
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
