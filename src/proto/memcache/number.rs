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
    match leading(digits) {
        Some((value, len)) if len == digits.len() => Some(value),
        _ => None,
    }
}

/// Reads the digits at the front of some bytes, at least one; returns the number and how many digits it has.
#[must_use]
#[inline]
pub fn leading(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value: u64 = 0;
    let mut len = 0;
    while let Some(digit) = bytes.get(len).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit <= 9) {
        value = if len < SAFE_DIGITS {
            value * 10 + u64::from(digit)
        } else {
            value.checked_mul(10)?.checked_add(u64::from(digit))?
        };
        len += 1;
    }
    (len > 0).then_some((value, len))
}

/// So many digits fit a `u64` whatever they are.
const SAFE_DIGITS: usize = 19;

/// Appends `value` in decimal.
#[inline]
pub fn push(out: &mut Vec<u8>, mut value: u64) {
    if value < 10 {
        out.push(b'0' + value as u8);
        return;
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
