//! How many wait, and how much is kept for them: one worker, under a pretend shell.

use std::time::Duration;

use softmiss::engine::ids::SessionId;
use softmiss::failure::Failure;

use crate::bounded::rig::Rig;

const OPTION: &str = "stampede: {wait: 10s, lease: 60s}";

/// Clients of a worker that wait for one key.
const MOST: usize = 1024;

fn memcached() -> Rig {
    Rig::new(1, &["timeout: 1000", "join_gets: false", OPTION])
}

/// What goes out to the server.
fn sent(rig: &mut Rig) -> String {
    let mut sent = Vec::new();
    rig.settle_with(&mut |_, bytes| sent.extend_from_slice(bytes));
    String::from_utf8(sent).expect("a text")
}

/// Time passes, and what is due is done.
fn pass(rig: &mut Rig, time: Duration) {
    rig.now = rig.now + time;
    rig.engine.handle_timeout(rig.now);
}

/// So many clients ask for one key, which somebody else computes.
fn waiting(rig: &mut Rig, count: usize) -> Vec<SessionId> {
    let clients: Vec<SessionId> = (0..count).map(|_| rig.client()).collect();
    clients.iter().for_each(|client| rig.send(*client, b"get k\r\n", usize::MAX));
    assert_eq!(sent(rig), "get k\r\n".repeat(count));
    rig.say(&b"END\r\n".repeat(count), usize::MAX);
    assert_eq!(sent(rig), "add softmiss:lease:k 0 61 1\r\n1\r\nget k\r\n", "they look together");
    rig.say(b"NOT_STORED\r\nEND\r\n", usize::MAX);
    rig.settle();
    clients
}

/// What they have been told meanwhile.
fn told(rig: &mut Rig, clients: &[SessionId]) -> Vec<String> {
    let all = clients.iter().map(|client| String::from_utf8(rig.read(*client)).expect("a text"));
    let told = all.filter(|said| !said.is_empty()).collect();
    rig.engine.check_invariants().expect("all is in order");
    told
}

#[test]
fn so_many_wait_for_a_key_and_no_more_and_nothing_is_left_of_it() {
    let mut rig = memcached();
    let before = rig.engine.memory();
    let clients = waiting(&mut rig, MOST + 6);
    assert_eq!(told(&mut rig, &clients), ["END\r\n"; 6]);
    let held = rig.engine.memory() - before;
    assert!(held > MOST * 512, "{held}");
    // They look again, and it is there.
    pass(&mut rig, Duration::from_millis(26));
    assert_eq!(sent(&mut rig), "add softmiss:lease:k 0 61 1\r\n1\r\nget k\r\n");
    rig.say(b"NOT_STORED\r\nVALUE k 0 1\r\n1\r\nEND\r\n", usize::MAX);
    assert_eq!(sent(&mut rig), "get k\r\n".repeat(MOST));
    rig.say(&b"VALUE k 0 1\r\n1\r\nEND\r\n".repeat(MOST), usize::MAX);
    rig.settle();
    assert_eq!(told(&mut rig, &clients), ["VALUE k 0 1\r\n1\r\nEND\r\n"; MOST]);
    clients.iter().for_each(|client| rig.engine.client_gone(*client, false));
    rig.settle();
    rig.engine.check_invariants().expect("all is in order");
    assert!(rig.engine.memory() - before < held / 4, "{} of {held}", rig.engine.memory() - before);
}

#[test]
fn all_who_wait_are_told_when_that_is_over_and_when_they_cannot_be_given_it() {
    // Their time is over; the server breaks off what it is asked once more; the connection is lost while it is looked at.
    for ends in 0..3 {
        let mut rig = memcached();
        let clients = waiting(&mut rig, 100);
        assert_eq!(told(&mut rig, &clients), [""; 0]);
        if ends == 0 {
            pass(&mut rig, Duration::from_secs(10));
        } else {
            pass(&mut rig, Duration::from_millis(26));
            sent(&mut rig);
            if ends == 1 {
                rig.say(b"NOT_STORED\r\nVALUE k 0 1\r\n1\r\nEND\r\n", usize::MAX);
                assert_eq!(sent(&mut rig), "get k\r\n".repeat(100));
            }
            // What only reads is sent once more.
            for _ in 0..2 {
                let Some((link, epoch)) = rig.links.pop_first() else { break };
                rig.engine.link_failed(link, epoch, Failure::Closed, rig.now);
                rig.settle();
            }
        }
        rig.settle();
        assert_eq!(told(&mut rig, &clients), ["END\r\n"; 100], "{ends}");
    }
}

#[test]
fn a_client_that_leaves_takes_along_what_was_held_and_what_was_asked_once_more() {
    for is_asked_again in [false, true] {
        let mut rig = memcached();
        let clients = waiting(&mut rig, 10);
        pass(&mut rig, Duration::from_millis(26));
        sent(&mut rig);
        if is_asked_again {
            rig.say(b"NOT_STORED\r\nVALUE k 0 1\r\n1\r\nEND\r\n", usize::MAX);
            assert_eq!(sent(&mut rig), "get k\r\n".repeat(10));
        }
        clients[1..].iter().for_each(|client| rig.engine.client_gone(*client, true));
        rig.settle();
        rig.engine.check_invariants().expect("all is in order");
        if is_asked_again {
            rig.say(&b"VALUE k 0 1\r\n1\r\nEND\r\n".repeat(10), usize::MAX);
        } else {
            // Nobody but the first is left to be given the lease.
            rig.say(b"STORED\r\nEND\r\n", usize::MAX);
        }
        rig.settle();
        let said = if is_asked_again { "VALUE k 0 1\r\n1\r\nEND\r\n" } else { "END\r\n" };
        assert_eq!(told(&mut rig, &clients[..1]), [said]);
    }
}

#[test]
fn what_is_kept_for_one_client_has_a_bound() {
    let mut rig = Rig::new(1, &["redis: true", "timeout: 1000", OPTION]);
    rig.settle();
    let (one, other) = (rig.client(), rig.client());
    let key = |number: usize| format!("{number:04}{}", "x".repeat(1000));
    let get = |number| format!("*2\r\n$3\r\nGET\r\n$1004\r\n{}\r\n", key(number));
    // A client may have more in flight when it is known that answers are small.
    for _ in 0..100 {
        rig.send(one, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", usize::MAX);
        sent(&mut rig);
        rig.say(b"$1\r\n1\r\n", usize::MAX);
    }
    rig.settle();
    rig.read(one);
    let mut asked = 0;
    for number in 0..2000 {
        rig.send(one, get(number).as_bytes(), usize::MAX);
        let out = sent(&mut rig);
        let answers = out.matches("GET\r\n").count();
        asked += answers;
        rig.say("$-1\r\n".repeat(answers).as_bytes(), usize::MAX);
        let looks = sent(&mut rig).matches("EXISTS").count();
        rig.say(b"$-1\r\n:0\r\n".repeat(looks).as_slice(), usize::MAX);
        rig.settle();
    }
    assert!(asked > 500, "{asked}");
    assert!(rig.engine.memory() < 5 << 19, "{}", rig.engine.memory());
    rig.engine.check_invariants().expect("all is in order");
    // Another one is held all the same.
    rig.send(other, get(1).as_bytes(), usize::MAX);
    let count = sent(&mut rig).matches("GET\r\n").count();
    rig.say("$-1\r\n".repeat(count).as_bytes(), usize::MAX);
    rig.settle();
    assert_eq!(told(&mut rig, &[other]), [""; 0]);
}

/// Time passes, in which somebody else computes `k`.
fn pass_computing(rig: &mut Rig, time: Duration) {
    let until = rig.now + time;
    while rig.now < until {
        pass(rig, Duration::from_millis(26));
        if !sent(rig).is_empty() {
            rig.say(b"NOT_STORED\r\nEND\r\n", usize::MAX);
        }
    }
}

#[test]
fn who_holds_much_for_waiting_is_told_the_miss_and_not_cut_off_where_memory_is_scarce() {
    let option = "stampede: {wait: 30s, lease: 60s}";
    let pool = ["timeout: 1000", "join_gets: false", "value_limit: 12mb", option];
    let mut rig = Rig::of_process("softmiss:\n  memory_limit: 16mb\n", 1, &pool);
    let one = waiting(&mut rig, 1)[0];
    // What it asks besides is answered meanwhile, and has to wait for its turn.
    let value = format!("VALUE b 0 20000\r\n{}\r\nEND\r\n", "b".repeat(20_000));
    for _ in 0..3 {
        rig.send(one, b"get b\r\n", usize::MAX);
        assert_eq!(sent(&mut rig), "get b\r\n");
        rig.say(value.as_bytes(), usize::MAX);
    }
    pass_computing(&mut rig, Duration::from_secs(10));
    assert_eq!(told(&mut rig, &[one]), [""; 0]);
    let other = rig.client();
    rig.send(other, b"set big 0 0 11000000\r\n", usize::MAX);
    for _ in 0..100 {
        rig.send(other, &[b'x'; 100_000], usize::MAX);
        pass_computing(&mut rig, Duration::from_millis(20));
    }
    pass_computing(&mut rig, Duration::from_secs(1));
    assert_eq!(told(&mut rig, &[one]).concat().len(), "END\r\n".len() + 3 * value.len());
}
