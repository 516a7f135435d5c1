//! Answers of several servers as one.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use super::exec::ExecPlan;
use super::in_place::InPlace;
use super::info;
use super::piecemeal::Progress;
use super::subscriptions::Kind;
use crate::engine::buffers::Kept;
use crate::engine::clients::output::{Output, PORTION};
use crate::failure::Failure;
use crate::proto::memcache::reply::reason;
use crate::proto::resp::reply::{self, Reply};
use crate::proto::resp::{Version, encode, request};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Answers that come before that of a `WAIT`.
pub(super) const BEFORE_WAIT: u32 = 2;

/// Bytes of answers below which values are passed on one by one; above, they are put together first.
const PIECEMEAL: usize = 16 << 10;

/// Parts of an answer that are taken apart without an allocation.
const FEW: usize = 8;

/// Names that were added to what a client is subscribed to.
pub(super) type Added = Vec<(Kind, Box<[u8]>)>;

/// What such a name takes beside its bytes.
const ADDED_COST: usize = size_of::<(Kind, Box<[u8]>)>();

/// The answers that a request waits for, and what is made of them.
#[derive(Debug)]
pub(crate) struct Gather {
    pub(crate) how: How,
    /// What is answered when there is nothing to put together.
    pub(crate) in_place: InPlace,
    /// For each part of the request, its answer.
    parts: Vec<Part>,
    /// Bytes of the answers.
    bytes: usize,
    /// Some of them are errors, or will not come.
    failed: bool,
    /// The database that its client was in when it asked.
    pub(crate) database: u32,
    /// Bytes that are held before any has come.
    plan: usize,
}

/// One server's part.
#[derive(Debug)]
pub(crate) enum Part {
    /// It has come.
    Came(Kept),
    /// It has not, or never will: the error to tell, if the pool tells errors.
    Lost(Option<Vec<u8>>),
}

impl Part {
    /// An answer that came and is no error.
    pub(super) fn good(&self) -> Option<&[u8]> {
        match self {
            Self::Came(reply) if reply.first() != Some(&b'-') => Some(reply),
            Self::Came(_) | Self::Lost(_) => None,
        }
    }
}

/// What is made of several answers.
#[derive(Debug)]
pub(crate) enum How {
    /// An array: for each of its elements, the part that has the next one.
    Pick(Vec<u16>),
    /// The sum of numbers.
    Sum,
    /// The smallest number; of arrays of numbers, at each place.
    Least,
    /// The largest number.
    Most,
    /// `OK` if all say so.
    Word,
    /// The first answer that is no error.
    First,
    /// As `First`, unless a server refuses it.
    Loaded,
    /// `WAIT`: as `Least`, or none at all if a server was not asked.
    Wait,
    /// Something was ended somewhere, or what kept it from being ended, or there was nothing to end.
    Kill,
    /// One array of all elements.
    Join,
    /// As `Join`, each element once. Who chooses them does not know this number.
    Union(u32),
    /// As `Join`, of so many entries of logs, those that are newest by their second fields.
    Newest(usize),
    /// An array of channels and numbers: the numbers added up, or the largest where a channel is heard on all servers. This
    /// is the request, which tells the channels where no server does.
    Pairs(Vec<u8>),
    /// Any answer that is not null, looked for from this part on.
    Any(usize),
    /// What has been prepared, once all servers have agreed; if one refuses, its client is not subscribed to these names.
    Subscribed(Vec<u8>, Added),
    /// What has been prepared, whatever the servers say.
    Anyhow(Vec<u8>),
    /// The listing of `INFO`, and what this program adds to it.
    Info(String),
    /// The next step of a `SCAN`: the cursor of the server's answer becomes one of the pool's.
    Scan {
        /// The server that was asked.
        server: u64,
        /// Servers of the pool.
        servers: u64,
    },
    /// `EXEC`.
    Exec(Box<ExecPlan>),
}

/// What an `INFO` takes of its client's window: thousands of lines are read and put together for one.
const INFO_KEYS: usize = 128;

impl How {
    /// What the request takes of its client's window.
    pub(crate) const fn keys(&self) -> usize {
        if matches!(self, Self::Info(_)) { INFO_KEYS } else { 1 }
    }
}

impl Gather {
    pub(crate) fn new(how: How, in_place: InPlace, database: u32, parts: usize) -> Self {
        let plan = match &how {
            How::Pick(order) => size_of_val(order.as_slice()),
            How::Subscribed(body, added) => {
                body.len() + added.iter().map(|(_, name)| name.len() + ADDED_COST).sum::<usize>()
            }
            How::Pairs(body) => body.len(),
            How::Exec(plan) => plan.footprint(),
            _ => 0,
        };
        let parts = std::iter::repeat_with(|| Part::Lost(None)).take(parts).collect();
        Self { how, in_place, parts, bytes: 0, failed: false, database, plan }
    }

    /// Memory that it holds.
    pub(crate) const fn footprint(&self) -> usize {
        self.bytes + self.plan
    }

    /// A server has answered, perhaps with all that is in a buffer. Says how many bytes are held for that.
    #[inline]
    pub(crate) fn came(&mut self, fragment: u16, reply: &[u8], whole: Option<&Arc<Vec<u8>>>) -> usize {
        self.failed |= reply.first() == Some(&b'-');
        let Some(part) = self.parts.get_mut(usize::from(fragment)) else { return 0 };
        let reply = if matches!(self.how, How::Wait) { answer_to_wait(reply) } else { reply };
        self.bytes += reply.len();
        *part = Part::Came(Kept::of(reply, whole));
        reply.len()
    }

    /// As [`Gather::came`], of an answer that came before.
    #[cold]
    pub(crate) fn missed(&mut self, fragment: u16, reply: &[u8]) -> usize {
        let Some(part) = self.parts.get_mut(usize::from(fragment)) else { return 0 };
        self.bytes += reply.len();
        *part = Part::Came(Kept::of(reply, None));
        reply.len()
    }

    /// A server failed, which is told if the pool tells failures.
    pub(crate) fn failed(&mut self, fragment: u16, failure: Failure, tells: bool) {
        self.failed = true;
        if let Some(part) = self.parts.get_mut(usize::from(fragment)) {
            *part = Part::Lost(tells.then(|| [b"-ERR ", reason(failure), b"\r\n"].concat()));
        }
    }

    pub(super) fn version(&self) -> Version {
        self.in_place.version
    }

    /// The database that its client has selected by it.
    pub(crate) fn selected(&self) -> Option<u32> {
        match &self.how {
            How::Exec(plan) => plan.selected(&self.parts),
            _ => None,
        }
    }

    /// The names that its client is not to be subscribed to after all.
    pub(super) fn take_added(&mut self) -> Added {
        match &mut self.how {
            How::Subscribed(_, added) => std::mem::take(added),
            _ => Added::new(),
        }
    }

    /// The answers, by their parts.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The answers that came and are no errors.
    pub(super) fn good(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().filter_map(Part::good)
    }

    /// The first error that came or is to be told.
    pub(super) fn error(&self) -> Option<&[u8]> {
        self.parts.iter().find_map(|part| match part {
            Part::Came(reply) if reply.first() == Some(&b'-') => Some(&**reply),
            Part::Lost(error) => error.as_deref(),
            _ => None,
        })
    }

    fn numbers(&self) -> impl Iterator<Item = i64> {
        self.good().filter_map(|reply| match reply::read(reply) {
            Reply::Integer(value) => Some(value),
            _ => None,
        })
    }

    /// Appends what the client gets.
    pub(crate) fn write(&self, out: &mut Output) {
        match &self.how {
            // An error among the values would be taken for one by clients that do not look.
            How::Pick(order) if self.bytes < PIECEMEAL && !self.failed => {
                out.append_with(self.bytes + encode::HEAD, |out| {
                    self.pick(order, |bytes| out.extend_from_slice(bytes));
                });
            }
            How::Pick(order) if self.bytes < PIECEMEAL => match self.error() {
                Some(error) => out.append(error),
                None => self.pick(order, |bytes| out.append(bytes)),
            },
            _ => {
                let mut body = Vec::with_capacity(self.bytes);
                self.put(&mut body);
                out.push(body);
            }
        }
    }

    /// Appends the answer.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match &self.how {
            How::Pick(order) => match self.error() {
                Some(error) => out.extend_from_slice(error),
                None => self.pick(order, |bytes| out.extend_from_slice(bytes)),
            },
            How::Exec(plan) => plan.put(out, &self.parts, self.in_place),
            How::Subscribed(body, _) => match self.parts.iter().find_map(refusal) {
                Some(error) => out.extend_from_slice(error),
                None => out.extend_from_slice(body),
            },
            How::Anyhow(body) => out.extend_from_slice(body),
            How::Scan { server, servers } => self.scan(out, *server, *servers),
            // What one server has to say is enough of an answer where they all know the same.
            How::First | How::Kill if let Some(first) = self.good().next() => out.extend_from_slice(first),
            How::Kill => self.not_killed(out),
            How::Any(from) if let Some(any) = self.any(*from) => out.extend_from_slice(any),
            How::Any(_) if self.error().is_none() && self.good().next().is_some() => encode::null(out, self.version()),
            How::Info(own) if self.good().next().is_some() => info::merge(out, self.good(), own, self.version()),
            how => match self.error() {
                Some(error) => out.extend_from_slice(error),
                None => self.all_well(out, how),
            },
        }
    }

    /// Puts answers together of which none is an error.
    fn all_well(&self, out: &mut Vec<u8>, how: &How) {
        let lost = self.parts.iter().any(|part| matches!(part, Part::Lost(_)));
        match how {
            How::Sum => encode::integer(out, self.numbers().fold(0, i64::saturating_add)),
            How::Word if !lost => out.extend_from_slice(self.good().next().unwrap_or(b"+OK\r\n")),
            How::Most if let Some(most) = self.numbers().max() => encode::integer(out, most),
            How::Least if let Some(least) = self.numbers().min() => encode::integer(out, least),
            How::Wait if !lost && let Some(least) = self.numbers().min() => encode::integer(out, least),
            How::Wait if !lost && self.good().next().is_some() => self.put_all(out),
            How::Loaded if let Some(first) = self.good().next() => out.extend_from_slice(first),
            How::Join | How::Newest(_) | How::Least | How::Pairs(_) if self.good().next().is_some() => {
                self.put_all(out)
            }
            How::Union(_) if self.good().next().is_some() => self.union(out),
            How::Pairs(asked) => nobody_hears(asked, out),
            How::Info(own) => info::merge(out, std::iter::empty(), own, self.version()),
            _ => {
                if !self.in_place.fallback.write(out, self.version()) {
                    let text: &[u8] = if self.good().next().is_some() {
                        b"ERR a server of this pool could not be asked; the others have done it"
                    } else {
                        b"ERR no server of this pool could be asked"
                    };
                    encode::error(out, text);
                }
            }
        }
    }

    /// Whether it is put together while it is written.
    #[inline]
    pub(crate) const fn is_long(&self) -> bool {
        self.bytes > PORTION
    }

    /// What the answer is begun with, if it can be put together a little at a time.
    pub(super) fn progress(&self) -> Option<Progress> {
        let is_well = self.error().is_none() && self.good().next().is_some();
        match &self.how {
            How::Pick(_) | How::Join | How::Newest(_) | How::Pairs(_) if is_well => Some(Progress::of(&self.parts)),
            How::Least if is_well && self.numbers().next().is_none() => Some(Progress::of(&self.parts)),
            How::Exec(plan) => plan.progress(&self.parts),
            _ => None,
        }
    }

    /// Goes on with an answer that is put together a little at a time, until `out` has so many bytes. Whether there is more.
    pub(super) fn put_on(&self, progress: &mut Progress, out: &mut Vec<u8>, until: usize) -> bool {
        match &self.how {
            How::Pick(order) => progress.pick(order, self.version(), &self.parts, out, until),
            How::Join => progress.join(&self.parts, out, until),
            How::Newest(count) => progress.newest(*count, &self.parts, out, until),
            How::Least | How::Wait => progress.least(&self.parts, out, until),
            How::Pairs(_) => progress.pairs(&self.parts, out, until),
            How::Exec(plan) => plan.put_on(progress, out, &self.parts, until),
            _ => false,
        }
    }

    /// Puts lists together of which none is an error.
    fn put_all(&self, out: &mut Vec<u8>) {
        self.put_on(&mut Progress::of(&self.parts), out, usize::MAX);
    }

    fn pick(&self, order: &[u16], mut put: impl FnMut(&[u8])) {
        // What there is of each part: few are kept without an allocation.
        let (mut few, mut many) = ([const { None }; FEW], Vec::new());
        let sources = match few.get_mut(..self.parts.len()) {
            Some(few) => few,
            None => {
                many.resize(self.parts.len(), None);
                &mut many[..]
            }
        };
        for (source, part) in sources.iter_mut().zip(&self.parts) {
            if let Part::Came(reply) = part {
                *source = reply::items(reply);
            }
        }
        let mut head = [0; encode::HEAD];
        put(encode::array_in(&mut head, order.len()));
        for from in order {
            let from = usize::from(*from);
            match sources.get_mut(from).and_then(|items| items.as_mut()?.next()) {
                Some(value) => put(value),
                None => put(encode::null_of(self.version())),
            }
        }
    }

    fn union(&self, out: &mut Vec<u8>) {
        let all: BTreeSet<&[u8]> = self.good().filter_map(reply::items).flatten().collect();
        encode::array(out, all.len());
        all.into_iter().for_each(|element| out.extend_from_slice(element));
    }

    /// Nothing was ended: an error that says more than that there was nothing to end, and if there is none, whether all
    /// servers could be asked.
    fn not_killed(&self, out: &mut Vec<u8>) {
        let mut errors = self.parts.iter().filter_map(|part| match part {
            Part::Came(reply) => Some(&**reply),
            Part::Lost(error) => error.as_deref(),
        });
        let lost = self.parts.iter().any(|part| matches!(part, Part::Lost(None)));
        match errors.find(|error| !error.starts_with(b"-NOTBUSY")) {
            Some(error) => out.extend_from_slice(error),
            None if lost => encode::error(out, b"ERR a server of this pool could not be asked, and may be busy"),
            None => out.extend_from_slice(self.error().unwrap_or(b"-NOTBUSY No scripts in execution right now.\r\n")),
        }
    }

    /// An answer that is not null, looked for from a part on.
    fn any(&self, from: usize) -> Option<&[u8]> {
        let good: Vec<_> = self.good().collect();
        let from = from % good.len().max(1);
        good[from..].iter().chain(&good[..from]).copied().find(|reply| reply::read(reply) != Reply::Null)
    }

    /// A pool's cursor is the server's times the number of servers, plus the server's place; a server that is through
    /// hands over to the next.
    fn scan(&self, out: &mut Vec<u8>, server: u64, servers: u64) {
        let next_server = if server + 1 < servers { server + 1 } else { 0 };
        let reply = match self.parts.first() {
            Some(Part::Came(reply)) => &**reply,
            Some(Part::Lost(Some(error))) => return out.extend_from_slice(error),
            _ => b"*2\r\n$1\r\n0\r\n*0\r\n",
        };
        let Some(mut items) = reply::items(reply) else { return out.extend_from_slice(reply) };
        let cursor = items.next().map(reply::read);
        let cursor = match cursor {
            Some(Reply::Bulk(text)) => std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok()),
            _ => None,
        };
        let next = match cursor {
            Some(0) | None => next_server,
            Some(cursor) => cursor.wrapping_mul(servers).wrapping_add(server),
        };
        encode::array(out, 2);
        encode::bulk(out, next.to_string().as_bytes());
        out.extend_from_slice(items.bytes());
    }
}

/// The answer to a `WAIT` among those to all that was asked with it; in its place, that its user may not ask the rest.
fn answer_to_wait(replies: &[u8]) -> &[u8] {
    let mut rest = replies;
    for _ in 0..BEFORE_WAIT {
        let (reply, behind) = rest.split_at(reply::end(rest));
        if reply.starts_with(b"-NOPERM") {
            return reply;
        }
        rest = behind;
    }
    rest
}

/// Appends what a `PUBSUB NUMSUB` is answered if nobody hears any of its channels.
fn nobody_hears(asked: &[u8], out: &mut Vec<u8>) {
    let mut spans = Vec::new();
    let args = request::args(asked, &mut spans);
    encode::array(out, 2 * (args.len() - 2));
    for channel in args.iter().skip(2) {
        encode::bulk(out, channel);
        encode::integer(out, 0);
    }
}

/// The error that a server answered.
fn refusal(part: &Part) -> Option<&[u8]> {
    match part {
        Part::Came(reply) if reply.first() == Some(&b'-') => Some(reply),
        _ => None,
    }
}
