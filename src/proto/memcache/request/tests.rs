//! Requests, whole, cut and wrong.

use proptest::prelude::*;

use super::super::encode;
use super::*;

proptest! {
    #[test]
    fn what_is_plain_is_read_as_everything_is(
        name in "get|set",
        key in "[a-z]{1,3}|[a-z]{249,251}",
        words in proptest::collection::vec("0|3|00003|4294967296|18446744073709551616|[0-9]{1,2}|-1|noreply|[a-z]{1,3}", 0..6),
        gaps in "[ ]{0,2}",
        end in "\r\n|\n",
        value in "[a-z]{3}\r\n|[a-z\r\n]{0,6}",
        damage in proptest::option::of((0usize..30, any::<u8>())),
        cut in 0usize..400,
    ) {
        let mut input = format!("{name}{gaps} {key}{gaps} {}{end}{value}", words.join(" ")).into_bytes();
        if words.is_empty() {
            input = format!("{name} {key}{gaps}{end}{value}").into_bytes();
        }
        if let Some((at, byte)) = damage && let Some(place) = input.get_mut(at) {
            *place = byte;
        }
        input.truncate(cut);
        let Some(feed) = memchr(b'\n', &input) else { return Ok(()) };
        if input[0] == 0x80 {
            return Ok(());
        }
        let line = match &input[..feed] {
            [body @ .., b'\r'] if !body.is_empty() => body,
            body => body,
        };
        for limit in [4, 1 << 20] {
            let (mut plain, any) = (parse(&input, limit), parse_other(&input, line, feed + 1, limit));
            if let Parsed::Complete { len, request: Request::Store(store) } = &mut plain
                && let Some(canonical) = store.canonical.take()
            {
                let mut written = Vec::new();
                encode::store(&mut written, store, None);
                prop_assert_eq!((canonical, &written[..]), (&input[..*len], canonical));
            }
            if let Some((key, len)) = lone_get(&input) {
                let mut written = Vec::new();
                encode::get_one(&mut written, Verb::Get, None, key, None);
                prop_assert_eq!(&written[..], &input[..len]);
                let (verb, exptime, keys, line_end) = (Verb::Get, None, &input[3..len - 2], 2);
                let get = Get { verb, exptime, keys, first: key, count: 1, line_end };
                prop_assert_eq!(&any, &Parsed::Complete { len, request: Request::Get(get) });
            }
            prop_assert_eq!(plain, any);
        }
        // The ways of `get` are told apart by its keys.
        if let Some(keys) = line.strip_prefix(b"get") && keys.first() == Some(&b' ') {
            let (one, many) = (get_keys(9, 2, Verb::Get, None, keys), get_many(9, 2, Verb::Get, None, keys));
            prop_assert_eq!(one, many);
        }
    }

    #[test]
    fn no_key_breaks_a_line_and_all_others_are_taken(
        key in proptest::collection::vec(
            prop_oneof![4 => any::<u8>(), 1 => Just(0), 1 => Just(b'\r'), 1 => Just(b'\n'), 1 => Just(b' '), 40 => 1u8..=31],
            1..33,
        ),
        times in 1usize..9,
        form in 0usize..FORMS.len(),
    ) {
        let key = &key.repeat(times)[..];
        let parts: Vec<&[u8]> = FORMS[form].split(|byte| *byte == b'K').collect();
        let input = [&parts.join(key)[..], b"\r\n"].concat();
        let is_good = key.len() <= KEY_LIMIT && !key.iter().any(|byte| [0, b'\r', b'\n', b' '].contains(byte));
        let parsed = parse(&input, 1 << 20);
        if is_good {
            let is_whole = matches!(&parsed, Parsed::Complete { len, .. } if *len == input.len());
            prop_assert!(is_whole, "{:?}: {parsed:?}", input.escape_ascii().to_string());
        }
        if let Parsed::Complete { request, .. } = parsed {
            let mut wire = Vec::new();
            match &request {
                Request::Get(get) => encode::get_one(&mut wire, get.verb, get.exptime, get.keys, None),
                Request::Store(store) => encode::store(&mut wire, store, None),
                Request::Change(change) => encode::change(&mut wire, change, None),
                Request::Meta(meta) => encode::meta(&mut wire, meta, None),
                Request::FlushAll { .. } | Request::Stats(_) | Request::Version | Request::Verbosity { .. }
                | Request::Crawl { .. } | Request::MetaNoop | Request::Quit => panic!("{request:?}"),
            }
            let blocks = wire.split(|byte| *byte == b'\n').count();
            prop_assert_eq!(blocks, 2 + usize::from(FORMS[form].contains(&b'\n')));
            for line in wire.split_inclusive(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let line = line.strip_suffix(b"\r\n").expect("a whole line");
                prop_assert!(!line.contains(&0) && !line.contains(&b'\r'), "{:?}", line.escape_ascii().to_string());
            }
        }
    }
}

/// Requests with a key, or a token, in the place of each `K`.
const FORMS: [&[u8]; 22] = [
    b"get K",
    b"gets K",
    b"gat 0 K",
    b"gats 0 K",
    b"get a K b",
    b"get K K",
    b"set K 0 0 1\r\nx",
    b"add K 0 0 1\r\nx",
    b"replace K 0 0 1\r\nx",
    b"append K 0 0 1\r\nx",
    b"prepend K 0 0 1\r\nx",
    b"cas K 0 0 1 1\r\nx",
    b"delete K",
    b"incr K 1",
    b"decr K 1",
    b"touch K 0",
    b"mg K v",
    b"ms K 1 k\r\nx",
    b"md K",
    b"ma K",
    b"me K",
    b"set K 0 0 1 noreply\r\nx",
];
