//! Who is let in, and by which entrances.

use super::Worker;
use crate::io::listener::{Accepted, Entrances};

/// Clients accepted in one turn, after which those who are there get theirs.
const ACCEPTS_PER_TURN: usize = 64;

/// Turns in which clients are accepted of a listener before it is closed: so many wait in a backlog, and those who come all the
/// time are not waited for.
const LAST_TURNS: usize = 4096 / ACCEPTS_PER_TURN;

impl Worker {
    /// There is another topology.
    pub(super) fn go_over(&mut self, entrances: Option<Box<Entrances>>) {
        self.engine.refresh(self.clock.now());
        self.slack.set_limit(self.engine.topology().config.settings.memory_limit, self.others.len() + 1);
        self.is_alarmed = true;
        let Some((entrances, acceptor)) = entrances.zip(self.acceptor.as_ref()) else { return };
        // Who waits in a backlog has been told that there is somebody.
        for place in acceptor.closing(&entrances) {
            let _ = (0..LAST_TURNS).find(|_| !self.accept(place));
        }
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.follow(*entrances, &self.poller);
        }
    }

    /// Lets in who waits at a listener, as many as have their turn. Whether more may wait.
    #[cold]
    pub(super) fn accept(&mut self, listener: u32) -> bool {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(acceptor) = &mut self.acceptor else { return false };
            match acceptor.accept(listener, self.clock.now(), &self.poller) {
                Some(Accepted::Here(pool, socket)) => self.welcome(pool, socket),
                Some(Accepted::Elsewhere) => {}
                None => return false,
            }
        }
        true
    }
}
