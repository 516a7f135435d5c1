//! A request for very many keys that is made ready in portions.

use super::call::Call;
use super::piece::Shares;
use crate::engine::memory::grow::grow;
use crate::engine::work::{self, Work};
use crate::proto::resp::args::{Args, Span};
use crate::proto::resp::{encode, request};

/// Arguments that are looked for, and bytes that are copied, between two looks at what the turn has cost.
pub(super) const SPANS: usize = 512;

/// What an argument of a request takes besides its bytes when the request is carried out.
pub(super) const ARGUMENT_COST: usize = 24;

pub(super) const COPIED_AT_ONCE: usize = 64 << 10;

/// A long request at the front of a client's input, as far as it is ready.
#[derive(Debug, Default)]
pub(crate) struct Long {
    /// Where its arguments lie, and the byte behind the last that was found.
    pub(super) spans: Vec<Span>,
    pub(super) found: usize,
    /// There is memory for another copy of it, or it is refused for want of that.
    pub(super) weighed: bool,
    pub(super) refused: bool,
    /// Bytes that are charged to its client for that copy.
    pub(super) reserved: usize,
    /// Whether its keys are all one server's, as far as that is known.
    pub(super) compared: Compared,
    /// What servers get that have its keys.
    pub(super) sorted: Option<Sorted>,
    /// What they get where all of them get the same.
    pub(super) copies: Pieces,
}

/// Whether the keys of a request are all one server's.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Compared {
    /// The ring that the servers are looked up in.
    pub(super) ring_version: u32,
    /// The next key that is looked up.
    pub(super) next: usize,
    /// All have been looked up, or one that is another server's.
    pub(super) is_over: bool,
    pub(super) is_apart: bool,
}

/// What servers get of a long request, each its piece; the last one as far as it is written.
#[derive(Debug, Default)]
pub(super) struct Pieces(pub(super) Vec<Vec<u8>>);

impl Long {
    /// Goes on with looking for its arguments; `false` when some are left, as the turn is over.
    pub(super) fn find_on(&mut self, raw: &[u8], work: &mut Work) -> bool {
        while self.found < raw.len() && !work.is_over() {
            let before = self.spans.len();
            self.found = request::find_spans(raw, self.found, SPANS, &mut self.spans);
            work.cost += (self.spans.len() - before) * work::ARGUMENT;
        }
        self.found >= raw.len()
    }

    /// Which servers its keys belong to in a ring, as far as that is known.
    pub(super) fn sorted_in(&mut self, ring_version: u32, keys: usize) -> &mut Sorted {
        self.sorted.take_if(|sorted| sorted.ring_version != ring_version);
        self.sorted.get_or_insert_with(|| Sorted::new(ring_version, keys))
    }
}

/// Which servers the keys of a request belong to, and what each of them gets.
#[derive(Debug)]
pub(super) struct Sorted {
    /// The ring that the servers are looked up in.
    pub(super) ring_version: u32,
    pub(super) shares: Shares,
    /// As [`Engine::share_out`](super::split) has them.
    pub(super) order: Vec<u16>,
    pub(super) chain: Vec<u32>,
    /// Bytes of the keys of each share, and of what belongs to them.
    pub(super) sizes: Vec<usize>,
    /// The next key that is looked up.
    pub(super) next: usize,
    pub(super) pieces: Pieces,
    /// The last key that is in the last piece.
    pub(super) written: Option<u32>,
}

/// Where an argument ends, its line end included.
pub(super) fn end_of(args: Args<'_>, place: usize) -> usize {
    args.spans().get(place).map_or(0, |span| span.start as usize + span.len as usize + 2)
}

impl Sorted {
    pub(super) fn new(ring_version: u32, keys: usize) -> Self {
        Self {
            ring_version,
            shares: Shares::default(),
            order: vec![0; keys],
            chain: vec![0; keys],
            sizes: Vec::new(),
            next: 0,
            pieces: Pieces::default(),
            written: None,
        }
    }

    /// Goes on with writing what the servers get; `false` when something is left, as the turn is over.
    pub(super) fn write_on(&mut self, call: Call<'_>, stride: usize, work: &mut Work) -> bool {
        let (args, Pieces(pieces)) = (call.args, &mut self.pieces);
        while !work.is_over() {
            let key = match self.written {
                Some(key) => self.chain[key as usize],
                None => {
                    let Some(share) = self.shares.get(pieces.len()) else { return true };
                    let size = self.sizes.get(pieces.len()).copied().unwrap_or(0);
                    let mut piece = Vec::with_capacity(2 * encode::HEAD + args.get(0).len() + size);
                    encode::array(&mut piece, share.words + 1);
                    args.push(0, &mut piece);
                    pieces.push(piece);
                    share.first
                }
            };
            let share = pieces.len() - 1;
            let piece = &mut pieces[share];
            let (place, before) = (1 + key as usize * stride, piece.len());
            (place..place + stride).for_each(|place| args.push(place, piece));
            work.cost += work::ARGUMENT * stride + (piece.len() - before) / work::COPIED;
            self.written = (key != self.shares[share].last).then_some(key);
        }
        false
    }
}

impl Pieces {
    /// Goes on with copying a request for so many servers; `false` when something is left, as the turn is over.
    pub(super) fn copy_for(&mut self, servers: usize, raw: &[u8], work: &mut Work) -> bool {
        while self.0.is_empty() || self.copy_on(raw, work) {
            if self.0.len() >= servers {
                return true;
            }
            self.0.push(Vec::with_capacity(raw.len()));
        }
        false
    }

    /// The same, of one copy.
    fn copy_on(&mut self, raw: &[u8], work: &mut Work) -> bool {
        let Some(piece) = self.0.last_mut() else { return true };
        while piece.len() < raw.len() {
            if work.is_over() {
                return false;
            }
            let rest = &raw[piece.len()..];
            let next = &rest[..rest.len().min(COPIED_AT_ONCE)];
            piece.extend_from_slice(next);
            work.cost += next.len() / work::COPIED;
        }
        true
    }
}

/// Less than this is copied: the room for what goes to a server is used again.
const HANDED_OVER: usize = 32 << 10;

/// Appends what has been made ready to what goes to a server.
pub(super) fn hand_over(out: &mut Vec<u8>, piece: Vec<u8>) {
    if out.is_empty() && piece.len() >= HANDED_OVER {
        *out = piece;
    } else {
        grow(out, &piece);
    }
}
