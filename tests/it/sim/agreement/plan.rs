//! What a run is like: the hosts' configuration, and what happens to the network between them and the servers.

use std::collections::BTreeSet;
use std::time::Duration;

use softmiss::config::model::{
    Config, HashKind, Listen, OnEject, OnFailure, Pool, Rejoin, Server, ServerId, Settings, Stall,
};

use crate::sim::random::Random;
use crate::sim::topology::address;

/// Nanoseconds in a millisecond.
pub(super) const MS: u64 = 1_000_000;

/// Servers that a trouble of several hosts concerns: the first ones.
const TROUBLED: usize = 2;

/// What a pool does with servers that are out, and that return.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    pub(super) name: &'static str,
    pub(super) on_eject: OnEject,
    pub(super) rejoin: Rejoin,
    pub(super) on_failure: OnFailure,
    /// In seconds.
    pub(super) failover_ttl: Option<u32>,
    pub(super) agreed: Option<Agreed>,
}

/// What somebody who sees all hosts has them do. A host hears of it within `takes` milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Agreed {
    /// What one has ejected, all take out.
    OneEjects { takes: u64 },
    /// What most have lost leaves the file of all.
    MostLose { takes: u64 },
}

impl Policy {
    const TWEMPROXY: Self = Self {
        name: "rehash, keep",
        on_eject: OnEject::Rehash,
        rejoin: Rejoin::Keep,
        on_failure: OnFailure::Miss,
        failover_ttl: None,
        agreed: None,
    };

    pub(super) const ALL: [Self; 10] = [
        Self::TWEMPROXY,
        Self { name: "rehash, flush", rejoin: Rejoin::Flush, ..Self::TWEMPROXY },
        Self::REHASH,
        Self { name: "rehash, safe, failover_ttl 1s", failover_ttl: Some(1), ..Self::REHASH },
        Self {
            name: "rehash, safe, one ejects for all",
            agreed: Some(Agreed::OneEjects { takes: 200 }),
            ..Self::REHASH
        },
        Self { name: "hold, keep", rejoin: Rejoin::Keep, ..Self::HOLD },
        Self::HOLD,
        Self { name: "hold, safe, most remove for all", agreed: Some(Agreed::MostLose { takes: 200 }), ..Self::HOLD },
        Self { name: "hold, safe, error", on_failure: OnFailure::Error, ..Self::HOLD },
        Self { name: "hold, keep, error", rejoin: Rejoin::Keep, on_failure: OnFailure::Error, ..Self::HOLD },
    ];
    pub(super) const REHASH: Self = Self { name: "rehash, safe", rejoin: Rejoin::Safe, ..Self::TWEMPROXY };
    pub(super) const HOLD: Self = Self { name: "hold, safe", on_eject: OnEject::Hold, ..Self::REHASH };
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing.
    None,
    /// A server dies, and is started anew.
    Killed,
    /// A server stands still for everybody, and goes on.
    Stopped,
    /// One host loses one server.
    OneHost,
    /// Half of the hosts lose two servers, and have them back at the same moment.
    Half,
    /// The same, and each host has them back at a time of its own.
    Staggered,
    /// Every host loses one server, each another.
    Scattered,
    /// For half of the hosts, what two servers answer is lost; what they are asked arrives.
    AnswersLost,
    /// For half of the hosts, what two servers are asked is lost.
    RequestsLost,
    /// Half of the hosts lose two servers again and again, each for itself.
    Flapping,
}

impl Trouble {
    pub(super) const ALL: [Self; 10] = [
        Self::None,
        Self::Killed,
        Self::Stopped,
        Self::OneHost,
        Self::Half,
        Self::Staggered,
        Self::Scattered,
        Self::AnswersLost,
        Self::RequestsLost,
        Self::Flapping,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "nothing happens",
            Self::Killed => "a server dies, is started anew",
            Self::Stopped => "a server stands still, goes on",
            Self::OneHost => "1 host loses 1 server",
            Self::Half => "half lose 2, back together",
            Self::Staggered => "half lose 2, back one by one",
            Self::Scattered => "each host loses another one",
            Self::AnswersLost => "half lose answers of 2",
            Self::RequestsLost => "half lose requests to 2",
            Self::Flapping => "half lose 2 again and again",
        }
    }
}

/// Something that changes in the world.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    /// What passes between a host and a server: requests (`there`), answers (`back`).
    Road {
        host: usize,
        server: usize,
        there: bool,
        back: bool,
    },
    Kill(usize),
    Start(usize),
    Stop(usize),
    Resume(usize),
}

/// What a run is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) hosts: usize,
    pub(super) servers: usize,
    /// Clients of each host, each of which asks one thing at a time.
    pub(super) clients: usize,
    /// What a client waits between an answer and its next request, on average, in microseconds.
    pub(super) pause: u64,
    pub(super) keys: usize,
    pub(super) locks: usize,
    /// When the trouble begins, when it is over, and when the run is, in milliseconds. Hosts that have their servers back
    /// one by one do so from `heals` until half of what is left then is over.
    pub(super) begins: u64,
    pub(super) heals: u64,
    pub(super) ends: u64,
    pub(super) policy: Policy,
    pub(super) trouble: Trouble,
}

impl Plan {
    /// 50 sidecars and 8 servers.
    pub(super) fn whole(seed: u64, policy: Policy, trouble: Trouble) -> Self {
        Self {
            seed,
            hosts: 50,
            servers: 8,
            clients: 2,
            pause: 60_000,
            keys: 400,
            locks: 60,
            begins: 3_000,
            heals: 11_000,
            ends: 27_000,
            policy,
            trouble,
        }
    }

    /// What is enough to see an effect.
    pub(super) fn short(seed: u64, policy: Policy, trouble: Trouble) -> Self {
        Self {
            hosts: 6,
            servers: 4,
            keys: 40,
            locks: 8,
            begins: 300,
            heals: 2_300,
            ends: 5_500,
            pause: 30_000,
            ..Self::whole(seed, policy, trouble)
        }
    }

    /// When everybody is able to reach everybody again, in milliseconds.
    pub(super) fn healed(&self) -> u64 {
        if self.trouble == Trouble::Staggered { self.heals + (self.ends - self.heals) / 2 } else { self.heals }
    }

    /// What happens, and when, in nanoseconds.
    pub(super) fn changes(&self) -> Vec<(u64, Change)> {
        let mut random = Random::new(self.seed ^ 0x0bad);
        let (begins, heals) = (self.begins * MS, self.heals * MS);
        let mut changes = Vec::new();
        let mut road = |at: u64, host, server, there, back| {
            changes.push((at, Change::Road { host, server, there, back }));
        };
        // Not all of them lose it at the same instant.
        let soon = |random: &mut Random| begins + random.below(50 * MS);
        let half = (0..self.hosts).step_by(2).flat_map(|host| (0..TROUBLED).map(move |server| (host, server)));
        let (there, back) = (self.trouble == Trouble::AnswersLost, self.trouble == Trouble::RequestsLost);
        match self.trouble {
            Trouble::None => {}
            Trouble::Killed => return vec![(begins, Change::Kill(0)), (heals, Change::Start(0))],
            Trouble::Stopped => return vec![(begins, Change::Stop(0)), (heals, Change::Resume(0))],
            Trouble::OneHost => {
                road(begins, 0, 0, false, false);
                road(heals, 0, 0, true, true);
            }
            Trouble::Half | Trouble::AnswersLost | Trouble::RequestsLost => {
                for (host, server) in half {
                    road(soon(&mut random), host, server, there, back);
                    road(heals, host, server, true, true);
                }
            }
            Trouble::Staggered => {
                for (host, server) in half {
                    road(soon(&mut random), host, server, false, false);
                    road(heals + random.below(self.healed() * MS - heals), host, server, true, true);
                }
            }
            Trouble::Scattered => {
                for host in 0..self.hosts {
                    road(soon(&mut random), host, host % self.servers, false, false);
                    road(heals, host, host % self.servers, true, true);
                }
            }
            Trouble::Flapping => {
                for (host, server) in half {
                    let mut at = begins;
                    while at < heals {
                        at += 500 * MS + random.below(3_500 * MS);
                        road(at.min(heals - 1), host, server, false, false);
                        at += 500 * MS + random.below(3_500 * MS);
                        road(at.min(heals), host, server, true, true);
                    }
                }
            }
        }
        changes
    }

    /// The configuration, without the servers that have left.
    pub(super) fn config(&self, left: &BTreeSet<usize>) -> Config {
        let listed = (0..self.servers).filter(|index| !left.contains(index));
        let servers = listed.map(|index| Server {
            name: format!("s{index}"),
            ring_name: None,
            address: address(index),
            weight: 1,
            id: ServerId(0),
            position: index,
        });
        let timeout = Duration::from_millis(400);
        let listen = Listen::Unix { path: "/nowhere".into(), mode: None };
        // As conf/example.yml has it, but for the hash: names as short and as alike as those here go where others go by it.
        let pool = Pool {
            hash: HashKind::Md5,
            timeout: Some(timeout),
            auto_eject_hosts: true,
            server_failure_limit: 3,
            server_retry_timeout: Duration::from_secs(2),
            stall: Some(Stall { least: timeout / 10, most: timeout }),
            on_failure: self.policy.on_failure,
            on_eject: self.policy.on_eject,
            rejoin: self.policy.rejoin,
            failover_ttl: self.policy.failover_ttl,
            ..Pool::new("pool", listen, servers.collect())
        };
        Config { settings: Settings::default(), pools: vec![pool] }
    }
}
