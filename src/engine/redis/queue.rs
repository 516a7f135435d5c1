//! What a client has queued since `MULTI`.

use super::planned::Planning;
use crate::engine::shared::Shared;
use crate::proto::resp::command::Command;

/// Bytes that a client may queue.
pub(super) const QUEUE_LIMIT: usize = 64 << 20;

/// What a queued request takes besides its bytes, in the queue and when it is carried out: it is copied to its server's
/// stream, and what is made of its answer is noted.
pub(super) const REQUEST_COST: usize = 320;

/// Room for the bytes of requests that is taken at a time: as much as they have so far, within bounds.
const ROOM: (usize, usize) = (128, 64 << 10);

/// What a client has queued since `MULTI`.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    requests: Vec<Queued>,
    /// Their bytes, of many in one place: all of them are let go at once.
    places: Vec<Vec<u8>>,
    pub(super) bytes: usize,
    /// A request was refused: `EXEC` will carry out none.
    pub(super) spoiled: bool,
    /// The ring that the first request was judged by: whether one server has all that it needs.
    pub(super) judged_by: Option<u32>,
    /// The first key of all, where a transaction is one server's.
    pub(super) first_key: Option<Box<[u8]>>,
    /// Its `EXEC` has come, and is made ready.
    pub(super) planning: Option<Box<Planning>>,
}

#[derive(Debug)]
struct Queued {
    bytes: Bytes,
    command: &'static Command,
}

/// Where the bytes of a request are.
#[derive(Debug)]
enum Bytes {
    Here {
        place: usize,
        start: usize,
        len: usize,
    },
    /// In the large buffer that it came in.
    Whole(Shared),
}

impl Queue {
    pub(crate) fn footprint(&self) -> usize {
        let planning = self.planning.as_ref().map_or(0, |planning| planning.footprint());
        let requests = self.requests.capacity() * size_of::<Queued>() + self.requests.len() * REQUEST_COST;
        2 * self.bytes + requests + self.first_key.as_ref().map_or(0, |key| key.len()) + planning
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Adds a request behind the others, and a large one with the buffer that it came in.
    pub(super) fn push(&mut self, raw: &[u8], whole: Option<Shared>, command: &'static Command) {
        self.bytes += raw.len();
        if let Some(whole) = whole {
            return self.requests.push(Queued { bytes: Bytes::Whole(whole), command });
        }
        if self.places.last().is_none_or(|last| last.capacity() - last.len() < raw.len()) {
            self.places.push(Vec::with_capacity(raw.len().max(self.bytes.clamp(ROOM.0, ROOM.1))));
        }
        let place = self.places.len() - 1;
        let bytes = &mut self.places[place];
        let at = Bytes::Here { place, start: bytes.len(), len: raw.len() };
        self.requests.push(Queued { bytes: at, command });
        bytes.extend_from_slice(raw);
    }

    /// A request, and its command.
    pub(super) fn get(&self, number: usize) -> Option<(&[u8], &'static Command)> {
        let request = self.requests.get(number)?;
        let bytes = match &request.bytes {
            Bytes::Here { place, start, len } => &self.places[*place][*start..start + len],
            Bytes::Whole(whole) => whole,
        };
        Some((bytes, request.command))
    }

    /// All requests, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &'static Command)> {
        (0..self.requests.len()).map_while(|number| self.get(number))
    }

    /// Drops the requests; they are not to be carried out.
    pub(super) fn clear(&mut self) {
        *self = Self { spoiled: true, ..Self::default() };
    }
}
