//! What is expected as the answer to each request, in order.

use super::opcode::{Verb, verb};
use super::packet::{Asked, Status};

/// Requests for which there is room while there are none, and bytes of their keys.
const KEPT: usize = 32;
const KEPT_KEYS: usize = 2 << 10;

/// What a request is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// One of the values of a line of gets, if it is there. The line ends behind the `last` one.
    Value { last: bool },
    /// Success, as soon as the line of gets in front of it has been answered: nothing is asked for it.
    Behind,
    /// What a server says.
    Said,
    /// This, whatever is said: the request was refused, or asks for nothing.
    Known(Status),
    /// Success with these words, whatever is said.
    Words(Words),
}

/// What a client is told that asks how it may say who it is, or has said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    /// The one way there is.
    Ways,
    Admitted,
}

/// A request that is not answered. There are many at a time, so it is short.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) asked: Asked,
    pub(super) answer: Answer,
    /// Bytes of its key, as far as the answer has need of it.
    key: u16,
}

impl Expected {
    pub(super) const fn new(asked: Asked, answer: Answer) -> Self {
        Self { asked, answer, key: 0 }
    }

    /// What was asked. `None` of what no server knows.
    pub(super) fn verb(self) -> Option<Verb> {
        Some(verb(self.asked.opcode)?.0)
    }

    /// What it is about mostly is not told.
    pub(super) fn is_quiet(self) -> bool {
        verb(self.asked.opcode).is_some_and(|(_, is_quiet)| is_quiet)
    }

    /// Whether the answer has need of its key.
    pub(super) const fn has_key(self) -> bool {
        self.key > 0
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Those from `next` on are not answered.
    expected: Vec<Expected>,
    next: usize,
    /// Their keys, one behind the other, and where those begin that are still needed.
    keys: Vec<u8>,
    from: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.next == self.expected.len()
    }

    /// Expects one more. Its key is one that a server takes, or there is none.
    #[inline]
    pub(super) fn push(&mut self, expected: Expected, key: &[u8]) {
        let len = u16::try_from(key.len()).unwrap_or(u16::MAX);
        self.keys.extend_from_slice(&key[..len.into()]);
        self.expected.push(Expected { key: len, ..expected });
    }

    /// The line of gets that the last one belongs to ends behind it.
    pub(super) fn end_line(&mut self) {
        if let Some(last) = self.expected.last_mut() {
            last.answer = Answer::Value { last: true };
        }
    }

    /// Whether the last one is of a line of gets that has still to be answered.
    pub(super) fn ends_with_gets(&self) -> bool {
        self.expected[self.next..].last().is_some_and(|last| matches!(last.answer, Answer::Value { .. }))
    }

    /// Memory that they take, about.
    pub(super) fn footprint(&self) -> usize {
        self.expected.len() * size_of::<Expected>() + self.keys.len()
    }

    /// The oldest one, and its key.
    #[inline]
    pub(super) fn front(&self) -> Option<(Expected, &[u8])> {
        let front = *self.expected.get(self.next)?;
        Some((front, &self.keys[self.from..self.from + usize::from(front.key)]))
    }

    /// The oldest one is answered.
    #[inline]
    pub(super) fn pop(&mut self) {
        if let Some(front) = self.expected.get(self.next) {
            self.from += usize::from(front.key);
            self.next += 1;
        }
    }

    /// Gives back what those took that are answered: of all when none is left, and now and then before.
    pub(super) fn tidy(&mut self) {
        if self.is_empty() {
            self.expected.clear();
            self.expected.shrink_to(KEPT);
            self.keys.clear();
            self.keys.shrink_to(KEPT_KEYS);
            (self.next, self.from) = (0, 0);
        } else if self.next > self.expected.len() / 2 {
            self.expected.drain(..self.next);
            self.keys.drain(..self.from);
            (self.next, self.from) = (0, 0);
        }
    }
}
