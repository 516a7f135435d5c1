//! What goes where of a transaction.

use super::exec::{Kind, Planned};
use super::piece::Piece;
use super::portions::{ARGUMENT_COST, COPIED_AT_ONCE, Long};
use crate::engine::buffers::enlarge;
use crate::engine::memory::grow::grow;
use crate::engine::ways::To;
use crate::engine::work::{self, Work};
use crate::proto::resp::encode;

/// Bytes that what is common to all pieces of a transaction takes in each.
const FRAME: usize = 64;

/// What goes where of a transaction, as far as that is known.
#[derive(Debug)]
pub(crate) struct Planning {
    /// The ring that the servers are looked up in.
    pub(super) ring_version: u32,
    /// So many of the commands can be part of it by that ring, at least.
    pub(super) judged: usize,
    pub(super) pieces: Vec<Piece>,
    pub(super) commands: Vec<Planned>,
    /// Each of them is one server's.
    pub(super) are_whole: bool,
    /// As [`ExecPlan`](super::exec::ExecPlan) has them.
    pub(super) selects: Vec<(usize, u32)>,
    /// Commands that have scripts be forgotten.
    pub(super) forgets: Vec<usize>,
    /// Answers of servers to what is planned.
    pub(super) asked: usize,
    /// So many bytes of the command that is planned next are in its server's piece.
    copied: usize,
    /// The command that is planned next, if it is a long one, as far as it is ready.
    pub(super) long: Option<Box<Long>>,
    /// Bytes that a server is likely to get. What grows is moved.
    likely: usize,
}

impl Planning {
    /// Nothing is planned yet, of so many commands with so many bytes and for so many servers. A ring, and whether all were
    /// judged by it when they were queued.
    pub(super) fn new((ring_version, is_judged): (u32, bool), servers: usize, commands: usize, bytes: usize) -> Self {
        let share = bytes / servers.max(1);
        Self {
            ring_version,
            judged: if is_judged { usize::MAX } else { 0 },
            pieces: Vec::new(),
            commands: Vec::with_capacity(commands),
            are_whole: true,
            selects: Vec::new(),
            forgets: Vec::new(),
            asked: 0,
            copied: 0,
            long: None,
            likely: (share + share / 4).min(bytes) + FRAME,
        }
    }

    /// Memory that it holds beyond what is reckoned for each request.
    pub(super) fn footprint(&self) -> usize {
        self.long.as_ref().map_or(0, |long| long.spans.capacity() * ARGUMENT_COST)
    }

    /// The piece of a server, with what begins a transaction; a new one if it has none yet.
    pub(super) fn piece_of(&mut self, to: To) -> u16 {
        let known = self.pieces.iter().position(|piece| piece.to == to);
        let place = known.unwrap_or_else(|| {
            let mut request = Vec::with_capacity(self.likely);
            encode::words(&mut request, &[b"MULTI"]);
            self.pieces.push(Piece { to, request, replies: 1 });
            self.pieces.len() - 1
        });
        u16::try_from(place).unwrap_or(u16::MAX)
    }

    /// The next command is planned.
    pub(super) fn push(&mut self, command: Planned) {
        self.are_whole &= !matches!(command.kind, Kind::Split(_));
        self.commands.push(command);
    }

    /// A server gets a command, or its part of one. Says which piece that is in.
    pub(super) fn append(&mut self, to: To, request: &[u8]) -> u16 {
        let place = self.piece_of(to);
        let piece = &mut self.pieces[usize::from(place)];
        grow(&mut piece.request, request);
        piece.replies += 1;
        place
    }

    /// As [`Planning::append`], of a large command, as far as the turn reaches; then `None`.
    pub(super) fn append_on(&mut self, to: To, request: &[u8], work: &mut Work) -> Option<u16> {
        let place = self.piece_of(to);
        let piece = &mut self.pieces[usize::from(place)];
        if self.copied == 0 {
            enlarge(&mut piece.request, request.len() + FRAME); // it is not moved while it grows
        }
        while self.copied < request.len() {
            if work.is_over() {
                return None;
            }
            let rest = &request[self.copied..];
            let next = &rest[..rest.len().min(COPIED_AT_ONCE)];
            piece.request.extend_from_slice(next);
            self.copied += next.len();
            work.cost += next.len() / work::COPIED;
        }
        self.copied = 0;
        piece.replies += 1;
        Some(place)
    }
}
