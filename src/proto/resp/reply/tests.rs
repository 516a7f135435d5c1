use super::*;

#[test]
fn what_is_discarded_ends_where_it_would_have_ended() {
    let long = "x".repeat(3000);
    let reply =
        format!("*5\r\n$3000\r\n{long}\r\n:7\r\n*2\r\n+{long}\r\n$-1\r\n%1\r\n$1\r\na\r\n-{long}\r\n$0\r\n\r\n");
    let stream = format!("{reply}+OK\r\n");
    for piece in [1, 2, 3, 7, 100, 2999, 5000, stream.len()] {
        for keeps in [0, 10, 3100, 6000] {
            // Everything that has come is given up again and again, once so much of it has come.
            let (mut scan, mut from, mut unwanted) = (Scan::new(1), 0, 0usize);
            let mut came = 0;
            let end = loop {
                came = (came + piece).min(stream.len());
                let passed = unwanted.min(came - from);
                (from, unwanted) = (from + passed, unwanted - passed);
                if unwanted > 0 {
                    continue;
                }
                if scan.is_over() {
                    break from;
                }
                let input = &stream.as_bytes()[from..came];
                match scan.advance(input) {
                    Scanned::Complete { len } => break from + len,
                    Scanned::Incomplete { .. } if came >= keeps => {
                        let dropped = scan.discard(input);
                        from += dropped.min(input.len());
                        unwanted = dropped.saturating_sub(input.len());
                    }
                    Scanned::Incomplete { .. } => {}
                    Scanned::Broken => panic!("broken at {from} of {came}, in pieces of {piece}"),
                }
            };
            assert_eq!(end, reply.len(), "in pieces of {piece}, from {keeps} on");
        }
    }
}

#[test]
fn nulls_are_counted_once_wherever_they_are_cut() {
    let reply = b"*4\r\n$-1\r\n$3\r\n$-1\r\n_\r\n*-1\r\n";
    for cut in 0..reply.len() {
        let mut scan = Scan::new(1);
        assert!(matches!(scan.advance(&reply[..cut]), Scanned::Incomplete { .. }), "{cut}");
        assert_eq!(scan.advance(reply), Scanned::Complete { len: reply.len() });
        assert_eq!(scan.nulls(), 3, "cut at {cut}; the value that looks like one is none");
    }
}

#[test]
fn the_end_of_a_reply_is_found_wherever_it_is_cut() {
    let replies: [&[u8]; 14] = [
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":12\r\n",
        b"$-1\r\n",
        b"$5\r\na\r\nbc\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*2\r\n*1\r\n:1\r\n$0\r\n\r\n",
        b"%2\r\n+a\r\n*2\r\n:1\r\n:2\r\n+b\r\n_\r\n",
        b"~1\r\n,1.5\r\n",
        b"|1\r\n+ttl\r\n:3\r\n$1\r\nx\r\n",
        b"=7\r\ntxt:abc\r\n",
        b"!4\r\nE no\r\n",
        b"(123\r\n",
    ];
    for reply in replies {
        let mut scan = Scan::new(1);
        for cut in 0..reply.len() {
            match scan.advance(&reply[..cut]) {
                Scanned::Incomplete { need } => {
                    assert!(need > cut && need <= reply.len(), "{reply:?} {cut} {need}")
                }
                other => panic!("{reply:?} {cut} {other:?}"),
            }
        }
        let more = [reply, b"+next\r\n"].concat();
        assert_eq!(scan.advance(&more), Scanned::Complete { len: reply.len() });
    }
}

#[test]
fn a_plain_string_is_read_as_any_value_is() {
    for text in ["$0\r\n\r\n", "$3\r\nabc\r\n", "$12\r\nabcdefghijkl\r\n", "$3\rxabc\r\n", "$3\r\nabcd\r\n"] {
        for cut in 0..=text.len() {
            let input = &text.as_bytes()[..cut];
            let whole = match value(input, 0) {
                Value::Whole { len, .. } => Some(len),
                _ => None,
            };
            assert_eq!(plain_bulk(input), whole, "{text:?} {cut}");
        }
    }
    assert_eq!(plain_bulk(b"$-1\r\n"), None);
    for text in ["*0\r\n+OK\r\n", "*2\r\n:1\r\n:2\r\n", "*12\r\n:1\r\n", "*3\rxabc\r\n", "*-1\r\n+OK\r\n", "*01\r\n"] {
        let whole = match value(text.as_bytes(), 0) {
            Value::Whole { len, within, .. } if !text.starts_with("*-") => Some((within, len)),
            _ => None,
        };
        assert_eq!(plain_array(text.as_bytes()), whole, "{text:?}");
        let list = match read(text.as_bytes()) {
            Reply::List(items) => Some(items),
            _ => None,
        };
        if whole.is_some() {
            assert_eq!(items(text.as_bytes()), list, "{text:?}");
        }
    }
}

#[test]
fn what_is_no_reply_is_told() {
    for bytes in [&b"hello\r\n"[..], b"$x\r\n", b"$-2\r\n", b"*99999999999999\r\n", b"+a\rb", b"$1\r\nabc\r\n", b"\r\n"]
    {
        assert_eq!(Scan::new(1).advance(bytes), Scanned::Broken, "{bytes:?}");
    }
    // A line that has no end, or not what its mark says: with it begins what another reply says.
    for bytes in [
        &b":1\n:100\r\n"[..],
        b"+OK\n:1\r\n",
        b"-ERR x\n:1\r\n",
        b"_\n:1\r\n",
        b":1:100\r\n",
        b":1x\r\n",
        b":\r\n",
        b":-\r\n",
        b"_x\r\n",
        b"#x\r\n",
        b"#\r\n",
        b",abc\r\n",
        b",\r\n",
        b"(1x\r\n",
        b"(\r\n",
        b"=2\r\nab\r\n",
        b"=5\r\ntxtab\r\n",
        b"*2\r\n:1\r\n>1\r\n+a\r\n",
    ] {
        assert_eq!(Scan::new(1).advance(bytes), Scanned::Broken, "{bytes:?}");
    }
    let message = b"+OK\r\n+QUEUED\r\n>2\r\n+invalidate\r\n*1\r\n+a\r\n";
    assert_eq!(Scan::new(3).advance(message), Scanned::Broken, "in front of the last of several");
    for bytes in [
        &b":-1\r\n"[..],
        b":+1\r\n",
        b"_\r\n",
        b"#t\r\n",
        b"#f\r\n",
        b",1.5e-7\r\n",
        b",-inf\r\n",
        b",nan\r\n",
        b",10\r\n",
        b"(-3492890328409238509324850943850943825024385\r\n",
        b"=4\r\ntxt:\r\n",
        b">1\r\n+a\r\n",
        b"+\r\n",
        b"-\r\n",
    ] {
        assert_eq!(Scan::new(1).advance(bytes), Scanned::Complete { len: bytes.len() }, "{bytes:?}");
    }
    let deep = b"*1\r\n".repeat(100_000);
    assert!(matches!(Scan::new(1).advance(&deep), Scanned::Incomplete { .. }), "however deep");
}

#[test]
fn several_in_a_row() {
    let mut scan = Scan::new(3);
    assert_eq!(scan.advance(b"+OK\r\n+QUEUED\r\n*1\r\n:1\r\n"), Scanned::Complete { len: 22 });
}

#[test]
fn troubles_are_told_from_errors() {
    assert_eq!(trouble(b"-LOADING Redis is loading the dataset in memory\r\n"), Some(Trouble::Unready));
    assert_eq!(trouble(b"-OOM command not allowed\r\n"), Some(Trouble::Memory));
    assert_eq!(trouble(b"-BUSYGROUP Consumer Group name already exists\r\n"), None);
    assert_eq!(trouble(b"-ERR OOM\r\n"), None);
    assert_eq!(trouble(b"+OOM\r\n"), None);
}

#[test]
fn lists_are_taken_apart() {
    let Reply::List(items) = read(b"*3\r\n$1\r\na\r\n*1\r\n:1\r\n_\r\n") else { panic!("no list") };
    assert_eq!(items.collect::<Vec<_>>(), [&b"$1\r\na\r\n"[..], b"*1\r\n:1\r\n", b"_\r\n"]);
    assert_eq!(read(b"=7\r\ntxt:abc\r\n"), Reply::Bulk(b"abc"));
    assert_eq!(read(b"$-1\r\n"), Reply::Null);
}
