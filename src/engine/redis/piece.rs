//! The parts of a request that several servers get.

use crate::config::model::ServerId;
use crate::engine::ways::To;
use crate::failure::Failure;
use crate::proto::resp::args::Args;
use crate::proto::resp::encode;

/// What goes to one server.
#[derive(Debug)]
pub(in crate::engine) struct Piece {
    pub(super) to: To,
    pub(super) request: Vec<u8>,
    /// Replies that it will be answered with.
    pub(super) replies: u32,
}

/// What belongs to one server of a request's keys.
#[derive(Debug)]
pub(in crate::engine) struct Share {
    pub(super) server: Option<ServerId>,
    pub(super) number: u16,
    /// Arguments of it.
    pub(super) words: usize,
    /// Its first key and its last.
    pub(super) first: u32,
    pub(super) last: u32,
}

/// So many shares are looked through for the one of a server; where there are more, they are found by a table.
pub(super) const FEW_SHARES: usize = 16;

impl Share {
    /// Where it is to go.
    pub(super) fn to(&self) -> To {
        self.server.map_or(To::Nowhere(None, Failure::Ejected), To::Server)
    }

    /// Appends the share as a request of its own; `chain` is for each key the next one of the same share.
    pub(super) fn write(&self, out: &mut Vec<u8>, args: Args<'_>, stride: usize, chain: &[u32]) {
        encode::array(out, self.words + 1);
        args.push(0, out);
        let mut key = self.first as usize;
        loop {
            let place = 1 + key * stride;
            args.push(place, out);
            if stride == 2 {
                args.push(place + 1, out);
            }
            if key == self.last as usize {
                return;
            }
            key = chain[key] as usize;
        }
    }
}
