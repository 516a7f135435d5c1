//! What the operator does through the admin port: who may, what it changes, and that it costs no request that was sent
//! before.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::support::bad::{Scripted, value_of};
use super::support::client::Client;
use super::support::http::{Answer, ask, get, post};
use super::support::process::{Process, Proxy, free_port};
use super::support::{scattered_key, wait_until};

const SOON: Duration = Duration::from_secs(5);

/// A proxy with an admin port, of one pool named `cache` with servers `node-0` and so on.
struct Operated {
    proxy: Proxy,
    admin: SocketAddr,
}

impl Operated {
    fn start(servers: &[SocketAddr], settings: &str, more: &[&str]) -> Self {
        let (port, admin) = (free_port(), SocketAddr::from(([127, 0, 0, 1], free_port())));
        let mut file = format!("softmiss:\n  admin: {admin}\n{settings}cache:\n  listen: 127.0.0.1:{port}\n");
        file.push_str("  auto_eject_hosts: true\n  server_failure_limit: 2\n");
        if !more.iter().any(|line| line.starts_with("timeout")) {
            file.push_str("  timeout: 400\n  server_retry_timeout: 500\n");
        }
        more.iter().for_each(|line| file.push_str(&format!("  {line}\n")));
        file.push_str("  servers:\n");
        for (number, server) in servers.iter().enumerate() {
            file.push_str(&format!("    - {server}:1 node-{number}\n"));
        }
        let proxy = Proxy::with_file(&file, port).expect_log("by the operator");
        wait_until("the admin port", SOON, || std::net::TcpStream::connect(admin).is_ok());
        Self { proxy, admin }
    }

    /// Before so many memcacheds.
    fn before(count: usize, more: &[&str]) -> (Vec<Process>, Self) {
        let servers: Vec<_> = (0..count).map(|_| Process::memcached()).collect();
        let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
        let operated = Self::start(&addresses, "", more);
        (servers, operated)
    }

    fn get(&self, path: &str) -> Answer {
        get(self.admin, path)
    }

    /// Something that is done.
    fn does(&self, path: &str) -> Value {
        let answer = post(self.admin, path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    fn server(&self, number: usize) -> Value {
        self.get("/servers").json()["pools"][0]["servers"][number].clone()
    }

    fn wait_for_state(&self, number: usize, state: &str) {
        wait_until(&format!("node-{number} to be {state}"), SOON, || self.server(number)["state"] == state);
    }

    /// Keys of which `node-0` is the home.
    fn keys_of_node_0(&self) -> impl Iterator<Item = String> + use<'_> {
        (0..).map(scattered_key).filter(|key| self.get(&format!("/route?key={key}")).json()["home"] == "node-0")
    }
}

fn value(client: &mut Client, key: &str) -> Option<String> {
    (client.ask(format!("get {key}\r\n")) != "END").then(|| {
        let value = client.line();
        assert_eq!(client.line(), "END");
        value
    })
}

#[test]
fn an_ejected_server_stays_out_until_it_is_let_back() {
    let (_servers, operated) = Operated::before(2, &[]);
    let mut client = operated.proxy.client();
    let key = operated.keys_of_node_0().next().expect("a key");
    assert_eq!(client.ask(format!("set {key} 0 0 5\r\nfirst\r\n")), "STORED");

    let did = operated.does("/servers/eject?pool=cache&server=node-0");
    assert_eq!((&did["state"], &did["changed"]), (&"ejected".into(), &true.into()), "{did}");
    assert_eq!(value(&mut client, &key), None, "another server is asked");
    assert_eq!(operated.does("/servers/eject?server=node-0")["changed"], false);
    let server = operated.server(0);
    assert_eq!((&server["state"], &server["held"]), (&"ejected".into(), &true.into()), "{server}");
    assert_eq!((&server["reason"], &server["draining"]), (&"by the operator".into(), &false.into()), "{server}");
    assert!(server["next_probe_ms"].is_null() && server["up_for_s"].is_null(), "{server}");
    let route = operated.get(&format!("/route?key={key}")).json();
    assert_eq!((&route["home"], &route["server"]), (&"node-0".into(), &"node-1".into()), "{route}");
    // Longer than any probe would take.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(operated.server(0)["state"], "ejected");
    assert_eq!(operated.proxy.statistics()["cache"]["node-0"]["probes"], 0);

    let did = operated.does("/servers/restore?pool=cache&server=node-0");
    assert_eq!(did["changed"], true, "{did}");
    operated.wait_for_state(0, "up");
    assert_eq!(value(&mut client, &key).as_deref(), Some("first"));
    assert_eq!(operated.does("/servers/restore?server=node-0")["changed"], false);
    assert!(operated.server(0)["up_for_s"].as_f64().is_some_and(|up| up < 5.0));

    let log = operated.proxy.log();
    let told = |text: &str| log.iter().filter(|line| line.contains(text) && line.contains("by=\"127.0.0.1\"")).count();
    assert_eq!((told("server ejected by the operator"), told("server let back by the operator")), (1, 1), "{log:?}");
    let events = operated.get("/servers").json()["events"].to_string();
    assert!(
        events.contains("taken out of service by the operator (127.0.0.1)") && events.contains("let back by"),
        "{events}"
    );
    assert!(events.contains("back in service after"), "{events}");
}

#[test]
fn a_server_that_failed_is_probed_when_the_operator_says_so() {
    let (mut servers, operated) = Operated::before(2, &[]);
    let operated = Operated { proxy: operated.proxy.expect_log("server ejected"), ..operated };
    let port = servers[0].address.port();
    let key = operated.keys_of_node_0().next().expect("a key");
    let mut client = operated.proxy.client();
    servers[0].kill();
    wait_until("its ejection", SOON, || {
        value(&mut client, &key);
        operated.server(0)["state"] != "up"
    });
    operated.does("/servers/eject?server=node-0");
    assert_eq!(operated.server(0)["reason"], "by the operator");
    let _back = Process::memcached_on(port);
    operated.does("/servers/restore?server=node-0");
    operated.wait_for_state(0, "up");
    let failure = &operated.server(0)["last_failure"];
    assert!(
        failure["reason"].is_string() && failure["ago_ms"].is_u64(),
        "it is told of a server that is up: {failure}"
    );
}

#[test]
fn the_last_server_goes_only_by_force() {
    let (_servers, operated) = Operated::before(2, &[]);
    operated.does("/servers/drain?server=node-1");
    for way in ["eject", "drain"] {
        let refused = post(operated.admin, &format!("/servers/{way}?server=node-0"));
        assert_eq!(refused.status, 409, "{refused:?}");
        assert!(refused.body.contains("node-0 is the last server") && refused.body.contains("force=1"), "{refused:?}");
    }
    assert_eq!(operated.server(0)["state"], "up");
    operated.does("/servers/eject?server=node-0&force=1");
    let readiness = operated.get("/readyz");
    assert_eq!(readiness.status, 200, "it is there to answer misses");
    assert!(readiness.body.contains("pool cache: no server in the ring, on_failure: miss\n"), "{readiness:?}");
    assert!(readiness.body.contains("s: by the operator\n"), "{readiness:?}");
    let mut client = operated.proxy.client();
    assert_eq!(client.ask("get a\r\n"), "END");
}

#[test]
fn a_drained_server_answers_what_it_was_asked_and_gets_nothing_more() {
    // Answers late, so that requests are in flight.
    let slow = Scripted::answering(|line| {
        std::thread::sleep(Duration::from_millis(if line.starts_with(b"get") { 400 } else { 0 }));
        if line.starts_with(b"get") { value_of(line, "late") } else { b"VERSION 1\r\n".to_vec() }
    });
    let other = Process::memcached();
    let operated =
        Operated::start(&[slow.address, other.address], "  workers: 2\n", &["timeout: 3000", "stall_detection: false"]);
    let key = operated.keys_of_node_0().next().expect("a key");
    let mut clients: Vec<_> = (0..4).map(|_| operated.proxy.client()).collect();
    clients.iter_mut().for_each(|client| client.send(format!("get {key}\r\n")));
    wait_until("the requests in flight", SOON, || operated.server(0)["in_flight"] == 4);
    operated.does("/servers/drain?server=node-0");
    let mut late_comer = operated.proxy.client();
    assert_eq!(late_comer.ask(format!("get {key}\r\n")), "END", "the other server is asked");
    let server = operated.server(0);
    assert_eq!((&server["state"], &server["draining"]), (&"draining".into(), &true.into()), "{server}");
    for client in &mut clients {
        let answer = String::from_utf8(client.read_through(b"END\r\n")).expect("text");
        assert_eq!(answer, format!("VALUE {key} 0 4\r\nlate\r\nEND\r\n"), "it is answered, by the server itself");
    }
    wait_until("nothing in flight", SOON, || operated.server(0)["in_flight"] == 0);
    operated.does("/servers/restore?server=node-0");
    operated.wait_for_state(0, "up");
}

#[test]
fn ejecting_answers_what_is_in_flight_in_the_servers_place() {
    let silent = Scripted::silent();
    let other = Process::memcached();
    let operated = Operated::start(&[silent.address, other.address], "", &["timeout: 30000", "stall_detection: false"]);
    let key = operated.keys_of_node_0().next().expect("a key");
    let mut client = operated.proxy.client();
    client.send(format!("get {key}\r\n"));
    wait_until("the request in flight", SOON, || operated.server(0)["in_flight"] == 1);
    operated.does("/servers/drain?server=node-0");
    assert_eq!(operated.server(0)["in_flight"], 1);
    operated.does("/servers/eject?server=node-0");
    assert_eq!(client.line(), "END");
}

/// A refusal would say that it was not sent, and may be sent once more.
#[test]
fn who_is_told_of_a_failure_is_not_told_that_what_was_sent_is_refused() {
    let silent = Scripted::silent();
    for (more, ask, right) in [
        (&["redis: true"][..], "LPUSH k v\r\n", "-ERR Connection closed by server"),
        (&[], "delete k\r\n", "SERVER_ERROR Connection closed by server"),
    ] {
        let settings = [more, &["timeout: 30000", "stall_detection: false", "on_failure: error"]].concat();
        let operated = Operated::start(&[silent.address], "", &settings);
        let mut client = operated.proxy.client();
        client.send(ask);
        wait_until("the request in flight", SOON, || operated.server(0)["in_flight"] == 1);
        operated.does("/servers/eject?server=node-0&force=1");
        assert_eq!(client.line(), right, "{ask}");
        client.send(ask);
        assert!(client.line().ends_with("Connection refused"), "{ask}: it is not sent");
    }
}

#[test]
fn a_held_server_that_does_not_answer_does_not_come_back() {
    let (mut servers, operated) = Operated::before(2, &[]);
    operated.does("/servers/eject?server=node-0");
    servers[0].kill();
    operated.does("/servers/restore?server=node-0");
    wait_until("a second probe", SOON, || operated.proxy.statistics()["cache"]["node-0"]["probes"] != 1);
    assert_ne!(operated.server(0)["state"], "up");
    let _back = Process::memcached_on(servers[0].address.port());
    operated.wait_for_state(0, "up");
}

#[test]
fn flush_all_empties_every_server_and_those_that_are_out_before_they_are_back() {
    let (servers, operated) = Operated::before(3, &[]);
    let mut client = operated.proxy.client();
    let keys: Vec<_> = (0..100).map(scattered_key).collect();
    keys.iter().for_each(|key| assert_eq!(client.ask(format!("set {key} 0 0 1\r\nx\r\n")), "STORED"));
    operated.does("/servers/eject?server=node-0");
    let did = operated.does("/flush_all?pool=cache");
    assert_eq!((&did["flushed"], &did["not_flushed"]), (&2.into(), &1.into()), "{did}");
    let said: Vec<_> = did["servers"].as_array().expect("a list").iter().map(|server| &server["said"]).collect();
    assert!(said[0].as_str().is_some_and(|said| said.contains("out of the ring")), "{did}");
    assert_eq!(said[1..], [&"OK", &"OK"], "{did}");
    let items = |server: &Process| {
        let mut client = server.client();
        keys.iter().filter(|key| client.ask(format!("mg {key}\r\n")) == "HD").count()
    };
    assert!(items(&servers[0]) > 10);
    assert_eq!((items(&servers[1]), items(&servers[2])), (0, 0));
    operated.does("/servers/restore?server=node-0");
    operated.wait_for_state(0, "up");
    assert_eq!(items(&servers[0]), 0);
    assert!(operated.get("/servers").json()["events"].to_string().contains("flushed by the operator"));
}

#[test]
fn a_server_that_refuses_to_be_flushed_is_told() {
    let forbids = Process::memcached_with(free_port(), &["-F"], Stdio::null());
    let operated = Operated::start(&[forbids.address], "", &[]);
    let answer = post(operated.admin, "/flush_all");
    assert_eq!(answer.status, 502, "{answer:?}");
    let server = &answer.json()["servers"][0];
    assert!(server["said"].as_str().is_some_and(|said| said.contains("not allowed")), "{server}");
}

#[test]
fn a_route_is_where_the_key_really_is() {
    let (servers, operated) = Operated::before(3, &["hash_tag: '{}'"]);
    let mut client = operated.proxy.client();
    for key in ["a+b/c?d=%&e", "umlaut-\u{e4}", "{tag}:one", "plain"] {
        assert_eq!(client.ask(format!("set {key} 0 0 1\r\nx\r\n")), "STORED");
        let encoded: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let route = operated.get(&format!("/route?pool=cache&key={encoded}")).json();
        assert_eq!(route["key"], key);
        assert_eq!(route["tagged"], key.starts_with('{'));
        assert_eq!((&route["server"], &route["home_state"]), (&route["home"], &"up".into()), "{route}");
        let holder = servers.iter().find(|server| server.client().ask(format!("mg {key}\r\n")) == "HD");
        assert_eq!(route["address"], holder.expect("a server").address.to_string());
        let mut told = Command::new(env!("CARGO_BIN_EXE_softmiss"));
        let told = told.arg("route").arg("-c").arg(&operated.proxy.file).args(["--json", key]).output().expect("route");
        let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
        for (field, value) in told.as_object().expect("an object") {
            assert_eq!(route[field], *value, "{field}");
        }
    }
    assert_eq!(operated.get("/route?key=a+b").json()["key"], "a+b");
}

#[test]
fn with_hold_a_key_of_a_server_that_is_out_goes_nowhere() {
    let (_servers, operated) = Operated::before(2, &["on_eject: hold"]);
    let key = operated.keys_of_node_0().next().expect("a key");
    operated.does("/servers/eject?server=node-0");
    let route = operated.get(&format!("/route?key={key}")).json();
    assert_eq!((&route["home"], &route["home_state"]), (&"node-0".into(), &"ejected".into()), "{route}");
    assert_eq!((&route["server"], &route["instead"]), (&Value::Null, &"miss".into()), "{route}");
}

#[test]
fn what_cannot_be_done_is_told_with_what_can() {
    let (_servers, operated) = Operated::before(2, &[]);
    let file = std::fs::read_to_string(&operated.proxy.file).expect("the file");
    let (port, admin) = (free_port(), SocketAddr::from(([127, 0, 0, 1], free_port())));
    let redis = "sessions:\n  redis: true\n  timeout: 400\n  listen: 127.0.0.1:1\n  servers: ['127.0.0.1:2:1 r']\n";
    let file = file.replace(&operated.admin.to_string(), &admin.to_string());
    let file = file.replace(&operated.proxy.address.to_string(), &format!("127.0.0.1:{port}"));
    let redis = redis.replace("127.0.0.1:1\n", &format!("127.0.0.1:{}\n", free_port()));
    let _two_pools = Proxy::with_file(&format!("{file}{redis}"), port);
    wait_until("the admin port", SOON, || std::net::TcpStream::connect(admin).is_ok());
    for (method, path, status, told) in [
        ("GET", "/route?key=a", 400, "cache, sessions"),
        ("GET", "/route?pool=cahce&key=a", 404, "there is no pool `cahce`; there are: cache, sessions"),
        ("GET", "/route?pool=cache", 400, "say which key"),
        ("GET", "/route?pool=cache&key=%4", 400, "two hexadecimal digits"),
        ("GET", "/route?pool=cache&kye=a", 400, "`kye` is not a parameter"),
        ("POST", "/servers/eject?pool=cache", 400, "node-0, node-1"),
        ("POST", "/servers/eject?pool=cache&server=node-7", 404, "there are: node-0, node-1"),
        ("POST", "/servers/eject?pool=cache&server=node-0&force=maybe", 400, "`force` is 1 or 0"),
        ("POST", "/servers/eject?pool=cache&server=node-0&server=node-1", 400, "given twice"),
        ("POST", "/flush_all?pool=sessions", 400, "speaks Redis"),
        ("POST", "/log?level=loud", 400, "error, warn, info, debug, trace"),
        ("GET", "/servers/eject?pool=cache&server=node-0", 405, "is for POST"),
        ("GET", "/flush_all?pool=cache", 405, "is for POST"),
        ("POST", "/servers", 405, "is for GET, HEAD"),
        ("DELETE", "/log", 405, "is for POST"),
        ("POST", "/servers/restart", 404, "POST /servers/restore?pool=&server="),
    ] {
        let answer = ask(admin, method, path, &[]);
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert!(answer.body.contains(told), "{method} {path}: {answer:?}");
        let allow = answer.head.lines().find_map(|line| line.to_lowercase().strip_prefix("allow: ").map(str::to_owned));
        let expected = told.strip_prefix("is for ").map(str::to_lowercase);
        assert_eq!(allow, expected, "{method} {path}");
    }
    let states = get(admin, "/servers").json();
    assert!(states["pools"][0]["servers"].as_array().expect("servers").iter().all(|server| server["state"] == "up"));
}

#[test]
fn a_browser_on_this_host_is_no_way_in() {
    let (_servers, operated) = Operated::before(2, &[]);
    let eject = |headers: &[&str]| ask(operated.admin, "POST", "/servers/eject?server=node-0", headers);
    let own = format!("Origin: http://{}", operated.admin);
    for headers in [
        &["Origin: http://evil.example"][..],
        &["Origin: null"],
        &["Origin: http://127.0.0.1:3000"],
        &["Host: evil.example"],
        &["Host: evil.example", "Origin: http://evil.example"],
        &["Sec-Fetch-Site: cross-site"],
    ] {
        let answer = eject(headers);
        assert_eq!(answer.status, 403, "{headers:?}: {answer:?}");
    }
    assert_eq!(operated.server(0)["state"], "up");
    assert_eq!(eject(&[&own]).status, 200);
}

#[test]
fn with_a_token_nothing_is_changed_without_it() {
    let servers = [Process::memcached(), Process::memcached()];
    let addresses = [servers[0].address, servers[1].address];
    let operated = Operated::start(&addresses, "  admin_token: correct-horse-battery\n", &[]);
    let eject = |headers: &[&str]| ask(operated.admin, "POST", "/servers/eject?server=node-0", headers);
    let answer = eject(&[]);
    assert_eq!(answer.status, 401);
    assert!(answer.head.to_lowercase().contains("www-authenticate: bearer"), "{answer:?}");
    assert!(answer.body.contains("admin_token") && !answer.body.contains("horse"), "{answer:?}");
    assert_eq!(eject(&["Authorization: Bearer correct-horse-batterz"]).status, 401);
    assert_eq!(operated.server(0)["state"], "up", "to look needs no token");
    assert_eq!(eject(&["Host: cache-host", "Authorization: Bearer correct-horse-battery"]).status, 200);
    assert_eq!(operated.server(0)["state"], "ejected");
}

#[test]
fn the_configuration_is_shown_without_its_secrets_and_can_be_used() {
    let server = Process::memcached();
    let operated = Operated::start(&[server.address], "  admin_token: correct-horse-battery\n", &["failover_ttl: 1m"]);
    let text = operated.get("/config").body;
    assert!(text.contains("failover_ttl: 60s") && text.contains("backlog: 512"), "{text}");
    assert!(text.contains("admin_token: \"***\"") && !text.contains("horse"), "{text}");
    let file = operated.proxy.file.with_file_name("shown.yml");
    std::fs::write(&file, text.replace("\"***\"", "another-secret-word")).expect("write");
    let checked = Command::new(env!("CARGO_BIN_EXE_softmiss")).arg("check").arg(&file).output().expect("check");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn pools_are_told_with_what_is_in_force() {
    let (_servers, operated) = Operated::before(2, &["on_eject: hold"]);
    let mut client = operated.proxy.client();
    client.ask("set a 0 0 1\r\nx\r\n");
    value(&mut client, "a");
    value(&mut client, "b");
    operated.does("/servers/drain?server=node-1");
    let pools = operated.get("/pools").json();
    let pool = &pools[0];
    assert_eq!((&pool["name"], &pool["protocol"]), (&"cache".into(), &"memcached".into()), "{pool}");
    assert_eq!(pool["servers"], serde_json::json!(["node-0", "node-1"]));
    let ring = serde_json::json!({"servers": 2, "up": 1, "out": ["node-1"], "ready": true});
    assert_eq!(pool["ring"], ring);
    assert_eq!((&pool["settings"]["timeout_ms"], &pool["settings"]["on_eject"]), (&400.into(), &"hold".into()));
    assert_eq!((&pool["sums"]["requests"], &pool["sums"]["hits"]), (&3.into(), &1.into()), "{pool}");
    assert_eq!(operated.get("/servers").json()["pools"][0]["on_eject"], "hold");
}
