//! The workloads: who connects, what they ask and what every answer must contain.
//!
//! Keys and values are functions of a number, so that the generator can check each reply byte for byte without
//! remembering what it wrote: a value read under key *n* is right or wrong whoever stored it.

/// Bytes in each key: all keys of a workload are equally long, so that a reply can be checked at fixed offsets.
pub(crate) const KEY_BYTES: usize = 16;

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
    /// Clients reach the proxy through a unix socket, not TCP.
    pub(crate) unix: bool,
    /// Clients and servers speak Redis's protocol, not memcached's.
    pub(crate) redis: bool,
    /// Most system calls per request that ours may make when all share one CPU (`--guard`).
    pub(crate) calls_limit: Option<f64>,
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
    calls_limit: None,
};

/// The same clients of a Redis pool.
const R1: Workload = Workload { name: "r1", redis: true, ..W1 };

/// A lone request costs a wait, a read and a write on each of two sockets; the rest is the connect. Not so exact with
/// a unix socket: there each read by the client may wake the proxy to say that there is room to write.
const LONE_CALLS: Option<f64> = Some(6.1);
/// A busy worker reads and writes each client once and shares everything else.
const BUSY_CALLS: Option<f64> = Some(2.5);

/// Every workload, in the order of the report.
pub(crate) const ALL: [Workload; 17] = [
    Workload { calls_limit: BUSY_CALLS, ..W1 },
    Workload { name: "w2", about: "50 connections, 16 in flight (sliding), else as w1", in_flight: 16, ..W1 },
    Workload {
        name: "w2b",
        about: "50 connections, batches of 16, else as w1",
        in_flight: 16,
        pace: Pace::Batch,
        ..W1
    },
    Workload {
        name: "w3",
        about: "1 connection, 1 in flight, else as w1",
        connections: 1,
        calls_limit: LONE_CALLS,
        ..W1
    },
    Workload {
        name: "w4",
        about: "50 connections, 20-key gets, 100 B values",
        keys_per_get: 20,
        gets_per_set: 0,
        ..W1
    },
    Workload { name: "w5", about: "as w1 with 10,000 B values", value_bytes: 10_000, keys: 2_000, ..W1 },
    Workload {
        name: "w6",
        about: "4 connections, 1 in flight, gets:sets 10:1, 512 KiB values",
        connections: 4,
        value_bytes: 512 << 10,
        keys: 32,
        ..W1
    },
    Workload { name: "w7", about: "as w1 beside 1,000 silent connections", silent: 1_000, ..W1 },
    Workload {
        name: "w8",
        about: "connect, one get, close; at most 2,000/s",
        pace: Pace::Reconnect(2_000),
        gets_per_set: 0,
        ..W1
    },
    Workload { name: "r1", about: "as w1 in Redis's protocol", calls_limit: BUSY_CALLS, ..R1 },
    Workload { name: "r2", about: "as r1 with 16 in flight (sliding)", in_flight: 16, ..R1 },
    Workload { name: "r3", about: "as r1 with 1 connection", connections: 1, calls_limit: LONE_CALLS, ..R1 },
    Workload { name: "r4", about: "as r1 with 20-key MGETs", keys_per_get: 20, gets_per_set: 0, ..R1 },
    Workload { name: "r5", about: "as r1 with 10,000 B values", value_bytes: 10_000, keys: 2_000, ..R1 },
    Workload { name: "w1u", about: "as w1 through a unix socket", unix: true, ..W1 },
    Workload { name: "w3u", about: "as w3 through a unix socket", unix: true, connections: 1, ..W1 },
    Workload {
        name: "idle",
        about: "2,000 connections after one get each: growth of resident memory",
        connections: 2_000,
        pace: Pace::Idle,
        gets_per_set: 0,
        ..W1
    },
];

/// Finds a workload by its name.
pub(crate) fn by_name(name: &str) -> Option<Workload> {
    ALL.into_iter().find(|workload| workload.name == name)
}

/// All keys and values of one workload.
///
/// Value *n* is the window at offset *n* of one random block: every value differs from every other, and all of them
/// together take little more memory (and cache) than one.
pub(crate) struct Content {
    block: Vec<u8>,
    value_bytes: usize,
    keys: u32,
    value_header: Vec<u8>,
    set_header: Vec<u8>,
    redis: bool,
}

impl Content {
    /// The content of `workload`, the same in every process.
    pub(crate) fn new(workload: &Workload) -> Self {
        let mut random = Random::new(0x5eed);
        let bytes = workload.value_bytes + workload.keys as usize;
        let block = (0..bytes).map(|_| random.next().to_le_bytes()[4]).collect();
        let length = workload.value_bytes;
        Self {
            block,
            value_bytes: length,
            keys: workload.keys,
            value_header: if workload.redis { format!("${length}\r\n") } else { format!(" 0 {length}\r\n") }
                .into_bytes(),
            set_header: if workload.redis { format!("\r\n${length}\r\n") } else { format!(" 0 0 {length}\r\n") }
                .into_bytes(),
            redis: workload.redis,
        }
    }

    /// How many keys there are; they are numbered from 0.
    pub(crate) fn keys(&self) -> u32 {
        self.keys
    }

    /// Appends key `number`.
    pub(crate) fn push_key(out: &mut Vec<u8>, number: u32) {
        out.extend_from_slice(b"peers:key:");
        let mut digits = [b'0'; 6];
        let mut rest = number;
        for digit in digits.iter_mut().rev() {
            *digit = b"0123456789"[(rest % 10) as usize];
            rest /= 10;
        }
        out.extend_from_slice(&digits);
    }

    /// The number of a key that [`Content::push_key`] wrote.
    pub(crate) fn key_number(key: &[u8]) -> Option<u32> {
        let digits = key.strip_prefix(b"peers:key:")?;
        str::from_utf8(digits).ok()?.parse().ok()
    }

    /// What key `number` holds.
    pub(crate) fn value(&self, number: u32) -> &[u8] {
        let start = number as usize;
        &self.block[start..start + self.value_bytes]
    }

    /// Appends a set of key `number`.
    pub(crate) fn push_set(&self, out: &mut Vec<u8>, number: u32) {
        let start = if self.redis { format!("*3\r\n$3\r\nSET\r\n${KEY_BYTES}\r\n") } else { "set ".to_owned() };
        out.extend_from_slice(start.as_bytes());
        Self::push_key(out, number);
        out.extend_from_slice(&self.set_header);
        out.extend_from_slice(self.value(number));
        out.extend_from_slice(b"\r\n");
    }

    /// Appends a get of keys.
    pub(crate) fn push_get(&self, out: &mut Vec<u8>, keys: impl ExactSizeIterator<Item = u32>) {
        if !self.redis {
            out.extend_from_slice(b"get");
            for key in keys {
                out.push(b' ');
                Self::push_key(out, key);
            }
            return out.extend_from_slice(b"\r\n");
        }
        match keys.len() {
            1 => out.extend_from_slice(b"*2\r\n$3\r\nGET"),
            count => {
                out.push(b'*');
                out.extend_from_slice((count + 1).to_string().as_bytes());
                out.extend_from_slice(b"\r\n$4\r\nMGET");
            }
        }
        for key in keys {
            out.extend_from_slice(b"\r\n$16\r\n");
            Self::push_key(out, key);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// What the answer to a set is.
    pub(crate) fn stored(&self) -> &'static [u8] {
        if self.redis { b"+OK\r\n" } else { b"STORED\r\n" }
    }

    /// Whether requests are Redis's.
    pub(crate) fn is_redis(&self) -> bool {
        self.redis
    }

    /// What follows the key in a `VALUE` line, its line end included; of Redis, what stands before a value.
    pub(crate) fn value_header(&self) -> &[u8] {
        &self.value_header
    }
}

/// A small seeded generator (xorshift64*): runs ask for the same keys in the same order.
pub(crate) struct Random(u64);

impl Random {
    /// A generator with its seed; 0 is taken as 1, which xorshift needs.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, close enough to evenly.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        let high = self.next() >> 32;
        // A product of two numbers below 2^32, shifted right by 32, is below 2^32.
        u32::try_from((high * u64::from(bound)) >> 32).unwrap_or(0)
    }
}
