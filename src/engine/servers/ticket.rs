//! What stands for a request in flight to a server, until its response has been read.

use std::ops::{BitOr, BitOrAssign};

use super::outbox::Offset;
use crate::engine::ids::{LinkId, SessionId};
use crate::outcome::Class;
use crate::proto::verb::Verb;

/// Who has sent a request to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A client whose request of this number waits for the response.
    Client { id: SessionId, number: u32 },
    /// A client that has asked for no answer, so it has no slot for one.
    Unheard(SessionId),
    /// The proxy itself.
    Proxy(Intent),
}

impl Asker {
    /// A client, which gets the response as that to its request of this number, if that waits for one.
    pub(crate) const fn client(id: SessionId, number: u32, has_slot: bool) -> Self {
        if has_slot { Self::Client { id, number } } else { Self::Unheard(id) }
    }
}

/// What the proxy asks a server for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// What the verb says.
    Plain,
    /// Redis: what the server calls this connection.
    Name,
    /// Redis: to end what waits on that connection.
    End(LinkId),
    /// To bring a key along from where it was: which of those that are under way.
    Copy(u32),
    /// The lease for a key that is waited for: which of those.
    Lease(u32),
    /// Whether that is there.
    Look(u32),
    /// The value that it had before.
    Former(u32),
    /// The version of the copy of a value, in front of a request that stores the next one if none is there.
    See,
    /// A value that is to be kept: which of those.
    Near(u32),
    /// Redis: how long that has still to live.
    NearLife(u32),
    /// What nobody waits for an answer to.
    Unheard,
}

/// Facts about a request in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks(u16);

impl Marks {
    pub(crate) const NONE: Self = Self(0);
    /// It has been sent on an earlier connection.
    pub(crate) const RESENT: Self = Self(1);
    /// It is part of a multi-get.
    pub(crate) const SPLIT: Self = Self(1 << 1);
    /// `k` was added to a meta command and comes out of its response again.
    pub(crate) const STRIP_KEY: Self = Self(1 << 2);
    /// It is meant for a server that is out of the ring as well.
    pub(crate) const STAYS: Self = Self(1 << 3);
    /// The key is base64.
    pub(crate) const BASE64: Self = Self(1 << 4);
    /// It must not be sent twice, though it reads.
    pub(crate) const ONCE: Self = Self(1 << 5);
    /// Its response is a listing (`stats`).
    pub(crate) const LISTING: Self = Self(1 << 6);
    /// Redis: its response is put together with others.
    pub(crate) const PART: Self = Self(1 << 7);
    /// Redis: it waits for something to happen.
    pub(crate) const WAITS: Self = Self(1 << 8);
    /// It goes on with the line of the ticket in front of it.
    pub(crate) const JOINED: Self = Self(1 << 9);

    /// Those of these that are not among others.
    pub(crate) const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// These if something is so, else none.
    #[inline]
    pub(crate) const fn when(self, is_so: bool) -> Self {
        if is_so { self } else { Self::NONE }
    }

    /// Whether a mark is among these.
    #[inline]
    pub(crate) const fn has(self, mark: Self) -> bool {
        self.0 & mark.0 != 0
    }
}

impl BitOr for Marks {
    type Output = Self;

    #[inline]
    fn bitor(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

impl BitOrAssign for Marks {
    #[inline]
    fn bitor_assign(&mut self, others: Self) {
        self.0 |= others.0;
    }
}

/// A request in flight to a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    pub(crate) asker: Asker,
    /// Where the request starts in the outbox.
    pub(crate) start: Offset,
    /// Replies of the server that make up its response.
    pub(crate) replies: u32,
    /// Which part of a split request it is.
    pub(crate) fragment: u16,
    /// Keys of a part of a multi-get.
    pub(crate) keys: u16,
    pub(crate) marks: Marks,
    pub(crate) verb: Verb,
    /// What kind of thing it asks for.
    pub(crate) class: Class,
}

// It is copied on the way of each request.
const _: () = assert!(size_of::<Ticket>() == 32, "a ticket has grown");

impl Ticket {
    /// Of a request that starts at a place in the outbox.
    pub(crate) const fn of(asker: Asker, start: Offset, verb: Verb, class: Class) -> Self {
        Self { asker, start, replies: 1, fragment: 0, keys: 0, marks: Marks::NONE, verb, class }
    }

    /// Of a request of the proxy's own.
    pub(crate) const fn own(intent: Intent, start: Offset, verb: Verb) -> Self {
        Self::of(Asker::Proxy(intent), start, verb, Class::Other)
    }

    /// Whether sending it twice does what sending it once does.
    pub(crate) const fn only_reads(&self) -> bool {
        self.verb.is_repeatable() && !self.is(Marks::ONCE)
    }

    #[inline]
    pub(crate) const fn is(&self, mark: Marks) -> bool {
        self.marks.has(mark)
    }

    /// Whether it is the proxy's own.
    #[inline]
    pub(crate) const fn is_own(&self) -> bool {
        matches!(self.asker, Asker::Proxy(_))
    }

    /// What the proxy has asked it for, if it is its own.
    pub(crate) const fn intent(&self) -> Option<Intent> {
        if let Asker::Proxy(intent) = self.asker { Some(intent) } else { None }
    }

    /// The client that has sent it, be it for an answer or not.
    #[inline]
    pub(crate) const fn session(&self) -> Option<SessionId> {
        match self.asker {
            Asker::Client { id, .. } | Asker::Unheard(id) => Some(id),
            Asker::Proxy(_) => None,
        }
    }

    /// The client that gets the response, and the number of its request.
    #[inline]
    pub(crate) const fn client(&self) -> Option<(SessionId, u32)> {
        match self.asker {
            Asker::Client { id, number } => Some((id, number)),
            Asker::Unheard(_) | Asker::Proxy(_) => None,
        }
    }
}
