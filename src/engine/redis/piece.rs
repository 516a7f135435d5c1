//! The parts of a request that several servers get.

use crate::config::model::ServerId;
use crate::engine::ways::To;
use crate::failure::Failure;
use crate::proto::resp::args::Args;
use crate::proto::resp::encode;
use std::ops::Deref;

/// What goes to one server.
#[derive(Debug)]
pub(in crate::engine) struct Piece {
    pub(super) to: To,
    pub(super) request: Vec<u8>,
    /// Replies that it will be answered with.
    pub(super) replies: u32,
}

/// What belongs to one server of a request's keys.
#[derive(Debug)]
pub(in crate::engine) struct Share {
    pub(super) server: Option<ServerId>,
    pub(super) number: u16,
    /// Arguments of it.
    pub(super) words: usize,
    /// Its first key and its last.
    pub(super) first: u32,
    pub(super) last: u32,
}

impl Share {
    /// Where it is to go.
    pub(super) fn to(&self) -> To {
        self.server.map_or(To::Nowhere(None, Failure::Ejected), To::Server)
    }

    /// Appends the share as a request of its own; `chain` is for each key the next one of the same share.
    pub(super) fn write(&self, out: &mut Vec<u8>, args: Args<'_>, stride: usize, chain: &[u32]) {
        encode::array(out, self.words + 1);
        args.push(0, out);
        let mut key = self.first as usize;
        loop {
            let place = 1 + key * stride;
            args.push(place, out);
            if stride == 2 {
                args.push(place + 1, out);
            }
            if key == self.last as usize {
                return;
            }
            key = chain[key] as usize;
        }
    }
}

/// The shares of one request, each found by its server.
#[derive(Debug, Default)]
pub(in crate::engine) struct Shares {
    list: Vec<Share>,
    /// For none and for each server behind it, one more than the number of its share; 0 where it has none.
    numbers: Vec<u32>,
}

impl Shares {
    /// The share of a server, which may be one of none: a new one, beginning with a key, if it has none yet.
    #[inline]
    pub(super) fn of(&mut self, server: Option<ServerId>, key: u32) -> &mut Share {
        let place = place(server);
        let number = match self.numbers.get(place) {
            Some(&number) if number > 0 => number as usize - 1,
            _ => self.add(server, key),
        };
        &mut self.list[number]
    }

    #[inline(never)]
    fn add(&mut self, server: Option<ServerId>, key: u32) -> usize {
        let (number, place) = (self.list.len(), place(server));
        if self.numbers.len() <= place {
            self.numbers.resize(place + 1, 0);
        }
        self.numbers[place] = u32::try_from(number + 1).unwrap_or(u32::MAX);
        let name = u16::try_from(number).unwrap_or(u16::MAX);
        self.list.push(Share { server, number: name, words: 0, first: key, last: key });
        number
    }

    /// Makes room for another request's.
    pub(super) fn clear(&mut self) {
        for share in self.list.drain(..) {
            self.numbers[place(share.server)] = 0;
        }
    }
}

impl Deref for Shares {
    type Target = [Share];

    fn deref(&self) -> &[Share] {
        &self.list
    }
}

/// Where a server's number is: for none, before those of all.
#[inline]
fn place(server: Option<ServerId>) -> usize {
    server.map_or(0, |server| server.index() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_one_share_and_each_request_its_own() {
        let mut shares = Shares::default();
        for servers in [&[Some(700), None, Some(0), Some(700), None][..], &[None, Some(3), Some(0), None, Some(3)]] {
            shares.clear();
            let numbers: Vec<u16> = (0..)
                .zip(servers)
                .map(|(key, server)| {
                    let share = shares.of(server.map(ServerId), key);
                    assert_eq!(share.server, server.map(ServerId));
                    share.number
                })
                .collect();
            assert_eq!(numbers, [0, 1, 2, 0, 1]);
            assert_eq!(shares.iter().map(|share| share.first).collect::<Vec<_>>(), [0, 1, 2]);
        }
    }
}
