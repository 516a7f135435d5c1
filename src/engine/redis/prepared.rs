//! Long answers that have to be looked through before the first byte of them is written.

use super::gather::{Gather, How};
use super::info::Merged;
use super::piecemeal::{Piecemeal, Place, Progress, said};
use crate::engine::clients::output::{Output, Source};
use crate::proto::names::Names;
use crate::proto::resp::encode;
use crate::proto::resp::reply::Items;

/// Bytes that are looked through in one step.
const STEP: usize = 512;

impl Gather {
    /// As [`Gather::write`], of what is long: it is put together while it is written, where that can be.
    pub(crate) fn write_on(self, out: &mut Output) {
        let is_well = || self.error().is_none() && self.good().next().is_some();
        match (&self.how, self.progress()) {
            (_, Some(progress)) => out.append_from(Box::new(Piecemeal::new(self, progress))),
            (How::Union(seed), _) if is_well() => {
                let seed = u64::from(*seed);
                out.append_from(Box::new(United::new(self, seed)));
            }
            (How::Info(_), _) if self.good().next().is_some() => out.append_from(Box::new(Informed::new(self))),
            _ => self.write(out),
        }
    }
}

/// Lists as one that has each element once, of which the number has to be told first.
#[derive(Debug)]
pub(super) struct United {
    gather: Gather,
    /// How far the list of each part has been looked through, and the first that has not been.
    places: Vec<Place>,
    part: usize,
    names: Names,
    /// Where the elements begin: of which part, and where of what its server said.
    elements: Vec<(u32, usize)>,
    begun: bool,
    /// Elements that have been written, and how many bytes of the next.
    next: usize,
    within: usize,
    /// Bytes that are still to be written, about.
    left: usize,
}

impl United {
    pub(super) fn new(gather: Gather, seed: u64) -> Self {
        let places = Progress::of(gather.parts()).places;
        let all = places.iter().map(Place::left).sum();
        Self {
            left: gather.footprint(),
            names: Names::with_room(seed, all),
            elements: Vec::with_capacity(all),
            places,
            gather,
            part: 0,
            begun: false,
            next: 0,
            within: 0,
        }
    }

    /// The element that begins somewhere.
    fn element(gather: &Gather, (part, at): (u32, usize)) -> &[u8] {
        let rest = said(gather.parts(), part as usize).get(at..).unwrap_or_default();
        Items::of(rest, 1).next().unwrap_or_default()
    }
}

impl Source for United {
    fn is_ready(&self) -> bool {
        self.part >= self.places.len()
    }

    fn prepare(&mut self, steps: usize) -> usize {
        let Self { gather, places, part, names, elements, .. } = self;
        let mut taken = 0;
        while taken < steps {
            let Some(place) = places.get_mut(*part) else { break };
            let said = said(gather.parts(), *part);
            taken += 1;
            let Some(element) = place.next(said) else {
                *part += 1;
                continue;
            };
            taken += element.len() / STEP;
            let start = (u32::try_from(*part).unwrap_or(u32::MAX), element.start);
            if names.add(&said[element], |known| Self::element(gather, elements[known])).is_none() {
                elements.push(start);
            }
        }
        taken
    }

    fn write(&mut self, out: &mut Vec<u8>, about: usize) -> bool {
        let (before, until) = (out.len(), out.len() + about);
        if !std::mem::replace(&mut self.begun, true) {
            encode::array(out, self.elements.len());
        }
        while out.len() < until
            && let Some(start) = self.elements.get(self.next)
        {
            let rest = &Self::element(&self.gather, *start)[self.within..];
            let part = rest.len().min(until - out.len());
            out.extend_from_slice(&rest[..part]);
            self.within += part;
            if part == rest.len() {
                (self.next, self.within) = (self.next + 1, 0);
            }
        }
        self.left = self.left.saturating_sub(out.len() - before);
        self.next < self.elements.len()
    }

    fn left(&self) -> usize {
        self.left.max(1)
    }

    fn footprint(&self) -> usize {
        let elements = self.elements.capacity() * size_of::<(u32, usize)>();
        self.gather.footprint() + self.names.footprint() + elements
    }
}

/// `INFO` of very many servers.
#[derive(Debug)]
pub(super) struct Informed {
    gather: Gather,
    merged: Merged,
    /// Answers that have been looked through.
    next: usize,
}

impl Informed {
    pub(super) fn new(gather: Gather) -> Self {
        Self { gather, merged: Merged::default(), next: 0 }
    }
}

impl Source for Informed {
    fn is_ready(&self) -> bool {
        self.next >= self.gather.parts().len()
    }

    fn prepare(&mut self, steps: usize) -> usize {
        let mut taken = 0;
        while taken < steps
            && let Some(part) = self.gather.parts().get(self.next)
        {
            if let Some(reply) = part.good() {
                self.merged.add(reply);
                taken += reply.len() / STEP;
            }
            (self.next, taken) = (self.next + 1, taken + 1);
        }
        taken
    }

    fn write(&mut self, out: &mut Vec<u8>, _: usize) -> bool {
        if let How::Info(own) = &self.gather.how {
            self.merged.write(out, own, self.gather.version());
        }
        false
    }

    fn left(&self) -> usize {
        self.gather.footprint().max(1)
    }

    fn footprint(&self) -> usize {
        self.gather.footprint()
    }
}
