//! A client's connection: the engine's output to the socket, the socket's input to the engine.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::BufMut;

use super::stream::Stream;
use super::worker::{Shared, Worker};
use crate::engine::session::SessionId;
use crate::engine::{Outlet, Room};
use crate::time::Instant;

/// Reads of a full buffer in one poll, after which other connections get their turn.
const READS_PER_POLL: usize = 4;

/// Bytes read of a client at a time. What it may not be asked yet is kept for it, so no more than this of each client.
const READ_LIMIT: usize = 64 << 10;

/// Responses in two pieces of up to so many bytes are copied together: a gathering write costs the kernel more than that.
const COPIED: usize = 2 << 10;

/// The connections of a worker's clients, each at the place of its session.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    places: Vec<Option<Client>>,
    /// Where two pieces become one.
    whole: Vec<u8>,
}

#[derive(Debug)]
struct Client {
    stream: Stream,
    /// Wakes the client's task.
    waker: Waker,
}

impl Clients {
    /// A client has come.
    pub(crate) fn insert(&mut self, id: SessionId, stream: Stream) {
        if self.places.len() <= id.index() {
            self.places.resize_with(id.index() + 1, || None);
        }
        self.places[id.index()] = Some(Client { stream, waker: Waker::noop().clone() });
    }

    /// A client has left: its connection is closed.
    pub(crate) fn remove(&mut self, id: SessionId) {
        if let Some(place) = self.places.get_mut(id.index()) {
            *place = None;
        }
    }

    /// Has a client's task look at its session.
    pub(crate) fn wake(&self, id: SessionId) {
        if let Some(Some(client)) = self.places.get(id.index()) {
            client.waker.wake_by_ref();
        }
    }
}

/// The engine names a client only as long as it is served, so the place of its session is its own.
impl Outlet for Clients {
    fn offer(&mut self, client: SessionId, pieces: [&[u8]; 2]) -> usize {
        let Some(Some(client)) = self.places.get(client.index()) else { return 0 };
        let [first, second] = pieces;
        if second.is_empty() || first.len() + second.len() > COPIED {
            return client.stream.try_write(pieces);
        }
        self.whole.clear();
        self.whole.extend_from_slice(first);
        self.whole.extend_from_slice(second);
        client.stream.try_write([&self.whole, b""])
    }
}

/// Serves one client until it leaves or is finished with.
pub(crate) async fn run(shared: Shared, id: SessionId) {
    let shared = Rc::clone(&shared);
    let failed = poll_fn(|context| {
        let worker = &mut *shared.borrow_mut();
        let now = worker.clock.now();
        let outcome = poll(worker, id, now, context);
        worker.after_client(now);
        outcome
    })
    .await;
    let worker = &mut *shared.borrow_mut();
    worker.engine.client_gone(id, failed);
    worker.forget_client(id);
}

/// Moves what can be moved. Ready when the connection is over: with whether it failed.
#[inline(never)]
fn poll(worker: &mut Worker, id: SessionId, now: Instant, context: &mut Context<'_>) -> Poll<bool> {
    let Some(Some(Client { stream, waker })) = worker.clients.places.get_mut(id.index()) else {
        return Poll::Ready(false);
    };
    waker.clone_from(context.waker());
    let (mut full_reads, mut waits) = (0, false);
    loop {
        loop {
            let output = worker.engine.client_output(id);
            if output.is_empty() {
                break;
            }
            match stream.poll_write(context, output) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(true),
                Poll::Ready(Ok(count)) => worker.engine.client_wrote(id, count, now),
                Poll::Pending => break,
            }
        }
        let status = worker.engine.client_status(id);
        if status.finished {
            return Poll::Ready(false);
        }
        if !status.reads || waits {
            return Poll::Pending;
        }
        let (read, most, is_large) = match worker.engine.client_room(id) {
            Room::Here(mut room) => {
                let most = room.remaining_mut();
                (stream.poll_append(context, &mut room), most, true)
            }
            Room::Anywhere(most) => {
                let most = most.min(READ_LIMIT);
                (stream.poll_read(context, &mut worker.scratch[..most]), most, false)
            }
        };
        match read {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(true),
            Poll::Ready(Ok(0)) => worker.engine.client_ended(id, now),
            Poll::Ready(Ok(count)) => {
                if is_large {
                    worker.engine.client_filled(id, now);
                } else {
                    waits = stream.poll_readable(context).is_pending();
                    worker.engine.client_data(id, &worker.scratch[..count], now);
                    if waits && !worker.engine.client_is_marked(id) {
                        return Poll::Pending;
                    }
                }
                if count == most {
                    full_reads += 1;
                    if full_reads == READS_PER_POLL {
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_client_is_offered_its_own_bytes_whatever_went_before() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _guard = runtime.enter();
        let mut clients = Clients::default();
        let mut ends = Vec::new();
        for index in 0..2 {
            let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
            near.set_nonblocking(true).unwrap();
            let stream = tokio::net::UnixStream::from_std(near).unwrap();
            runtime.block_on(stream.writable()).unwrap();
            clients.insert(SessionId { index, generation: 0 }, Stream::Unix(stream));
            ends.push(far);
        }
        let large = vec![b'x'; COPIED];
        let offers: [[&[u8]; 2]; 5] =
            [[b"one", b"END"], [b"two", b""], [b"3", b"end"], [&large, b"END"], [b"", b"four"]];
        for (number, pieces) in offers.into_iter().enumerate() {
            let index = number % 2;
            let wanted = pieces.concat();
            let id = SessionId { index: u32::try_from(index).unwrap(), generation: 0 };
            assert_eq!(clients.offer(id, pieces), wanted.len());
            let mut got = vec![0; wanted.len()];
            ends[index].read_exact(&mut got).unwrap();
            assert!(got == wanted, "offer {number}");
        }
        drop(clients);
        assert!(ends.iter_mut().all(|end| end.read(&mut [0]).unwrap() == 0), "more than was offered");
    }
}
