//! Requests to all servers on connections of the client's own: those that wait, and those that have to get through to a
//! server that does nothing else.

use super::Profile;
use super::call::Call;
use super::dedicated::{Use, patience};
use super::gather::{BEFORE_WAIT, How};
use super::piece::Piece;
use crate::config::model::ServerId;
use crate::engine::Engine;
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::servers::ticket::Marks;
use crate::engine::ways::To;
use crate::failure::Failure;
use crate::proto::resp::encode;
use crate::proto::resp::plan::Blocking;
use crate::time::Instant;
use std::sync::Arc;
use std::time::Duration;

/// How long a server may take to end a script, beyond the pool's timeout: Redis listens to nobody until a script has run
/// for `busy-reply-threshold`, five seconds as it comes.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Where a message is published before a `WAIT`; nobody is to listen there.
const WAIT_CHANNEL: &[u8] = b"softmiss:wait";

impl Engine {
    /// `WAIT` and `WAITAOF`: a server counts the replicas that have what the same connection wrote last, or, up to Redis 7.0,
    /// what had been written when it last asked anything. So a fresh connection first asks and writes something that leaves
    /// nothing behind; what the client had written by then, on whatever connection, comes before it.
    pub(super) fn wait_everywhere(&mut self, id: SessionId, call: Call<'_>, now: Instant) {
        let mut request = Vec::new();
        encode::words(&mut request, &[b"PING"]);
        encode::words(&mut request, &[b"SPUBLISH", WAIT_CHANNEL, b""]);
        request.extend_from_slice(call.raw);
        let Some(session) = self.session_ref(id) else { return };
        let pool = session.pool();
        let profile = session.profile();
        let live = &self.pools[pool.index()].live;
        if self.lacks_any(
            id,
            self.topology.pool(pool).members().filter(|server| live[server.index()]),
            profile,
            Use::Ask,
        ) {
            return self.refuse_connection(id);
        }
        let started = patience(Blocking::LastMillis, call.args).start(now);
        let pieces = self.pieces_alone(id, &request, 1 + BEFORE_WAIT, |engine, server| {
            engine.dedicate(id, pool, server, Use::Ask, now)
        });
        self.gather_alone(id, call, How::Wait, pieces, Marks::NONE, started, now);
    }

    /// `SCRIPT KILL` and `FUNCTION KILL`: also to servers that are out of the ring, perhaps because of what is to be ended.
    pub(super) fn kill_everywhere(&mut self, id: SessionId, call: Call<'_>, now: Instant) {
        let pool = call.pool;
        if self.lacks_any(id, self.topology.pool(pool).members(), Profile::default(), Use::Ask) {
            return self.refuse_connection(id);
        }
        // A busy server takes no `SELECT`.
        let pieces = self.pieces_alone(id, call.raw, 1, |engine, server| {
            engine.dedicate_as(id, (pool, server), Profile::default(), Use::Ask, now)
        });
        self.gather_alone(id, call, How::Kill, pieces, Marks::STAYS, now + KILL_PATIENCE, now);
    }

    fn pieces_alone(
        &mut self,
        id: SessionId,
        request: &[u8],
        replies: u32,
        mut link: impl FnMut(&mut Self, ServerId) -> Result<LinkId, Failure>,
    ) -> Vec<Piece> {
        let Some(session) = self.session_ref(id) else { return Vec::new() };
        let topology = Arc::clone(&self.topology);
        let mut pieces = Vec::new();
        for server in topology.pool(session.pool()).members() {
            let link = link(self, server);
            let request = request.to_vec();
            let to = link.map_or_else(|failure| To::Nowhere(Some(server), failure), |link| To::Link(server, link));
            pieces.push(Piece { to, request, replies });
        }
        pieces
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one request, used in one place each")]
    fn gather_alone(
        &mut self,
        id: SessionId,
        call: Call<'_>,
        how: How,
        pieces: Vec<Piece>,
        more: Marks,
        started: Instant,
        now: Instant,
    ) {
        let (mut asked, marks) = self.asked(id, call);
        asked.request.started = started;
        self.gather(id, asked, marks | more | Marks::ONCE, how, pieces, now);
        if self.session(id).is_some_and(|session| !session.requests.is_empty()) {
            self.wait_alone(id);
        }
    }
}
