//! The process that this one takes over from.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use super::names::Names;
use super::stage::{MARK, START_LIMIT};
use super::wire::{self, Hello, KeptOut, Kind};
use crate::config::model::Config;
use crate::health::Registry;
use crate::health::maintenance::Maintenance;
use crate::io::listener::Entrances;
use crate::time::Instant;

/// What is said of a listening socket.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(in crate::io) struct Listens {
    /// A service manager has made it, and keeps it open.
    #[serde(default)]
    pub(in crate::io) is_kept: bool,
}

/// A listening socket, and what is said of it.
type HandedOver = (Listens, OwnedFd);

/// The process that this one is to take over from.
#[derive(Debug)]
pub(in crate::io) struct Predecessor {
    pub(super) socket: UnixStream,
    pub(super) hello: Hello,
}

impl Predecessor {
    /// That of this process, if it has one, and the sockets that it hands over. To be called before anything is opened.
    pub(in crate::io) fn of_process() -> io::Result<Option<(Self, Vec<HandedOver>)>> {
        if std::env::var_os(MARK).is_none() {
            return Ok(None);
        }
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let nowhere = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nowhere)?;
        socket.set_read_timeout(Some(START_LIMIT))?;
        socket.set_write_timeout(Some(START_LIMIT))?;
        let (mut hello, mut listeners) = (None, Vec::new());
        loop {
            let frame = wire::receive(&socket)?.ok_or(ErrorKind::UnexpectedEof)?;
            match frame.kind {
                Some(Kind::Hello) => hello = Some(frame.json::<Hello>()?),
                Some(Kind::Listener) => {
                    let of = frame.json::<Listens>()?;
                    listeners.extend(frame.descriptor.map(|descriptor| (of, descriptor)));
                }
                Some(Kind::Start) => break,
                _ => {}
            }
        }
        let hello = hello.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "it does not say who it is"))?;
        Ok(Some((Self { socket, hello }, listeners)))
    }

    /// Has servers kept out that the operator keeps out. To be called before anybody uses the registry.
    pub(in crate::io) fn keep_out(&self, config: &Config, registry: &Registry, now: Instant) {
        keep_out(&self.hello.kept_out, &Names::between(&self.hello.pools, config), config, registry, now);
    }

    /// Its process id.
    pub(in crate::io) fn id(&self) -> u32 {
        self.hello.pid
    }

    /// Numbers up to this one may be those of clients that come over.
    pub(in crate::io) fn clients(&self) -> u64 {
        self.hello.clients
    }

    /// What tells it that this process cannot take over.
    pub(in crate::io) fn voice(&self) -> io::Result<Voice> {
        Ok(Voice(self.socket.try_clone()?))
    }
}

/// Has servers kept out that the operator keeps out.
pub(super) fn keep_out(kept_out: &[KeptOut], names: &Names, config: &Config, registry: &Registry, now: Instant) {
    for KeptOut { pool, server, drains } in kept_out {
        let of = config.pools.iter().find(|known| known.name == names.now(pool));
        let Some((of, known)) = of.and_then(|of| Some((of, of.servers.iter().find(|known| known.name == *server)?)))
        else {
            continue;
        };
        let kind = if *drains { Maintenance::Drain } else { Maintenance::Eject };
        let _ = registry.begin_maintenance(of.id, known.id, kind, true, now);
    }
}

/// Tells the process that this one was to take over from why it does not.
#[derive(Debug)]
pub struct Voice(UnixStream);

impl Voice {
    /// This process cannot take over. It has little time from here on.
    pub fn refuse(&self, reason: &str) {
        let _ = wire::send_bare(&self.0, Kind::Failed, reason.as_bytes(), None); // it may have given up
    }
}

/// What a process takes over, from when it serves.
#[derive(Debug)]
pub(in crate::io) struct Succession {
    pub(in crate::io) predecessor: Predecessor,
    /// Where clients come in as soon as they do.
    pub(in crate::io) entrances: Entrances,
}
