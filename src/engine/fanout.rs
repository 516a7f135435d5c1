//! Requests that go to every server of a pool: `flush_all`, `stats`, `verbosity`.

use super::fragment::{Fragment, NO_KEY};
use super::ids::SessionId;
use super::merge::{Listing, Merge, Word};
use super::request::{Asked, Slot};
use super::servers::ticket::{Asker, Marks, Ticket};
use super::{Engine, work};
use crate::config::model::ServerId;
use crate::failure::Failure;
use crate::outcome::{Class, Outcome};
use crate::proto::memcache::request::StatsOf;
use crate::proto::memcache::stats::{Kind, Own, Summed};
use crate::proto::memcache::{Verb, encode, reply};
use crate::time::Instant;

impl Engine {
    pub(super) fn flush_all(
        &mut self,
        id: SessionId,
        delay: Option<i32>,
        noreply: bool,
        started: Instant,
        now: Instant,
    ) {
        let asked = Asked::of_key(Verb::FlushAll, b"", noreply, started);
        let due = delay.and_then(|delay| self.flush_due(delay.into(), now));
        let merge = Merge::Word(Word { word: reply::OK, strict: false, due, error: None, servers: Vec::new() });
        self.fan_out(id, asked, Marks::NONE, (merge, &self.all_servers(id)), now, |out| encode::flush_all(out, delay));
    }

    pub(super) fn verbosity(&mut self, id: SessionId, level: u64, noreply: bool, started: Instant, now: Instant) {
        let asked = Asked::of_key(Verb::Stats, b"", noreply, started);
        self.order(id, asked, reply::OK, now, |out| encode::verbosity(out, level));
    }

    /// Tells every server to do something, and says `word` if all have.
    fn order(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        word: &'static [u8],
        now: Instant,
        write: impl Fn(&mut Vec<u8>),
    ) {
        let merge = Merge::Word(Word { word, strict: true, due: None, error: None, servers: Vec::new() });
        self.fan_out(id, asked, Marks::NONE, (merge, &self.all_servers(id)), now, write);
    }

    pub(super) fn stats(&mut self, id: SessionId, of: StatsOf<'_>, started: Instant, now: Instant) {
        let asked = Asked::new(Verb::Stats, started);
        let kind = match of {
            StatsOf::Proxy => return self.stats_proxy(id),
            StatsOf::Order(order) => {
                let word: &'static [u8] = if order == b"reset" { b"RESET\r\n" } else { reply::OK };
                return self.order(id, asked, word, now, |out| encode::stats(out, order));
            }
            StatsOf::Servers(b"settings") => Kind::First,
            StatsOf::Servers(b"conns") | StatsOf::Cachedump { .. } => Kind::Lines,
            StatsOf::General | StatsOf::Servers(_) => Kind::Fields,
        };
        let version = self.session_ref(id).and_then(|session| self.lowest_version(session.pool));
        let summed = Summed::new(kind, Own { pid: std::process::id(), version });
        let listing = Merge::Listing(Listing { summed, error: None, answered: false, servers: Vec::new() });
        self.fan_out(id, asked, Marks::LISTING, (listing, &self.all_servers(id)), now, |out| match of {
            StatsOf::Cachedump { class, limit } => encode::cachedump(out, class, limit),
            StatsOf::Servers(sub) | StatsOf::Order(sub) => encode::stats(out, sub),
            StatsOf::General | StatsOf::Proxy => encode::stats(out, b""),
        });
    }

    /// The servers of a client's pool, in the ring or not.
    fn all_servers(&self, id: SessionId) -> Vec<ServerId> {
        let pool = self.session_ref(id).map(|session| self.topology.pool(session.pool));
        pool.map_or_else(Vec::new, |pool| pool.members().collect())
    }

    /// Sends one request to each of some servers and has `merge` wait for the responses.
    pub(super) fn fan_out(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: Marks,
        (mut merge, whom): (Merge, &[ServerId]),
        now: Instant,
        write: impl Fn(&mut Vec<u8>),
    ) {
        let Some(session) = self.session_ref(id) else { return };
        let (pool, number) = (session.pool, session.next_number());
        let due = merge.due();
        let mut links = Vec::new();
        let mut outcome = Outcome::Done;
        for &server in whom {
            let live = self.pools[pool.index()].live[server.index()];
            let link = if live { self.link_to(pool, id, server, now) } else { Err(Failure::Ejected) };
            match link {
                Ok(link) => links.push((link, server)),
                Err(failure) => {
                    self.undelivered(pool, server, asked.request.verb, 0, due, now);
                    self.count_degraded(id, Some(server), failure);
                    outcome = self.failed_outcome(pool);
                    merge.failed(failure, self.policy(pool).tells());
                }
            }
        }
        self.counters.pool(pool).fragments.add(links.len() as u64);
        self.work.cost += whom.len() * work::PART;
        let fragments =
            links.iter().map(|(_, server)| Fragment { server: *server, first: NO_KEY, last: NO_KEY, done: false });
        match &mut merge {
            Merge::Values(_) | Merge::Gather(_) => {}
            Merge::Word(word) => word.servers = fragments.collect(),
            Merge::Listing(listing) => listing.servers = fragments.collect(),
            Merge::Version(lowest) => lowest.servers = fragments.collect(),
        }
        if links.is_empty() {
            self.end_request(pool, outcome);
            if !asked.request.noreply {
                self.answer_merged(id, asked.request.verb, merge);
            }
        } else if asked.request.noreply {
            self.end_request(pool, Outcome::Unheard);
        } else {
            let class = self.telemetry.at_hand.take();
            let Some(session) = self.session(id) else { return };
            let merge = Box::new(merge);
            session.requests.push(Slot::merged(asked.request, (1, links.len()), (class, outcome), merge));
        }
        let asker = Asker::client(id, number, asked.request.has_slot());
        for (fragment, (link, _)) in (0u16..).zip(links) {
            let outbox = &mut self.servers[link].queue.outbox;
            let start = outbox.end();
            write(outbox.tail());
            let ticket = Ticket { fragment, marks, ..Ticket::of(asker, start, asked.request.verb, Class::Other) };
            self.push_ticket(link, ticket, now);
        }
    }

    /// Answers a request that could be sent nowhere.
    fn answer_merged(&mut self, id: SessionId, verb: Verb, merge: Merge) {
        let mut body = Vec::new();
        match merge {
            Merge::Word(word) => body.extend_from_slice(word.error.as_deref().unwrap_or(word.word)),
            Merge::Listing(listing) => body.extend_from_slice(listing.error.as_deref().unwrap_or(reply::END)),
            Merge::Version(lowest) => lowest.write(&mut body),
            Merge::Values(_) | Merge::Gather(_) => reply::miss(&mut body, verb, b""),
        }
        self.answer(id, &body);
    }
}
