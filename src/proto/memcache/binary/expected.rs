//! What is expected as the answer to each request, in order.

use std::collections::VecDeque;

use super::opcode::Verb;
use super::packet::{Asked, Status};

/// Requests for which there is room while there are none.
const KEPT: usize = 32;

/// What a request is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// One of the values of a line of gets, if it is there. The line ends behind the `last` one.
    Value { last: bool },
    /// What a server says.
    Said,
    /// This, whatever is said: the request was refused, or asks for nothing.
    Known(Status),
    /// Success with these words, whatever is said.
    Words(&'static str),
}

/// A request that is not answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) asked: Asked,
    pub(super) verb: Option<Verb>,
    pub(super) is_quiet: bool,
    pub(super) answer: Answer,
    /// Bytes of its key, as far as the answer has need of it.
    pub(super) key: usize,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    expected: VecDeque<Expected>,
    /// Their keys, one behind the other, and where those begin that are still needed.
    keys: Vec<u8>,
    from: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.expected.is_empty()
    }

    pub(super) fn push(&mut self, expected: Expected, key: &[u8]) {
        self.keys.extend_from_slice(key);
        self.expected.push_back(Expected { key: key.len(), ..expected });
    }

    /// The line of gets that the last one belongs to ends behind it.
    pub(super) fn end_line(&mut self) {
        if let Some(last) = self.expected.back_mut() {
            last.answer = Answer::Value { last: true };
        }
    }

    /// Memory that they take, about.
    pub(super) fn footprint(&self) -> usize {
        self.expected.len() * size_of::<Expected>() + self.keys.len()
    }

    /// There are none: gives back what very many took.
    fn rest(&mut self) {
        self.expected.shrink_to(KEPT);
        self.keys.clear();
        self.keys.shrink_to(KEPT * size_of::<Expected>());
        self.from = 0;
    }

    /// The oldest one, and its key.
    pub(super) fn front(&self) -> Option<(Expected, &[u8])> {
        let front = *self.expected.front()?;
        Some((front, &self.keys[self.from..self.from + front.key]))
    }

    /// The oldest one is answered.
    pub(super) fn pop(&mut self) {
        let Some(front) = self.expected.pop_front() else { return };
        self.from += front.key;
        if self.expected.is_empty() {
            self.rest();
        } else if self.from > self.keys.len() / 2 {
            self.keys.drain(..self.from);
            self.from = 0;
        }
    }
}
