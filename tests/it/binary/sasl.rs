//! Clients that have to say who they are: the binary protocol as a memcached with `-S` answers it, the text protocol as one
//! with `-Y` does.

use super::packet::{Ask, GET, GETQ, NOOP, QUIT, SET, SETQ, STAT, VERSION, told};
use crate::support::client::Client;
use crate::support::process::{Process, Proxy, free_port, scratch_dir};

const LIST: u8 = 0x20;
const AUTH: u8 = 0x21;
const STEP: u8 = 0x22;

const WRONG: u16 = 0x20;
const GO_ON: u16 = 0x21;

/// The users of these pools.
const USERS: &str = "sasl: [\"bob:secret\", 'ann:other pass']";

/// What is said of who somebody is.
fn says(opcode: u8, way: &str, said: &[u8]) -> Ask {
    Ask { value: said.to_vec(), ..Ask::new(opcode, way) }
}

fn plain(said: &[u8]) -> Ask {
    says(AUTH, "PLAIN", said)
}

fn right() -> Ask {
    plain(b"\0bob\0secret")
}

fn wrong() -> Ask {
    plain(b"\0bob\0wrong")
}

/// An answer: its opcode, its status, and the words.
type Said = (u8, u16, &'static str);

const ADMITTED: Said = (AUTH, 0, "Authenticated");
const REFUSED: Said = (AUTH, WRONG, "Auth failure.");
const VERSIONED: Said = (VERSION, 0, "1.6");
const DONE: Said = (NOOP, 0, "");

/// What a memcached 1.6.18 with `-S` answers to conversations, and whether it then ends the connection.
fn conversations() -> Vec<(&'static str, Vec<Ask>, Vec<Said>, bool)> {
    let ask = |opcode| Ask::new(opcode, "");
    let (noop, version, list) = (ask(NOOP), ask(VERSION), ask(LIST));
    let empty = || plain(b"");
    let step = |said: &[u8]| says(STEP, "PLAIN", said);
    let good = b"\0bob\0secret";
    let shut = |opcode| (opcode, WRONG, "Auth failure.");
    let invalid = |opcode| (opcode, 4, "Invalid arguments");
    let go_on = (AUTH, GO_ON, "");
    let one_answer = |what, said: Ask, answer: Said| {
        let (next, told) = if answer == ADMITTED { (ask(NOOP), DONE) } else { (ask(VERSION), VERSIONED) };
        (what, vec![said, next], vec![answer, told], false)
    };
    let ends = |what, said: Ask, answer: Said| (what, vec![said, ask(VERSION)], vec![answer], true);
    let mut lying = Ask::new(GET, "kkk");
    lying.opaque = u32::MAX; // see `bytes`
    vec![
        ("ways", vec![list.clone()], vec![(LIST, 0, "PLAIN")], false),
        ends("ways of a key", Ask::new(LIST, "x"), invalid(LIST)),
        ends("ways with a value", Ask { value: b"x".to_vec(), ..ask(LIST) }, invalid(LIST)),
        one_answer("right", right(), ADMITTED),
        one_answer("wrong", wrong(), REFUSED),
        one_answer("lower case", says(AUTH, "plain", good), ADMITTED),
        one_answer("another way", says(AUTH, "CRAM-MD5", good), REFUSED),
        one_answer("no such way", says(AUTH, &"P".repeat(32), good), REFUSED),
        one_answer("a way too long", says(AUTH, &"P".repeat(33), good), invalid(AUTH)),
        ends("a way that is no key", says(AUTH, &"P".repeat(251), good), invalid(AUTH)),
        ends("no way", says(AUTH, "", good), invalid(AUTH)),
        ends("extras", Ask { extras: vec![0; 4], ..right() }, invalid(AUTH)),
        one_answer("on behalf of oneself", plain(b"bob\0bob\0secret"), ADMITTED),
        one_answer("on behalf of somebody", plain(b"ann\0bob\0secret"), REFUSED),
        one_answer("a blank in it", plain(b"\0ann\0other pass"), ADMITTED),
        one_answer("no parts", plain(b"bobsecret"), REFUSED),
        one_answer("two parts", plain(b"\0bobsecret"), REFUSED),
        one_answer("four parts", plain(b"\0bob\0secret\0"), REFUSED),
        one_answer("nobody", plain(b"\0\0secret"), REFUSED),
        one_answer("no password", plain(b"\0bob\0"), REFUSED),
        one_answer("another's password", plain(b"\0ann\0secret"), REFUSED),
        one_answer("a stranger", plain(b"\0eve\0secret"), REFUSED),
        one_answer("a long password", plain(&[&good[..], &[b'x'; 3000]].concat()), REFUSED),
        one_answer("a longer one", plain(&[&good[..], &[b'x'; 100_000]].concat()), REFUSED),
        one_answer("the longest", plain(&[&good[..], &[b'x'; 600_000]].concat()), (AUTH, 0x82, "Out of memory")),
        ("wrong, then a get", vec![wrong(), Ask::new(GET, "k"), noop.clone()], vec![REFUSED, shut(GET)], true),
        ("wrong, then right", vec![wrong(), right(), noop.clone()], vec![REFUSED, ADMITTED, DONE], false),
        ("right, then wrong", vec![right(), wrong(), noop.clone()], vec![ADMITTED, REFUSED, shut(NOOP)], true),
        (
            "right, then ways",
            vec![right(), list.clone(), noop.clone()],
            vec![ADMITTED, (LIST, 0, "PLAIN"), shut(NOOP)],
            true,
        ),
        ("right, then a step", vec![right(), step(good), noop.clone()], vec![ADMITTED, shut(STEP), shut(NOOP)], true),
        (
            "right, then what cannot be read",
            vec![right(), says(AUTH, &"P".repeat(33), good), noop.clone()],
            vec![ADMITTED, invalid(AUTH), DONE],
            false,
        ),
        one_answer("a step alone", step(good), shut(STEP)),
        one_answer("nothing", empty(), go_on),
        (
            "nothing, then a step",
            vec![empty(), step(good), noop.clone()],
            vec![go_on, (STEP, 0, "Authenticated"), DONE],
            false,
        ),
        (
            "steps until one is right",
            vec![empty(), step(b""), step(b"\0bob\0wrong"), step(good), noop.clone()],
            vec![go_on, shut(STEP), shut(STEP), (STEP, 0, "Authenticated"), DONE],
            false,
        ),
        (
            "a step behind the last",
            vec![empty(), step(good), step(good), noop.clone()],
            vec![go_on, (STEP, 0, "Authenticated"), shut(STEP), shut(NOOP)],
            true,
        ),
        (
            "ways in between",
            vec![empty(), list, says(STEP, "X", good), noop.clone()],
            vec![go_on, (LIST, 0, "PLAIN"), (STEP, 0, "Authenticated"), DONE],
            false,
        ),
        (
            "wrong after nothing",
            vec![empty(), wrong(), step(good), version.clone()],
            vec![go_on, REFUSED, shut(STEP), VERSIONED],
            false,
        ),
        ("versions", vec![version.clone(), version], vec![VERSIONED, VERSIONED], false),
        ends("a version with a key", Ask::new(VERSION, "k"), invalid(VERSION)),
        ends("a get", Ask::new(GET, "k"), shut(GET)),
        ends("a quiet get", Ask::new(GETQ, "k"), shut(GETQ)),
        ends("a set", Ask::store(SET, "k", "v"), shut(SET)),
        ends("a quiet set", Ask::store(SETQ, "k", "v"), shut(SETQ)),
        ends("a no-op", noop, shut(NOOP)),
        ends("statistics", ask(STAT), shut(STAT)),
        ends("quit", ask(QUIT), shut(QUIT)),
        ends("a quiet quit", ask(0x17), shut(0x17)),
        ends("what nobody knows", ask(0x99), shut(0x99)),
        ends("a key that is too long", Ask::new(GET, "k".repeat(300)), shut(GET)),
        ends("a key longer than its request", lying, (GET, 0x81, "Unknown command")),
    ]
}

fn bytes(asks: &[Ask]) -> Vec<u8> {
    let one = |ask: &Ask| {
        let mut bytes = ask.bytes();
        if ask.opaque == u32::MAX {
            bytes[11] = 1;
        }
        bytes
    };
    asks.iter().flat_map(one).collect()
}

#[test]
fn who_has_not_said_who_it_is_is_answered_as_by_a_memcached_that_asks() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &["timeout: 4000", USERS]).expect_log("no user and password");
    assert_eq!(server.client().ask("set k 0 0 1\r\nv\r\n"), "STORED");
    for in_one in [true, false] {
        for (what, asks, wanted, ends) in conversations() {
            let mut client = proxy.client();
            let bytes = bytes(&asks);
            if in_one {
                client.send(&bytes);
            } else {
                // Cut wherever something could be lost.
                // (Whom it hangs up on may not send any more.)
                let (first, rest) = bytes.split_at(bytes.len().min(if ends { 20 } else { 60 }));
                first.iter().for_each(|byte| client.send([*byte]));
                client.send(rest);
            }
            for (opcode, status, words) in wanted {
                let got = told(&mut client);
                assert_eq!((got.opcode, got.status, got.cas), (opcode, status, 0), "{what}: {got:?}");
                let said = String::from_utf8_lossy(&got.value);
                assert!(said == words || (opcode == VERSION && said.starts_with(words)), "{what}: {said}");
                assert!(got.key.is_empty() && got.extras.is_empty(), "{what}");
            }
            if ends {
                assert!(client.is_closed(), "{what}: the connection goes on");
            } else {
                let goes_on = Ask::new(VERSION, "").opaque(77);
                client.send(goes_on.bytes());
                assert_eq!(told(&mut client).opaque, 77, "{what}");
            }
        }
    }
    assert_eq!(server.client().ask("get k\r\n"), "VALUE k 0 1", "nothing was set, and nothing flushed");
    assert!(proxy.statistics()["pool"]["auth_failures"].as_u64() > Some(20));
}

#[test]
fn a_pool_that_does_not_ask_knows_no_way_to_say_it() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &["timeout: 4000"]);
    let (mut here, mut there) = (proxy.client(), server.client());
    for ask in [Ask::new(LIST, ""), right(), says(STEP, "PLAIN", b"x"), Ask::new(NOOP, "")] {
        let tell = |client: &mut Client| {
            client.send(ask.bytes());
            told(client)
        };
        assert_eq!(tell(&mut here), tell(&mut there), "{ask:?}");
    }
}

#[test]
fn text_clients_say_who_they_are_as_to_a_memcached_that_asks() {
    let (server, users) = (Process::memcached(), scratch_dir().join("users"));
    std::fs::write(&users, "bob:secret\nann:other pass\n").expect("write");
    let users = users.display().to_string();
    let asking = Process::memcached_with(free_port(), &["-Y", &users], std::process::Stdio::null());
    let proxy = Proxy::start(&[server.address], &["timeout: 4000", &format!("sasl: {users}")])
        .expect_log("no user and password");
    let right = "set x 0 0 10\r\nbob secret\r\n";
    let long = format!("set x 0 0 1004\r\nbob {}\r\n", "p".repeat(1000));
    let spacious = format!("get{}\r\n", " k".repeat(900));
    for request in [
        "get k\r\n",
        "version\r\n",
        "quit\r\n",
        "\r\n",
        "mg k v\r\n",
        "SET x 0 0 10\r\n",
        "set x 0 0\r\n",
        "set x 0 0 -1\r\n",
        "set x 0 0 10x\r\n",
        "set x 0 0 9\r\nbob wrong\r\n",
        "set x 0 0 10\r\neve secret\r\n",
        "set x 0 0 10\r\nann secret\r\n",
        "set x 0 0 14\r\nann other pass\r\n",
        "set x 0 0 10\r\nbob:secret\r\n",
        "set x 0 0 3\r\nbob\r\n",
        "set x 0 0 0\r\n\r\n",
        "set x 0 0 8\r\nbob secret",
        &long,
        &spacious,
        right,
        "set x 0 0 +10 noreply\r\nbob secret\r\n",
        "set  x y z 12 a b c\n bob  secret\r\n",
        "set x 0 0 12\r\nbob secret x\r\n",
    ] {
        let answers = [asking.client(), proxy.client()].map(|mut client| {
            let first = client.ask(request);
            // Of what is behind it in one piece, a memcached loses the first of two refusals.
            (first, client.ask("get none\r\n"))
        });
        assert_eq!(answers[0], answers[1], "{request:?}");
    }
    // One after the other in one piece, and what follows is for the servers.
    let mut client = proxy.client();
    client.send(format!("get k\r\nset x 0 0 9\r\nbob wrong\r\n{right}set k 0 0 1\r\nv\r\nget k\r\n"));
    for line in [
        "CLIENT_ERROR unauthenticated",
        "CLIENT_ERROR authentication failure",
        "STORED",
        "STORED",
        "VALUE k 0 1",
        "v",
        "END",
    ] {
        assert_eq!(client.line(), line);
    }
    // Then it is a key as any other.
    assert_eq!(client.ask(right), "STORED");
    assert_eq!((client.ask("get x\r\n"), client.line()), ("VALUE x 0 10".into(), "bob secret".into()));
    let mut slow = proxy.client();
    right.bytes().for_each(|byte| slow.send([byte]));
    assert_eq!(slow.line(), "STORED");
    // What does not end, and who does not end.
    let mut endless = proxy.client();
    endless.send("x".repeat(3000));
    assert!(endless.is_closed());
    let mut loud = proxy.client();
    loud.send("x\n".repeat(20_000));
    assert!(loud.read(100).starts_with(b"CLIENT_ERROR unauthenticated\r\n"));
    loud.read_through(b"CLIENT_ERROR unauthenticated\r\n");
    assert_eq!(proxy.client().ask("version\r\n"), "CLIENT_ERROR unauthenticated");
}
