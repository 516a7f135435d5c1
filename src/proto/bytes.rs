//! Looking for bytes in short stretches: a word or a line at a time, eight bytes in a step.
//!
//! Words and lines of a request are a few dozen bytes, where a call of `memchr` costs more than it saves; beyond that
//! it is asked all the same.

/// A byte in each place of a word.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

const HIGH: u64 = each(0x80);

/// Bytes that are looked at in steps of eight before `memchr` is worth its call.
const SHORT: usize = 48;

/// A mark in the upper bit of each byte that is zero. Above the first such byte there may be false ones.
#[inline]
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(each(1)) & !word & HIGH
}

/// As [`zeros`], of the bytes that are less than `limit`, which is at most 0x80.
#[inline]
const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(each(limit)) & !word & HIGH
}

/// The place of the first byte that `marks` finds, given eight at a time, and `is` finds alone.
#[inline]
fn first(bytes: &[u8], marks: impl Fn(u64) -> u64, is: impl Fn(u8) -> bool) -> Option<usize> {
    let place = |marks: u64| (marks.trailing_zeros() / 8) as usize;
    let (words, _) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let marks = marks(u64::from_le_bytes(*word));
        if marks != 0 {
            return Some(index * 8 + place(marks));
        }
    }
    // The rest, together with bytes that are known not to be it.
    match bytes.last_chunk::<8>() {
        Some(last) => {
            let marks = marks(u64::from_le_bytes(*last));
            (marks != 0).then(|| bytes.len() - 8 + place(marks))
        }
        None => bytes.iter().position(|byte| is(*byte)),
    }
}

/// A mark in the upper bit of each of the first eight bytes that is a blank.
#[inline]
pub(super) fn blanks(bytes: &[u8]) -> u64 {
    const REST: u64 = !HIGH;
    let chunk = bytes.first_chunk().copied().unwrap_or_else(|| {
        let mut chunk = [0; 8];
        chunk[..bytes.len()].copy_from_slice(bytes);
        chunk
    });
    let word = u64::from_le_bytes(chunk) ^ each(b' ');
    // Unlike `zeros`, without false ones: no byte's sum carries into the next.
    !(((word & REST) + REST) | word | REST)
}

/// The place of the first `byte`, which is expected to be near.
#[inline]
pub(super) fn find(byte: u8, bytes: &[u8]) -> Option<usize> {
    first(bytes, |word| zeros(word ^ each(byte)), |other| other == byte)
}

/// The place of the first `byte`, be it near or far.
#[inline]
pub(super) fn find_far(byte: u8, bytes: &[u8]) -> Option<usize> {
    match bytes.split_at_checked(SHORT) {
        None => find(byte, bytes),
        Some((near, far)) => find(byte, near).or_else(|| memchr::memchr(byte, far).map(|at| SHORT + at)),
    }
}

/// The place of the first blank or control byte below it.
#[inline]
pub(super) fn find_blank(bytes: &[u8]) -> Option<usize> {
    first(bytes, |word| below(word, b' ' + 1), |byte| byte <= b' ')
}

/// Whether a byte is a control byte.
#[inline]
pub(super) const fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

/// Whether a byte ends a line for a server, or cuts it: what stands behind it would be taken for something else.
#[inline]
pub(super) const fn breaks_line(byte: u8) -> bool {
    matches!(byte, 0 | b'\r' | b'\n')
}

/// Whether there is a byte among some that [`breaks_line`].
#[inline]
pub(super) fn has_line_break(bytes: &[u8]) -> bool {
    let marks = |word: u64| zeros(word) | zeros(word ^ each(b'\r')) | zeros(word ^ each(b'\n'));
    let (words, rest) = bytes.as_chunks::<8>();
    let all = words.iter().fold(0, |all, word| all | marks(u64::from_le_bytes(*word)));
    let last = match bytes.last_chunk::<8>() {
        Some(last) => marks(u64::from_le_bytes(*last)) != 0,
        None => rest.iter().any(|byte| breaks_line(*byte)),
    };
    all != 0 || last
}

/// The place of the first byte that is not in a key as almost everybody writes it: a blank or a control byte.
#[inline]
pub(super) fn find_key_end(bytes: &[u8]) -> Option<usize> {
    let marks = |word: u64| below(word, b' ' + 1) | zeros(word ^ each(0x7f));
    first(bytes, marks, |byte| byte <= b' ' || byte == 0x7f)
}

/// Whether two short stretches are the same.
#[inline]
pub(super) fn is_same(one: &[u8], other: &[u8]) -> bool {
    let (words, rest) = one.as_chunks::<8>();
    let (others, _) = other.as_chunks::<8>();
    one.len() == other.len()
        && words.iter().zip(others).all(|(one, other)| u64::from_le_bytes(*one) == u64::from_le_bytes(*other))
        && match (one.last_chunk::<8>(), other.last_chunk::<8>()) {
            (Some(one), Some(other)) => u64::from_le_bytes(*one) == u64::from_le_bytes(*other),
            _ => rest == other,
        }
}

/// How many words stand between the blanks, if no byte is a NUL or CR. A LF is not looked for: it ends the line.
///
/// A blank and another byte behind it are the start of a word. They are counted sixteen at a time, in loops that a
/// compiler turns into a few vector instructions.
#[inline(never)]
pub(super) fn count_words(bytes: &[u8]) -> Option<usize> {
    const LANES: usize = 16;
    let Some((first, behind)) = bytes.split_first() else { return Some(0) };
    let mut count = usize::from(*first != b' ');
    let mut bad = [u8::from(breaks_line(*first)); LANES];
    let mut look = |before: &[u8; LANES], at: &[u8; LANES], starts: &mut [u8; LANES]| {
        for lane in 0..LANES {
            starts[lane] += u8::from(before[lane] == b' ') & u8::from(at[lane] != b' ');
            bad[lane] |= u8::from(at[lane] == 0) | u8::from(at[lane] == b'\r');
        }
    };
    let (whole, _) = behind.as_chunks::<LANES>();
    let (before, _) = bytes.as_chunks::<LANES>();
    for (befores, ats) in before.chunks(200).zip(whole.chunks(200)) {
        let mut starts = [0; LANES]; // too few for an overflow
        befores.iter().zip(ats).for_each(|(before, at)| look(before, at, &mut starts));
        count += starts.iter().map(|lane| usize::from(*lane)).sum::<usize>();
    }
    // What is left, and blanks behind it.
    let rest = &bytes[whole.len() * LANES..];
    let mut padded = [b' '; LANES + 1];
    padded[..rest.len()].copy_from_slice(rest);
    if let (Some(before), Some(at)) = (padded.first_chunk(), padded.last_chunk()) {
        let mut starts = [0; LANES];
        look(before, at, &mut starts);
        count += starts.iter().map(|lane| usize::from(*lane)).sum::<usize>();
    }
    (bad == [0; LANES]).then_some(count)
}

/// Whether there is a word of more than `limit` bytes.
#[inline(never)]
pub(super) fn has_word_beyond(limit: usize, bytes: &[u8]) -> bool {
    let mut at = 0;
    while let Some(stretch) = bytes.get(at..=at + limit) {
        match stretch.iter().rposition(|byte| *byte == b' ') {
            Some(blank) => at += blank + 1, // all words before it fit
            None => return true,
        }
    }
    false
}

/// Whether somebody has said a secret. Takes as long wherever the first difference is.
pub(crate) fn is_same_secret(said: &[u8], secret: &[u8]) -> bool {
    let length = u8::from(said.len() != secret.len());
    let other = secret.iter().zip(said.iter().chain(std::iter::repeat(&0)));
    std::hint::black_box(other.fold(length, |all, (one, other)| all | (one ^ other))) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes near the limits, where a carry could go wrong, among any.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let one = prop_oneof![
            prop_oneof![Just(0x1f), Just(0x20), Just(0x21), Just(0x7e), Just(0x7f), Just(0x80), Just(1), Just(0xff)],
            prop_oneof![19 => Just(b'x'), 1 => any::<u8>(), 1 => Just(0), 1 => Just(b'\r'), 1 => Just(b'\n')],
            b'!'..b'~',
            b'!'..b'~',
            b'!'..b'~',
        ];
        proptest::collection::vec(one, 0..120)
    }

    proptest! {
        #[test]
        fn steps_of_eight_find_what_single_steps_find(bytes in bytes(), wanted: u8) {
            for wanted in [wanted, b' ', b'\n', 0x7f] {
                let expected = bytes.iter().position(|byte| *byte == wanted);
                prop_assert_eq!(find(wanted, &bytes), expected);
                prop_assert_eq!(find_far(wanted, &bytes), expected);
            }
            prop_assert_eq!(find_blank(&bytes), bytes.iter().position(|byte| *byte <= b' '));
            let is_bad = bytes.iter().any(|byte| breaks_line(*byte));
            prop_assert_eq!(has_line_break(&bytes), is_bad);
            let end = bytes.iter().position(|byte| *byte == b' ' || is_control(*byte));
            prop_assert_eq!(find_key_end(&bytes), end);
        }

        #[test]
        fn short_stretches_are_compared(mut one in bytes(), at: usize, other: u8) {
            prop_assert!(is_same(&one, &one.clone()));
            let before = one.clone();
            if !one.is_empty() {
                let at = at % one.len();
                one[at] = other;
                prop_assert_eq!(is_same(&one, &before), one == before);
                prop_assert!(!is_same(&one, &before[1..]) && !is_same(&one[..at], &before));
            }
        }

        #[test]
        fn words_are_counted_and_measured(
            words in proptest::collection::vec("[a-z]{0,30}", 0..400),
            control in proptest::option::weighted(0.4, (any::<usize>(), prop_oneof![Just(0x7f), Just(0), Just(b'\r'), Just(1)])),
        ) {
            let mut bytes = words.join(" ").into_bytes();
            let words = || words.iter().filter(|word| !word.is_empty());
            for limit in [1, 10, 29, 30] {
                prop_assert_eq!(has_word_beyond(limit, &bytes), words().any(|word| word.len() > limit));
            }
            let mut expected = Some(words().count());
            if let Some((at, byte)) = control && !bytes.is_empty() {
                let at = at % bytes.len();
                bytes[at] = byte;
                let count = bytes.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).count();
                expected = (!breaks_line(byte)).then_some(count);
            }
            prop_assert_eq!(count_words(&bytes), expected);
        }
    }
}
