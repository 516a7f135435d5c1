//! Numbers of command and response lines, read as memcached reads them.

/// Reads an optionally signed decimal number as C's `strtoll` would, the whole token being digits.
///
/// `None` for anything else, and for what does not fit an `i64`.
#[must_use]
pub fn signed(token: &[u8]) -> Option<i64> {
    let (negative, digits) = match token {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let magnitude = digits_only(digits)?;
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// Reads an unsigned decimal number; a leading `+` is allowed, as in C.
#[must_use]
pub fn unsigned(token: &[u8]) -> Option<u64> {
    match token {
        [b'+', rest @ ..] => digits_only(rest),
        rest => digits_only(rest),
    }
}

/// Reads digits and nothing else.
#[must_use]
#[inline]
pub fn digits_only(digits: &[u8]) -> Option<u64> {
    // So many fit a `u64` whatever they are; most numbers have a few.
    let (safe, more) = digits.split_at_checked(19).unwrap_or((digits, &[]));
    let digit = |byte: &u8| Some(u64::from(byte.wrapping_sub(b'0'))).filter(|digit| *digit <= 9);
    let mut value = digit(safe.first()?)?;
    for byte in &safe[1..] {
        value = value * 10 + digit(byte)?;
    }
    for byte in more {
        value = value.checked_mul(10)?.checked_add(digit(byte)?)?;
    }
    Some(value)
}

/// The number of at most 19 digits that stands behind a blank at `at`, and where it ends.
#[must_use]
#[inline(always)]
pub fn behind_blank(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let &[b' ', first, ref behind @ ..] = bytes.get(at..)? else { return None };
    let mut value = u64::from(first.wrapping_sub(b'0'));
    if value > 9 {
        return None;
    }
    // So many digits fit whatever they are.
    for digits in 0..19 {
        let digit = behind.get(digits)?.wrapping_sub(b'0');
        if digit > 9 {
            return Some((value, at + 2 + digits));
        }
        value = value.wrapping_mul(10).wrapping_add(digit.into());
    }
    None
}

/// Appends `value` in decimal.
#[inline]
pub fn push(out: &mut Vec<u8>, mut value: u64) {
    if let Ok(digit @ 0..=9) = u8::try_from(value) {
        return out.push(b'0' + digit);
    }
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends `value` in decimal, with its sign when it is negative.
pub fn push_signed(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    push(out, value.unsigned_abs());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        for (token, expected) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("+7", Some(7)),
            ("4294967295", Some(4_294_967_295)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("1x", None),
            ("0x10", None),
            ("--1", None),
        ] {
            assert_eq!(signed(token.as_bytes()), expected, "{token:?}");
        }
        assert_eq!(unsigned(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(unsigned(b"18446744073709551616"), None);
        assert_eq!(unsigned(b"-1"), None);
    }

    #[test]
    fn written_numbers_read_back() {
        for value in [0, 9, 10, 4_294_967_296, i64::MAX, -1, i64::MIN] {
            let mut out = Vec::new();
            push_signed(&mut out, value);
            assert_eq!(signed(&out), Some(value));
        }
    }
}
