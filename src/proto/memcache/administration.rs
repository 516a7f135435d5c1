//! Requests that are not about one key.

use super::crawl::Form;
use super::number;
use super::request::{Parsed, Refusal, Request, Skip, StatsOf, Words, complete, cut, is_control, refused};
use crate::proto::http;

/// What one of these commands asks.
pub(super) fn administration<'a>(len: usize, name: &'a [u8], words: Words<'a>) -> Parsed<'a> {
    let rest = words.rest();
    let (tokens, count) = words.take::<4>();
    let noreply = count > 0 && tokens.get(count - 1) == Some(&&b"noreply"[..]);
    let refuse = |refusal| Parsed::Refused { len, refusal, silent: noreply, skip: Skip::NONE };
    match name {
        b"version" => complete(len, Request::Version),
        b"quit" => complete(len, Request::Quit),
        b"flush_all" => {
            if count > 2 {
                return refused(len, Refusal::Unknown);
            }
            if count == usize::from(noreply) {
                return complete(len, Request::FlushAll { delay: None, noreply });
            }
            match number::signed(tokens[0]) {
                Some(delay) => complete(len, Request::FlushAll { delay: Some(cut(delay)), noreply }),
                None => refuse(Refusal::BadExptime),
            }
        }
        b"verbosity" if count != 1 && count != 2 => refused(len, Refusal::Unknown),
        b"verbosity" => match number::unsigned(tokens[0]) {
            Some(level) => complete(len, Request::Verbosity { level, noreply }),
            None => refuse(Refusal::BadFormat),
        },
        b"stats" => stats(len, rest, &tokens[..count.min(4)]),
        b"shutdown" => refused(len, Refusal::NoShutdown),
        b"watch" => refuse(Refusal::NoWatch),
        b"cache_memlimit" if count != 1 && count != 2 => refused(len, Refusal::Unknown),
        b"cache_memlimit" => refuse(Refusal::NoCacheMemlimit),
        b"lru_crawler" => match (count, tokens[0], tokens[1]) {
            (2, _, which) if which.iter().any(|&byte| is_control(byte)) => refused(len, Refusal::NoServerCommand),
            (2, b"metadump", which) => complete(len, Request::Crawl { form: Form::Meta, which }),
            (2, b"mgdump", which) => complete(len, Request::Crawl { form: Form::Get, which }),
            (2, b"crawl" | b"sleep" | b"tocrawl", _) | (1, b"enable" | b"disable", _) => {
                refused(len, Refusal::NoServerCommand)
            }
            _ => refused(len, Refusal::Unknown), // also what ends in `noreply`, which it does not know
        },
        b"lru" | b"slabs" | b"extstore" | b"refresh_certs" => refuse(Refusal::NoServerCommand),
        _ if http::is_line(name, Words::new(rest).last()) => Parsed::Http,
        _ => refused(len, Refusal::Unknown),
    }
}

fn stats<'a>(len: usize, rest: &'a [u8], tokens: &[&'a [u8]]) -> Parsed<'a> {
    let ask = |of| complete(len, Request::Stats(of));
    match tokens {
        [] => ask(StatsOf::General),
        [b"proxy", ..] => ask(StatsOf::Proxy),
        [b"reset", ..] => ask(StatsOf::Order(b"reset")),
        [b"detail", b"on", ..] => ask(StatsOf::Order(b"detail on")),
        [b"detail", b"off", ..] => ask(StatsOf::Order(b"detail off")),
        [b"detail", b"dump", ..] => ask(StatsOf::Servers(b"detail dump")),
        [b"detail", ..] => refused(len, Refusal::BadStatsDetail),
        [b"cachedump", class, limit, ..] => match (number::unsigned(class), number::unsigned(limit)) {
            (Some(class), Some(limit)) => ask(StatsOf::Cachedump { class, limit }),
            _ => refused(len, Refusal::BadFormat),
        },
        [b"cachedump", ..] => refused(len, Refusal::BadStats),
        [b"settings" | b"items" | b"slabs" | b"sizes" | b"conns" | b"extstore", ..] => {
            if rest.iter().any(|&byte| is_control(byte)) {
                return refused(len, Refusal::BadStats);
            }
            ask(StatsOf::Servers(tokens[0]))
        }
        _ => refused(len, Refusal::Unknown),
    }
}
