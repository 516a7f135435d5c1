//! The proxy's own figures after a fault: each request is counted once when it is read, and once when it has ended.

use std::time::Duration;

use serde_json::Value;
use softmiss::outcome::{Class, Outcome};

use crate::support::process::Proxy;
use crate::support::wait_until;

/// When nothing is under way any more, every request has ended once: for the pool, and for each server.
pub(super) fn check_balance(proxy: &Proxy) {
    let mut said = String::new();
    let is_even = || {
        let statistics = proxy.statistics();
        let figure = |of: &Value, name: &str| of[name].as_u64().unwrap_or_else(|| panic!("{name} in {of}"));
        let pool = &statistics["pool"];
        let classes = Class::ALL.iter().flat_map(|class| {
            let endings = Outcome::OF_REQUESTS.into_iter().filter(|outcome| class.may_end(*outcome));
            endings.map(|outcome| figure(pool, &format!("{}_{}", class.name(), outcome.name())))
        });
        let (requests, ended) = (figure(pool, "requests"), classes.sum::<u64>());
        let servers = pool.as_object().expect("a pool").values().filter(|value| value.is_object());
        let servers: Vec<_> = servers
            .map(|server| {
                let outcomes =
                    Outcome::OF_SERVERS.map(|outcome| figure(server, &format!("outcome_{}", outcome.name())));
                (figure(server, "requests"), outcomes.iter().sum::<u64>())
            })
            .collect();
        said = format!("{requests} requests, {ended} ended; by server: {servers:?}");
        requests > 0 && requests == ended && servers.iter().all(|(requests, ended)| requests == ended)
    };
    wait_until("every request ended once", Duration::from_secs(3), is_even);
    println!("balance: {said}");
}
