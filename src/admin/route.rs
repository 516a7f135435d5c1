//! Where a key goes, as data: for `softmiss route --json`, and for a running proxy with its servers as they are.

use serde_json::{Value, json};

use super::query::Query;
use super::refusal::Refusal;
use crate::config::model::{OnEject, Pool, ServerId};
use crate::health::tracker::State;
use crate::ring::Ring;
use crate::topology::Topology;

/// Where `key` goes with the servers of `ring`, where it is at home, and why.
pub(crate) fn answer(pool: &Pool, ring: &Ring, whole: &Ring, key: &[u8]) -> Value {
    let why = ring.explain(key);
    let by = |id: ServerId| pool.servers.iter().find(|server| server.id == id);
    let server = why.server.and_then(by);
    let home = whole.explain(key).server.and_then(by);
    json!({
        "key": String::from_utf8_lossy(key),
        "pool": pool.name,
        "hash": pool.hash.name(),
        "hash_value": why.hash,
        "hashed": String::from_utf8_lossy(&key[why.hashed.clone()]),
        "tagged": pool.hash_tag.is_some() && why.hashed != (0..key.len()),
        "distribution": pool.distribution.name(),
        "point": why.point,
        "server": server.map(|server| &server.name),
        "address": server.map(|server| server.address.to_string()),
        "position": server.map(|server| server.position),
        "home": home.map(|server| &server.name),
    })
}

/// The answer to `/route`: the same for this moment. `server` is where a request for the key goes; where it would go to
/// none, `instead` is what answers it.
pub(super) fn live(query: &Query, topology: &Topology) -> Result<Value, Refusal> {
    let (id, pool) = query.pool(&topology.config)?;
    let Some(key) = query.bytes("key").filter(|key| !key.is_empty()) else {
        return Err(Refusal::bad("say which key: `key=`, with %XX for bytes that an address cannot hold".to_owned()));
    };
    let live = topology.registry.live(id);
    let whole = &topology.pool(id).home;
    let home = whole.explain(key).server;
    let state = home.map(|home| topology.registry.state(id, home));
    // With `hold` its keys stay a server's own, and while it is out nobody gets them.
    let is_missed = pool.on_eject == OnEject::Hold && state.is_some_and(|state| !matches!(state, State::Up { .. }));
    let ring = match pool.on_eject {
        OnEject::Hold if is_missed => Ring::new(pool, &vec![false; live.len()]),
        OnEject::Hold => whole.clone(),
        OnEject::Rehash => topology.pool(id).ring(&live),
    };
    let goes = ring.route(key, 0);
    let mut answer = answer(pool, &ring, whole, key);
    answer["home_address"] = home.map(|home| topology.pool(id).server(home).address.to_string()).into();
    answer["home_state"] = state.map(State::name).into();
    answer["instead"] = goes.is_none().then(|| pool.on_failure.name()).into();
    if ring.is_random() {
        let names = pool.servers.iter().filter(|server| live[server.id.index()]).map(|server| server.name.clone());
        answer["any_of"] = names.collect();
    }
    Ok(answer)
}
