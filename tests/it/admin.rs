//! The admin port and statsd: what the operator sees is what happened.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::support::http::{Answer, ask, get, post};
use super::support::process::{Process, Proxy, free_port};
use super::support::wait_until;

/// A proxy with an admin port, before these servers.
struct Watched {
    proxy: Proxy,
    admin: SocketAddr,
}

impl Watched {
    fn start(servers: &[&Process], settings: &str) -> Self {
        let (port, admin) = (free_port(), free_port());
        let mut file = format!("softmiss:\n  admin: 127.0.0.1:{admin}\n{settings}");
        file.push_str(&format!("cache:\n  listen: 127.0.0.1:{port}\n  timeout: 400\n  auto_eject_hosts: true\n"));
        file.push_str("  server_failure_limit: 2\n  server_retry_timeout: 500\n  servers:\n");
        for (number, server) in servers.iter().enumerate() {
            file.push_str(&format!("    - {}:1 node-{number}\n", server.address));
        }
        let proxy = Proxy::with_file(&file, port).expect_log("server ejected");
        let admin = SocketAddr::from(([127, 0, 0, 1], admin));
        Self { proxy, admin }
    }

    fn get(&self, path: &str) -> Answer {
        get(self.admin, path)
    }

    fn overview(&self) -> serde_json::Value {
        self.get("/servers").json()
    }

    /// Sets and gets many keys, some that are not there; returns the number of keys that were asked for.
    fn use_it(&self) -> u64 {
        let mut client = self.proxy.client();
        for number in 0..200 {
            client.ask(format!("set key:{number} 0 0 5\r\nvalue\r\n"));
        }
        for number in 0..300 {
            client.send(format!("get key:{number}\r\n"));
            client.read_through(b"END\r\n");
        }
        let keys: Vec<_> = (0..300).map(|number| format!("key:{number}")).collect();
        client.send(format!("get {}\r\n", keys.join(" ")));
        client.read_through(b"END\r\n");
        600
    }
}

/// The series of a scrape with their values, as Prometheus's own parser reads them.
fn parsed(text: &str) -> BTreeMap<String, f64> {
    let python = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    let script = "import sys, json\n\
        from prometheus_client.parser import text_string_to_metric_families as read\n\
        found = {}\n\
        for family in read(sys.stdin.read()):\n\
        \x20   assert family.documentation and family.type != 'unknown', family\n\
        \x20   for one in family.samples:\n\
        \x20       name = one.name + ''.join(sorted('{%s=%s}' % pair for pair in one.labels.items()))\n\
        \x20       assert name not in found, name\n\
        \x20       found[name] = one.value\n\
        json.dump(found, sys.stdout)\n";
    let mut child = Command::new(python)
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("python");
    child.stdin.take().expect("stdin").write_all(text.as_bytes()).expect("the text");
    let output = child.wait_with_output().expect("python");
    assert!(output.status.success(), "Prometheus's parser refuses the text");
    serde_json::from_slice(&output.stdout).expect("what was parsed")
}

#[test]
fn a_scrape_is_valid_and_adds_up() {
    let servers: Vec<_> = (0..2).map(|_| Process::memcached()).collect();
    let watched = Watched::start(&servers.iter().collect::<Vec<_>>(), "  workers: 2\n");
    let keys = watched.use_it();
    let series = parsed(&watched.get("/metrics").body);
    let value = |name: &str| *series.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", series.keys()));
    let of_servers = |name: &str| -> f64 {
        series
            .iter()
            .filter(|(series, _)| series.starts_with(&format!("softmiss_server_{name}{{")))
            .map(|(_, value)| value)
            .sum()
    };
    assert_eq!(value("softmiss_pool_requests_total{pool=cache}"), 501.0);
    assert_eq!(value("softmiss_pool_hits_total{pool=cache}"), 400.0);
    assert_eq!(value("softmiss_pool_misses_total{pool=cache}"), keys as f64 - 400.0);
    assert_eq!(of_servers("hits_total"), 400.0);
    assert_eq!(of_servers("misses_total"), keys as f64 - 400.0);
    assert_eq!(of_servers("requests_total"), of_servers("responses_total"));
    // Every request that went to a server has a latency, the multi-get once for all of its parts.
    assert_eq!(value("softmiss_pool_request_duration_seconds_count{pool=cache}"), 501.0);
    assert_eq!(value("softmiss_pool_request_duration_seconds_bucket{le=+Inf}{pool=cache}"), 501.0);
    assert_eq!(of_servers("response_duration_seconds_count"), of_servers("responses_total"));
    assert!(value("softmiss_pool_request_duration_seconds_sum{pool=cache}") > 0.0);
    // By how they ended, requests add up again.
    let of_pool = |name: &str| -> f64 {
        let start = format!("softmiss_pool_{name}");
        series.iter().filter(|(series, _)| series.starts_with(&start)).map(|(_, value)| value).sum()
    };
    assert_eq!(of_pool("outcomes_total{"), 501.0);
    assert_eq!(value("softmiss_pool_outcomes_total{class=get}{outcome=hit}{pool=cache}"), 200.0);
    assert_eq!(of_servers("outcomes_total"), of_servers("requests_total"));
    assert_eq!(value("softmiss_server_up{pool=cache}{server=node-0}"), 1.0);
    assert_eq!(value("softmiss_workers"), 2.0);
    let version = watched.overview()["config_version"].as_str().expect("a word").to_owned();
    assert_eq!(value(&format!("softmiss_config_info{{version={version}}}")), 1.0);
}

#[test]
fn a_server_that_fails_in_the_ring_is_told_with_its_reason_everywhere() {
    for policy in ["miss", "error"] {
        let mut server = Process::memcached();
        let (address, port, admin) = (server.address, free_port(), free_port());
        let file = format!(
            "softmiss:\n  admin: 127.0.0.1:{admin}\ncache:\n  listen: 127.0.0.1:{port}\n  timeout: 400\n  \
             on_failure: {policy}\n  servers: ['{address}:1 one']\n"
        );
        let proxy = Proxy::with_file(&file, port); // `auto_eject_hosts` is off
        let admin = SocketAddr::from(([127, 0, 0, 1], admin));
        wait_until("the admin port", Duration::from_secs(10), || TcpStream::connect(admin).is_ok());
        let mut client = proxy.client();
        client.ask("get k\r\n");
        assert_eq!(get(admin, "/readyz").body, "ready\n");
        server.kill();
        let told = |message: &str| proxy.log().into_iter().filter(|line| line.contains(message)).collect::<Vec<_>>();
        wait_until("a line that it fails", Duration::from_secs(10), || {
            client.ask("get k\r\n");
            get(admin, "/servers").json()["pools"][0]["servers"][0]["reason"] == "connection refused"
                && !told("server fails, and stays in the ring").is_empty()
        });
        let line = told("server fails, and stays in the ring").swap_remove(0);
        for part in
            ["WARN", "pool=\"cache\"", "server=\"one\"", &format!("address=\"{address}\""), "failures=2", "reason="]
        {
            assert!(line.contains(part), "{part}: {line}");
        }
        // A request is what finds it well, so requests must go on coming.
        let readiness = get(admin, "/readyz");
        assert_eq!(readiness.status, 200, "{policy}");
        let expected = format!(
            "ready\npool cache: every server fails, on_failure: {policy}\n  one ({address}): fails, in the ring, for "
        );
        assert!(readiness.body.starts_with(&expected), "{readiness:?}");
        assert!(readiness.body.ends_with("s: connection refused\n"), "{readiness:?}");
        let overview = get(admin, "/servers").json();
        let shown = &overview["pools"][0]["servers"][0];
        assert!(shown["failing_for_ms"].is_u64() && shown["state"] == "up", "{shown}");
        let text = overview["events"].to_string();
        assert!(text.contains("fails, in service all the same: "), "{text}");
        let top = Command::new(env!("CARGO_BIN_EXE_softmiss"))
            .args(["top", "--once", &admin.to_string()])
            .output()
            .expect("softmiss top");
        let top = String::from_utf8_lossy(&top.stdout).into_owned();
        let row = top.lines().find(|line| line.starts_with("one ")).expect("its line");
        assert!(row.contains("FAILING") && row.contains("since its last answer: connection refused"), "{top}");

        let _back = Process::memcached_on(address.port());
        wait_until("a line that it is well", Duration::from_secs(10), || {
            client.ask("get k\r\n");
            !told("server answers again").is_empty()
        });
        assert!(told("server answers again")[0].contains("failed_ms="));
        assert_eq!(get(admin, "/readyz").body, "ready\n");
        assert_eq!(told("server fails, and stays in the ring").len(), 1, "however many requests failed");
    }
}

#[test]
fn a_pool_that_tells_errors_is_not_ready_without_a_server_in_its_ring() {
    let mut server = Process::redis();
    let (address, port, admin) = (server.address, free_port(), free_port());
    let file = format!(
        "softmiss:\n  admin: 127.0.0.1:{admin}\nr:\n  listen: 127.0.0.1:{port}\n  redis: true\n  timeout: 400\n  \
         auto_eject_hosts: true\n  server_retry_timeout: 400\n  servers: ['{address}:1 one']\n"
    );
    let proxy = Proxy::with_file(&file, port).expect_log("server ejected");
    let admin = SocketAddr::from(([127, 0, 0, 1], admin));
    wait_until("the admin port", Duration::from_secs(10), || TcpStream::connect(admin).is_ok());
    server.kill();
    let mut client = proxy.client();
    wait_until("not ready", Duration::from_secs(10), || {
        client.ask("GET k\r\n");
        get(admin, "/readyz").status == 503
    });
    let body = get(admin, "/readyz").body;
    assert!(
        body.starts_with(&format!(
            "not ready\npool r: no server in the ring, on_failure: error\n  one ({address}): out for "
        )),
        "{body}"
    );
    let _back = Process::redis_with(address.port(), &[]);
    wait_until("ready again, by a probe", Duration::from_secs(10), || get(admin, "/readyz").body == "ready\n");
}

#[test]
fn a_dead_server_is_shown_with_its_reason_and_so_is_its_return() {
    let mut servers: Vec<_> = (0..2).map(|_| Process::memcached()).collect();
    let watched = Watched::start(&servers.iter().collect::<Vec<_>>(), "");
    watched.use_it();
    let overview = watched.overview();
    let pool = &overview["pools"][0];
    assert_eq!((&pool["name"], &pool["hits"], &pool["misses"]), (&"cache".into(), &400.into(), &200.into()));
    assert!(pool["latency"]["p99_us"].as_u64().is_some_and(|latency| latency > 0), "{pool}");
    let shares: f64 = pool["servers"].as_array().expect("servers").iter().filter_map(|one| one["share"].as_f64()).sum();
    assert!((shares - 1.0).abs() < 0.001, "{shares}");
    assert_eq!(watched.get("/readyz").status, 200);

    let port = servers[0].address.port();
    servers.iter_mut().for_each(Process::kill);
    let mut client = watched.proxy.client();
    wait_until("both servers out", Duration::from_secs(5), || {
        (0..20).for_each(|number| drop(client.ask(format!("get key:{number}\r\n"))));
        watched.overview()["pools"][0]["servers"].as_array().expect("servers").iter().all(|one| one["state"] != "up")
    });
    let overview = watched.overview();
    let server = &overview["pools"][0]["servers"][0];
    assert_eq!(server["reason"], "connection refused", "{server}");
    assert!(server["out_for_ms"].is_u64() && server["share"] == 0.0, "{server}");
    let text = overview["events"].to_string();
    assert!(text.contains("out of service after") && text.contains("node-0") && text.contains("node-1"), "{text}");
    let Answer { status, body, .. } = watched.get("/readyz");
    assert_eq!(status, 200, "it answers misses");
    let (first, told) = body.split_once('\n').expect("lines");
    assert_eq!(first, "ready");
    assert!(told.starts_with("pool cache: no server in the ring, on_failure: miss\n  node-0 ("), "{body}");
    assert!(told.contains("s: connection refused\n  node-1 ("), "{body}");
    assert_eq!(watched.get("/healthz").status, 200, "it runs all the same");

    let _back = Process::memcached_on(port);
    wait_until("node-0 back", Duration::from_secs(5), || watched.overview()["pools"][0]["servers"][0]["state"] == "up");
    let text = watched.overview()["events"].to_string();
    assert!(text.contains("back in service after 0."), "{text}");
    assert_eq!(watched.get("/readyz").status, 200);
    wait_until("all is well", Duration::from_secs(5), || !watched.get("/readyz").body.contains("node-0"));

    // Whoever comes when it is over sees it all the same.
    let mut past = serde_json::Value::Null;
    wait_until("a second in which all is well again", Duration::from_secs(5), || {
        past = watched.get("/history").json();
        past["pools"][0]["servers"][0]["states"].as_str().is_some_and(|states| states.ends_with('.'))
    });
    let points = past["ago_s"].as_array().expect("ages").len();
    let numbers = |values: &serde_json::Value| -> Vec<f64> {
        values.as_array().expect("a column").iter().map(|value| value.as_f64().expect("a number")).collect()
    };
    let (ages, spans) = (numbers(&past["ago_s"]), numbers(&past["for_s"]));
    assert!(ages.windows(2).all(|pair| pair[0] > pair[1]) && ages.iter().all(|age| *age < 60.0), "{past}");
    assert!(spans.iter().all(|span| (0.4..10.0).contains(span)), "about a second each, {past}");
    let pool = &past["pools"][0];
    let states = |server: usize| pool["servers"][server]["states"].as_str().expect("states");
    assert_eq!((states(0).len(), states(1).len()), (points, points), "a letter a point");
    assert!(states(0).contains('o') && states(0).starts_with(['.', 'o']), "{past}");
    assert!(states(1).ends_with('o'), "{past}");
    let sum = |column: &str| numbers(&pool[column]).iter().sum::<f64>();
    let overview = watched.overview();
    for column in ["requests", "hits", "misses", "forward_errors"] {
        assert_eq!(Some(sum(column)), overview["pools"][0][column].as_f64(), "{column}: {past}");
    }
    assert!(sum("degraded") > 0.0 && pool["p99_us"].as_array().expect("a column").iter().any(|us| us.is_u64()));
    let told = past["events"].to_string();
    assert!(told.contains("back in service after 0.") && told.contains("out of service after"), "{told}");
}

#[test]
fn what_is_not_there_is_answered_with_what_is() {
    let server = Process::memcached();
    let watched = Watched::start(&[&server], "");
    let Answer { status, body, .. } = watched.get("/nothing");
    assert_eq!(status, 404);
    assert!(body.contains("/metrics") && body.contains("/servers"), "{body}");
    assert_eq!(post(watched.admin, "/metrics").status, 405);
    let Answer { status, body, .. } = watched.get("/");
    assert!(status == 200 && body.starts_with("<!doctype html>"), "{status}");
    assert_eq!(watched.get("/stats").json()["service"], "softmiss");
    // Nonsense and readers that say nothing harm nobody.
    let silent: Vec<_> = (0..20).map(|_| TcpStream::connect(watched.admin).expect("the admin port")).collect();
    TcpStream::connect(watched.admin).expect("the admin port").write_all(&[0, 255, 10, 13, 10]).expect("nonsense");
    assert_eq!(watched.get("/healthz").body, "ok\n");
    drop(silent);
}

#[test]
fn what_a_browser_is_shown_is_for_this_host_only() {
    let server = Process::memcached();
    let watched = Watched::start(&[&server], "");
    for path in ["/", "/servers", "/history", "/hotkeys", "/pools", "/route?key=a", "/config", "/metrics", "/stats"] {
        let ask = |host: &str| ask(watched.admin, "GET", path, &[&format!("Host: {host}")]);
        assert_eq!(ask("evil.example").status, 403, "{path}");
        let answer = ask(&format!("localhost:{}", watched.admin.port()));
        assert_eq!(answer.status, 200, "{path}");
        let head = answer.head.to_ascii_lowercase();
        for header in ["x-content-type-options: nosniff", "x-frame-options: deny", "frame-ancestors 'none'"] {
            assert!(head.contains(header), "{path}: no {header} in {head}");
        }
    }
    assert_eq!(ask(watched.admin, "GET", "/healthz", &["Host: probe.example"]).status, 200);
}

#[test]
fn readers_that_only_keep_their_connections_make_room_for_others() {
    let server = Process::memcached();
    let watched = Watched::start(&[&server], "");
    let mut kept: Vec<_> = (0..100)
        .map(|number| {
            let mut stream = TcpStream::connect(watched.admin).expect("the admin port");
            // One in three is idle between two requests, one has said half of what it wants, one nothing.
            let said = ["GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET /heal", ""][number % 3];
            stream.write_all(said.as_bytes()).expect("a request");
            stream
        })
        .collect();
    let start = Instant::now();
    assert_eq!(watched.get("/healthz").body, "ok\n");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    // Who came last is still there.
    let mut last = kept.pop().expect("a reader");
    let mut answer = [0; 12];
    last.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    let stats: Vec<_> = (0..100).map(|_| TcpStream::connect(watched.proxy.stats).expect("statistics")).collect();
    assert_eq!(watched.proxy.statistics()["service"], "softmiss");
    drop(stats);
}

#[test]
fn what_a_statsd_adds_up_is_what_was_counted() {
    let statsd = UdpSocket::bind("127.0.0.1:0").expect("bind");
    statsd.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    let address = statsd.local_addr().expect("address");
    let servers: Vec<_> = (0..2).map(|_| Process::memcached()).collect();
    let settings = format!("  statsd: {{address: '{address}', prefix: shop.cache, interval: 200ms}}\n");
    let watched = Watched::start(&servers.iter().collect::<Vec<_>>(), &settings);
    watched.use_it();
    let mut wanted = BTreeMap::from(
        [("requests", 501), ("hits", 400), ("misses", 200)].map(|(name, value)| (name.to_owned(), value)),
    );
    let statistics = watched.proxy.statistics();
    for server in ["node-0", "node-1"] {
        for name in ["requests", "responses", "request_bytes", "response_bytes", "hits"] {
            wanted.insert(format!("{server}.{name}"), statistics["cache"][server][name].as_u64().expect("a number"));
        }
    }
    let mut counters: BTreeMap<String, u64> = BTreeMap::new();
    let mut gauges: BTreeMap<String, f64> = BTreeMap::new();
    let mut buffer = [0; 2048];
    // What is told of one interval comes in several packets, and an interval may end between a request and its response:
    // one that counts goes on with what comes until everything has been told.
    wait_until("everything to be told", Duration::from_secs(10), || {
        let read = statsd.recv(&mut buffer).expect("a packet");
        assert!(read <= 1432, "a packet of {read} bytes would be cut into pieces");
        for line in std::str::from_utf8(&buffer[..read]).expect("text").lines() {
            let (name, rest) = line.split_once(':').expect("a name and a value");
            match rest.split_once('|').expect("a value and a kind") {
                (value, "c") => {
                    *counters.entry(name.to_owned()).or_default() += value.parse::<u64>().expect("a number")
                }
                (value, "g") => drop(gauges.insert(name.to_owned(), value.parse().expect("a number"))),
                other => panic!("{other:?}"),
            }
        }
        let told = |name: &str| counters.get(&format!("shop.cache.cache.{name}")).copied().unwrap_or(0);
        let surplus: Vec<_> = wanted.iter().filter(|(name, value)| told(name) > **value).collect();
        assert!(surplus.is_empty(), "more was told than counted: {surplus:?}");
        let is_up = |server| gauges.get(&format!("shop.cache.cache.{server}.up")) == Some(&1.0);
        wanted.iter().all(|(name, value)| told(name) == *value)
            && ["node-0", "node-1"].into_iter().all(is_up)
            && gauges.contains_key("shop.cache.cache.node-1.latency_p99_us")
    });
}

#[test]
fn no_counter_ever_goes_down() {
    let servers: Vec<_> = (0..2).map(|_| Process::memcached()).collect();
    let watched = Watched::start(&servers.iter().collect::<Vec<_>>(), "  workers: 2\n");
    let over = AtomicBool::new(false);
    let scraped = || -> BTreeMap<String, f64> {
        let body = watched.get("/metrics").body;
        let lines = body.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        let counters = lines.filter(|(series, _)| {
            let name = series.split('{').next().unwrap_or_default();
            ["_total", "_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end))
        });
        counters.map(|(series, value)| (series.to_owned(), value.parse().expect("a number"))).collect()
    };
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (watched, over) = (&watched, &over);
            scope.spawn(move || {
                // What it asks has to wait for its turn now and then: more keys than may be in flight, large values.
                let large = format!("set large{number} 0 0 100000\r\n{}\r\n", "x".repeat(100_000)).repeat(20);
                let gets: String = (0..3000).map(|key| format!("get k{key} k{number}\r\n")).collect();
                while !over.load(Ordering::Relaxed) {
                    let mut client = watched.proxy.client();
                    client.send(&large);
                    client.send(&gets);
                    client.send("set last 0 0 1\r\nx\r\nmn\r\n");
                    client.read_through(b"MN\r\n");
                }
            });
        }
        let asked = "softmiss_pool_requests_total{pool=\"cache\"}";
        let mut before = scraped();
        let (mut scrapes, limit) = (0, Instant::now() + Duration::from_secs(30));
        let mut fell = None;
        while fell.is_none() && (scrapes < 40 || before[asked] <= 1000.0) && Instant::now() < limit {
            let next = scraped();
            fell = before.into_iter().find(|(series, was)| next.get(series).is_none_or(|is| is < was));
            before = next;
            scrapes += 1;
        }
        over.store(true, Ordering::Relaxed);
        if let Some((series, was)) = fell {
            panic!("{series} was {was} and is {:?}", before.get(&series));
        }
        assert!(scrapes >= 40 && before[asked] > 1000.0, "{scrapes} scrapes of {} requests", before[asked]);
    });
}

#[test]
fn whether_it_is_alive_can_be_asked_by_a_command() {
    let server = Process::memcached();
    let watched = Watched::start(&[&server], "");
    let program = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_softmiss")).args(arguments).output().expect("softmiss");
        let [said, complained] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
        (output.status.code(), said, complained)
    };
    let well = (Some(0), "ok\n".to_owned(), String::new());
    assert_eq!(program(&["health", &watched.admin.to_string()]), well);
    let file = watched.proxy.file.to_str().expect("a name");
    assert_eq!(program(&["-c", file, "health"]), well, "where the file has the port");
    // One that is not well says why, and who is no admin port is not taken for one.
    let unwell = "HTTP/1.1 503 Service Unavailable\r\n\r\nworker-1 does not answer\n";
    let (port, thread) =
        answering([unwell, "HTTP/1.1 200 OK\r\n\r\n<html>", "HTTP/1.1 404 Not Found\r\n\r\n", "SSH-2.0\r\n"]);
    let address = port.to_string();
    let told = program(&["health", &address]);
    assert_eq!(told, (Some(1), "worker-1 does not answer\n".to_owned(), String::new()));
    for _ in 0..3 {
        let (code, said, complained) = program(&["health", &address]);
        assert_eq!((code, said), (Some(1), String::new()));
        assert!(complained.contains("is not the admin port of softmiss"), "{complained}");
    }
    thread.join().expect("all four were asked");
    let (code, said, complained) = program(&["health", &address]);
    assert_eq!((code, said), (Some(1), String::new()));
    assert_eq!(complained, format!("softmiss: nobody answers at {address} (connection refused)\n"));
    let (code, _, complained) = program(&["health", "22223"]);
    assert!(code == Some(1) && complained.contains("write HOST:PORT, as in softmiss health 127.0.0.1:22223"));
}

/// Somebody who gives these answers, whatever is asked, and then is gone.
fn answering<const N: usize>(answers: [&'static str; N]) -> (SocketAddr, std::thread::JoinHandle<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let serve = move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut asked = [0; 1024];
            let count = stream.read(&mut asked).expect("a request");
            assert!(asked[..count].starts_with(b"GET /healthz HTTP/1"));
            stream.write_all(answer.as_bytes()).expect("an answer");
        }
    };
    (address, std::thread::spawn(serve))
}
