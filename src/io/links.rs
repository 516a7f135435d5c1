//! The connections of a worker to its servers, each at the place of its link.

use std::task::Waker;

use tokio::task::AbortHandle;

use super::stream::Stream;
use crate::engine::Engine;
use crate::engine::link::LinkId;
use crate::time::Instant;

/// What there is for each link.
#[derive(Debug, Default)]
pub(crate) struct Links(Vec<Place>);

#[derive(Debug, Default)]
struct Place {
    /// The connection, and the epoch of the link that it belongs to.
    stream: Option<(u32, Stream)>,
    /// Wakes the task while it has a connection.
    waker: Option<Waker>,
    task: Option<AbortHandle>,
}

impl Links {
    /// A task sets out to connect. What an earlier one has not come to the end of is given up.
    pub(crate) fn connecting(&mut self, id: LinkId, task: AbortHandle) {
        if self.0.len() <= id.index() {
            self.0.resize_with(id.index() + 1, Place::default);
        }
        if let Some(old) = self.0[id.index()].task.replace(task) {
            old.abort();
        }
    }

    /// The connection is there.
    pub(crate) fn connected(&mut self, id: LinkId, epoch: u32, stream: Stream) {
        if let Some(place) = self.0.get_mut(id.index()) {
            place.stream = Some((epoch, stream));
        }
    }

    /// The connection, or the attempt, is of no use any more. With `reset`, what has not been delivered must not be.
    pub(crate) fn disconnect(&mut self, id: LinkId, reset: bool) {
        let Some(place) = self.0.get_mut(id.index()) else { return };
        if let Some((_, stream)) = place.stream.take()
            && reset
        {
            stream.discard();
        }
        match (place.task.take(), place.waker.take()) {
            (_, Some(waker)) => waker.wake(), // one that serves a connection ends by itself
            (Some(connecting), None) => connecting.abort(),
            (None, None) => {}
        }
    }

    /// The connection has ended.
    pub(crate) fn ended(&mut self, id: LinkId) {
        if let Some(place) = self.0.get_mut(id.index()) {
            place.stream = None;
        }
    }

    /// The connection, if it is still that of this epoch. Its task is woken from now on when there is something to write.
    pub(crate) fn watch(&mut self, id: LinkId, epoch: u32, waker: &Waker) -> Option<&mut Stream> {
        let place = self.0.get_mut(id.index())?;
        let (_, stream) = place.stream.as_mut().filter(|(of, _)| *of == epoch)?;
        if !place.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            place.waker = Some(waker.clone());
        }
        Some(stream)
    }

    /// Has a link's task look at what there is to write.
    pub(crate) fn wake(&self, id: LinkId) {
        if let Some(waker) = self.0.get(id.index()).and_then(|place| place.waker.as_ref()) {
            waker.wake_by_ref();
        }
    }

    /// Writes what a link has to write, without its task. Whether that was all; the task finds out what is wrong if not.
    pub(crate) fn write(&self, engine: &mut Engine, id: LinkId, now: Instant) -> bool {
        let Some((epoch, stream)) = self.0.get(id.index()).and_then(|place| place.stream.as_ref()) else {
            return false;
        };
        let output = engine.link_output(id, *epoch);
        let wanted = output.len();
        if wanted == 0 {
            return false;
        }
        let count = stream.try_write([output, b""]);
        if count > 0 {
            engine.link_wrote(id, *epoch, count, now);
        }
        count == wanted
    }
}

/// Whether requests come one at a time.
///
/// Those of several clients that are ready in the same turn of the loop go out together, in one write by the task of
/// their link. A request that comes alone gains nothing from that, and waits for another task to have its turn. What
/// will come is not known, so it is taken to be like what came last.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Clients that have asked something since a server was last heard.
    asked: u32,
    /// It was one, the time before.
    was_alone: bool,
}

impl Pace {
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
    fn a_connection_is_closed_or_reset_as_the_engine_says() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for reset in [false, true] {
            let mut links = Links::default();
            let stream = runtime.block_on(tokio::net::TcpStream::connect(address)).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            links.connecting(LinkId(0), runtime.spawn(std::future::pending::<()>()).abort_handle());
            links.connected(LinkId(0), 7, Stream::Tcp(stream));
            assert!(links.watch(LinkId(0), 6, Waker::noop()).is_none(), "the connection of another epoch");
            assert!(links.watch(LinkId(0), 7, Waker::noop()).is_some());
            links.disconnect(LinkId(0), reset);
            assert!(links.watch(LinkId(0), 7, Waker::noop()).is_none());
            let told = server.read(&mut [0]).map_err(|error| error.kind());
            assert_eq!(told, if reset { Err(std::io::ErrorKind::ConnectionReset) } else { Ok(0) });
        }
    }

    #[test]
    fn who_comes_alone_is_expected_to_come_alone_again() {
        let mut pace = Pace::default();
        assert!(!pace.ask()); // nothing is known yet
        pace.hear();
        assert!(pace.ask());
        assert!(!pace.ask()); // another one has come along
        pace.hear();
        pace.hear(); // of two servers
        assert!(!pace.ask());
        pace.hear();
        pace.hear();
        assert!(pace.ask());
    }
}
