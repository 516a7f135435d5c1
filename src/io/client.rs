//! A client's connection: the engine's output to the socket, the socket's input to the engine.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::stream::Stream;
use super::worker::{Shared, Worker};
use crate::engine::session::SessionId;

/// Reads of a full buffer in one poll, after which other connections get their turn.
const READS_PER_POLL: usize = 4;

/// Serves one client until it leaves or is finished with.
pub(crate) async fn run(shared: Shared, id: SessionId, mut stream: Stream) {
    let shared = Rc::clone(&shared);
    let failed = poll_fn(|context| {
        let worker = &mut *shared.borrow_mut();
        let outcome = poll(worker, id, &mut stream, context);
        worker.after();
        outcome
    })
    .await;
    let worker = &mut *shared.borrow_mut();
    worker.engine.client_gone(id, failed);
    worker.forget_client(id);
}

/// Moves what can be moved. Ready when the connection is over: with whether it failed.
fn poll(worker: &mut Worker, id: SessionId, stream: &mut Stream, context: &mut Context<'_>) -> Poll<bool> {
    worker.watch_client(id, context.waker());
    let now = worker.clock.now();
    let mut full_reads = 0;
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
        if !status.reads {
            return Poll::Pending;
        }
        match stream.poll_read(context, &mut worker.scratch) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(true),
            Poll::Ready(Ok(0)) => worker.engine.client_ended(id, now),
            Poll::Ready(Ok(count)) => {
                worker.engine.client_data(id, &worker.scratch[..count], now);
                if count == worker.scratch.len() {
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
