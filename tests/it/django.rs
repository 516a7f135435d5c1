//! The example site of docs/django, really served, with visitors, while its cache's nodes are killed, hung and brought back.

mod own;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::support::http::get;
use super::support::process::{Process, Proxy, free_port, scratch_dir};
use super::support::wait_until;

/// For what a slow machine may take long for.
const LONG: Duration = Duration::from_secs(60);

const VISITORS: usize = 8;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn python() -> Command {
    let interpreter = root().join("target/venv/bin/python");
    assert!(interpreter.exists(), "the Python clients are not there: run tests/setup.sh");
    let mut command = Command::new(interpreter);
    command.arg("-B").stdin(Stdio::null());
    command
}

/// A backend of the example, which of its pools it uses, and what its visitors may see of their sessions.
#[derive(Clone, Copy)]
struct Site {
    cache: &'static str,
    sessions: &'static str,
    seen: &'static str,
}

impl Site {
    fn is_redis(self) -> bool {
        self.cache.contains("redis")
    }

    fn node(self, port: u16) -> Process {
        if self.is_redis() { Process::redis_with(port, &[]) } else { Process::memcached_on(port) }
    }
}

/// Three nodes, the proxy with the example's own file, the site, and its visitors.
struct Stage {
    site: Site,
    nodes: Vec<Process>,
    proxy: Proxy,
    served: Child,
    visitors: Child,
    said: BufReader<std::process::ChildStdout>,
    port: u16,
}

/// One of the pools of the example's file, with these ports. Here a node may go as often as it likes: where the machine stands
/// still, it does so more often than it is told to.
fn pool(is_redis: bool, listen: u16, nodes: &[Process]) -> String {
    let text = std::fs::read_to_string(root().join("docs/django/softmiss.yml")).expect("the example's file");
    let (first, second) = text.split_once("\nredis-cache:\n").expect("two pools");
    let (mut pool, old, olds) = if is_redis {
        (format!("redis-cache:\n{second}"), 16379, [16381, 16382, 16383])
    } else {
        (first.to_owned(), 21211, [21221, 21222, 21223])
    };
    let mut put = |old: u16, new: u16| {
        let (old, new) = (format!("127.0.0.1:{old}"), format!("127.0.0.1:{new}"));
        assert!(pool.contains(&old), "{pool}: no {old}");
        pool = pool.replace(&old, &new);
    };
    olds.iter().zip(nodes).for_each(|(old, node)| put(*old, node.address.port()));
    put(old, listen);
    pool.replacen("  timeout:", "  flap_limit: 0\n  timeout:", 1)
}

impl Stage {
    fn set(site: Site) -> Self {
        let nodes: Vec<_> = (0..3).map(|_| site.node(free_port())).collect();
        let listen = free_port();
        let proxy = Proxy::with_file(&pool(site.is_redis(), listen, &nodes), listen)
            .expect_log("server ejected")
            .expect_log("no server of the pool is left")
            .expect_log("server does not answer");
        let port = free_port();
        let mut served = python()
            .arg(root().join("tests/it/django/serve.py"))
            .arg(port.to_string())
            .env("CACHE", site.cache)
            .env("CACHE_AT", proxy.address.to_string())
            .env("SESSIONS", site.sessions)
            .env("DATABASE", scratch_dir().join("db.sqlite3"))
            .stdin(Stdio::piped())
            .stderr(Stdio::null()) // errors are asked for
            .spawn()
            .expect("python");
        wait_until("the site", LONG, || {
            assert!(served.try_wait().expect("wait").is_none(), "the site has ended");
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        let mut visitors = python()
            .arg(root().join("tests/it/django/visitors.py"))
            .args([&format!("http://127.0.0.1:{port}"), &VISITORS.to_string(), site.seen])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python");
        let said = BufReader::new(visitors.stdout.take().expect("stdout"));
        Self { site, nodes, proxy, served, visitors, said, port }
    }

    /// Lets the visitors see so many pages more.
    fn pages(&mut self, count: usize) {
        for _ in 0..count.div_ceil(50) {
            let mut line = String::new();
            self.said.read_line(&mut line).expect("a line");
            line.trim().parse::<usize>().unwrap_or_else(|_| panic!("{line:?}: the visitors have ended"));
        }
    }

    /// Whether the last that the proxy has logged of a node is that it is out of the ring, or back in it.
    fn is_so(&self, is_out: bool, node: usize) -> bool {
        let address = format!("address=\"{}\"", self.nodes[node].address);
        let log = self.proxy.log();
        let of_node = log.iter().rev().filter(|line| line.contains(&address));
        let mut changes = of_node.filter_map(|line| {
            let is = |message: &str| line.contains(message).then_some(message == "server ejected");
            is("server ejected").or_else(|| is("server restored"))
        });
        changes.next().unwrap_or_default() == is_out
    }

    /// Has something happen to nodes, waits until they are out or back, and lets visitors go on.
    fn after(&mut self, nodes: &[usize], are_out: bool, mut happens: impl FnMut(&mut Self, usize)) {
        nodes.iter().for_each(|node| happens(self, *node));
        for node in nodes {
            let what = if are_out { "out" } else { "back" };
            wait_until(&format!("node {node} is {what}"), LONG, || self.is_so(are_out, *node));
        }
        self.pages(100);
    }

    fn kill(&mut self, nodes: &[usize]) {
        self.after(nodes, true, |stage, node| stage.nodes[node].kill());
    }

    fn start(&mut self, nodes: &[usize]) {
        self.after(nodes, false, |stage, node| {
            stage.nodes[node] = stage.site.node(stage.nodes[node].address.port());
        });
    }

    fn hang(&mut self, node: usize) {
        self.after(&[node], true, |stage, node| stage.nodes[node].signal("STOP"));
    }

    fn go_on(&mut self, node: usize) {
        self.after(&[node], false, |stage, node| stage.nodes[node].signal("CONT"));
    }

    /// What the visitors have seen, and what the site has logged: how many errors, and the first.
    fn end(mut self) -> (serde_json::Value, serde_json::Value) {
        drop(self.visitors.stdin.take());
        let report = (&mut self.said).lines().map(|line| line.expect("a line")).last().expect("a report");
        println!("{}, sessions in {}: {report}", self.site.cache, self.site.sessions);
        let errors = get(([127, 0, 0, 1], self.port).into(), "/tracebacks").body;
        (serde_json::from_str(&report).expect("a report"), serde_json::from_str(&errors).expect("errors"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for child in [&mut self.visitors, &mut self.served] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One killed, one hung, the first killed again, all killed, and each brought back: every page is there, and the session that
/// it shows is the visitor's own, as it was left, and not as it was during an earlier fault.
fn nobody_notices(site: Site) {
    let mut stage = Stage::set(site);
    stage.pages(100);
    stage.kill(&[0]);
    stage.start(&[0]);
    stage.hang(1);
    stage.go_on(1);
    stage.kill(&[0]);
    stage.start(&[0]);
    stage.kill(&[0, 1, 2]);
    stage.start(&[0, 1, 2]);
    let (report, errors) = stage.end();
    assert_eq!(report["other_than_200"], 0, "{report:#}");
    assert_eq!((&report["unanswered"], &report["wrong"]), (&0.into(), &0.into()), "{report:#}");
    assert_eq!(errors[0], 0, "{errors:#}");
    assert!(report["requests"].as_u64() > Some(600), "{report:#}");
}

#[test]
fn visitors_notice_nothing_with_pymemcache() {
    nobody_notices(Site { cache: "pymemcache", sessions: "cached_db", seen: "exact" });
}

#[test]
fn visitors_notice_nothing_with_pylibmc() {
    nobody_notices(Site { cache: "pylibmc", sessions: "cached_db", seen: "exact" });
}

#[test]
fn visitors_notice_nothing_with_djangos_redis_backend() {
    nobody_notices(Site { cache: "redis", sessions: "cached_db", seen: "lossy" });
}

#[test]
fn visitors_notice_nothing_with_django_redis() {
    nobody_notices(Site { cache: "django-redis", sessions: "cached_db", seen: "lossy" });
}

/// With sessions in the cache alone those of a dead node are gone. Django answers 400 (`SessionInterrupted`) where that
/// happens between reading one and writing it, as when somebody else has logged out meanwhile; nothing else goes wrong.
fn sessions_in_the_cache(cache: &'static str) {
    let mut stage = Stage::set(Site { cache, sessions: "cache", seen: "restarting" });
    stage.pages(100);
    stage.kill(&[0]);
    stage.start(&[0]);
    stage.hang(1);
    stage.go_on(1);
    let (report, errors) = stage.end();
    let statuses = report["statuses"].as_object().expect("statuses");
    assert!(statuses.keys().all(|status| ["200", "400"].contains(&&**status)), "{report:#}");
    // One for each visitor and fault at the most: each has asked for one page at that time.
    assert!(report["other_than_200"].as_u64() <= Some(2 * VISITORS as u64), "{report:#}");
    assert_eq!((&report["unanswered"], &report["wrong"]), (&0.into(), &0.into()), "{report:#}");
    let interrupted = errors[1].as_str().is_none_or(|text| text.contains("SessionInterrupted"));
    assert!(interrupted, "{errors:#}");
}

#[test]
fn sessions_in_memcached_begin_anew_and_never_change_hands() {
    sessions_in_the_cache("pymemcache");
}

#[test]
fn sessions_in_redis_begin_anew_and_never_change_hands() {
    sessions_in_the_cache("redis");
}

/// `manage.py` as the page has it typed.
#[test]
fn the_example_runs_by_its_own_command() {
    let nodes: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
    let listen = free_port();
    let proxy = Proxy::with_file(&pool(false, listen, &nodes), listen);
    let database = scratch_dir().join("db.sqlite3");
    let manage = |arguments: &[&str]| {
        let mut command = python();
        command.arg("manage.py").args(arguments).current_dir(root().join("docs/django"));
        command.env("CACHE_AT", proxy.address.to_string()).env("DATABASE", &database);
        command.stdout(Stdio::null());
        command
    };
    assert!(manage(&["check", "--fail-level", "WARNING"]).status().expect("python").success());
    assert!(manage(&["migrate", "--verbosity", "0"]).status().expect("python").success());
    let port = free_port();
    let place = format!("127.0.0.1:{port}");
    let mut served = manage(&["runserver", "--noreload", &place]).stderr(Stdio::null()).spawn().expect("python");
    wait_until("the site", LONG, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let pages = [("/", "name: nobody, visits: 1<"), ("/report/3/", "report 3, made at"), ("/prices/", "product 20: ")];
    let answers = pages.map(|(path, says)| (path, says, get(([127, 0, 0, 1], port).into(), path)));
    served.kill().expect("kill");
    served.wait().expect("wait");
    for (path, says, answer) in answers {
        assert!(answer.status == 200 && answer.body.contains(says), "{path}: {answer:?}");
    }
}
