//! `CLIENT LIST`, `KILL` and `UNBLOCK`: what a client asks about the clients of its pool, whichever worker serves them.
//!
//! Each worker looks at its own clients, a portion at a time, and hands over what it has found; the worker whose client
//! asks puts it together. Until then that client's next requests wait.

use super::client::Client;
use super::question::{Action, Asking, Findings, Inquiry, Kind, Search, Wanted};
use crate::engine::clients::session::Session;
use std::sync::Arc;

use super::waiting::Unblocked;
use crate::engine::chore::{Chore, PORTION};
use crate::engine::effect::Effect;
use crate::engine::ids::SessionId;
use crate::engine::{Engine, work};
use crate::proto::resp::encode;
use crate::time::Instant;

/// What it costs to describe a client, and to end or to unblock one, next to looking at it.
const LINE_STEPS: usize = 10;
const DEED_STEPS: usize = 20;

/// Bytes that are gathered before it is looked again whether there is memory for them.
const GROWTH: usize = 64 << 10;

impl Search {
    /// Whether a client is one of those that are meant.
    fn wants(&self, session: &Session, client: &Client, engine: &Engine) -> bool {
        let Inquiry { pool, wanted, .. } = &*self.findings.inquiry;
        let is_kind = |kind| match kind {
            Kind::Normal => !client.is_subscribed(),
            Kind::Subscriber => client.is_subscribed(),
            Kind::Server => false,
        };
        let is_at = |address: &Vec<u8>, own: String| own.as_bytes() == address;
        session.pool() == *pool
            && !session.is_closing()
            && (wanted.ids.is_none() || wanted.sorted.binary_search(&client.number).is_ok())
            && wanted.kind.is_none_or(is_kind)
            && wanted.has_user.is_none_or(|has_user| client.has_user == has_user)
            && wanted.address.as_ref().is_none_or(|one| is_at(one, engine.address_of(session.pool(), client)))
            && wanted
                .local_address
                .as_ref()
                .is_none_or(|one| is_at(one, engine.local_address_of(session.pool(), client)))
    }
}

impl Engine {
    /// Has all workers look for the clients that are meant. Nothing else of the client is in flight.
    #[cold]
    pub(super) fn inquire(&mut self, id: SessionId, mut wanted: Wanted, action: Action, now: Instant) {
        let Some(session) = self.session_ref(id) else { return };
        wanted.sorted = wanted.ids.clone().unwrap_or_default();
        wanted.sorted.sort_unstable();
        let inquiry = Arc::new(Inquiry { worker: self.worker, asker: id, pool: session.pool(), wanted, action });
        let workers = self.topology.counters.len();
        if let Some(client) = self.redis(id) {
            let inquiry = Arc::clone(&inquiry);
            client.asking = Some(Box::new(Asking { inquiry, awaited: workers, found: Vec::new() }));
        }
        if workers > 1 {
            self.outputs.push(Effect::Inquire(Arc::clone(&inquiry)));
        }
        self.work.cost += work::REQUEST * self.search_on(Search::new(inquiry), PORTION, now);
        self.charge_session(id);
    }

    /// Another worker's client asks something.
    pub fn inquired(&mut self, inquiry: Arc<Inquiry>, now: Instant) {
        self.refresh(now);
        self.search_on(Search::new(inquiry), PORTION, now);
        self.settle(now);
    }

    /// What another worker has found for a client of this one.
    pub fn found(&mut self, findings: Findings, now: Instant) {
        self.refresh(now);
        self.take_findings(findings, now);
        self.settle(now);
    }

    /// Looks at clients; says how many steps that took.
    #[cold]
    pub(in crate::engine) fn search_on(&mut self, mut search: Box<Search>, budget: usize, now: Instant) -> usize {
        let mut steps = 0;
        while steps < budget && search.next < self.clients.places() && !search.findings.is_cut {
            steps += 1 + self.look_at(search.next, &mut search, now);
            search.next += 1;
        }
        let is_over = search.next >= self.clients.places() || search.findings.is_cut;
        self.memory.recharge(search.charged, 0);
        if is_over {
            self.tell_findings(search.findings, now);
        } else {
            search.charged = search.findings.footprint();
            self.memory.recharge(0, search.charged);
            self.put_off(Chore::Inquire(search), now);
        }
        steps
    }

    /// Does to the client at a place what is to be done, if it is meant. Says how many steps that took.
    fn look_at(&mut self, place: usize, search: &mut Search, now: Instant) -> usize {
        let Some((id, session)) = self.clients.at(place) else { return 0 };
        let Some(client) = session.redis().filter(|client| search.wants(session, client, self)) else {
            return 0;
        };
        let number = client.number;
        let inquiry = Arc::clone(&search.findings.inquiry);
        let is_asker = inquiry.asker == id && inquiry.worker == self.worker;
        if is_asker && inquiry.wanted.others_only {
            return 0;
        }
        let findings = &mut search.findings;
        match inquiry.action {
            Action::List => {
                self.write_line(&mut findings.text, session, client, now);
                findings.lines.push((number, findings.text.len()));
                let more = findings.footprint() - search.charged;
                if more > GROWTH && !self.has_memory(findings.footprint(), more) {
                    *findings = Findings { is_cut: true, ..Findings::none(inquiry) };
                }
                LINE_STEPS
            }
            Action::Kill { .. } => {
                findings.done += 1;
                if is_asker {
                    findings.has_asker = true;
                } else {
                    self.end_client(id);
                }
                DEED_STEPS
            }
            Action::Unblock { with_error } => {
                let how = if with_error { Unblocked::Refused } else { Unblocked::TimedOut };
                findings.done += u64::from(self.unblock(id, how, now));
                DEED_STEPS
            }
        }
    }

    fn tell_findings(&mut self, findings: Findings, now: Instant) {
        if findings.inquiry.worker == self.worker {
            self.take_findings(findings, now);
        } else {
            self.outputs.push(Effect::Found(Box::new(findings)));
        }
    }

    /// A worker has looked. Answers the client when all have.
    fn take_findings(&mut self, mut findings: Findings, now: Instant) {
        let id = findings.inquiry.asker;
        let held = self.held_by(id);
        if !findings.text.is_empty() && !self.make_memory(held, findings.footprint()) {
            findings = Findings { is_cut: true, ..Findings::none(findings.inquiry) };
        }
        let Some(client) = self.redis(id) else { return };
        let Some(asking) = client.asking.as_mut().filter(|one| Arc::ptr_eq(&one.inquiry, &findings.inquiry)) else {
            return; // it was cut off meanwhile
        };
        asking.found.push(findings);
        asking.awaited -= 1;
        if asking.awaited == 0
            && let Some(asking) = client.asking.take()
        {
            self.answer_inquiry(id, *asking);
            self.clients.resume_soon(id); // what came behind it may go on
        }
        self.charge_session(id);
        self.touch_session(id);
        self.now = now;
    }

    /// This worker is about to end, and others may have before it: nobody is waited for any more.
    #[cold]
    pub(in crate::engine) fn give_up_asking(&mut self, id: SessionId) {
        let asking = self.redis(id).and_then(|client| client.asking.take());
        if asking.is_some() {
            self.refuse_request(id, b"ERR this proxy is shutting down");
            self.clients.resume_soon(id);
            self.charge_session(id);
        }
    }

    fn answer_inquiry(&mut self, id: SessionId, asking: Asking) {
        let Asking { inquiry, mut found, .. } = asking;
        let done: u64 = found.iter().map(|findings| findings.done).sum();
        let number = i64::try_from(done).unwrap_or(i64::MAX);
        match inquiry.action {
            Action::List if found.iter().any(|findings| findings.is_cut) => {
                self.refuse_request(id, b"ERR memory_limit of this proxy reached");
            }
            Action::List => {
                let texts = match &inquiry.wanted.ids {
                    Some(ids) => match self.lines_of(id, ids, &found) {
                        Some(text) => vec![text],
                        None => return self.refuse_request(id, b"ERR memory_limit of this proxy reached"),
                    },
                    None => found.iter_mut().map(|findings| std::mem::take(&mut findings.text)).collect(),
                };
                self.say_texts(id, texts);
            }
            Action::Kill { address_only: true } if done == 0 => self.refuse_request(id, b"ERR No such client"),
            Action::Kill { address_only: true } => self.say_ok(id),
            Action::Kill { .. } | Action::Unblock { .. } => self.say_integer(id, number),
        }
        if found.iter().any(|findings| findings.has_asker)
            && let Some(session) = self.session(id)
        {
            session.close();
        }
    }

    /// Answers with one text made of several, without a copy of those that are long.
    fn say_texts(&mut self, id: SessionId, texts: Vec<Vec<u8>>) {
        let mut head = Vec::new();
        encode::verbatim_head(&mut head, texts.iter().map(Vec::len).sum(), self.version(id));
        if !self.redis(id).is_some_and(|client| client.replies == super::Replies::On) {
            return;
        }
        self.work.cost += texts.iter().map(Vec::len).sum::<usize>();
        let Some(session) = self.session(id) else { return };
        session.output.append(&head);
        texts.into_iter().for_each(|text| session.output.push(text));
        session.output.append(b"\r\n");
    }

    /// The lines of the clients with these numbers, in their order; nothing for those that are not there. `None` if there is
    /// no memory for them: a number may have been given many times.
    fn lines_of(&mut self, id: SessionId, ids: &[u64], found: &[Findings]) -> Option<Vec<u8>> {
        let mut lines: Vec<(u64, &[u8])> = Vec::new();
        for findings in found {
            let mut start = 0;
            for (number, end) in &findings.lines {
                lines.push((*number, &findings.text[start..*end]));
                start = *end;
            }
        }
        lines.sort_unstable_by_key(|(number, _)| *number);
        let line_of = |id: &u64| {
            let place = lines.binary_search_by_key(id, |(number, _)| *number).ok()?;
            Some(lines[place].1)
        };
        let size = ids.iter().filter_map(line_of).map(<[u8]>::len).sum();
        let held = self.held_by(id);
        if !self.make_memory(held, size) {
            return None;
        }
        Some(ids.iter().filter_map(line_of).collect::<Vec<_>>().concat())
    }
}
