//! `CLIENT` and its subcommands.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use super::Replies;
use super::question::{Action, Kind, Wanted};
use crate::engine::Engine;
use crate::engine::ids::SessionId;
use crate::proto::resp::args::Args;
use crate::proto::resp::command::errors;
use crate::proto::resp::encode;
use crate::proto::resp::plan::Local;
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
            Local::ClientInfo => self.client_info(id, now),
            Local::ClientList => self.client_list(id, args, now),
            Local::ClientKill => self.client_kill(id, args, now),
            Local::ClientUnblock => self.client_unblock(id, args, now),
            Local::ClientReply => self.client_reply(id, args),
            Local::ClientNoEvict => match on_or_off(args.get(2)) {
                Some(on) => {
                    if let Some(client) = self.redis(id) {
                        client.no_evict = on;
                    }
                    self.say_ok(id);
                }
                None => self.refuse_request(id, errors::SYNTAX),
            },
            // Servers' connections are shared, so what one client asks must hold for others' requests as well, or for none.
            Local::ClientNoTouch => match on_or_off(args.get(2)) {
                Some(false) => self.say_ok(id),
                Some(true) => self.refuse_request(id, b"ERR CLIENT NO-TOUCH is not available through this proxy"),
                None => self.refuse_request(id, errors::SYNTAX),
            },
            Local::ClientTracking => match on_or_off(args.get(2)) {
                Some(false) if args.len() == 3 => self.say_ok(id),
                Some(true) => {
                    self.refuse_request(id, b"ERR client tracking is not available through this proxy");
                }
                _ => self.refuse_request(id, errors::SYNTAX),
            },
            Local::ClientCaching => {
                let text =
                    b"ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT \
                             mode enabled";
                self.refuse_request(id, text);
            }
            Local::ClientGetRedir => self.say_integer(id, -1),
            Local::ClientTrackingInfo => self.tracking_info(id),
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
        let held = self.held_by(id);
        let fits = self.make_memory(held, name.len());
        if !fits {
            self.refuse_request(id, b"ERR memory_limit of this proxy reached");
        }
        fits
    }

    fn client_info(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.session_ref(id) else { return };
        let Some(client) = session.redis() else { return };
        let (mut line, mut body) = (Vec::new(), Vec::new());
        self.write_line(&mut line, session, client, now);
        encode::verbatim_head(&mut body, line.len(), client.version);
        body.extend_from_slice(&line);
        body.extend_from_slice(b"\r\n");
        self.say(id, &body);
    }

    /// `CLIENT LIST [TYPE type | ID id ...]`: the clients of this pool, whichever worker serves them.
    fn client_list(&mut self, id: SessionId, args: Args<'_>, now: Instant) {
        let mut wanted = Wanted::default();
        let option = args.get(2).to_ascii_lowercase();
        match (args.len(), option.as_slice()) {
            (2, _) => {}
            (4, b"type") => match Kind::named(args.get(3)) {
                Some(kind) => wanted.kind = Some(kind),
                None => return self.refuse_request(id, &unknown_type(args.get(3))),
            },
            (4.., b"id") => {
                let mut ids = Vec::with_capacity(args.len() - 3);
                for word in args.iter().skip(3) {
                    let Some(number) = Self::number(word) else {
                        return self.refuse_request(id, b"ERR Invalid client ID");
                    };
                    ids.extend(u64::try_from(number)); // a negative one is nobody's
                }
                wanted.ids = Some(ids);
            }
            _ => return self.refuse_request(id, errors::SYNTAX),
        }
        self.inquire(id, wanted, Action::List, now);
    }

    /// `CLIENT KILL address`, or `CLIENT KILL` with filters, of which all must hold; of one that is said twice, the last.
    fn client_kill(&mut self, id: SessionId, args: Args<'_>, now: Instant) {
        if args.len() == 3 {
            let wanted = Wanted { address: Some(args.get(2).to_vec()), ..Wanted::default() };
            return self.inquire(id, wanted, Action::Kill { address_only: true }, now);
        }
        let mut wanted = Wanted { others_only: true, ..Wanted::default() };
        for place in (2..args.len()).step_by(2) {
            let (filter, value) = (args.get(place).to_ascii_lowercase(), args.get(place + 1));
            if place + 1 == args.len() {
                return self.refuse_request(id, errors::SYNTAX);
            }
            match filter.as_slice() {
                b"id" => match Self::number(value).and_then(|number| u64::try_from(number).ok()).filter(|one| *one > 0)
                {
                    Some(number) => wanted.ids = Some(vec![number]),
                    None => return self.refuse_request(id, b"ERR client-id should be greater than 0"),
                },
                b"type" => match Kind::named(value) {
                    Some(kind) => wanted.kind = Some(kind),
                    None => return self.refuse_request(id, &unknown_type(value)),
                },
                b"addr" => wanted.address = Some(value.to_vec()),
                b"laddr" => wanted.local_address = Some(value.to_vec()),
                b"user" => match self.knows_user(id, value) {
                    Some(has_user) => wanted.has_user = Some(has_user),
                    None => {
                        let text = [b"ERR No such user '", value, b"'"].concat();
                        return self.refuse_request(id, &text);
                    }
                },
                b"skipme" => match value.to_ascii_lowercase().as_slice() {
                    b"yes" => wanted.others_only = true,
                    b"no" => wanted.others_only = false,
                    _ => return self.refuse_request(id, errors::SYNTAX),
                },
                _ => return self.refuse_request(id, errors::SYNTAX),
            }
        }
        self.inquire(id, wanted, Action::Kill { address_only: false }, now);
    }

    /// Whether a name is that of the pool's user, and not the default one's; `None` for nobody's.
    fn knows_user(&self, id: SessionId, name: &[u8]) -> Option<bool> {
        let pool = self.pool_of(id)?;
        let user = self.topology.pools[pool.index()].redis.user.as_deref().map(str::as_bytes);
        match name {
            b"default" => Some(false),
            _ => (user == Some(name)).then_some(true),
        }
    }

    /// `CLIENT UNBLOCK id [TIMEOUT | ERROR]`.
    fn client_unblock(&mut self, id: SessionId, args: Args<'_>, now: Instant) {
        let with_error = match (args.len(), args.get(3).to_ascii_lowercase().as_slice()) {
            (3, _) | (4, b"timeout") => false,
            (4, b"error") => true,
            (4, _) => {
                return self.refuse_request(id, b"ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
            }
            _ => {
                let text =
                    [b"ERR unknown subcommand or wrong number of arguments for '", args.get(1), b"'. Try CLIENT HELP."];
                return self.refuse_request(id, &text.concat());
            }
        };
        match Self::number(args.get(2)) {
            Some(number) => {
                let ids = Some(u64::try_from(number).into_iter().collect());
                self.inquire(id, Wanted { ids, ..Wanted::default() }, Action::Unblock { with_error }, now);
            }
            None => self.refuse_request(id, b"ERR value is not an integer or out of range"),
        }
    }

    /// `CLIENT TRACKINGINFO`: nothing is tracked.
    fn tracking_info(&mut self, id: SessionId) {
        let version = self.version(id);
        let mut body = Vec::new();
        encode::map(&mut body, 3, version);
        encode::bulk(&mut body, b"flags");
        encode::set(&mut body, 1, version);
        encode::bulk(&mut body, b"off");
        encode::bulk(&mut body, b"redirect");
        encode::integer(&mut body, -1);
        encode::bulk(&mut body, b"prefixes");
        encode::array(&mut body, 0);
        self.say(id, &body);
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

fn on_or_off(word: &[u8]) -> Option<bool> {
    match word.to_ascii_lowercase().as_slice() {
        b"on" => Some(true),
        b"off" => Some(false),
        _ => None,
    }
}

fn unknown_type(name: &[u8]) -> Vec<u8> {
    [b"ERR Unknown client type '", name, b"'"].concat()
}
