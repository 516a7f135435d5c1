//! A client in a line of text, as `CLIENT LIST` and `CLIENT INFO` tell of it: the fields of Redis 7, in its order.

use super::peer::Peer;
use std::io::Write as _;
use std::net::SocketAddr;

use super::client::Client;
use super::portions::ARGUMENT_COST;
use crate::config::model::{Listen, PoolId};
use crate::engine::Engine;
use crate::engine::clients::session::Session;
use crate::engine::ids::SessionId;
use crate::proto::resp::Version;
use crate::time::Instant;

impl Engine {
    /// Where a client's connection is that has just been opened; `CLIENT LIST` tells it.
    pub fn client_is_at(&mut self, id: SessionId, peer: Peer, now: Instant) {
        if let Some(client) = self.redis(id) {
            (client.peer, client.since, client.last) = (Some(peer), now, now);
        }
    }

    /// Whether clients of a pool are told of each other, so that it must be known where they are.
    #[must_use]
    pub fn tells_of_clients(&self, pool: PoolId) -> bool {
        self.pools[pool.index()].redis
    }

    /// A client's address, as Redis writes it.
    pub(super) fn address_of(&self, pool: PoolId, client: &Client) -> String {
        self.write_address(pool, client, |(far, _)| far)
    }

    /// The address that it has connected to.
    pub(super) fn local_address_of(&self, pool: PoolId, client: &Client) -> String {
        self.write_address(pool, client, |(_, near)| near)
    }

    fn write_address(
        &self,
        pool: PoolId,
        client: &Client,
        which: impl Fn((SocketAddr, SocketAddr)) -> SocketAddr,
    ) -> String {
        match (client.peer.and_then(|peer| peer.addresses), &self.topology.pools[pool.index()].listen) {
            (Some(addresses), _) => {
                let address = which(addresses);
                SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
            }
            (None, Listen::Unix { path, .. }) => format!("{}:0", path.display()),
            (None, Listen::Tcp { .. }) => "?:0".to_owned(), // Redis's word for an address that cannot be had
        }
    }

    /// The user that a client has made itself known as.
    pub(super) fn user_of(&self, pool: PoolId, client: &Client) -> &str {
        let user = self.topology.pools[pool.index()].redis.user.as_deref().filter(|_| client.has_user);
        user.unwrap_or("default")
    }

    /// Appends the line of a client.
    pub(super) fn write_line(&self, out: &mut Vec<u8>, session: &Session, client: &Client, now: Instant) {
        let pool = session.pool();
        let word = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let subscriptions = client.subscriptions.as_ref().map_or([0; 3], |subscriptions| subscriptions.counts());
        let [channels, patterns, shards] = subscriptions;
        let queued = client.queue.as_ref().map_or(-1, |queue| i64::try_from(queue.len()).unwrap_or(i64::MAX));
        let is_waiting = session.requests.is_alone();
        let is_unix = matches!(self.topology.pools[pool.index()].listen, Listen::Unix { .. });
        let mut flags = String::new();
        for (flag, is_set) in [
            ('O', client.monitors),
            ('P', client.is_subscribed()),
            ('x', client.queue.is_some()),
            ('b', is_waiting),
            ('c', session.is_closing()),
            ('U', is_unix),
            ('e', client.no_evict),
        ] {
            if is_set {
                flags.push(flag);
            }
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let output = &session.output;
        let (buffered, pieces, held) = output.shares();
        let own = size_of::<Session>() + size_of::<Client>();
        let resp = if client.version == Version::Resp3 { 3 } else { 2 };
        // Into a Vec nothing fails to be written.
        let _ = writeln!(
            out,
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={flags} db={} sub={channels} psub={patterns} \
             ssub={shards} multi={queued} qbuf={} qbuf-free={} argv-mem={} multi-mem={} rbs={} rbp={} obl={buffered} \
             oll={pieces} omem={held} tot-mem={} events={} cmd={} user={} redir=-1 resp={resp} lib-name={} lib-ver={}",
            client.number,
            self.address_of(pool, client),
            self.local_address_of(pool, client),
            client.peer.map_or(-1, |peer| peer.descriptor),
            word(&client.name),
            (now - client.since).as_secs(),
            (now - client.last).as_secs(),
            client.database,
            session.input.len(),
            session.input.capacity() - session.input.len(),
            client.progress.come as usize * ARGUMENT_COST,
            client.queue.as_ref().map_or(0, |queue| queue.footprint()),
            output.small_footprint().unwrap_or_default(),
            output.small_footprint().unwrap_or_default(),
            own + session.footprint(),
            if output.len() > 0 { "rw" } else { "r" },
            client.command.unwrap_or("NULL"),
            self.user_of(pool, client),
            word(&client.library[0]),
            word(&client.library[1]),
        );
    }
}
