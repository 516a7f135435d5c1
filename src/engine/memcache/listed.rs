//! Listings of several servers, on their way to a client.

use std::collections::VecDeque;

use crate::engine::buffers::Kept;
use crate::engine::clients::output::{PORTION, Source};
use crate::proto::memcache::stats::{Summed, Written};
use std::sync::Arc;

/// Listings of more bytes are not looked through when they come.
const LONG: usize = 16 << 10;

/// The listings of every server.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) summed: Summed,
    pub(super) answered: bool,
    /// What is not added up yet, how many bytes that is, and how many lines.
    others: VecDeque<Kept>,
    bytes: usize,
    lines: usize,
    /// See [`Summed::expect`].
    seed: u64,
}

impl Listing {
    /// Nothing has come yet.
    pub(super) const fn new(summed: Summed, seed: u64) -> Self {
        Self { summed, answered: false, others: VecDeque::new(), bytes: 0, lines: 0, seed }
    }

    /// A server has answered, perhaps with all that is in a buffer.
    pub(super) fn came(&mut self, listing: &[u8], whole: Option<&Arc<Vec<u8>>>) {
        self.answered = true;
        if listing.len() <= LONG && self.others.is_empty() && self.summed.footprint() <= PORTION {
            return self.summed.add(listing);
        }
        self.bytes += listing.len();
        self.lines += memchr::memchr_iter(b'\n', listing).count();
        self.others.push_back(Kept::of(listing, whole));
    }

    /// Memory that it holds.
    pub(super) const fn footprint(&self) -> usize {
        self.summed.footprint() + self.bytes
    }

    /// Whether it is put together while it is written.
    pub(super) const fn is_long(&self) -> bool {
        self.bytes > 0 || self.summed.footprint() > PORTION
    }
}

/// Listings, all of which have come, as they are added up and then written.
#[derive(Debug)]
pub(super) struct Listed {
    listing: Listing,
    /// Bytes of the first that is not added up which have been.
    at: usize,
    written: Written,
    /// Bytes that are still to be written, about.
    left: usize,
}

impl Listed {
    pub(super) fn new(mut listing: Listing) -> Self {
        if !listing.others.is_empty() {
            listing.summed.expect(listing.lines, listing.seed);
        }
        Self { left: listing.footprint(), listing, at: 0, written: Written::default() }
    }
}

impl Source for Listed {
    fn is_ready(&self) -> bool {
        self.listing.others.is_empty()
    }

    fn prepare(&mut self, steps: usize) -> usize {
        let Self { listing: Listing { summed, others, bytes, .. }, at, left, .. } = self;
        let mut taken = 0;
        while taken < steps
            && let Some(next) = others.front()
        {
            let (used, more) = summed.add_some(&next[*at..], steps - taken);
            (*at, taken) = (*at + used, taken + more.max(1));
            if *at >= next.len() {
                *bytes -= next.len();
                *at = 0;
                others.pop_front();
            }
        }
        if others.is_empty() {
            *left = summed.footprint();
        }
        taken
    }

    fn write(&mut self, out: &mut Vec<u8>, about: usize) -> bool {
        let before = out.len();
        let more = self.listing.summed.write_on(&mut self.written, out, before + about);
        self.left = self.left.saturating_sub(out.len() - before);
        more
    }

    fn left(&self) -> usize {
        self.left.max(1)
    }

    fn footprint(&self) -> usize {
        self.listing.footprint()
    }
}
