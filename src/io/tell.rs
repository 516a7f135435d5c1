//! What the engine has to tell, as lines of the log.

use std::time::Duration;

use tracing::{Level, enabled, info, warn};

use crate::config::model::{PoolId, ServerId};
use crate::engine::ids::SessionId;
use crate::engine::{Notice, Slow};
use crate::failure::Failure;
use crate::stats::hot::escaped;
use crate::topology::Topology;

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Tells of a change of state. `suppressed` is how often the same happened since it was last told, where that may be often.
pub(super) fn notice(topology: &Topology, notice: &Notice, peer: impl FnOnce(SessionId) -> Option<String>) {
    let name = |pool: PoolId, server: ServerId| {
        let pool = &topology.pools[pool.index()];
        let server = pool.server(server);
        (pool.name.as_str(), server.name.as_str(), server.address.to_string())
    };
    match notice {
        Notice::Ejected { pool: id, server, failure, failures } => {
            let (pool, server, address) = name(*id, *server);
            let probe_in_ms = millis(topology.pools[id.index()].server_retry_timeout);
            warn!(pool, server, address, failures, reason = %failure, probe_in_ms, "server ejected");
        }
        Notice::Failing { pool, server, failure, failures, lasts, suppressed } => {
            let (pool, server, address) = name(*pool, *server);
            let failing_ms = millis(*lasts);
            warn!(
                pool,
                server, address, failures, reason = %failure, failing_ms, suppressed,
                "server fails, and stays in the ring"
            );
        }
        Notice::Well { pool, server, failed_for } => {
            let (pool, server, address) = name(*pool, *server);
            info!(pool, server, address, failed_ms = millis(*failed_for), "server answers again");
        }
        Notice::Restored { pool, server, away, probes, restarted, forgotten_keys, flushed } => {
            let (pool, server, address) = name(*pool, *server);
            let (away_ms, forgotten_keys) = (millis(*away), forgotten_keys);
            let restarted = match restarted {
                Some(true) => "true",
                Some(false) => "false",
                None => "unknown",
            };
            info!(pool, server, address, away_ms, probes, %restarted, forgotten_keys, flushed, "server restored");
        }
        Notice::Silent { pool, server, silent, suppressed } => {
            let (pool, server, address) = name(*pool, *server);
            let silent_ms = millis(*silent);
            info!(pool, server, address, silent_ms, suppressed, "server is silent, requests are answered in its place");
        }
        Notice::Unfinished { pool, server, connections } => {
            let (pool, server, address) = name(*pool, *server);
            warn!(
                pool,
                server,
                address,
                connections,
                "server answers, and leaves connections open that were given up: they are reset, and what was asked on \
                 them may be carried out late"
            );
        }
        Notice::Unflushed { pool, server, suppressed } => {
            let (pool, server, address) = name(*pool, *server);
            warn!(
                pool,
                server, address, suppressed, "server refuses flush_all, and may hold what it was told to forget"
            );
        }
        Notice::Copyless { pool, server, suppressed } => {
            let (pool, server, address) = name(*pool, *server);
            warn!(
                pool,
                server,
                address,
                suppressed,
                "server knows no mg, it is older than memcached 1.6: stale has no effect there, whoever misses a key that is \
                 being computed waits"
            );
        }
        Notice::HeldBack { pool, server, wait } => {
            let (pool, server, address) = name(*pool, *server);
            warn!(pool, server, address, wait_ms = millis(*wait), "server is well but flapping, kept out of the ring");
        }
        Notice::Denied { pool, server, term, text, suppressed } => {
            let (pool, server, address) = name(*pool, *server);
            let (refused, reply) = (term.name(), &**text);
            warn!(pool, server, address, refused, reply, suppressed, "server refuses what a connection needs");
        }
        Notice::Violation { pool, server, violation, suppressed } => {
            let (pool, server, address) = name(*pool, *server);
            let violation = violation.name();
            warn!(pool, server, address, violation, suppressed, "server broke the protocol, connection closed");
        }
        Notice::Stranger { pool, session, language, suppressed } => {
            let pool = &topology.pools[pool.index()];
            let (speaks, spoken) = (language.name(), pool.protocol.name());
            let (pool, address) = (pool.name.as_str(), peer(*session));
            info!(pool, address, speaks, spoken, suppressed, "client speaks what is not spoken here");
        }
        Notice::NotAdmitted { pool, session, suppressed } => {
            let (pool, address) = (topology.pools[pool.index()].name.as_str(), peer(*session));
            warn!(
                pool,
                address, suppressed, "client has said no user and password that are right, nothing is done for it"
            );
        }
        Notice::CutOff { pool, held, most, clients } => {
            let pool = topology.pools[pool.index()].name.as_str();
            warn!(pool, held, limit = most, clients, "client cut off, it held too much memory");
        }
        Notice::Limit { pool, server, failure, held, most, requests } => {
            let server = server.map(|server| name(*pool, server).1);
            let dedicated = topology.pools[pool.index()].redis.dedicated_connections;
            let pool = topology.pools[pool.index()].name.as_str();
            if *failure == Failure::NoMemory {
                warn!(
                    pool,
                    held,
                    limit = most,
                    requests,
                    "memory_limit reached, requests are answered in their servers' place"
                );
            } else if *failure == Failure::NoDedicated {
                warn!(
                    pool,
                    limit = dedicated,
                    requests,
                    "dedicated_connections reached, requests that block, watch or subscribe fail"
                );
            } else if *failure != Failure::QueueFull {
                info!(pool, server, requests, reason = %failure, "server answers, but does not do what it is asked");
            } else {
                warn!(pool, server, requests, "too much is queued for a server, requests are answered in its place");
            }
        }
    }
}

/// Tells of a request that took long. The key is named only where the log may name keys.
pub(super) fn slow(topology: &Topology, slow: &Slow) {
    let pool = &topology.pools[slow.pool.index()];
    let ms = |span: Duration| (span.as_secs_f64() * 10_000.0).round() / 10.0;
    info!(
        pool = pool.name,
        server = slow.server.map(|server| pool.server(server).name.as_str()),
        command = slow.command,
        keys = slow.keys,
        key_hash = slow.hash.map(|hash| format!("{hash:08x}")),
        key = enabled!(Level::DEBUG).then(|| escaped(&slow.key)),
        took_ms = ms(slow.took),
        waited_ms = slow.waited.map(ms),
        server_ms = slow.asked.map(ms),
        cause = slow.failure.map(|failure| failure.name()),
        suppressed = slow.suppressed,
        "slow request"
    );
}
