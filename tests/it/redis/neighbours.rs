//! Whatever a client sends, its neighbours do not notice: the server connection that they share stays as it is, and
//! nothing counts against the server.

use std::time::Duration;

use softmiss::proto::resp::command::{self, Command};
use softmiss::proto::resp::encode;

use super::super::support::client::Client;
use super::super::support::process::{Process, Proxy};
use super::super::support::{Random, wait_until};

/// Words that mean something to some command.
const WORDS: &[&str] = &[
    "k",
    "k",
    "k2",
    "0",
    "0",
    "1",
    "1",
    "2",
    "-1",
    "10",
    "0.01",
    "1e400",
    "x",
    "",
    "*",
    "$",
    ">",
    "-",
    "+",
    "(1",
    "[a",
    "ON",
    "OFF",
    "SKIP",
    "YES",
    "NO",
    "ASYNC",
    "SYNC",
    "ABORT",
    "FORCE",
    "NOW",
    "SAVE",
    "NOSAVE",
    "HELP",
    "GET",
    "SET",
    "BLOCK",
    "STREAMS",
    "GROUP",
    "COUNT",
    "LIMIT",
    "BY",
    "STORE",
    "NX",
    "XX",
    "EX",
    "PX",
    "KEEPTTL",
    "WITHSCORES",
    "LEFT",
    "RIGHT",
    "MIN",
    "MAX",
    "BCAST",
    "REDIRECT",
    "LOAD",
    "EXISTS",
    "KILL",
    "FLUSH",
    "ID",
    "TYPE",
    "ADDR",
    "SLEEP",
    "SEGFAULT",
    "RELOAD",
    "PAUSE",
    "UNPAUSE",
    "WRITE",
    "ALL",
    "TO",
    "ONE",
    "TIMEOUT",
    "return 1",
    "KEYS",
    "AUTH",
    "AUTH2",
    "SETNAME",
    "2",
    "3",
    "9223372036854775807",
    "18446744073709551616",
    "\0",
    "\r\n",
    "a\r\nPING\r\n",
];

/// A server, a pool of it, a client whose connection to the server is shared, and what is known of that connection.
struct Street {
    server: Process,
    proxy: Proxy,
    neighbour: Client,
    direct: Client,
    connection: String,
}

impl Street {
    fn build() -> Self {
        let server = Process::redis();
        let settings = [
            "redis: true",
            "timeout: 3000",
            "auto_eject_hosts: true",
            "server_failure_limit: 1",
            "server_connections: 1",
        ];
        let proxy = Proxy::start(&[server.address], &settings);
        let (mut neighbour, direct) = (proxy.client(), server.client());
        assert_eq!(neighbour.ask("SET here 1\r\n"), "+OK");
        let mut street = Self { server, proxy, neighbour, direct, connection: String::new() };
        street.connection = street.last_to("set").expect("a connection that did a SET");
        street
    }

    /// The id of a server connection whose last command was this one.
    fn last_to(&mut self, command: &str) -> Option<String> {
        self.direct.send("CLIENT LIST\r\nPING\r\n");
        let list = self.direct.read_through(b"+PONG\r\n");
        let list = String::from_utf8_lossy(&list).into_owned();
        let line = list.lines().find(|line| line.contains(&format!(" cmd={command} ")))?;
        line.split(' ').find_map(|word| word.strip_prefix("id=")).map(str::to_owned)
    }

    /// The neighbour is answered by the server, on the connection that it always had. What was sent before has been
    /// read when this is over.
    fn is_quiet(&mut self, after: &str) {
        for _ in 0..2 {
            self.neighbour.send("SET here 1\r\nGETRANGE here 0 -1\r\n");
            assert_eq!(self.neighbour.line(), "+OK", "after {after}");
            assert_eq!(self.neighbour.line(), "$1", "after {after}");
            assert_eq!(self.neighbour.line(), "1", "after {after}");
        }
        self.direct.send("CLIENT LIST\r\nPING\r\n");
        let list = self.direct.read_through(b"+PONG\r\n");
        let list = String::from_utf8_lossy(&list).into_owned();
        let id = format!("id={} ", self.connection);
        assert!(list.contains(&id), "after {after} the connection {id} is gone: {list}");
    }

    /// Nothing has been counted against the server.
    fn is_blameless(&self, after: &str) {
        let statistics = self.proxy.statistics();
        let figures = &statistics["pool"][self.server.address.to_string()];
        for counter in ["server_eof", "server_err", "server_timedout", "ejections", "stalls", "resends"] {
            assert_eq!(figures[counter], 0, "{counter} after {after}: {figures}");
        }
    }
}

/// The requests that are made of a command: as few words as it takes and more, and random ones.
fn requests(command: &Command, random: &mut Random) -> Vec<Vec<String>> {
    let name: Vec<String> = command.name.split('|').map(str::to_owned).collect();
    let least = usize::from(command.arity.unsigned_abs()).max(name.len());
    let mut all = vec![name.clone()];
    for more in 0..4 {
        for fill in ["k", "0", "1"] {
            let mut words = name.clone();
            words.resize(least + more, fill.to_owned());
            all.push(words);
        }
    }
    for _ in 0..12 {
        let count = random.below(7) as usize;
        let more = (0..count).map(|_| (*random.pick(WORDS)).to_owned());
        all.push(name.iter().cloned().chain(more).collect());
    }
    // What waits says so at its end, or at its beginning, or behind a word.
    for tail in [
        &["0"][..],
        &["k", "0"],
        &["BLOCK", "0", "STREAMS", "k", "$"],
        &["GROUP", "streams", "c", "BLOCK", "0", "STREAMS", "k", ">"],
    ] {
        all.push(name.iter().cloned().chain(tail.iter().map(|word| (*word).to_owned())).collect());
    }
    for words in &mut all {
        if random.one_in(2) {
            words[0] = words[0].to_uppercase();
        }
    }
    all
}

fn array(words: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::command(&mut out, words.iter().map(String::as_bytes));
    out
}

fn inline(words: &[String]) -> Vec<u8> {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{}\"", word.escape_default())).collect();
    format!("{}\r\n", quoted.join(" ")).into_bytes()
}

#[test]
fn no_command_of_the_table_disturbs_a_neighbour() {
    let mut street = Street::build();
    let mut random = Random(12);
    // What keys of each type there are, so that commands do something.
    let stock = "RPUSH k 1\r\nSET k2 1\r\n";
    for command in command::all() {
        let mut client = street.proxy.client();
        client.send(stock);
        for words in requests(command, &mut random) {
            let request = array(&words);
            let mut forms = vec![request.clone(), [b"MULTI\r\n", &request[..], b"EXEC\r\n"].concat()];
            if words.iter().all(|word| !word.is_empty() && word.is_ascii()) {
                forms.push(inline(&words));
            }
            for form in forms {
                // A client of its own for each: one that waits, or has been closed, says no more.
                let mut client = street.proxy.client();
                client.send(form);
                drop(client);
            }
        }
        street.is_quiet(command.name);
        street.is_blameless(command.name);
    }
}

#[test]
fn no_state_of_a_client_reaches_the_shared_connection() {
    let mut street = Street::build();
    for lines in [
        "CLIENT REPLY OFF\r\nGET here\r\nCLIENT REPLY ON\r\n",
        "CLIENT REPLY SKIP\r\nGET here\r\n",
        "SELECT 5\r\nSET here 5\r\nFLUSHDB\r\n",
        "HELLO 3\r\nGET here\r\nHGETALL none\r\nRESET\r\nGET here\r\n",
        "HELLO 3 SETNAME x\r\nCLIENT TRACKING ON\r\nGET here\r\n",
        "MULTI\r\nSET here 2\r\nQUIT\r\n",
        "MULTI\r\nSET here 2\r\nDISCARD\r\n",
        "WATCH here\r\nMULTI\r\nGET here\r\nEXEC\r\n",
        "MONITOR\r\n",
        "SYNC\r\n",
        "PSYNC ? -1\r\n",
        "REPLCONF listening-port 1\r\n",
        "REPLICAOF 127.0.0.1 1\r\n",
        "FAILOVER\r\n",
        "ASKING\r\nGET here\r\n",
        "READONLY\r\nGET here\r\n",
        "CLIENT NO-EVICT ON\r\nCLIENT NO-TOUCH ON\r\n",
        "CLIENT PAUSE 100000 ALL\r\n",
        "CLIENT KILL TYPE pubsub\r\n",
        "CLIENT KILL ADDR 9.9.9.9:9 SKIPME no\r\n",
        "SUBSCRIBE a\r\nPSUBSCRIBE b*\r\nSSUBSCRIBE c\r\n",
        "DEBUG SLEEP 5\r\n",
        "SHUTDOWN NOSAVE\r\n",
        "EVAL \"return redis.call('client', 'kill', 'type', 'normal')\" 1 here\r\n",
        "EVAL \"return redis.call('blpop', 'none', 0)\" 1 none\r\n",
        "EVAL \"return redis.call('wait', 1, 0)\" 1 none\r\n",
        "EVAL \"return redis.call('select', 7)\" 1 none\r\n",
        "EVAL \"redis.setresp(3); return redis.call('hgetall', 'none')\" 1 none\r\n",
        "XGROUP CREATE s streams $ MKSTREAM\r\nXREADGROUP GROUP streams c BLOCK 0 STREAMS s >\r\n",
        "XGROUP CREATE s block $\r\nXREADGROUP GROUP block streams BLOCK 0 STREAMS s >\r\n",
        "XREAD COUNT 1 BLOCK 0 STREAMS block $\r\n",
        "MULTI\r\nBLPOP none 0\r\nXREAD BLOCK 0 STREAMS none $\r\nEXEC\r\n",
        "WAIT 1 0\r\n",
        "WAITAOF 0 1 0\r\n",
        "SET big 1\r\nSETRANGE big 3000000 x\r\nGET big\r\nDEL big\r\n",
    ] {
        let mut client = street.proxy.client();
        client.send(lines);
        street.is_quiet(lines);
        drop(client);
        street.is_quiet(lines);
        street.is_blameless(lines);
    }
    let mut other = street.proxy.client();
    let back = || other.ask("DBSIZE\r\n") == ":2";
    wait_until("only what the neighbour wrote and the stream are there", Duration::from_secs(5), back);
}
