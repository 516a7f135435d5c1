//! Requests with a large argument for which there has been no memory for too long.

use super::Replies;
use super::call::Call;
use super::unread::{ABSENT, KEPT, Unread};
use crate::config::model::PoolId;
use crate::engine::Engine;
use crate::engine::ids::SessionId;
use crate::failure::Failure;
use crate::proto::resp::Version;
use crate::proto::resp::plan::CommandClass;
use crate::proto::resp::request::{self, Swallow};
use crate::proto::resp::unmade;
use crate::proto::verb::Verb;
use crate::time::Instant;

/// Arguments behind the large one, at most: where there are more, not even empty ones are made in their place.
const MOST_BEHIND: u32 = 1000;

impl Engine {
    /// Answers, by the pool's policy, a request of which only the `front` up to a large argument is looked at: there is no
    /// memory for the rest. `false` when the argument is larger than is taken anyway, or this is no request that a policy
    /// has an answer to.
    #[cold]
    pub(super) fn fail_large_request(&mut self, id: SessionId, front: &[u8], rest: Swallow, started: Instant) -> bool {
        let Some(session) = self.session_ref(id).filter(|session| session.input.refuses_large()) else { return false };
        let (pool, client) = (session.pool(), session.redis());
        // With RESP2 a subscriber is told an error whatever it asks.
        let is_plain = client.is_some_and(|client| {
            let may_ask = !client.is_subscribed() || client.version != Version::Resp2;
            client.trusted && client.queue.is_none() && may_ask
        });
        if !is_plain || rest.bytes > self.value_limit(pool) + 2 || rest.arguments > MOST_BEHIND {
            return false;
        }
        // The same request with nothing in place of what has not come: enough to know what kind of request it is.
        let Some(line) = memchr::memrchr(b'$', front) else { return false };
        let mut raw = front[..line].to_vec();
        raw.extend_from_slice(ABSENT);
        let known = raw.len();
        (0..rest.arguments).for_each(|_| raw.extend_from_slice(ABSENT));
        let mut spans = Vec::new();
        let args = request::args(&raw, &mut spans);
        let Ok((command, plan)) = self.redis.recent.find(args) else { return false };
        if !command.accepts(args.len())
            || !matches!(plan.class, CommandClass::Keyed | CommandClass::Split(_) | CommandClass::Publish)
        {
            return false;
        }
        if rest.arguments == 0 && self.lacks_keys(pool, &raw) {
            return false;
        }
        if let Some(client) = self.redis(id) {
            client.swallow = rest;
        }
        let is_whole = rest.arguments == 0;
        if !is_whole {
            raw.truncate(known);
        }
        let unread = Unread { raw, keeps: false, room: KEPT, started };
        if is_whole {
            // Nothing that matters is behind the argument.
            self.fail_unread(id, &unread);
        } else if let Some(client) = self.redis(id) {
            client.unread = Some(Box::new(unread));
        }
        true
    }

    /// Whether a request that is sent nowhere changes a key that is not known, so that nobody can be made to forget it.
    fn lacks_keys(&self, pool: PoolId, request: &[u8]) -> bool {
        let absorbs = self.policy(pool).absorbs();
        let mut lacks = false;
        unmade::keys(request, absorbs, self.grants_add(pool), |key, _| lacks |= key.is_empty());
        lacks
    }

    /// Answers a request without its large arguments, by the pool's policy; with an error if not all keys are known that it
    /// is to change.
    #[cold]
    pub(super) fn fail_unread(&mut self, id: SessionId, unread: &Unread) {
        let Some(pool) = self.pool_of(id) else { return };
        let mut spans = Vec::new();
        let args = request::args(&unread.raw, &mut spans);
        let Ok((command, plan)) = self.redis.recent.find(args) else { return };
        if let Some(client) = self.redis(id) {
            client.command = Some(command.name);
            client.count_reply();
        }
        let call = Call { pool, raw: &unread.raw, args, command, plan, started: unread.started };
        self.begin_request(plan.asks);
        self.count_request(pool);
        if self.lacks_keys(pool, call.raw) {
            return self.refuse_request(id, b"ERR memory_limit of this proxy reached");
        }
        let (asked, _) = self.asked(id, call);
        if asked.request.verb == Verb::Command {
            self.invalidate_by_keys(id, call.raw, self.now);
            if self.warmup.is_on() {
                let refuses = std::mem::replace(&mut self.memory.refuses, true); // it is sent nowhere, and waits for nothing
                self.is_warm_call(id, call, self.now);
                self.memory.refuses = refuses;
            }
        }
        self.answer_degraded(id, asked, None, Failure::NoMemory);
    }
}

impl super::Client {
    /// A request is carried out: the replies to one, or to the next one, may not be wanted.
    #[inline]
    pub(super) fn count_reply(&mut self) {
        if self.replies != Replies::On {
            self.replies = match self.replies {
                Replies::SkipNext => Replies::SkipThis,
                Replies::SkipThis => Replies::On,
                Replies::On | Replies::Off => self.replies,
            };
        }
    }
}
