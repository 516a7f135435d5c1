//! Whether a server's part of an answer has the form that it must have to be put together with others.
//!
//! What is not of that form would make an answer of too few values or too many, and each later answer on the client's
//! connection would belong to the question before it. So it is no reply, and its connection is not to be trusted.

use super::exec::{ExecPlan, Kind};
use super::gather::How;
use crate::engine::Engine;
use crate::engine::ids::LinkId;
use crate::engine::scattered::Merge;
use crate::engine::servers::ticket::{Marks, Ticket};
use crate::proto::resp::plan::Split;
use crate::proto::resp::reply::{self, Reply};

impl Engine {
    /// Whether the reply, or replies, to the front ticket of a link fit the gathering that they are part of.
    #[inline(always)]
    pub(super) fn part_fits(&self, id: LinkId, ticket: Ticket, replies: &[u8]) -> bool {
        // What is asked most: of keys that were split, a value for each.
        if ticket.is(Marks::SPLIT)
            && let Some(values) = reply::plain_count(replies)
            && reply::plain_count(self.servers[id].queue().request_on(ticket)) == Some(values + 1)
        {
            return true;
        }
        self.other_fits(id, ticket, replies)
    }

    #[inline(never)]
    fn other_fits(&self, id: LinkId, ticket: Ticket, replies: &[u8]) -> bool {
        let Some((client, number)) = ticket.client() else { return true };
        let link = &self.servers[id];
        let slot = self.session_ref(client).and_then(|session| session.slot(number));
        let Some(gather) = slot.and_then(|slot| slot.merge()).and_then(Merge::redis) else { return true };
        fits(&gather.how, ticket.fragment, link.queue().front_request(ticket), replies)
    }
}

/// Whether what a server says to its `request` can be used in putting an answer together like this.
#[inline(never)]
fn fits(how: &How, fragment: u16, request: &[u8], raw: &[u8]) -> bool {
    let is_error = raw.first() == Some(&b'-');
    match how {
        How::Exec(plan) => fits_exec(plan, fragment, raw),
        How::Wait => reply::last(raw).is_some_and(|(_, answer)| answer.starts_with(b"-") || are_numbers(answer, None)),
        _ if is_error => true,
        How::Pick(_) => reply::items(raw).is_some_and(|items| items.len() == words_behind(request, 1)),
        How::Sum | How::Most => is_number(raw),
        How::Least => are_numbers(raw, Some(words_behind(request, 2))),
        How::Word => raw.first() == Some(&b'+'),
        How::Join | How::Union(_) | How::Newest(_) => {
            matches!(raw.first(), Some(b'*' | b'~')) && reply::items(raw).is_some()
        }
        How::Pairs(_) => reply::items(raw).is_some_and(|items| {
            let len = items.len();
            len == 2 * words_behind(request, 2) && items.skip(1).step_by(2).all(is_number)
        }),
        How::Info(_) => matches!(reply::read(raw), Reply::Bulk(_)),
        How::Scan { .. } => fits_scan(raw),
        // One answer is taken as it is, or none at all.
        How::First | How::Loaded | How::Kill | How::Any(_) | How::Anyhow(_) | How::Subscribed(..) => true,
    }
}

/// Words of a request behind its first ones.
#[inline]
fn words_behind(request: &[u8], first: usize) -> usize {
    reply::items(request).map_or(0, |words| words.len().saturating_sub(first))
}

fn is_number(raw: &[u8]) -> bool {
    matches!(reply::read(raw), Reply::Integer(_))
}

/// A number, or a list of so many.
fn are_numbers(raw: &[u8], count: Option<usize>) -> bool {
    is_number(raw)
        || reply::items(raw).is_some_and(|mut items| {
            let is_right = count.is_none_or(|count| count == items.len());
            is_right && (are_plain_numbers(items.bytes(), items.len()) || items.all(is_number))
        })
}

/// Whether some bytes are so many numbers that are written as servers write them, found out in one look at each byte.
fn are_plain_numbers(bytes: &[u8], count: usize) -> bool {
    /// Digits that fit any number.
    const DIGITS: usize = 18;
    let (mut at, mut found) = (0, 0);
    while let Some(b':') = bytes.get(at) {
        at += 1 + usize::from(bytes.get(at + 1) == Some(&b'-'));
        let digits = bytes[at..].iter().take(DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=DIGITS).contains(&digits) || bytes.get(at + digits..at + digits + 2) != Some(b"\r\n") {
            return false;
        }
        at += digits + 2;
        found += 1;
    }
    at == bytes.len() && found == count
}

/// A cursor, and a list.
fn fits_scan(raw: &[u8]) -> bool {
    let Some(mut items) = reply::items(raw).filter(|items| items.len() == 2) else { return false };
    let cursor = items.next().map(reply::read);
    let is_cursor = |text: &[u8]| std::str::from_utf8(text).is_ok_and(|text| text.parse::<u64>().is_ok());
    matches!(cursor, Some(Reply::Bulk(text)) if is_cursor(text))
        && items.next().is_some_and(|list| reply::items(list).is_some())
}

/// Words, and then an answer for each command that the server has a part in, null, or an error.
fn fits_exec(plan: &ExecPlan, fragment: u16, raw: &[u8]) -> bool {
    let raw = plan.without_return(raw);
    let Some(count) = plan.answers.get(usize::from(fragment)).map(|count| *count as usize) else { return false };
    let (mut end, mut words) = (raw, count + 1);
    while words > 0 {
        let (others, queued) = reply::behind_queued(end, words - 1);
        (end, words) = (others, words - queued - 1);
        if !matches!(end.first(), Some(b'+' | b'-')) {
            return false;
        }
        end = &end[reply::end(end)..];
    }
    if end.starts_with(b"-") || reply::is_null(end) {
        return true;
    }
    let Some(mut answers) = reply::items(end) else { return false };
    if answers.len() != count {
        return false;
    }
    if plan.are_whole {
        return true;
    }
    let commands = plan.commands.iter().filter(|command| command.parts.contains(&fragment));
    commands.zip(&mut answers).all(|(command, answer)| match &command.kind {
        Kind::Split(Split::Values) if !answer.starts_with(b"-") => {
            let wanted = command.order.iter().filter(|part| **part == fragment).count();
            reply::items(answer).is_some_and(|items| items.len() == wanted)
        }
        Kind::Split(Split::Count) => answer.starts_with(b"-") || is_number(answer),
        Kind::Split(Split::Values | Split::Pairs) | Kind::Whole | Kind::Here(_) => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(how: &How, request: &[&[u8]], good: &[&str], bad: &[&str]) {
        let mut bytes = Vec::new();
        crate::proto::resp::encode::words(&mut bytes, request);
        for raw in good {
            assert!(fits(how, 0, &bytes, raw.as_bytes()), "{how:?} {raw:?}");
        }
        for raw in bad {
            assert!(!fits(how, 0, &bytes, raw.as_bytes()), "{how:?} {raw:?}");
        }
    }

    #[test]
    fn what_cannot_be_put_together_does_not_fit() {
        let error = "-ERR no\r\n";
        let scan = How::Scan { server: 0, servers: 2 };
        check(
            &scan,
            &[b"SCAN", b"0"],
            &["*2\r\n$1\r\n0\r\n*0\r\n", "*2\r\n$2\r\n17\r\n*1\r\n$1\r\na\r\n", error],
            &[
                "*1\r\n$1\r\n0\r\n",
                "*3\r\n$1\r\n0\r\n*0\r\n$5\r\nextra\r\n",
                "*2\r\n$1\r\nx\r\n*0\r\n",
                "*2\r\n$1\r\n0\r\n$1\r\na\r\n",
                "*2\r\n:0\r\n*0\r\n",
                "*-1\r\n",
                "+OK\r\n",
                "$1\r\n0\r\n",
            ],
        );
        check(
            &How::Pick(vec![0, 1, 0]),
            &[b"MGET", b"a", b"b"],
            &["*2\r\n$1\r\na\r\n$-1\r\n", error],
            &["*1\r\n$1\r\na\r\n", "*3\r\n$-1\r\n$-1\r\n$-1\r\n", "$1\r\na\r\n", ":2\r\n"],
        );
        check(&How::Sum, &[b"DBSIZE"], &[":3\r\n", error], &["+OK\r\n", "*1\r\n:1\r\n", "$1\r\n3\r\n"]);
        check(&How::Word, &[b"FLUSHALL"], &["+OK\r\n", error], &[":1\r\n", "*0\r\n", "$2\r\nOK\r\n"]);
        check(
            &How::Join,
            &[b"KEYS", b"*"],
            &["*0\r\n", "*1\r\n$1\r\na\r\n", "~1\r\n+a\r\n", error],
            &["*-1\r\n", "$1\r\na\r\n", "%1\r\n+a\r\n+b\r\n", ":0\r\n"],
        );
        check(
            &How::Least,
            &[b"SCRIPT", b"EXISTS", b"a", b"b"],
            &["*2\r\n:1\r\n:0\r\n", error],
            &["*1\r\n:1\r\n", "*3\r\n:1\r\n:1\r\n:1\r\n", "*2\r\n:1\r\n$1\r\n0\r\n", "+OK\r\n"],
        );
        check(
            &How::Pairs(Vec::new()),
            &[b"PUBSUB", b"NUMSUB", b"a"],
            &["*2\r\n$1\r\na\r\n:3\r\n", error],
            &["*1\r\n$1\r\na\r\n", "*0\r\n", "*2\r\n$1\r\na\r\n$1\r\n3\r\n", "*3\r\n$1\r\na\r\n:3\r\n:3\r\n"],
        );
        check(&How::Info(String::new()), &[b"INFO"], &["$1\r\na\r\n", error], &["*1\r\n:1\r\n", "+a\r\n"]);
        check(
            &How::Wait,
            &[b"PING"],
            &["+PONG\r\n:0\r\n:1\r\n", "+PONG\r\n-ERR no\r\n*2\r\n:1\r\n:0\r\n", "+PONG\r\n:0\r\n-ERR no\r\n"],
            &["+PONG\r\n:0\r\n+OK\r\n", "+PONG\r\n:0\r\n*1\r\n$1\r\na\r\n"],
        );
    }
}
