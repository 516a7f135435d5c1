//! Bytes move between the engine and the servers, connections come and go, and things break.

use std::collections::BTreeSet;

use softmiss::failure::Failure;
use softmiss::time::Instant;

use super::first_request;
use super::servers::{Connection, Id, Node};
use super::world::{SERVERS, World};

impl World {
    pub(super) fn connect(&mut self) {
        if self.connecting.is_empty() {
            return;
        }
        let at = self.random.below(self.connecting.len() as u64) as usize;
        let ((link, epoch), server) = self.connecting[at];
        if self.nodes[server].hung && self.random.one_in(2) {
            return;
        }
        self.connecting.swap_remove(at);
        if self.nodes[server].dead || self.random.one_in(40) {
            self.engine.link_failed(link, epoch, Failure::Refused, self.at());
            return;
        }
        self.connections.push(Connection {
            id: (link, epoch),
            server,
            there: Vec::new(),
            back: Vec::new(),
            resp3: false,
            database: 0,
            queued: None,
            channels: BTreeSet::new(),
            whole: true,
            blocked: None,
        });
        self.engine.link_connected(link, epoch, self.at());
    }

    pub(super) fn some_connection(&mut self) -> Option<usize> {
        let count = self.connections.len() as u64;
        (count > 0).then(|| self.random.below(count) as usize)
    }

    /// Bytes reach a server, which carries out what is whole.
    pub(super) fn carry_there(&mut self) {
        let Some(at) = self.some_connection() else { return };
        let (link, epoch) = self.connections[at].id;
        let output = self.engine.link_output(link, epoch);
        let count = if self.random.one_in(4) { output.len() / 2 } else { output.len() };
        self.connections[at].there.extend_from_slice(&output[..count]);
        self.engine.link_wrote(link, epoch, count, Instant::from_nanos(self.now));
        if self.nodes[self.connections[at].server].hung {
            return;
        }
        while let Some((len, words)) = first_request(&self.connections[at].there) {
            if self.connections[at].blocked.is_some() {
                break;
            }
            self.connections[at].there.drain(..len);
            self.serve(at, words);
        }
    }

    /// Bytes of a server reach the engine.
    pub(super) fn carry_back(&mut self) {
        let Some(at) = self.some_connection() else { return };
        if self.nodes[self.connections[at].server].hung {
            return;
        }
        // Patience is over now and then.
        if self.connections[at].blocked.is_some() && self.random.one_in(6) {
            self.connections[at].blocked = None;
            let null: &[u8] = if self.connections[at].resp3 { b"_\r\n" } else { b"*-1\r\n" };
            self.connections[at].back.extend_from_slice(null);
        }
        let back = &mut self.connections[at].back;
        let count = if self.random.one_in(3) { self.random.below(back.len() as u64 + 1) as usize } else { back.len() };
        let bytes: Vec<u8> = back.drain(..count).collect();
        if count > 0 {
            self.connections[at].whole = self.connections[at].back.is_empty();
        }
        let (link, epoch) = self.connections[at].id;
        self.engine.link_data(link, epoch, &bytes, Instant::from_nanos(self.now), &mut ());
    }

    pub(super) fn trouble(&mut self) {
        let server = self.random.below(SERVERS as u64) as usize;
        match self.random.below(8) {
            0 => {
                self.count("hung");
                self.nodes[server].hung = true;
            }
            1..4 => self.nodes[server].hung = false,
            4 => {
                self.count("killed");
                self.nodes[server] = Node { dead: true, ..Node::default() };
                self.end_connections(|connection| connection.server == server);
            }
            5 | 6 => self.nodes[server].dead = false,
            _ => {
                let Some(at) = self.some_connection() else { return };
                let id = self.connections[at].id;
                // Within a value nobody could tell it from one.
                if self.random.one_in(3) && self.connections[at].whole {
                    self.count("junk");
                    self.connections[at].back = b"!what is this\r\n".to_vec();
                    return;
                }
                self.count("closed");
                self.end_connections(|connection| connection.id == id);
            }
        }
    }

    pub(super) fn end_connections(&mut self, which: impl Fn(&Connection) -> bool) {
        let ids: Vec<Id> = self.connections.iter().filter(|one| which(one)).map(|one| one.id).collect();
        for (link, epoch) in ids {
            self.connections.retain(|one| one.id != (link, epoch));
            self.engine.link_failed(link, epoch, Failure::Closed, self.at());
            self.carry_out();
        }
    }
}
