//! A connection to a server: opened, written, read, until it ends or the engine gives it up.

#![expect(clippy::wildcard_enum_match_arm, reason = "whatever else an open connection says, it broke")]

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::stream::{Stream, failure_of};
use super::worker::{Shared, Worker};
use crate::config::model::Address;
use crate::engine::Room;
use crate::engine::link::LinkId;
use crate::failure::Failure;

/// Reads in one poll, after which other connections get their turn.
const READS_PER_POLL: usize = 4;

/// Serves one connection of a link.
pub(crate) async fn run(shared: Shared, link: LinkId, epoch: u32, address: Address) {
    let failure = match Stream::connect(&address).await {
        Err(failure) => failure,
        Ok(stream) => {
            {
                let worker = &mut *shared.borrow_mut();
                if worker.engine.link_is_current(link, epoch) {
                    worker.links.connected(link, epoch, stream);
                }
                let now = worker.clock.now();
                worker.engine.link_connected(link, epoch, now);
                worker.after();
            }
            let failure = poll_fn(|context| {
                let worker = &mut *shared.borrow_mut();
                let outcome = poll(worker, link, epoch, context);
                worker.after();
                outcome
            })
            .await;
            let worker = &mut *shared.borrow_mut();
            if worker.engine.link_is_current(link, epoch) {
                worker.links.ended(link); // if the engine has given it up, it says how to close it
            }
            failure
        }
    };
    let worker = &mut *shared.borrow_mut();
    let now = worker.clock.now();
    worker.engine.link_failed(link, epoch, failure, now);
    worker.after();
}

/// Moves what can be moved. Ready when the connection is over: with how it ended.
#[inline(never)]
fn poll(worker: &mut Worker, link: LinkId, epoch: u32, context: &mut Context<'_>) -> Poll<Failure> {
    let Worker { engine, links, clients, scratch, clock, pace, .. } = worker;
    // When the engine has given it up, its place may be another's by now.
    let Some(stream) = links.watch(link, epoch, context.waker()) else { return Poll::Ready(Failure::Closed) };
    let now = clock.now();
    loop {
        let output = engine.link_output(link, epoch);
        if output.is_empty() {
            break;
        }
        match stream.poll_write(context, output) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Failure::Reset),
            Poll::Ready(Err(error)) => return Poll::Ready(broken(&error)),
            Poll::Ready(Ok(count)) => engine.link_wrote(link, epoch, count, now),
            Poll::Pending => break,
        }
    }
    for _ in 0..READS_PER_POLL {
        if !engine.link_is_current(link, epoch) {
            return Poll::Ready(Failure::Closed); // the engine has given it up and will not listen
        }
        let (read, is_large) = match engine.link_room(link, epoch) {
            Room::Here(mut room) => (stream.poll_append(context, &mut room), true),
            Room::Anywhere(most) => {
                let most = most.min(scratch.len());
                (stream.poll_read(context, &mut scratch[..most]), false)
            }
        };
        match read {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(broken(&error)),
            Poll::Ready(Ok(0)) => return Poll::Ready(Failure::Closed),
            Poll::Ready(Ok(count)) if is_large => {
                pace.hear();
                engine.link_filled(link, epoch, count, now, clients);
            }
            Poll::Ready(Ok(count)) => {
                pace.hear();
                // Asked before the bytes are dealt with: a client that has got its answer may have the CPU at once.
                let waits = stream.poll_readable(context).is_pending();
                engine.link_data(link, epoch, &scratch[..count], now, clients);
                if waits && engine.link_is_current(link, epoch) {
                    return Poll::Pending;
                }
            }
        }
    }
    context.waker().wake_by_ref();
    Poll::Pending
}

/// An error on an open connection: whatever the kernel calls it, the connection broke.
fn broken(error: &std::io::Error) -> Failure {
    match failure_of(error) {
        Failure::TimedOut => Failure::TimedOut,
        _ => Failure::Reset,
    }
}
