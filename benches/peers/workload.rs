//! The workloads: who connects, what they ask, and what ours may take for it.
//!
//! Another one is another row of [`ALL`]; another way to ask is another [`Pace`].

/// When a connection sends again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As soon as one reply arrived: the number in flight stays the same.
    Sliding,
    /// When all replies of the batch arrived, as client libraries do with their pipelines.
    Batch,
    /// One request per connection, then close; connections start at most this often in a second.
    Reconnect(u32),
    /// One request per connection in all; the connections stay open and their memory is what is measured.
    Idle,
    /// So many requests per connection, one after the other; then all stay open and silent, and memory is measured.
    Burst(u32),
}

/// The most that ours may show in a row of the report when all share one CPU (`--guard`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// Name of the row.
    pub(crate) row: &'static str,
    /// Its largest figure.
    pub(crate) most: f64,
}

/// What one workload does; all numbers are per run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    /// How the command line and the report call it.
    pub(crate) name: &'static str,
    /// One line for the report.
    pub(crate) about: &'static str,
    /// Connections that send all the time (for `Reconnect`: the most at once).
    pub(crate) connections: usize,
    /// Connections beside them that ask once and then keep silent.
    pub(crate) silent: usize,
    /// Requests in flight per connection.
    pub(crate) in_flight: usize,
    /// When a connection sends again.
    pub(crate) pace: Pace,
    /// Keys in each get, at most 32.
    pub(crate) keys_per_get: u32,
    /// Gets for each set; 0 means no sets.
    pub(crate) gets_per_set: u32,
    /// Length of each value in bytes.
    pub(crate) value_bytes: usize,
    /// Keys that exist.
    pub(crate) keys: u32,
    /// Clients reach softmiss through a unix socket; everything else stays on TCP.
    pub(crate) unix: bool,
    /// Clients and servers speak Redis's protocol, not memcached's.
    pub(crate) redis: bool,
    /// Clients speak memcached's binary protocol, servers as ever.
    pub(crate) binary: bool,
    /// A line of the pool that only softmiss is given; nothing for none.
    pub(crate) option: &'static str,
    /// What ours is held to.
    pub(crate) limit: Option<Limit>,
}

impl Workload {
    /// One client with one request in flight: no queue, so latency is the way through the proxy.
    pub(crate) fn is_lone(&self) -> bool {
        self.connections == 1 && self.in_flight == 1
    }

    /// How long every proxy waits for a server. A burst is about memory: on a busy machine its queue takes longer.
    pub(crate) fn timeout_ms(&self) -> u32 {
        if matches!(self.pace, Pace::Burst(_)) { 10_000 } else { 400 }
    }

    /// Memory is what it is about, so each run wants processes that nobody has used before.
    pub(crate) fn measures_memory(&self) -> bool {
        matches!(self.pace, Pace::Idle | Pace::Burst(_))
    }
}

/// Fifty clients, one small request in flight each: the shape that the others vary.
const W1: Workload = Workload {
    name: "w1",
    about: "50 connections, 1 in flight, gets:sets 10:1, 100 B values",
    connections: 50,
    silent: 0,
    in_flight: 1,
    pace: Pace::Sliding,
    keys_per_get: 1,
    gets_per_set: 10,
    value_bytes: 100,
    keys: 10_000,
    unix: false,
    redis: false,
    binary: false,
    option: "",
    limit: None,
};
const W2: Workload =
    Workload { name: "w2", about: "50 connections, 16 in flight (sliding), else as w1", in_flight: 16, ..W1 };
const W3: Workload = Workload { name: "w3", about: "1 connection, 1 in flight, else as w1", connections: 1, ..W1 };
const W4: Workload = Workload {
    name: "w4",
    about: "50 connections, 20-key gets, 100 B values",
    keys_per_get: 20,
    gets_per_set: 0,
    ..W1
};
const W6: Workload = Workload {
    name: "w6",
    about: "4 connections, 1 in flight, gets:sets 10:1, 512 KiB values",
    connections: 4,
    value_bytes: 512 << 10,
    keys: 32,
    ..W1
};
const W8: Workload = Workload {
    name: "w8",
    about: "connect, one get, close; at most 2,000/s",
    pace: Pace::Reconnect(2_000),
    gets_per_set: 0,
    ..W1
};
const BURST: Workload = Workload {
    name: "burst",
    about: "200 connections, 10 gets each of 1 MB values (timeout 10 s): memory before, at its peak and 5 s after",
    connections: 200,
    pace: Pace::Burst(10),
    gets_per_set: 0,
    value_bytes: 1_000_000,
    keys: 64,
    limit: LEFT_BEHIND,
    ..W1
};

/// Few keys that all ask for, of which softmiss keeps the values.
const NEAR: Workload = Workload {
    name: "n1",
    about: "as w1, 1,000 keys, no sets, near_cache",
    gets_per_set: 0,
    keys: 1_000,
    option: "near_cache: true",
    ..W1
};
/// Whoever misses a key would compute it: all keys are there, so this is what that costs when nobody does.
const CALM: Workload =
    Workload { name: "s1", about: "as w1, no sets, stampede", gets_per_set: 0, option: "stampede: true", ..W1 };

/// The same clients of a Redis pool.
const R1: Workload = Workload { name: "r1", about: "as w1 in Redis's protocol", redis: true, ..W1 };

/// A lone request costs a wait, a read and a write on each of two sockets; the rest is the connect. Not so exact with
/// a unix socket: there each read by the client may wake the proxy to say that there is room to write.
const LONE_CALLS: Option<Limit> = Some(Limit { row: "calls/request", most: 6.1 });
/// A busy worker reads and writes each client once and shares everything else.
const BUSY_CALLS: Option<Limit> = Some(Limit { row: "calls/request", most: 2.5 });
/// A client that waits for nothing owns its session, and no buffer.
const IDLE_BYTES: Option<Limit> = Some(Limit { row: "bytes/client", most: 1_024.0 });
/// Buffers that large values have made are given back, whatever the allocator keeps for itself.
const LEFT_BEHIND: Option<Limit> = Some(Limit { row: "left behind kB", most: 16_384.0 });

/// Every workload, in the order of the report.
pub(crate) const ALL: [Workload; 36] = [
    Workload { limit: BUSY_CALLS, ..W1 },
    W2,
    Workload { name: "w2b", about: "50 connections, batches of 16, else as w1", pace: Pace::Batch, ..W2 },
    Workload { limit: LONE_CALLS, ..W3 },
    W4,
    Workload { name: "w5", about: "as w1 with 10,000 B values", value_bytes: 10_000, keys: 2_000, ..W1 },
    W6,
    Workload { name: "w7", about: "as w1 beside 1,000 silent connections", silent: 1_000, ..W1 },
    W8,
    Workload { name: "w9", about: "4 connections, else as w1", connections: 4, ..W1 },
    Workload { name: "w1u", about: "as w1, softmiss through a unix socket", unix: true, ..W1 },
    Workload { name: "w2u", about: "as w2, softmiss through a unix socket", unix: true, ..W2 },
    Workload { name: "w3u", about: "as w3, softmiss through a unix socket", unix: true, ..W3 },
    Workload { name: "w4u", about: "as w4, softmiss through a unix socket", unix: true, ..W4 },
    Workload { name: "b1", about: "as w1 in the binary protocol", binary: true, ..W1 },
    Workload { name: "b4", about: "as w4 in the binary protocol: 20 quiet gets and a no-op", binary: true, ..W4 },
    Workload { limit: BUSY_CALLS, ..R1 },
    Workload { name: "r2", about: "as r1 with 16 in flight (sliding)", in_flight: 16, ..R1 },
    Workload { name: "r3", about: "as r1 with 1 connection", connections: 1, limit: LONE_CALLS, ..R1 },
    Workload { name: "r4", about: "as r1 with 20-key MGETs", keys_per_get: 20, gets_per_set: 0, ..R1 },
    Workload { name: "r5", about: "as r1 with 10,000 B values", value_bytes: 10_000, keys: 2_000, ..R1 },
    Workload { name: "r6", about: "as w6 in Redis's protocol", redis: true, ..W6 },
    Workload { name: "r7", about: "as r1 beside 1,000 silent connections", silent: 1_000, ..R1 },
    Workload { name: "r8", about: "as w8 in Redis's protocol", redis: true, ..W8 },
    NEAR,
    Workload { name: "n2", about: "as n1 with 16 in flight (sliding)", in_flight: 16, ..NEAR },
    Workload { name: "n3", about: "as n1 with 1 connection", connections: 1, ..NEAR },
    Workload { name: "n4", about: "as n1 with 20-key gets", keys_per_get: 20, ..NEAR },
    Workload { name: "n5", about: "as n1 with 10,000 B values", value_bytes: 10_000, ..NEAR },
    Workload { name: "nr1", about: "as n1 in Redis's protocol", redis: true, ..NEAR },
    CALM,
    Workload { name: "s4", about: "as s1 with 20-key gets", keys_per_get: 20, ..CALM },
    Workload { name: "r1u", about: "as r1, softmiss through a unix socket", unix: true, ..R1 },
    Workload {
        name: "idle",
        about: "2,000 connections after one get each: growth of resident memory",
        connections: 2_000,
        pace: Pace::Idle,
        gets_per_set: 0,
        limit: IDLE_BYTES,
        ..W1
    },
    BURST,
    Workload { name: "rburst", about: "as burst in Redis's protocol", redis: true, ..BURST },
];

/// Finds a workload by its name.
pub(crate) fn by_name(name: &str) -> Option<Workload> {
    ALL.into_iter().find(|workload| workload.name == name)
}
