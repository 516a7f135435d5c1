//! A Redis server's bytes become replies.

use super::follow::{Nothing, UNBLOCKED};
use crate::engine::Engine;
use crate::engine::buffers::LARGE;
use crate::engine::deliver::{Delivery, STEP, Step};
use crate::engine::ids::LinkId;
use crate::engine::servers::ticket::{Marks, Ticket};
use crate::failure::Failure;
use crate::proto::memcache::response::{Status, Violation};
use crate::proto::resp::reply::{self, Scan, Scanned, Trouble};
use crate::proto::verb::Verb;

/// What a server's own trouble is called here.
const fn failure_of(trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Memory => Failure::ServerMemory,
        Trouble::Unready => Failure::Unready,
        Trouble::ReadOnly => Failure::ReadOnly,
        Trouble::Denied => Failure::Denied,
    }
}

/// What a whole response says.
fn status(response: &[u8]) -> Status {
    if response.first() != Some(&b'-') {
        return if reply::is_null(response) { Status::Absent } else { Status::Done };
    }
    reply::trouble(response).map_or(Status::Error, |trouble| Status::Unwilling(failure_of(trouble)))
}

/// As [`status`], of the answers to a whole transaction: what kept any of its parts from being queued.
fn status_of_all(response: &[u8], replies: u32) -> Status {
    let (mut rest, mut left) = (response, replies as usize);
    while left > 0 {
        let (others, queued) = reply::behind_queued(rest, left - 1);
        (rest, left) = (others, left - queued - 1);
        // Behind the last there is nothing, so its end need not be looked for.
        let (one, others) = rest.split_at(if left == 0 { rest.len() } else { reply::end(rest) });
        if let unwilling @ Status::Unwilling(_) = status(one) {
            return unwilling;
        }
        rest = others;
    }
    Status::Done
}

impl Engine {
    /// The whole response to a request of a Redis client, or of this program to a Redis server.
    #[inline(never)]
    pub(in crate::engine) fn take_reply(
        &mut self,
        id: LinkId,
        ticket: Ticket,
        input: &[u8],
        to: &mut Delivery<'_>,
    ) -> Step {
        let link = &mut self.servers[id];
        if link.scan().is_none() && input.first() == Some(&b'>') {
            return self.take_push(id, input);
        }
        let is_doubted = link.queue().is_in_doubt();
        let Some(stream) = link.stream_mut() else { return Step::Used(input.len()) };
        let len = match stream.scan(ticket.replies).advance(input) {
            Scanned::Complete { len } if stream.cursor().dropped.is_some() => {
                return self.refuse_response(id, to).using(len);
            }
            Scanned::Complete { len } => len,
            Scanned::Incomplete { need } if need > LARGE => return self.large_reply(id, input, need, to),
            Scanned::Incomplete { need } => return Step::Need(need),
            Scanned::Broken => return Step::Broken(Violation::UnexpectedLine),
        };
        let response = &input[..len];
        if is_doubted && let Some(step) = self.script_exists(id, ticket, response, to) {
            return step;
        }
        if ticket.is(Marks::PART) && !self.part_fits(id, ticket, response) {
            return Step::Broken(Violation::UnexpectedLine);
        }
        let status = if ticket.replies == 1 { status(response) } else { status_of_all(response, ticket.replies) };
        if ticket.is(Marks::WAITS) && status == Status::Absent {
            match self.follow(id, ticket) {
                Nothing::Followed => return Step::Used(len),
                Nothing::Refused => return self.finish(id, [UNBLOCKED, b""], Status::Error, to).using(len),
                Nothing::Told => {}
            }
        }
        if status == Status::Error && response.starts_with(b"-NOSCRIPT") && self.load_script(id, ticket, response) {
            return Step::Used(len);
        }
        if self.near.is_on()
            && ticket.verb == Verb::Query
            && let Some(known) = self.stands_in(id, response)
        {
            return self.finish(id, [&known, b""], Status::Done, to).using(len);
        }
        let strays = ticket.replies > 1 && self.strays(id, ticket, response);
        let step = self.finish(id, [response, b""], status, to);
        if strays && self.servers.has(id) {
            // What comes behind it would concern another database.
            self.fail_link(id, Failure::Denied, self.now);
        }
        step
    }

    /// Whether the requests of the front ticket end by selecting a database, and the server has refused that.
    #[cold]
    fn strays(&self, id: LinkId, ticket: Ticket, response: &[u8]) -> bool {
        const SELECT: &[u8] = b"*2\r\n$6\r\nSELECT\r\n";
        /// The longest number of a database, as it is written.
        const NUMBER: usize = 16;
        let link = &self.servers[id];
        let request = link.queue().front_request(ticket);
        let tail = &request[request.len().saturating_sub(SELECT.len() + NUMBER)..];
        let selects = tail.windows(SELECT.len()).any(|words| words == SELECT);
        selects && reply::last(response).is_some_and(|(_, last)| last.starts_with(b"-"))
    }

    /// So much is needed of a response, or more: it is collected if there is memory for it. If not, it is dropped as it
    /// comes, and whoever waits for it is answered by the pool's policy.
    #[cold]
    #[inline(never)]
    fn large_reply(&mut self, id: LinkId, input: &[u8], need: usize, to: &mut Delivery<'_>) -> Step {
        let link = &self.servers[id];
        if link.dropped().is_none() && need.max(input.len() + STEP) <= self.reply_room(link) {
            return Step::Need(need);
        }
        let Some(stream) = self.servers[id].stream_mut() else { return Step::Used(input.len()) };
        let cursor = stream.cursor_mut();
        cursor.dropped = Some(Failure::NoMemory);
        let Some(scan) = &mut cursor.scan else { return Step::Need(need) };
        let dropped = scan.discard(input);
        if scan.is_over() {
            return self.refuse_response(id, to).using(dropped);
        }
        if dropped == 0 { Step::Need(input.len() + 1) } else { Step::Used(dropped) }
    }

    /// A message that is no response.
    #[inline(never)]
    pub(in crate::engine) fn take_push(&mut self, id: LinkId, input: &[u8]) -> Step {
        match Scan::new(1).advance(input) {
            Scanned::Complete { len } => {
                if let Some(owner) = self.servers[id].owner() {
                    return self.pushed(id, owner, &input[..len]).of(len, input);
                }
                if self.servers[id].profile().tracks {
                    self.near_told(id, &input[..len]);
                }
                Step::Used(len)
            }
            Scanned::Incomplete { need } => Step::Need(need),
            Scanned::Broken => Step::Broken(Violation::UnexpectedLine),
        }
    }
}
