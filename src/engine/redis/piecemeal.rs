//! Answers that are put together a little at a time, while they are written.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use super::gather::{Gather, Part};
use super::subscriptions::is_of_keys;
use crate::engine::clients::output::Source;
use crate::proto::resp::reply::{self, Items, Reply};
use crate::proto::resp::{Version, encode};

/// An element costs as much as so many bytes, however small it is.
const ELEMENT: usize = 32;

/// What a command of a transaction answered costs as much as so many elements.
pub(super) const RESULT: usize = 4;

/// An entry of a log costs as much as so many elements.
const ENTRY: usize = 8;

/// How far the list in what a server said has been passed on: where its next element begins, and how many there are still.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    at: usize,
    left: usize,
}

impl Place {
    /// No list.
    pub(super) const NOWHERE: Self = Self { at: usize::MAX, left: 0 };

    /// A list of which the last element ends at `end` of what its server said.
    pub(super) const fn of(items: Items<'_>, end: usize) -> Self {
        Self { at: end - items.bytes().len(), left: items.len() }
    }

    /// Whether it is no list.
    pub(super) const fn is_nowhere(self) -> bool {
        self.at == usize::MAX
    }

    /// What is left of the list.
    pub(super) fn items(self, said: &[u8]) -> Items<'_> {
        Items::of(said.get(self.at..).unwrap_or_default(), self.left)
    }

    /// Elements that are left.
    pub(super) const fn left(&self) -> usize {
        self.left
    }

    /// Where the next element lies.
    pub(super) fn next(&mut self, said: &[u8]) -> Option<Range<usize>> {
        let mut items = self.items(said);
        let end = self.at + items.next()?.len();
        let element = self.at..end;
        (self.at, self.left) = (end, items.len());
        Some(element)
    }
}

/// How far an answer has been written.
#[derive(Debug, Default)]
pub(super) struct Progress {
    begun: bool,
    /// Of each part.
    pub(super) places: Vec<Place>,
    /// Elements of the answer that have been written, or begun.
    pub(super) next: usize,
    /// What is left of the element at hand, and the part in which it lies.
    pub(super) rest: Option<(usize, Range<usize>)>,
    /// How far the element at hand has been written, if it is a list itself.
    pub(super) within: Option<Box<Self>>,
    /// The times of the next entries of logs, and whose they are.
    next_times: BinaryHeap<(i64, Reverse<usize>)>,
}

/// What a part's server said.
pub(super) fn said(parts: &[Part], part: usize) -> &[u8] {
    match parts.get(part) {
        Some(Part::Came(reply)) => reply,
        Some(Part::Lost(_)) | None => b"",
    }
}

impl Progress {
    /// Nothing has been written of what is made of these lists.
    pub(super) fn new(places: Vec<Place>) -> Self {
        Self { places, ..Self::default() }
    }

    /// Nothing has been written of what is made of the lists in some parts.
    pub(super) fn of(parts: &[Part]) -> Self {
        let place = |part| {
            let reply = said(parts, part);
            reply::items(reply).map_or(Place::NOWHERE, |items| Place::of(items, reply.len()))
        };
        Self::new((0..parts.len()).map(place).collect())
    }

    /// Says whether the answer has still to be begun, which it is by that.
    pub(super) fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true)
    }

    /// Elements that may be dealt with until `out` has so many bytes, each of so many parts.
    pub(super) fn elements(parts: usize, out: &[u8], until: usize) -> usize {
        (until.saturating_sub(out.len()) / ELEMENT / parts.max(1)).max(1)
    }

    /// Goes on with the element at hand until `out` has so many bytes. Whether there is room for another one.
    pub(super) fn copy(&mut self, parts: &[Part], out: &mut Vec<u8>, until: usize) -> bool {
        if let Some((part, Range { start, end })) = self.rest.take() {
            let next = end.min(start.saturating_add(until.saturating_sub(out.len())));
            out.extend_from_slice(said(parts, part).get(start..next).unwrap_or_default());
            self.rest = (next < end).then_some((part, next..end));
        }
        self.rest.is_none() && out.len() < until
    }

    /// An array of elements, of which each is the next one of a part. Whether more is to be written.
    pub(super) fn pick(
        &mut self,
        order: &[u16],
        version: Version,
        parts: &[Part],
        out: &mut Vec<u8>,
        until: usize,
    ) -> bool {
        if self.begin() {
            encode::array(out, order.len());
        }
        let last = self.next.saturating_add(Self::elements(1, out, until));
        while self.copy(parts, out, until) && self.next < last {
            let Some(from) = order.get(self.next).map(|from| usize::from(*from)) else { return false };
            self.next += 1;
            match self.places.get_mut(from).and_then(|place| place.next(said(parts, from))) {
                Some(element) => self.rest = Some((from, element)),
                None => encode::null(out, version),
            }
        }
        true
    }

    /// One list of all elements.
    pub(super) fn join(&mut self, parts: &[Part], out: &mut Vec<u8>, until: usize) -> bool {
        if self.begin() {
            let count = self.places.iter().map(|place| place.left).sum::<usize>();
            encode::array(out, count);
        }
        while self.copy(parts, out, until) {
            let Some(place) = self.places.get(self.next) else { return false };
            let end = said(parts, self.next).len();
            self.rest = Some((self.next, place.at.min(end)..end));
            self.next += 1;
        }
        true
    }

    /// Of the entries of several logs, each of which begins with its newest, the newest of all by their second fields.
    pub(super) fn newest(&mut self, count: usize, parts: &[Part], out: &mut Vec<u8>, until: usize) -> bool {
        if self.begin() {
            let all = self.places.iter().map(|place| place.left).sum::<usize>();
            encode::array(out, count.min(all));
            self.next_times = (0..self.places.len()).filter_map(|part| self.next_time(part, parts)).collect();
        }
        let last = self.next.saturating_add(Self::elements(ENTRY, out, until)).min(count);
        while self.copy(parts, out, until) {
            if self.next == last {
                return self.next < count;
            }
            let Some((_, Reverse(part))) = self.next_times.pop() else { return false };
            self.next += 1;
            self.rest = self.places.get_mut(part).and_then(|place| place.next(said(parts, part))).map(|at| (part, at));
            self.next_times.extend(self.next_time(part, parts));
        }
        true
    }

    /// When the next entry of a part's log was made.
    fn next_time(&self, part: usize, parts: &[Part]) -> Option<(i64, Reverse<usize>)> {
        let entry = self.places.get(part)?.items(said(parts, part)).next()?;
        let time = reply::items(entry).and_then(|mut fields| fields.nth(1)).map_or(0, number);
        Some((time, Reverse(part)))
    }

    /// Of lists of numbers, the least at each place.
    pub(super) fn least(&mut self, parts: &[Part], out: &mut Vec<u8>, until: usize) -> bool {
        let Some(first) = self.places.iter().position(|place| !place.is_nowhere()) else { return false };
        if self.begin() {
            encode::array(out, self.places[first].left);
        }
        for _ in 0..Self::elements(parts.len(), out, until) {
            if self.places[first].left == 0 {
                return false;
            }
            let numbers = self.places.iter_mut().enumerate().filter_map(|(part, place)| {
                let said = said(parts, part);
                Some(number(&said[place.next(said)?]))
            });
            let least = numbers.min().unwrap_or(0);
            encode::integer(out, least);
        }
        true
    }

    /// Of lists of names and numbers, the sum at each place; or the largest, where a channel is heard on all servers.
    pub(super) fn pairs(&mut self, parts: &[Part], out: &mut Vec<u8>, until: usize) -> bool {
        let Some(first) = self.places.iter().position(|place| !place.is_nowhere()) else { return false };
        if self.begin() {
            encode::array(out, self.places[first].left / 2 * 2);
        }
        for _ in 0..Self::elements(2 * parts.len(), out, until) {
            if self.places[first].left < 2 {
                return false;
            }
            if out.len() >= until {
                break;
            }
            let (mut name, mut sum) = (&b""[..], 0);
            for (part, place) in self.places.iter_mut().enumerate().skip(first) {
                let said = said(parts, part);
                let (Some(channel), Some(count)) = (place.next(said), place.next(said)) else { continue };
                let count = number(&said[count]);
                if part == first {
                    (name, sum) = (&said[channel], count);
                } else if matches!(reply::read(name), Reply::Bulk(channel) if is_of_keys(channel)) {
                    sum = sum.max(count);
                } else {
                    sum += count;
                }
            }
            out.extend_from_slice(name);
            encode::integer(out, sum);
        }
        true
    }
}

/// What a reply says that is a number.
fn number(reply: &[u8]) -> i64 {
    if let Reply::Integer(value) = reply::read(reply) { value } else { 0 }
}

/// The answers that a request waited for, all of which have come, on their way to its client.
#[derive(Debug)]
pub(super) struct Piecemeal {
    gather: Gather,
    progress: Progress,
    /// Bytes that are still to be written, about.
    left: usize,
}

impl Piecemeal {
    pub(super) const fn new(gather: Gather, progress: Progress) -> Self {
        Self { left: gather.footprint(), gather, progress }
    }
}

impl Source for Piecemeal {
    fn write(&mut self, out: &mut Vec<u8>, about: usize) -> bool {
        let before = out.len();
        let more = self.gather.put_on(&mut self.progress, out, before + about);
        self.left = self.left.saturating_sub(out.len() - before);
        more
    }

    fn left(&self) -> usize {
        self.left.max(1)
    }

    fn footprint(&self) -> usize {
        self.gather.footprint()
    }
}
