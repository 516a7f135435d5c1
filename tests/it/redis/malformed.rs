//! Replies that cannot be put together with others: one error, and no answer of another question.

use super::super::support::process::Proxy;
use super::super::support::script::{Mock, Stage};

#[test]
fn a_malformed_part_is_one_error_and_shifts_nothing() {
    for (ask, answers) in [
        (
            "SCAN 0",
            &["*1\r\n$1\r\n0\r\n", "*3\r\n$1\r\n0\r\n*0\r\n$5\r\nextra\r\n", "*2\r\n$1\r\n0\r\n+OK\r\n", ":1\r\n"][..],
        ),
        ("KEYS *", &["%1\r\n+a\r\n+b\r\n", "$1\r\na\r\n"]),
        ("DBSIZE", &["+OK\r\n", "*1\r\n:1\r\n"]),
        ("SCRIPT EXISTS a b", &["*1\r\n:1\r\n", "*3\r\n:1\r\n:1\r\n:1\r\n"]),
        ("PUBSUB NUMSUB a", &["*1\r\n$1\r\na\r\n", "*3\r\n$1\r\na\r\n:1\r\n:1\r\n"]),
        ("PUBSUB NUMPAT", &["$1\r\na\r\n"]),
        ("INFO", &["*1\r\n:1\r\n"]),
        ("FLUSHALL", &[":1\r\n"]),
    ] {
        for answer in answers {
            let mut server = Mock::start();
            let settings = ["redis: true", "timeout: 20000", "auto_eject_hosts: false"];
            let proxy = Proxy::start(&[server.address()], &settings).expect_log("server broke the protocol");
            let mut client = proxy.client();
            client.send(format!("{ask}\r\n"));
            let words = ask.split(' ').map(|word| format!("${}\r\n{word}\r\n", word.len()));
            let request = format!("*{}\r\n{}", ask.split(' ').count(), words.collect::<String>());
            server.receive(request);
            client.send("ECHO behind\r\n");
            server.answer(answer);
            server.wait_for_close();
            let told = client.line();
            assert!(told.starts_with("-ERR"), "{ask}: {answer:?} became {told}");
            assert_eq!((client.line(), client.line()), ("$6".to_owned(), "behind".to_owned()), "{ask}: {answer:?}");
            assert_eq!(client.ask("ECHO last\r\n"), "$4");
        }
    }
}

#[test]
fn an_exec_with_answers_too_few_or_too_many_is_one_error() {
    let queued =
        "*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nEXEC\r\n";
    let message = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n*2\r\n$1\r\nx\r\n$1\r\ny\r\n";
    for answer in
        ["*1\r\n$1\r\na\r\n", "*3\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n", "*0\r\n", "+OK\r\n", ":2\r\n", message]
    {
        let mut server = Mock::start();
        let settings = ["redis: true", "timeout: 20000", "auto_eject_hosts: false"];
        let proxy = Proxy::start(&[server.address()], &settings).expect_log("server broke the protocol");
        let mut client = proxy.client();
        client.send("MULTI\r\nGET a\r\nGET a\r\nEXEC\r\n");
        server.receive(queued);
        client.send("ECHO behind\r\n");
        server.answer(format!("+OK\r\n+QUEUED\r\n+QUEUED\r\n{answer}"));
        server.wait_for_close();
        for expected in ["+OK", "+QUEUED", "+QUEUED"] {
            assert_eq!(client.line(), expected);
        }
        let told = client.line();
        assert!(told.starts_with("-ERR"), "{answer:?} became {told}");
        assert_eq!((client.line(), client.line()), ("$6".to_owned(), "behind".to_owned()), "{answer:?}");
    }
}

#[test]
fn a_share_of_a_multi_get_has_a_value_for_each_of_its_keys() {
    for answer in ["*1\r\n$3\r\nbad\r\n", "*3\r\n$3\r\nbad\r\n$3\r\nbad\r\n$3\r\nbad\r\n", "$3\r\nbad\r\n"] {
        let settings = ["redis: true", "timeout: 20000", "auto_eject_hosts: false", "on_failure: miss"];
        let Stage { proxy, mut client, mut servers } = Stage::start(3, &settings);
        let _proxy = proxy.expect_log("server broke the protocol");
        client.send("MGET <gold>1 <iron>1 <gold>2 <iron>2\r\n");
        servers[0].receive("*3\r\n$4\r\nMGET\r\n$7\r\n<gold>1\r\n$7\r\n<gold>2\r\n");
        servers[1].receive("*3\r\n$4\r\nMGET\r\n$7\r\n<iron>1\r\n$7\r\n<iron>2\r\n");
        servers[0].answer(answer);
        servers[0].wait_for_close();
        servers[1].answer("*2\r\n$1\r\nx\r\n$1\r\ny\r\n");
        let expected = "*4\r\n$-1\r\n$1\r\nx\r\n$-1\r\n$1\r\ny\r\n";
        let found = client.read(expected.len());
        assert_eq!(String::from_utf8_lossy(&found), expected, "{answer:?}");
    }
}

/// Of two that share a connection, the second is never given what answers the first, or the other way round.
#[test]
fn a_line_that_does_not_end_as_it_must_ends_the_connection() {
    for answer in
        [":1\n", ":1", ":1x\r\n", "+OK\n", "-ERR x\n", ",1.5\n", "#t\n", "(12\n", "_\n", "_x\r\n", "=2\r\nab\r\n"]
    {
        let mut server = Mock::start();
        let settings = ["redis: true", "timeout: 20000", "auto_eject_hosts: false"];
        let proxy = Proxy::start(&[server.address()], &settings).expect_log("server broke the protocol");
        let (mut first, mut second) = (proxy.client(), proxy.client());
        first.send("INCR a\r\n");
        server.receive("*2\r\n$4\r\nINCR\r\n$1\r\na\r\n");
        second.send("INCR b\r\n");
        server.receive("*2\r\n$4\r\nINCR\r\n$1\r\nb\r\n");
        server.answer(format!("{answer}:100\r\n"));
        server.wait_for_close();
        for client in [&mut first, &mut second] {
            let told = client.line();
            assert!(told.starts_with("-ERR"), "{answer:?} became {told}");
        }
    }
}
