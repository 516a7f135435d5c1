//! What a Redis client has set up.

use super::peer::Peer;
use super::portions::{ARGUMENT_COST, Long};
use super::question::Asking;
use super::queue::Queue;
use super::subscriptions::Subscriptions;
use super::unread::Unread;
use super::watched::Watch;
use crate::engine::ids::LinkId;
use crate::proto::resp::Version;
use crate::proto::resp::request::{Progress, Swallow};
use crate::time::Instant;

/// What a server connection is set to before its first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Profile {
    pub(crate) version: Version,
    pub(crate) database: u32,
    /// The server tells on it of changes of what was read on it (`CLIENT TRACKING`).
    pub(crate) tracks: bool,
}

/// Which of its requests a client wants answered (`CLIENT REPLY`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replies {
    On,
    Off,
    /// Not this one; `SKIP` was said in it.
    SkipThis,
    /// Not the next one.
    SkipNext,
}

/// What a Redis client has set up.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) number: u64,
    pub(crate) version: Version,
    /// It has given the password, or need not.
    pub(crate) trusted: bool,
    pub(crate) database: u32,
    pub(crate) name: Vec<u8>,
    /// Name and version of its library (`CLIENT SETINFO`).
    pub(crate) library: [Vec<u8>; 2],
    /// It has given the name of the pool's user, and the password.
    pub(crate) has_user: bool,
    /// When it connected, and when its last request was read.
    pub(crate) since: Instant,
    pub(crate) last: Instant,
    /// The command of that.
    pub(crate) command: Option<&'static str>,
    pub(crate) peer: Option<Peer>,
    /// It is told what servers are asked.
    pub(crate) monitors: bool,
    /// It is told things that it does not ask for one by one: messages, what a server is asked.
    pub(crate) listens: bool,
    /// It has asked not to be chosen when clients are to be got rid of (`CLIENT NO-EVICT`).
    pub(crate) no_evict: bool,
    /// What it wants to know of other clients, until all workers have looked.
    pub(crate) asking: Option<Box<Asking>>,
    pub(crate) replies: Replies,
    /// How far the request that it sends has been looked at; where that is `long`, all of it.
    pub(crate) progress: Progress,
    /// Its next request, when that is made ready in portions.
    pub(crate) long: Option<Box<Long>>,
    pub(crate) swallow: Swallow,
    /// The request that is swallowed, if it is to be answered when its end has come.
    pub(crate) unread: Option<Box<Unread>>,
    /// What it has queued since `MULTI`.
    pub(crate) queue: Option<Box<Queue>>,
    pub(crate) watch: Option<Box<Watch>>,
    pub(crate) subscriptions: Option<Box<Subscriptions>>,
    /// Server connections of its own.
    pub(crate) dedicated: Vec<LinkId>,
}

impl Client {
    pub(super) fn new(number: u64, trusted: bool, database: u32, now: Instant) -> Self {
        Self {
            number,
            version: Version::Resp2,
            trusted,
            database,
            name: Vec::new(),
            library: [Vec::new(), Vec::new()],
            has_user: false,
            since: now,
            last: now,
            command: None,
            peer: None,
            monitors: false,
            listens: false,
            no_evict: false,
            asking: None,
            replies: Replies::On,
            progress: Progress::default(),
            long: None,
            swallow: Swallow::default(),
            unread: None,
            queue: None,
            watch: None,
            subscriptions: None,
            dedicated: Vec::new(),
        }
    }

    pub(crate) const fn profile(&self) -> Profile {
        Profile { version: self.version, database: self.database, tracks: false }
    }

    /// Whether it holds no memory beyond its own size, as can be seen at a glance.
    #[inline]
    pub(crate) fn holds_nothing(&self) -> bool {
        let names = self.name.capacity() | self.library[0].capacity() | self.library[1].capacity();
        self.subscriptions.is_none()
            && self.queue.is_none()
            && self.asking.is_none()
            && self.unread.is_none()
            && self.progress.come == 0
            && names == 0
    }

    /// Memory that it holds beyond its own size.
    pub(crate) fn footprint(&self) -> usize {
        let subscriptions = self.subscriptions.as_ref().map_or(0, |subscriptions| subscriptions.footprint());
        let names = self.name.capacity() + self.library.iter().map(Vec::capacity).sum::<usize>();
        let arguments = self.progress.come as usize * ARGUMENT_COST;
        let asking = self.asking.as_ref().map_or(0, |asking| asking.footprint());
        let unread = self.unread.as_ref().map_or(0, |unread| unread.footprint());
        let long = self.long.as_ref().map_or(0, |long| long.reserved);
        let queue = self.queue.as_ref().map_or(0, |queue| queue.footprint());
        queue + subscriptions + names + arguments + asking + unread + long
    }

    /// Drops what it has set up that takes memory: the client is cut off.
    pub(crate) fn forget(&mut self) {
        (self.queue, self.subscriptions, self.asking, self.unread) = (None, None, None, None);
        self.drop_long();
        (self.name, self.library) = Default::default();
    }
}
