//! What servers get to see of a request, and what the client gets to see of their answers.

use super::support::process::{Process, Proxy};
use super::support::script::{Case, Mock, Stage, show};
use std::time::{Duration, Instant};

const PATIENT: &[&str] = &["timeout: 20000"];

#[test]
fn requests_reach_their_servers_in_one_form_and_answers_come_back_untouched() {
    let mut stage = Stage::start(3, PATIENT);
    for case in [
        Case {
            name: "a get, with blanks and a bare line feed",
            send: b"get   <gold>1  \n",
            servers: &[(0, b"get <gold>1\r\n", b"VALUE <gold>1 7 2\r\nab\r\nEND\r\n")],
            expect: b"VALUE <gold>1 7 2\r\nab\r\nEND\r\n",
        },
        Case {
            name: "gets, gat, gats",
            send: b"gets <iron>\r\ngat 10 <gold>\r\ngats -1 <elm>\r\n",
            servers: &[
                (0, b"gat 10 <gold>\r\n", b"END\r\n"),
                (1, b"gets <iron>\r\n", b"VALUE <iron> 0 1 99\r\nx\r\nEND\r\n"),
                (2, b"gats -1 <elm>\r\n", b"VALUE <elm> 0 1 5\r\ny\r\nEND\r\n"),
            ],
            expect: b"VALUE <iron> 0 1 99\r\nx\r\nEND\r\nEND\r\nVALUE <elm> 0 1 5\r\ny\r\nEND\r\n",
        },
        Case {
            name: "storage commands, each answer its own",
            send: b"set <gold> 1 0 1\r\na\r\nadd <gold> 1 0 1\r\nb\r\nreplace <gold> 1 0 1\r\nc\r\ncas <gold> 1 0 1 42\r\nd\r\n",
            servers: &[(
                0,
                b"set <gold> 1 0 1\r\na\r\nadd <gold> 1 0 1\r\nb\r\nreplace <gold> 1 0 1\r\nc\r\ncas <gold> 1 0 1 42\r\nd\r\n",
                b"STORED\r\nNOT_STORED\r\nSTORED\r\nEXISTS\r\n",
            )],
            expect: b"STORED\r\nNOT_STORED\r\nSTORED\r\nEXISTS\r\n",
        },
        Case {
            name: "noreply is the proxy's affair: servers answer, clients do not hear of it",
            send: b"set <elm> 0 0 1 noreply\r\na\r\ndelete <elm> noreply\r\nincr <elm> 5 noreply\r\ntouch <elm> 9 noreply\r\nget <elm>\r\n",
            servers: &[(
                2,
                b"set <elm> 0 0 1\r\na\r\ndelete <elm>\r\nincr <elm> 5\r\ntouch <elm> 9\r\nget <elm>\r\n",
                b"STORED\r\nNOT_FOUND\r\nSERVER_ERROR out of memory\r\nTOUCHED\r\nEND\r\n",
            )],
            expect: b"END\r\n",
        },
        Case {
            name: "errors of a server are told in its own words",
            send: b"incr <gold> 1\r\nset <iron> 0 0 1\r\nx\r\nget <elm>\r\nincr <gold> 1\r\n",
            servers: &[
                (
                    0,
                    b"incr <gold> 1\r\nincr <gold> 1\r\n",
                    b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n12\r\n",
                ),
                (1, b"set <iron> 0 0 1\r\nx\r\n", b"SERVER_ERROR object too large for cache\r\n"),
                (2, b"get <elm>\r\n", b"SERVER_ERROR out of luck\r\n"),
            ],
            expect: b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\nSERVER_ERROR object too large for cache\r\nSERVER_ERROR out of luck\r\n12\r\n",
        },
        Case {
            name: "the last server first: answers keep the order of the requests",
            send: b"get <gold>\r\nget <iron>\r\nget <elm>\r\nmn\r\n",
            servers: &[
                (2, b"get <elm>\r\n", b"VALUE <elm> 0 1\r\n3\r\nEND\r\n"),
                (1, b"get <iron>\r\n", b"VALUE <iron> 0 1\r\n2\r\nEND\r\n"),
                (0, b"get <gold>\r\n", b"VALUE <gold> 0 1\r\n1\r\nEND\r\n"),
            ],
            expect: b"VALUE <gold> 0 1\r\n1\r\nEND\r\nVALUE <iron> 0 1\r\n2\r\nEND\r\nVALUE <elm> 0 1\r\n3\r\nEND\r\nMN\r\n",
        },
    ] {
        stage.play(&case);
    }
}

#[test]
fn a_multi_get_is_one_request_to_each_server_and_one_answer() {
    let mut stage = Stage::start(3, PATIENT);
    for case in [
        Case {
            name: "three servers, the last to be asked answers first",
            send: b"get <gold>1 <elm>1 <iron>1 <gold>2 <elm>2\r\n",
            servers: &[
                (1, b"get <iron>1\r\n", b"VALUE <iron>1 0 1\r\ni\r\nEND\r\n"),
                (2, b"get <elm>1 <elm>2\r\n", b"VALUE <elm>2 0 1\r\ne\r\nEND\r\n"),
                (0, b"get <gold>1 <gold>2\r\n", b"VALUE <gold>1 0 1\r\ng\r\nVALUE <gold>2 0 1\r\nh\r\nEND\r\n"),
            ],
            expect: b"VALUE <gold>1 0 1\r\ng\r\nVALUE <iron>1 0 1\r\ni\r\nVALUE <gold>2 0 1\r\nh\r\nVALUE <elm>2 0 1\r\ne\r\nEND\r\n",
        },
        Case {
            name: "keys asked twice are asked twice",
            send: b"gets <gold>1 <iron>1 <gold>1\r\n",
            servers: &[
                (0, b"gets <gold>1 <gold>1\r\n", b"VALUE <gold>1 0 1 8\r\ng\r\nVALUE <gold>1 0 1 8\r\ng\r\nEND\r\n"),
                (1, b"gets <iron>1\r\n", b"END\r\n"),
            ],
            expect: b"VALUE <gold>1 0 1 8\r\ng\r\nVALUE <gold>1 0 1 8\r\ng\r\nEND\r\n",
        },
        Case {
            name: "gat hands its lifetime to each server",
            send: b"gat 60 <gold>1 <iron>1\r\n",
            servers: &[
                (0, b"gat 60 <gold>1\r\n", b"VALUE <gold>1 0 1\r\ng\r\nEND\r\n"),
                (1, b"gat 60 <iron>1\r\n", b"END\r\n"),
            ],
            expect: b"VALUE <gold>1 0 1\r\ng\r\nEND\r\n",
        },
        Case {
            name: "values that look like ends",
            send: b"get <gold>1 <iron>1\r\n",
            servers: &[
                (0, b"get <gold>1\r\n", b"VALUE <gold>1 0 5\r\nEND\r\n\r\nEND\r\n"),
                (1, b"get <iron>1\r\n", b"VALUE <iron>1 0 24\r\nVALUE <iron>1 0 1\r\nx\r\n\r\n\r\nEND\r\n"),
            ],
            expect: b"VALUE <gold>1 0 5\r\nEND\r\n\r\nVALUE <iron>1 0 24\r\nVALUE <iron>1 0 1\r\nx\r\n\r\n\r\nEND\r\n",
        },
        Case {
            name: "all of one server: nothing is split",
            send: b"get <elm>1 <elm>2\r\n",
            servers: &[(2, b"get <elm>1 <elm>2\r\n", b"END\r\n")],
            expect: b"END\r\n",
        },
    ] {
        stage.play(&case);
    }
}

#[test]
fn meta_requests_are_checked_by_their_key_and_quiet_ones_are_counted() {
    let mut stage = Stage::start(3, PATIENT);
    for case in [
        Case {
            name: "the key is asked for and taken out again",
            send: b"mg <gold> v\r\nmg <iron> v k O7\r\nmg <elm> t\r\n",
            servers: &[
                (0, b"mg <gold> v k\r\n", b"VA 2 k<gold>\r\nab\r\n"),
                (1, b"mg <iron> v k O7\r\n", b"VA 1 k<iron> O7\r\nx\r\n"),
                (2, b"mg <elm> t k\r\n", b"HD t55 k<elm>\r\n"),
            ],
            expect: b"VA 2\r\nab\r\nVA 1 k<iron> O7\r\nx\r\nHD t55\r\n",
        },
        Case {
            name: "quiet requests are answered to the proxy, and told where they must be",
            send: b"mg <gold> v q\r\nms <gold> 1 q\r\nx\r\nmd <gold> q\r\nmg <gold>2 v q\r\nmn\r\n",
            servers: &[(
                0,
                b"mg <gold> v k\r\nms <gold> 1\r\nx\r\nmd <gold>\r\nmg <gold>2 v k\r\n",
                b"EN\r\nHD\r\nNF\r\nVA 1 k<gold>2\r\nz\r\n",
            )],
            expect: b"NF\r\nVA 1\r\nz\r\nMN\r\n",
        },
        Case {
            name: "a base64 key goes where the decoded one lives",
            send: b"mg PGVsbT4= b v\r\nget <elm>\r\n",
            servers: &[(
                2,
                b"mg PGVsbT4= b v k\r\nget <elm>\r\n",
                b"VA 1 kPGVsbT4= b\r\nx\r\nVALUE <elm> 0 1\r\nx\r\nEND\r\n",
            )],
            expect: b"VA 1\r\nx\r\nVALUE <elm> 0 1\r\nx\r\nEND\r\n",
        },
    ] {
        stage.play(&case);
    }
}

#[test]
fn what_concerns_all_servers_goes_to_all_and_what_is_refused_goes_to_none() {
    let mut stage = Stage::start(2, PATIENT);
    for case in [
        Case {
            name: "flush_all waits for everyone",
            send: b"flush_all\r\nflush_all 10\r\nflush_all noreply\r\nmn\r\n",
            servers: &[
                (1, b"flush_all\r\nflush_all 10\r\nflush_all\r\n", b"OK\r\nOK\r\nOK\r\n"),
                (0, b"flush_all\r\nflush_all 10\r\nflush_all\r\n", b"OK\r\nOK\r\nOK\r\n"),
            ],
            expect: b"OK\r\nOK\r\nMN\r\n",
        },
        Case {
            name: "stats are added up",
            send: b"stats\r\n",
            servers: &[
                (0, b"stats\r\n", b"STAT curr_items 3\r\nSTAT version 1.6.18\r\nEND\r\n"),
                (1, b"stats\r\n", b"STAT curr_items 4\r\nSTAT version 1.6.18\r\nEND\r\n"),
            ],
            expect: b"STAT curr_items 7\r\nSTAT version 1.6.18\r\nEND\r\n",
        },
        Case {
            name: "verbosity is told to all",
            send: b"verbosity 1\r\n",
            servers: &[(0, b"verbosity 1\r\n", b"OK\r\n"), (1, b"verbosity 1\r\n", b"OK\r\n")],
            expect: b"OK\r\n",
        },
        Case {
            name: "nothing of what is refused, not even its data block",
            send: b"set <gold> x 0 9\r\nflush_all\r\nfoo <gold>\r\nset <gold> 0 0\r\n",
            servers: &[],
            expect: b"CLIENT_ERROR bad command line format\r\nERROR\r\nERROR\r\n",
        },
    ] {
        stage.play(&case);
    }
}

#[test]
fn answers_cut_at_every_byte_are_put_together() {
    let mut stage = Stage::start(1, PATIENT);
    let requests = b"get a b\r\nset a 0 0 1\r\nx\r\nmg a v\r\nincr a 1\r\nmd a\r\ngets a\r\n";
    let received = b"get a b\r\nset a 0 0 1\r\nx\r\nmg a v k\r\nincr a 1\r\nmd a\r\ngets a\r\n";
    let answers = b"VALUE a 0 4\r\nEND\r\r\nVALUE b 0 0\r\n\r\nEND\r\nSTORED\r\nVA 3 ka\r\n\r\n\n\r\n12\r\nNF\r\nVALUE a 0 1 9\r\nx\r\nEND\r\n";
    let expected = b"VALUE a 0 4\r\nEND\r\r\nVALUE b 0 0\r\n\r\nEND\r\nSTORED\r\nVA 3\r\n\r\n\n\r\n12\r\nNF\r\nVALUE a 0 1 9\r\nx\r\nEND\r\n";
    let mut other = stage.proxy.client();
    for cut in 1..answers.len() {
        stage.client.send(requests);
        stage.servers[0].receive(received);
        stage.servers[0].answer(&answers[..cut]);
        // Something else goes through the proxy meanwhile, so that the first part is read by itself.
        assert_eq!(other.ask("mn\r\n"), "MN");
        stage.servers[0].answer(&answers[cut..]);
        let found = stage.client.read(expected.len());
        assert_eq!(show(&found), show(expected), "cut at {cut}");
        stage.check_silence("cut");
    }
}

#[test]
fn a_write_that_has_left_is_never_sent_again_and_a_read_once() {
    let mut stage = Stage::start(1, &["timeout: 20000", "on_failure: error", "server_reconnect_limit: 1000"]);
    let warm = |stage: &mut Stage| {
        stage.client.send("get warm\r\n");
        stage.servers[0].receive("get warm\r\n");
        stage.servers[0].answer("END\r\n");
        assert_eq!(stage.client.line(), "END");
    };
    for request in [
        "set a 0 0 1\r\nx\r\n",
        "append a 0 0 1\r\nx\r\n",
        "incr a 1\r\n",
        "delete a\r\n",
        "touch a 1\r\n",
        "ms a 1\r\nx\r\n",
        "ma a\r\n",
        "md a\r\n",
    ] {
        for resets in [false, true] {
            println!("{request:?}, reset: {resets}");
            warm(&mut stage);
            stage.client.send(request);
            stage.servers[0].receive(request);
            let expected = if resets {
                stage.servers[0].reset();
                "SERVER_ERROR Connection reset by peer"
            } else {
                stage.servers[0].close();
                "SERVER_ERROR Connection closed by server"
            };
            assert_eq!(stage.client.line(), expected, "{request:?}");
            // The next connection carries the next request and nothing before it.
            warm(&mut stage);
            stage.check_silence(request);
        }
    }
    warm(&mut stage);
    stage.client.send("get a\r\nget a b\r\n");
    stage.servers[0].receive("get a a b\r\n");
    stage.servers[0].close();
    stage.servers[0].receive("get a a b\r\n");
    stage.servers[0].answer("VALUE a 0 1\r\nx\r\nEND\r\n");
    assert_eq!(show(&stage.client.read(26)), "VALUE a 0 1\\r\\nx\\r\\nEND\\r\\nEND\\r\\n");
    stage.client.send("get c\r\n");
    stage.servers[0].receive("get c\r\n");
    stage.servers[0].close();
    stage.servers[0].receive("get c\r\n");
    stage.servers[0].close();
    assert_eq!(stage.client.line(), "SERVER_ERROR Connection closed by server", "sent again once, not for ever");
}

#[test]
fn a_late_answer_reaches_nobody() {
    let mut stage = Stage::start(1, &["timeout: 300", "on_failure: miss", "stall_detection: false"]);
    let asked = Instant::now();
    stage.client.send("get a\r\n");
    stage.servers[0].receive("get a\r\n");
    assert_eq!(stage.client.line(), "END", "the deadline has passed");
    assert!(asked.elapsed() < Duration::from_millis(350), "{:?}", asked.elapsed());
    let mut other = stage.proxy.client();
    stage.client.send("get b\r\n");
    stage.servers[0].receive("get b\r\n");
    other.send("get a\r\n");
    stage.servers[0].receive("get a\r\n");
    stage.servers[0].answer("VALUE a 0 4\r\nlate\r\nEND\r\n");
    stage.servers[0].answer("VALUE b 0 1\r\nb\r\nEND\r\nVALUE a 0 3\r\nnew\r\nEND\r\n");
    let found = stage.client.read_through(b"END\r\n");
    assert_eq!(show(&found), "VALUE b 0 1\\r\\nb\\r\\nEND\\r\\n");
    let found = other.read_through(b"END\r\n");
    assert_eq!(show(&found), "VALUE a 0 3\\r\\nnew\\r\\nEND\\r\\n");
    stage.check_silence("after a late answer");
}

#[test]
fn a_shift_of_the_stream_is_noticed_before_anyone_gets_a_wrong_value() {
    // The server answers twice, so that each later answer stands in the place of the one before it.
    let mut stage = Stage::start(1, &["timeout: 1000", "on_failure: miss", "join_gets: false"]);
    stage.proxy = stage.proxy.expect_log("server broke the protocol");
    stage.client.send("get a\r\nget b\r\nget c\r\n");
    stage.servers[0].receive("get a\r\nget b\r\nget c\r\n");
    stage.servers[0].answer(
        "VALUE a 0 1\r\na\r\nEND\r\nVALUE a 0 1\r\na\r\nEND\r\nVALUE b 0 1\r\nb\r\nEND\r\nVALUE c 0 1\r\nc\r\nEND\r\n",
    );
    assert_eq!(show(&stage.client.read_through(b"END\r\n")), "VALUE a 0 1\\r\\na\\r\\nEND\\r\\n");
    stage.servers[0].wait_for_close();
    // What was behind it may be asked again; whatever comes is its own.
    let mut answered = 0;
    while answered < 2 {
        let line = stage.client.line();
        assert_eq!(line, "END", "a value that nobody can vouch for");
        answered += 1;
    }
    stage.check_silence("after a shift");
}

#[test]
fn large_sets_arrive_whole_however_they_come() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &["timeout: 4000"]);
    let value =
        |seed: usize, length: usize| -> Vec<u8> { (0..length).map(|at| ((at * 31 + seed) >> 3) as u8).collect() };
    let sizes = [16_000, 17_000, 40_000, 70_000, 300_000, 900_000];
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let mut client = proxy.client();
            std::thread::spawn(move || {
                for (round, length) in sizes.iter().cycle().take(30).enumerate() {
                    let value = value(number * 100 + round, *length);
                    let mut request = format!("set big:{number} {round} 0 {length}\r\n").into_bytes();
                    request.extend_from_slice(&value);
                    request.extend_from_slice(b"\r\n");
                    // Alone and at once, in pieces, and with the next request on its heels.
                    match round % 3 {
                        0 => client.send(&request),
                        1 => request.chunks(50_000).for_each(|piece| client.send(piece)),
                        _ => client.send([&request[..], b"touch nothing 1\r\n"].concat()),
                    }
                    assert_eq!(client.line(), "STORED");
                    if round % 3 == 2 {
                        assert_eq!(client.line(), "NOT_FOUND");
                    }
                    client.send(format!("get big:{number}\r\n"));
                    assert_eq!(client.line(), format!("VALUE big:{number} {round} {length}"));
                    let mut got = client.read_through(b"\r\nEND\r\n");
                    got.truncate(*length);
                    assert!(got == value, "client {number}, round {round}");
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("a client"));
}

#[test]
fn what_a_server_does_not_take_at_once_is_written_when_it_reads() {
    let mut stage = Stage::start(1, &["timeout: 20000", "value_limit: 32mb"]);
    // A client that is alone has its requests written at once, as far as they go.
    for _ in 0..3 {
        stage.client.send("get a\r\n");
        stage.servers[0].receive("get a\r\n");
        stage.servers[0].answer("END\r\n");
        assert_eq!(stage.client.line(), "END");
    }
    let request = format!("set big 0 0 30000000\r\n{}\r\n", "v".repeat(30_000_000));
    let (sent, mut client) = (request.clone(), stage.client);
    let sender = std::thread::spawn(move || {
        client.send(sent);
        client
    });
    std::thread::sleep(Duration::from_millis(500)); // so that what is between them fills
    stage.servers[0].receive(&request);
    stage.servers[0].answer("STORED\r\n");
    assert_eq!(sender.join().expect("a client").line(), "STORED");
}

#[test]
fn a_meta_response_without_what_was_asked_reaches_nobody() {
    for (ask, sent, answer, expected) in [
        ("mg <gold> v k", "mg <gold> v k", "VA 3\r\nbad\r\n", "EN k<gold>"),
        ("mg <gold> v k", "mg <gold> v k", "VA 3 k<iron>\r\nbad\r\n", "EN k<gold>"),
        ("mg <gold> v", "mg <gold> v k", "VA 3\r\nbad\r\n", "EN"),
        ("mg <gold> v k O7", "mg <gold> v k O7", "VA 3 O7\r\nbad\r\n", "EN k<gold> O7"),
        ("mg <gold> v O7 q k", "mg <gold> v O7 k", "VA 3 k<gold>\r\nbad\r\n", ""),
        ("mg <gold> k", "mg <gold> k", "HD\r\n", "EN k<gold>"),
        ("mg <gold> s t k", "mg <gold> s t k", "HD s1 k<gold>\r\n", "EN k<gold>"),
        ("mg PGdvbGQ+ b v k", "mg PGdvbGQ+ b v k", "VA 3 kPGdvbGQ= b\r\nbad\r\n", "EN kPGdvbGQ+ b"),
        ("ma <gold> v", "ma <gold> v k", "VA 3\r\n123\r\n", "NF"),
        ("md <gold> O1", "md <gold> O1", "HD O2\r\n", "NF O1"),
    ] {
        let mut server = Mock::start();
        let proxy = Proxy::start(&[server.address()], &["timeout: 20000", "auto_eject_hosts: false"])
            .expect_log("server broke the protocol");
        let mut client = proxy.client();
        client.send(format!("{ask}\r\nmn\r\n"));
        server.receive(format!("{sent}\r\n"));
        server.answer(answer);
        server.wait_for_close();
        let found = client.read_through(b"MN\r\n");
        let line = if expected.is_empty() { String::new() } else { format!("{expected}\r\n") };
        assert_eq!(show(&found), show(format!("{line}MN\r\n").as_bytes()), "{ask}: {answer:?}");
        assert_eq!(proxy.statistics()["pool"][server.address().to_string()]["server_err"], 1);
    }
}
