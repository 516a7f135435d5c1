//! `CLIENT` and its subcommands.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use super::{Client, Replies};
use crate::engine::Engine;
use crate::engine::session::SessionId;
use crate::proto::resp::args::Args;
use crate::proto::resp::command::errors;
use crate::proto::resp::plan::Local;
use crate::proto::resp::{Version, encode};
use crate::time::Instant;

impl Engine {
    pub(super) fn local_client(&mut self, id: SessionId, args: Args<'_>, local: Local, now: Instant) {
        match local {
            Local::ClientId => {
                let number = self.redis(id).map_or(0, |client| client.number);
                self.say_integer(id, i64::try_from(number).unwrap_or(i64::MAX));
            }
            Local::ClientGetName => {
                let Some(client) = self.redis(id) else { return };
                let mut body = Vec::new();
                if client.name.is_empty() {
                    encode::null(&mut body, client.version);
                } else {
                    encode::bulk(&mut body, &client.name);
                }
                self.say(id, &body);
            }
            Local::ClientSetName => {
                if self.set_name(id, args.get(2)) {
                    self.say_ok(id);
                }
            }
            Local::ClientSetInfo => self.set_info(id, args),
            Local::ClientInfo => {
                let text = self.client_line(id, now);
                self.say_text(id, &text);
            }
            Local::ClientList => self.client_list(id, now),
            Local::ClientKill => self.client_kill(id, args),
            Local::ClientReply => self.client_reply(id, args),
            Local::ClientUnblock => self.say_integer(id, 0),
            Local::ClientTracking => {
                self.refuse_request(id, b"ERR client tracking is not available through this proxy")
            }
            // Nothing here to be evicted or touched.
            Local::ClientHarmless => match args.get(2).to_ascii_lowercase().as_slice() {
                b"on" | b"off" => self.say_ok(id),
                _ => self.refuse_request(id, errors::SYNTAX),
            },
            _ => self.refuse_request(id, errors::SYNTAX),
        }
    }

    /// Gives a client a name. `false` when it cannot have that one; it has been told so.
    pub(super) fn set_name(&mut self, id: SessionId, name: &[u8]) -> bool {
        if name.iter().any(|byte| !(b'!'..=b'~').contains(byte)) {
            let text = b"ERR Client names cannot contain spaces, newlines or special characters.";
            self.refuse_request(id, text);
            return false;
        }
        if !self.has_memory_for_name(id, name) {
            return false;
        }
        if let Some(client) = self.redis(id) {
            client.name = name.to_vec();
        }
        true
    }

    fn set_info(&mut self, id: SessionId, args: Args<'_>) {
        let (name, value) = (args.get(2), args.get(3));
        let place = match name.to_ascii_lowercase().as_slice() {
            b"lib-name" => 0,
            b"lib-ver" => 1,
            _ => {
                let text = [b"ERR Unrecognized option '", name, b"'"].concat();
                return self.refuse_request(id, &text);
            }
        };
        if value.iter().any(|byte| !(b'!'..=b'~').contains(byte)) {
            let text = [name, b" cannot contain spaces, newlines or special characters."].concat();
            return self.refuse_request(id, &[b"ERR ".as_slice(), &text].concat());
        }
        if !self.has_memory_for_name(id, value) {
            return;
        }
        if let Some(client) = self.redis(id) {
            client.library[place] = value.to_vec();
        }
        self.say_ok(id);
    }

    /// Whether there is memory for what a client wants to be called; it is told if not.
    fn has_memory_for_name(&mut self, id: SessionId, name: &[u8]) -> bool {
        let held = self.session_ref(id).map_or(0, |session| session.charged);
        let fits = self.make_memory(held, name.len());
        if !fits {
            self.refuse_request(id, b"ERR memory_limit of this proxy reached");
        }
        fits
    }

    fn client_line(&self, id: SessionId, now: Instant) -> String {
        let Some(client) = self.session_ref(id).and_then(|session| session.redis.as_deref()) else {
            return String::new();
        };
        describe(client, now)
    }

    /// The clients of the same pool that this worker serves.
    fn client_list(&mut self, id: SessionId, now: Instant) {
        let Some(pool) = self.session_ref(id).map(|session| session.pool) else { return };
        let lines = self.sessions.iter().filter(|(_, session)| session.pool == pool);
        let text: String =
            lines.filter_map(|(_, session)| session.redis.as_deref()).map(|client| describe(client, now)).collect();
        self.say_text(id, &text);
    }

    fn say_text(&mut self, id: SessionId, text: &str) {
        let mut body = Vec::new();
        if self.version(id) == Version::Resp3 {
            body.push(b'=');
            encode::number(&mut body, i64::try_from(text.len() + 4).unwrap_or(i64::MAX));
            body.extend_from_slice(b"\r\ntxt:");
            body.extend_from_slice(text.as_bytes());
            body.extend_from_slice(b"\r\n");
        } else {
            encode::bulk(&mut body, text.as_bytes());
        }
        self.say(id, &body);
    }

    /// `CLIENT KILL ID n`, for the client itself; nobody else is to be had here.
    fn client_kill(&mut self, id: SessionId, args: Args<'_>) {
        let number = self.redis(id).map_or(0, |client| client.number);
        let own = args.len() >= 4
            && args.get(2).eq_ignore_ascii_case(b"id")
            && Self::number(args.get(3)).is_some_and(|wanted| u64::try_from(wanted) == Ok(number));
        if args.len() == 3 {
            return self.refuse_request(id, b"ERR No such client");
        }
        self.say_integer(id, i64::from(own));
        if own {
            if let Some(session) = self.session(id) {
                session.closing = true;
            }
            self.touch_session(id);
        }
    }

    fn client_reply(&mut self, id: SessionId, args: Args<'_>) {
        let Some(client) = self.redis(id) else { return };
        match args.get(2).to_ascii_lowercase().as_slice() {
            b"on" => {
                client.replies = Replies::On;
                self.say_ok(id);
            }
            b"off" => client.replies = Replies::Off,
            b"skip" => {
                if client.replies != Replies::Off {
                    client.replies = Replies::SkipNext;
                }
            }
            _ => self.refuse_request(id, errors::SYNTAX),
        }
    }
}

/// A line of `CLIENT LIST`.
fn describe(client: &Client, now: Instant) -> String {
    let word = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (channels, patterns) = client.subscriptions.as_ref().map_or((0, 0), |subscriptions| subscriptions.counts());
    format!(
        "id={} name={} age={} db={} sub={channels} psub={patterns} multi={} resp={} lib-name={} lib-ver={}\n",
        client.number,
        word(&client.name),
        client.since.map_or(0, |since| (now - since).as_secs()),
        client.database,
        client.queue.as_ref().map_or(-1, |queue| i64::try_from(queue.len()).unwrap_or(i64::MAX)),
        if client.version == Version::Resp3 { 3 } else { 2 },
        word(&client.library[0]),
        word(&client.library[1]),
    )
}
