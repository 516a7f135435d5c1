//! Taking over from the process before this one.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::names::Names;
use super::predecessor::{Predecessor, Succession, keep_out};
use super::wire::{self, Client, Frame, KeptOut, Kind, Ready};
use crate::config::model::Pool;
use crate::engine::Carried;
use crate::health::saved::{self, Kept, Saved};
use crate::io::departing::Departing;
use crate::io::mailbox::Message;
use crate::io::operator::Operator;
use crate::io::state;
use crate::stats::carried::Counted;

/// How long the worker that counts it is waited for.
const COUNT_LIMIT: Duration = Duration::from_secs(1);

/// How long the process before this one may be silent. It is heard of when it ends, too.
const SILENCE_LIMIT: Duration = Duration::from_secs(3600);

impl Operator {
    /// This process serves: the one before it hands over. Returns when clients come in here.
    pub(in crate::io) fn take_over(&self, succession: Succession) -> io::Result<()> {
        let Succession { predecessor, entrances } = succession;
        let Predecessor { socket, hello, .. } = predecessor;
        let ready = Ready { version: env!("CARGO_PKG_VERSION").to_owned() };
        wire::send(&socket, Kind::Ready, Some(&ready), b"", None)?;
        let names = Names::between(&hello.pools, &self.observed.topology().config);
        let mut known = None;
        // One that has ended without a word has left everything to this one.
        let is_there = loop {
            match wire::receive(&socket).ok().flatten() {
                Some(Frame { kind: Some(Kind::Go), .. }) => break true,
                Some(Frame { kind: Some(Kind::Missed), body, .. }) => known = decoded(&body, &names),
                Some(frame) if frame.kind == Some(Kind::Counted) => self.count(&frame, &names),
                Some(frame) if frame.kind == Some(Kind::KeptOut) => {
                    self.keep_out_instead(&hello.kept_out, &frame, &names);
                }
                Some(_) => {}
                None => break false,
            }
        };
        if !is_there {
            known = state::left(&self.observed.topology());
        }
        // Nobody has let a server back since that was said, and this process does so from here on.
        let now = self.observed.clock.now();
        self.observed.published.with_current(|topology| state::take_up(topology, known, now));
        self.tell_news();
        self.listening.set_modes();
        self.workers[0].tell(Message::Topology(Some(Box::new(entrances))));
        if let Some(keeper) = &self.keeper {
            keeper.pause(false);
        }
        info!(
            pid = hello.pid,
            version = hello.version,
            "clients come in here, those of the process before this one follow"
        );
        self.upgrade.set_serves(true);
        if !is_there {
            self.upgrade.has_taken_over();
            warn!("the process before this one has ended before its clients could go over");
            return Ok(());
        }
        let own = self.clone();
        std::thread::Builder::new().name("upgrade".to_owned()).spawn(move || {
            let received = own.receive_clients(&socket, &names);
            own.upgrade.has_taken_over();
            match received {
                Ok(clients) => info!(clients, "all that the process before this one had has come over"),
                Err(error) => {
                    error!(%error, "the process before this one has ended before all of its clients had come over")
                }
            }
        })?;
        Ok(())
    }

    /// The operator has taken servers out, or let them back, since this process was told whom they keep out.
    fn keep_out_instead(&self, before: &[KeptOut], frame: &Frame, names: &Names) {
        let Ok(now_out) = frame.json::<Vec<KeptOut>>() else { return };
        let now = self.observed.clock.now();
        self.observed.published.with_current(|topology| {
            let (config, registry) = (&topology.config, &topology.registry);
            for back in before.iter().filter(|one| !now_out.contains(one)) {
                let pool = config.pools.iter().find(|pool| pool.name == names.now(&back.pool));
                let server = |pool: &Pool| Some((pool.id, pool.servers.iter().find(|one| one.name == back.server)?.id));
                if let Some((pool, server)) = pool.and_then(server) {
                    let _ = registry.end_maintenance(pool, server, now);
                }
            }
            keep_out(&now_out, names, config, registry, now);
        });
    }

    /// Counts what the process before this one has counted.
    fn count(&self, frame: &Frame, names: &Names) {
        let counted = match frame.json::<Counted>() {
            Ok(counted) => counted.of_pools(|name| names.now(name).to_owned()),
            Err(error) => {
                return warn!(%error, "cannot read what the process before this one has counted: counters begin anew");
            }
        };
        let (done, is_done) = mpsc::channel();
        self.workers[0].tell(Message::Count { counted: Box::new(counted), done });
        let _ = is_done.recv_timeout(COUNT_LIMIT); // then whoever asks next sees it
    }

    /// Takes clients, until there are no more. How many there were.
    fn receive_clients(&self, socket: &UnixStream, names: &Names) -> io::Result<usize> {
        socket.set_read_timeout(Some(SILENCE_LIMIT))?;
        let mut clients = 0;
        loop {
            let frame = wire::receive(socket)?.ok_or(ErrorKind::UnexpectedEof)?;
            match frame.kind {
                Some(Kind::Client) => clients += usize::from(self.receive_client(socket, frame, names)?),
                Some(Kind::Missed) => self.heed_missed(&frame.body, names),
                Some(Kind::Counted) => self.count(&frame, names),
                Some(Kind::End) => return Ok(clients),
                _ => {}
            }
        }
    }

    /// Takes a client, if there is a pool for it. Whether there is.
    fn receive_client(&self, socket: &UnixStream, frame: Frame, names: &Names) -> io::Result<bool> {
        let topology = self.observed.topology();
        let Some((pool, carried, unadmitted)) = frame.json_and_rest::<Client>().ok().and_then(|(client, input)| {
            let pool = topology.config.pools.iter().find(|pool| pool.name == names.now(&client.pool))?;
            let is_redis = pool.protocol == crate::config::model::Protocol::Redis;
            let has_database = client.redis.as_ref().is_none_or(|redis| redis.database < pool.redis.databases);
            let is_understood = client.redis.is_some() == is_redis && has_database;
            let carried = Carried { input: input.to_vec(), redis: client.redis };
            is_understood.then_some((pool.id, carried, Some(client.unadmitted)))
        }) else {
            wire::send_bare(socket, Kind::Left, b"", None)?;
            return Ok(false);
        };
        let Some(descriptor) = frame.descriptor else {
            wire::send_bare(socket, Kind::Left, b"", None)?;
            return Ok(false);
        };
        // First, so that nobody else reads of it once it is read here.
        wire::send_bare(socket, Kind::Taken, b"", None)?;
        let departing = Departing { pool, carried, socket: descriptor, unadmitted, stays: false };
        self.workers[0].tell(Message::Arrive(Box::new(departing)));
        Ok(true)
    }

    /// Servers have missed something while the process before this one still asked them.
    fn heed_missed(&self, record: &[u8], names: &Names) {
        let Some((_, missed)) = decoded(record, names) else {
            return warn!("cannot read what servers have missed since this process was started");
        };
        let now = self.observed.clock.now();
        // Servers that are found meanwhile are told of it afterwards.
        self.observed.published.with_current(|topology| topology.registry.recall_missed(&topology.config, missed, now));
        self.tell_news();
    }

    /// Something is known of servers that workers have to look at.
    fn tell_news(&self) {
        for worker in self.workers.iter() {
            worker.tell(Message::News); // a worker that has ended needs no news
        }
    }
}

/// What is known of servers, by the names that their pools have now.
fn decoded(record: &[u8], names: &Names) -> Option<(Kept, Vec<Saved>)> {
    let (kept, mut servers) = saved::decode(record)?;
    servers.iter_mut().for_each(|one| names.put(&mut one.pool));
    Some((kept, servers))
}
