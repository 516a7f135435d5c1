//! What is sent again when a connection dies, and what is not because its client has sent more behind it.

use std::time::{Duration, Instant};

use super::support::script::{Mock, Stage, show};

/// A server that has answered something, so that the connection is known to be good.
fn stage(more: &[&str]) -> Stage {
    let mut stage = Stage::start(1, &[&["timeout: 20000"], more].concat());
    warm(&mut stage);
    stage
}

fn warm(stage: &mut Stage) {
    stage.client.send("get warm\r\n");
    stage.servers[0].receive("get warm\r\n");
    stage.servers[0].answer("END\r\n");
    assert_eq!(stage.client.line(), "END");
}

/// Sends requests, has the server take them in and close, and tells what the client is answered; nothing may be sent again.
fn lost(stage: &mut Stage, send: &str, answers: &str) {
    stage.client.send(send);
    stage.servers[0].receive(send.replace(" noreply", "").replace("mg k v", "mg k v k"));
    stage.servers[0].close();
    assert_eq!(show(&stage.client.read(answers.len())), show(answers.as_bytes()), "of {send:?}");
    if send.contains("flush_all") {
        stage.servers[0].receive("flush_all\r\n"); // it is pending
        stage.servers[0].answer("OK\r\n");
    }
    warm(stage);
}

#[test]
fn a_read_is_not_sent_again_behind_its_clients_later_write() {
    let mut stage = stage(&["join_gets: false"]);
    let set = "set k 0 0 3\r\nnew\r\n";
    lost(&mut stage, &format!("get k\r\n{set}"), "END\r\nNOT_STORED\r\n");
    lost(&mut stage, &format!("gets k\r\nget k\r\n{set}"), "END\r\nEND\r\nNOT_STORED\r\n");
    lost(&mut stage, &format!("mg k v\r\n{set}"), "EN\r\nNOT_STORED\r\n");
    lost(&mut stage, "mg k v\r\nms k 1\r\nx\r\n", "EN\r\nNS\r\n");
    lost(&mut stage, "get k\r\nset k 0 0 3 noreply\r\nnew\r\n", "END\r\n");
    lost(&mut stage, "get k\r\ndelete k\r\n", "END\r\nNOT_FOUND\r\n");
    lost(&mut stage, "get k\r\nincr k 1\r\n", "END\r\nNOT_FOUND\r\n");
    lost(&mut stage, "get k\r\nflush_all\r\n", "END\r\nOK\r\n");
    lost(&mut stage, "get k\r\nmg k k v N30\r\n", "END\r\nEN kk\r\n");
}

#[test]
fn gets_that_were_joined_are_not_sent_again_behind_a_later_write() {
    let mut stage = stage(&[]);
    stage.client.send("get k\r\nget l\r\nset k 0 0 3\r\nnew\r\n");
    stage.servers[0].receive("get k l\r\nset k 0 0 3\r\nnew\r\n");
    stage.servers[0].close();
    assert_eq!(show(&stage.client.read(22)), show(b"END\r\nEND\r\nNOT_STORED\r\n"));
    warm(&mut stage);
}

#[test]
fn a_part_of_a_multi_get_is_not_sent_again_behind_a_later_write() {
    let mut stage = Stage::start(3, &["timeout: 20000"]);
    stage.client.send("get <gold> <iron>\r\nset <gold> 0 0 3\r\nnew\r\n");
    let set = b"set <gold> 0 0 3\r\nnew\r\n";
    let (gold, iron) = (0, 1);
    stage.servers[gold].receive([&b"get <gold>\r\n"[..], set].concat());
    stage.servers[gold].close();
    stage.servers[iron].receive("get <iron>\r\n");
    stage.servers[iron].answer("VALUE <iron> 0 1\r\ni\r\nEND\r\n");
    let expected = b"VALUE <iron> 0 1\r\ni\r\nEND\r\nNOT_STORED\r\n";
    assert_eq!(show(&stage.client.read(expected.len())), show(expected));
}

#[test]
fn a_read_is_not_sent_again_behind_a_later_write_whichever_connection_it_takes() {
    let mut stage = Stage::start(1, &["timeout: 20000", "server_connections: 3"]);
    warm(&mut stage);
    lost(&mut stage, "get k\r\nset k 0 0 3\r\nnew\r\n", "END\r\nNOT_STORED\r\n");
}

#[test]
fn reads_are_sent_again_that_nothing_of_their_clients_has_overtaken() {
    let mut stage = stage(&["join_gets: false"]);
    let mut other = stage.proxy.client();
    // A write in front of it, and another client's behind it.
    stage.client.send("set k 0 0 1\r\na\r\nget k\r\nmg k v\r\n");
    stage.servers[0].receive("set k 0 0 1\r\na\r\nget k\r\nmg k v k\r\n");
    other.send("set k 0 0 1\r\nb\r\n");
    stage.servers[0].receive("set k 0 0 1\r\nb\r\n");
    stage.servers[0].close();
    stage.servers[0].receive("get k\r\nmg k v k\r\n");
    stage.servers[0].answer("VALUE k 0 1\r\nb\r\nEND\r\nVA 1 kk\r\nb\r\n");
    assert_eq!(other.line(), "NOT_STORED");
    let expected = b"NOT_STORED\r\nVALUE k 0 1\r\nb\r\nEND\r\nVA 1\r\nb\r\n";
    assert_eq!(show(&stage.client.read(expected.len())), show(expected));
}

/// A server in the ring that went silent with a write under way. What it has of the connection that was given up it may
/// carry out when it goes on, so it is not made to forget the key before it has come to that connection's end.
fn lingering() -> (Stage, Mock) {
    let mut stage = Stage::start(1, &["timeout: 150", "rejoin: safe", "on_eject: hold", "stall_detection: false"]);
    stage.client.send("get warm\r\n");
    stage.servers[0].receive("get warm\r\nstats\r\n");
    stage.servers[0].answer("END\r\nSTAT pid 7\r\nSTAT uptime 100\r\nEND\r\n");
    assert_eq!(stage.client.line(), "END");
    stage.client.send("set k 0 0 3\r\nold\r\n");
    stage.servers[0].receive("set k 0 0 3\r\nold\r\n");
    let mut next = stage.servers[0].twin();
    assert_eq!(stage.client.line(), "NOT_STORED");
    // The connection is given up, and another one opened.
    next.receive("version\r\n");
    next.answer("VERSION 1.6.0\r\n");
    (stage, next)
}

#[test]
fn a_key_is_not_invalidated_before_the_server_has_come_to_the_end_of_older_writes_of_it() {
    let (mut stage, mut next) = lingering();
    for _ in 0..3 {
        stage.client.send("get k\r\n");
        assert_eq!(stage.client.line(), "END", "nothing is asked in front of the invalidation");
    }
    stage.servers[0].close();
    next.receive("delete k\r\n");
    next.answer("DELETED\r\n");
    stage.client.send("get k\r\n");
    next.receive("get k\r\n");
    next.answer("END\r\n");
    assert_eq!(stage.client.line(), "END");
}

#[test]
fn a_server_that_does_not_come_to_the_end_is_sent_invalidations_all_the_same() {
    let (mut stage, mut next) = lingering();
    stage.proxy = stage.proxy.expect_log("leaves connections open that were given up");
    let started = Instant::now();
    next.receive("delete k\r\n");
    next.answer("DELETED\r\n");
    assert!(started.elapsed() >= Duration::from_millis(500), "{:?}", started.elapsed());
    stage.servers[0].wait_for_close();
}
