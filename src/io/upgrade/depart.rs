//! The side of the process that hands over.

use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use tracing::{error, info, warn};

use super::stage::{Stage, end, reason};
use super::wire::{self, Client, Kind};
use crate::health::saved::{self, Kept, Told};
use crate::io::departing::Departing;
use crate::io::events::PROXY;
use crate::io::mailbox::Message;
use crate::io::operator::Operator;
use crate::io::state;
use crate::time::Instant;
use crate::topology::Topology;

/// Clients that are sent before it is heard whether the successor has them.
const BATCH: usize = 64;

/// How long is waited for clients that can leave, before it is looked again what servers have missed, and whether all have.
const PERIOD: Duration = Duration::from_millis(5);

/// As long at the end: a worker may be busy, and have clients that can leave.
const LAST: Duration = Duration::from_millis(100);

/// How long servers may take to confirm that they are flushed, before clients go over.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// How long the successor may take to say that it has a client.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// How long the process stays at least, so that whoever has ordered its end gets an answer.
const STAYS: Duration = Duration::from_millis(100);

impl Operator {
    /// Has clients go over to a successor that serves, until all have, or have had their time. Then this process is over.
    pub(super) fn hand_over(&self, socket: UnixStream, mut child: Child) {
        // What is reloaded from here on, the successor reloads.
        let listening = self.listening.lock();
        let topology = self.observed.topology();
        let begun = self.observed.clock.now();
        let until = begun + topology.config.settings.drain_timeout;
        self.await_flushes(&topology);
        if let Some(keeper) = &self.keeper {
            keeper.pause(true);
        }
        let (departures, departing) = mpsc::channel();
        let (heeds, heeded) = mpsc::channel::<Infallible>();
        for worker in self.workers.iter() {
            worker.tell(Message::HandOver { departures: departures.clone(), heeds: heeds.clone() });
        }
        drop((departures, heeds));
        // Until all have: then nobody is accepted here any more, and no server let back, but by the successor.
        let _ = heeded.recv_timeout(ANSWER_LIMIT);
        let (mut here, mut told) = (Vec::new(), Told::default());
        topology.registry.missed_since(&topology.config, &mut told);
        let missed = topology.registry.save(&topology.config, Kept::Whole, self.observed.clock.now());
        let counted = self.counted();
        let sent = wire::send_bare(&socket, Kind::Missed, &saved::encode(Kept::Whole, &missed), None)
            .and_then(|()| wire::send(&socket, Kind::KeptOut, Some(&self.kept_out()), b"", None))
            .and_then(|()| wire::send(&socket, Kind::Counted, Some(&counted), b"", None))
            .and_then(|()| wire::send_bare(&socket, Kind::Go, b"", None))
            .and_then(|()| self.send_clients(&socket, &departing, &mut here, &mut told, until));
        match sent {
            Ok(gone) => {
                let left = self.clients();
                if left > 0 {
                    warn!(
                        clients = left,
                        "clients were in the middle of something for longer than drain_timeout: they are hung up on"
                    );
                }
                info!(clients = gone, "clients have gone over to the successor, this process ends");
                self.listening.end();
                let rest = STAYS.saturating_sub(self.observed.clock.now() - begun);
                std::thread::park_timeout(rest); // nobody wakes this thread
                self.upgrade.set(Stage::Farewell(child.id(), socket, told, counted));
                self.upgrade.over.notify_one();
            }
            Err(error) => {
                let is_silent = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                let silent = || format!("the successor has said nothing for {} s", ANSWER_LIMIT.as_secs());
                let (why, status) = (if is_silent { silent() } else { reason(&error) }, end(&mut child));
                error!(reason = why, status, "the successor has not taken over, this process goes on");
                self.tell(PROXY, PROXY, true, format!("no upgrade: {why} ({status})"));
                self.doubt_missed(&topology);
                for worker in self.workers.iter() {
                    worker.tell(Message::GoOn);
                }
                // What it has said of those that were sent to it can still be heard: one that it has is gone with it.
                while let Ok(Some(frame)) = wire::receive(&socket)
                    && !here.is_empty()
                {
                    self.heed_answer(&mut here, frame.kind);
                }
                // Whoever else was on the way is served here, until no worker sends more.
                here.extend(departing.iter());
                for departing in here {
                    self.give_back(departing);
                }
                if let Some(keeper) = &self.keeper {
                    keeper.pause(false);
                }
                self.upgrade.write_pid();
                crate::io::systemd::succeeded_by(std::process::id());
                self.upgrade.set(Stage::None);
                self.upgrade.set_serves(true);
                self.upgrade.failed.notify_one();
            }
        }
        drop(listening);
        if !self.upgrade.has_successor() && self.upgrade.takes_reload_back() {
            let _ = self.reload("a successor that has ended"); // which tells what came of it
        }
    }

    /// Waits until servers in the ring have confirmed that they are flushed, if they do so soon. The successor would have
    /// to flush them again, and with that what clients have written since.
    fn await_flushes(&self, topology: &Topology) {
        let until = self.observed.clock.now() + FLUSH_LIMIT;
        while topology.registry.is_being_flushed(&topology.config) && self.observed.clock.now() < until {
            std::thread::park_timeout(PERIOD); // nobody wakes this thread
        }
    }

    /// A successor has served, and has ended: what servers missed by it is not known. Those that were out there, or are here,
    /// have to forget all.
    fn doubt_missed(&self, topology: &Topology) {
        let (config, registry, now) = (&topology.config, &topology.registry, self.observed.clock.now());
        let mut doubted = registry.save(config, Kept::Marks, now);
        doubted.retain(|one| one.out);
        doubted.extend(state::left(topology).into_iter().flat_map(|(_, left)| left));
        registry.recall_missed(config, doubted, now);
        for worker in self.workers.iter() {
            worker.tell(Message::News);
        }
    }

    /// Clients of all workers that have not left them.
    fn clients(&self) -> usize {
        self.workers.iter().map(|worker| worker.load.load(Ordering::Acquire)).sum()
    }

    /// Sends clients as they come, and what servers miss. `here` has those that the successor has not said to have. How many
    /// it has.
    fn send_clients(
        &self,
        socket: &UnixStream,
        departing: &Receiver<Departing>,
        here: &mut Vec<Departing>,
        told: &mut Told,
        until: Instant,
    ) -> io::Result<usize> {
        socket.set_read_timeout(Some(ANSWER_LIMIT))?;
        socket.set_write_timeout(Some(ANSWER_LIMIT))?;
        let mut gone = 0;
        loop {
            // Before it is looked for those who are on the way.
            let (is_late, is_empty) = (self.observed.clock.now() >= until, self.clients() == 0);
            here.extend(departing.try_iter().take(BATCH));
            if here.is_empty() {
                // As many as are soon there: nobody serves a client that is on the way.
                for worker in self.workers.iter() {
                    worker.tell(Message::Leave);
                }
                let wait = if is_late && !is_empty { LAST } else { PERIOD };
                here.extend(departing.recv_timeout(wait).into_iter().chain(departing.try_iter()).take(BATCH));
            }
            // What a client was told to be changed is pending there before it asks again.
            self.send_missed(socket, told)?;
            for departing in &*here {
                let pool = self.observed.topology().pools[departing.pool.index()].name.clone();
                let unadmitted = departing.unadmitted == Some(true);
                let client = Client { pool, redis: departing.carried.redis.clone(), unadmitted };
                let input = &departing.carried.input;
                wire::send(socket, Kind::Client, Some(&client), input, Some(departing.socket.as_fd()))?;
            }
            let is_last = (is_late || is_empty) && here.is_empty();
            if here.is_empty() && wire::has_ended(socket)? {
                return Err(io::ErrorKind::UnexpectedEof.into()); // also while there is nothing to be sent
            }
            while !here.is_empty() {
                let frame = wire::receive(socket)?.ok_or(io::ErrorKind::UnexpectedEof)?;
                match self.heed_answer(here, frame.kind) {
                    Some(is_taken) => gone += usize::from(is_taken),
                    None => {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "it says something that was not asked"));
                    }
                }
            }
            if is_last {
                return Ok(gone);
            }
        }
    }

    /// The successor says whether it has the first of some clients, who is not among them any more. `None` if it says something
    /// else.
    fn heed_answer(&self, here: &mut Vec<Departing>, said: Option<Kind>) -> Option<bool> {
        let is_taken = match said {
            Some(Kind::Taken) => true,
            Some(Kind::Left) => false,
            _ => return None,
        };
        let first = here.remove(0);
        if !is_taken {
            self.give_back(Departing { stays: true, ..first });
        }
        Some(is_taken)
    }

    /// A client is served here after all.
    fn give_back(&self, departing: Departing) {
        self.workers[0].tell(Message::Arrive(Box::new(departing)));
    }

    /// Sends what has become pending since that was sent last.
    fn send_missed(&self, socket: &UnixStream, told: &mut Told) -> io::Result<()> {
        let topology = self.observed.topology();
        let missed = topology.registry.missed_since(&topology.config, told);
        if missed.is_empty() {
            return Ok(());
        }
        wire::send_bare(socket, Kind::Missed, &saved::encode(Kept::Whole, &missed), None)
    }

    /// The last words of a process whose workers have ended.
    pub(in crate::io) fn say_farewell(&self) {
        let Stage::Farewell(_, socket, mut told, counted) = self.upgrade.set(Stage::None) else { return };
        let said = self
            .send_missed(&socket, &mut told)
            .and_then(|()| wire::send(&socket, Kind::Counted, Some(&self.counted().since(&counted)), b"", None))
            .and_then(|()| wire::send_bare(&socket, Kind::End, b"", None));
        if let Err(error) = said {
            warn!(reason = reason(&error), "the successor has not heard what servers missed at the end");
        }
    }
}
