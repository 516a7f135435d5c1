//! The same commands to a memcached directly and to another through the proxy must give the same bytes.
//!
//! Commands are drawn from a seed, well-formed and not, and sent in batches of random size cut at random places. Where
//! the proxy differs from memcached on purpose, the generator stays away, and the difference is in this list and has a
//! test of its own in `conformance`:
//!
//! - a NUL or CR in a key is refused, since a server that takes one cannot be shared safely;
//! - the data block of a refused storage command is swallowed, where memcached runs it as commands;
//! - behind a data block with a wrong end, the rest of that line is swallowed as well;
//! - byte counts and flags over 32 bits are refused, where memcached 1.6.18 cuts them to their lower half;
//! - a get with a key that is too long costs itself an error, where memcached 1.6.18 also drops the answers to what was
//!   pipelined before it;
//! - `version`, `stats`, `cache_memlimit`, `shutdown` and other commands about one server are answered by the proxy;
//! - a counter that memcached is still sending from is replaced and not changed in place: it loses its mark of having
//!   been read (`h`), and `ma` with `T` sets the lifetime of the old one; whether it is, is a matter of microseconds;
//! - `ma` with `N` and `q` hides the answer to a counter that it created, as later versions do.

use super::support::Random;
use super::support::client::Client;
use super::support::process::{Process, Proxy};
use super::support::script::show;

/// Commands of an ordinary run; `SOFTMISS_DIFFERENTIAL=n` sets another number, `SOFTMISS_DIFFERENTIAL_SEED=n` the seed.
const COMMANDS: u64 = 120_000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

struct Generator {
    random: Random,
    /// Commands whose answers depend on the unique values of all servers together are left out.
    sharded: bool,
}

impl Generator {
    fn key(&mut self) -> String {
        match self.random.below(60) {
            0 => "k".repeat(250),
            1 => "k".repeat(251),
            2 => format!("ключ-{}", self.random.below(10)),
            3..6 => format!("n{}", self.random.below(8)),
            6..8 => format!("{}{}", self.random.pick(&["\x01", "\t", "\x0b\x1b", "\x7f"]), self.random.below(8)),
            _ => format!("key:{}", self.random.below(120)),
        }
    }

    fn number(&mut self) -> String {
        let small = self.random.below(100).to_string();
        let choices = ["0", "1", "5", "4294967295", "007", "+3", "-1", "x", "1.5", "18446744073709551616", &small];
        // Mostly good ones.
        if self.random.one_in(8) { self.random.pick(&choices).to_owned() } else { small.clone() }
    }

    fn exptime(&mut self) -> String {
        let choices = ["0", "0", "0", "100", "100", "-1", "4294967295", "2592001", "2592001", "x", "-100"];
        let good = if self.random.one_in(6) { 11 } else { 5 };
        self.random.pick(&choices[..good]).to_owned()
    }

    fn value(&mut self) -> Vec<u8> {
        let len = match self.random.below(400) {
            0 => 1_048_000 + self.random.below(2000),
            1..8 => 10_000,
            8..200 => self.random.below(200),
            _ => self.random.below(12),
        };
        if self.random.one_in(5) {
            return self.random.below(1_000_000).to_string().into_bytes();
        }
        // Not blank: memcached takes a blank value for a counter together with whatever lies behind it in memory.
        let random = (0..len).map(|_| (self.random.next() & 0xff) as u8);
        std::iter::once(b'v').chain(random).collect()
    }

    fn end(&mut self) -> &'static str {
        match self.random.below(12) {
            0 => "\n",
            1 => " \r\n",
            2 => "  \n",
            _ => "\r\n",
        }
    }

    fn noreply(&mut self) -> &'static str {
        if self.random.one_in(6) { " noreply" } else { "" }
    }

    fn with_block(&mut self, line: String, value: &[u8]) -> Vec<u8> {
        let end = self.end();
        [line.as_bytes(), end.as_bytes(), value, b"\r\n"].concat()
    }

    fn meta_flags(&mut self, choices: &[&'static str], most: u64) -> String {
        let mut flags = String::new();
        for _ in 0..self.random.below(most + 1) {
            let flag = self.random.pick(choices);
            if flag == "O" {
                flags.push_str(&format!(" O{}", self.random.below(1000)));
            } else {
                flags.push_str(&format!(" {flag}"));
            }
        }
        flags
    }

    fn command(&mut self) -> Vec<u8> {
        let mut key = self.key();
        let kind = self.random.below(34);
        if kind < 12 && key.len() > 250 {
            key.pop();
        }
        let line = match kind {
            0..8 => {
                format!("{} {key}", self.random.pick(&["get", "get", "get", if self.sharded { "get" } else { "gets" }]))
            }
            8..11 => {
                let keys: Vec<_> = (0..self.random.below(30) + 1).map(|_| self.key()).collect();
                let keys: Vec<_> = keys.into_iter().filter(|key| key.len() <= 250).collect();
                format!(
                    "{} {}",
                    if self.sharded { "get" } else { "gets" },
                    keys.join(self.random.pick(&[" ", " ", "  "]))
                )
            }
            11 => {
                let exptime = self.exptime();
                let verb = self.random.pick(&["gat", if self.sharded { "gat" } else { "gats" }]);
                format!("{verb} {exptime} {key} {key}")
            }
            12..18 => {
                let value = self.value();
                let verb = self.random.pick(&["set", "set", "set", "add", "replace", "append", "prepend"]);
                // A bad lifetime or bad flags would make memcached run the block as commands.
                let (flags, exptime) =
                    (self.random.below(1 << 16), self.random.pick(&["0", "0", "100", "-1", "4294967295"]));
                if key.len() > 250 {
                    return format!("mg {key}\r\n").into_bytes();
                }
                let line = format!("{verb} {key} {flags} {exptime} {}{}", value.len(), self.noreply());
                return self.with_block(line, &value);
            }
            18 => {
                let value = self.value();
                if key.len() > 250 || self.sharded {
                    return b"get x\r\n".to_vec();
                }
                let line = format!("cas {key} 0 0 {} {}{}", value.len(), self.random.below(500), self.noreply());
                return self.with_block(line, &value);
            }
            19 => format!("delete {key}{}", self.random.pick(&["", "", " 0", " noreply", " 0 noreply", " 1", " 0 0"])),
            20 | 21 => {
                // A counter that gets shorter is padded with blanks, or not, by whether memcached happens to be sending
                // it at that moment; so counters only grow here.
                let delta = self.number();
                let (verb, delta) = if self.random.one_in(3) { ("decr", "0".to_owned()) } else { ("incr", delta) };
                format!("{verb} {key} {delta}{}", self.noreply())
            }
            22 => {
                let exptime = self.exptime();
                format!("touch {key} {exptime}{}", self.noreply())
            }
            23..26 => {
                let choices: &[&str] = if self.sharded {
                    &["v", "k", "f", "s", "O", "q", "t", "T100", "u", "N100"]
                } else {
                    &["v", "k", "f", "s", "O", "q", "t", "c", "T100", "u", "N100", "R30", "?", "Tx"]
                };
                let flags = self.meta_flags(choices, 6);
                // An item that a get has made is empty; memcached takes whatever lies behind it in memory for a counter.
                let key = if flags.contains(" N") { format!("made{}", self.random.below(20)) } else { key };
                format!("mg {key}{flags}")
            }
            26..28 => {
                let value = self.value();
                let mode = self.random.pick(&["", "", "", " ME", " MA", " MP", " MR", " MS", " Mx"]);
                let choices: &[&str] = &["k", "O", "q", "F5", "T0", "T100", "I"];
                let flags = self.meta_flags(choices, 3);
                if key.len() > 250 {
                    return b"mn\r\n".to_vec();
                }
                return self.with_block(format!("ms {key} {}{mode}{flags}", value.len()), &value);
            }
            28 => {
                let choices: &[&str] = if self.sharded { &["q", "k", "O"] } else { &["q", "k", "O", "I", "T50"] };
                let flags = self.meta_flags(choices, 3);
                format!("md {key}{flags}")
            }
            29 => {
                let choices: &[&str] = &["v", "q", "k", "O", "t", "D5", "MI", "M+", "J7"];
                let flags = self.meta_flags(choices, 4);
                format!("ma {key}{flags}")
            }
            30 => {
                let raw = ["Zm9v", "YmFyYmF6", "aGVsbG8gd29ybGQ=", "AAEC", "!!!!"];
                let key = self.random.pick(&raw);
                let flags = self.random.pick(&["b v", "b k v", "b k", "b v q O1", "k v b"]);
                format!("mg {key} {flags}")
            }
            31 => "mn".to_owned(),
            32 => {
                let odd = [
                    "",
                    " ",
                    "get",
                    "gets",
                    "gat",
                    "gat 10",
                    "GET a",
                    "set a 0 0",
                    "set a 0 0 x",
                    "set a b c d e f g h",
                    "incr a",
                    "incr",
                    "touch a",
                    "delete",
                    "delete a b c d e",
                    "foo",
                    "foo bar",
                    "verbosity",
                    "verbosity 1",
                    "verbosity x",
                    "verbosity 1 noreply",
                    "mg",
                    "ms",
                    "ms a",
                    "ms a x",
                    "md",
                    "ma",
                    "me",
                    "mx a",
                    "m",
                    "g",
                    "flush_all x",
                    "flush_all 1 2 3",
                    "cas a 0 0 5",
                    "set a 0 0 -1",
                    "ms a -1",
                    "mg a v v",
                    "md a q q",
                    "mg a v v v v v v v v v v v v v v v v v v v v v",
                    "touch a x",
                    "incr a 1 2 3",
                    "add",
                    "replace a",
                ];
                self.random.pick(&odd).to_owned()
            }
            _ if self.random.one_in(30) => {
                format!("flush_all{}", self.random.pick(&["", " 0", " noreply", " 0 noreply"]))
            }
            _ => format!("delete {key}"),
        };
        let end = self.end();
        [line.as_bytes(), end.as_bytes()].concat()
    }
}

/// Hides the seconds that an item has left: the clocks of two servers do not tick together.
fn without_ages(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = memchr::memmem::find(rest, b" t") {
        let (before, after) = rest.split_at(at + 2);
        out.extend_from_slice(before);
        let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
        rest = &after[digits..];
    }
    out.extend_from_slice(rest);
    out
}

fn run(servers: usize, commands: u64, seed: u64) {
    let direct = Process::memcached();
    let behind: Vec<_> = (0..servers).map(|_| Process::memcached()).collect();
    let addresses: Vec<_> = behind.iter().map(|server| server.address).collect();
    // A generous timeout: the machine may be busy, and a miss would be taken for a difference.
    let proxy = Proxy::start(&addresses, &["timeout: 20000", "on_failure: error"]);
    let (mut plain, mut proxied) = (direct.client(), proxy.client());
    let mut generator = Generator { random: Random(seed), sharded: servers > 1 };
    let mut sent = 0;
    while sent < commands {
        let most = if generator.random.one_in(4) { 200 } else { 12 }.min(setting("SOFTMISS_DIFFERENTIAL_BATCH", 1000));
        let size = 1 + generator.random.below(most);
        let batch: Vec<Vec<u8>> = (0..size).map(|_| generator.command()).collect();
        sent += size;
        let bytes = batch.concat();
        let expected = plain.exchange(&bytes);
        // Cut at random places: the proxy must not care how the bytes arrive.
        let mut rest = &bytes[..];
        while generator.random.one_in(3) && rest.len() > 1 {
            let cut = 1 + generator.random.below(rest.len() as u64 - 1) as usize;
            proxied.send(&rest[..cut]);
            rest = &rest[cut..];
        }
        let found = without_ages(&proxied.exchange(rest));
        let expected = without_ages(&expected);
        if expected != found {
            let parted = part(&expected, &found);
            panic!(
                "seed {seed}, after {sent} commands: {parted}\n{}",
                smallest(&mut direct.client(), &mut proxy.client(), batch)
            );
        }
    }
}

/// Where two answers part, with what stands around it.
fn part(expected: &[u8], found: &[u8]) -> String {
    let at = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    let around = |bytes: &[u8]| show(&bytes[at.saturating_sub(120).min(bytes.len())..(at + 120).min(bytes.len())]);
    format!("the answers part at byte {at}\n  memcached: {}\n  proxy:     {}", around(expected), around(found))
}

/// Both answers to commands that start with no items.
fn replay(plain: &mut Client, proxied: &mut Client, commands: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
    let ask = |client: &mut Client| {
        assert_eq!(client.ask("flush_all\r\n"), "OK");
        without_ages(&client.exchange(&commands.concat()))
    };
    (ask(plain), ask(proxied))
}

/// The fewest commands of a batch that still make a difference by themselves, in words.
fn smallest(plain: &mut Client, proxied: &mut Client, mut batch: Vec<Vec<u8>>) -> String {
    let mut differ = |commands: &[Vec<u8>]| {
        let (expected, found) = replay(plain, proxied, commands);
        (expected != found).then(|| part(&expected, &found))
    };
    let Some(mut parted) = differ(&batch) else {
        return "the batch alone makes no difference: run it all again with this seed".to_owned();
    };
    let mut share = batch.len() / 2;
    while share > 0 {
        let mut at = 0;
        while at < batch.len() {
            let rest = [&batch[..at], &batch[(at + share).min(batch.len())..]].concat();
            match differ(&rest) {
                Some(still) => (batch, parted) = (rest, still),
                None => at += share,
            }
        }
        share /= 2;
    }
    let commands: Vec<_> = batch.iter().map(|command| show(command)).collect();
    format!("so few commands are enough, {parted}\n{commands:#?}")
}

#[test]
fn one_server_answers_the_same_bytes_through_the_proxy() {
    run(1, setting("SOFTMISS_DIFFERENTIAL", COMMANDS), setting("SOFTMISS_DIFFERENTIAL_SEED", 1));
}

#[test]
fn three_servers_answer_as_one_does() {
    run(3, setting("SOFTMISS_DIFFERENTIAL", COMMANDS) / 3, setting("SOFTMISS_DIFFERENTIAL_SEED", 2));
}
