//! Noticing that a server has gone silent before its first timeout has passed.
//!
//! A request that waits for a hung server waits for all of its `timeout`. Those that come after it need not: when a
//! link with requests in flight has been silent for twice what its responses take at most ([`Stall`] has the
//! bounds), it is suspect. What is in flight on it stays and is the test; new requests are answered by the pool's
//! policy. A single byte from the server ends the suspicion. If it times out, the link is connected anew and asked for
//! its version, so that there is a test still; failures are counted as ever.
//!
//! A slow server is not a silent one: its latency raises the bound, up to where only `timeout` decides. Nor is one that
//! stands still now and then and goes on within `timeout`: that is remembered for a while, by all workers, and the next
//! silence has to be longer by a quarter, however many fast answers came in between. And a pause of
//! this process is no silence of the server: what was sent meanwhile is read before the second look.
//!
//! [`Stall`]: crate::config::model::Stall

use super::rate_limit::{Frequent, TELL_PERIOD, TOLD};
use std::time::Duration;

use super::ids::LinkId;
use super::servers::ticket::Marks;
use super::{Engine, Notice};
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::proto::memcache::{Verb, encode};
use crate::proto::resp;
use crate::time::Instant;

/// Between the look that finds a silence and the one that believes it.
const SECOND_LOOK: Duration = Duration::from_millis(5);

impl Engine {
    /// The silence after which a link is suspect, if that comes before the deadline.
    #[inline(always)]
    fn stall_after(&self, id: LinkId) -> Option<Duration> {
        let link = &self.servers[id];
        let pool = &self.topology.pools[link.pool().index()];
        let stall = pool.stall?;
        let bound = link.silence.bound(stall);
        (bound < pool.timeout?).then_some(bound)
    }

    /// When a link is to be looked at that has been silent since `since`.
    #[inline(always)]
    pub(super) fn first_look(&self, id: LinkId, since: Instant) -> Instant {
        let link = &self.servers[id];
        match self.stall_after(id) {
            Some(bound) if !link.silence.is_suspect() => since + bound,
            _ => self.deadline(link.pool(), since),
        }
    }

    /// Looks whether a link that something waits for has gone silent. Returns whether its timer is set to look again.
    pub(super) fn look(&mut self, id: LinkId, now: Instant) -> bool {
        let Some(bound) = self.stall_after(id) else { return false };
        let link = &mut self.servers[id];
        let since = link.silence.since();
        if link.silence.is_suspect() {
            return false;
        }
        if now - since < bound {
            self.arm_link(id, since + bound);
            return true;
        }
        let (pool, server) = (link.pool(), link.server());
        if let Some(patience) = self.patience(pool, server, now) {
            self.registry.renew_pause(pool, server, now);
            if self.topology.pools[pool.index()].timeout.is_some_and(|timeout| patience >= timeout) {
                return false;
            }
            if now - since < patience {
                self.arm_link(id, since + patience);
                return true;
            }
        }
        if !self.servers[id].silence.suspect() {
            self.arm_link(id, now + SECOND_LOOK);
            return true;
        }
        self.let_overtake(id);
        self.counters.server(pool, server).stalls.add(1);
        let silent = now - since;
        self.notify_rate_limited(Frequent::Silence, (pool, server), now, |suppressed| Notice::Silent {
            pool,
            server,
            silent,
            suppressed,
        });
        false
    }

    /// A link has gone silent: what its clients ask other servers does not wait until its time is up.
    fn let_overtake(&mut self, id: LinkId) {
        let Self { servers, clients, .. } = self;
        let mut last = None;
        for ticket in servers[id].queue().tickets() {
            let Some((client, _)) = ticket.client().filter(|(client, _)| last != Some(*client)) else { continue };
            last = Some(client);
            let Some(session) = clients.get_mut(client) else { continue };
            session.requests.let_overtake();
            if session.may_go_on() {
                clients.resume_soon(client);
            }
        }
    }

    /// How long a silence is no surprise of a server that has stood still of late and gone on.
    fn patience(&self, pool: PoolId, server: ServerId, now: Instant) -> Option<Duration> {
        let pause = self.registry.pause(pool, server, now);
        let stall = self.topology.pools[pool.index()].stall?;
        (pause > Duration::ZERO).then(|| (pause + pause / 4).min(stall.most))
    }

    /// A server has spoken again on a link that was suspect, after a silence that began at `since`.
    #[cold]
    #[inline(never)]
    pub(super) fn spoke_again(&mut self, id: LinkId, since: Instant, now: Instant) {
        let link = &self.servers[id];
        let (pool, server, silence) = (link.pool(), link.server(), now - since);
        // Of a connection that was opened meanwhile the silence began sooner.
        if link.stream().is_some_and(|stream| stream.has_answered())
            && self.topology.pools[pool.index()].timeout.is_some_and(|timeout| silence < timeout)
        {
            self.registry.note_pause(pool, server, silence, now);
        }
        self.invalidate_open(id, now); // it was asked nothing meanwhile, and may have missed something
    }

    /// Tells the operator of something that may happen often, unless the same was told a moment ago: then it is counted, and
    /// the next notice says how often. `notice` is given that number.
    pub(super) fn notify_rate_limited(
        &mut self,
        what: Frequent,
        (pool, server): (PoolId, ServerId),
        now: Instant,
        notice: impl FnOnce(u32) -> Notice,
    ) {
        if let Some(suppressed) = self.member_mut(pool, server).rate_limit(what).admit(now, TELL_PERIOD) {
            self.outputs.tell(notice(suppressed));
        }
    }

    /// Tells the operator that limits were reached, as far as that was not told a moment ago.
    #[cold]
    pub(super) fn tell_limits(&mut self, now: Instant) {
        let Some((pool, server, failure)) = self.telemetry.limit_hit.take() else { return };
        let Some(which) = TOLD.iter().position(|limit| *limit == failure) else { return };
        let told = &mut self.pools[pool.index()].limits[which];
        if told.0.is_some_and(|at| now - at < TELL_PERIOD) {
            return;
        }
        let all = self.counters.pool(pool).degraded[failure as usize].value();
        let requests = all - std::mem::replace(&mut told.1, all);
        told.0 = Some(now);
        let (held, most) = (self.memory.held(), self.memory.limits().all);
        let server = server.filter(|_| !matches!(failure, Failure::NoMemory | Failure::NoDedicated));
        self.outputs.tell(Notice::Limit { pool, server, failure, held, most, requests });
    }

    /// Asks a server for its version, on a connection that is to show whether it is well.
    pub(super) fn ask_version(&mut self, id: LinkId, now: Instant) {
        let is_redis = self.is_redis(id);
        self.ask(id, Verb::Version, Marks::NONE, now, |out| {
            if is_redis {
                resp::encode::words(out, &[b"PING"]);
            } else {
                out.extend_from_slice(Verb::Version.name().as_bytes());
                encode::line_end(out);
            }
        });
    }

    /// A link that is suspect has a new connection.
    pub(super) fn test_suspect(&mut self, id: LinkId, now: Instant) {
        let link = &self.servers[id];
        if link.silence.is_suspect() && link.is_up() {
            self.ask_version(id, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config;
    use crate::engine::Effect;
    use crate::engine::{Scripts, Setup};
    use crate::topology::Published;

    const POOL: PoolId = PoolId(0);
    const SERVER: ServerId = ServerId(0);

    fn engine() -> Engine {
        let file = "pool:\n  listen: 127.0.0.1:1\n  timeout: 400\n  servers: ['10.0.0.1:1:1']\n";
        let published = Arc::new(Published::new(config::parse("file", file).expect("a good file").config, 1));
        let scripts = Scripts::default();
        Engine::new(Setup { published, worker: 0, seed: 1, started_at: Duration::ZERO, scripts })
    }

    fn at(s: u64) -> Instant {
        Instant::from_nanos(s * 1_000_000_000)
    }

    fn told(engine: &mut Engine) -> Vec<Notice> {
        let effects = std::iter::from_fn(|| engine.poll_effect());
        effects.filter_map(|effect| if let Effect::Notice(notice) = effect { Some(notice) } else { None }).collect()
    }

    /// A client asks for what is large, and another one then for something small, again and again. The server sends `all`, so many
    /// bytes every 5 ms. Whether it is ejected for that within 3 s.
    fn is_ejected_while_it_sends(protocol: &str, greed: &str, all: &[u8], bytes: usize) -> bool {
        let more = "  auto_eject_hosts: true\n  server_failure_limit: 1\n";
        let pool =
            format!("pool:\n  listen: 127.0.0.1:1\n  timeout: 400\n{more}{protocol}  servers: ['10.0.0.1:1:1']\n");
        let file = format!("softmiss:\n  memory_limit: 16mb\n{pool}");
        let published = Arc::new(Published::new(config::parse("file", &file).expect("a good file").config, 1));
        let scripts = Scripts::default();
        let registry = Arc::clone(&published.current().registry);
        let mut engine = Engine::new(Setup { published, worker: 0, seed: 1, started_at: Duration::ZERO, scripts });
        let (greedy, modest) = (engine.client_connected(POOL), engine.client_connected(POOL));
        let mut now = at(1);
        engine.client_data(greedy, greed.as_bytes(), now);
        let (mut link, mut sent) = (None, 0);
        while now < at(4) && registry.live(POOL)[0] {
            if engine.client_status(modest).reads {
                engine.client_data(modest, b"get small\r\n", now);
            }
            while let Some(effect) = engine.poll_effect() {
                if let Effect::Connect { link: id, epoch } = effect {
                    engine.link_connected(id, epoch, now);
                    (link, sent) = (Some((id, epoch)), 0);
                }
            }
            let Some((id, epoch)) = link else { continue };
            while !engine.link_output(id, epoch).is_empty() {
                let len = engine.link_output(id, epoch).len();
                engine.link_wrote(id, epoch, len, now);
            }
            let piece = &all[sent..all.len().min(sent + bytes)];
            engine.link_data(id, epoch, piece, now, &mut ());
            sent += piece.len();
            for client in [greedy, modest] {
                while !engine.client_output(client).is_empty() {
                    let len = engine.client_output(client).len();
                    engine.client_wrote(client, len, now);
                }
            }
            now = now + Duration::from_millis(5);
            engine.handle_timeout(now);
        }
        !registry.live(POOL)[0]
    }

    #[test]
    fn a_server_that_sends_what_is_large_is_not_late() {
        let values = |len: usize| format!("VALUE k 0 {len}\r\n{}\r\nEND\r\n", "v".repeat(len)).repeat(100).into_bytes();
        let (memcached, gets) = ("  join_gets: false\n", "get k\r\n".repeat(100));
        assert!(!is_ejected_while_it_sends(memcached, &gets, &values(1_000_000), 100_000), "20 MB a second");
        assert!(is_ejected_while_it_sends(memcached, &gets, &values(1_000_000), 5_000), "1 MB a second");
        assert!(is_ejected_while_it_sends(memcached, &gets, &values(10_000), 10_000), "what is not large is late");
        // One reply of many elements, for most of which there is no memory.
        let list = format!("*1000000\r\n{}", format!("$1000\r\n{}\r\n", "v".repeat(1000)).repeat(70_000));
        let redis = "  redis: true\n";
        assert!(!is_ejected_while_it_sends(redis, "LRANGE k 0 -1\r\n", list.as_bytes(), 100_000), "20 MB a second");
    }

    #[test]
    fn what_happens_often_is_told_seldom_with_how_often() {
        let mut engine = engine();
        let unflushed = |suppressed| Notice::Unflushed { pool: POOL, server: SERVER, suppressed };
        for s in [100, 101, 105, 109, 110, 125] {
            engine.notify_rate_limited(Frequent::Unflushed, (POOL, SERVER), at(s), unflushed);
        }
        assert_eq!(told(&mut engine), [unflushed(0), unflushed(3), unflushed(0)]);
    }

    #[test]
    fn a_limit_is_told_with_the_requests_that_met_it() {
        let mut engine = engine();
        for s in [100, 101, 102, 111] {
            engine.count_failure(POOL, Some(SERVER), Failure::NoMemory);
            engine.settle(at(s));
        }
        engine.count_failure(POOL, Some(SERVER), Failure::QueueFull);
        engine.settle(at(112));
        engine.count_failure(POOL, Some(SERVER), Failure::TimedOut);
        engine.settle(at(200));
        let told: Vec<_> = told(&mut engine)
            .into_iter()
            .map(|notice| {
                let Notice::Limit { server, failure, requests, .. } = notice else { panic!("{notice:?}") };
                (failure, server, requests)
            })
            .collect();
        let memory = |requests| (Failure::NoMemory, None, requests);
        assert_eq!(told, [memory(1), memory(3), (Failure::QueueFull, Some(SERVER), 1)]);
    }
}
