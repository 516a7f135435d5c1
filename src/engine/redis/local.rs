//! Requests that are answered here.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use super::Replies;
use super::call::{Call, Unfound, find};
use crate::engine::Engine;
use crate::engine::ids::SessionId;
use crate::proto::bytes::is_same_secret;
use crate::proto::resp::args::{Args, Span};
use crate::proto::resp::command::keys::{self, KeyList};
use crate::proto::resp::command::{self, errors};
use crate::proto::resp::plan::Local;
use crate::proto::resp::{Version, encode};
use crate::time::Instant;

/// The version of Redis whose command table this program has, and which it passes itself off as.
pub(super) const REDIS_VERSION: &str = "7.0.15";

/// What a `SELECT` is told that names no database.
pub(super) const NO_INTEGER: &[u8] = b"ERR value is not an integer or out of range";
pub(super) const OUT_OF_RANGE: &[u8] = b"ERR DB index is out of range";

const WRONG_PASS: &[u8] = b"WRONGPASS invalid username-password pair or user is disabled.";

impl Engine {
    pub(super) fn local(&mut self, id: SessionId, call: Call<'_>, local: Local, now: Instant) {
        let args = call.args;
        match local {
            Local::Ping => self.ping(id, args),
            Local::Echo => self.say_again(id, args.get(1)),
            Local::Hello => self.hello(id, call, now),
            Local::Auth => self.auth(id, args),
            Local::Select => self.select(id, call, now),
            Local::Quit => {
                self.say_ok(id);
                if let Some(session) = self.session(id) {
                    session.close();
                }
                self.touch_session(id);
            }
            Local::Reset => self.reset(id),
            Local::Time => {
                let wall = self.started_at + (now - Instant::ZERO);
                let mut body = Vec::new();
                encode::array(&mut body, 2);
                encode::bulk(&mut body, wall.as_secs().to_string().as_bytes());
                encode::bulk(&mut body, wall.subsec_micros().to_string().as_bytes());
                self.say(id, &body);
            }
            Local::Role => {
                let mut body = Vec::new();
                encode::array(&mut body, 3);
                encode::bulk(&mut body, b"master");
                encode::integer(&mut body, 0);
                encode::array(&mut body, 0);
                self.say(id, &body);
            }
            Local::WhoAmI => self.who_am_i(id),
            Local::ClusterOnly => self.refuse_request(id, b"ERR This instance has cluster support disabled"),
            other => self.local_client(id, args, other, now),
        }
    }

    fn ping(&mut self, id: SessionId, args: Args<'_>) {
        let message = args.get(1);
        if args.len() > 2 {
            return self.refuse_request(id, &errors::wrong_arity("ping"));
        }
        let Some(client) = self.redis(id) else { return };
        let mut body = Vec::new();
        // In a subscribed RESP2 connection everything has the form of a message.
        if client.is_subscribed() && client.version == Version::Resp2 {
            encode::array(&mut body, 2);
            encode::bulk(&mut body, b"pong");
            encode::bulk(&mut body, message);
        } else if args.len() == 2 {
            return self.say_again(id, message);
        } else {
            encode::simple(&mut body, b"PONG");
        }
        self.say(id, &body);
    }

    /// `HELLO [2|3 [AUTH user password] [SETNAME name]]`: all of it, or nothing.
    fn hello(&mut self, id: SessionId, call: Call<'_>, now: Instant) {
        let args = call.args;
        let version = match args.get(1) {
            _ if args.len() == 1 => None,
            b"2" => Some(Version::Resp2),
            b"3" => Some(Version::Resp3),
            other if crate::proto::resp::request::integer(other).is_none() => {
                return self.refuse_request(id, b"ERR Protocol version is not an integer or out of range");
            }
            _ => return self.refuse_request(id, b"NOPROTO unsupported protocol version"),
        };
        let (mut at, mut credentials, mut name) = (2, None, None);
        while at < args.len() {
            let left = args.len() - at - 1;
            if args.get(at).eq_ignore_ascii_case(b"auth") && left >= 2 {
                credentials = Some((args.get(at + 1), args.get(at + 2)));
                at += 3;
            } else if args.get(at).eq_ignore_ascii_case(b"setname") && left >= 1 {
                name = Some(args.get(at + 1));
                at += 2;
            } else {
                let text = [b"ERR Syntax error in HELLO option '", args.get(at), b"'"].concat();
                return self.refuse_request(id, &text);
            }
        }
        if let Some((user, password)) = credentials {
            if !self.is_password(id, Some(user), password) {
                return self.refuse_request(id, WRONG_PASS);
            }
            if let Some(client) = self.redis(id) {
                (client.trusted, client.has_user) = (true, user != b"default");
            }
        }
        if !self.redis(id).is_some_and(|client| client.trusted) {
            return self.refuse_request(
                id,
                b"NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
                  <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
                  the same time",
            );
        }
        if let Some(name) = name
            && !self.set_name(id, name)
        {
            return;
        }
        let Some(client) = self.redis(id) else { return };
        let before = client.version;
        client.version = version.unwrap_or(before);
        if before != client.version && client.is_subscribed() {
            self.renew_subscriptions(id, now);
        }
        let Some(client) = self.redis(id) else { return };
        let (version, number) = (client.version, client.number);
        let mut body = Vec::new();
        encode::map(&mut body, 7, version);
        let mut word = |name: &str, value: &str| {
            encode::bulk(&mut body, name.as_bytes());
            encode::bulk(&mut body, value.as_bytes());
        };
        word("server", "redis");
        word("version", REDIS_VERSION);
        encode::bulk(&mut body, b"proto");
        encode::integer(&mut body, if version == Version::Resp3 { 3 } else { 2 });
        encode::bulk(&mut body, b"id");
        encode::integer(&mut body, i64::try_from(number).unwrap_or(i64::MAX));
        let mut word = |name: &str, value: &str| {
            encode::bulk(&mut body, name.as_bytes());
            encode::bulk(&mut body, value.as_bytes());
        };
        word("mode", "standalone");
        word("role", "master");
        encode::bulk(&mut body, b"modules");
        encode::array(&mut body, 0);
        self.say_and_follow(id, call, body, now);
    }

    /// Whether a client's password is the pool's. Without one, the default user needs none.
    fn is_password(&self, id: SessionId, user: Option<&[u8]>, password: &[u8]) -> bool {
        let Some(session) = self.session_ref(id) else { return false };
        let settings = &self.topology.pools[session.pool().index()].redis;
        let known = match user {
            None | Some(b"default") => true,
            Some(user) => settings.user.as_ref().is_some_and(|known| known.as_bytes() == user),
        };
        let right = settings.auth.as_ref().is_none_or(|right| is_same_secret(password, right.as_bytes()));
        known && right
    }

    fn auth(&mut self, id: SessionId, args: Args<'_>) {
        let Some(session) = self.session_ref(id) else { return };
        let has_password = self.topology.pools[session.pool().index()].redis.auth.is_some();
        let (user, password) = match args.len() {
            2 if !has_password => {
                return self.refuse_request(
                    id,
                    b"ERR AUTH <password> called without any password configured for the default user. Are you sure \
                      your configuration is correct?",
                );
            }
            2 => (None, args.get(1)),
            3 => (Some(args.get(1)), args.get(2)),
            _ => return self.refuse_request(id, errors::SYNTAX),
        };
        if !self.is_password(id, user, password) {
            return self.refuse_request(id, WRONG_PASS);
        }
        if let Some(client) = self.redis(id) {
            (client.trusted, client.has_user) = (true, user.is_some_and(|user| user != b"default"));
        }
        self.say_ok(id);
    }

    fn select(&mut self, id: SessionId, call: Call<'_>, now: Instant) {
        let databases = self.topology.pools[call.pool.index()].redis.databases;
        match Self::number(call.args.get(1)) {
            None => self.refuse_request(id, NO_INTEGER),
            Some(number) => match u32::try_from(number).ok().filter(|number| *number < databases) {
                None => self.refuse_request(id, OUT_OF_RANGE),
                Some(number) => {
                    if let Some(client) = self.redis(id) {
                        client.database = number;
                    }
                    self.say_and_follow(id, call, b"+OK\r\n".to_vec(), now);
                }
            },
        }
    }

    /// `RESET`: as if the client had just connected.
    fn reset(&mut self, id: SessionId) {
        let Some(session) = self.session_ref(id) else { return };
        let settings = &self.topology.pools[session.pool().index()].redis;
        let (trusted, database) = (settings.auth.is_none(), settings.db);
        self.release_dedicated(id);
        if let Some(subscriptions) = self.redis(id).and_then(|client| client.subscriptions.take()) {
            self.let_go(subscriptions);
        }
        if let Some(client) = self.redis(id) {
            client.queue = None;
            client.watch = None;
            client.trusted = trusted;
            client.database = database;
            client.version = Version::Resp2;
            client.name = Vec::new();
            // `OFF` is over, and this is answered; what `SKIP` said of it holds.
            if client.replies != Replies::SkipThis {
                client.replies = Replies::On;
            }
            (client.has_user, client.monitors, client.no_evict) = (false, false, false);
        }
        self.say(id, b"+RESET\r\n");
    }

    fn who_am_i(&mut self, id: SessionId) {
        let Some(session) = self.session_ref(id) else { return };
        let Some(client) = session.redis() else { return };
        let mut body = Vec::new();
        encode::bulk(&mut body, self.user_of(session.pool(), client).as_bytes());
        self.say(id, &body);
    }

    /// Answers what is asked about commands from the table, as no server can be asked. `false` if the table does not tell.
    #[cold]
    pub(super) fn describe_commands(&mut self, id: SessionId, call: Call<'_>) -> bool {
        match call.command.name {
            "command|count" => self.say_integer(id, i64::try_from(names().count()).unwrap_or(i64::MAX)),
            "command|list" if call.args.len() == 2 => {
                let mut body = Vec::new();
                encode::set(&mut body, names().count(), self.version(id));
                names().for_each(|name| encode::bulk(&mut body, name.as_bytes()));
                self.say(id, &body);
            }
            "command|getkeys" => self.command_getkeys(id, call.args),
            _ => return false,
        }
        true
    }

    fn command_getkeys(&mut self, id: SessionId, args: Args<'_>) {
        let spans: Vec<Span> = args.spans().get(2..).unwrap_or_default().to_vec();
        let inner = args.with(&spans);
        let found = match find(inner) {
            Ok(found) => found,
            Err(Unfound::Command | Unfound::Subcommand(_)) => {
                return self.refuse_request(id, b"ERR Invalid command specified");
            }
        };
        if found.0.keys.iter().all(|spec| spec.not_key) && !found.0.flags.has(command::Flags::MOVABLE_KEYS) {
            return self.refuse_request(id, b"ERR The command has no key arguments");
        }
        if !found.0.accepts(inner.len()) {
            return self.refuse_request(id, b"ERR Invalid number of arguments specified for command");
        }
        let mut list = KeyList::default();
        if keys::keys(found.0, inner, &mut list).is_err() {
            return self.refuse_request(id, b"ERR Invalid arguments specified for command");
        }
        let places: Vec<usize> = list.iter().collect();
        if places.is_empty() && !found.0.flags.has(command::Flags::NO_MANDATORY_KEYS) {
            return self.refuse_request(id, b"ERR The command has no key arguments");
        }
        let mut body = Vec::new();
        encode::array(&mut body, places.len());
        places.iter().for_each(|place| encode::bulk(&mut body, inner.get(*place)));
        self.say(id, &body);
    }
}

/// The names of all commands.
fn names() -> impl Iterator<Item = &'static str> {
    command::all().map(|command| command.name).filter(|name| !name.contains('|'))
}
