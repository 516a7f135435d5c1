//! Requests with a large argument for which there has been no memory for too long.

use super::Replies;
use super::input::Call;
use crate::engine::Engine;
use crate::engine::session::SessionId;
use crate::failure::Failure;
use crate::proto::resp::Version;
use crate::proto::resp::args::Args;
use crate::proto::resp::plan::Class;
use crate::proto::resp::request::{self, Limits, Parsed, Progress, Swallow};
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
        let Some(session) = self.session_ref(id).filter(|session| session.frugal) else { return false };
        let (pool, client) = (session.pool, session.redis.as_deref());
        // With RESP2 a subscriber is told an error whatever it asks.
        let is_plain = client.is_some_and(|client| {
            let may_ask = !client.is_subscribed() || client.version != Version::Resp2;
            client.trusted && client.queue.is_none() && may_ask
        });
        if !is_plain || rest.bytes > self.value_limit(pool) + 2 || rest.arguments > MOST_BEHIND {
            return false;
        }
        // The same request with nothing in place of what has not come: enough to know what is answered to it.
        let Some(line) = memchr::memrchr(b'$', front) else { return false };
        let mut raw = front[..line].to_vec();
        (0..=rest.arguments).for_each(|_| raw.extend_from_slice(b"$0\r\n\r\n"));
        let limits = Limits { value: usize::MAX, trusted: true };
        let mut spans = Vec::new();
        let Parsed::Complete { len } = request::parse(&raw, &mut Progress::default(), limits, &mut spans) else {
            return false;
        };
        let args = Args::new(&raw[..len], &spans);
        let Ok((command, plan)) = self.recent.find(args) else { return false };
        if !command.accepts(args.len()) || !matches!(plan.class, Class::Keyed | Class::Split(_) | Class::Publish) {
            return false;
        }
        if let Some(client) = self.redis(id) {
            client.swallow = rest;
            client.command = Some(command.name);
            client.count_reply();
        }
        let call = Call { raw: &raw, args, command, plan, started };
        let (mut asked, _) = self.asked(id, call);
        // What is absorbed without a condition may have one behind its value.
        if rest.arguments > 0
            && let Some(in_place) = &mut asked.in_place
        {
            in_place.fallback = plan.rule.fallback(args, false, false);
        }
        self.begin_request(plan.asks);
        self.count_request(pool);
        if asked.verb == Verb::Command {
            self.owe_by_keys(id, call.raw, self.now);
        }
        self.answer_degraded(id, asked, None, Failure::NoMemory);
        true
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
