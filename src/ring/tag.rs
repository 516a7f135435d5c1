//! Hash tags: the part of a key between two marks, which alone is hashed.

use std::ops::Range;

/// The part of `key` that is hashed: between the first opening mark and the first closing mark behind it, if there is at
/// least a byte between; else the whole key. There is no second try behind an empty pair (twemproxy).
#[must_use]
#[inline]
pub fn hashed_range(tag: Option<[u8; 2]>, key: &[u8]) -> Range<usize> {
    let Some([open, close]) = tag else { return 0..key.len() };
    let inside = memchr::memchr(open, key).and_then(|at| {
        let start = at + 1;
        memchr::memchr(close, &key[start..]).map(|len| start..start + len)
    });
    inside.filter(|range| !range.is_empty()).unwrap_or(0..key.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_tag_counts_and_an_empty_one_does_not() {
        for (key, expected) in [
            ("user:{42}:name", 6..8),
            ("{42}", 1..3),
            ("plain", 0..5),
            ("{}x{42}", 0..7),
            ("}a{42", 0..5),
            ("}a{42}", 3..5),
            ("a{b{c}d}", 2..5),
        ] {
            assert_eq!(hashed_range(Some(*b"{}"), key.as_bytes()), expected, "{key}");
        }
        assert_eq!(hashed_range(Some(*b"$$"), b"a$b$c"), 2..3);
        assert_eq!(hashed_range(None, b"a{b}"), 0..4);
    }
}
