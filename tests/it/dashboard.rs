//! The dashboard in a real browser: it shows what happens, soon, and only as text.
//!
//! `dashboard/browser.py` drives a headless Chromium.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::client::Client;
use super::support::process::{Process, Proxy, free_port};
use super::support::{Hiccups, scattered_key, wait_until};

/// The page asks once a second, and so it may be a second late; this is for the answer's way into the page.
const SOON: Duration = Duration::from_millis(1_250);

/// The dashboard, open in a browser.
struct Page {
    browser: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Page {
    fn open(admin: u16) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut browser = Command::new(root.join("target/venv/bin/python"))
            .arg(root.join("tests/it/dashboard/browser.py"))
            .arg(format!("http://127.0.0.1:{admin}/"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python (run tests/setup.sh)");
        let commands = browser.stdin.take();
        let answers = BufReader::new(browser.stdout.take().expect("stdout"));
        let mut page = Self { browser, commands, answers };
        assert_eq!(page.answer(), json!("ready"));
        page
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("the browser is gone: {error}"))
    }

    fn order(&mut self, command: &Value) -> Value {
        writeln!(self.commands.as_mut().expect("stdin"), "{command}").expect("an order");
        self.answer()
    }

    /// The value of a JavaScript expression.
    fn ask(&mut self, expression: &str) -> Value {
        self.order(&json!(["ask", expression]))
    }

    /// The text of the first element that a selector finds.
    fn text(&mut self, selector: &str) -> String {
        let found = self.ask(&format!("document.querySelector({})?.textContent", json!(selector)));
        found.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a text has this part.
    fn wait_for(&mut self, selector: &str, part: &str, limit: Duration) {
        let start = Instant::now();
        loop {
            let text = self.text(selector);
            if text.contains(part) {
                return;
            }
            assert!(start.elapsed() < limit, "{selector} is {text:?}, without {part:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Makes the page believe another answer.
    fn pretend(&mut self, answer: &Value) {
        self.ask(&format!("window.fetch = async () => new Response({}), 0", json!(answer.to_string())));
    }

    /// How much of the page stands out to the right at this width.
    fn overhang(&mut self, width: u32) -> i64 {
        self.order(&json!(["size", width, 780]));
        let page = "document.documentElement";
        self.ask(&format!("{page}.scrollWidth - {page}.clientWidth")).as_i64().expect("a number")
    }

    fn assert_no_complaints(&mut self) {
        assert_eq!(self.order(&json!(["complaints"])), json!([]), "the browser's console");
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // The script ends its browser when it is told nothing more.
        self.commands = None;
        let _ = self.browser.wait();
    }
}

/// A proxy with an admin port, of one pool with these servers (`host:port:weight name`).
fn proxy(servers: &[String], admin: u16) -> Proxy {
    let port = free_port();
    let mut file = format!(
        "softmiss: {{admin: 127.0.0.1:{admin}}}\npages:\n  listen: 127.0.0.1:{port}\n  timeout: 400\n  \
         auto_eject_hosts: true\n  server_retry_timeout: 1000\n  on_eject: hold\n  stall_detection: false\n  servers:\n"
    );
    servers.iter().for_each(|server| writeln!(file, "    - {server}").expect("a line"));
    Proxy::with_file(&file, port)
}

/// Sets and gets until it is told to stop.
fn load(mut client: Client, over: &AtomicBool) {
    for number in (0..500).cycle() {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let key = scattered_key(number);
        client.send(format!("set {key} 0 0 1\r\nx\r\nget {key}\r\n").as_bytes());
        client.line();
        while client.line() != "END" {}
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn it_shows_a_server_that_dies_and_comes_back() {
    let mut servers: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
    let lines: Vec<_> = servers
        .iter()
        .zip(["a", "b", "c"])
        .map(|(server, name)| format!("{}:1 cache-{name}", server.address))
        .collect();
    let admin = free_port();
    let proxy = proxy(&lines, admin).expect_log("server ejected");
    let mut page = Page::open(admin);
    page.wait_for("#headline", "All 3 servers are in service", Duration::from_secs(3));
    page.wait_for(".tile .big", "0", SOON);
    assert_eq!(page.ask("document.title.startsWith('softmiss')"), json!(true));

    page.ask(
        "window.moved = 0, new PerformanceObserver(list => list.getEntries().forEach(entry => moved += entry.value))
            .observe({ type: 'layout-shift' }), 0",
    );
    let over = Arc::new(AtomicBool::new(false));
    let (client, stop) = (proxy.client(), Arc::clone(&over));
    let load = std::thread::spawn(move || load(client, &stop));
    let row = "[data-server=cache-b]";
    let rate = "Number(document.querySelector('.tile .big').textContent.replace(',', ''))";
    wait_until("the rate's rise", Duration::from_secs(4), || page.ask(rate).as_f64().unwrap_or_default() > 50.0);
    let seen = page.text(".tile .note:last-child");
    wait_until("a further count", Duration::from_secs(3), || page.text(".tile .note:last-child") != seen);

    let moved = page.ask("moved").as_f64().expect("a number");
    assert!(moved < 0.001, "figures push the page about: {moved}");

    let hiccups = Hiccups::watch();
    servers[1].kill();
    proxy.wait_for_log("server ejected", Duration::from_secs(2));
    let told = Instant::now();
    page.wait_for(&format!("{row} .word"), "out of service", Duration::from_secs(5));
    let late = told.elapsed();
    let limit = SOON + hiccups.longest();
    assert!(late < limit, "shown {late:?} after the log line, {limit:?} are granted");
    assert_eq!(page.ask("document.querySelector('tbody tr').dataset.server"), json!("cache-b"), "trouble comes first");
    page.wait_for("#headline", "cache-b has been out of service for", SOON);
    let verdict = page.text("#headline");
    assert!(verdict.contains("answered as misses"), "{verdict}");
    // A connect that meets the dying process is reset, one after it refused.
    let reason = ["connection refused", "connection reset"].into_iter().find(|reason| verdict.contains(reason));
    let reason = reason.unwrap_or_else(|| panic!("{verdict}"));
    page.wait_for("#spoken", &format!("cache-b is out of service: {reason}"), SOON);
    page.wait_for("#events", "out of service after", SOON);
    page.wait_for(".tile:nth-child(4) .note", "server out of service", Duration::from_secs(3));
    assert_eq!(page.ask("document.title.startsWith('1 out of service')"), json!(true));

    let port = servers[1].address.port();
    servers[1] = Process::memcached_on(port);
    proxy.wait_for_log("server restored", Duration::from_secs(4));
    page.wait_for(&format!("{row} .word"), "in service", SOON);
    page.wait_for("summary .count", "3 of 3 in service", SOON);
    page.wait_for("#events", "back in service after", SOON);
    // Whoever opens the page when it is over sees it as well.
    let mut late = Page::open(admin);
    late.wait_for("#problems", "cache-b was out of service for", Duration::from_secs(5));
    let drawn = |what: &str| format!("document.querySelector('{what}').getAttribute('d')?.length > 10");
    for shape in [&format!("{row} .strip .state-out"), ".tile .out"] {
        wait_until(shape, Duration::from_secs(5), || late.ask(&drawn(shape)) == json!(true));
    }
    assert_eq!(late.ask(&drawn("[data-server=cache-a] .strip .state-out")), json!(false));
    late.wait_for(&format!("{row} .said"), "back at", SOON);
    late.wait_for("#events", "out of service after", SOON);
    late.ask("document.querySelector('#spans button').click()");
    assert_eq!(late.ask("document.querySelector('#spans [aria-pressed=true]').textContent"), json!("last 5 min"));
    late.assert_no_complaints();
    drop(late);
    over.store(true, Ordering::Relaxed);
    load.join().expect("the load");
    page.assert_no_complaints();

    proxy.signal("STOP");
    page.wait_for("#headline", "The proxy has not answered for", Duration::from_secs(5));
    assert_eq!(page.ask("document.body.className"), json!("stale"));
    proxy.signal("CONT");
    page.wait_for("#headline", "All 3 servers are in service", Duration::from_secs(8));
    assert_eq!(page.ask("document.body.className"), json!(""));
}

#[test]
fn names_are_shown_and_not_run_and_a_phone_is_wide_enough() {
    let server = Process::memcached();
    let name = "<script>window.ran=1</script><img/src=x/onerror=window.ran=1>";
    let admin = free_port();
    let proxy = proxy(&[format!("{}:1 {name}", server.address)], admin);
    let mut page = Page::open(admin);
    page.wait_for("#headline", "The only server is in service", Duration::from_secs(3));
    assert_eq!(page.text("tbody .name bdi"), name);
    assert_eq!(page.overhang(360), 0);

    // Ten pools of twenty servers, a pool with two out, and fields that are longer than any screen.
    let mut answer: Value = page.ask("fetch('servers').then(answer => answer.json())");
    let pool = answer["pools"][0].clone();
    let wide = (0..10).map(|number| {
        let mut pool = pool.clone();
        pool["name"] = json!(format!("pool-{number}"));
        pool["servers"] = (0..20).map(|_| pool["servers"][0].clone()).collect();
        pool
    });
    answer["pools"] = wide.collect();
    for server in [3, 17] {
        let server = &mut answer["pools"][6]["servers"][server];
        server["state"] = json!("ejected");
        server["reason"] = json!("timed out<script>window.ran=1</script>");
        server["out_for_ms"] = json!(42_000);
        server["name"] = json!("w".repeat(200) + "\u{202e}");
    }
    answer["pools"][6]["hot_keys"] =
        json!([{"key": "k".repeat(250) + "<b>\u{0}", "server": "cache-c", "per_s": 1234.5, "bytes_per_s": 99_000}]);
    page.pretend(&answer);
    page.wait_for("#headline", "2 of 200 servers are out of service", Duration::from_secs(3));
    assert_eq!(
        page.ask("[...document.querySelectorAll('#pools details[open]')].map(pool => pool.dataset.pool)"),
        json!(["pool-6"])
    );
    assert_eq!(page.ask("document.querySelector('#pools details').dataset.pool"), json!("pool-6"));
    assert!(page.text("#problems").contains("timed out<script>"), "{}", page.text("#problems"));
    assert!(page.text("#problems").contains("w\\u202e"), "what would turn the text around is written out");
    assert!(page.text(".keys tbody").ends_with("<b>\\u0000cache-c1,23597 KB"), "{}", page.text(".keys tbody"));
    let rows =
        "[...document.querySelectorAll('#pools details[open] > .inside > table tr')].filter(row => !row.hidden).length";
    assert_eq!(page.ask(rows), json!(1 + 2), "the head, and what is in trouble");
    page.ask("document.querySelector('#pools button').click()");
    assert_eq!(page.ask(rows), json!(1 + 20));
    for width in [360, 820, 1280, 2560] {
        assert_eq!(page.overhang(width), 0, "at a width of {width}");
        let server = page.ask("document.querySelector('.keys td.c-on bdi').getBoundingClientRect().height");
        assert!(server.as_f64().is_some_and(|height| height < 30.0), "a short name in one line: {server} at {width}");
    }
    assert_eq!(page.ask("window.ran ?? 'no'"), json!("no"));
    page.assert_no_complaints();
    drop(proxy);
}
