use super::{Translator, Unexpected};

/// A request of the binary protocol.
fn asked(opcode: u8, key: &[u8], extras: &[u8], value: &[u8], opaque: u8) -> Vec<u8> {
    let body = u8::try_from(extras.len() + key.len() + value.len()).unwrap();
    let (key_len, extras_len) = (u8::try_from(key.len()).unwrap(), u8::try_from(extras.len()).unwrap());
    let mut bytes = vec![0x80, opcode, 0, key_len, extras_len, 0, 0, 0, 0, 0, 0, body, 0, 0, 0, opaque];
    bytes.extend_from_slice(&[0; 8]);
    [&bytes[..], extras, key, value].concat()
}

/// The opcode, the status and the opaque number of each answer, and what stands behind its header.
fn told(mut out: &[u8]) -> Vec<(u8, u8, u8, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some((header, rest)) = out.split_at_checked(24) {
        let (body, rest) = rest.split_at(header[11].into());
        all.push((header[1], header[7], header[15], body.to_vec()));
        out = rest;
    }
    assert!(out.is_empty());
    all
}

#[test]
fn quiet_gets_next_to_each_other_are_one_line_and_what_is_left_out_of_its_answer_is_not_there() {
    let mut translator = Translator::new();
    let sent = [
        asked(0x0d, b"a", b"", b"", 1),
        asked(0x09, b"a", b"", b"", 3),
        asked(0x0c, b"b", b"", b"", 2),
        asked(0x0a, b"", b"", b"", 4),
    ];
    let (mut text, mut out) = (Vec::new(), Vec::new());
    translator.ask(&sent.concat(), &mut text);
    // That there is nothing to do is told when what stands in front of it has been: nobody has to be asked.
    assert_eq!(String::from_utf8_lossy(&text), "gets a a\r\ngets b\r\n");
    translator.answer(b"VALUE a 5 1 7\r\nx\r\nEND\r\nEND\r\n", &mut out).unwrap();
    let hit = (0x0d, 0, 1, b"\0\0\0\x05ax".to_vec());
    assert_eq!(told(&out), [hit, (0x0c, 1, 2, b"b".to_vec()), (0x0a, 0, 4, Vec::new())]);
    assert!(translator.is_idle());
}

#[test]
fn a_no_op_behind_gets_is_told_when_all_of_them_have_been() {
    let get = |number| asked(0x0d, b"a", b"", b"", number);
    let no_op = |number| asked(0x0a, b"", b"", b"", number);
    let hit = |number| (0x0d, 0, number, b"\0\0\0\x05ax".to_vec());
    let done = |number| (0x0a, 0, number, Vec::new());
    let value = "VALUE a 5 1 7\r\nx\r\n";
    for (end, status) in [("END\r\n", None), ("SERVER_ERROR timed out\r\n", Some(0x86))] {
        for piece in [1, 7, 1000] {
            let mut translator = Translator::new();
            let (mut text, mut out) = (Vec::new(), Vec::new());
            let sent = [get(1), get(2), no_op(3), no_op(4), get(5), no_op(6), asked(4, b"a", b"", b"", 7), no_op(8)];
            translator.ask(&sent.concat(), &mut text);
            assert_eq!(String::from_utf8_lossy(&text), "gets a a\r\nmn\r\ngets a\r\nmd a\r\nmn\r\n");
            let said = format!("{value}{end}MN\r\n{value}END\r\nHD\r\nMN\r\n");
            said.as_bytes().chunks(piece).for_each(|said| translator.answer(said, &mut out).unwrap());
            let second = status.map(|status| (0x0d, status, 2, b"timed out".to_vec()));
            let all = [vec![hit(1)], second.into_iter().collect(), vec![done(3), done(4), hit(5), done(6)]].concat();
            let rest = [(4, 0, 7, Vec::new()), done(8)];
            assert_eq!(told(&out), [&all[..], &rest].concat());
            assert!(translator.is_idle());
        }
    }
}

#[test]
fn a_line_of_gets_that_fails_fails_what_has_not_been_answered_of_it() {
    let (mut text, mut out) = (Vec::new(), Vec::new());
    let sent: Vec<_> =
        [(b"a", 1), (b"b", 2), (b"c", 3)].map(|(key, number)| asked(0x0d, key, b"", b"", number)).concat();
    let mut translator = Translator::new();
    translator.ask(&sent, &mut text);
    assert_eq!(text, b"gets a b c\r\n");
    // The last one is there: what was left out in front of it is told to have failed all the same.
    translator.answer(b"VALUE c 0 1 7\r\nx\r\nSERVER_ERROR timed out\r\n", &mut out).unwrap();
    let failed = |number| (0x0d, 0x86, number, b"timed out".to_vec());
    assert_eq!(told(&out)[1..], [failed(1), failed(2)]);
    assert!(translator.is_idle());
}

#[test]
fn what_is_no_answer_to_what_was_asked_is_told_to_nobody() {
    for (sent, said) in [
        (asked(0, b"a", b"", b"", 1), &b"VALUE b 0 1 7\r\n"[..]),
        (asked(0, b"a", b"", b"", 1), b"VALUE a 0 1\r\n"),
        (asked(0, b"a", b"", b"", 1), b"STORED\r\n"),
        (asked(0, b"a", b"", b"", 1), b"END\r\nEND\r\n"),
        (asked(4, b"a", b"", b"", 1), b"VA 1\r\n"),
        (asked(0x0a, b"", b"", b"", 1), b"HD\r\n"),
        (asked(5, b"a", &[0; 20], b"", 1), b"HD\r\n"),
        (asked(0x1c, b"a", &[0; 4], b"", 1), b"NS\r\n"),
    ] {
        let mut translator = Translator::new();
        let (mut text, mut out) = (Vec::new(), Vec::new());
        translator.ask(&sent, &mut text);
        let outcome = translator.answer(said, &mut out);
        assert_eq!(outcome, Err(Unexpected), "{:?}", said.escape_ascii().to_string());
    }
}

#[test]
fn a_value_that_is_longer_than_text_counts_is_never_passed_on() {
    for len in [1u32 << 30, 0x7fff_fffd, 0x7fff_fffe, 0x8000_0000, 0xffff_0000] {
        let mut translator = Translator::new();
        let (mut text, mut out) = (Vec::new(), Vec::new());
        let mut sent = asked(0x11, b"k", &[0; 8], b"", 1);
        sent[8..12].copy_from_slice(&(len + 10).to_be_bytes());
        sent.extend_from_slice(b"\r\nset evil 0 0 3\r\nbar\r\n");
        translator.ask(&sent, &mut text);
        assert_eq!(String::from_utf8_lossy(&text), "mn\r\n", "{len:#x}");
        translator.answer(b"MN\r\n", &mut out).unwrap();
        assert_eq!(told(&out)[0].1, 3);
    }
}

/// A memcached that takes flags of 64 bits tells as many of them as there is room for in this protocol.
#[test]
fn of_flags_that_are_too_long_the_last_bits_are_told() {
    let flags = 0x17_4876_e7ff_u64;
    let bits = b"\x48\x76\xe7\xff".to_vec();
    for (sent, said) in [
        (asked(0, b"a", b"", b"", 1), format!("VALUE a {flags} 1 7\r\nx\r\nEND\r\n")),
        (asked(0x0d, b"a", b"", b"", 1), format!("VALUE a {flags} 1 7\r\nx\r\nEND\r\n")),
        (asked(0x1d, b"a", &[0; 4], b"", 1), format!("VA 1 f{flags} c7\r\nx\r\n")),
    ] {
        for piece in [1, 1000] {
            let mut translator = Translator::new();
            let (mut text, mut out) = (Vec::new(), Vec::new());
            translator.ask(&sent, &mut text);
            said.as_bytes().chunks(piece).for_each(|said| translator.answer(said, &mut out).unwrap());
            let told = told(&out);
            assert_eq!((told[0].1, &told[0].3[..4]), (0, &bits[..]), "{said:?}");
        }
    }
}
