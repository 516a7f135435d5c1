//! A pool of one server does what that server does: every command of its list is sent to a Redis and, through the proxy, to
//! another, and the answers compared.

use std::collections::BTreeMap;

use super::super::support::client::Client;
use super::super::support::process::{Process, Proxy};
use super::{reply_of, whole_reply};

/// Commands that are refused by the proxy whatever pool it has: they would take the server from everybody else, or are
/// about a connection that the client does not have.
pub(super) const REFUSED: [&str; 14] = [
    "sync",
    "psync",
    "replconf",
    "replicaof",
    "slaveof",
    "failover",
    "shutdown",
    "save",
    "debug",
    "migrate",
    "pfselftest",
    "script|debug",
    "client|pause",
    "client|unpause",
];

/// Commands whose answers are about a process, a connection or a moment, or come without an end.
pub(super) const OWN: [&str; 28] = [
    "client|id",
    "client|info",
    "client|list",
    "client|no-touch",
    "client|setinfo",
    "client|tracking",
    "acl|genpass",
    "acl|log",
    "acl|dryrun",
    "bgsave",
    "bgrewriteaof",
    "config|rewrite",
    "info",
    "hello",
    "lastsave",
    "latency|doctor",
    "latency|histogram",
    "lolwut",
    "memory|doctor",
    "memory|malloc-stats",
    "memory|stats",
    "monitor",
    "quit",
    "randomkey",
    "role",
    "slowlog|get",
    "time",
    "xinfo|stream",
];

/// What makes a command do something; the others are sent with as few words as they take.
const REQUESTS: &[(&str, &str)] = &[
    ("acl|setuser", "ACL SETUSER bob on >pw ~* +@all"),
    ("acl|getuser", "ACL GETUSER nobody"),
    ("acl|deluser", "ACL DELUSER bob"),
    ("auth", "AUTH default x"),
    ("bitfield", "BITFIELD b SET u8 0 7"),
    ("bitop", "BITOP AND d1 s s"),
    ("blmove", "BLMOVE l l2 LEFT RIGHT 1"),
    ("blmpop", "BLMPOP 1 2 l l2 LEFT"),
    ("blpop", "BLPOP none l 1"),
    ("brpop", "BRPOP none l 1"),
    ("brpoplpush", "BRPOPLPUSH l l2 1"),
    ("bzmpop", "BZMPOP 1 2 none z MIN"),
    ("bzpopmax", "BZPOPMAX none z 1"),
    ("bzpopmin", "BZPOPMIN none z 1"),
    ("client|caching", "CLIENT CACHING yes"),
    ("client|kill", "CLIENT KILL ID 999999"),
    ("client|no-evict", "CLIENT NO-EVICT off"),
    ("client|reply", "CLIENT REPLY on"),
    ("client|unblock", "CLIENT UNBLOCK 999999"),
    ("command|getkeys", "COMMAND GETKEYS EVAL s 0"),
    ("command|getkeysandflags", "COMMAND GETKEYSANDFLAGS SET a b"),
    ("command|list", "COMMAND LIST FILTERBY ACLCAT hyperloglog"),
    ("config|get", "CONFIG GET maxmemory*"),
    ("config|set", "CONFIG SET slowlog-max-len 100"),
    ("copy", "COPY s s2 DB 2"),
    ("eval", "EVAL return{KEYS[1],KEYS[2],ARGV[1]} 2 a b c"),
    ("evalsha", "EVALSHA ffffffffffffffffffffffffffffffffffffffff 0"),
    ("eval_ro", "EVAL_RO return(5) 0"),
    ("evalsha_ro", "EVALSHA_RO ffffffffffffffffffffffffffffffffffffffff 2 a b"),
    ("exec", "EXEC"),
    ("expire", "EXPIRE s 1000"),
    ("flushall", "FLUSHALL"),
    ("geoadd", "GEOADD g 1 1 m 2 2 n"),
    ("geodist", "GEODIST g m n"),
    ("georadius", "GEORADIUS g 1 1 500 km STORE gd"),
    ("geosearchstore", "GEOSEARCHSTORE gd g FROMMEMBER m BYRADIUS 500 km"),
    ("hset", "HSET h f 1 g 2"),
    ("incrbyfloat", "INCRBYFLOAT f 1.5"),
    ("keys", "KEYS n*"),
    ("latency|history", "LATENCY HISTORY command"),
    ("linsert", "LINSERT l BEFORE 1 0"),
    ("lmove", "LMOVE l l2 LEFT RIGHT"),
    ("lmpop", "LMPOP 2 none l2 LEFT"),
    ("lpush", "LPUSH l 3 2 1 0 9 8 7 6"),
    ("mget", "MGET s none s2"),
    ("module|load", "MODULE LOAD /nowhere"),
    ("mset", "MSET m1 1 m2 2 m3 3"),
    ("msetnx", "MSETNX m4 1 m5 2"),
    ("object|encoding", "OBJECT ENCODING s"),
    ("pfmerge", "PFMERGE pd p p2"),
    ("psubscribe", "PSUBSCRIBE p*"),
    ("rename", "RENAME s s9"),
    ("renamenx", "RENAMENX s9 s"),
    ("restore", "RESTORE r 0 junk"),
    ("sadd", "SADD se a b c"),
    ("scan", "SCAN 0 MATCH none*"),
    ("script|load", "SCRIPT LOAD return(1)"),
    ("sdiffstore", "SDIFFSTORE sd se none"),
    ("set", "SET s value"),
    ("sinter", "SINTER se none"),
    ("slowlog|len", "SLOWLOG GET 0"),
    ("smove", "SMOVE se sf zzz"),
    ("sort", "SORT l BY w_* GET v_* STORE ld"),
    ("swapdb", "SWAPDB 3 4"),
    ("wait", "WAIT 0 10"),
    ("waitaof", "WAITAOF 0 0 10"),
    ("xadd", "XADD x 1-1 f v"),
    ("xgroup|create", "XGROUP CREATE x g $"),
    ("xread", "XREAD STREAMS x y 0 0"),
    ("xreadgroup", "XREADGROUP GROUP g c STREAMS x >"),
    ("zadd", "ZADD z 1 a 2 b"),
    ("zinterstore", "ZINTERSTORE zd 2 z none"),
    ("zunionstore", "ZUNIONSTORE zd 2 z z"),
];

/// Every command of a server and subcommand, in the order of its name, with how many words it takes at least.
pub(super) fn commands(client: &mut Client) -> BTreeMap<String, usize> {
    client.send("COMMAND LIST\r\n");
    let names = whole_reply(client);
    let names = String::from_utf8(names).unwrap();
    let names: Vec<&str> = names.lines().filter(|line| !line.starts_with(['*', '$'])).collect();
    let mut found = BTreeMap::new();
    for name in names {
        client.send(format!("COMMAND INFO {name}\r\n"));
        let info = String::from_utf8_lossy(&whole_reply(client)).into_owned();
        let arity = info.lines().find_map(|line| line.strip_prefix(':')?.parse::<i64>().ok());
        // A container command of which only subcommands do something: it is sent by their names.
        found.insert(name.to_owned(), arity.unwrap().unsigned_abs() as usize);
    }
    found
}

/// A request of a command.
pub(super) fn request(name: &str, words: usize) -> String {
    match REQUESTS.iter().find(|(known, _)| *known == name) {
        Some((_, request)) => (*request).to_owned(),
        None => {
            let mut request: Vec<String> = name.split('|').map(str::to_owned).collect();
            while request.len() < words {
                request.push(request.len().to_string());
            }
            request.join(" ")
        }
    }
}

/// What a client is told before and behind a command in a transaction, and by `EXEC`.
fn in_transaction(client: &mut Client, request: &str) -> Vec<String> {
    let mut told: Vec<_> = ["MULTI", request, "SET after 1", "EXEC"].map(|one| reply_of(client, one)).into();
    told.push(reply_of(client, "GET after"));
    told
}

/// What is left out inside of transactions: the proxy answers it by itself, or the server will not queue it for a reason that
/// only it knows, which `EXEC` tells.
pub(super) fn is_own(name: &str) -> bool {
    let here = ["client|", "hello", "auth", "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe"];
    let more = [
        "sunsubscribe",
        "acl|whoami",
        "cluster|",
        "asking",
        "readonly",
        "readwrite",
        "exec",
        "discard",
        "multi",
        "module|",
    ];
    here.iter().chain(&more).any(|start| name.starts_with(start)) || ["watch", "reset"].contains(&name)
}

#[test]
fn every_command_answers_what_the_server_answers() {
    let servers = [Process::redis(), Process::redis()];
    let proxy = Proxy::start(&[servers[1].address], &["redis: true", "timeout: 5000"]);
    let mut theirs = servers[0].client();
    let mut ours = proxy.client();
    let names = commands(&mut theirs);
    assert!(names.len() > 300, "{}", names.len());
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for (name, words) in &names {
        let request = request(name, *words);
        if REFUSED.contains(&name.as_str()) {
            let told = reply_of(&mut ours, &request);
            assert!(
                told.starts_with("-ERR ") && told.contains("not available through this proxy"),
                "{request}: {told}"
            );
            continue;
        }
        if OWN.contains(&name.as_str()) {
            continue;
        }
        compared += 1;
        println!("{request}"); // shown when one of both closes the connection
        // What comes in the order of a table whose seed each process draws is compared without it.
        let has_order = !["command", "command|docs", "command|info", "command|list", "config|get"].contains(&&**name);
        let lines = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        let mut differ = |of: &str, theirs: String, ours: String| {
            if theirs != ours && (has_order || lines(&theirs) != lines(&ours)) {
                let [theirs, ours] = [theirs, ours].map(|text| text.chars().take(300).collect::<String>());
                wrong.push(format!("{of}{request}\n   redis {theirs:?}\n   here  {ours:?}"));
            }
        };
        differ("", reply_of(&mut theirs, &request), reply_of(&mut ours, &request));
        if name == "reset" || name.contains("subscribe") {
            for client in [&mut theirs, &mut ours] {
                client.send("RESET\r\n");
                client.read_through(b"+RESET\r\n");
            }
        }
        if !is_own(name) {
            let [theirs, ours] = [&mut theirs, &mut ours].map(|client| in_transaction(client, &request).concat());
            differ("in a transaction: ", theirs, ours);
        }
        // Again in a known state.
        for client in [&mut theirs, &mut ours] {
            client.send("DISCARD\r\nSELECT 0\r\nFLUSHALL\r\nMSET s value n 5\r\nRPUSH l 1 2 3\r\nSADD se a\r\nZADD z 1 a 2 b\r\n");
            client.send("XADD x 1-1 f v\r\nHSET h f 1\r\n");
            (0..9).for_each(|_| drop(whole_reply(client)));
        }
    }
    assert!(compared > 270, "{compared}");
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_transaction_selects_databases() {
    let server = Process::redis();
    let proxy = Proxy::start(&[server.address], &["redis: true", "timeout: 5000"]);
    let mut direct = server.client();
    let (mut client, mut other) = (proxy.client(), proxy.client());
    let all = |client: &mut Client, requests: &[&str]| {
        requests.iter().map(|request| reply_of(client, request)).collect::<String>()
    };
    let script =
        ["MULTI", "SET k 0", "SELECT 1", "SET k 1", "SELECT 99", "SELECT x", "GET k", "DBSIZE", "EXEC", "GET k"];
    let expected = all(&mut direct, &script);
    all(&mut direct, &["FLUSHALL", "SELECT 0"]);
    assert_eq!(all(&mut client, &script), expected);
    // It stays there, and nobody else comes along.
    assert_eq!(
        all(&mut client, &["SET mine 1", "SELECT 0", "GET mine", "SELECT 1", "GET mine"]),
        "+OK\r\n+OK\r\n$-1\r\n+OK\r\n$1\r\n1\r\n"
    );
    assert_eq!(all(&mut other, &["GET k", "GET mine"]), "$1\r\n0\r\n$-1\r\n");
    // What was not carried out selects nothing.
    let script = ["WATCH k", "SET k 9", "MULTI", "SELECT 5", "EXEC", "GET k"];
    assert_eq!(all(&mut client, &script), "+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n*-1\r\n$1\r\n9\r\n");
    let script = ["MULTI", "SELECT 5", "NOSUCH", "EXEC", "GET k"];
    assert!(all(&mut client, &script).ends_with("$1\r\n9\r\n"));
    let script = ["WATCH k", "MULTI", "SELECT 2", "SET k 2", "EXEC", "GET k", "SELECT 1", "GET k"];
    assert_eq!(
        all(&mut client, &script),
        "+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n$1\r\n2\r\n+OK\r\n$1\r\n9\r\n"
    );
    // Also in one write, and without an answer.
    client.send("MULTI\r\nSELECT 3\r\nEXEC\r\nSET k 3\r\nGET k\r\n");
    client.read_through(b"*1\r\n+OK\r\n+OK\r\n$1\r\n3\r\n");
    client.send("CLIENT REPLY OFF\r\nMULTI\r\nSELECT 4\r\nEXEC\r\nSET k 4\r\nCLIENT REPLY ON\r\nGET k\r\n");
    client.read_through(b"+OK\r\n$1\r\n4\r\n");
    assert_eq!(all(&mut other, &["GET k"]), "$1\r\n0\r\n");
    assert_eq!(all(&mut direct, &["SELECT 4", "GET k"]), "+OK\r\n$1\r\n4\r\n");
}

#[test]
fn scripts_without_keys_run_where_there_is_one_server() {
    let server = Process::redis();
    let proxy = Proxy::start(&[server.address], &["redis: true", "timeout: 5000", "keyless_scripts: refuse"]);
    assert_eq!(proxy.client().ask("EVAL return(7) 0\r\n"), ":7");
}
