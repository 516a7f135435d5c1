//! The same commands to a Redis directly and to another through the proxy must give the same bytes, in both versions of
//! the protocol.
//!
//! Commands are drawn from the templates of `commands.txt`, mostly well formed, and sent in batches of random size cut at
//! random places. Left out, because two servers by themselves differ in it or because it is about one server: what is
//! drawn at random (`SRANDMEMBER` with a count and its like, `RANDOMKEY`), what tells the time that is left (`TTL` of
//! what is there, `OBJECT IDLETIME`), the order of sets that are not of integers, `SCAN`, `INFO`, `CLIENT ID` and what
//! lists connections, `MEMORY`, `CONFIG SET`, administration. Databases but the first two, and subscriptions, are in tests
//! of their own.

use super::super::support::Random;
use super::super::support::client::Client;
use super::super::support::process::{Process, Proxy};
use super::super::support::script::show;

/// Commands of an ordinary run; `SOFTMISS_DIFFERENTIAL=n` sets another number, `SOFTMISS_DIFFERENTIAL_SEED=n` the seed.
const COMMANDS: u64 = 60_000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

struct Generator {
    random: Random,
    templates: Vec<Vec<String>>,
    /// No command has keys that could be on several servers and cannot be split.
    single_keys: bool,
    /// Commands of the transaction that is open.
    queued: Option<u64>,
}

/// The words of a template; a quoted one may hold blanks and `\n`.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').expect("a closing quote"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.replace("\\n", "\n"));
        rest = after.trim_start();
    }
    words
}

/// Whether a command may wait.
fn waits(template: &[String]) -> bool {
    waits_by_name(template[0].as_bytes()) || template.iter().any(|word| word == "BLOCK")
}

fn waits_by_name(name: &[u8]) -> bool {
    ["BL", "BR", "BZ"].iter().any(|start| name.to_ascii_uppercase().starts_with(start.as_bytes()))
}

impl Generator {
    fn new(seed: u64, single_keys: bool) -> Self {
        let lines = include_str!("commands.txt").lines().filter(|line| !line.starts_with('#'));
        let templates = lines.filter(|line| !single_keys || line.starts_with('+'));
        let templates = templates.map(|line| words(line.trim_start_matches("+ "))).collect();
        Self { random: Random(seed), templates, single_keys, queued: None }
    }

    fn template(&mut self) -> Vec<String> {
        let at = self.random.below(self.templates.len() as u64) as usize;
        self.templates[at].clone()
    }

    fn value(&mut self) -> Vec<u8> {
        match self.random.below(40) {
            0 => vec![b'x'; self.random.below(200_000) as usize],
            1..4 => (0..self.random.below(300)).map(|_| (self.random.next() & 0xff) as u8).collect(),
            4 => Vec::new(),
            5 => b"\r\n$5\r\n".to_vec(),
            6..20 => self.random.below(1000).to_string().into_bytes(),
            _ => format!("value {}", self.random.below(50)).into_bytes(),
        }
    }

    fn filled(&mut self, word: &str) -> Vec<u8> {
        let Some((before, rest)) = word.split_once('{') else { return word.as_bytes().to_vec() };
        let (kind, after) = rest.split_once('}').unwrap_or((rest, ""));
        if kind.len() != 1 {
            return word.as_bytes().to_vec(); // a script
        }
        let small = self.random.below(12);
        let middle = match kind {
            "n" => {
                let odd = ["0", "-1", "x", "", "9223372036854775807", "1.5", "007", " 1", "99999999999999999999"];
                if self.random.one_in(6) { self.random.pick(&odd).to_owned() } else { small.to_string() }.into_bytes()
            }
            "i" => (small as i64 - 4).to_string().into_bytes(),
            "o" => small.to_string().into_bytes(),
            "v" => self.value(),
            "m" | "f" => self.random.pick(&["a", "b", "c", "d", "Palermo", "5", "-7", "1.25"]).as_bytes().to_vec(),
            "c" => self.random.pick(&["1", "2.5", "-3", "1e3", "inf", "0", "nan", "word"]).as_bytes().to_vec(),
            "t" => b"9999999999".to_vec(),
            "d" => format!("{}-{}", 1 + self.random.below(60), small).into_bytes(),
            kind => {
                let kinds = ["s", "h", "l", "e", "z", "x", "b", "p", "g"];
                let kind = if kind == "k" || self.random.one_in(12) { self.random.pick(&kinds) } else { kind };
                match self.random.below(40) {
                    0 => Vec::new(),
                    1 => vec![0, 0xff, b'\r', b'\n', kind.as_bytes()[0]],
                    _ => format!("{kind}:{}", self.random.below(6)).into_bytes(),
                }
            }
        };
        [before.as_bytes(), &middle, after.as_bytes()].concat()
    }

    fn command(&mut self) -> Vec<u8> {
        let mut words: Vec<Vec<u8>> = match self.queued {
            None if self.random.one_in(40) => {
                self.queued = Some(self.random.below(8));
                vec![b"MULTI".to_vec()]
            }
            Some(0) => {
                self.queued = None;
                vec![self.random.pick(&["EXEC", "EXEC", "EXEC", "DISCARD"]).as_bytes().to_vec()]
            }
            queued => {
                self.queued = queued.map(|left| left - 1);
                let mut template = self.template();
                while waits(&template) && !self.random.one_in(8) {
                    template = self.template(); // Redis looks ten times a second whose patience is over
                }
                template.iter().map(|word| self.filled(word)).collect()
            }
        };
        if self.queued.is_some() && !self.may_be_queued(&words) {
            words = vec![b"GET".to_vec(), b"s:1".to_vec()];
        }
        match self.random.below(60) {
            // The whole table in answer to `COMMAND` has no order, and without a count one member is drawn at random.
            0 if words.len() > 1 && words[0] != b"COMMAND" && !words[0].windows(4).any(|part| part == b"RAND") => {
                drop(words.pop());
            }
            1 if !waits_by_name(&words[0]) && !self.single_keys => words.push(b"7".to_vec()),
            // Which of its words are keys is told here, by the table. Of scripts with a wrong number of keys Redis says so,
            // or that there are none.
            10 | 11
                if self.queued.is_none()
                    && !["MULTI", "EXEC", "DISCARD", "EVAL", "FCALL"]
                        .iter()
                        .any(|name| words[0].starts_with(name.as_bytes())) =>
            {
                words.splice(0..0, [b"COMMAND".to_vec(), b"GETKEYS".to_vec()]);
            }
            2..8 => words[0].make_ascii_lowercase(),
            8 => {
                let nothing: [&[u8]; 3] = [b"\r\n", b"*0\r\n", b"*-1\r\n"];
                return nothing[self.random.below(3) as usize].to_vec();
            }
            9 if words
                .iter()
                .all(|word| (1..100).contains(&word.len()) && word.iter().all(u8::is_ascii_alphanumeric)) =>
            {
                return [words.join(&b' '), b"\r\n".to_vec()].concat();
            }
            _ => {}
        }
        let mut out = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            out.extend_from_slice(&word);
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    /// Inside a transaction the proxy takes commands with keys, and few others.
    fn may_be_queued(&self, words: &[Vec<u8>]) -> bool {
        let outside = [
            "SELECT",
            "DBSIZE",
            "PUBSUB",
            "WATCH",
            "UNWATCH",
            "EXEC",
            "DISCARD",
            "COMMAND",
            "CONFIG",
            "CLIENT",
            "WAIT",
            "NOSUCHCOMMAND",
            "SCRIPT",
            "FUNCTION",
            "KEYS",
            "LOLWUT",
            "READONLY",
            "OBJECT",
            "EVAL",
            "EVAL_RO",
            "FCALL",
            "XGROUP",
            "FCALL_RO",
            "EVALSHA",
            "MULTI",
        ];
        !outside.iter().any(|name| words[0].eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// Sends bytes, then a mark; returns what came before the answer to it.
fn exchange(client: &mut Client, bytes: &[u8]) -> Vec<u8> {
    client.send(bytes);
    client.send(b"*2\r\n$4\r\nECHO\r\n$13\r\nthis-is-a-end\r\n");
    let mut read = client.read_through(b"$13\r\nthis-is-a-end\r\n");
    read.truncate(read.len() - b"$13\r\nthis-is-a-end\r\n".len());
    read
}

/// Says what was sent when no answer comes.
struct Told<'a>(&'a [Vec<u8>]);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let words: Vec<_> = self.0.iter().map(|command| show(&command[..command.len().min(200)])).collect();
            println!("sent: {words:#?}");
        }
    }
}

fn run(servers: usize, version: &str, commands: u64, seed: u64) {
    let direct = Process::redis();
    let behind: Vec<_> = (0..servers).map(|_| Process::redis()).collect();
    let addresses: Vec<_> = behind.iter().map(|server| server.address).collect();
    let proxy = Proxy::start(&addresses, &["redis: true", "timeout: 20000"]);
    let (mut plain, mut proxied) = (direct.client(), proxy.client());
    for client in [&mut plain, &mut proxied] {
        client.send(format!("HELLO {version}\r\n"));
        client.read_through(b"modules\r\n*0\r\n");
    }
    let mut generator = Generator::new(seed, servers > 1);
    let mut sent = 0;
    while sent < commands {
        let most = if generator.random.one_in(4) { 100 } else { 12 }.min(setting("SOFTMISS_DIFFERENTIAL_BATCH", 1000));
        let size = 1 + generator.random.below(most);
        let mut batch: Vec<Vec<u8>> = (0..size).map(|_| generator.command()).collect();
        while generator.queued.is_some() {
            batch.push(generator.command()); // a batch ends outside a transaction, and so does its mark
        }
        sent += size;
        let bytes = batch.concat();
        let told = Told(&batch);
        let expected = exchange(&mut plain, &bytes);
        let mut rest = &bytes[..];
        while generator.random.one_in(3) && rest.len() > 1 {
            let cut = 1 + generator.random.below(rest.len() as u64 - 1) as usize;
            proxied.send(&rest[..cut]);
            rest = &rest[cut..];
        }
        let found = exchange(&mut proxied, rest);
        drop(told);
        if expected != found {
            let at = expected.iter().zip(&found).take_while(|(a, b)| a == b).count();
            let around =
                |bytes: &[u8]| show(&bytes[at.saturating_sub(150).min(bytes.len())..(at + 150).min(bytes.len())]);
            let words: Vec<_> = batch.iter().map(|command| show(&command[..command.len().min(200)])).collect();
            panic!(
                "RESP{version}, seed {seed}, after {sent} commands the answers part at byte {at}\n  redis: {}\n  proxy: {}\n{words:#?}",
                around(&expected),
                around(&found)
            );
        }
    }
}

#[test]
fn one_server_answers_the_same_bytes_in_resp2() {
    run(1, "2", setting("SOFTMISS_DIFFERENTIAL", COMMANDS), setting("SOFTMISS_DIFFERENTIAL_SEED", 1));
}

#[test]
fn one_server_answers_the_same_bytes_in_resp3() {
    run(1, "3", setting("SOFTMISS_DIFFERENTIAL", COMMANDS), setting("SOFTMISS_DIFFERENTIAL_SEED", 2));
}

#[test]
fn three_servers_answer_as_one_does() {
    run(3, "2", setting("SOFTMISS_DIFFERENTIAL", COMMANDS) / 3, setting("SOFTMISS_DIFFERENTIAL_SEED", 3));
    run(3, "3", setting("SOFTMISS_DIFFERENTIAL", COMMANDS) / 3, setting("SOFTMISS_DIFFERENTIAL_SEED", 4));
}
