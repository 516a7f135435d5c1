//! The connections of a worker to its servers, each at the place of its link.

use std::collections::VecDeque;
use std::task::Poll;

use tokio::task::AbortHandle;

use super::files::Counted;
use super::poller::{Announced, Seat};
use super::stream::Stream;
use crate::config::model::{PoolId, ServerId};
use crate::engine::ids::LinkId;

/// What there is for each link.
#[derive(Debug, Default)]
pub(crate) struct Links {
    places: Vec<Place>,
    lingering: VecDeque<Lingering>,
}

/// A connection that was given up, and that its server has not come to the end of.
#[derive(Debug)]
struct Lingering {
    seat: Seat,
    server: (PoolId, ServerId),
    stream: Stream,
}

/// Most connections that linger. The oldest is reset for one that is too many.
const LINGERING_LIMIT: usize = 256;

#[derive(Debug, Default)]
struct Place {
    open: Option<Open>,
    /// The connection that is being opened, and for which link.
    attempt: Option<(LinkId, AbortHandle)>,
    /// Either is counted.
    counted: Option<(LinkId, Counted)>,
}

/// A connection, the link that it belongs to, and that link's epoch.
#[derive(Debug)]
struct Open {
    id: LinkId,
    epoch: u32,
    stream: Stream,
    /// It has had its turn, though there is more to read of it.
    had_turn: bool,
    /// It had much to say when it was last read.
    bulky: bool,
}

/// Where a connection is found by what is announced of it. An epoch comes once at a place, whichever links have it.
pub(crate) const fn seat_of(id: LinkId, epoch: u32) -> Seat {
    Seat::new(id.place, epoch)
}

impl Lingering {
    /// Drops what the server says; whether it has closed the connection.
    fn is_over(&mut self, scratch: &mut [u8]) -> bool {
        loop {
            match self.stream.read(scratch) {
                Poll::Pending => return false,
                Poll::Ready(Ok(0) | Err(_)) => return true,
                Poll::Ready(Ok(_)) => {}
            }
        }
    }
}

impl Links {
    /// A connection is being opened. What an earlier attempt has not come to the end of is given up.
    pub(crate) fn connecting(&mut self, id: LinkId, attempt: Option<AbortHandle>, counted: Counted) {
        if self.places.len() <= id.index() {
            self.places.resize_with(id.index() + 1, Place::default);
        }
        let place = &mut self.places[id.index()];
        place.counted = Some((id, counted));
        let attempt = attempt.map(|attempt| (id, attempt));
        if let Some((_, old)) = std::mem::replace(&mut place.attempt, attempt) {
            old.abort();
        }
    }

    /// The connection is there.
    pub(crate) fn connected(&mut self, id: LinkId, epoch: u32, stream: Stream) {
        if let Some(place) = self.places.get_mut(id.index()) {
            place.open = Some(Open { id, epoch, stream, had_turn: false, bulky: false });
        }
    }

    /// The connection, or the attempt, is of no use any more. With `reset`, what has not been delivered must not be.
    pub(crate) fn disconnect(&mut self, id: LinkId, reset: bool) {
        let Some(place) = self.places.get_mut(id.index()) else { return };
        if let Some(open) = place.open.take_if(|open| open.id == id)
            && reset
        {
            open.stream.discard();
        }
        if let Some((_, attempt)) = place.attempt.take_if(|(of, _)| *of == id) {
            attempt.abort();
        }
        place.counted.take_if(|(of, _)| *of == id);
    }

    /// Says nothing more on the connection, and keeps it until its server has come to its end. The server of another one
    /// that is over: of this one if it is over already.
    pub(crate) fn linger(
        &mut self,
        id: LinkId,
        server: (PoolId, ServerId),
        scratch: &mut [u8],
    ) -> Option<(PoolId, ServerId)> {
        let place = self.places.get_mut(id.index());
        let Some(open) = place.and_then(|place| place.open.take_if(|open| open.id == id)) else { return Some(server) };
        open.stream.fall_silent();
        let mut one = Lingering { seat: seat_of(open.id, open.epoch), server, stream: open.stream };
        if one.is_over(scratch) {
            return Some(server);
        }
        self.lingering.push_back(one);
        if self.lingering.len() > LINGERING_LIMIT { self.lingering.pop_front().map(|one| one.server) } else { None }
    }

    /// Takes note of what has happened to a connection that lingers. Its server, if it is over.
    #[cold]
    pub(crate) fn note_lingering(
        &mut self,
        seat: Seat,
        announced: Announced,
        scratch: &mut [u8],
    ) -> Option<(PoolId, ServerId)> {
        let place = self.lingering.iter().position(|one| one.seat == seat)?;
        let one = &mut self.lingering[place];
        one.stream.note(announced);
        if one.is_over(scratch) { self.lingering.remove(place).map(|one| one.server) } else { None }
    }

    /// Resets the connections to a server that linger. How many there were.
    pub(crate) fn end_lingering(&mut self, server: (PoolId, ServerId)) -> usize {
        let before = self.lingering.len();
        self.lingering.retain(|one| one.server != server);
        before - self.lingering.len()
    }

    /// Takes note of what has happened to a connection. The link that it belongs to, and whether it is to wait for its
    /// turn.
    #[inline]
    pub(crate) fn note(&mut self, seat: Seat, announced: Announced) -> Option<(LinkId, bool)> {
        let open = self.open(seat)?;
        open.stream.note(announced);
        let waits = open.bulky && announced.can_read() && !std::mem::replace(&mut open.had_turn, true);
        Some((open.id, waits))
    }

    /// The link of a connection, if it is still there.
    pub(crate) fn at(&mut self, seat: Seat) -> Option<LinkId> {
        Some(self.open(seat)?.id)
    }

    /// A connection that had its turn has another. Its link, if it is still there.
    pub(crate) fn again(&mut self, seat: Seat) -> Option<LinkId> {
        let open = self.open(seat)?;
        open.had_turn = false;
        Some(open.id)
    }

    /// A connection has had its turn. Where it is found for the next, if that is not known already.
    pub(crate) fn end_turn(&mut self, id: LinkId) -> Option<Seat> {
        let open = self.places.get_mut(id.index())?.open.as_mut().filter(|open| open.id == id)?;
        (!std::mem::replace(&mut open.had_turn, true)).then(|| seat_of(id, open.epoch))
    }

    #[inline]
    fn open(&mut self, seat: Seat) -> Option<&mut Open> {
        self.places.get_mut(seat.place as usize)?.open.as_mut().filter(|open| seat_of(open.id, open.epoch) == seat)
    }

    /// As [`Links::get`], of one that has not had its turn, and whether it is bulky.
    #[inline]
    pub(crate) fn get_for_turn(&mut self, id: LinkId) -> Option<(u32, &mut Stream, &mut bool)> {
        let open = self.places.get_mut(id.index())?.open.as_mut().filter(|open| open.id == id && !open.had_turn)?;
        Some((open.epoch, &mut open.stream, &mut open.bulky))
    }

    /// The connection of a link, and its epoch.
    #[inline]
    pub(crate) fn get(&mut self, id: LinkId) -> Option<(u32, &mut Stream)> {
        let open = self.places.get_mut(id.index())?.open.as_mut().filter(|open| open.id == id)?;
        Some((open.epoch, &mut open.stream))
    }
}

/// Whether requests come one at a time.
///
/// Those of several clients that are ready in the same turn of the loop go out together, in one write at the end of
/// the turn. A request that comes alone gains nothing from that, and is written at once. What
/// will come is not known, so it is taken to be like what came last.
#[derive(Debug, Default)]
pub(crate) struct Batching {
    /// Clients that have asked something since a server was last heard.
    asked: u32,
    /// It was one, the time before.
    was_alone: bool,
}

impl Batching {
    /// A client asks something. Whether it is likely to be the only one.
    pub(crate) fn ask(&mut self) -> bool {
        self.asked = self.asked.saturating_add(1);
        self.asked == 1 && self.was_alone
    }

    /// A server was heard.
    pub(crate) fn hear(&mut self) {
        if self.asked > 0 {
            self.was_alone = self.asked == 1;
            self.asked = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_connection_that_had_its_turn_waits_for_the_next_and_is_noted_once() {
        let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
        let (mut links, id) = (Links::default(), LinkId::first(0));
        links.places.resize_with(1, Place::default);
        links.connected(id, 1, Stream::new(near.into()));
        assert!(links.get_for_turn(id).is_some());
        assert_eq!(links.end_turn(id), Some(seat_of(id, 1)));
        assert_eq!(links.end_turn(id), None, "it is noted already");
        assert!(links.get_for_turn(id).is_none(), "an announcement is no other turn");
        assert_eq!(links.again(seat_of(id, 1)), Some(id));
        assert!(links.get_for_turn(id).is_some());
    }

    #[test]
    fn a_connection_is_closed_or_reset_as_the_engine_says() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let file = "pool:\n  listen: 127.0.0.1:1\n  servers: ['127.0.0.1:1:1']\n";
        let config = crate::config::parse("file", file).unwrap().config;
        let files = crate::io::files::Files::of_process(&config);
        for reset in [false, true] {
            let mut links = Links::default();
            let stream = std::net::TcpStream::connect(address).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            let attempt = runtime.spawn(std::future::pending::<()>());
            links.connecting(LinkId::first(0), Some(attempt.abort_handle()), files.count(false));
            links.connected(LinkId::first(0), 7, Stream::new(stream.into()));
            assert_eq!(links.get(LinkId::first(0)).map(|(epoch, _)| epoch), Some(7));
            links.disconnect(LinkId::first(0), reset);
            assert!(links.get(LinkId::first(0)).is_none());
            assert!(runtime.block_on(attempt).unwrap_err().is_cancelled());
            let told = server.read(&mut [0]).map_err(|error| error.kind());
            assert_eq!(told, if reset { Err(std::io::ErrorKind::ConnectionReset) } else { Ok(0) });
        }
    }

    #[test]
    fn an_id_that_is_over_reaches_nobody() {
        let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut links = Links::default();
        let (old, new) = (LinkId::first(0), LinkId::first(0).next());
        links.places.push(Place::default());
        links.connected(new, 3, Stream::new(near.into()));
        assert!(links.get(old).is_none());
        links.disconnect(old, true);
        assert!(links.get(new).is_some(), "it is another's");
        assert_eq!(links.again(seat_of(old, 2)), None);
        assert_eq!(links.again(seat_of(new, 3)), Some(new));
    }

    #[test]
    fn who_comes_alone_is_expected_to_come_alone_again() {
        let mut batching = Batching::default();
        assert!(!batching.ask()); // nothing is known yet
        batching.hear();
        assert!(batching.ask());
        assert!(!batching.ask()); // another one has come along
        batching.hear();
        batching.hear(); // of two servers
        assert!(!batching.ask());
        batching.hear();
        batching.hear();
        assert!(batching.ask());
    }
}
