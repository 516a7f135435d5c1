//! What must hold of any bytes whatever: the bodies of the fuzz targets. The ordinary tests run them over the corpus.

#![allow(clippy::wildcard_enum_match_arm)] // shared with crates that do not know this lint as an expectation

use std::sync::Arc;
use std::time::Duration;

use softmiss::config::model::{Address, Config, Listen, OnFailure, Pool, PoolId, Protocol, Server, ServerId, Settings};
use softmiss::engine::{Effect, Engine, Setup};
use softmiss::failure::Failure;
use softmiss::proto::memcache::binary::Translator;
use softmiss::proto::memcache::door::Door;
use softmiss::proto::memcache::request::{Parsed, Request, Words, is_key, parse};
use softmiss::proto::memcache::response::{self, MetaAsked, Piece, Response};
use softmiss::proto::memcache::{Verb, encode, stats};
use softmiss::proto::resp::args::Args;
use softmiss::proto::resp::command::keys::KeyList;
use softmiss::proto::resp::reply::{Scan, Scanned};
use softmiss::proto::resp::{self, Version};
use softmiss::time::Instant;
use softmiss::topology::Published;

const VALUE_LIMIT: usize = 1 << 20;

/// A request that is accepted lies within the input, has only keys that may reach a server, and means the same when it
/// is written in canonical form and parsed again. What is incomplete stays so for every shorter piece.
pub(crate) fn request(data: &[u8]) {
    if data.is_empty() {
        return;
    }
    match parse(data, VALUE_LIMIT) {
        Parsed::Incomplete { need } => {
            assert!(need > data.len(), "more is needed than there is");
            for cut in 1..data.len().min(64) {
                assert!(matches!(parse(&data[..cut], VALUE_LIMIT), Parsed::Incomplete { .. }), "cut at {cut}");
            }
        }
        Parsed::Refused { len, .. } => assert!((1..=data.len()).contains(&len)),
        Parsed::Foreign | Parsed::Http => {}
        Parsed::Complete { len, request } => {
            assert!((1..=data.len()).contains(&len));
            assert_eq!(parse(&data[..len], VALUE_LIMIT), Parsed::Complete { len, request }, "what follows matters");
            if let Parsed::Complete { request, .. } = parse(data, VALUE_LIMIT) {
                canonical(&request);
            }
        }
    }
}

/// What a client of the binary protocol sends, cut anywhere, becomes requests of text, and what it is told of their answers does
/// not depend on where it was cut.
pub(crate) fn binary(data: &[u8]) {
    let size = 1 + data.first().map_or(0, |byte| usize::from(*byte) % 40);
    for new in [Translator::new, || Translator::guarded(false), || Translator::guarded(true)] {
        let whole = told(new(), &mut [data].into_iter());
        assert_eq!(whole, told(new(), &mut data.chunks(size)), "cut into pieces of {size}");
    }
    shut(data, size);
    // Whatever a server says is an answer or is none.
    let (mut translator, mut text, mut out) = (Translator::new(), Vec::new(), Vec::new());
    let (asked, said) = data.split_at(data.len() / 2);
    translator.ask(asked, &mut text);
    let _ = translator.answer(said, &mut out);
}

/// What is told to a client that sends these pieces, by servers that have nothing and do everything.
fn told(mut translator: Translator, pieces: &mut dyn Iterator<Item = &[u8]>) -> Vec<u8> {
    let (mut text, mut out) = (Vec::new(), Vec::new());
    let mut is_over = false;
    for piece in pieces {
        // Whoever has a user with a short name and password may come in.
        let admits = |user: &[u8], password: &[u8]| user.len() + password.len() < 4;
        translator.ask_guarded(piece, &mut text, Some(&admits));
        let mut at = 0;
        while at < text.len() && !is_over {
            let (len, answer): (_, &[u8]) = match parse(&text[at..], usize::MAX) {
                Parsed::Incomplete { .. } => break,
                Parsed::Complete { len, request } => match request {
                    Request::Get(_) => (len, b"END\r\n"),
                    Request::Quit => {
                        is_over = true;
                        (len, b"")
                    }
                    _ => (len, answer(&text[at..])),
                },
                Parsed::Refused { len, .. } => (len, b"SERVER_ERROR object too large for cache\r\n"),
                Parsed::Foreign | Parsed::Http => panic!("no request: {:?}", text[at..].escape_ascii().to_string()),
            };
            for bytes in answer.chunks(3) {
                translator.answer(bytes, &mut out).expect("a right answer");
            }
            at += len;
        }
        text.drain(..at);
        assert!(text.is_empty() || translator.has_begun() || is_over, "something is never answered");
    }
    out
}

/// Who has not said who it is asks nobody anything, in either protocol, and is told the same wherever it is cut.
fn shut(data: &[u8], size: usize) {
    let nobody = |_: &[u8], _: &[u8]| false;
    let (mut translator, mut text) = (Translator::guarded(false), Vec::new());
    data.chunks(size).for_each(|piece| translator.ask_guarded(piece, &mut text, Some(&nobody)));
    let harmless: [&[u8]; 3] = [b"mn", b"version", b"quit"];
    assert!(text.split(|byte| *byte == b'\n').all(|line| line.is_empty() || harmless.contains(&line.trim_ascii_end())));
    assert!(!translator.is_admitted());
    let everybody = |_: &[u8], _: &[u8]| true;
    for guard in [&nobody as &dyn Fn(&[u8], &[u8]) -> bool, &everybody] {
        let told = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let (mut door, mut out, mut passed) = (Door::default(), Vec::new(), Vec::new());
            for piece in pieces {
                let taken = if door.is_open() { 0 } else { door.ask(piece, Some(guard), &mut out) };
                passed.extend_from_slice(&piece[taken..]);
                assert!(passed.is_empty() || door.is_open());
            }
            (out, passed, door.is_open())
        };
        let (whole, parts) = (told(&mut [data].into_iter()), told(&mut data.chunks(size)));
        assert_eq!(whole, parts, "cut into pieces of {size}");
        assert!(!whole.2 || whole.0.ends_with(b"STORED\r\n"));
    }
}

/// An answer to a request of text.
fn answer(request: &[u8]) -> &'static [u8] {
    match request {
        [b'm', b'n', ..] => b"MN\r\n",
        [b'm', b'g', ..] => b"EN\r\n",
        [b'm', b'a', ..] => b"VA 1 c7\r\n5\r\n",
        [b'm', ..] => b"HD c5\r\n",
        [b'v', ..] => b"VERSION 1.6.18\r\n",
        [b'f', ..] => b"OK\r\n",
        _ => b"STAT pid 1\r\nEND\r\n",
    }
}

/// The canonical form says the same.
fn canonical(request: &Request<'_>) {
    let mut wire = Vec::new();
    match request {
        Request::Get(get) => {
            assert_eq!(Words::new(get.keys).count(), get.count);
            assert!(Words::new(get.keys).all(is_key));
            if get.count == 0 {
                return;
            }
            encode::get_start(&mut wire, get.verb, get.exptime, None);
            for key in Words::new(get.keys) {
                encode::get_key(&mut wire, key);
            }
            encode::line_end(&mut wire);
            let Parsed::Complete { request: Request::Get(again), .. } = parse(&wire, VALUE_LIMIT) else {
                panic!("{:?} is not a get any more", String::from_utf8_lossy(&wire));
            };
            assert_eq!((again.verb, again.exptime, again.count), (get.verb, get.exptime, get.count));
            assert!(Words::new(again.keys).eq(Words::new(get.keys)));
        }
        Request::Store(store) => {
            assert!(is_key(store.key));
            encode::store(&mut wire, store, None);
            let Parsed::Complete { len, request: Request::Store(again) } = parse(&wire, VALUE_LIMIT) else {
                panic!("{:?} is not a store any more", String::from_utf8_lossy(&wire));
            };
            assert_eq!(len, wire.len());
            assert!(!again.noreply, "noreply never reaches a server");
            assert_eq!(
                (again.verb, again.key, again.flags, again.exptime, again.cas, again.block),
                (store.verb, store.key, store.flags, store.exptime, store.cas, store.block)
            );
        }
        Request::Change(change) => {
            assert!(is_key(change.key));
            encode::change(&mut wire, change, None);
            // An argument that reads as `noreply`, or one too many, is for the server to refuse.
            assert_eq!(wire.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert!(wire.ends_with(b"\r\n"));
        }
        Request::Meta(asked) => {
            assert!(is_key(asked.key));
            encode::meta(&mut wire, asked, None);
            let Parsed::Complete { len, request: Request::Meta(again) } = parse(&wire, VALUE_LIMIT) else {
                // One flag more than allowed, since `k` was added: the server refuses it.
                assert!(Words::new(asked.flags).count() >= 16, "{:?}", String::from_utf8_lossy(&wire));
                return;
            };
            assert_eq!(len, wire.len());
            assert!(!again.seen.quiet, "quiet mode never reaches a server");
            assert_eq!((again.verb, again.key, again.block), (asked.verb, asked.key, asked.block));
        }
        Request::FlushAll { .. }
        | Request::Stats(_)
        | Request::Version
        | Request::Verbosity { .. }
        | Request::Crawl { .. }
        | Request::MetaNoop
        | Request::Quit => {}
    }
}

/// A response that is accepted lies within the input, and every piece of it is incomplete.
pub(crate) fn response(data: &[u8]) {
    let Some((&selector, data)) = data.split_first() else { return };
    let whole = |found: Response, again: &dyn Fn(&[u8]) -> Response| match found {
        Response::Incomplete { need } => assert!(need > data.len()),
        Response::Complete { len, ref strip, .. } => {
            assert!((1..=data.len()).contains(&len));
            assert!(strip.start <= strip.end && strip.end <= len);
            for cut in (0..len).rev().take(64) {
                let part = again(&data[..cut]);
                assert!(matches!(part, Response::Incomplete { .. }), "cut at {cut} of {len}: {part:?}");
            }
        }
        Response::TooLarge { len, .. } => assert!(len > 0),
        Response::Broken(_) => {}
    };
    match selector % 4 {
        0 => match response::piece(data, if selector > 127 { Verb::Gets } else { Verb::Get }, VALUE_LIMIT) {
            Piece::Incomplete { need } => assert!(need > data.len()),
            Piece::Value { key, len } => {
                assert!(len <= data.len() && data[..len].ends_with(b"\r\n"));
                assert!(key.len() < len);
            }
            Piece::TooLarge { key, len } => assert!(len > VALUE_LIMIT && key.len() < data.len()),
            Piece::End { len } | Piece::Error { len, .. } => assert!((1..=data.len()).contains(&len)),
            Piece::Broken(_) => {}
        },
        1 => {
            let verbs = [Verb::Set, Verb::Delete, Verb::Touch, Verb::Incr, Verb::FlushAll, Verb::Version, Verb::Stats];
            let verb = verbs[usize::from(selector / 4) % verbs.len()];
            whole(response::classic(data, verb), &|part| response::classic(part, verb));
        }
        2 => {
            let verbs = [Verb::MetaGet, Verb::MetaSet, Verb::MetaDelete, Verb::MetaArith, Verb::MetaDebug];
            let verb = verbs[usize::from(selector / 4) % verbs.len()];
            let asked =
                MetaAsked { verb, key: b"a", flags: b"v O1 k", base64: selector > 127, strip_key: selector & 64 > 0 };
            whole(response::meta(data, asked, VALUE_LIMIT), &|part| response::meta(part, asked, VALUE_LIMIT));
        }
        _ => {
            whole(stats::listing(data, &mut 0), &|part| stats::listing(part, &mut 0));
            for kind in [stats::Kind::Fields, stats::Kind::First, stats::Kind::Lines] {
                let mut summed = stats::Summed::new(kind, stats::Own::default());
                summed.add(data);
                summed.add(data);
                let mut out = Vec::new();
                summed.write(&mut out);
                assert!(out.ends_with(b"END\r\n"));
            }
        }
    }
}

/// A Redis request is the same whether it comes at once or in pieces, its arguments lie within it, and nothing is kept of
/// a length that was merely announced.
pub(crate) fn redis_request(data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let limits = resp::request::Limits { value: VALUE_LIMIT, trusted: true };
    let (mut progress, mut spans) = (resp::request::Progress::default(), Vec::new());
    let whole = resp::request::parse(data, &mut progress, limits, &mut spans);
    match &whole {
        resp::request::Parsed::Complete { len } => {
            assert!((1..=data.len()).contains(len) && !spans.is_empty());
            let (mut at, mut again) = (0, Vec::new());
            while at < *len {
                at = resp::request::find_spans(&data[..*len], at, 3, &mut again);
            }
            assert_eq!((at, &again), (*len, &spans), "its arguments are found in portions too");
            let args = Args::new(&data[..*len], &spans);
            let words: Vec<_> = args.iter().collect();
            let mut again = Vec::new();
            resp::encode::words(&mut again, &words);
            let mut places = Vec::new();
            assert!(
                resp::request::args(&again, &mut places).iter().eq(words.iter().copied()),
                "it means another thing"
            );
            if let Some(command) = resp::command::find(args.get(0)) {
                let mut keys = KeyList::default();
                if resp::command::keys::keys(command, args, &mut keys).is_ok() {
                    assert!(keys.iter().all(|place| place < args.len()));
                }
                let _ = resp::fallback::shape(command.name)
                    .fallback(args, true, true)
                    .write(&mut Vec::new(), Version::Resp3);
            }
        }
        resp::request::Parsed::Long { .. } => panic!("it has not come in pieces"),
        resp::request::Parsed::Inline { len, array } => {
            assert!((1..=data.len()).contains(len));
            assert!(resp::request::spans_of(array, &mut spans), "an inline command is no request");
        }
        resp::request::Parsed::Incomplete { need } => assert!(*need > data.len()),
        resp::request::Parsed::Nothing { len } => assert!((1..=data.len()).contains(len)),
        resp::request::Parsed::TooLarge { len, .. } => assert!(*len <= data.len()),
        resp::request::Parsed::Broken(text) => assert!(!text.is_empty()),
    }
    let mut progress = resp::request::Progress::default();
    let mut found = None;
    for cut in 1..=data.len() {
        match resp::request::parse(&data[..cut], &mut progress, limits, &mut spans) {
            resp::request::Parsed::Incomplete { .. } => {}
            other => {
                found = Some(other);
                break;
            }
        }
    }
    if let Some(found) = found
        && !matches!(found, resp::request::Parsed::Broken(_))
    {
        assert_eq!(found, whole, "it depends on how it comes");
    }
}

/// The end of a Redis reply is the same whether it comes at once or in pieces; what was found can be taken apart.
pub(crate) fn redis_reply(data: &[u8]) {
    let whole = Scan::new(1).advance(data);
    let mut scan = Scan::new(1);
    for cut in 0..=data.len() {
        match scan.advance(&data[..cut]) {
            Scanned::Incomplete { need } => assert!(need > cut),
            other => {
                assert_eq!(other, whole, "it depends on how it comes");
                break;
            }
        }
    }
    if let Scanned::Complete { len } = whole {
        assert_eq!(resp::reply::end(data), len);
        if let resp::reply::Reply::List(items) = resp::reply::read(&data[..len]) {
            assert!(items.map(<[u8]>::len).sum::<usize>() <= len);
        }
        let _ = resp::reply::trouble(&data[..len]);
    }
}

/// Whatever is wrong with a file can be told; what is right with it holds together.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match softmiss::config::parse("file", text) {
        Err(report) => {
            assert!(report.errors() > 0, "refused without a reason");
            let _ = report.render(false);
        }
        Ok(loaded) => {
            assert_eq!(loaded.warnings.errors(), 0);
            assert!(!loaded.config.pools.is_empty());
            for pool in &loaded.config.pools {
                assert!(!pool.servers.is_empty() && pool.server_failure_limit > 0 && pool.server_connections > 0);
                assert!(pool.servers.iter().all(|server| server.weight > 0));
            }
        }
    }
}

/// Bytes for two clients and two servers of an engine, in any order, with failures in between: its rules hold.
pub(crate) fn engine(data: &[u8]) {
    drive(data, pool());
}

/// The same of a Redis pool.
pub(crate) fn redis_engine(data: &[u8]) {
    drive(data, Pool { protocol: Protocol::Redis, on_failure: OnFailure::Miss, ..pool() });
}

fn drive(data: &[u8], pool: Pool) {
    let settings = Settings { hot_keys: Some(2), slow_request: Some(Duration::from_millis(20)), ..Settings::default() };
    let published = Arc::new(Published::new(Config { settings, pools: vec![pool] }, 1));
    let mut engine = Engine::new(Setup {
        published,
        worker: 0,
        seed: 1,
        started_at: Duration::ZERO,
        scripts: softmiss::engine::Scripts::default(),
    });
    if data.len() % 2 == 1 {
        engine.make_small(32, 200); // inputs are short
    }
    let clients = [engine.client_connected(PoolId(0)), engine.client_connected(PoolId(0))];
    let mut links = Vec::new();
    let mut now = 0u64;
    let mut rest = data;
    while let [operation, len, after @ ..] = rest {
        let count = usize::from(*len).min(after.len());
        let (bytes, after) = after.split_at(count);
        rest = after;
        now += u64::from(*len) * 1_000_000;
        let at = Instant::from_nanos(now);
        if engine.next_timeout().is_some_and(|next| next <= at) {
            engine.handle_timeout(at);
        }
        let link = links.get(links.len().wrapping_sub(1 + usize::from(operation >> 6))).copied();
        match (operation % 8, link.or_else(|| links.last().copied())) {
            (0..3, _) => engine.client_data(clients[usize::from(operation % 2)], bytes, at),
            (3 | 4, Some((link, epoch))) => engine.link_data(link, epoch, bytes, at, &mut ()),
            (5, Some((link, epoch))) => engine.link_failed(link, epoch, Failure::Closed, at),
            (6, Some((link, epoch))) => {
                let written = engine.link_output(link, epoch).len().min(count);
                engine.link_wrote(link, epoch, written, at);
            }
            _ => {
                let written = engine.client_output(clients[0]).len().min(count);
                engine.client_wrote(clients[0], written, at);
            }
        }
        while let Some(effect) = engine.poll_effect() {
            if let Effect::Connect { link, epoch } = effect {
                links.push((link, epoch));
                engine.link_connected(link, epoch, at);
            }
        }
        while engine.poll_client().is_some() {}
        while engine.poll_link().is_some() {}
        if let Err(what) = engine.check_invariants() {
            panic!("{what} after {:?}", &data[..data.len() - rest.len()]);
        }
    }
}

fn pool() -> Pool {
    let server = |position: usize| Server {
        name: format!("s{position}"),
        ring_name: None,
        address: Address::Tcp { host: "nowhere".to_owned(), port: 1 },
        weight: 1,
        id: ServerId(0),
        position,
    };
    let listen = Listen::Unix { path: "/nowhere".into(), mode: None };
    Pool {
        timeout: Some(Duration::from_millis(400)),
        auto_eject_hosts: true,
        server_retry_timeout: Duration::from_secs(2),
        value_limit: VALUE_LIMIT,
        ..Pool::new("pool", listen, vec![server(0), server(1)])
    }
}
