//! Every statistic once: its name, what it is, and where it is counted. Whoever renders statistics walks these tables.
//!
//! Names of twemproxy's statistics are twemproxy's; collectors made for it go on working.

use super::counters::{Cell, Counters, Gauge, PoolCounters, ServerCounters};
use crate::outcome::Outcome;

/// What a number means over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// A point in time.
    Timestamp,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Timestamp => "timestamp",
        }
    }
}

/// One statistic of things of type `T`.
#[derive(Debug, Clone, Copy)]
pub struct Metric<T: 'static> {
    /// Its name.
    pub name: &'static str,
    /// What it means over time.
    pub kind: Kind,
    /// What it counts.
    pub help: &'static str,
    /// Its value.
    pub value: fn(&T) -> u64,
}

// Counted in a cell of the same name (a counter in one that only grows), or as requests that ended like this; or (`sum`) added up by a method of that name.
macro_rules! metrics {
    ($owner:ty: $($name:ident $(= $how:ident)? $kind:ident $help:literal)*) => {
        &[$(Metric::<$owner> {
            name: stringify!($name),
            kind: Kind::$kind,
            help: $help,
            value: metrics!(@value $kind $name $($how)?),
        }),*]
    };
    (@value Counter $name:ident) => { |counters| Cell::value(&counters.$name) };
    (@value Gauge $name:ident) => { |counters| Gauge::value(&counters.$name) };
    (@value Counter $name:ident sum) => { |counters| counters.$name() };
    (@value Counter $name:ident $outcome:ident) => { |counters| Cell::value(&counters.outcomes[Outcome::$outcome as usize]) };
}

/// The statistics of the process.
pub const PROCESS: &[Metric<Counters>] = metrics! { Counters:
    total_connections Counter "connections opened: clients and servers"
    current_connections Gauge "connections open: clients and servers"
    buffered_bytes Gauge "bytes held in buffers"
    log_lines_dropped Counter "lines of the log that were dropped, because they came faster than they could be written"
    reloads Counter "times the configuration was read again and taken up"
    reloads_refused Counter "times it was read again and refused"
    reload_refused Gauge "1 while the file as it was last read is refused, and an earlier one is in force"
    discovery_changes Counter "times that what is asked where servers are (a name, a file, an endpoint) said something else, which holds"
    discovery_failures Counter "times that it was asked, and said nothing of use"
    discovery_failing Gauge "how many names, files and endpoints said nothing of use when they were asked last; what was known stays in force"
};

/// The statistics of a pool.
pub const POOL: &[Metric<PoolCounters>] = metrics! { PoolCounters:
    client_eof Counter "client connections closed by the client"
    client_err Counter "client connections closed for an error"
    client_connections Gauge "client connections open"
    server_ejects Counter "times a server was put out of the ring"
    forward_error Counter "error lines told to clients because a server failed"
    warmup_asked Counter "keys that had moved to another server and were looked for where they had been (warmup)"
    warmup_brought Counter "keys of these that were found there, and stored where they belong"
    warmup_failed Counter "keys of these of which one of the two servers did not answer in time, or refused what it was asked"
    near_hits Counter "keys of gets that were answered with what is kept of them in the process (near_cache)"
    near_fetches Counter "values that servers were asked for, to be kept"
    near_stale Counter "keys of gets that were answered with what is kept of them, since their server was out (stale_on_error)"
    near_told Counter "keys of which a Redis server has told that they have changed"
    stampede_leases Counter "misses told to who then computes the key, and has the lease for it meanwhile (stampede)"
    stampede_waits Counter "requests that waited for a value which somebody else computed (stampede)"
    stampede_wait_microseconds Counter "how long they did, in microseconds"
    stampede_unleased Counter "requests told a miss without a lease: they had waited for long enough, or could not wait (stampede)"
    stampede_stale Counter "values given that were over, while somebody computed the next one (stampede, `stale`)"
    fragments Counter "parts into which requests for several servers were split"
    clients_cut_off Counter "clients cut off because they held most of what memory_limit allows, or did not read what they subscribed to"
    auth_failures Counter "passwords of clients that were wrong, and requests of clients that had given none (sasl)"
    client_rejected Counter "clients turned away because client_connections was reached"
    requests Counter "requests read from clients"
    refused_requests Counter "requests refused as malformed"
    hits = sum Counter "keys of gets whose value was there"
    misses = sum Counter "keys of gets that their server did not have"
    server_errors Counter "error lines of servers that were passed on"
    slow_requests Counter "requests that took longer than slow_request, or ran out of time"
};

/// The statistics of a server.
pub const SERVER: &[Metric<ServerCounters>] = metrics! { ServerCounters:
    server_eof Counter "connections closed by the server"
    server_err Counter "connections closed for another error"
    server_timedout Counter "requests given up and connections closed because time ran out"
    server_connections Gauge "connections open"
    requests Counter "requests sent"
    request_bytes Counter "bytes of requests sent"
    joined Counter "gets that went out in one line with others"
    responses = sum Counter "responses received"
    response_bytes Counter "bytes of responses received"
    in_queue Gauge "requests waiting to be written"
    in_queue_bytes Gauge "bytes waiting to be written"
    out_queue Gauge "requests written and not answered yet"
    out_queue_bytes Gauge "bytes written and not answered yet"
    hits Counter "keys of gets whose value was there"
    misses Counter "keys of gets that were not there"
    errors Counter "error lines that it answered"
    late_responses = Late Counter "responses that came after their request had been given up"
    resends Counter "requests sent again on a new connection"
    own_responses = Own Counter "responses to requests of the proxy's own"
    stalls Counter "times it was silent for so long that requests were answered in its place"
    reconnects_limited Counter "connects put off because of server_reconnect_limit"
    probes Counter "probes sent while the server was ejected"
    ejections Counter "times it was put out of the ring"
    restores Counter "returns to the ring"
};

/// twemproxy's statistic of a server that is not counted but looked up: when it was last ejected.
pub const SERVER_EJECTED_AT: (&str, Kind, &str) = (
    "server_ejected_at",
    Kind::Timestamp,
    "when the server was last ejected, in microseconds since the epoch; 0: never",
);
