//! Requests of memcached that end leases ([`stampede`](crate::engine::stampede)).

use crate::engine::Engine;
use crate::engine::dispatched::Dispatched;
use crate::engine::ids::SessionId;
use crate::proto::memcache::Verb;
use crate::proto::memcache::meta::{Meta, decode_key};
use crate::proto::memcache::request::{Get, Request, Words};
use crate::time::Instant;

/// What a request does with what is there.
enum Effect<'a> {
    /// It may change something, or is the last that its client asks.
    Changes,
    /// It stores this key or removes it, whatever is there.
    Ends(&'a [u8]),
    /// The same of a key that is written in base64.
    EndsEncoded(&'a [u8]),
}

impl Engine {
    /// As [`Engine::perform`], where requests are looked at first. When one that may change something has been sent, what is
    /// held of its client does not wait for what comes behind; where it stores a key or removes it, the lease for that ends.
    #[cold]
    #[inline(never)]
    pub(super) fn look_and_perform(
        &mut self,
        id: SessionId,
        request: Request<'_>,
        started: Instant,
        now: Instant,
    ) -> Dispatched {
        let effect = if self.stampede.is_on() { effect_of(&request) } else { None };
        if self.near.is_on() {
            if let Request::Get(Get { verb: Verb::Get, exptime: None, count: 1, first, .. }) = &request
                && self.answers_near(id, first, now)
            {
                return Dispatched::Done;
            }
            self.note_changes(id, &request);
        }
        if self.stampede.copies() {
            self.copy_ahead(id, &request, now);
        }
        self.looks_first = false;
        let sent = self.perform(id, request, started, now);
        self.look_first();
        self.has_gone_out(id);
        if self.near.wants_some() {
            self.fetch_wanted(now);
        }
        if let Some(effect) = effect.filter(|_| sent != Dispatched::Backpressured) {
            self.may_have_changed(id, now);
            match effect {
                Effect::Changes => {}
                Effect::Ends(key) => self.written(id, key, now),
                Effect::EndsEncoded(key) => {
                    if let Some((key, len)) = decode_key(key) {
                        self.written(id, &key[..len], now);
                    }
                }
            }
        }
        sent
    }
}

impl Engine {
    /// A request is being sent on that may change what is kept.
    fn note_changes(&self, id: SessionId, request: &Request<'_>) {
        let Some(pool) = self.pool_of(id) else { return };
        match request {
            Request::Get(get) if get.exptime.is_some() => self.near_changes(pool, Words::new(get.keys)),
            Request::Store(store) => self.near_changes(pool, std::iter::once(store.key)),
            Request::Change(change) => self.near_changes(pool, std::iter::once(change.key)),
            Request::Meta(meta) if meta.verb != Verb::MetaGet || meta.seen.changes => {
                let decoded = if meta.seen.base64 { decode_key(meta.key) } else { None };
                let key = decoded.as_ref().map_or(meta.key, |(key, len)| &key[..*len]);
                self.near_changes(pool, std::iter::once(key));
            }
            Request::FlushAll { .. } => self.near_changes_all(pool),
            Request::Meta(_)
            | Request::Get(_)
            | Request::Stats(_)
            | Request::Version
            | Request::Verbosity { .. }
            | Request::Crawl { .. }
            | Request::MetaNoop
            | Request::Quit => {}
        }
    }
}

fn effect_of<'a>(request: &Request<'a>) -> Option<Effect<'a>> {
    let ends = |is_so, key| if is_so { Effect::Ends(key) } else { Effect::Changes };
    match request {
        // All others store only where something is.
        Request::Store(store) => Some(ends(matches!(store.verb, Verb::Set | Verb::Add), store.key)),
        Request::Change(change) => Some(ends(change.verb == Verb::Delete, change.key)),
        Request::Meta(meta) => effect_of_meta(meta),
        Request::FlushAll { .. } | Request::Quit => Some(Effect::Changes),
        Request::Get(_)
        | Request::Stats(_)
        | Request::Version
        | Request::Verbosity { .. }
        | Request::Crawl { .. }
        | Request::MetaNoop => None,
    }
}

fn effect_of_meta<'a>(meta: &Meta<'a>) -> Option<Effect<'a>> {
    if meta.verb == Verb::MetaDebug || (meta.verb == Verb::MetaGet && !meta.seen.changes) {
        return None;
    }
    // A counter is made where there is none only with `N`, and so is what `mg` leaves there.
    let makes = Words::new(meta.flags).any(|flag| flag[0] == b'N');
    let ends = matches!(meta.verb, Verb::MetaSet | Verb::MetaDelete) || makes;
    Some(match ends {
        true if meta.seen.base64 => Effect::EndsEncoded(meta.key),
        true => Effect::Ends(meta.key),
        false => Effect::Changes,
    })
}
