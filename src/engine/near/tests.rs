//! What happens between the question for a value and its answer.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, model::Config, model::PoolId};
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::{Effect, Engine, Scripts, Setup};
use crate::failure::Failure;
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

/// An engine, and servers that answer what they are told to.
struct Rig {
    engine: Engine,
    links: Vec<(LinkId, u32)>,
    /// Nobody gets through to these.
    dead: Vec<usize>,
    now: Instant,
}

impl Rig {
    fn new(options: &str) -> Self {
        let file = format!("pool:\n  listen: 127.0.0.1:1\n  {options}\n");
        let config = config::parse("file", &file).expect("a good file").config;
        let published = Arc::new(Published::new(config, 1));
        let (scripts, started_at) = (Scripts::default(), Duration::ZERO);
        let engine = Engine::new(Setup { published, worker: 0, seed: 1, started_at, scripts });
        Self { engine, links: Vec::new(), dead: Vec::new(), now: at(1) }
    }

    fn server_of(&self, link: LinkId) -> usize {
        self.engine.link_server(link).1.index()
    }

    fn links_to(&self, server: usize) -> Vec<(LinkId, u32)> {
        self.links.iter().copied().filter(|(link, _)| self.server_of(*link) == server).collect()
    }

    /// Lets time pass, in which connections come and go.
    fn pass(&mut self, millis: u64) {
        for _ in 0..millis {
            self.now = self.now + Duration::from_millis(1);
            self.engine.handle_timeout(self.now);
            while let Some(effect) = self.engine.poll_effect() {
                if let Effect::Connect { link, epoch } = effect {
                    if self.dead.contains(&self.server_of(link)) {
                        self.engine.link_failed(link, epoch, Failure::Refused, self.now);
                    } else {
                        self.engine.link_connected(link, epoch, self.now);
                        self.links.push((link, epoch));
                    }
                } else if let Effect::Disconnect { link, .. } = effect {
                    self.links.retain(|(known, _)| *known != link);
                }
            }
        }
        self.engine.check_invariants().expect("all is in order");
    }

    /// A server is gone, with all connections to it.
    fn dies(&mut self, server: usize) {
        self.dead.push(server);
        for (link, epoch) in self.links_to(server) {
            self.links.retain(|(known, _)| *known != link);
            self.engine.link_failed(link, epoch, Failure::Closed, self.now);
        }
    }

    /// A server is asked this, and answers that.
    fn answers(&mut self, server: usize, asked: &str, answer: &str) {
        self.pass(1);
        let mut heard = String::new();
        for (link, epoch) in self.links_to(server) {
            let output = self.engine.link_output(link, epoch).to_vec();
            if !output.is_empty() {
                self.engine.link_wrote(link, epoch, output.len(), self.now);
                heard.push_str(&String::from_utf8(output).expect("text"));
                self.engine.link_data(link, epoch, answer.as_bytes(), self.now, &mut ());
            }
        }
        assert_eq!(heard, asked);
    }

    /// What a client is told.
    fn told(&mut self, client: SessionId) -> String {
        self.pass(1);
        let output = self.engine.client_output(client).to_vec();
        self.engine.client_wrote(client, output.len(), self.now);
        String::from_utf8(output).expect("text")
    }

    fn asks(&mut self, client: SessionId, request: &str) {
        self.engine.client_data(client, request.as_bytes(), self.now);
    }
}

#[test]
fn what_a_client_stores_does_not_stand_in_for_what_it_asked_before() {
    let mut rig = Rig::new(
        "timeout: 400\n  auto_eject_hosts: true\n  server_failure_limit: 1\n  server_retry_timeout: 100\n  rejoin: keep\n  \
         near_cache: {ttl: 1m, stale_on_error: 5m}\n  servers: ['10.0.0.1:1:1', '10.0.0.2:1:1', '10.0.0.3:1:1']",
    );
    let pool = rig.engine.topology().pool(PoolId(0));
    let key_of = |server: usize, end: char| {
        let mut names = (0..100).map(|number| format!("{number}{end}"));
        names.find(|name| pool.home.route(name.as_bytes(), 0).expect("a server").index() == server).expect("a key")
    };
    let (key, others) = (key_of(0, 'k'), [(2, key_of(2, 'x')), (0, key_of(0, 'x'))]);
    let (client, another) = (rig.engine.client_connected(PoolId(0)), rig.engine.client_connected(PoolId(0)));
    // The third server stays out, so that something may stand in; the first one comes back.
    for (server, other) in others {
        rig.dies(server);
        rig.asks(another, &format!("get {other}\r\n"));
        assert_eq!(rig.told(another), "END\r\n");
    }
    // The second one is slow.
    rig.asks(client, &format!("get {key}\r\n"));
    rig.pass(1);
    rig.dead.retain(|server| *server != 0);
    rig.pass(150);
    rig.answers(0, "version\r\n", "VERSION 1.6.0\r\n");
    rig.asks(client, &format!("set {key} 0 0 3\r\nnew\r\n"));
    rig.answers(0, &format!("set {key} 0 0 3\r\nnew\r\n"), "STORED\r\n");
    let (value, kept) = (format!("VALUE {key} 0 3\r\nnew\r\nEND\r\n"), format!("VA 3 k{key} f0 t-1\r\nnew\r\n"));
    rig.asks(another, &format!("get {key}\r\n"));
    rig.answers(0, &format!("get {key}\r\nmg {key} k v f t\r\n"), &(value + &kept));
    assert_eq!(rig.told(client), "", "what it has asked first is not answered");
    rig.answers(1, &format!("get {key}\r\n"), "END\r\n");
    assert_eq!(rig.told(client), "END\r\nSTORED\r\n");
}

#[test]
fn what_was_read_while_a_change_was_on_its_way_is_not_given_when_that_is_told_to_be_done() {
    for (change, told) in [("flush_all", "OK"), ("delete k", "NOT_FOUND"), ("gat 1 k", "END")] {
        is_not_given_behind(change, told, false);
    }
    for (change, told) in [("flush_all", "OK"), ("delete k", "DELETED"), ("gat 1 k", "END")] {
        is_not_given_behind(change, told, true);
    }
}

/// A change is answered by the server, or in its place, as its time is up.
fn is_not_given_behind(change: &str, told: &str, is_answered: bool) {
    let change = format!("{change}\r\n");
    let mut rig =
        Rig::new("timeout: 400\n  server_connections: 2\n  near_cache: {ttl: 1m}\n  servers: ['10.0.0.1:1:1']");
    let (client, another) = (rig.engine.client_connected(PoolId(0)), rig.engine.client_connected(PoolId(0)));
    let value = "VALUE k 0 3\r\nold\r\nEND\r\n";
    rig.asks(another, "get k\r\n");
    rig.answers(0, "get k\r\n", value);
    assert_eq!(rig.told(another), value);
    // The connection on which values are fetched is busy, so another one is opened, and the server takes its time there.
    rig.asks(another, &"delete x\r\n".repeat(3));
    rig.answers(0, &"delete x\r\n".repeat(3), "");
    rig.asks(client, &change);
    rig.answers(0, &change, "");
    let (link, epoch) = rig.links[0];
    rig.engine.link_data(link, epoch, "NOT_FOUND\r\n".repeat(3).as_bytes(), rig.now, &mut ());
    assert_eq!(rig.told(another), "NOT_FOUND\r\n".repeat(3));
    rig.asks(another, "get k\r\n");
    rig.answers(0, "get k\r\nmg k k v f t\r\n", &(value.to_owned() + "VA 3 kk f0 t-1\r\nold\r\n"));
    assert_eq!(rig.told(another), value);
    rig.asks(another, "get k\r\n");
    assert_eq!(rig.told(another), value, "it is kept");
    if is_answered {
        let (link, epoch) = rig.links[1];
        rig.engine.link_data(link, epoch, format!("{told}\r\n").as_bytes(), rig.now, &mut ());
    } else {
        rig.pass(400);
    }
    assert_eq!(rig.told(client), format!("{told}\r\n"));
    rig.asks(another, "get k\r\n");
    assert_eq!(rig.told(another), "", "it is asked for");
}
