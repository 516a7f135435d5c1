//! What lies between hosts and servers: connections whose packets arrive in order, or wait until the road is free.
//!
//! As TCP has it: what is sent into a road that is cut is sent again until it arrives or its sender gives up; an end that
//! is orderly comes behind all that was sent before; one that is not takes back what has not arrived, and nothing else.

use std::collections::VecDeque;

use softmiss::config::model::{PoolId, ServerId};
use softmiss::engine::ids::LinkId;

use super::plan::MS;
use super::world::{Event, World};

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    /// There: a connection is asked for. Back: it is there.
    Open,
    Bytes(Vec<u8>),
    /// Nothing more is said.
    End,
    /// The connection is no more, or nobody listens.
    Reset,
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Lane {
    /// When the last packet arrives.
    last: u64,
    /// Packets that wait for the road to be free.
    held: VecDeque<Packet>,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) host: usize,
    pub(super) server: usize,
    pub(super) link: LinkId,
    pub(super) epoch: u32,
    there: Lane,
    back: Lane,
    /// It has been opened, as far as the host knows.
    pub(super) is_open: bool,
    /// The host has given it up.
    pub(super) is_given_up: bool,
    /// Somebody waits for its end.
    pub(super) lingers: Option<(PoolId, ServerId)>,
    /// The server's process that had it is no more.
    pub(super) is_dead: bool,
    /// What the server has not looked at.
    pub(super) unread: VecDeque<Packet>,
    pub(super) input: Vec<u8>,
}

impl Connection {
    pub(super) fn new(host: usize, server: usize, link: LinkId, epoch: u32) -> Self {
        Self {
            host,
            server,
            link,
            epoch,
            there: Lane::default(),
            back: Lane::default(),
            is_open: false,
            is_given_up: false,
            lingers: None,
            is_dead: false,
            unread: VecDeque::new(),
            input: Vec::new(),
        }
    }

    fn lane(&mut self, direction: Direction) -> &mut Lane {
        match direction {
            Direction::There => &mut self.there,
            Direction::Back => &mut self.back,
        }
    }

    /// Takes back what has not arrived.
    pub(super) fn take_back(&mut self) {
        self.there.held.clear();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    There,
    Back,
}

/// What passes between a host and a server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Road {
    there: bool,
    back: bool,
}

impl Road {
    pub(super) const FREE: Self = Self { there: true, back: true };

    pub(super) fn is_whole(self) -> bool {
        self.there && self.back
    }

    fn is_free(self, direction: Direction) -> bool {
        match direction {
            Direction::There => self.there,
            Direction::Back => self.back,
        }
    }
}

impl World {
    /// Sends a packet on a connection.
    pub(super) fn send(&mut self, at: usize, direction: Direction, packet: Packet) {
        let connection = &mut self.connections[at];
        if !self.roads[connection.host][connection.server].is_free(direction) {
            return connection.lane(direction).held.push_back(packet);
        }
        let takes = MS / 10 + self.random.below(MS / 2);
        self.arrives_after(at, direction, packet, takes);
    }

    fn arrives_after(&mut self, at: usize, direction: Direction, packet: Packet, takes: u64) {
        let lane = self.connections[at].lane(direction);
        lane.last = (self.now + takes).max(lane.last + 1);
        let arrives = lane.last;
        self.schedule(arrives, Event::Arrives(at, direction, packet));
    }

    /// A road is cut or free again. What was held is sent once more, after a while.
    pub(super) fn change_road(&mut self, host: usize, server: usize, there: bool, back: bool) {
        let road = Road { there, back };
        self.roads[host][server] = road;
        for at in 0..self.connections.len() {
            if (self.connections[at].host, self.connections[at].server) != (host, server) {
                continue;
            }
            for direction in [Direction::There, Direction::Back] {
                if road.is_free(direction) {
                    let takes = self.random.below(400 * MS);
                    for packet in std::mem::take(&mut self.connections[at].lane(direction).held) {
                        self.arrives_after(at, direction, packet, takes);
                    }
                }
            }
        }
    }
}
