//! Tests of settings that change while clients are served.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::{self, model::Config};
use crate::engine::ids::SessionId;
use crate::engine::{Scripts, Setup};
use crate::topology::Published;

const NOW: Instant = Instant::from_nanos(1_000_000_000);

fn with_limit(megabytes: usize) -> Config {
    let pool = "pool:\n  listen: 127.0.0.1:1\n  timeout: 400\n  servers: ['10.0.0.1:1:1']\n";
    config::parse("file", &format!("softmiss:\n  memory_limit: {megabytes}mb\n{pool}")).expect("a good file").config
}

/// An engine of 512 MB that is left 16 when `ask` has had clients send something. What `ask` returned.
fn lowered<A>(ask: impl FnOnce(&mut Engine) -> A) -> (Engine, A) {
    let published = Arc::new(Published::new(with_limit(512), 1));
    let (scripts, started_at) = (Scripts::default(), Duration::ZERO);
    let mut engine = Engine::new(Setup { published: Arc::clone(&published), worker: 0, seed: 1, started_at, scripts });
    let asked = ask(&mut engine);
    published.publish(&with_limit(16), NOW).expect("there are ids");
    engine.refresh(NOW);
    engine.handle_timeout(NOW + Duration::from_millis(1));
    engine.check_invariants().expect("all is in order");
    (engine, asked)
}

/// A client that has sent so many bytes of a value.
fn sender(engine: &mut Engine, bytes: usize) -> SessionId {
    let client = engine.client_connected(PoolId(0));
    engine.client_data(client, &[b"set k 0 0 3000000\r\n".as_slice(), &vec![b'v'; bytes]].concat(), NOW);
    client
}

#[test]
fn whoever_holds_much_is_judged_by_a_lower_limit() {
    let is_hoarder = |engine: &Engine, client| engine.session_ref(client).expect("a client").holding.is_hoarder();
    let (engine, client) = lowered(|engine| {
        let client = sender(engine, 100_000);
        assert!(!is_hoarder(engine, client));
        client
    });
    assert!(is_hoarder(&engine, client), "100 KB are more than its share of 16 MB");
}

/// The others would find no room until each has had its time.
#[test]
fn whoever_holds_most_goes_where_a_lower_limit_has_no_room_for_it() {
    let (engine, clients) = lowered(|engine| {
        let clients: Vec<_> = (1..=40).map(|number| sender(engine, number * 50_000)).collect();
        assert!(engine.memory() > 30 << 20);
        clients
    });
    assert!(engine.memory() <= 16 << 20, "{}", engine.memory());
    let is_there = |client: &SessionId| !engine.session_ref(*client).expect("a client").is_closing();
    assert!(clients[..20].iter().all(is_there), "who holds less stays");
    assert!(!is_there(&clients[39]));
}
