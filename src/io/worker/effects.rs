//! What the engine wants done outside of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::warn;

use super::Worker;
use crate::engine::ids::LinkId;
use crate::engine::{Effect, Findings, Notice};
use crate::failure::Failure;
use crate::io::files::ADVICE;
use crate::io::mailbox::{Handle, Message};
use crate::io::poller::Token;
use crate::io::tell;
use crate::time::Instant;

/// How often it is told, while that goes on, that there are no descriptors for connections to servers.
const LACK_PERIOD: Duration = Duration::from_secs(60);

impl Worker {
    #[cold]
    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Connect { link, epoch } if !self.engine.link_is_current(link, epoch) => {}
            Effect::Connect { link, epoch } => self.connect(link, epoch),
            Effect::Disconnect { link, lingers: Some(server), .. } => {
                if let Some((pool, server)) = self.links.linger(link, server, &mut self.scratch) {
                    self.engine.link_ended(pool, server);
                }
            }
            Effect::Disconnect { link, reset, .. } => self.links.disconnect(link, reset),
            Effect::EndLingering { pool, server } => {
                for _ in 0..self.links.end_lingering((pool, server)) {
                    self.engine.link_ended(pool, server);
                }
            }
            Effect::Read { link } => {
                if let Some(seat) = self.links.end_turn(link) {
                    self.again.push_back(Token::Link(seat));
                }
            }
            Effect::News => {
                for other in &self.others {
                    other.tell(Message::News); // a worker that has ended needs no news
                }
            }
            Effect::Inquire(inquiry) => {
                let has_ended = |other: &&Handle| !other.tell(Message::Inquire(Arc::clone(&inquiry)));
                for _ in 0..self.others.iter().filter(has_ended).count() {
                    self.engine.found(Findings::none(Arc::clone(&inquiry)), self.clock.now());
                }
            }
            Effect::Found(findings) => {
                if let Some(asker) = self.others.iter().find(|other| other.number == findings.worker()) {
                    asker.tell(Message::Found(findings)); // one that has ended has no clients
                }
            }
            Effect::Notice(notice) => self.tell_operator(&notice),
            Effect::Slow(slow) => tell::slow(self.engine.topology(), &slow),
        }
    }

    fn connect(&mut self, link: LinkId, epoch: u32) {
        let is_dedicated = self.engine.link_is_dedicated(link);
        let own = self.own.clone();
        let done = move |outcome| {
            own.tell(Message::Connected { link, epoch, outcome });
        };
        let counted = self.files.count(is_dedicated);
        let attempt = if is_dedicated && !self.files.has_room(self.clients_of_all()) {
            done(Err(Failure::NoResources)); // what is left is for connections that all share
            None
        } else {
            let address = self.engine.link_address(link).clone();
            Some(self.connector.connect(address, self.engine.link_is_followed(link), done))
        };
        self.links.connecting(link, attempt, counted);
    }

    /// Clients of all workers.
    fn clients_of_all(&self) -> usize {
        let of = |worker: &Handle| worker.load.load(Ordering::Relaxed);
        of(&self.own) + self.others.iter().map(of).sum::<usize>()
    }

    /// Tells, now and then, that a connection to a server could not be opened for a reason that is not the server's.
    #[cold]
    pub(crate) fn tell_lack(&mut self, link: LinkId, now: Instant) {
        if self.lack_told.is_some_and(|told| now < told + LACK_PERIOD) {
            return;
        }
        self.lack_told = Some(now);
        let (pool, server) = self.engine.link_server(link);
        let pool = self.engine.topology().pool(pool);
        let (server, clients) = (&pool.server(server).name, self.clients_of_all());
        warn!(
            pool = pool.name,
            server,
            clients,
            limit = self.files.limit(),
            "cannot connect to a server: this host is out of file descriptors or memory; {ADVICE}"
        );
    }

    fn tell_operator(&mut self, notice: &Notice) {
        if let Some(keeper) = &self.keeper {
            keeper.look();
        }
        let Self { engine, clients, .. } = self;
        self.events.note(engine.topology(), notice, self.clock.now());
        tell::notice(engine.topology(), notice, |session| clients.peer(session));
    }
}
