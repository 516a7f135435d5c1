//! Requests that go to every server of a pool.

use super::call::Call;
use super::gather::How;
use super::info;
use super::piece::Piece;
use crate::engine::ids::SessionId;
use crate::engine::{Engine, next_random, server_id};
use crate::proto::resp::args::Args;
use crate::proto::resp::plan::Everywhere;
use crate::proto::resp::{encode, request};
use crate::proto::verb::Verb;
use crate::time::Instant;

/// How many entries a `SLOWLOG GET` asks for. What is wrong with it the servers say.
fn log_entries(args: Args<'_>) -> usize {
    match request::integer(args.get(2)) {
        _ if args.len() < 3 => 10,
        Some(count) => usize::try_from(count).unwrap_or(usize::MAX),
        None => usize::MAX,
    }
}

impl Engine {
    pub(super) fn everywhere(&mut self, id: SessionId, call: Call<'_>, everywhere: Everywhere, now: Instant) {
        let how = match everywhere {
            Everywhere::Scan => return self.scan(id, call, now),
            Everywhere::Info => return self.info(id, call, now),
            Everywhere::Wait => return self.wait_everywhere(id, call, now),
            Everywhere::Kill => return self.kill_everywhere(id, call, now),
            Everywhere::Flush | Everywhere::Order => How::Word,
            Everywhere::Dbsize | Everywhere::Sum => How::Sum,
            Everywhere::Keys | Everywhere::Join => How::Join,
            Everywhere::PubsubChannels => How::Union(next_random(&mut self.random)),
            Everywhere::Log => How::Newest(log_entries(call.args)),
            Everywhere::RandomKey => How::Any(next_random(&mut self.random) as usize),
            Everywhere::ScriptExists | Everywhere::Least => How::Least,
            Everywhere::Load => How::Loaded,
            Everywhere::ConfigGet | Everywhere::FunctionList => How::First,
            Everywhere::PubsubNumsub => How::Pairs(call.raw.to_vec()),
            Everywhere::PubsubNumpat => How::Most,
        };
        match call.command.name {
            "script|load" => self.remember_script(id, call.args.get(2)),
            "script|flush" => self.forget_scripts(call),
            _ => {}
        }
        let pieces = self.pieces_to_all(id, call);
        let (mut asked, marks) = self.asked(id, call);
        if everywhere == Everywhere::Flush {
            // A server that it does not reach has to be flushed: it must not come back with what it was told to forget.
            asked.request.verb = if call.command.name == "flushdb" { Verb::FlushDatabase } else { Verb::FlushAll };
        }
        self.gather(id, asked, marks, how, pieces, now);
    }

    /// A piece for each server of the pool.
    fn pieces_to_all(&mut self, id: SessionId, call: Call<'_>) -> Vec<Piece> {
        let mut copies = if call.raw.len() > self.memory.large { self.take_copies(id) } else { Vec::new() };
        let mut request = || copies.pop().unwrap_or_else(|| call.raw.to_vec());
        self.to_all(call.pool).into_iter().map(|to| Piece { to, request: request(), replies: 1 }).collect()
    }

    /// A step of a `SCAN`: the cursor tells the server.
    fn scan(&mut self, id: SessionId, call: Call<'_>, now: Instant) {
        let pool = call.pool;
        let of = self.topology.pool(pool);
        let servers = of.ids();
        let text = call.args.get(1);
        let Some(cursor) = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok()) else {
            return self.refuse_request(id, b"ERR invalid cursor");
        };
        let (place, cursor) = (cursor % servers as u64, cursor / servers as u64);
        let place = usize::try_from(place).unwrap_or_default();
        let Some(server) = (place..servers).map(server_id).find(|server| of.has(*server)) else {
            return self.say(id, b"*2\r\n$1\r\n0\r\n*0\r\n"); // the last ones have left
        };
        let cursor = if server.index() == place { cursor } else { 0 };
        let mut words: Vec<&[u8]> = call.args.iter().collect();
        let cursor = cursor.to_string();
        words[1] = cursor.as_bytes();
        let mut request = Vec::new();
        encode::command(&mut request, words.into_iter());
        let piece = Piece { to: self.to(pool, server), request, replies: 1 };
        let (asked, marks) = self.asked(id, call);
        let (server, servers) = (server.index() as u64, servers as u64);
        self.gather(id, asked, marks, How::Scan { server, servers }, vec![piece], now);
    }

    /// `INFO`: of all servers together, or of the one that is named: `INFO @cache-a memory`.
    fn info(&mut self, id: SessionId, call: Call<'_>, now: Instant) {
        let pool = call.pool;
        let (asked, marks) = self.asked(id, call);
        let Some(name) = call.args.get(1).strip_prefix(b"@") else {
            let sections = || call.args.iter().skip(1);
            let own = if info::wants_own(sections()) { self.info_section(pool) } else { String::new() };
            if call.args.len() > 1 && sections().all(|name| name.eq_ignore_ascii_case(b"softmiss")) {
                let mut body = Vec::new();
                info::verbatim(&mut body, &own, self.version(id));
                return self.say(id, &body);
            }
            let pieces = self.pieces_to_all(id, call);
            return self.gather(id, asked, marks, How::Info(own), pieces, now);
        };
        let servers = &self.topology.pools[pool.index()].servers;
        let Some(server) = servers.iter().find(|server| server.name.as_bytes() == name).map(|server| server.id) else {
            let names: Vec<_> = servers.iter().map(|server| server.name.as_str()).collect();
            let text = format!("ERR no server of this pool has that name: it has {}", names.join(", "));
            return self.refuse_request(id, text.as_bytes());
        };
        let mut request = Vec::new();
        let words: Vec<&[u8]> = call.args.iter().take(1).chain(call.args.iter().skip(2)).collect();
        encode::command(&mut request, words.into_iter());
        let piece = Piece { to: self.to(pool, server), request, replies: 1 };
        self.gather(id, asked, marks, How::First, vec![piece], now);
    }

    /// An integer argument as Redis reads it.
    pub(super) fn number(text: &[u8]) -> Option<i64> {
        request::integer(text)
    }
}
