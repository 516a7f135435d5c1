//! Clients that go over to another process with their connections: at what moment they can, and what goes with them.

use super::clients::session::{Departure, Session};
use super::ids::SessionId;
use super::redis::{CarriedRedis, Client};
use super::{Course, Engine};
use crate::config::model::PoolId;
use crate::failure::Failure;
use crate::stats::carried::Counted;
use crate::time::Instant;

/// What goes over with a client besides its connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// What it has sent of a request that is not whole yet.
    pub input: Vec<u8>,
    /// Redis: what it has set up.
    pub redis: Option<CarriedRedis>,
}

impl Engine {
    /// Clients go over to another process from here on, each when it is [told to](Engine::client_is_to_leave), or they do not
    /// any more. No server that is out is let back meanwhile, as the other process does that.
    pub fn set_departing(&mut self, departing: bool, now: Instant) {
        self.course = if departing { Course::HandsOver } else { Course::Serves };
        if departing {
            self.end_waits(now);
            self.end_probes(now);
        } else {
            let ids: Vec<_> = self.clients.iter().map(|(id, _)| id).collect();
            for id in ids {
                if let Some(session) = self.session(id) {
                    session.set_departure(Departure::Undecided);
                }
                self.touch_session(id);
            }
            for index in 0..self.pools.len() {
                let pool = super::pool_id(index);
                let servers: Vec<_> = self.topology.pool(pool).members().collect();
                servers.into_iter().for_each(|server| self.schedule_probe(pool, server));
            }
        }
        self.settle(now);
    }

    /// No server is let back that is being probed: what its probe has still to ask, another process asks.
    fn end_probes(&mut self, now: Instant) {
        for index in 0..self.pools.len() {
            let pool = super::pool_id(index);
            for server in self.topology.pool(pool).members().collect::<Vec<_>>() {
                let link = self.member(pool, server).probe();
                self.fail_link(link, Failure::Ejected, now);
            }
        }
    }

    /// A client is to go over to another process as soon as it can, and is read no more until it has. `false` if it has begun
    /// something that it has to come to the end of before.
    pub fn client_is_to_leave(&mut self, id: SessionId) -> bool {
        let Some(session) = self.session(id).filter(|session| !session.is_bound()) else { return false };
        session.set_departure(Departure::Soon);
        self.touch_session(id);
        true
    }

    /// A client that is to leave has begun something after all: it is read on until it is told to leave again. `false` if it was
    /// not to.
    pub fn client_puts_off_leaving(&mut self, id: SessionId) -> bool {
        let Some(session) = self.session(id).filter(|session| session.departure() == Departure::Soon) else {
            return false;
        };
        session.set_departure(Departure::Undecided);
        self.touch_session(id);
        true
    }

    /// What is to go over with a client that is to, if it is between two requests, and has nothing that only this process can give it:
    /// a transaction that has begun, subscriptions, a server's connection of its own. It has still to [leave](Engine::client_gone).
    #[must_use]
    pub fn client_departs(&self, id: SessionId) -> Option<Carried> {
        let session = self.session_ref(id).filter(|session| session.may_travel())?;
        let redis = session.redis().map(CarriedRedis::of);
        Some(Carried { input: session.input.unparsed().to_vec(), redis })
    }

    /// A client stays, whoever takes the others.
    pub fn client_stays(&mut self, id: SessionId) {
        if let Some(session) = self.session(id) {
            session.set_departure(Departure::Never);
        }
    }

    /// Counts what another process has counted.
    pub fn count_carried(&mut self, counted: &Counted) {
        self.refresh(self.now); // pools may be new ones
        counted.add_to(&self.counters, &self.topology.config);
    }

    /// A client comes over from another process, with what it has sent and set up there.
    pub fn client_arrived(&mut self, pool: PoolId, carried: Carried, now: Instant) -> SessionId {
        let id = self.client_connected(pool);
        if let (Some(redis), Some(client)) = (carried.redis, self.session(id).and_then(Session::redis_mut)) {
            let trusted = client.trusted;
            redis.give_to(client);
            client.trusted |= trusted; // a password may not be asked for here
        }
        if !carried.input.is_empty() {
            self.client_data(id, &carried.input, now);
        }
        id
    }
}

impl Session {
    /// Whether it can go over to another process: see [`Engine::client_departs`].
    fn may_travel(&self) -> bool {
        // What wants no answer would be overtaken by what is asked elsewhere.
        let leaves = self.departure() == Departure::Soon;
        leaves && self.is_idle() && !self.is_over() && !self.is_bound() && !self.requests.may_have_unheard()
    }

    /// Whether it has begun something that it has to come to the end of here, and for which it is read on.
    pub(super) fn is_bound(&self) -> bool {
        let is_bound = self.redis().is_some_and(Client::is_bound);
        is_bound
            || self.departure() == Departure::Never
            || self.crawl().is_some()
            || self.input.is_skipping()
            || self.input.refuses_large()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::config;
    use crate::engine::{Effect, Scripts, Setup};
    use crate::topology::Published;

    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    /// A client that has sent this to a pool that is about to be handed over, and the bytes that its server was asked.
    fn asked(protocol: &str, request: &[u8]) -> (Engine, SessionId, impl FnMut(&mut Engine, &[u8])) {
        let file = format!("p:\n  listen: 127.0.0.1:1\n  timeout: 400\n  {protocol}\n  servers: ['10.0.0.1:1:1']\n");
        let published = Arc::new(Published::new(config::parse("file", &file).unwrap().config, 1));
        let scripts = Scripts::default();
        let mut engine = Engine::new(Setup { published, worker: 0, seed: 1, started_at: Duration::ZERO, scripts });
        let client = engine.client_connected(PoolId(0));
        engine.client_data(client, request, NOW);
        let Some(Effect::Connect { link, epoch }) = engine.poll_effect() else { panic!("nobody is asked") };
        engine.link_connected(link, epoch, NOW);
        engine.set_departing(true, NOW);
        assert!(engine.client_status(client).reads, "nobody has told it to leave");
        assert!(engine.client_is_to_leave(client));
        let len = engine.link_output(link, epoch).len();
        engine.link_wrote(link, epoch, len, NOW);
        let answered = move |engine: &mut Engine, answer: &[u8]| engine.link_data(link, epoch, answer, NOW, &mut ());
        (engine, client, answered)
    }

    #[test]
    fn nobody_leaves_before_what_it_asked_is_done_whether_it_wants_an_answer_or_not() {
        for (protocol, request, answer, told) in [
            ("hash: md5", &b"get k\r\n"[..], &b"END\r\n"[..], 5),
            ("hash: md5", b"set k 0 0 1 noreply\r\nx\r\n", b"STORED\r\n", 0),
            ("hash: md5", b"delete k noreply\r\n", b"DELETED\r\n", 0),
            ("hash: md5", b"ms k 1 q\r\nx\r\n", b"HD\r\n", 0),
            ("redis: true", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nx\r\n", b"+OK\r\n", 5),
            ("redis: true", b"CLIENT REPLY OFF\r\nSET k x\r\n", b"+OK\r\n", 0),
        ] {
            let (mut engine, client, mut answered) = asked(protocol, request);
            let what = String::from_utf8_lossy(request).into_owned();
            assert!(!engine.client_status(client).reads, "{what}");
            assert_eq!(engine.client_departs(client), None, "{what}");
            while engine.poll_client().is_some() {}
            answered(&mut engine, answer);
            let there = engine.client_output(client).len();
            assert_eq!(there, told, "{what}");
            if told > 0 {
                assert_eq!(engine.client_departs(client), None, "{what}: it has still to be told");
                engine.client_wrote(client, told, NOW);
            } else {
                assert_eq!(engine.poll_client(), Some(client), "{what}: it is looked at");
            }
            assert!(engine.client_departs(client).is_some(), "{what}");
            engine.check_invariants().expect("all is in order");
        }
    }

    #[test]
    fn what_is_begun_goes_along_or_is_come_to_the_end_of() {
        let file = "p:\n  listen: 127.0.0.1:1\n  timeout: 400\n  redis: true\n  servers: ['10.0.0.1:1:1']\n";
        let published = Arc::new(Published::new(config::parse("file", file).unwrap().config, 1));
        let scripts = Scripts::default();
        let mut engine = Engine::new(Setup { published, worker: 0, seed: 1, started_at: Duration::ZERO, scripts });
        let client = engine.client_connected(PoolId(0));
        engine.client_data(client, b"SELECT 3\r\n*2\r\n$3\r\nGET\r\n$5\r\nna", NOW);
        engine.client_wrote(client, 5, NOW);
        engine.set_departing(true, NOW);
        assert!(engine.client_is_to_leave(client));
        let carried = engine.client_departs(client).expect("it can leave");
        assert_eq!(carried.input, b"*2\r\n$3\r\nGET\r\n$5\r\nna");
        assert_eq!(carried.redis.as_ref().map(|redis| redis.database), Some(3));
        engine.client_gone(client, false);
        engine.set_departing(false, NOW);
        let client = engine.client_arrived(PoolId(0), carried, NOW);
        engine.client_data(client, b"mes\r\nMULTI\r\n", NOW);
        engine.set_departing(true, NOW);
        assert!(!engine.client_is_to_leave(client) && engine.client_departs(client).is_none());
        assert!(engine.client_status(client).reads);
        engine.check_invariants().expect("all is in order");
    }
}
