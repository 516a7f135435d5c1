//! `WATCH`: the server has to know who watches, so it goes through a connection of the client's own, and so does the
//! transaction that it guards.
//!
//! A watch that is not in force is a broken one, whatever the reason: it could not be made, its connection is gone,
//! the ring has changed, so that its keys may have been changed at another server, or something that the client asked
//! meanwhile was answered in a server's place, so that it takes for the state of a key what is none. The transaction behind a
//! broken watch does not take place; it is answered as if a key had been changed, or, when the client was told that its
//! `WATCH` failed, with an error.

use super::call::{Call, Performed};
use super::dedicated::Use;
use super::gather::How;
use super::keyed::CROSS_SLOT;
use super::piece::Piece;
use super::watched::{Guard, Watch};
use crate::engine::Engine;
use crate::engine::deliver::{Delivery, Step};
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::servers::ticket::{Marks, Ticket};
use crate::engine::ways::To;
use crate::failure::Failure;
use crate::proto::resp::reply;
use crate::proto::resp::{Version, encode};
use crate::proto::verb::Verb;
use crate::time::Instant;

impl Engine {
    pub(super) fn watch(&mut self, id: SessionId, call: Call<'_>, now: Instant) -> Performed {
        let pool = call.pool;
        let keys = (1..call.args.len()).map(|place| call.args.get(place));
        let Some(client) = self.client(id) else { return Performed::Done };
        if client.queue.is_some() {
            // Redis lets the transaction go on.
            self.say_error(id, b"ERR WATCH inside MULTI is not allowed");
            return Performed::Done;
        }
        let ring_version = self.pools[pool.index()].ring_version;
        // Since the servers have changed, what is watched may be another's: it is broken, wherever these keys belong.
        let is_known = |watch: &Watch, link| watch.ring_version == ring_version && self.own_link(id, link).is_some();
        let known = client.watch.as_ref().map(|watch| watch.link.filter(|(link, _)| is_known(watch, *link)));
        let server = self.pools[pool.index()].ring.route(call.args.get(1), 0);
        let together = self.are_of_one_server(id, call, call.args.get(1), keys.skip(1));
        if !together || known.flatten().is_some_and(|(_, watched)| Some(watched) != server) {
            self.break_watch(id, true);
            self.refuse_request(id, CROSS_SLOT);
            return Performed::Done;
        }
        let (mut asked, marks) = self.asked(id, call);
        asked.request.verb = Verb::Watch;
        let link = match (known, server) {
            (Some(None), _) => {
                // Nothing will come of it: EXEC says so.
                if let Some(watch) = self.redis(id).and_then(|client| client.watch.as_deref_mut()) {
                    (watch.refused, watch.open) = (false, 0);
                }
                self.say_ok(id);
                return Performed::Done;
            }
            (Some(Some(known)), _) => Ok(known),
            (None, Some(server)) => self.dedicate(id, pool, server, Use::Ask, now).map(|link| (link, server)),
            (None, None) => Err(Failure::Ejected),
        };
        match link {
            Ok((link, server)) => {
                if let Some(client) = self.redis(id) {
                    let fresh = || Box::new(Watch { ring_version, ..Watch::default() });
                    let watch = client.watch.get_or_insert_with(fresh);
                    watch.link = Some((link, server));
                    watch.open += 1;
                }
                let raw = call.raw;
                self.enqueue(id, asked, marks, link, now, |out| out.extend_from_slice(raw));
                if let Some(session) = self.session(id) {
                    session.requests.bar_next(); // what follows goes another way, and must not overtake it
                }
            }
            Err(failure) => {
                self.break_watch(id, self.policy(pool).tells());
                self.answer_degraded(id, asked, server, failure);
            }
        }
        Performed::Done
    }

    pub(super) fn unwatch(&mut self, id: SessionId, now: Instant) {
        self.say_ok(id);
        self.end_watch(id, now);
    }

    /// Has the server forget what a client watches.
    pub(super) fn end_watch(&mut self, id: SessionId, now: Instant) {
        let Some(watch) = self.redis(id).and_then(|client| client.watch.take()) else { return };
        if let Some(link) = watch.link().filter(|link| self.own_link(id, *link).is_some()) {
            self.ask(link, Verb::Command, Marks::NONE, now, |out| encode::words(out, &[b"UNWATCH"]));
            self.give_back_if_free(link, id, now);
        }
    }

    /// What a client's watch is worth, when it has one.
    pub(super) fn guard(&self, id: SessionId) -> Option<Guard> {
        let session = self.session_ref(id)?;
        let watch = session.redis()?.watch.as_ref()?;
        // What failed without a word of the server was told where failures are told.
        let refused = watch.refused || (watch.open > 0 && self.policy(session.pool()).tells());
        let in_force =
            watch.open == 0 && !watch.doubted && watch.ring_version == self.pools[session.pool().index()].ring_version;
        let link = watch.link.filter(|(link, _)| in_force && self.own_link(id, *link).is_some());
        Some(match link {
            Some((link, server)) => Guard::Holds(link, server),
            None if refused => Guard::Refused,
            None => Guard::Broken,
        })
    }

    /// A client asked for a watch that is not in force. Its connection is of no use: who knows what the server watches.
    /// `refused` says that the client was told.
    #[cold]
    pub(super) fn break_watch(&mut self, id: SessionId, refused: bool) {
        let Some(client) = self.redis(id) else { return };
        let watch = client.watch.get_or_insert_default();
        watch.refused |= refused;
        if let Some((link, _)) = watch.link.take() {
            self.close_dedicated(id, link);
        }
    }

    /// A client was told, in a server's place, what it cannot tell from the truth. What it makes of that must not pass for
    /// a change of what it watches.
    #[cold]
    pub(in crate::engine) fn doubt_watch(&mut self, id: SessionId) {
        let forgives = self.session_ref(id).is_some_and(|session| self.forgives(session.pool()));
        if forgives && let Some(watch) = self.redis(id).and_then(|client| client.watch.as_deref_mut()) {
            watch.doubted = true;
        }
    }

    /// One of a client's own connections is gone. What was watched there is not watched any more.
    pub(super) fn unwatched(client: &mut super::Client, id: LinkId) {
        if let Some(watch) = &mut client.watch
            && watch.link() == Some(id)
        {
            watch.link = None;
        }
    }

    /// Answers a client that has selected another database or version of the protocol. The connection that watches for it
    /// goes along: the transaction will be carried out there.
    pub(super) fn say_and_follow(&mut self, id: SessionId, call: Call<'_>, body: Vec<u8>, now: Instant) {
        let Some(client) = self.client(id) else { return };
        let profile = client.profile();
        let kept = client.watch.as_ref().and_then(|watch| watch.link);
        let Some((link, server)) = kept.filter(|(link, _)| self.own_link(id, *link).is_some()) else {
            return self.say(id, &body);
        };
        let before = self.servers[link].change_profile(profile);
        let (mut request, mut replies) = (Vec::new(), 0);
        if before.version != profile.version {
            let version: &[u8] = if profile.version == Version::Resp3 { b"3" } else { b"2" };
            encode::words(&mut request, &[b"HELLO", version]);
            replies += 1;
        }
        if before.database != profile.database {
            encode::words(&mut request, &[b"SELECT", profile.database.to_string().as_bytes()]);
            replies += 1;
        }
        if replies == 0 {
            return self.say(id, &body);
        }
        let (mut asked, _) = self.asked(id, call);
        asked.request.verb = Verb::Watch;
        if let Some(watch) = self.redis(id).and_then(|client| client.watch.as_mut()) {
            watch.open += 1;
        }
        let piece = Piece { to: To::Link(server, link), request, replies };
        self.gather(id, asked, Marks::ONCE, How::Anyhow(body), vec![piece], now);
        if let Some(session) = self.session(id) {
            session.requests.bar_next();
        }
    }

    /// As [`Engine::take_reply`], of what is asked for the sake of a watch.
    #[inline(never)]
    pub(in crate::engine) fn take_watched(
        &mut self,
        id: LinkId,
        ticket: Ticket,
        input: &[u8],
        to: &mut Delivery<'_>,
    ) -> Step {
        let in_time = self.is_awaited(ticket);
        let step = self.take_reply(id, ticket, input, to);
        if let Step::Used(len) = step
            && input.first() != Some(&b'>')
            && let Some(owner) = ticket.session()
        {
            let (mut rest, mut well, mut trouble) = (&input[..len], in_time, false);
            while !rest.is_empty() {
                let (one, others) = rest.split_at(reply::end(rest));
                well &= !one.starts_with(b"-");
                trouble |= reply::trouble(one).is_some();
                rest = others;
            }
            self.watch_answered(owner, id, well, trouble);
        }
        step
    }

    fn watch_answered(&mut self, owner: SessionId, link: LinkId, well: bool, trouble: bool) {
        let Some(session) = self.session(owner) else { return };
        let pool = session.pool();
        let Some(watch) = session.redis_mut().and_then(|client| client.watch.as_mut()) else { return };
        if watch.link() != Some(link) {
            return; // it ended meanwhile, or broke
        }
        if well {
            watch.open = watch.open.saturating_sub(1);
        } else {
            let refused = !(trouble && self.forgives(pool));
            self.break_watch(owner, refused);
        }
    }
}
