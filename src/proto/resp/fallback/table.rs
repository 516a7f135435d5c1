//! The failure table of Redis: a line for each kind of answer, and in it the commands that get it.

use super::{Form, Rule};

/// What becomes of a command, by its name in lower case.
#[must_use]
pub fn shape(name: &str) -> Rule {
    let miss = read(name).or_else(|| missed(name)).unwrap_or(Form::None);
    Rule { miss, absorb: absorbed(name).unwrap_or(miss) }
}

/// Commands that only read: what Redis says of a key that is not there.
fn read(name: &str) -> Option<Form> {
    Some(match name {
        "get" | "zscore" | "zrank" | "zrevrank" | "hget" | "lindex" | "geodist" | "dump" | "object|encoding"
        | "object|freq" | "object|idletime" | "object|refcount" | "memory|usage" | "randomkey" => Form::Null,
        "mget" => Form::Nulls(1),
        "hmget" | "zmscore" | "geohash" => Form::Nulls(2),
        "geopos" => Form::NullArrays(2),
        "smismember" | "waitaof" | "script|exists" => Form::Zeros(2),
        "bitfield_ro" => Form::ZerosOfThree(2),
        "bitfield" => Form::BitFields,
        "pubsub|numsub" | "pubsub|shardnumsub" => Form::NoChannels,
        "strlen" | "exists" | "getbit" | "bitcount" | "pfcount" | "hexists" | "hlen" | "hstrlen" | "llen" | "scard"
        | "sismember" | "sintercard" | "zcard" | "zcount" | "zlexcount" | "zintercard" | "xlen" | "dbsize"
        | "touch" | "pubsub|numpat" | "wait" | "slowlog|len" | "commandlog|len" | "lastsave" => Form::Integer(0),
        "ttl" | "pttl" | "expiretime" | "pexpiretime" => Form::Integer(-2),
        "httl" | "hpttl" | "hexpiretime" | "hpexpiretime" => Form::MinusTwos(4),
        "getrange" | "substr" | "info" => Form::EmptyText,
        "type" => Form::NoType,
        "hgetall" => Form::EmptyMap,
        "smembers" | "sinter" | "sunion" | "sdiff" => Form::EmptySet,
        "hkeys"
        | "hvals"
        | "lrange"
        | "zrange"
        | "zrevrange"
        | "zrangebyscore"
        | "zrevrangebyscore"
        | "zrangebylex"
        | "zrevrangebylex"
        | "zunion"
        | "zinter"
        | "zdiff"
        | "xrange"
        | "xrevrange"
        | "sort"
        | "sort_ro"
        | "geosearch"
        | "georadius"
        | "georadius_ro"
        | "georadiusbymember"
        | "georadiusbymember_ro"
        | "keys"
        | "command"
        | "command|info"
        | "function|list"
        | "pubsub|channels"
        | "pubsub|shardchannels"
        | "slowlog|get"
        | "commandlog|get"
        | "latency|latest"
        | "latency|history"
        | "module|list"
        | "acl|cat" => Form::EmptyArray,
        "command|docs" | "config|get" => Form::EmptyMap,
        "srandmember" | "hrandfield" | "zrandmember" => Form::Counted(2, &[Form::Null, Form::EmptyArray]),
        "lpos" => Form::Position,
        "bitpos" => Form::BitPosition,
        "lcs" => Form::Lcs,
        "hscan" | "sscan" | "zscan" | "scan" => Form::Scan,
        "xread" => Form::NullArray,
        _ => return None,
    })
}

/// Commands that write: what they say when nothing was done.
fn missed(name: &str) -> Option<Form> {
    Some(match name {
        "set" | "setex" | "psetex" | "mset" | "getset" | "getdel" | "getex" | "rpoplpush" | "lmove" => Form::Null,
        "del" | "unlink" | "expire" | "pexpire" | "expireat" | "pexpireat" | "persist" | "move" | "copy" | "setnx"
        | "msetnx" | "hsetnx" | "hdel" | "srem" | "smove" | "zrem" | "lrem" | "lpushx" | "rpushx" | "linsert"
        | "zremrangebyrank" | "zremrangebyscore" | "zremrangebylex" | "xdel" | "xtrim" | "xack" | "publish"
        | "spublish" => Form::Integer(0),
        "hpersist" => Form::MinusTwos(4),
        "hgetdel" => Form::Nulls(4),
        "hsetex" => Form::Integer(0),
        "ltrim" | "flushdb" | "flushall" | "watch" => Form::Ok,
        "lpop" | "rpop" => Form::Counted(2, &[Form::Null, Form::NullArray]),
        "spop" => Form::Counted(2, &[Form::Null, Form::EmptySet]),
        "zpopmin" | "zpopmax" => Form::EmptyArray,
        "lmpop" | "zmpop" | "blpop" | "brpop" | "bzpopmin" | "bzpopmax" | "blmpop" | "bzmpop" | "xreadgroup"
        | "brpoplpush" | "blmove" => Form::NullArray,
        _ => return None,
    })
}

/// Commands that write: what a server says that forgets at once. Those that are not here get what [`missed`] says.
fn absorbed(name: &str) -> Option<Form> {
    Some(match name {
        "set" => Form::Set,
        "setnx" | "msetnx" | "hsetnx" => Form::Added,
        "setex" | "psetex" | "mset" | "hmset" => Form::Ok,
        "incr" => Form::Integer(1),
        "decr" => Form::Integer(-1),
        "incrby" => Form::Given(2, 1),
        "decrby" => Form::Given(2, -1),
        "hincrby" => Form::Given(3, 1),
        "append" => Form::Length(2),
        "setrange" => Form::Reach,
        "setbit" => Form::Integer(0),
        "lpush" | "rpush" | "sadd" => Form::Count(2, 1),
        "hset" => Form::Count(2, 2),
        "zadd" => Form::ZAdd,
        "zincrby" => Form::Score(2),
        "pfadd" => Form::Integer(1),
        "pfmerge" => Form::Ok,
        "sinterstore" | "sunionstore" | "sdiffstore" | "zinterstore" | "zunionstore" | "zdiffstore" | "zrangestore"
        | "geosearchstore" => Form::Integer(0),
        _ => return None,
    })
}
