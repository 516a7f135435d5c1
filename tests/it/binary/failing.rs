//! What a client of the binary protocol is told when servers fail.

use std::time::{Duration, Instant};

use super::packet::{
    ADD, Ask, DELETE, GET, GETK, GETKQ, NOT_FOUND, NOT_STORED, SET, SETQ, UNAVAILABLE, all_told, asked,
};
use crate::support::process::{Process, Proxy};
use crate::support::scattered_key;

#[test]
fn a_dead_server_is_a_miss() {
    for (policy, get, set) in
        [("miss", NOT_FOUND, NOT_STORED), ("absorb", NOT_FOUND, 0), ("error", UNAVAILABLE, UNAVAILABLE)]
    {
        let mut server = Process::memcached();
        let proxy = Proxy::start(&[server.address], &["timeout: 300", &format!("on_failure: {policy}")]);
        let mut client = proxy.client();
        assert_eq!(asked(&mut client, &Ask::store(SET, "k", "v")).status, 0);
        server.kill();
        for round in 0..3 {
            for opcode in [GET, GETK] {
                assert_eq!(asked(&mut client, &Ask::new(opcode, "k")).status, get, "{policy}, round {round}");
            }
            assert_eq!(asked(&mut client, &Ask::store(SET, "k", "v")).status, set, "{policy}, round {round}");
            let quiet = all_told(&mut client, &[Ask::new(GETKQ, "k"), Ask::store(SETQ, "k", "v")]);
            let wanted: &[u16] = match policy {
                "miss" => &[NOT_STORED],
                "absorb" => &[],
                _ => &[UNAVAILABLE, UNAVAILABLE],
            };
            assert_eq!(quiet.iter().map(|told| told.status).collect::<Vec<_>>(), wanted, "{policy}, round {round}");
        }
        let add = asked(&mut client, &Ask::store(ADD, "k", "v")).status;
        assert_ne!(add, 0, "{policy}: a guard that nobody has guarded");
        let delete = asked(&mut client, &Ask::new(DELETE, "k")).status;
        assert_eq!(delete == UNAVAILABLE, policy == "error", "{policy}: {delete:#x}");
    }
}

#[test]
fn what_failed_is_never_told_as_a_miss_where_failures_are_told() {
    let mut servers: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let proxy = Proxy::start(&addresses, &["timeout: 300", "on_failure: error"]);
    let mut client = proxy.client();
    let keys: Vec<_> = (0..60).map(scattered_key).collect();
    let sets: Vec<_> = keys.iter().map(|key| Ask::store(SETQ, key, "v")).collect();
    assert_eq!(all_told(&mut client, &sets), []);
    servers[0].kill();
    for opcode in [GETKQ, GETK, GET] {
        let gets: Vec<_> = keys.iter().zip(0..).map(|(key, number)| Ask::new(opcode, key).opaque(number)).collect();
        let mut all = all_told(&mut client, &gets);
        all.sort_by_key(|told| told.opaque);
        assert_eq!(all.len(), keys.len(), "{opcode:#x}: each is told something");
        let failed = all.iter().filter(|told| told.status == UNAVAILABLE).count();
        assert!(failed > 0 && all.iter().all(|told| told.status == 0 || told.status == UNAVAILABLE), "{all:?}");
        assert!(all.iter().filter(|told| told.status == 0).count() == keys.len() - failed);
    }
}

#[test]
fn a_silent_server_costs_its_own_keys_and_no_more_than_the_time_limit() {
    let servers: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let proxy = Proxy::start(&addresses, &["timeout: 400"]);
    let mut client = proxy.client();
    let keys: Vec<_> = (0..300).map(scattered_key).collect();
    let sets: Vec<_> = keys.iter().map(|key| Ask::store(SETQ, key, "v")).collect();
    assert_eq!(all_told(&mut client, &sets), []);
    let gets: Vec<_> = keys.iter().map(|key| Ask::new(GETKQ, key)).collect();
    assert_eq!(all_told(&mut client, &gets).len(), 300);
    servers[0].signal("STOP");
    let start = Instant::now();
    let found = all_told(&mut client, &gets).len();
    assert!(start.elapsed() < Duration::from_millis(450), "{:?}", start.elapsed());
    assert!((100..300).contains(&found), "{found} of 300");
    servers[0].signal("CONT");
}
