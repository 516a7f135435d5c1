//! The contract with the shell: what happens on the connections to servers.

use super::ids::LinkId;
use super::servers::{Connection, ConnectionState, Probe};
use super::{Engine, Outlet};
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::time::Instant;

impl Engine {
    /// The pool and the server that a link connects to. Of a link that is no more, those of the next one at its place.
    #[must_use]
    pub fn link_server(&self, link: LinkId) -> (PoolId, ServerId) {
        self.servers.leads_to(link)
    }

    /// Whether a link is for one client alone.
    #[must_use]
    pub fn link_is_dedicated(&self, link: LinkId) -> bool {
        self.servers.get(link).is_some_and(|link| link.dedicated().is_some())
    }

    /// Whether an answer of its server is waited for.
    #[must_use]
    pub fn link_is_asked(&self, link: LinkId) -> bool {
        self.servers.get(link).is_some_and(|link| !link.queue().is_empty())
    }

    /// Whether an attempt or a connection is still wanted.
    #[must_use]
    pub fn link_is_current(&self, link: LinkId, epoch: u32) -> bool {
        self.servers.get(link).is_some_and(|link| link.epoch() == epoch)
    }

    /// The connection is open.
    pub fn link_connected(&mut self, id: LinkId, epoch: u32, now: Instant) {
        self.refresh(now);
        let link = self.servers.current(id, epoch);
        let is_connecting = link.is_some_and(|link| matches!(link.state(), ConnectionState::Connecting));
        if is_connecting && !self.greet(id, now) {
            self.link_opened(id, now);
        }
        self.settle(now);
    }

    /// A connection is open, and of use.
    pub(super) fn link_opened(&mut self, id: LinkId, now: Instant) {
        let link = &mut self.servers[id];
        link.open(now);
        let (pool, server, is_retired) = (link.pool(), link.server(), link.is_retired());
        self.counters.total_connections.add(1);
        self.counters.current_connections.add(1);
        self.counters.server(pool, server).server_connections.add(1);
        let link = &mut self.servers[id];
        if let Some(probe) = link.probe_mut() {
            *probe = Probe::default();
            self.ask_version(id, now);
        } else if link.is_traffic() && is_retired {
            self.close_left(id, now);
        } else if link.is_traffic() {
            self.invalidate_first(id, now);
            self.ask_identity(id, now);
            self.test_suspect(id, now);
        }
        self.touch_link(id);
    }

    /// The connection could not be opened, was closed, or broke.
    pub fn link_failed(&mut self, id: LinkId, epoch: u32, failure: Failure, now: Instant) {
        self.refresh(now);
        if self.link_is_current(id, epoch) {
            self.fail_link(id, failure, now);
        }
        self.settle(now);
    }

    /// Bytes were read from a server. `outlet` leads straight to the clients.
    pub fn link_data(&mut self, id: LinkId, epoch: u32, data: &[u8], now: Instant, outlet: &mut dyn Outlet) {
        self.refresh(now);
        if let Some(link) = self.servers.current(id, epoch) {
            match link.state() {
                ConnectionState::Up(_) => {
                    self.deliver(id, data, now, outlet);
                    let link = self.servers.get(id);
                    if link.is_some_and(|link| link.is_crowded() | link.is_retired()) {
                        self.after_delivery(id, now);
                    }
                }
                ConnectionState::Handshaking(_) => self.greeted(id, data, now),
                ConnectionState::Connecting | ConnectionState::Down { .. } => {}
            }
        }
        self.settle(now);
    }

    /// Something has come on a link that is or was full, or whose server has left.
    #[cold]
    #[inline(never)]
    pub(super) fn after_delivery(&mut self, id: LinkId, now: Instant) {
        if self.servers[id].is_crowded() {
            self.relieve(id, now);
        }
        if self.servers[id].is_retired() {
            self.close_left(id, now);
        }
    }

    /// What is to be written to a server next: as much as stands in one place, so whoever has written it asks for more until
    /// nothing is left. Asking clears the link's mark for [`Engine::poll_link`].
    #[must_use]
    #[inline(always)]
    pub fn link_output(&mut self, id: LinkId, epoch: u32) -> &[u8] {
        self.servers.current(id, epoch).map_or(&[], Connection::output)
    }

    /// `count` bytes of [`Engine::link_output`] were written.
    #[inline(always)]
    pub fn link_wrote(&mut self, id: LinkId, epoch: u32, count: usize, now: Instant) {
        let Some(link) = self.servers.current(id, epoch) else { return };
        if !link.wrote(count, now) {
            return;
        }
        if link.is_crowded() {
            self.relieve(id, now);
        }
        self.charge_link(id);
    }

    /// A link that has something to write.
    pub fn poll_link(&mut self) -> Option<LinkId> {
        self.outputs.next_link()
    }
}
