//! Bytes move: from clients to the engine, to the servers, and back.

use softmiss::engine::ids::SessionId;
use softmiss::engine::{Outlet, Room};
use softmiss::failure::Failure;

use super::client::{Client, Reader};
use super::judge::PATIENCE;
use super::random::Random;
use super::servers::{Connection, Lie, SimServer};
use super::short;
use super::store::{COPY, LEASE, Outcome, STALE};
use super::tally::{Tally, Thing};
use super::world::World;

impl World {
    /// How many of `most` bytes move at once.
    fn piece(&mut self, most: usize, cut: Thing) -> usize {
        let count = if self.random.one_in(self.plan.pieces) { (1 + self.random.index(7)).min(most) } else { most };
        if count < most {
            self.tally.add(cut);
        }
        count
    }

    /// Some of a client's bytes reach the engine.
    pub(super) fn give(&mut self) {
        let index = self.random.index(self.clients.len());
        self.give_of(index);
    }

    pub(super) fn give_of(&mut self, index: usize) {
        let now = self.instant();
        let client = &mut self.clients[index];
        let engine = &mut self.engines[client.worker];
        if client.outgoing.is_empty() {
            if client.ending && !client.ended {
                client.ended = true;
                engine.client_ended(client.id, now);
            }
            return;
        }
        if !engine.client_status(client.id).reads {
            self.tally.add(Thing::BackPressure);
            return;
        }
        let count = self.piece(self.clients[index].outgoing.len().min(16 << 10), Thing::PartialGive);
        let client = &mut self.clients[index];
        let engine = &mut self.engines[client.worker];
        // The tick of the sending comes first: what the engine does with it is not earlier.
        let bytes = client.outgoing.as_slice()[..count].to_vec();
        client.outgoing.consume(count);
        // As the shell does, but for a shell that reads elsewhere: that must do no harm.
        match engine.client_room(client.id) {
            Room::Here(message) if !count.is_multiple_of(8) => {
                let fits = count.min(message.capacity() - message.len());
                message.extend_from_slice(&bytes[..fits]);
                self.tally.add(Thing::LargeRead);
                engine.client_filled(client.id, now);
                if fits < count {
                    engine.client_data(client.id, &bytes[fits..], now);
                }
            }
            Room::Here(_) | Room::Anywhere(_) | Room::Nowhere => engine.client_data(client.id, &bytes, now),
        }
        let paused = !engine.client_status(client.id).reads;
        client.gave(self.now, paused, &mut self.ledger, &mut self.totals);
        self.note(|| format!("client {index} > {:?}{}", short(&bytes), if paused { " (paused)" } else { "" }));
    }

    /// Some of the engine's bytes reach a server.
    pub(super) fn write(&mut self) {
        if !self.connections.is_empty() {
            let index = self.random.index(self.connections.len());
            self.write_to(index);
        }
    }

    pub(super) fn write_to(&mut self, index: usize) {
        let now = self.instant();
        let (worker, link, epoch) = self.connections[index].id;
        let len = self.engines[worker].link_output(link, epoch).len();
        if len == 0 {
            return;
        }
        let count = self.piece(len, Thing::PartialWrite);
        let engine = &mut self.engines[worker];
        let connection = &mut self.connections[index];
        let output = &engine.link_output(link, epoch)[..count];
        connection.to_server.tail().extend_from_slice(output);
        connection.waiting_since.get_or_insert(self.now);
        engine.link_wrote(link, epoch, count, now);
        self.note(|| format!("worker {worker}: {link:?} > {count} bytes"));
    }

    /// A server executes commands.
    pub(super) fn serve(&mut self) -> Result<(), String> {
        if self.connections.is_empty() {
            return Ok(());
        }
        let index = self.random.index(self.connections.len());
        if self.rests(index) {
            return Ok(());
        }
        let most = if self.random.one_in(self.plan.pieces) { 1 } else { 64 };
        self.serve_on(index, most)
    }

    pub(super) fn serve_on(&mut self, index: usize, most: usize) -> Result<(), String> {
        for _ in 0..most {
            let connection = &mut self.connections[index];
            let server = &mut self.servers[connection.server];
            if server.hangs || connection.closing {
                return Ok(());
            }
            self.ledger.tick += 1;
            let input = connection.to_server.as_slice();
            let lie = connection.lies;
            server.store.full = matches!(lie, Some(Lie::OutOfMemory));
            server.store.uptime = (self.now - server.started) / 1_000_000_000;
            let out = connection.to_proxy.tail();
            let start = out.len();
            let given = server.store.given;
            let Some(executed) = server.store.execute(input, self.ledger.tick, out) else { return Ok(()) };
            let is_given = server.store.given > given;
            let (len, is_value, verb) = (executed.len, executed.is_value, executed.deed.verb);
            if verb == "flush_all" {
                server.flushed.push(self.ledger.tick);
            }
            if executed.deed.verb == COPY && executed.deed.outcome == Outcome::Done {
                self.tally.add(Thing::Copied);
            }
            if self.plan.grows {
                self.newest.executed(&server.store, &self.homes, connection.server, &executed.deed)?;
            }
            let written = self.ledger.executed(connection.server, &executed.deed)?;
            check_route(&self.servers, &self.homes, connection.server, executed.deed.key, written, &self.ledger)?;
            if lie.is_some() {
                let refused = matches!(lie, Some(Lie::OutOfMemory)) && !self.servers[connection.server].store.full;
                self.lie(index, start, is_value, refused);
            }
            let connection = &mut self.connections[index];
            let said = connection.to_server.as_slice()[..len].to_vec();
            connection.to_server.consume(len);
            // Who asks for a lease so as to be told the miss asks behind it whether the key is there.
            let line = String::from_utf8_lossy(&said);
            let key = line.split([' ', '\r']).nth(1).unwrap_or_default();
            let looks = line.starts_with("get ") || line.starts_with("mg ");
            // And, between these, what it was before.
            if !key.starts_with(STALE) {
                self.given += u64::from(connection.given.take().is_some_and(|given| looks && given == key));
                connection.given = is_given.then(|| key[LEASE.len()..].to_owned());
            }
            let (worker, link, _) = connection.id;
            let server = connection.server;
            self.note(|| format!("server {server} executes {:?} for worker {worker}: {link:?}", short(&said)));
        }
        Ok(())
    }

    /// The response that starts at `start` of what goes back becomes something else.
    fn lie(&mut self, index: usize, start: usize, is_value: bool, refused: bool) {
        let connection = &mut self.connections[index];
        let server = &mut self.servers[connection.server];
        let Some(lie) = connection.lies else { return };
        let out = connection.to_proxy.tail();
        let thing = match lie {
            Lie::WrongKey | Lie::Twice if !is_value => {
                // Only values name what they answer. A status line said twice could be the next request's: nothing
                // can tell.
                connection.lies = None;
                return;
            }
            Lie::WrongKey => {
                // A whole value, in order, of a key that does not exist anywhere.
                let meta = !out[start..].starts_with(b"VALUE");
                out.truncate(start);
                let line =
                    if meta { "VA 5 kelsewhere\r\nwrong\r\n" } else { "VALUE elsewhere 0 5\r\nwrong\r\nEND\r\n" };
                out.extend_from_slice(line.as_bytes());
                Thing::WrongKey
            }
            Lie::Junk => {
                out.truncate(start);
                out.extend_from_slice(b"\x00\xffjunk\r\nVALUE\r\n");
                Thing::Junk
            }
            Lie::Truncate => {
                out.truncate(start + (out.len() - start) / 2);
                connection.closing = true;
                Thing::Truncate
            }
            Lie::Twice => {
                out.extend_from_within(start..);
                if !connection.poisoned {
                    connection.poisoned = true;
                    server.poisoned += 1;
                }
                Thing::Twice
            }
            Lie::OutOfMemory if !refused => return, // the next store
            Lie::OutOfMemory => Thing::OutOfMemory,
        };
        connection.lies = None;
        server.trouble = Some(self.now);
        self.tally.add(thing);
        self.note(|| format!("that was {lie:?}"));
    }

    /// Some of a server's bytes reach the engine, or its end does.
    pub(super) fn hear(&mut self) {
        if !self.connections.is_empty() {
            let index = self.random.index(self.connections.len());
            if !self.rests(index) {
                self.hear_from(index);
            }
        }
    }

    /// Whether nothing moves on a connection for now. Where keys are brought along, what was read on one of them must not be
    /// stored behind what another one has changed since.
    fn rests(&mut self, index: usize) -> bool {
        let (now, connection) = (self.ledger.tick, &mut self.connections[index]);
        let is_idle = connection.to_server.is_empty() && connection.to_proxy.is_empty();
        if self.plan.grows && !is_idle && now >= connection.rests_until && self.random.one_in(16) {
            connection.rests_until = now + 20 + self.random.below(400);
        }
        now < connection.rests_until
    }

    pub(super) fn hear_from(&mut self, index: usize) {
        let now = self.instant();
        let connection = &mut self.connections[index];
        let (worker, link, epoch) = connection.id;
        if connection.to_proxy.is_empty() {
            if connection.closing {
                self.bury(index);
                self.note(|| format!("worker {worker}: {link:?} is closed by its server"));
                self.engines[worker].link_failed(link, epoch, Failure::Closed, now);
            }
            return;
        }
        let server = connection.server;
        let most = connection.to_proxy.len();
        let count = if self.servers[server].trickles {
            self.tally.add(Thing::Trickle);
            (1 + self.random.index(2)).min(most)
        } else if most > 30_000 && self.random.one_in(2) {
            1 + self.random.index(most) // a large response in large pieces
        } else {
            self.piece(most, Thing::PartialHear)
        };
        let connection = &mut self.connections[index];
        if connection.waiting_since.is_some_and(|since| self.now - since > PATIENCE) {
            self.servers[server].trouble = Some(self.now);
        }
        let idle = connection.to_server.is_empty() && connection.to_proxy.len() == count;
        connection.waiting_since = (!idle).then_some(self.now);
        let bytes = connection.to_proxy.as_slice()[..count].to_vec();
        connection.to_proxy.consume(count);
        self.note(|| format!("worker {worker}: {link:?} < {:?}", short(&bytes)));
        let mut outlet =
            Sockets { clients: &mut self.clients, worker, random: &mut self.random, tally: &mut self.tally };
        let engine = &mut self.engines[worker];
        // As the shell does, but for a shell that reads elsewhere: that must do no harm.
        match engine.link_room(link, epoch) {
            Room::Here(message) if !count.is_multiple_of(8) => {
                let fits = count.min(message.capacity() - message.len());
                message.extend_from_slice(&bytes[..fits]);
                outlet.tally.add(Thing::LargeRead);
                engine.link_filled(link, epoch, fits, now, &mut outlet);
                if fits < count {
                    engine.link_data(link, epoch, &bytes[fits..], now, &mut outlet);
                }
            }
            Room::Here(_) | Room::Anywhere(_) | Room::Nowhere => {
                engine.link_data(link, epoch, &bytes, now, &mut outlet)
            }
        }
    }

    /// A connect succeeds or fails.
    pub(super) fn connect(&mut self) {
        if !self.connecting.is_empty() {
            let index = self.random.index(self.connecting.len());
            self.connect_at(index);
        }
    }

    pub(super) fn connect_at(&mut self, index: usize) {
        let (id, since) = self.connecting[index];
        let (worker, link, epoch) = id;
        let server = self.server_of(worker, link);
        if self.servers[server].unreachable {
            return;
        }
        self.connecting.swap_remove(index);
        let now = self.instant();
        if self.now - since > PATIENCE {
            self.servers[server].trouble = Some(self.now);
        }
        let (listens, no_route) = (self.servers[server].listens, self.servers[server].no_route);
        if listens && !no_route {
            self.note(|| format!("worker {worker}: {link:?} is connected to server {server}"));
            self.connections.push(Connection::new(id, server));
            self.engines[worker].link_connected(link, epoch, now);
        } else {
            (self.servers[server].trouble, self.servers[server].untouched) = (Some(self.now), false);
            let failure = if no_route { Failure::Unreachable } else { Failure::Refused };
            self.engines[worker].link_failed(link, epoch, failure, now);
        }
    }
}

/// A write reaches the home of its key, unless that was out of the ring since the write was sent.
pub(super) fn check_route(
    servers: &[SimServer],
    homes: &[usize],
    server: usize,
    key: Option<super::store::Key>,
    written: Option<super::ledger::WriteId>,
    ledger: &super::ledger::Ledger,
) -> Result<(), String> {
    let (Some(key), Some(id)) = (key, written) else { return Ok(()) };
    let home = homes[key.index()];
    let sent = ledger.write(id).sent.map_or(0, |sent| sent.tick);
    if ledger.dismissed.contains(&ledger.write(id).client) {
        return Ok(());
    }
    if servers[server].had_left(sent) {
        return Err(format!("{:?} was carried out by server {server}, which had left", ledger.write(id)));
    }
    if home == server || servers[home].was_out(sent) {
        return Ok(());
    }
    Err(format!("{:?} was carried out by server {server}, its home {home} being in the ring", ledger.write(id)))
}

/// The clients' sockets, which take what is offered to them, or a part of it, or nothing.
struct Sockets<'a> {
    clients: &'a mut [Client],
    worker: usize,
    random: &'a mut Random,
    tally: &'a mut Tally,
}

impl Outlet for Sockets<'_> {
    fn offer(&mut self, id: SessionId, pieces: [&[u8]; 2]) -> usize {
        let bytes = pieces.concat();
        let found = self.clients.iter_mut().find(|client| client.worker == self.worker && client.id == id);
        let client = found.expect("only a client that is served is offered anything");
        let count = match self.random.below(4) {
            _ if client.reader == Reader::Stuck => 0,
            0 => 0,
            1 => self.random.index(bytes.len() + 1),
            _ => bytes.len(),
        };
        if count < bytes.len() {
            self.tally.add(Thing::PartialRead);
        }
        client.incoming.tail().extend_from_slice(&bytes[..count]);
        count
    }
}
