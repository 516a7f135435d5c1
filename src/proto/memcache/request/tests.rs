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
}
