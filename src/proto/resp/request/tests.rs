//! Requests, whole, cut and wrong.

#![expect(clippy::wildcard_enum_match_arm, reason = "only one kind is wanted")]

use super::*;

const LIMITS: Limits = Limits { value: 1 << 20, trusted: true };

fn list(input: &[u8]) -> Result<Vec<String>, Parsed> {
    let mut spans = Vec::new();
    match parse(input, &mut Progress::default(), LIMITS, &mut spans) {
        Parsed::Complete { len } => {
            assert_eq!(len, input.len());
            Ok(Args::new(input, &spans).iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect())
        }
        Parsed::Inline { len, array } => {
            assert_eq!(len, input.len());
            list(&array)
        }
        other => Err(other),
    }
}

#[test]
fn arrays_and_inline_commands() {
    assert_eq!(list(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n").unwrap(), ["GET", "k"]);
    assert_eq!(list(b"*1\r\n$0\r\n\r\n").unwrap(), [""]);
    assert_eq!(list(b"get  k \r\n").unwrap(), ["get", "k"]);
    assert_eq!(list(b"set k \"a\\x41\\n b\" 'it\\'s'\n").unwrap(), ["set", "k", "aA\n b", "it's"]);
    assert_eq!(list(b"\r\n"), Err(Parsed::Nothing { len: 2 }));
    assert_eq!(list(b"*0\r\n"), Err(Parsed::Nothing { len: 4 }));
    assert_eq!(list(b"*-1\r\n"), Err(Parsed::Nothing { len: 5 }));
}

#[test]
fn what_cannot_be_followed_is_told_in_redis_words() {
    let broken = |input: &[u8], text: &str| assert_eq!(list(input), Err(Parsed::Broken(text.to_owned())));
    broken(b"*x\r\n", "invalid multibulk length");
    broken(b"*99999999999\r\n", "invalid multibulk length");
    broken(b"*1\r\n$-5\r\n", "invalid bulk length");
    broken(b"*1\r\n$99999999999\r\n", "invalid bulk length");
    broken(b"*1\r\n*1\r\n", "expected '$', got '*'");
    broken(b"get \"k\r\n", "unbalanced quotes in request");
    broken(b"get \"k\"x\r\n", "unbalanced quotes in request");
    broken(&[b'a'; LINE_LIMIT + 1], "too big inline request");
    broken(&[b'*'; LINE_LIMIT + 1], "too big mbulk count string");
}

#[test]
fn a_request_in_pieces_is_looked_at_once() {
    let mut request = b"*40\r\n".to_vec();
    (0..40).for_each(|n| request.extend_from_slice(format!("$3\r\n{n:03}\r\n").as_bytes()));
    let (mut progress, mut spans) = (Progress::default(), Vec::new());
    for len in 1..request.len() {
        let before = progress.at;
        match parse(&request[..len], &mut progress, LIMITS, &mut spans) {
            Parsed::Incomplete { need } => assert!(need > len && progress.at >= before),
            other => panic!("{len}: {other:?}"),
        }
    }
    assert!(progress.at > request.len() - 12);
    assert_eq!(parse(&request, &mut progress, LIMITS, &mut spans), Parsed::Complete { len: request.len() });
    assert_eq!((spans.len(), progress), (40, Progress::default()));
}

#[test]
fn what_is_too_large_is_swallowed_as_it_comes() {
    let mut input = b"*3\r\n$3\r\nSET\r\n$5\r\nkkkkk\r\n$3\r\nvvv\r\nPING\r\n".to_vec();
    let limits = Limits { value: 4, trusted: true };
    let Parsed::TooLarge { len, mut rest } = parse(&input, &mut Progress::default(), limits, &mut Vec::new()) else {
        panic!("it is not refused")
    };
    input.drain(..len);
    let mut used = 0;
    for at in 0..=input.len() {
        used += rest.apply(&input[used..at]).unwrap();
    }
    assert!(rest.is_none());
    assert_eq!(&input[used..], b"PING\r\n");
}

#[test]
fn strangers_get_little_room() {
    let limits = Limits { value: 1 << 20, trusted: false };
    let parse = |input: &[u8]| parse(input, &mut Progress::default(), limits, &mut Vec::new());
    assert_eq!(parse(b"*11\r\n"), Parsed::Broken("unauthenticated multibulk length".to_owned()));
    assert_eq!(parse(b"*1\r\n$16385\r\n"), Parsed::Broken("unauthenticated bulk length".to_owned()));
}

#[test]
fn a_plain_header_is_read_as_any_header_is() {
    for line in [
        "$0",
        "$1",
        "$9",
        "$10",
        "$123456789",
        "$1234567890",
        "$4294967296",
        "$01",
        "$00",
        "$-1",
        "$",
        "$x",
        "$1x",
        "*3",
        "",
        "$+1",
    ] {
        for end in ["\r\n", "\r\nrest", "\rx", "\r", "\n", ""] {
            let input = format!("{line}{end}").into_bytes();
            if let Some((value, used)) = plain_header(&input, b'$') {
                assert_eq!(header(&input, b'$', ""), Ok(Some((Some(value), used))), "{line:?} {end:?}");
            } else {
                let digits = line.strip_prefix('$').unwrap_or_default();
                let plain = digits.parse::<u32>().is_ok_and(|value| value.to_string() == digits);
                let whole = end.len() > 5 && end.starts_with('\r');
                assert!(!(plain && whole && digits.len() < 4), "{line:?} {end:?} is plain");
            }
        }
    }
}

#[test]
fn integers_are_read_as_redis_reads_them() {
    for (text, value) in [
        ("0", Some(0)),
        ("-1", Some(-1)),
        ("9223372036854775807", Some(i64::MAX)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("9223372036854775808", None),
        ("+1", None),
        ("01", None),
        ("-0", None),
        ("", None),
        ("-", None),
        (" 1", None),
        ("1x", None),
    ] {
        assert_eq!(integer(text.as_bytes()), value, "{text:?}");
    }
}
