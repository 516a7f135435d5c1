//! Gets that wait for the same server go out in one line, and each gets what is its own.

use super::support::script::{Case, Stage, show};

const PATIENT: &[&str] = &["timeout: 20000", "server_failure_limit: 100", "on_failure: miss"];

/// A line of gets, what its server answers, and what the client must see.
const CASES: &[(&str, &str, &str, &str, &str)] = &[
    (
        "all are there",
        "get a\r\nget b\r\nget c\r\n",
        "get a b c\r\n",
        "VALUE a 0 1\r\n1\r\nVALUE b 5 2\r\n22\r\nVALUE c 0 0\r\n\r\nEND\r\n",
        "VALUE a 0 1\r\n1\r\nEND\r\nVALUE b 5 2\r\n22\r\nEND\r\nVALUE c 0 0\r\n\r\nEND\r\n",
    ),
    (
        "only the one in the middle",
        "get a\r\nget b\r\nget c\r\n",
        "get a b c\r\n",
        "VALUE b 0 1\r\n2\r\nEND\r\n",
        "END\r\nVALUE b 0 1\r\n2\r\nEND\r\nEND\r\n",
    ),
    (
        "only the last",
        "get a\r\nget b\r\n",
        "get a b\r\n",
        "VALUE b 0 1\r\n2\r\nEND\r\n",
        "END\r\nVALUE b 0 1\r\n2\r\nEND\r\n",
    ),
    ("none", "get a\r\nget b\r\n", "get a b\r\n", "END\r\n", "END\r\nEND\r\n"),
    (
        "the same key for each who asks",
        "get a\r\nget a\r\nget b\r\nget a\r\n",
        "get a a b a\r\n",
        "VALUE a 0 1\r\n1\r\nVALUE a 0 1\r\n1\r\nVALUE a 0 1\r\n1\r\nEND\r\n",
        "VALUE a 0 1\r\n1\r\nEND\r\nVALUE a 0 1\r\n1\r\nEND\r\nEND\r\nVALUE a 0 1\r\n1\r\nEND\r\n",
    ),
    (
        "multi-gets and single ones",
        "get a b\r\nget c\r\nget d e f\r\n",
        "get a b c d e f\r\n",
        "VALUE b 0 1\r\n2\r\nVALUE d 0 1\r\n4\r\nVALUE f 0 1\r\n6\r\nEND\r\n",
        "VALUE b 0 1\r\n2\r\nEND\r\nEND\r\nVALUE d 0 1\r\n4\r\nVALUE f 0 1\r\n6\r\nEND\r\n",
    ),
    (
        "with and without the version are asked apart",
        "get a\r\ngets b\r\ngets c\r\nget d\r\n",
        "get a\r\ngets b c\r\nget d\r\n",
        "END\r\nVALUE b 0 1 7\r\n2\r\nVALUE c 0 1 8\r\n3\r\nEND\r\nEND\r\n",
        "END\r\nVALUE b 0 1 7\r\n2\r\nEND\r\nVALUE c 0 1 8\r\n3\r\nEND\r\nEND\r\n",
    ),
    (
        "what is between them keeps its place",
        "get a\r\nset a 0 0 1\r\n9\r\nget a\r\nget a\r\ngat 5 a\r\nget a\r\n",
        "get a\r\nset a 0 0 1\r\n9\r\nget a a\r\ngat 5 a\r\nget a\r\n",
        "END\r\nSTORED\r\nVALUE a 0 1\r\n9\r\nVALUE a 0 1\r\n9\r\nEND\r\nEND\r\nEND\r\n",
        "END\r\nSTORED\r\nVALUE a 0 1\r\n9\r\nEND\r\nVALUE a 0 1\r\n9\r\nEND\r\nEND\r\nEND\r\n",
    ),
    (
        "an error is told to all that wait for the rest of the line",
        "get a\r\nget b\r\nget c\r\n",
        "get a b c\r\n",
        "VALUE a 0 1\r\n1\r\nSERVER_ERROR out of luck\r\n",
        "VALUE a 0 1\r\n1\r\nEND\r\nSERVER_ERROR out of luck\r\nSERVER_ERROR out of luck\r\n",
    ),
];

#[test]
fn each_request_of_a_line_gets_what_is_its_own() {
    let mut stage = Stage::start(1, PATIENT);
    for (name, send, receive, answer, expect) in CASES {
        let servers = [(0, receive.as_bytes(), answer.as_bytes())];
        stage.play(&Case { name, send: send.as_bytes(), servers: &servers, expect: expect.as_bytes() });
    }
}

#[test]
fn answers_to_a_line_are_taken_whole_however_they_are_cut() {
    let mut stage = Stage::start(1, PATIENT);
    let mut other = stage.proxy.client();
    for (name, send, receive, answer, expect) in CASES {
        for cut in 1..answer.len() {
            stage.client.send(send);
            stage.servers[0].receive(receive);
            stage.servers[0].answer(&answer[..cut]);
            assert_eq!(other.ask("mn\r\n"), "MN"); // meanwhile the first part is read by itself
            stage.servers[0].answer(&answer[cut..]);
            let found = stage.client.read(expect.len());
            assert_eq!(show(&found), show(expect.as_bytes()), "{name}, cut at {cut}");
        }
    }
    stage.check_silence("at the end");
}

#[test]
fn a_value_that_no_request_of_the_line_asked_for_reaches_nobody() {
    for (answer, expect) in [
        ("VALUE x 0 1\r\n1\r\nEND\r\n", "END\r\nEND\r\nEND\r\n"),
        ("VALUE b 0 1\r\n2\r\nVALUE a 0 1\r\n1\r\nEND\r\n", "END\r\nVALUE b 0 1\r\n2\r\nEND\r\nEND\r\n"),
    ] {
        let mut stage = Stage::start(1, PATIENT);
        stage.proxy = stage.proxy.expect_log("server broke the protocol");
        stage.client.send("get a\r\nget b\r\nget c\r\n");
        stage.servers[0].receive("get a b c\r\n");
        stage.servers[0].answer(answer);
        stage.servers[0].wait_for_close();
        assert_eq!(show(&stage.client.read(expect.len())), show(expect.as_bytes()));
    }
}

#[test]
fn what_a_server_did_not_live_to_answer_is_asked_again() {
    let mut stage = Stage::start(1, PATIENT);
    stage.client.send("get a\r\nget b c\r\nget d\r\n");
    stage.servers[0].receive("get a b c d\r\n");
    stage.servers[0].answer("VALUE a 0 1\r\n1\r\nVALUE c 0 1\r\n3\r\n");
    assert_eq!(show(&stage.client.read_through(b"END\r\n")), "VALUE a 0 1\\r\\n1\\r\\nEND\\r\\n");
    stage.servers[0].close();
    // The second request has begun to be answered, so it is given what there is; the third has not.
    stage.servers[0].receive("get d\r\n");
    stage.servers[0].answer("VALUE d 0 1\r\n4\r\nEND\r\n");
    let found = stage.client.read(42);
    assert_eq!(show(&found), "VALUE c 0 1\\r\\n3\\r\\nEND\\r\\nVALUE d 0 1\\r\\n4\\r\\nEND\\r\\n");
    stage.check_silence("after a death");
}

#[test]
fn a_request_whose_last_value_has_come_does_not_wait_for_the_rest_of_the_line() {
    let mut stage = Stage::start(1, PATIENT);
    stage.client.send("get a b\r\nget c\r\n");
    stage.servers[0].receive("get a b c\r\n");
    stage.servers[0].answer("VALUE b 0 1\r\n2\r\n");
    assert_eq!(show(&stage.client.read_through(b"END\r\n")), "VALUE b 0 1\\r\\n2\\r\\nEND\\r\\n");
    // So what goes wrong with the rest is not its affair.
    stage.servers[0].answer("SERVER_ERROR out of luck\r\n");
    assert_eq!(show(&stage.client.read_through(b"luck\r\n")), "SERVER_ERROR out of luck\\r\\n");
    stage.check_silence("after an early answer");
}

#[test]
fn a_line_has_a_limit() {
    let mut stage = Stage::start(1, PATIENT);
    let keys: Vec<String> = (0..80).map(|number| format!("{number:0>200}")).collect();
    let send: String = keys.iter().map(|key| format!("get {key}\r\n")).collect();
    stage.client.send(&send);
    // Thirty-four keys of 200 bytes and their blanks are a line.
    let lines: String = keys.chunks(34).map(|keys| format!("get {}\r\n", keys.join(" "))).collect();
    stage.servers[0].receive(&lines);
    stage.servers[0].answer("END\r\n".repeat(3).as_str());
    assert_eq!(stage.client.read(5 * 80), "END\r\n".repeat(80).into_bytes());
    stage.check_silence("after long lines");
}
