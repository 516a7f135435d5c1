//! What becomes of a field of `stats` that several servers have.

/// How the values of several servers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// They are added up: what servers count, hold, and may hold.
    Sum,
    /// The smallest: a yes or no that is to be no as soon as one server says so, and the time since which all have counted.
    Smallest,
    /// The largest: ages, levels, and a yes or no that is to be yes as soon as one server says so.
    Largest,
    /// The first server's: what is a property of a server, or a word.
    First,
    /// The lowest version of all servers of the pool.
    Version,
    /// This process's own.
    Own,
}

/// The fields that are not added up, with the names that end behind the last `:` (`items:1:age`, `1:chunk_size`).
const RULES: &[(&str, Rule)] = &[
    ("pid", Rule::Own),
    ("version", Rule::Version),
    // Since when the counters of all servers have counted: it falls when one of them starts anew, as they do.
    ("uptime", Rule::Smallest),
    ("time", Rule::Largest),
    ("libevent", Rule::First),
    ("pointer_size", Rule::First),
    ("accepting_conns", Rule::Smallest),
    ("hash_power_level", Rule::Largest),
    ("hash_is_expanding", Rule::Largest),
    ("slab_reassign_running", Rule::Largest),
    ("slab_reassign_last_busy_status", Rule::First),
    ("lru_crawler_running", Rule::Largest),
    ("time_since_server_cert_refresh", Rule::Largest),
    // Of a slab class.
    ("age", Rule::Largest),
    ("age_hot", Rule::Largest),
    ("age_warm", Rule::Largest),
    ("evicted_time", Rule::Largest),
    ("chunk_size", Rule::First),
    ("chunks_per_page", Rule::First),
    ("active_slabs", Rule::Largest),
    // Settings, wherever they are told.
    ("verbosity", Rule::First),
    ("tcpport", Rule::First),
    ("udpport", Rule::First),
];

/// What becomes of the field `name`. One that is not known is taken for a count.
#[must_use]
pub fn rule(name: &[u8]) -> Rule {
    let last = name.rsplit(|byte| *byte == b':').next().unwrap_or(name);
    RULES.iter().find(|(known, _)| known.as_bytes() == last).map_or(Rule::Sum, |(_, rule)| *rule)
}
