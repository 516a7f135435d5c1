//! What happens between the question for a value and its answer.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, model::Config, model::PoolId};
use crate::engine::ids::LinkId;
use crate::engine::{Effect, Engine, Scripts, Setup};
use crate::time::Instant;
use crate::topology::Published;

fn config(ttl: &str) -> Config {
    let file = format!(
        "pool:\n  listen: 127.0.0.1:1\n  timeout: 400\n  server_connections: 2\n  near_cache: {{ttl: {ttl}}}\n  \
         servers: ['10.0.0.1:1:1']\n"
    );
    config::parse("file", &file).expect("a good file").config
}

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

/// Opens what is to be opened, and takes what is to be written: on each connection, in the order in which they were opened.
fn turn(engine: &mut Engine, links: &mut Vec<(LinkId, u32)>, now: Instant) -> Vec<String> {
    while let Some(effect) = engine.poll_effect() {
        if let Effect::Connect { link, epoch } = effect {
            engine.link_connected(link, epoch, now);
            links.push((link, epoch));
        }
    }
    engine.check_invariants().expect("all is in order");
    let mut written = Vec::new();
    for (link, epoch) in links.iter() {
        let output = engine.link_output(*link, *epoch).to_vec();
        engine.link_wrote(*link, *epoch, output.len(), now);
        written.push(String::from_utf8(output).expect("text"));
    }
    written
}

#[test]
fn what_was_asked_for_under_other_options_is_not_given_out_under_these() {
    let published = Arc::new(Published::new(config("1m"), 1));
    let (scripts, started_at) = (Scripts::default(), Duration::ZERO);
    let mut engine = Engine::new(Setup { published: Arc::clone(&published), worker: 0, seed: 1, started_at, scripts });
    let (mut links, old) = (Vec::new(), b"VALUE k 0 3\r\nold\r\nEND\r\n");
    let (reader, writer) = (engine.client_connected(PoolId(0)), engine.client_connected(PoolId(0)));
    engine.client_data(reader, b"get k\r\n", at(1));
    assert_eq!(turn(&mut engine, &mut links, at(1)), ["get k\r\n"]);
    engine.link_data(links[0].0, links[0].1, old, at(2), &mut ());
    // It is fetched now. Before the answer comes, somebody else changes it on another connection, and is told so.
    engine.client_data(reader, b"get k\r\ndelete x\r\ndelete y\r\n", at(3));
    assert_eq!(turn(&mut engine, &mut links, at(3)), ["get k\r\nmg k k v f t\r\ndelete x\r\ndelete y\r\n"]);
    engine.client_data(writer, b"set k 0 0 3\r\nnew\r\n", at(4));
    assert_eq!(turn(&mut engine, &mut links, at(4)), ["", "set k 0 0 3\r\nnew\r\n"]);
    engine.link_data(links[1].0, links[1].1, b"STORED\r\n", at(5), &mut ());
    // With another `ttl` nothing is known of the changes before.
    published.publish(&config("2m"), at(6)).expect("there are ids");
    engine.refresh(at(6));
    let rest = [&old[..], b"VA 3 kk f0 t-1\r\nold\r\nNOT_FOUND\r\nNOT_FOUND\r\n"].concat();
    engine.link_data(links[0].0, links[0].1, &rest, at(7), &mut ());
    turn(&mut engine, &mut links, at(7));
    engine.client_data(reader, b"get k\r\n", at(8));
    assert!(turn(&mut engine, &mut links, at(8)).contains(&"get k\r\n".to_owned()), "it is asked for");
}
