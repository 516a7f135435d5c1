//! One worker's part of a pool, and what it has of each of its servers.

use std::collections::VecDeque;

use super::deadline::Alarm;
use super::ids::LinkId;
use super::language::Language;
use super::memcache::Known;
use super::missed::Failover;
use super::rate_limit::{Frequent, RateLimit, TOLD};
use super::warmup::Warm;
use crate::config::model::Protocol;
use crate::health::maintenance::RoutingState;
use crate::ring::{Circle, Ring};
use crate::time::Instant;
use crate::topology::Pool;

/// One worker's part of a pool.
#[derive(Debug)]
pub(super) struct PoolState {
    /// The pool speaks Redis's protocol.
    pub(super) redis: bool,
    /// Each server has one link for requests, in Redis pools one for each [`Profile`](super::redis::Profile).
    pub(super) single: bool,
    /// Each server has one link for requests, whoever asks.
    pub(super) plain: bool,
    pub(super) ring: Ring,
    /// Changes with every ring, so that it is noticed if keys may have been another server's in between.
    pub(super) ring_version: u32,
    /// For each server, by its id, whether it is in the ring. It is the same with all that follows of servers: those that have
    /// left have their places still.
    pub(super) live: Vec<bool>,
    /// What the registry says of each server that `live` comes from.
    pub(super) routing: Vec<RoutingState>,
    /// What the worker has of each server.
    pub(super) members: Vec<Member>,
    pub(super) all_live: bool,
    /// Every key is at its home, and has been for long: the usual case, in which nothing but the ring has to be looked at.
    pub(super) is_steady: bool,
    /// What is brought along of keys that have moved.
    pub(super) warm: Option<Box<Warm>>,
    /// Where the rings of other sets of servers come from: the topology's, with what earlier ones have needed besides.
    pub(super) circle: Circle,
    /// While servers are out: what is done about writes that they miss.
    pub(super) failover: Failover,
    /// Connections that belong to one client each.
    pub(super) dedicated: usize,
    /// It is to be looked at whether subscriptions are where they belong.
    pub(super) moves: bool,
    /// It is to be looked again at who waits where they should not.
    pub(super) follows: bool,
    /// When the operator was last told of a client that speaks something else: of each [`Language`].
    pub(super) strangers: [RateLimit; Language::COUNT],
    /// When the operator was last told of a client that has not said who it is.
    pub(super) denied: RateLimit,
    /// When the operator was last told that memory, or a server's queue, is full, or that there are no more connections for
    /// single clients, and what was counted then.
    pub(super) limits: [(Option<Instant>, u64); TOLD.len()],
    /// The same of clients that were cut off because they held too much memory.
    pub(super) cut_off: (Option<Instant>, u64),
    /// Until when clients that come are taken to ask for what is large, as others have of late.
    pub(super) large_until: Instant,
}

impl PoolState {
    /// A pool of which no server has a place yet.
    pub(super) fn new(pool: &Pool) -> Self {
        let redis = pool.protocol == Protocol::Redis;
        let single = pool.server_connections == 1;
        Self {
            redis,
            single,
            plain: single && !redis,
            ring: pool.home.clone(),
            circle: pool.circle.clone(),
            failover: Failover::None,
            ring_version: 0,
            live: Vec::new(),
            routing: Vec::new(),
            members: Vec::new(),
            all_live: true,
            is_steady: true,
            warm: None,
            dedicated: 0,
            moves: false,
            follows: false,
            strangers: [RateLimit::default(); Language::COUNT],
            denied: RateLimit::default(),
            limits: [(None, 0); TOLD.len()],
            cut_off: (None, 0),
            large_until: Instant::ZERO,
        }
    }

    /// A server gets the next place.
    pub(super) fn add(&mut self, member: Member, routing: RoutingState) {
        let is_up = routing == RoutingState::Up;
        self.members.push(Member { open: is_up, ..member });
        self.live.push(is_up);
        self.routing.push(routing);
    }

    /// The links that clients share, to all servers.
    pub(super) fn shared_links(&self) -> Vec<LinkId> {
        self.members.iter().flat_map(|member| &member.links).copied().collect()
    }

    /// The same, and those of the probes.
    pub(super) fn links(&self) -> Vec<LinkId> {
        let probes = self.members.iter().map(|member| member.probe);
        self.shared_links().into_iter().chain(probes).collect()
    }
}

/// What a worker has of one server. It is kept when the server has left.
#[derive(Debug)]
pub(super) struct Member {
    /// It may be asked anything: it is in the ring, and nothing is pending for it.
    open: bool,
    /// Its links for requests.
    links: Vec<LinkId>,
    probe: LinkId,
    /// When its next probe is due.
    probe_timer: Alarm,
    /// When it is looked at next whether it is to be flushed.
    flush_timer: Alarm,
    /// Its connections that belonged to a client and that none needs at the moment, the one that was used last at the end.
    pub(super) spares: VecDeque<LinkId>,
    /// The connection on which it was last told to end what waits there, while it was out of the ring.
    pub(super) errand: Option<LinkId>,
    /// It has refused to forget something: it is asked for that again then, and for no more until it has done it.
    pub(super) unwilling_until: Option<Instant>,
    /// What it calls its version.
    pub(super) version: Known,
    /// When the operator was last told of what may happen often: of each [`Frequent`].
    rate_limits: [RateLimit; Frequent::COUNT],
}

impl Member {
    pub(super) fn new(links: Vec<LinkId>, probe: LinkId) -> Self {
        Self {
            open: false,
            links,
            probe,
            probe_timer: Alarm::default(),
            flush_timer: Alarm::default(),
            spares: VecDeque::new(),
            errand: None,
            unwilling_until: None,
            version: Known::default(),
            rate_limits: [RateLimit::default(); Frequent::COUNT],
        }
    }

    /// Whether it may be asked anything.
    #[inline(always)]
    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    pub(super) const fn set_open(&mut self, open: bool) {
        self.open = open;
    }

    /// Its links for requests: in Redis pools those for each [`Profile`](super::redis::Profile) that was asked for.
    #[inline(always)]
    pub(super) fn links(&self) -> &[LinkId] {
        &self.links
    }

    /// The first of them.
    #[inline(always)]
    pub(super) fn first(&self) -> LinkId {
        self.links[0]
    }

    pub(super) fn add_link(&mut self, link: LinkId) {
        self.links.push(link);
    }

    /// Its link for probes.
    pub(super) const fn probe(&self) -> LinkId {
        self.probe
    }

    pub(super) const fn probe_timer(&mut self) -> &mut Alarm {
        &mut self.probe_timer
    }

    pub(super) const fn flush_timer(&mut self) -> &mut Alarm {
        &mut self.flush_timer
    }

    pub(super) const fn rate_limit(&mut self, what: Frequent) -> &mut RateLimit {
        &mut self.rate_limits[what as usize]
    }
}
