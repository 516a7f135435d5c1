//! What becomes of one request of memcached's.

use super::multiget::GAT_KEYS_LIMIT;
use crate::engine::Engine;
use crate::engine::clients::input::LongGet;
use crate::engine::dispatched::Dispatched;
use crate::engine::ids::SessionId;
use crate::engine::request::Asked;
use crate::engine::servers::ticket::Marks;
use crate::outcome::{self, Class};
use crate::proto::memcache::meta::{Flags, Meta, decode_key};
use crate::proto::memcache::request::{self, Get, Parsed, Request, Words};
use crate::proto::memcache::{Verb, encode, reply};
use crate::time::Instant;

/// A value that is larger than this can be refused because there is no memory for it.
pub(in crate::engine) const FRUGAL_VALUE_LIMIT: usize = 16 << 10;

/// What kind of thing a request asks for.
pub(in crate::engine) const fn class_of(request: &Request<'_>) -> Class {
    match request {
        Request::Get(get) => get.verb.class(),
        Request::Store(store) => store.verb.class(),
        Request::Change(change) => change.verb.class(),
        Request::Meta(meta) => meta.verb.class(),
        Request::FlushAll { .. }
        | Request::Stats(_)
        | Request::Version
        | Request::Verbosity { .. }
        | Request::Crawl { .. }
        | Request::MetaNoop
        | Request::Quit => Class::Other,
    }
}

impl Engine {
    #[inline(never)]
    pub(in crate::engine) fn perform(
        &mut self,
        id: SessionId,
        request: Request<'_>,
        started: Instant,
        now: Instant,
    ) -> Dispatched {
        if self.looks_first {
            return self.look_and_perform(id, request, started, now);
        }
        match request {
            Request::Get(get) => return self.get(id, &get, started, now),
            Request::Store(store) => {
                let asked = Asked::of_key(store.verb, store.key, store.noreply, started);
                return self
                    .send_one(id, asked, Marks::NONE, store.key, now, |out, cap| encode::store(out, &store, cap));
            }
            Request::Change(change) => {
                let asked = Asked::of_key(change.verb, change.key, change.noreply, started);
                return self
                    .send_one(id, asked, Marks::NONE, change.key, now, |out, cap| encode::change(out, &change, cap));
            }
            Request::Meta(meta) => return self.meta(id, &meta, started, now),
            // Whoever asks for that behind what it wants no answer to has it say that all of that is done.
            Request::MetaNoop | Request::Version if self.waits_for_unheard(id, started) => {
                return Dispatched::Backpressured;
            }
            Request::FlushAll { .. } | Request::Stats(_) | Request::Verbosity { .. }
                if self.servers.crowded() > 0 && self.holds_back_all(id, started, now) =>
            {
                return Dispatched::Backpressured;
            }
            Request::FlushAll { .. } if self.warmup.is_on() && !self.may_flush(id, started, now) => {
                return Dispatched::Backpressured;
            }
            Request::FlushAll { delay, noreply } => self.flush_all(id, delay, noreply, started, now),
            Request::Stats(of) => self.stats(id, of, started, now),
            Request::Version => self.servers_version(id, started, now),
            Request::Crawl { form, which } => return self.crawl(id, form, which, now),
            Request::MetaNoop => self.answer(id, reply::META_NOOP),
            Request::Verbosity { level, noreply } => self.verbosity(id, level, noreply, started, now),
            Request::Quit => {
                if let Some(session) = self.session(id) {
                    session.close();
                }
                self.touch_session(id);
            }
        }
        Dispatched::Done
    }

    /// As [`Engine::perform`], of what is asked most: a get of one key, whose line can be passed on as it is.
    #[inline]
    pub(in crate::engine) fn lone_get(
        &mut self,
        id: SessionId,
        key: &[u8],
        line: &[u8],
        started: Instant,
        now: Instant,
    ) -> Dispatched {
        self.begin_request(Class::Get);
        if self.near.is_on() {
            return self.near_get(id, key, line, started, now);
        }
        self.send_one(id, Asked::new(Verb::Get, started), Marks::NONE, key, now, |out, _| out.extend_from_slice(line))
    }

    fn get(&mut self, id: SessionId, get: &Get<'_>, started: Instant, now: Instant) -> Dispatched {
        let asked = Asked::new(get.verb, started);
        match get.count {
            0 => self.answer(id, reply::END),
            1 => {
                let (verb, exptime, key) = (get.verb, get.exptime, get.first);
                return self.send_one(id, asked, Marks::NONE, key, now, |out, cap| {
                    encode::get_one(out, verb, exptime, key, cap)
                });
            }
            count => {
                let room = self.session(id).map_or(0, |session| session.room());
                if self.servers.crowded() > 0
                    && self.holds_back_get(id, Words::new(get.keys), count.min(room), started, now)
                {
                    return Dispatched::Backpressured;
                }
                if self.warmup.is_on()
                    && !self.is_warm_get(
                        id,
                        Words::new(get.keys),
                        count.min(room),
                        get.exptime.is_some(),
                        (started, now),
                    )
                {
                    return Dispatched::Backpressured;
                }
                if count > room || (get.exptime.is_some() && get.keys.len() > GAT_KEYS_LIMIT) {
                    // The line goes out in parts, each when there is room for it. Its keys and line end stay behind.
                    let rest = get.keys.len() + get.line_end;
                    let (verb, exptime) = (get.verb, get.exptime);
                    let long = LongGet { verb, exptime, started, rest, keys: count };
                    if let Some(session) = self.session(id) {
                        session.input.put_long_get(Box::new(long));
                    }
                    return Dispatched::Begun(rest);
                }
                if self.near.is_on() {
                    self.near_multi_get(id, asked, get.exptime, Words::new(get.keys), count, None, now);
                    return Dispatched::Done;
                }
                self.multi_get(id, asked, get.exptime, Words::new(get.keys), count, None, now);
            }
        }
        Dispatched::Done
    }

    fn meta(&mut self, id: SessionId, meta: &Meta<'_>, started: Instant, now: Instant) -> Dispatched {
        let marks = Marks::STRIP_KEY.when(encode::adds_key(meta))
            | Marks::BASE64.when(meta.seen.base64)
            | Marks::ONCE.when(meta.seen.changes);
        let mut echo = Vec::new();
        if meta.seen.opaque || meta.seen.key {
            encode::echo(&mut echo, meta);
        }
        let Flags { quiet, conditional, adds, .. } = meta.seen;
        let conditional = conditional || (adds && !self.absorbs_add(id));
        let mut asked = Asked { echo: &echo, ..Asked::of_key(meta.verb, meta.key, false, started) };
        (asked.request.quiet, asked.request.conditional) = (quiet, conditional);
        let decoded = if meta.seen.base64 { decode_key(meta.key) } else { None };
        let key = decoded.as_ref().map_or(meta.key, |(key, len)| &key[..*len]);
        self.send_one(id, asked, marks, key, now, |out, cap| encode::meta(out, meta, cap))
    }

    /// Answers, by the pool's policy, a request to store a large value of which only the line is looked at: there is no
    /// memory for it. `false` when the line is no such request.
    #[cold]
    pub(in crate::engine) fn fail_large(&mut self, id: SessionId, line: &[u8], started: Instant, now: Instant) -> bool {
        let Some(pool) = self.pool_of(id) else { return false };
        // The same request for an empty value, which is not sent either.
        let line = line.trim_ascii_end();
        let place = if line.starts_with(b"ms ") { 2 } else { 4 };
        let mut empty: Vec<u8> = Vec::with_capacity(line.len() + 4);
        for (index, word) in Words::new(line).enumerate() {
            if index > 0 {
                empty.push(b' ');
            }
            empty.extend_from_slice(if index == place { b"0" } else { word });
        }
        empty.extend_from_slice(b"\r\n\r\n");
        let Parsed::Complete { request: request @ (Request::Store(_) | Request::Meta(_)), .. } =
            request::parse(&empty, FRUGAL_VALUE_LIMIT)
        else {
            return false;
        };
        self.begin_request(class_of(&request));
        self.count_request(pool);
        self.memory.refuses = true;
        self.perform(id, request, started, now);
        self.memory.refuses = false;
        self.end_request(pool, outcome::Outcome::Local);
        true
    }

    /// A value is refused that is larger than is taken, before it has come. As with memcached, what it was to replace does not
    /// outlive that: who goes on after the error would read it. Says what became of the request to remove that, for which it is
    /// counted then; `None` where there is none.
    #[cold]
    pub(in crate::engine) fn forget_refused(
        &mut self,
        id: SessionId,
        line: &[u8],
        started: Instant,
        now: Instant,
    ) -> Option<Dispatched> {
        let pool = self.pool_of(id)?;
        let mut words = Words::new(line.trim_ascii_end());
        let (verb, key) = (words.next()?, words.next()?);
        let replaces = match verb {
            b"set" => true,
            // Of a key in base64 there is no order to remove it that goes without an answer.
            b"ms" => words.skip(1).all(|flag| match flag[0] {
                b'T' | b'F' | b'O' | b'E' | b'c' | b'k' | b'q' | b's' => true,
                b'M' => flag[1..].eq_ignore_ascii_case(b"s"),
                _ => false,
            }),
            _ => false,
        };
        if !replaces {
            return None;
        }
        let order = [b"delete ", key, b" noreply\r\n"].concat();
        let Parsed::Complete { request, .. } = request::parse(&order, FRUGAL_VALUE_LIMIT) else { return None };
        self.begin_request(class_of(&request));
        let outcome = self.perform(id, request, started, now);
        if !matches!(outcome, Dispatched::Backpressured) {
            self.count_request(pool);
            self.end_request(pool, outcome::Outcome::Local);
        }
        Some(outcome)
    }
}
