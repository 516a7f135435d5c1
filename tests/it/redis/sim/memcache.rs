//! A memcached pool beside the Redis pools: its clients and its servers, as far as they share what a worker has.

use std::io::Write as _;

use super::client::Asked;
use super::draw::Draft;
use super::servers::LEASE;
use super::world::World;

impl World {
    /// A client of a memcached pool asks something.
    pub(super) fn ask_memcached(&mut self, at: usize) {
        let mut draft = Draft::default();
        let name = format!("key{}", self.random.below(8));
        match self.random.below(4) {
            0 | 1 => {
                let names: Vec<_> =
                    (0..1 + self.random.below(3)).map(|_| format!("key{}", self.random.below(8))).collect();
                writeln!(draft.out, "get {}\r", names.join(" ")).unwrap();
                self.expect(at, &mut draft, Asked::Values(names));
            }
            2 => self.draw_store(at, &mut draft, &name),
            _ => {
                writeln!(draft.out, "get {name}\r").unwrap();
                self.expect(at, &mut draft, Asked::Values(vec![name.clone()]));
                self.draw_store(at, &mut draft, &name);
            }
        }
        self.send(at, draft);
    }

    fn draw_store(&mut self, at: usize, draft: &mut Draft, name: &str) {
        let (serial, value) = self.value(at, name, Vec::new());
        write!(draft.out, "set {name} 0 0 {}\r\n{value}\r\n", value.len()).unwrap();
        self.expect(at, draft, Asked::Stored(serial));
    }

    /// Carries out the memcached requests that a server has whole.
    pub(super) fn serve_memcached(&mut self, at: usize) {
        loop {
            let input = &self.connections[at].there;
            let Some(end) = memchr::memchr(b'\n', input) else { return };
            let line = String::from_utf8_lossy(&input[..end]).trim_end().to_owned();
            let words: Vec<&str> = line.split(' ').collect();
            let mut len = end + 1;
            let mut block = Vec::new();
            if matches!(words[0], "set" | "add") {
                let size: usize = words[4].parse().expect("a size");
                let Some(bytes) = input.get(len..len + size) else { return };
                block = bytes.to_vec();
                len += size + 2;
                if input.len() < len {
                    return;
                }
            }
            self.connections[at].there.drain(..len);
            self.ledger.tick += 1;
            let server = self.connections[at].server;
            let mut out = Vec::new();
            match words[0] {
                "add" => {
                    let seconds: u64 = words[3].parse().expect("seconds");
                    let is_free = self.lease(server, 0, words[1].as_bytes(), Some(1000 * seconds));
                    out.extend_from_slice(if is_free { b"STORED\r\n" } else { b"NOT_STORED\r\n" });
                }
                "delete" if words[1].as_bytes().starts_with(LEASE) => {
                    let was = self.lease(server, 0, words[1].as_bytes(), None);
                    out.extend_from_slice(if was { b"DELETED\r\n" } else { b"NOT_FOUND\r\n" });
                }
                "get" => {
                    for name in &words[1..] {
                        if let Some(value) = self.nodes[server].databases[0].get(name.as_bytes()) {
                            write!(out, "VALUE {name} 0 {}\r\n", value.len()).unwrap();
                            out.extend_from_slice(value);
                            out.extend_from_slice(b"\r\n");
                        }
                    }
                    out.extend_from_slice(b"END\r\n");
                }
                "set" => {
                    self.put(at, words[1].as_bytes(), block);
                    if words.last() != Some(&"noreply") {
                        out.extend_from_slice(b"STORED\r\n");
                    }
                }
                "delete" => {
                    let tick = self.ledger.tick;
                    let there = self.nodes[server].databases[0].put(words[1].as_bytes(), tick, None);
                    if words.last() != Some(&"noreply") {
                        out.extend_from_slice(if there { b"DELETED\r\n" } else { b"NOT_FOUND\r\n" });
                    }
                }
                "mg" => match self.nodes[server].databases[0].get(words[1].as_bytes()) {
                    Some(value) => {
                        write!(out, "VA {} k{} f0 t-1\r\n", value.len(), words[1]).unwrap();
                        out.extend_from_slice(value);
                        out.extend_from_slice(b"\r\n");
                    }
                    None => out.extend_from_slice(b"EN\r\n"),
                },
                "version" => out.extend_from_slice(b"VERSION 1.6.0\r\n"),
                "flush_all" => {
                    let tick = self.ledger.tick;
                    self.nodes[server].databases[0].clear(tick);
                    self.loses(server); // no client flushes a pool of memcached
                    out.extend_from_slice(b"OK\r\n");
                }
                _ => panic!("a memcached server is told {line:?}"),
            }
            self.note(|| format!("memcached {server} executes {line:?} of {:?}", self.connections[at].id));
            self.connections[at].back.extend_from_slice(&out);
        }
    }
}

/// Where the first answer of a memcached server ends, which may be a line or values.
pub(super) fn answer_end(input: &[u8], values: bool) -> Option<usize> {
    let mut at = 0;
    loop {
        let end = at + memchr::memchr(b'\n', &input[at..])? + 1;
        let line = &input[at..end];
        if !values || !line.starts_with(b"VALUE ") {
            return Some(end);
        }
        at = end + value_len(line) + 2;
        if at > input.len() {
            return None;
        }
    }
}

fn value_len(line: &[u8]) -> usize {
    let text = String::from_utf8_lossy(line);
    text.trim_end().split(' ').nth(3).and_then(|text| text.parse().ok()).expect("a length")
}

/// The keys and values of an answer, and what stands behind them.
pub(super) fn values(mut input: &[u8]) -> (Vec<(String, &[u8])>, &[u8]) {
    let mut found = Vec::new();
    while input.starts_with(b"VALUE ") {
        let end = memchr::memchr(b'\n', input).expect("a line") + 1;
        let (line, rest) = input.split_at(end);
        let len = value_len(line);
        let name = String::from_utf8_lossy(line).split(' ').nth(1).expect("a key").to_owned();
        found.push((name, &rest[..len]));
        input = &rest[len + 2..];
    }
    (found, input)
}
