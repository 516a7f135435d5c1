//! A connection to a server: written, read, until it ends or the engine gives it up.

use std::os::fd::OwnedFd;
use std::task::Poll;

use super::client::WRITE_BUDGET;
use super::connect::failure_of;
use super::links::seat_of;
use super::poller::Token;
use super::stream::Stream;
use super::turn::BULKY;
use super::worker::Worker;
use crate::engine::Room;
use crate::engine::ids::LinkId;
use crate::failure::Failure;
use crate::time::Instant;

impl Worker {
    /// An attempt to connect has come to its end.
    pub(crate) fn connected(&mut self, link: LinkId, epoch: u32, outcome: Result<OwnedFd, Failure>) {
        let now = self.clock.now();
        if !self.engine.link_is_current(link, epoch) {
            return; // nobody waits for it any more
        }
        let stream = outcome.map(Stream::new).and_then(|stream| {
            stream.watch(&self.poller, Token::Link(seat_of(link, epoch))).map_err(|error| failure_of(&error))?;
            Ok(stream)
        });
        match stream {
            Ok(stream) => {
                self.links.connected(link, epoch, stream);
                self.engine.link_connected(link, epoch, now);
                self.write_link(link, now);
            }
            Err(failure) => {
                if failure == Failure::NoResources {
                    self.tell_lack(link, now);
                }
                self.engine.link_failed(link, epoch, failure, now);
            }
        }
    }

    /// Writes what a link has to write.
    #[inline]
    pub(crate) fn write_link(&mut self, link: LinkId, now: Instant) {
        let Self { engine, links, poller, unfinished, .. } = self;
        if !unfinished.is_empty() && unfinished.contains(&link) {
            return; // it has had its turn
        }
        let Some((epoch, stream)) = links.get(link) else { return };
        let mut room = WRITE_BUDGET;
        let failure = loop {
            let output = engine.link_output(link, epoch);
            if output.is_empty() {
                return;
            }
            if room == 0 {
                return unfinished.push(link);
            }
            match stream.write([&output[..output.len().min(room)], b""]) {
                Poll::Ready(Ok(0)) => break Failure::Reset,
                Poll::Ready(Err(error)) => break broken(&error),
                Poll::Ready(Ok(count)) => {
                    room -= count;
                    engine.link_wrote(link, epoch, count, now);
                }
                Poll::Pending => match stream.watch_room(poller, Token::Link(seat_of(link, epoch))) {
                    Ok(()) => return,
                    Err(error) => break broken(&error),
                },
            }
        };
        self.lose(link, epoch, failure, now);
    }

    /// Reads what a server has to say.
    #[inline]
    pub(crate) fn read_link(&mut self, link: LinkId, now: Instant) {
        let Self { engine, links, clients, scratch, batching, again, slack, most_read, handled, .. } = self;
        let Some((epoch, stream, bulky)) = links.get_for_turn(link) else { return };
        let mut budget = *most_read;
        // When the engine has given it up, it will not listen.
        while stream.is_readable() && engine.link_is_current(link, epoch) {
            if budget == 0 {
                return again.extend(links.end_turn(link).map(Token::Link));
            }
            let (read, is_large) = match engine.link_room(link, epoch) {
                Room::Nowhere => return,
                Room::Here(message) => (stream.append(message, budget), true),
                Room::Anywhere(most) => {
                    let most = most.min(scratch.len()).min(budget);
                    (stream.read(&mut scratch[..most]), false)
                }
            };
            let failure = match read {
                Poll::Pending => return,
                Poll::Ready(Err(error)) => broken(&error),
                Poll::Ready(Ok(0)) => Failure::Closed,
                Poll::Ready(Ok(count)) => {
                    batching.hear();
                    budget = budget.saturating_sub(count);
                    *bulky = *most_read - budget >= BULKY && (is_large || engine.link_is_dedicated(link));
                    *handled += count;
                    if is_large {
                        engine.link_filled(link, epoch, count, now, clients);
                        slack.heed(engine.memory(), count);
                    } else {
                        engine.link_data(link, epoch, &scratch[..count], now, clients);
                    }
                    continue;
                }
            };
            return self.lose(link, epoch, failure, now);
        }
    }

    /// A connection is over.
    #[cold]
    fn lose(&mut self, link: LinkId, epoch: u32, failure: Failure, now: Instant) {
        if self.engine.link_is_current(link, epoch) {
            // If the engine has given it up, it says how to close it.
            self.links.disconnect(link, false);
        }
        self.engine.link_failed(link, epoch, failure, now);
    }
}

/// An error on an open connection: whatever the kernel calls it, the connection broke.
fn broken(error: &std::io::Error) -> Failure {
    let failure = failure_of(error);
    if matches!(failure, Failure::TimedOut | Failure::NoResources) { failure } else { Failure::Reset }
}
