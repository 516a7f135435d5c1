//! What each command answers, malformed ones included; each case also cut in two at every byte.

use super::support::client::Client;
use super::support::process::{Process, Proxy};

struct Case {
    name: &'static str,
    send: &'static [u8],
    expect: &'static [u8],
}

const fn case(name: &'static str, send: &'static [u8], expect: &'static [u8]) -> Case {
    Case { name, send, expect }
}

/// Each case starts with no items, and ends with a connection that still answers.
const CASES: &[Case] = &[
    case("set and get", b"set a 5 0 3\r\nabc\r\nget a\r\n", b"STORED\r\nVALUE a 5 3\r\nabc\r\nEND\r\n"),
    case("a value with line ends in it", b"set a 0 0 8\r\nx\r\nEND\r\n\r\nget a\r\n", b"STORED\r\nVALUE a 0 8\r\nx\r\nEND\r\n\r\nEND\r\n"),
    case("an empty value", b"set a 0 0 0\r\n\r\nget a\r\n", b"STORED\r\nVALUE a 0 0\r\n\r\nEND\r\n"),
    case("misses", b"get a\r\ngets a\r\ngat 0 a\r\ngats 0 a b\r\n", b"END\r\nEND\r\nEND\r\nEND\r\n"),
    case(
        "several keys in the order of the request, repeated ones repeated",
        b"set a 0 0 1\r\n1\r\nset b 0 0 1\r\n2\r\nset c 0 0 1\r\n3\r\nget c x a b a\r\n",
        b"STORED\r\nSTORED\r\nSTORED\r\nVALUE c 0 1\r\n3\r\nVALUE a 0 1\r\n1\r\nVALUE b 0 1\r\n2\r\nVALUE a 0 1\r\n1\r\nEND\r\n",
    ),
    case("add, replace", b"replace a 0 0 1\r\n1\r\nadd a 0 0 1\r\n1\r\nadd a 0 0 1\r\n2\r\nreplace a 0 0 1\r\n3\r\nget a\r\n",
        b"NOT_STORED\r\nSTORED\r\nNOT_STORED\r\nSTORED\r\nVALUE a 0 1\r\n3\r\nEND\r\n"),
    case("append, prepend", b"append a 0 0 1\r\nx\r\nset a 0 0 1\r\nm\r\nappend a 0 0 1\r\nz\r\nprepend a 0 0 1\r\na\r\nget a\r\n",
        b"NOT_STORED\r\nSTORED\r\nSTORED\r\nSTORED\r\nVALUE a 0 3\r\namz\r\nEND\r\n"),
    case("cas of what is not there", b"cas a 0 0 1 7\r\nx\r\n", b"NOT_FOUND\r\n"),
    case("delete", b"delete a\r\nset a 0 0 1\r\nx\r\ndelete a\r\nset a 0 0 1\r\nx\r\ndelete a 0\r\ndelete a 5\r\n",
        b"NOT_FOUND\r\nSTORED\r\nDELETED\r\nSTORED\r\nDELETED\r\nCLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n"),
    case("incr, decr", b"incr a 1\r\nset a 0 0 2\r\n10\r\nincr a 5\r\ndecr a 20\r\nincr a x\r\n",
        b"NOT_FOUND\r\nSTORED\r\n15\r\n0\r\nCLIENT_ERROR invalid numeric delta argument\r\n"),
    case("incr of a word", b"set a 0 0 1\r\nx\r\nincr a 1\r\n", b"STORED\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\n"),
    case("touch", b"touch a 0\r\nset a 0 0 1\r\nx\r\ntouch a 0\r\ntouch a x\r\n",
        b"NOT_FOUND\r\nSTORED\r\nTOUCHED\r\nCLIENT_ERROR invalid exptime argument\r\n"),
    case("gat with a lifetime", b"set a 0 0 1\r\nx\r\ngat 100 a\r\ngat x a\r\ngat 5\r\n",
        b"STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\nCLIENT_ERROR invalid exptime argument\r\nEND\r\n"),
    case("a negative lifetime expires at once", b"set a 0 -1 1\r\nx\r\nget a\r\n", b"STORED\r\nEND\r\n"),
    case("a lifetime of 32 bits is one of -1", b"set a 0 4294967295 1\r\nx\r\nget a\r\n", b"STORED\r\nEND\r\n"),
    case("noreply is silent", b"set a 0 0 1 noreply\r\nx\r\nadd a 0 0 1 noreply\r\ny\r\nappend a 0 0 1 noreply\r\nz\r\nincr b 1 noreply\r\ntouch a 0 noreply\r\nget a\r\ndelete a noreply\r\nget a\r\n",
        b"VALUE a 0 2\r\nxz\r\nEND\r\nEND\r\n"),
    case("errors of noreply commands are silent", b"set a 0 0 x noreply\r\nincr a x noreply\r\ntouch a x noreply\r\ndelete a b noreply\r\nget a\r\n", b"END\r\n"),
    case("verbosity", b"verbosity 1\r\nverbosity\r\nverbosity x\r\nverbosity 1 noreply\r\n", b"OK\r\nERROR\r\nCLIENT_ERROR bad command line format\r\n"),
    case("flush_all", b"set a 0 0 1\r\nx\r\nflush_all\r\nget a\r\nflush_all 0\r\nflush_all noreply\r\nflush_all 0 noreply\r\nflush_all x\r\nflush_all \r\n",
        b"STORED\r\nOK\r\nEND\r\nOK\r\nCLIENT_ERROR invalid exptime argument\r\nOK\r\n"),
    case("unknown commands", b"foo\r\nGET a\r\nSET a 0 0 1\r\nx\r\n\r\nm\r\nmz a\r\n", b"ERROR\r\nERROR\r\nERROR\r\nERROR\r\nERROR\r\nERROR\r\nERROR\r\n"),
    case("too few words", b"get\r\nset a 0 0\r\nincr a\r\ntouch a\r\ndelete\r\ngat\r\ncas a 0 0 1\r\n",
        b"ERROR\r\nERROR\r\nERROR\r\nERROR\r\nERROR\r\nERROR\r\nERROR\r\n"),
    case("blanks and bare line feeds", b"  get   a  \nset a 0 0 1 \r\nx\r\n get a\n", b"END\r\nSTORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n"),
    case("commands for one server", b"shutdown\r\nwatch\r\ncache_memlimit 64\r\nlru_crawler crawl all\r\nslabs reassign 1 2\r\n",
        b"ERROR: shutdown not enabled\r\nCLIENT_ERROR watch commands not allowed\r\nCLIENT_ERROR cache_memlimit not allowed through a proxy\r\nCLIENT_ERROR not allowed through a proxy, ask the server itself\r\nCLIENT_ERROR not allowed through a proxy, ask the server itself\r\n"),
    case("a byte count that is none", b"set a 0 0 -1\r\nset a 0 0 x\r\nset a 0 0 99999999999\r\nget a\r\n",
        b"CLIENT_ERROR bad command line format\r\nCLIENT_ERROR bad command line format\r\nCLIENT_ERROR bad command line format\r\nEND\r\n"),
    // From here on, memcached would run what stands in the data block.
    case("bad flags: the block is swallowed", b"set a x 0 9\r\nflush_all\r\nset a 4294967296 0 9\r\nflush_all\r\nget a\r\n",
        b"CLIENT_ERROR bad command line format\r\nCLIENT_ERROR bad command line format\r\nEND\r\n"),
    case("a bad lifetime: the block is swallowed", b"set a 0 x 9\r\nflush_all\r\nget a\r\n", b"CLIENT_ERROR bad command line format\r\nEND\r\n"),
    case("a block without its end: the rest of the line is swallowed", b"set a 0 0 3\r\nabcdeflush_all\r\nget a\r\n", b"CLIENT_ERROR bad data chunk\r\nEND\r\n"),
    case("a block that ends with a bare line feed", b"set a 0 0 3\r\nabc\nget a\r\n", b"CLIENT_ERROR bad data chunk\r\nEND\r\n"),
    case("bytes in keys that would end a line stay here", b"get a\x00b\r\nget a\rb\r\nget a\r\r\nset a\x00 0 0 1\r\nx\r\ndelete a\x00b\r\nincr a\rb 1\r\nmg a\x00b v\r\nmg a v O\x00\r\nget b \r a\r\nget a\r\n",
        b"CLIENT_ERROR bad command line format\r\nCLIENT_ERROR bad command line format\r\nCLIENT_ERROR bad command line format\r\nCLIENT_ERROR bad command line format\r\nCLIENT_ERROR bad command line format\r\nCLIENT_ERROR bad command line format\r\nCLIENT_ERROR bad command line format\r\nCLIENT_ERROR bad command line format\r\nCLIENT_ERROR bad command line format\r\nEND\r\n"),
    case("all other bytes are a key's", b"set \t\x01 0 0 1\r\nx\r\nget \x7f \t\x01 a\r\nmg \t\x01 k v O\x02\t\r\nmg CQE= b k v\r\nme \x7f\r\ndelete \t\x01\r\n",
        b"STORED\r\nVALUE \t\x01 0 1\r\nx\r\nEND\r\nVA 1 k\t\x01 O\x02\t\r\nx\r\nVA 1 k\t\x01\r\nx\r\nEN\r\nDELETED\r\n"),
    case("meta: set, get, flags", b"ms a 3 F7\r\nabc\r\nmg a v\r\nmg a\r\nmg a s v f k O9\r\nmg a k\r\n",
        b"HD\r\nVA 3\r\nabc\r\nHD\r\nVA 3 s3 f7 ka O9\r\nabc\r\nHD ka\r\n"),
    case("meta: misses", b"mg a v\r\nmg a k O1\r\nmd a\r\nma a\r\nmg a v q\r\nme a\r\nmn\r\n", b"EN\r\nEN ka O1\r\nNF\r\nNF\r\nEN\r\nMN\r\n"),
    case("meta: modes", b"ms a 1 MR\r\nx\r\nms a 1 ME\r\nx\r\nms a 1 ME\r\ny\r\nms a 1 MA\r\ny\r\nmg a v\r\nms a 1 Mq\r\nx\r\n",
        b"NS\r\nHD\r\nNS\r\nHD\r\nVA 2\r\nxy\r\nCLIENT_ERROR invalid mode for ms M token\r\n"),
    case("meta: quiet", b"ms a 1 q\r\nx\r\nmg a v q\r\nmd a q\r\nmd a q\r\nmg a v q\r\nmn\r\n", b"VA 1\r\nx\r\nNF\r\nMN\r\n"),
    case("meta: counters", b"ms n 1\r\n5\r\nma n v\r\nma n v D10\r\nma n MD\r\nmg n v\r\nma n q\r\nma n v q\r\nmn\r\n",
        b"HD\r\nVA 1\r\n6\r\nVA 2\r\n16\r\nHD\r\nVA 2\r\n15\r\nMN\r\n"),
    case("meta: base64 keys", b"ms Zm9v 3 b\r\nabc\r\nget foo\r\nmg Zm9v b v k\r\nmg foo v k\r\nmg foo v\r\nmg !!! b v\r\n",
        b"HD\r\nVALUE foo 0 3\r\nabc\r\nEND\r\nVA 3 kZm9v b\r\nabc\r\nVA 3 kZm9v b\r\nabc\r\nVA 3\r\nabc\r\nCLIENT_ERROR error decoding key\r\n"),
    case("meta: malformed", b"mg\r\nmd\r\nma\r\nms\r\nms a\r\nms a x\r\nms a -1\r\nmg a v v\r\nmd a q q\r\nmg a ?\r\n",
        b"ERROR\r\nERROR\r\nERROR\r\nERROR\r\nCLIENT_ERROR bad command line format\r\nCLIENT_ERROR bad command line format\r\nCLIENT_ERROR bad command line format\r\nCLIENT_ERROR duplicate flag\r\nCLIENT_ERROR invalid or duplicate flag\r\nCLIENT_ERROR invalid flag\r\n"),
    case("meta: a refused set is swallowed", b"ms a 9 k k\r\nflush_all\r\nms a 9 ?\r\nflush_all\r\nms a 3\r\nabcd\r\nmn\r\n",
        b"CLIENT_ERROR duplicate flag\r\nCLIENT_ERROR invalid flag\r\nCLIENT_ERROR bad data chunk\r\nMN\r\n"),
    case("stats words", b"stats reset\r\nstats detail off\r\nstats detail x\r\nstats nonsense\r\nstats cachedump 1\r\nstats cachedump x 1\r\nstats cachedump 99 0\r\n",
        b"RESET\r\nOK\r\nCLIENT_ERROR usage: stats detail on|off|dump\r\nERROR\r\nCLIENT_ERROR bad command line\r\nCLIENT_ERROR bad command line format\r\nCLIENT_ERROR Illegal slab id\r\n"),
];

fn clean(client: &mut Client) {
    assert_eq!(client.ask("flush_all\r\n"), "OK");
}

fn check(case: &Case, client: &Client, found: &[u8]) {
    assert_eq!(
        String::from_utf8_lossy(found),
        String::from_utf8_lossy(case.expect),
        "{}: sent {:?}",
        case.name,
        String::from_utf8_lossy(case.send)
    );
    assert!(client.rest().is_empty(), "{}: stray bytes {:?}", case.name, client.rest());
}

fn all_cases(servers: usize) {
    let servers: Vec<_> = (0..servers).map(|_| Process::memcached()).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let proxy = Proxy::start(&addresses, &["timeout: 20000"]);
    let mut client = proxy.client();
    for case in CASES {
        clean(&mut client);
        let found = client.exchange(case.send);
        check(case, &client, &found);
    }
    for case in CASES {
        for cut in 1..case.send.len() {
            clean(&mut client);
            client.send(&case.send[..cut]);
            // The first part has to be read by itself: something small goes through another connection meanwhile.
            proxy.client().ask("mn\r\n");
            let found = client.exchange(&case.send[cut..]);
            check(case, &client, &found);
        }
    }
}

#[test]
fn every_case_through_one_server_whole_and_cut_at_every_byte() {
    all_cases(1);
}

#[test]
fn every_case_through_three_servers_whole_and_cut_at_every_byte() {
    all_cases(3);
}

/// Hashes and packed numbers: what memcached stores under keys of any bytes is stored, and found, under the same ones.
#[test]
fn keys_of_any_bytes_are_a_memcacheds_in_every_command() {
    let direct = Process::memcached();
    let servers = [Process::memcached(), Process::memcached(), Process::memcached()];
    let proxy = Proxy::start(&servers.each_ref().map(|server| server.address), &["timeout: 20000"]);
    let (mut plain, mut proxied) = (direct.client(), proxy.client());
    let bytes = (1..=u8::MAX).filter(|byte| !matches!(byte, b'\r' | b'\n' | b' '));
    let (mut all, mut keys) = (Vec::new(), 0);
    for byte in bytes {
        for key in [&[byte][..], &[b'a', byte, b'b'], &[byte; 250]] {
            all.extend_from_slice(&every_command(key));
            keys += 1;
        }
    }
    let (expected, found) = (plain.exchange(&all), proxied.exchange(&all));
    for (line, (expected, found)) in expected.split(|b| *b == b'\n').zip(found.split(|b| *b == b'\n')).enumerate() {
        assert_eq!(expected.escape_ascii().to_string(), found.escape_ascii().to_string(), "line {line}");
    }
    assert_eq!(expected.len(), found.len());
    assert_eq!(memchr::memmem::find_iter(&found, b"TOUCHED").count(), keys, "no key is refused");
}

/// Each command once, with `key`; answers do not depend on what other keys there are.
fn every_command(key: &[u8]) -> Vec<u8> {
    let lines: [&[u8]; 24] = [
        b"set K 1 0 2\r\n10",
        b"add K 1 0 2\r\n11",
        b"replace K 1 0 2\r\n12",
        b"append K 1 0 1\r\n3",
        b"prepend K 1 0 1\r\n4",
        b"get K",
        b"get missing K other K",
        b"gat 100 K",
        b"touch K 0",
        b"incr K 7",
        b"decr K 1",
        b"cas K 1 0 1 18446744073709551615\r\n1",
        b"mg K v k f s",
        b"ms K 2 k MS\r\n30",
        b"ma K k v",
        b"ma K k N0 J5 O\x01\t",
        b"mg K k v t",
        b"md K k O7",
        b"mg K k",
        b"me K",
        b"delete K",
        b"set K 0 0 1 noreply\r\n1",
        b"delete K noreply",
        b"get K",
    ];
    let with_key = |line: &&[u8]| {
        let parts: Vec<&[u8]> = line.split(|byte| *byte == b'K').collect();
        [&parts.join(key)[..], b"\r\n"].concat()
    };
    lines.iter().flat_map(with_key).collect()
}

#[test]
fn keys_of_250_bytes_pass_and_longer_ones_are_refused() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &[]);
    let mut client = proxy.client();
    let (good, bad) = ("k".repeat(250), "k".repeat(251));
    assert_eq!(client.ask(format!("set {good} 0 0 1\r\nx\r\n")), "STORED");
    assert_eq!(client.ask(format!("set {bad} 0 0 9\r\nflush_all\r\n")), "CLIENT_ERROR bad command line format");
    assert_eq!(client.ask(format!("get a {bad} b\r\n")), "CLIENT_ERROR bad command line format");
    assert_eq!(client.ask(format!("ms {bad} 9\r\nflush_all\r\n")), "CLIENT_ERROR bad command line format");
    assert_eq!(
        client.exchange(format!("get {good}\r\n").as_bytes()),
        format!("VALUE {good} 0 1\r\nx\r\nEND\r\n").as_bytes()
    );
}

#[test]
fn values_pass_up_to_what_the_server_takes_and_refusals_leave_the_connection_alone() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &["value_limit: 4mb"]);
    let mut client = proxy.client();
    let big = "x".repeat(1_000_000);
    assert_eq!(client.ask(format!("set a 0 0 {}\r\n{big}\r\n", big.len())), "STORED");
    assert_eq!(client.exchange(b"get a\r\n").len(), "VALUE a 0 1000000\r\n".len() + big.len() + 2 + 5);
    // Too large for the server, and too large for the proxy.
    for len in [2_000_000, 5_000_000] {
        let request = format!("set a 0 0 {len}\r\n{}\r\n", "y".repeat(len));
        assert_eq!(client.ask(request), "SERVER_ERROR object too large for cache");
        assert_eq!(client.ask("mn\r\n"), "MN");
    }
}

#[test]
fn what_is_no_text_gets_an_error_and_a_close() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &[]);
    // The beginning of TLS, and of the binary protocol where text was spoken before.
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00\x01"[..], b"mn\r\n\x80\x00\x00\x01\x00\x00\x00\x00"] {
        let mut client = proxy.client();
        client.send(bytes);
        if bytes.starts_with(b"mn") {
            assert_eq!(client.line(), "MN");
        }
        assert_eq!(client.line(), "ERROR");
        assert!(client.is_closed());
    }
    let mut client = proxy.client();
    client.send("set a 0 0 1\r\nx\r\nquit\r\nget a\r\n");
    assert_eq!(client.line(), "STORED");
    assert!(client.is_closed());
    assert!(client.rest().is_empty(), "behind a quit nothing is answered");
}

#[test]
fn an_endless_line_is_refused_without_being_kept() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &[]);
    let mut client = proxy.client();
    client.send("set ".to_owned() + &"x".repeat(20_000_000) + "\r\nmn\r\n");
    assert_eq!(client.line(), "CLIENT_ERROR line too long");
    assert_eq!(client.line(), "MN");
    assert!(proxy.resident() < 64 << 20, "{} bytes resident", proxy.resident());
}

#[test]
fn a_line_of_2048_bytes_that_does_not_end_is_refused_unless_it_lists_keys() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &[]);
    let line = |start: &str, len: usize| format!("{start}{}", "x".repeat(len - start.len()));
    for start in ["set ", "mg ", "delete ", "x", "stats ", "version "] {
        let mut client = proxy.client();
        client.send(line(start, 2048));
        client.send("x");
        assert_eq!(client.line(), "CLIENT_ERROR line too long", "{start:?}, without its end");
        client.send("\r\nmn\r\n");
        assert_eq!(client.line(), "MN", "what comes behind its end is read as ever");
    }
    let mut client = proxy.client();
    client.send(line("version ", 2048));
    client.send("\r\n");
    assert_eq!(client.line(), "VERSION 1.6.18", "so long a line may be");
    for start in ["get", "gets", "gat 0", "gats 0"] {
        let keys: String = (0..1000).map(|number| format!(" key:{number}")).collect();
        for part in [start.as_bytes(), &keys.as_bytes()[..3000], &keys.as_bytes()[3000..], b"\r\n"] {
            client.send(part);
            assert_eq!(proxy.client().ask("mn\r\n"), "MN"); // the part has been read by itself
        }
        assert_eq!(client.line(), "END", "{start}");
    }
}
