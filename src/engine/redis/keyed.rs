//! Requests for one server: the one that all their keys belong to, or any.

use super::call::{Call, Performed};
use super::{InPlace, Replies};
use crate::config::model::{PoolId, ServerId};
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::memory;
use crate::engine::policy::Policy;
use crate::engine::request::{Asked, Request};
use crate::engine::servers::ticket::Marks;
use crate::engine::{Engine, server_id};
use crate::failure::Failure;
use crate::proto::resp::Version;
use crate::proto::resp::command::Flags;
use crate::proto::resp::command::keys::{self, KeyList};
use crate::proto::resp::fallback::Fallback;
use crate::proto::resp::plan::{CommandClass, Split};
use crate::proto::verb::Verb;
use crate::ring::tag::hashed_range;
use crate::time::Instant;

/// What Redis Cluster says of keys that no single server holds, and what to do about it.
pub(super) const CROSS_SLOT: &[u8] =
    b"CROSSSLOT Keys in request don't hash to the same slot: they belong to several servers of \
      this pool, its option hash_tag keeps keys together";

impl Engine {
    /// What is answered in a server's place, and how the request is to be treated on its way.
    pub(super) fn asked<'a>(&self, id: SessionId, call: Call<'a>) -> (Asked<'a>, Marks) {
        let client = self.client(id).map(|client| (client.version, client.replies));
        let (version, replies) = client.unwrap_or((Version::Resp2, Replies::On));
        let reads = call.command.flags.has(Flags::READONLY);
        let request = Request {
            noreply: replies != Replies::On,
            in_place: Some(InPlace { version, fallback: self.fallback(call) }),
            ..Request::new(if reads { Verb::Query } else { Verb::Command }, call.started)
        };
        let asked = Asked { request, key: b"", raw: call.raw, echo: b"" };
        let mut marks = Marks::ONCE.when(!reads);
        if call.plan.class == CommandClass::Split(Split::Values) {
            marks |= Marks::SPLIT;
        }
        (asked, marks)
    }

    /// Sends a request to the server of its keys.
    pub(super) fn keyed(&mut self, id: SessionId, call: Call<'_>, now: Instant) -> Performed {
        let only = usize::from(call.plan.key);
        if only > 0 && only < call.args.len() {
            return self.send_keyed(id, call, call.args.get(only), now);
        }
        let mut list = KeyList::default();
        if keys::keys(call.command, call.args, &mut list).is_err() {
            // Only the server knows what to say of it; any of them says the same.
            return self.anywhere(id, call, now);
        }
        let mut places = list.iter();
        let Some(first) = places.next() else { return self.anywhere(id, call, now) };
        let key = call.args.get(first);
        if let Some(second) = places.next()
            && !self.are_of_one_server(
                id,
                call,
                key,
                std::iter::once(second).chain(places).map(|place| call.args.get(place)),
            )
        {
            self.refuse_request(id, CROSS_SLOT);
            return Performed::Done;
        }
        if keys::has_patterns(call.command)
            && let Err(text) = self.check_patterns(key, call)
        {
            self.refuse_request(id, text);
            return Performed::Done;
        }
        self.send_keyed(id, call, key, now)
    }

    /// Whether the server of a key has all that the patterns of a `SORT` reach: the pool has no other, or the tag that alone
    /// is hashed stands before each pattern's asterisk, and leads there.
    ///
    /// # Errors
    ///
    /// It has not: what Redis Cluster says.
    #[cold]
    pub(super) fn check_patterns(&self, key: &[u8], call: Call<'_>) -> Result<(), &'static [u8]> {
        let pool = call.pool;
        let config = &self.topology.pools[pool.index()];
        if self.is_of_one(pool) {
            return Ok(());
        }
        let is_here = |prefix: &[u8]| {
            let is_tagged = hashed_range(config.hash_tag, prefix).start > 0;
            is_tagged && self.same_server(pool, key, std::iter::once(prefix))
        };
        match keys::patterns(call.args).find(|pattern| !is_here(pattern.prefix)) {
            None => Ok(()),
            Some(pattern) if pattern.sorts => Err(b"ERR BY option of SORT denied in Cluster mode."),
            Some(_) => Err(b"ERR GET option of SORT denied in Cluster mode."),
        }
    }

    /// What a request is answered if a server fails it and its pool hides failures.
    #[inline]
    pub(super) fn fallback(&self, call: Call<'_>) -> Fallback {
        let config = &self.topology.pools[call.pool.index()];
        if call.plan.class == CommandClass::Script && config.redis.null_scripts && call.args.get(2) == b"1" {
            return Fallback::NULL;
        }
        let absorbs = Policy::of(config).absorbs();
        call.plan.rule.fallback(call.args, absorbs, config.absorb_add)
    }

    /// Sends a request to the server of a key, as it is.
    pub(super) fn send_keyed(&mut self, id: SessionId, call: Call<'_>, key: &[u8], now: Instant) -> Performed {
        let (mut asked, marks) = self.asked(id, call);
        asked.key = key;
        if call.plan.class == CommandClass::Script {
            return self.send_script(id, asked, marks, call, now);
        }
        let raw = call.raw;
        if raw.len() > self.memory.large {
            return self.send_raw(id, asked, marks, key, now);
        }
        self.send_one(id, asked, marks, key, now, |out, _| out.extend_from_slice(raw)).into()
    }

    /// As [`Engine::send_keyed`], of a call of a script.
    #[inline(never)]
    fn send_script(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: Marks,
        call: Call<'_>,
        now: Instant,
    ) -> Performed {
        match self.place(id, asked, marks, asked.key, now) {
            Ok((link, _)) => self.enqueue_script(id, asked, marks, link, call, now),
            Err(outcome) => outcome.into(),
        }
    }

    /// Sends a large request to the server of a key, in the buffer that it came in.
    #[cold]
    #[inline(never)]
    pub(super) fn send_raw(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: Marks,
        key: &[u8],
        now: Instant,
    ) -> Performed {
        match self.place(id, asked, marks, key, now) {
            Ok((link, _)) => self.enqueue_raw(id, asked, marks, link, asked.raw, now),
            Err(outcome) => outcome.into(),
        }
    }

    /// Puts a request on a connection as it came: a large one in the buffer that it came in.
    #[inline(never)]
    pub(super) fn enqueue_raw(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: Marks,
        link: LinkId,
        raw: &[u8],
        now: Instant,
    ) -> Performed {
        match self.whole_request(raw) {
            Some(whole) => self.enqueue_on(id, asked, marks, link, now, |link| link.append_whole(whole)),
            None => self.enqueue(id, asked, marks, link, now, |out| memory::grow(out, raw)),
        }
        Performed::Done
    }

    /// Whether a server of the pool owns all of some keys.
    pub(super) fn same_server<'k>(&self, pool: PoolId, key: &[u8], others: impl Iterator<Item = &'k [u8]>) -> bool {
        if self.is_of_one(pool) {
            return true; // however many they are
        }
        let ring = &self.pools[pool.index()].ring;
        let server = ring.route(key, 0);
        let mut others = others;
        others.all(|other| ring.route(other, 0) == server)
    }

    /// Sends a request to any server that is well.
    pub(super) fn anywhere(&mut self, id: SessionId, call: Call<'_>, now: Instant) -> Performed {
        let (asked, marks) = self.asked(id, call);
        let pool = call.pool;
        match self.any_server(pool) {
            Some(server) => match self.link_to(pool, id, server, now) {
                Ok(link) if call.plan.class == CommandClass::Script => {
                    self.enqueue_script(id, asked, marks, link, call, now)
                }
                Ok(link) => self.enqueue_raw(id, asked, marks, link, call.raw, now),
                Err(Failure::QueueFull) if self.deadline(pool, asked.request.started) > now => {
                    self.hold_back_from(id, pool, server, now);
                    Performed::Backpressured
                }
                Err(failure) => {
                    self.answer_degraded(id, asked, Some(server), failure);
                    Performed::Done
                }
            },
            None if self.describe_commands(id, call) => Performed::Done,
            None => {
                self.answer_degraded(id, asked, None, Failure::Ejected);
                Performed::Done
            }
        }
    }

    /// Whether a pool has one server and no other, so that what is about one server can be asked.
    pub(super) fn is_of_one(&self, pool: PoolId) -> bool {
        self.topology.pools[pool.index()].servers.len() == 1
    }

    /// A server that is in the ring.
    pub(super) fn any_server(&self, pool: PoolId) -> Option<ServerId> {
        self.pools[pool.index()].live.iter().position(|live| *live).map(server_id)
    }
}
