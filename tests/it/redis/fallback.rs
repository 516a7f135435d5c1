//! The failure table of Redis pools, row by row, against what a Redis itself says.

use super::super::support::client::Client;
use super::super::support::process::{Process, Proxy, free_port};
use softmiss::proto::resp::command::{self, Flags};
use softmiss::proto::resp::reply::{Scan, Scanned};

/// Commands that only read, each with arguments that ask for nothing that is there.
const READS: &[&str] = &[
    "GET a",
    "GETRANGE a 0 1",
    "SUBSTR a 0 1",
    "STRLEN a",
    "MGET a b c",
    "GETBIT a 5",
    "BITCOUNT a",
    "BITPOS a 1",
    "BITPOS a 0",
    "BITFIELD_RO a GET u8 0 GET u8 1",
    "BITFIELD a GET u8 0 get u8 1",
    "BITFIELD a",
    "LCS a b IDX",
    "PUBSUB NUMSUB a b",
    "PUBSUB NUMSUB",
    "PUBSUB SHARDNUMSUB a",
    "SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db a",
    "SLOWLOG LEN",
    "SLOWLOG GET",
    "LATENCY LATEST",
    "LATENCY HISTORY command",
    "EXISTS a b",
    "TOUCH a b",
    "TTL a",
    "PTTL a",
    "EXPIRETIME a",
    "PEXPIRETIME a",
    "TYPE a",
    "DUMP a",
    "OBJECT ENCODING a",
    "OBJECT IDLETIME a",
    "OBJECT REFCOUNT a",
    "OBJECT FREQ a",
    "HGET a f",
    "HMGET a f g h",
    "HGETALL a",
    "HKEYS a",
    "HVALS a",
    "HLEN a",
    "HEXISTS a f",
    "HSTRLEN a f",
    "HSCAN a 0",
    "HRANDFIELD a",
    "HRANDFIELD a 2",
    "LLEN a",
    "LINDEX a 0",
    "LRANGE a 0 -1",
    "LPOS a x",
    "LPOS a x COUNT 0",
    "SCARD a",
    "SMEMBERS a",
    "SISMEMBER a m",
    "SMISMEMBER a m n",
    "SRANDMEMBER a",
    "SRANDMEMBER a 2",
    "SSCAN a 0",
    "SINTER a b",
    "SUNION a b",
    "SDIFF a b",
    "SINTERCARD 2 a b",
    "SORT_RO a",
    "ZCARD a",
    "ZSCORE a m",
    "ZMSCORE a m n",
    "ZRANK a m",
    "ZREVRANK a m",
    "ZCOUNT a 0 1",
    "ZLEXCOUNT a - +",
    "ZRANGE a 0 -1",
    "ZREVRANGE a 0 -1",
    "ZRANGEBYSCORE a 0 1",
    "ZREVRANGEBYSCORE a 1 0",
    "ZRANGEBYLEX a - +",
    "ZREVRANGEBYLEX a + -",
    "ZSCAN a 0",
    "ZRANDMEMBER a",
    "ZRANDMEMBER a 2",
    "ZUNION 2 a b",
    "ZINTER 2 a b",
    "ZDIFF 2 a b",
    "ZINTERCARD 2 a b",
    "GEOPOS a m n",
    "GEOHASH a m",
    "GEODIST a m n",
    "GEOSEARCH a FROMLONLAT 1 1 BYRADIUS 1 km",
    "GEORADIUS_RO a 1 1 1 km",
    "XLEN a",
    "XRANGE a - +",
    "XREVRANGE a + -",
    "XREAD STREAMS a 0",
    "PFCOUNT a b",
    "LCS a b",
    "LCS a b LEN",
    "MEMORY USAGE a",
    "DBSIZE",
    "KEYS *",
    "RANDOMKEY",
    "SCAN 0",
    "PUBSUB CHANNELS",
    "PUBSUB NUMPAT",
];

/// Those of them without such an answer: what a Redis says of a key that is not there is an error, or a script decides.
const WITHOUT: &[&str] = &[
    "georadiusbymember_ro",
    "xpending",
    "xinfo|stream",
    "xinfo|groups",
    "xinfo|consumers",
    "eval_ro",
    "evalsha_ro",
    "fcall_ro",
    "memory|malloc-stats",
    "bitfield_ro",
    "lolwut",
];

/// Writes that are told as not done, as a Redis tells those of a key that is not there.
const NOT_DONE: &[&str] = &[
    "DEL a",
    "UNLINK a b",
    "EXPIRE a 5",
    "PEXPIRE a 5",
    "EXPIREAT a 5",
    "PEXPIREAT a 5",
    "PERSIST a",
    "MOVE a 1",
    "COPY a b",
    "HDEL a f",
    "SREM a m",
    "SMOVE a b m",
    "ZREM a m",
    "LREM a 0 x",
    "LPUSHX a x",
    "RPUSHX a x",
    "LINSERT a BEFORE x y",
    "ZREMRANGEBYRANK a 0 1",
    "ZREMRANGEBYSCORE a 0 1",
    "ZREMRANGEBYLEX a - +",
    "XDEL a 1-1",
    "XTRIM a MAXLEN 1",
    "LTRIM a 0 1",
    "GETDEL a",
    "GETEX a",
    "LPOP a",
    "LPOP a 2",
    "RPOP a",
    "RPOP a 2",
    "SPOP a",
    "SPOP a 2",
    "ZPOPMIN a",
    "ZPOPMAX a 2",
    "LMPOP 1 a LEFT",
    "ZMPOP 1 a MIN",
    "RPOPLPUSH a b",
    "LMOVE a b LEFT LEFT",
    "XACK a g 1-1",
    "PUBLISH c m",
    "SET a v XX",
    "FLUSHDB",
    "FLUSHALL",
    "WATCH a",
];

/// The first of these writes on an empty server: what `absorb` answers.
const ABSORBED: &[&str] = &[
    "SET a v",
    "SET a v EX 100",
    "SET b v GET",
    "SETEX a 100 v",
    "PSETEX a 10000 v",
    "MSET a 1 b 2",
    "GETSET a v",
    "INCR a",
    "DECR a",
    "INCRBY a 7",
    "DECRBY a 7",
    "HINCRBY a f 7",
    "APPEND a word",
    "SETRANGE a 3 word",
    "SETBIT a 5 1",
    "LPUSH a x y z",
    "RPUSH a x",
    "SADD a m n",
    "HSET a f v g w",
    "HMSET a f v",
    "ZADD a 1 m 2 n",
    "ZADD a XX 1 m",
    "ZADD a NX CH 1 m",
    "ZADD a INCR 5 m",
    "ZADD a XX INCR 5 m",
    "ZINCRBY a 5 m",
    "PFADD a x",
    "PFMERGE a b",
    "SINTERSTORE a b c",
    "SUNIONSTORE a b c",
    "ZUNIONSTORE a 2 b c",
    "ZRANGESTORE a b 0 1",
];

/// What `absorb` does not say even so: nobody's lock, and nothing that cannot be known.
const NEVER: &[(&str, &str)] = &[
    ("SET a v NX", "$-1\r\n"),
    ("SET a v NX PX 100", "$-1\r\n"),
    ("SETNX a v", ":0\r\n"),
    ("MSETNX a v", ":0\r\n"),
    ("HSETNX a f v", ":0\r\n"),
];

/// Writes of which nobody knows what they would have come to.
const TOLD: &[&str] = &[
    "INCR a",
    "LPUSH a x",
    "HSET a f v",
    "SADD a m",
    "ZADD a 1 m",
    "APPEND a x",
    "XADD a * f v",
    "RENAME a b",
    "EVAL \"return 1\" 1 a",
    "RESTORE a 0 x",
    "PFADD a x",
    "SETBIT a 1 1",
    "GEOADD a 1 1 m",
    "ZINCRBY a 1 m",
    "SETRANGE a 0 x",
];

/// Asks, and reads one whole reply.
fn ask(client: &mut Client, line: &str) -> Vec<u8> {
    client.send(format!("{line}\r\n"));
    let mut reply = Vec::new();
    let mut scan = Scan::new(1);
    loop {
        reply.extend_from_slice(&client.read(1));
        if let Scanned::Complete { .. } = scan.advance(&reply) {
            return reply;
        }
    }
}

fn hello(client: &mut Client, version: u8) {
    client.send(format!("HELLO {version}\r\n"));
    client.read_through(b"modules\r\n*0\r\n");
}

/// A proxy before a server that is not there.
fn alone(policy: &str) -> Proxy {
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    Proxy::start(&[nowhere], &["redis: true", "timeout: 500", &format!("on_failure: {policy}")])
}

fn compare(policy: &str, lines: &[&str]) {
    let (server, proxy) = (Process::redis(), alone(policy));
    for version in [2, 3] {
        let (mut plain, mut proxied) = (server.client(), proxy.client());
        hello(&mut plain, version);
        hello(&mut proxied, version);
        for line in lines {
            assert_eq!(ask(&mut plain, "FLUSHALL"), b"+OK\r\n");
            let expected = ask(&mut plain, line);
            let found = ask(&mut proxied, line);
            assert_eq!(
                String::from_utf8_lossy(&found),
                String::from_utf8_lossy(&expected),
                "RESP{version}, {policy}: {line}"
            );
        }
    }
}

#[test]
fn reads_answer_as_for_a_key_that_is_not_there() {
    compare("miss", READS);
    compare("absorb", READS);
}

#[test]
fn no_read_of_a_redis_7_is_left_out() {
    for command in command::all().filter(|one| one.flags.has(Flags::READONLY) && !one.keys.is_empty()) {
        let listed = READS.iter().any(|line| {
            let words: Vec<_> = line.split(' ').map(str::to_ascii_lowercase).collect();
            command.name == words[0] || words.get(1).is_some_and(|word| command.name == format!("{}|{word}", words[0]))
        });
        let later =
            ["httl", "hpttl", "hexpiretime", "hpexpiretime"].contains(&command.name) || command.name.starts_with('v');
        assert!(listed || later || WITHOUT.contains(&command.name), "{} has no row", command.name);
    }
}

#[test]
fn writes_that_are_not_done_say_so() {
    compare("miss", NOT_DONE);
}

#[test]
fn absorbed_writes_answer_as_a_server_that_forgets() {
    compare("absorb", ABSORBED);
    let proxy = alone("absorb");
    for (line, expected) in NEVER {
        assert_eq!(ask(&mut proxy.client(), line), expected.as_bytes(), "{line}");
    }
}

/// A proxy whose only server is not there.
fn with_nobody(more: &[&str]) -> Proxy {
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    Proxy::start(&[nowhere], &[&["redis: true", "timeout: 500"], more].concat())
}

#[test]
fn adding_is_granted_where_that_is_asked_for() {
    let proxy = with_nobody(&["on_failure: absorb", "absorb_add: true"]);
    for (line, expected) in [
        ("SET a v NX", "+OK\r\n"),
        ("SET a v EX 10 nx", "+OK\r\n"),
        ("SET nx v", "+OK\r\n"),
        ("SET a v XX", "$-1\r\n"),
        ("SET a v NX GET", "$-1\r\n"),
        ("SETNX a v", ":1\r\n"),
        ("MSETNX a v", ":1\r\n"),
        ("HSETNX a f v", ":1\r\n"),
        ("GET a", "$-1\r\n"),
    ] {
        assert_eq!(String::from_utf8_lossy(&ask(&mut proxy.client(), line)), expected, "{line}");
    }
}

#[test]
fn a_script_with_one_key_finds_nothing_where_that_is_asked_for() {
    for policy in ["on_failure: miss", "on_failure: absorb"] {
        let proxy = with_nobody(&[policy, "on_failure_scripts: miss"]);
        let mut client = proxy.client();
        for script in ["EVAL \"return 1\" 1 a", "EVALSHA 0000 1 a", "EVAL_RO \"return 1\" 1 a x", "FCALL f 1 a"] {
            assert_eq!(ask(&mut client, script), b"$-1\r\n", "{script}");
        }
        for script in ["EVAL \"return 1\" 0", "EVAL \"return 1\" 2 a a"] {
            let told = String::from_utf8_lossy(&ask(&mut client, script)).into_owned();
            assert!(told.starts_with("-ERR"), "{script}: {told}");
        }
        assert_eq!(ask(&mut client, "MULTI"), b"+OK\r\n");
        assert_eq!(ask(&mut client, "EVAL \"return 1\" 1 a"), b"+QUEUED\r\n");
        assert_eq!(ask(&mut client, "EXEC"), b"*1\r\n$-1\r\n");
    }
}

#[test]
fn what_nobody_can_know_is_told() {
    let proxy = alone("miss");
    for line in TOLD {
        let told = String::from_utf8_lossy(&ask(&mut proxy.client(), line)).into_owned();
        assert!(told.starts_with("-ERR") && told.contains("refused"), "{line}: {told}");
    }
}

#[test]
fn with_errors_each_failure_is_told_in_twemproxys_words() {
    let proxy = alone("error");
    let mut client = proxy.client();
    for line in READS.iter().chain(NOT_DONE).chain(ABSORBED).filter(|line| !line.starts_with("MGET")) {
        let told = String::from_utf8_lossy(&ask(&mut client, line)).into_owned();
        assert_eq!(told, "-ERR Connection refused\r\n", "{line}");
    }
}

#[test]
fn mget_and_exec_keep_their_shape() {
    for (policy, lost) in [("miss", "$-1\r\n"), ("error", "-ERR Connection refused\r\n")] {
        let server = Process::redis();
        let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
        let settings = ["redis: true", "timeout: 500", &format!("on_failure: {policy}")];
        let proxy = Proxy::start(&[server.address, nowhere], &settings);
        let mut client = proxy.client();
        let keys: Vec<_> = (0..12).map(super::super::support::scattered_key).collect();
        let mut expected = String::new();
        for key in &keys {
            let there = ask(&mut client, &format!("SET {key} v")) == b"+OK\r\n";
            expected.push_str(if there { "$1\r\nv\r\n" } else { lost });
        }
        assert!(expected.contains("$1") && expected.contains(lost), "keys of both servers");
        let found = ask(&mut client, &format!("MGET {}", keys.join(" ")));
        let values = if policy == "error" { lost.to_owned() } else { format!("*12\r\n{expected}") };
        assert_eq!(String::from_utf8_lossy(&found), values);
        assert_eq!(ask(&mut client, "MULTI"), b"+OK\r\n");
        for key in &keys {
            assert_eq!(ask(&mut client, &format!("GET {key}")), b"+QUEUED\r\n");
        }
        let found = ask(&mut client, "EXEC");
        assert_eq!(String::from_utf8_lossy(&found), format!("*12\r\n{expected}"));
    }
}

#[test]
fn info_of_nobody_is_empty() {
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let proxy = Proxy::start(&[nobody], &["redis: true", "on_failure: miss", "auto_eject_hosts: false"]);
    let mut client = proxy.client();
    for request in ["INFO memory\r\n", "INFO\r\n"] {
        assert!(client.ask(request).starts_with('$'), "{request}");
        client.send("ECHO after\r\n");
        client.read_through(b"\r\n$5\r\nafter\r\n");
    }
}
