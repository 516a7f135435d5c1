//! What the clients of a scenario ask, what the pretend servers answer, and what each client must get.

/// What a turn consists of.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) kind: Kind,
    pub(crate) clients: u32,
    /// Requests of each client in each turn.
    pub(crate) depth: u32,
    pub(crate) keys_per_get: u32,
    pub(crate) value_bytes: usize,
    /// Turns that are counted under callgrind.
    pub(crate) counted_turns: u32,
    /// Instructions per request, as they were counted when this was written.
    pub(crate) instructions: u32,
}

/// In which protocol, and whether it reads or writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Get,
    Set,
    RedisGet,
    RedisSet,
}

/// One client, one get of 100 bytes: where the others differ, they say so.
const LONE: Scenario = Scenario {
    name: "lone-get",
    about: "1 client, 1 get a turn, 100 B",
    kind: Kind::Get,
    clients: 1,
    depth: 1,
    keys_per_get: 1,
    value_bytes: 100,
    counted_turns: 1_000,
    instructions: 2_844,
};

const BUSY: Scenario = Scenario { clients: 50, counted_turns: 60, ..LONE };
const DEEP: Scenario = Scenario { depth: 16, counted_turns: 10, ..BUSY };

pub(crate) const SCENARIOS: [Scenario; 11] = [
    LONE,
    Scenario { name: "get", about: "50 clients, 1 get each, 100 B", instructions: 2_283, ..BUSY },
    Scenario { name: "get-16", about: "50 clients, 16 gets each, 100 B", instructions: 2_008, ..DEEP },
    Scenario {
        name: "multiget-20",
        about: "50 clients, one get of 20 keys each, 100 B",
        keys_per_get: 20,
        counted_turns: 20,
        instructions: 18_030,
        ..BUSY
    },
    Scenario {
        name: "get-10k",
        about: "50 clients, 1 get each, 10,000 B",
        value_bytes: 10_000,
        counted_turns: 20,
        instructions: 13_004,
        ..BUSY
    },
    Scenario { name: "set", about: "50 clients, 1 set each, 100 B", kind: Kind::Set, instructions: 2_540, ..BUSY },
    Scenario { name: "set-16", about: "50 clients, 16 sets each, 100 B", kind: Kind::Set, instructions: 2_502, ..DEEP },
    Scenario {
        name: "redis-get",
        about: "Redis: 50 clients, 1 GET each, 100 B",
        kind: Kind::RedisGet,
        instructions: 2_921,
        ..BUSY
    },
    Scenario {
        name: "redis-get-16",
        about: "Redis: 50 clients, 16 GETs each, 100 B",
        kind: Kind::RedisGet,
        instructions: 2_535,
        ..DEEP
    },
    Scenario {
        name: "redis-mget-20",
        about: "Redis: 50 clients, one MGET of 20 keys each, 100 B",
        kind: Kind::RedisGet,
        keys_per_get: 20,
        counted_turns: 20,
        instructions: 19_773,
        ..BUSY
    },
    Scenario {
        name: "redis-set",
        about: "Redis: 50 clients, 1 SET each, 100 B",
        kind: Kind::RedisSet,
        instructions: 3_079,
        ..BUSY
    },
];

impl Scenario {
    pub(crate) fn is_redis(&self) -> bool {
        matches!(self.kind, Kind::RedisGet | Kind::RedisSet)
    }

    /// What client `number` sends in a turn, and what it must get.
    pub(crate) fn conversation(&self, number: u32) -> (Vec<u8>, Vec<u8>) {
        let (mut request, mut reply) = (Vec::new(), Vec::new());
        for place in 0..self.depth {
            let first = (number * self.depth + place) * self.keys_per_get;
            let keys: Vec<String> = (first..first + self.keys_per_get).map(key).collect();
            let value = String::from_utf8_lossy(&vec![b'x'; self.value_bytes]).into_owned();
            match self.kind {
                Kind::Get => request.extend_from_slice(format!("get {}\r\n", keys.join(" ")).as_bytes()),
                Kind::Set => {
                    let line = format!("set {} 0 0 {}\r\n{value}\r\n", keys[0], self.value_bytes);
                    request.extend_from_slice(line.as_bytes());
                }
                Kind::RedisGet => {
                    let name = if keys.len() == 1 { "GET" } else { "MGET" };
                    let words: Vec<&str> = std::iter::once(name).chain(keys.iter().map(String::as_str)).collect();
                    push_command(&mut request, &words);
                }
                Kind::RedisSet => push_command(&mut request, &["SET", &keys[0], &value]),
            }
            self.push_reply(&mut reply, &keys);
        }
        (request, reply)
    }

    /// What a server that has every key answers.
    pub(crate) fn answer(&self, asked: &[u8]) -> Vec<u8> {
        let asked = String::from_utf8_lossy(asked);
        let mut reply = Vec::new();
        let mut lines = asked.lines();
        while let Some(line) = lines.next() {
            match line.strip_prefix('*') {
                Some(count) if self.is_redis() => {
                    let words = count.parse().unwrap_or(0_usize);
                    // In front of each word stands the line that tells its length.
                    let words: Vec<String> =
                        lines.by_ref().take(words * 2).skip(1).step_by(2).map(str::to_owned).collect();
                    self.push_reply(&mut reply, words.get(1..).unwrap_or_default());
                }
                _ => {
                    let keys: Vec<String> = line.split(' ').skip(1).map(str::to_owned).collect();
                    if self.kind == Kind::Set {
                        lines.next(); // the data block
                    }
                    self.push_reply(&mut reply, &keys);
                }
            }
        }
        reply
    }

    fn push_reply(&self, out: &mut Vec<u8>, keys: &[String]) {
        let mut value = vec![b'x'; self.value_bytes];
        value.extend_from_slice(b"\r\n");
        match self.kind {
            Kind::Set => return out.extend_from_slice(b"STORED\r\n"),
            Kind::RedisSet => return out.extend_from_slice(b"+OK\r\n"),
            Kind::RedisGet if self.keys_per_get > 1 => {
                out.extend_from_slice(format!("*{}\r\n", keys.len()).as_bytes());
            }
            Kind::Get | Kind::RedisGet => {}
        }
        for key in keys {
            let line = match self.kind {
                Kind::RedisGet | Kind::RedisSet => format!("${}\r\n", self.value_bytes),
                Kind::Get | Kind::Set => format!("VALUE {key} 0 {}\r\n", self.value_bytes),
            };
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(&value);
        }
        if self.kind == Kind::Get {
            out.extend_from_slice(b"END\r\n");
        }
    }
}

/// The name of a key. Numbers in a row would be on one server: the hash puts them side by side.
fn key(number: u32) -> String {
    format!("bench:key:{:06}", u64::from(number) * 482_711 % 1_000_000)
}

fn push_command(out: &mut Vec<u8>, words: &[&str]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}
