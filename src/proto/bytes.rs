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

/// Whether there is a control byte among some.
#[inline]
pub(super) fn has_control(bytes: &[u8]) -> bool {
    let marks = |word: u64| below(word, 0x20) | zeros(word ^ each(0x7f));
    let (words, rest) = bytes.as_chunks::<8>();
    let all = words.iter().fold(0, |all, word| all | marks(u64::from_le_bytes(*word)));
    let last = match bytes.last_chunk::<8>() {
        Some(last) => marks(u64::from_le_bytes(*last)) != 0,
        None => rest.iter().any(|byte| is_control(*byte)),
    };
    all != 0 || last
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes near the limits, where a carry could go wrong, among any.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let one = prop_oneof![
            prop_oneof![Just(0x1f), Just(0x20), Just(0x21), Just(0x7e), Just(0x7f), Just(0x80), Just(0), Just(0xff)],
            any::<u8>(),
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
            prop_assert_eq!(has_control(&bytes), bytes.iter().any(|byte| is_control(*byte)));
        }
    }
}
