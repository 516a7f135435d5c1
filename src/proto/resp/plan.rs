//! What is done about a command: which way its request goes.

use std::sync::LazyLock;

use super::command::{self, Begin, Command, Find, Flags, KeySpec, keys};
use super::fallback::{self, Rule};
use crate::outcome;

/// The way of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandClass {
    /// To the server that all its keys belong to.
    Keyed,
    /// In parts to the servers that its keys belong to.
    Split(Split),
    /// To all servers.
    Everywhere(Everywhere),
    /// To any server: they all know the answer.
    Anywhere,
    /// Nowhere: it is answered here.
    Local(Local),
    /// It begins, ends or guards a transaction.
    Transaction(Transaction),
    /// A script or a function, which may have keys or none.
    Script,
    /// To the server of its keys, on a connection of its own if it is going to wait.
    Blocking(Blocking),
    /// To the servers of its channels, on a connection of its own.
    Subscribe(Subscribe),
    /// To the server of its channel.
    Publish,
    /// To all servers, on connections of its own, for as long as the client is there.
    Monitor,
    /// To the pool's server if it has one and no other; it is about one server.
    OfOne,
    /// Nowhere: it does what a proxy cannot do, or would take the server from everybody else.
    Refused,
}

/// How the parts of a split request are answered as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// `MGET`: the values in the order of the keys.
    Values,
    /// `MSET`: one word; its arguments are pairs.
    Pairs,
    /// `DEL` and its like: the sum.
    Count,
}

/// What becomes of the answers of all servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say which commands")]
pub enum Everywhere {
    Flush,
    Dbsize,
    Keys,
    Scan,
    RandomKey,
    Info,
    /// On connections of the client's own, for as long as it says.
    Wait,
    /// On connections of the client's own, to all servers: one of them may be busy with what this is to end.
    Kill,
    /// The first answer: they should all be alike. It changes all servers.
    Load,
    ScriptExists,
    ConfigGet,
    /// All servers are told, and it is done if all have done it.
    Order,
    /// The sum of numbers, the least of them, the elements of all arrays.
    Sum,
    Least,
    Join,
    /// The newest entries of all.
    Log,
    FunctionList,
    PubsubChannels,
    PubsubNumsub,
    PubsubNumpat,
}

impl Everywhere {
    /// Whether all servers get the request as it is.
    #[must_use]
    pub const fn is_copied(self) -> bool {
        !matches!(self, Self::Scan | Self::Wait | Self::Kill)
    }
}

/// What is answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are command names")]
pub enum Local {
    Ping,
    Echo,
    Hello,
    Auth,
    Select,
    Quit,
    Reset,
    Time,
    ClusterOnly,
    Role,
    WhoAmI,
    ClientId,
    ClientGetName,
    ClientSetName,
    ClientSetInfo,
    ClientInfo,
    ClientList,
    ClientKill,
    ClientReply,
    ClientNoEvict,
    ClientNoTouch,
    ClientTracking,
    ClientCaching,
    ClientTrackingInfo,
    ClientGetRedir,
    ClientUnblock,
}

/// What has to do with transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are command names")]
pub enum Transaction {
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
}

/// Where a command that waits says for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocking {
    /// The last argument, in seconds.
    Last,
    /// The last argument, in milliseconds.
    LastMillis,
    /// The first argument, in seconds.
    First,
    /// Behind the word `BLOCK`, in milliseconds; without it the command does not wait.
    Option,
}

/// Changes of what a client is subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are command names")]
pub enum Subscribe {
    Channels,
    Patterns,
    Shards,
    NoChannels,
    NoPatterns,
    NoShards,
}

/// What is done about a command.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The way of its requests.
    pub class: CommandClass,
    /// What they are answered if a server fails them.
    pub rule: Rule,
    /// It changes what follows, or waits: all requests before it are answered first.
    pub alone: bool,
    /// What kind of thing it asks for.
    pub asks: outcome::Class,
    /// Where its key stands, if it has just one that is always at the same place; else 0.
    pub key: u8,
}

static PLANS: LazyLock<Vec<Plan>> = LazyLock::new(|| {
    let mut plans = vec![plan("", false); command::count()];
    for command in command::all() {
        let keyed = !command.keys.is_empty() || command.flags.has(Flags::MOVABLE_KEYS);
        let plan = plan(command.name, keyed);
        // A read that no table knows of finds nothing, as all others do.
        let reads = command.flags.has(Flags::READONLY) && plan.class == CommandClass::Keyed;
        let rule = if reads { plan.rule.or_null() } else { plan.rule };
        let asks = asks(command.name, command.flags, keyed);
        plans[usize::from(command.id)] = Plan { rule, asks, key: keys::only(command), ..plan };
    }
    plans
});

/// What is done about a command of the table.
#[must_use]
pub fn of(command: &Command) -> Plan {
    if command.id == UNKNOWN.id {
        return unknown().1;
    }
    PLANS[usize::from(command.id)]
}

/// A command that the table does not have.
static UNKNOWN: Command = Command {
    id: u16::MAX,
    name: "unknown",
    arity: -2,
    flags: Flags::WRITE,
    keys: &[KeySpec {
        begin: Begin::Index(1),
        find: Find::Range { last: 0, step: 1, limit: 0 },
        incomplete: true,
        not_key: false,
    }],
    subcommands: &[],
};

/// What is done about a command that the table does not have, where that is allowed: its first argument is taken for
/// its key.
#[must_use]
pub fn unknown() -> (&'static Command, Plan) {
    let rule = fallback::shape(UNKNOWN.name);
    (&UNKNOWN, Plan { class: CommandClass::Keyed, rule, alone: false, asks: outcome::Class::Other, key: 0 })
}

fn plan(name: &str, keyed: bool) -> Plan {
    let class = class(name, keyed);
    let alone = matches!(
        class,
        CommandClass::Subscribe(_)
            | CommandClass::Monitor
            | CommandClass::Blocking(_)
            | CommandClass::Everywhere(Everywhere::Wait | Everywhere::Kill)
            | CommandClass::Transaction(Transaction::Watch)
            | CommandClass::Local(
                Local::Hello
                    | Local::Select
                    | Local::Reset
                    | Local::Auth
                    | Local::ClientList
                    | Local::ClientKill
                    | Local::ClientUnblock
            )
    );
    Plan { class, rule: fallback::shape(name), alone, asks: outcome::Class::Other, key: 0 }
}

/// What kind of thing a command asks for.
fn asks(name: &str, flags: Flags, keyed: bool) -> outcome::Class {
    match name {
        "del" | "unlink" | "getdel" => outcome::Class::Delete,
        "incr" | "decr" | "incrby" | "decrby" | "incrbyfloat" | "hincrby" | "hincrbyfloat" | "zincrby" => {
            outcome::Class::Arithmetic
        }
        "expire" | "pexpire" | "expireat" | "pexpireat" | "persist" | "touch" => outcome::Class::Touch,
        _ if keyed && flags.has(Flags::READONLY) => outcome::Class::Get,
        _ if keyed && flags.has(Flags::WRITE) => outcome::Class::Set,
        _ => outcome::Class::Other,
    }
}

fn class(name: &str, keyed: bool) -> CommandClass {
    use CommandClass::{Anywhere, Blocking as Block, Everywhere as All, Local as Here, Transaction as Tx};
    match name {
        "mget" => CommandClass::Split(Split::Values),
        "mset" => CommandClass::Split(Split::Pairs),
        "del" | "unlink" | "exists" | "touch" => CommandClass::Split(Split::Count),
        "flushdb" | "flushall" => All(Everywhere::Flush),
        "dbsize" => All(Everywhere::Dbsize),
        "keys" => All(Everywhere::Keys),
        "scan" => All(Everywhere::Scan),
        "randomkey" => All(Everywhere::RandomKey),
        "info" => All(Everywhere::Info),
        "wait" | "waitaof" => All(Everywhere::Wait),
        "script|kill" | "function|kill" => All(Everywhere::Kill),
        "script|load" | "script|flush" | "function|load" => All(Everywhere::Load),
        "function|delete" | "function|flush" | "function|restore" | "config|resetstat" | "slowlog|reset"
        | "commandlog|reset" => All(Everywhere::Order),
        "script|exists" => All(Everywhere::ScriptExists),
        "function|list" | "function|stats" | "function|dump" => Anywhere,
        "config|get" => All(Everywhere::ConfigGet),
        "slowlog|len" | "commandlog|len" | "latency|reset" => All(Everywhere::Sum),
        "slowlog|get" | "commandlog|get" => All(Everywhere::Log),
        "latency|latest" | "latency|history" => All(Everywhere::Join),
        "lastsave" => All(Everywhere::Least),
        "pubsub|channels" | "pubsub|shardchannels" => All(Everywhere::PubsubChannels),
        "pubsub|numsub" | "pubsub|shardnumsub" => All(Everywhere::PubsubNumsub),
        "pubsub|numpat" => All(Everywhere::PubsubNumpat),
        "ping" => Here(Local::Ping),
        "echo" => Here(Local::Echo),
        "hello" => Here(Local::Hello),
        "auth" => Here(Local::Auth),
        "select" => Here(Local::Select),
        "quit" => Here(Local::Quit),
        "reset" => Here(Local::Reset),
        "time" => Here(Local::Time),
        "role" => Here(Local::Role),
        "acl|whoami" => Here(Local::WhoAmI),
        "readonly" | "readwrite" | "asking" => Here(Local::ClusterOnly),
        _ if name.starts_with("cluster|") => Here(Local::ClusterOnly),
        "client|id" => Here(Local::ClientId),
        "client|getname" => Here(Local::ClientGetName),
        "client|setname" => Here(Local::ClientSetName),
        "client|setinfo" => Here(Local::ClientSetInfo),
        "client|info" => Here(Local::ClientInfo),
        "client|list" => Here(Local::ClientList),
        "client|kill" => Here(Local::ClientKill),
        "client|reply" => Here(Local::ClientReply),
        "client|no-evict" => Here(Local::ClientNoEvict),
        "client|no-touch" => Here(Local::ClientNoTouch),
        "client|tracking" => Here(Local::ClientTracking),
        "client|caching" => Here(Local::ClientCaching),
        "client|trackinginfo" => Here(Local::ClientTrackingInfo),
        "client|getredir" => Here(Local::ClientGetRedir),
        "client|unblock" => Here(Local::ClientUnblock),
        "multi" => Tx(Transaction::Multi),
        "exec" => Tx(Transaction::Exec),
        "discard" => Tx(Transaction::Discard),
        "watch" => Tx(Transaction::Watch),
        "unwatch" => Tx(Transaction::Unwatch),
        "eval" | "evalsha" | "eval_ro" | "evalsha_ro" | "fcall" | "fcall_ro" => CommandClass::Script,
        "blpop" | "brpop" | "brpoplpush" | "blmove" | "bzpopmin" | "bzpopmax" => Block(Blocking::Last),
        "blmpop" | "bzmpop" => Block(Blocking::First),
        "xread" | "xreadgroup" => Block(Blocking::Option),
        "subscribe" => CommandClass::Subscribe(Subscribe::Channels),
        "psubscribe" => CommandClass::Subscribe(Subscribe::Patterns),
        "ssubscribe" => CommandClass::Subscribe(Subscribe::Shards),
        "unsubscribe" => CommandClass::Subscribe(Subscribe::NoChannels),
        "punsubscribe" => CommandClass::Subscribe(Subscribe::NoPatterns),
        "sunsubscribe" => CommandClass::Subscribe(Subscribe::NoShards),
        "publish" | "spublish" => CommandClass::Publish,
        "monitor" => CommandClass::Monitor,
        "lolwut"
        | "command"
        | "command|info"
        | "command|docs"
        | "command|count"
        | "command|list"
        | "command|getkeys"
        | "command|getkeysandflags"
        | "module|list"
        | "acl|cat"
        | "acl|genpass"
        | "acl|help"
        | "module|help"
        | "slowlog|help"
        | "commandlog|help"
        | "latency|help"
        | "script"
        | "function"
        | "object|help"
        | "xgroup|help"
        | "xinfo|help"
        | "client|help"
        | "command|help"
        | "config|help"
        | "memory|help"
        | "pubsub|help"
        | "script|help"
        | "function|help" => Anywhere,
        "sync"
        | "psync"
        | "replconf"
        | "replicaof"
        | "slaveof"
        | "failover"
        | "shutdown"
        | "save"
        | "debug"
        | "migrate"
        | "pfselftest"
        | "script|debug"
        | "client|pause"
        | "client|unpause"
        | "client|capa"
        | "client|import-source" => CommandClass::Refused,
        "restore-asking" | "pfdebug" => CommandClass::OfOne,
        _ if keyed => CommandClass::Keyed,
        _ => CommandClass::OfOne,
    }
}
