//! Connections that were left with something to read: each is read again when it is its turn.

use super::poller::Token;
use super::turn::{BULKY, ENOUGH, SLICE};
use super::worker::Worker;

impl Worker {
    /// Goes on with those that wait to be read, each once, until this turn has dealt with so many bytes that others come
    /// first.
    #[cold]
    pub(crate) fn go_on(&mut self) {
        self.most_read = SLICE;
        for _ in 0..self.again.len() {
            let Some(token) = self.again.pop_front() else { return };
            self.resume(token);
            if self.handled >= ENOUGH {
                return;
            }
        }
    }

    /// Hears the servers among those that wait to be read, a little of each: what they were asked they may have answered
    /// already. Not all of many in one turn. Whether none is left.
    #[cold]
    pub(crate) fn hear_servers(&mut self) -> bool {
        self.most_read = BULKY;
        let (most, mut left) = (self.handled + SLICE, self.unheard.unwrap_or(usize::MAX).min(self.again.len()));
        while left > 0 && self.handled < most {
            left -= 1;
            let Some(token) = self.again.pop_front() else { break };
            if self.is_asked(token) {
                self.resume(token);
            } else {
                self.again.push_back(token);
            }
        }
        self.unheard = Some(left);
        left == 0
    }

    /// Whether this is a server's connection on which an answer is waited for.
    fn is_asked(&mut self, token: Token) -> bool {
        let Token::Link(seat) = token else { return false };
        self.links.at(seat).is_some_and(|link| self.engine.link_is_asked(link))
    }

    /// Goes on with a connection that was left for others to have their turn.
    #[cold]
    pub(crate) fn resume(&mut self, token: Token) {
        match token {
            Token::Client(seat) => {
                if let Some(id) = self.clients.again(seat) {
                    self.serve_client(id);
                }
            }
            Token::Link(seat) => {
                if let Some(link) = self.links.again(seat) {
                    self.read_link(link, self.clock.now());
                }
            }
            Token::Listener(_) | Token::Inbox | Token::Alarm => {}
        }
    }
}
