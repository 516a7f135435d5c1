//! memcached's binary protocol, as clients speak it: what one asks becomes requests of the text protocol, and their answers
//! become binary ones.
//!
//! A [`Translator`] stands between a client's connection and all that serves text clients, which so has nothing to know of the
//! binary protocol: it splits, waits, fails and counts as always. [`Translator::ask`] makes exactly one text request of each
//! binary one, but for quiet gets, which share a line with those next to them, and for a no-op behind gets, which is answered
//! when they are; what is expected for each is kept, in order, until [`Translator::answer`] has turned its answer. Quiet requests differ in what is told only: each is answered in text.
//!
//! Rules: memcached's `doc/protocol-binary.txt`, and the behaviour of 1.6.18 where that is silent.

mod answer;
mod ask;
mod expected;
mod opcode;
mod packet;
mod sasl;
#[cfg(test)]
mod tests;
mod text;
mod translator;

pub use packet::MAGIC;
pub use translator::{Translator, Unexpected};
