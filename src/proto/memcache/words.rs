//! The words of a request line.

use crate::proto::bytes::{blanks, find};

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

    /// The next word, known to have `len` bytes, with the blank before it. `None`, and nothing taken, when it cannot be so:
    /// where there is no blank before or behind it, or nothing is known, which 0 stands for.
    #[inline]
    pub fn next_with_blank_of(&mut self, len: usize) -> Option<&'a [u8]> {
        let (word, rest) = self.rest.split_at_checked(1 + len)?;
        let is_one = len > 0 && word.first() == Some(&b' ') && rest.first().is_none_or(|behind| *behind == b' ');
        is_one.then(|| {
            self.rest = rest;
            word
        })
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

/// The words of a line that has many of them, each with the blank that stands before it, if one does. Eight bytes are
/// looked at together, and once, however many words are in them.
#[derive(Debug)]
pub struct ManyWords<'a> {
    line: &'a [u8],
    /// Where the next word starts, or a blank before it.
    start: usize,
    /// Where what has not been looked at starts.
    ahead: usize,
    /// The blanks that are left in the eight bytes before that, as a mark in each byte.
    marks: u64,
}

impl<'a> ManyWords<'a> {
    /// The words of `line`.
    #[must_use]
    pub const fn new(line: &'a [u8]) -> Self {
        Self { line, start: 0, ahead: 0, marks: 0 }
    }
}

impl<'a> Iterator for ManyWords<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            while self.marks == 0 {
                if self.ahead >= self.line.len() {
                    let word = &self.line[self.start..];
                    self.start = self.line.len();
                    return (!matches!(word, [] | [b' '])).then_some(word);
                }
                self.marks = blanks(&self.line[self.ahead..]);
                self.ahead += 8;
            }
            let blank = self.ahead - 8 + (self.marks.trailing_zeros() / 8) as usize;
            self.marks &= self.marks - 1;
            let word = &self.line[self.start..blank];
            self.start = blank;
            if !matches!(word, [] | [b' ']) {
                return Some(word); // otherwise there is another blank before it
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn many_words_are_the_words(words in proptest::collection::vec("[!-~\u{80}-\u{ff}]{0,20}", 0..60)) {
            let line = words.join(" ");
            let line = line.as_bytes();
            let many: Vec<&[u8]> = ManyWords::new(line).collect();
            prop_assert!(Words::new(line).eq(many.iter().map(|word| word.strip_prefix(b" ").unwrap_or(word))));
            // Each with the blank before it, wherever in the line it stands.
            for word in many {
                let at = word.as_ptr() as usize - line.as_ptr() as usize;
                prop_assert!(at == 0 || word[0] == b' ', "{word:?} at {at}");
            }
        }

        #[test]
        fn a_word_of_known_length_is_taken_only_where_it_stands(line in "[ a-c]{0,12}", len in 0usize..6) {
            let mut words = Words::new(line.as_bytes());
            let taken = words.next_with_blank_of(len);
            let mut all = Words::new(line.as_bytes());
            let is_next = line.starts_with(' ') && !line.starts_with("  ");
            prop_assume!(line.get(1..=len).is_none_or(|word| !word.contains(' ')));
            match all.next().filter(|next| is_next && next.len() == len) {
                Some(next) => {
                    prop_assert_eq!(taken.and_then(|word| word.strip_prefix(b" ")), Some(next));
                    prop_assert_eq!(words.rest(), all.rest());
                }
                None => {
                    prop_assert_eq!(taken, None);
                    prop_assert_eq!(words.rest(), line.as_bytes());
                }
            }
        }
    }
}
