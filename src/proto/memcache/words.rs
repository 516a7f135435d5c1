//! The words of a request line.

use crate::proto::bytes::find;

/// The words of a line: what stands between spaces.
#[derive(Debug, Clone)]
pub struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    /// The words of `line`.
    #[must_use]
    pub const fn new(line: &'a [u8]) -> Self {
        Self { rest: line }
    }

    /// What has not been taken yet, spaces included.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next word with the blank that stands before it, if one does.
    #[inline]
    pub fn next_with_blank(&mut self) -> Option<&'a [u8]> {
        let mut rest = self.rest;
        while let [b' ', behind @ ..] = rest
            && behind.first() == Some(&b' ')
        {
            rest = behind;
        }
        let word = rest.strip_prefix(b" ").unwrap_or(rest);
        if word.is_empty() {
            return None;
        }
        let blank = rest.len() - word.len();
        let (word, rest) = rest.split_at(blank + find(b' ', word).unwrap_or(word.len()));
        self.rest = rest;
        Some(word)
    }

    /// Up to `N` words and how many there are in all (counted to `N + 1` at most).
    pub(super) fn take<const N: usize>(mut self) -> ([&'a [u8]; N], usize) {
        let mut tokens = [&b""[..]; N];
        for (count, token) in tokens.iter_mut().enumerate() {
            match self.next() {
                Some(word) => *token = word,
                None => return (tokens, count),
            }
        }
        let more = usize::from(self.next().is_some());
        (tokens, N + more)
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let mut rest = self.rest;
        while let [b' ', behind @ ..] = rest {
            rest = behind;
        }
        if rest.is_empty() {
            return None;
        }
        let (word, rest) = rest.split_at(find(b' ', rest).unwrap_or(rest.len()));
        self.rest = rest;
        Some(word)
    }
}
