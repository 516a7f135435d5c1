//! Requests that go to every server of a pool: `flush_all`, `stats`, `verbosity`.

use super::listed::Listing;
use super::merge::{Wanted, Word};
use crate::engine::ids::SessionId;
use crate::engine::memcache;
use crate::engine::request::Asked;
use crate::engine::scattered::Merge;
use crate::engine::servers::ticket::Marks;
use crate::engine::{Engine, next_random};
use crate::proto::memcache::request::StatsOf;
use crate::proto::memcache::stats::{Kind, Own, Summed};
use crate::proto::memcache::{Verb, encode, reply};
use crate::time::Instant;

impl Engine {
    pub(in crate::engine) fn flush_all(
        &mut self,
        id: SessionId,
        delay: Option<i32>,
        noreply: bool,
        started: Instant,
        now: Instant,
    ) {
        let asked = Asked::of_key(Verb::FlushAll, b"", noreply, started);
        let due = delay.and_then(|delay| self.flush_due(delay.into(), now));
        let wanted = Wanted::Word(Word { word: reply::OK, strict: false, due });
        self.ask_all(id, asked, Marks::NONE, wanted, now, |out| encode::flush_all(out, delay));
    }

    pub(in crate::engine) fn verbosity(
        &mut self,
        id: SessionId,
        level: u64,
        noreply: bool,
        started: Instant,
        now: Instant,
    ) {
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
        let wanted = Wanted::Word(Word { word, strict: true, due: None });
        self.ask_all(id, asked, Marks::NONE, wanted, now, write);
    }

    /// Asks every server the same, and puts the answers together.
    fn ask_all(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: Marks,
        wanted: Wanted,
        now: Instant,
        write: impl Fn(&mut Vec<u8>),
    ) {
        let Some(session) = self.session_ref(id) else { return };
        let whom = self.to_all(session.pool());
        self.scatter(
            id,
            asked,
            marks,
            (Merge::Memcache(memcache::Merge::new(wanted)), &whom),
            now,
            |out: &mut Vec<u8>, _: usize| {
                write(out);
                1
            },
        );
    }

    pub(in crate::engine) fn stats(&mut self, id: SessionId, of: StatsOf<'_>, started: Instant, now: Instant) {
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
        let version = self.session_ref(id).and_then(|session| self.lowest_version(session.pool()));
        let summed = Summed::new(kind, Own { pid: std::process::id(), version });
        let listing = Wanted::Listing(Box::new(Listing::new(summed, next_random(&mut self.random).into())));
        self.ask_all(id, asked, Marks::LISTING, listing, now, |out| match of {
            StatsOf::Cachedump { class, limit } => encode::cachedump(out, class, limit),
            StatsOf::Servers(sub) | StatsOf::Order(sub) => encode::stats(out, sub),
            StatsOf::General | StatsOf::Proxy => encode::stats(out, b""),
        });
    }
}
