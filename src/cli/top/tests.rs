//! Frames, word for word. `SOFTMISS_BLESS=1` writes the expected ones anew; look at the difference as at a screen.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;
use serde_json::{Value, json};

use super::seen::Seen;
use super::view::{Section, Sort, View, Wish};
use super::{draw, plain, text_of};
use crate::cli::port::Trouble;
use crate::cli::port::{reachable, written};

fn server(name: &str, per_s: f64) -> Value {
    let latency = json!({"p50_us": 92, "p99_us": 412, "p999_us": 1032});
    json!({
        "name": name, "address": "10.0.0.11:11211", "weight": 1, "state": "up", "failures_in_a_row": 0, "share": 0.25,
        "connections": 1, "requests": 12_345, "requests_per_s": per_s, "bytes_per_s": per_s * 1000.0,
        "hit_rate": 0.962, "errors": 0, "ejections": 0, "restores": 0, "in_queue_bytes": 0, "latency": latency,
    })
}

fn out(name: &str) -> Value {
    let mut server = server(name, 0.0);
    let more = json!({
        "state": "ejected", "out_for_ms": 72_000, "reason": "connection refused", "next_probe_ms": 3200, "share": 0.0,
        "connections": 0, "hit_rate": null, "ejections": 2, "latency": {"p50_us": null, "p99_us": null},
    });
    set(&mut server, &more);
    server
}

fn set(object: &mut Value, fields: &Value) {
    for (key, value) in fields.as_object().expect("an object") {
        object[key] = value.clone();
    }
}

fn pool(name: &str, servers: &[Value]) -> Value {
    let per_s: f64 = servers.iter().filter_map(|server| server["requests_per_s"].as_f64()).sum();
    json!({
        "name": name, "protocol": "memcached", "listen": "127.0.0.1:11211", "on_failure": "miss", "clients": 24,
        "requests": 1_000_000, "requests_per_s": per_s, "hits": 900_000, "misses": 36_000, "hit_rate": 0.962,
        "server_errors": 0, "forward_errors": 0, "degraded": [], "degraded_per_s": 0.0,
        "latency": {"p50_us": 92, "p99_us": 1240, "p999_us": 4100}, "servers": servers,
    })
}

fn event(ago_s: u64, pool: &str, server: &str, is_trouble: bool, text: &str) -> Value {
    json!({"ago_ms": ago_s * 1000, "pool": pool, "server": server, "trouble": is_trouble, "text": text})
}

fn overview(uptime_s: f64, pools: &[Value], events: &[Value]) -> super::overview::Overview {
    let value = json!({
        "version": "0.1.0", "host": "web-17", "uptime_s": uptime_s, "workers": 1, "buffered_bytes": 1_258_291,
        "memory_limit_bytes": 536_870_912, "window_s": 5.0, "pools": pools, "events": events,
    });
    serde_json::from_value(value).expect("an answer")
}

fn seen(answers: impl IntoIterator<Item = super::overview::Overview>) -> Seen {
    let mut answers = answers.into_iter();
    let mut seen = Seen::new("127.0.0.1:22223".to_owned(), answers.next().expect("an answer"));
    answers.for_each(|answer| seen.answered(answer));
    seen
}

fn all_well() -> Seen {
    let servers: Vec<_> = [("cache-a", 10_420.0), ("cache-b", 9870.0), ("cache-c", 812.0), ("cache-d", 0.4)]
        .map(|(n, r)| server(n, r))
        .into();
    let events = [
        event(7300, "web_cache", "cache-b", false, "back in service after 61.8 s, as a new process"),
        event(7362, "web_cache", "cache-b", true, "out of service after 3 failures: connection refused"),
    ];
    let pools = [pool("web_cache", &servers)];
    seen([overview(276_300.0, &pools, &events), overview(276_301.0, &pools, &events)])
}

fn server_out() -> Seen {
    let mut failing = server("cache-d", 5170.0);
    let more = json!({"failures_in_a_row": 2, "reason": "timed out", "latency": {"p50_us": 1100, "p99_us": 400_000}});
    set(&mut failing, &more);
    let mut web = pool("web_cache", &[server("cache-a", 10_420.0), out("cache-b"), server("cache-c", 9870.0), failing]);
    let mut sessions = pool("sessions", &[server("redis-1", 410.0), server("redis-2", 377.0)]);
    set(
        &mut sessions,
        &json!({"protocol": "redis", "on_failure": "error", "forward_errors": 12, "server_errors": 1204}),
    );
    set(&mut web, &json!({"degraded": [["refused", 9000], ["timeout", 10]]}));
    let events = [
        event(72, "web_cache", "cache-b", true, "out of service after 3 failures: connection refused"),
        event(90, "sessions", "redis-2", true, "silent for 47 ms, answered by the proxy"),
    ];
    let before = overview(7300.0, &[web.clone(), sessions.clone()], &events);
    // Of late it is the timeouts, whatever there was before.
    let more = json!({"degraded": [["refused", 9000], ["timeout", 92]], "degraded_per_s": 16.4, "hits": 1_010_000, "misses": 41_000});
    set(&mut web, &more);
    seen([before, overview(7305.0, &[web, sessions], &events)])
}

fn errors_told() -> Seen {
    let mut held = out("redis-2");
    set(&mut held, &json!({"state": "probing", "share": 0.5, "next_probe_ms": null, "reason": "timed out"}));
    let mut sessions = pool("sessions", &[out("redis-1"), held]);
    set(&mut sessions, &json!({"on_failure": "error", "hit_rate": null, "forward_errors": 100}));
    let before = overview(100.0, &[sessions.clone()], &[]);
    set(&mut sessions, &json!({"forward_errors": 400, "degraded": [["ejected", 300]], "degraded_per_s": 60.0}));
    let mut now = overview(105.0, &[sessions], &[]);
    now.buffered_bytes = 500 << 20;
    seen([before, now])
}

fn kept_out() -> Seen {
    let mut held = out("cache-b");
    set(&mut held, &json!({"held": true, "reason": "by the operator", "next_probe_ms": null, "in_flight": 0}));
    let mut drained = out("cache-d");
    let more = json!({"state": "draining", "held": true, "draining": true, "reason": "drained by the operator"});
    set(&mut drained, &more);
    set(&mut drained, &json!({"next_probe_ms": null, "in_flight": 3, "connections": 1, "out_for_ms": 800}));
    let pools = [pool("web_cache", &[server("cache-a", 10_420.0), held, server("cache-c", 9870.0), drained])];
    let events = [
        event(0, "web_cache", "cache-d", true, "drained by the operator (127.0.0.1)"),
        event(72, "web_cache", "cache-b", true, "taken out of service by the operator (127.0.0.1)"),
    ];
    seen([overview(7300.0, &pools, &events), overview(7305.0, &pools, &events)])
}

fn many_pools() -> Seen {
    let mut pools = Vec::new();
    for number in 1..=14 {
        let names = ["a", "b", "c"].map(|letter| format!("shop-{number:02}-cache-{letter}"));
        pools.push(pool(&format!("shop_{number:02}"), &names.map(|name| server(&name, 1000.0 * f64::from(number)))));
    }
    let all_out: Vec<_> = ["a", "b", "c"].map(|letter| out(&format!("shop-13-cache-{letter}"))).into();
    pools[12]["servers"] = all_out.into();
    set(&mut pools[12], &json!({"degraded": [["ejected", 50]], "degraded_per_s": 812.0, "hit_rate": 0.0}));
    pools[4]["servers"][1] = out("shop-05-cache-b");
    let events =
        (0..30).map(|number| event(number * 7, "shop_13", "shop-13-cache-a", true, "refuses AUTH: \u{1b}[31mNO"));
    let events: Vec<_> = events.collect();
    seen([overview(3599.0, &pools, &events), overview(3600.0, &pools, &events)])
}

fn nobody_answers() -> Seen {
    let mut seen = server_out();
    seen.failed(Trouble::Refused, Duration::from_secs(132));
    seen
}

fn hot_keys() -> Seen {
    let mut seen = server_out();
    let keys = json!([
        {"key": "user:42:profile", "server": "cache-b", "per_s": 1204.0, "bytes_per_s": 12_595_200.0},
        {"key": "a key that is much too long for any screen there is, as keys may have 250 bytes, and this one has many",
         "per_s": 88.2, "bytes_per_s": 900.0},
    ]);
    seen.now.pools[0].hot_keys = serde_json::from_value(keys).expect("hot keys");
    seen
}

fn frame(seen: &Seen, view: &View, (width, height): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    let draw = |frame: &mut ratatui::Frame<'_>| {
        draw::draw(seen, view, frame.area(), frame.buffer_mut());
    };
    terminal.draw(draw).expect("a frame");
    terminal.backend().buffer().clone()
}

#[test]
fn frames_are_as_they_were() {
    let servers = View::default();
    let events = View { section: Section::Events, ..View::default() };
    let hot = View { section: Section::HotKeys, ..View::default() };
    let help = View { shows_help: true, ..View::default() };
    let one = View { pool: Some("shop_09".to_owned()), is_paused: true, sort: Sort::Name, ..View::default() };
    let cases = [
        ("all_well", all_well(), servers.clone()),
        ("server_out", server_out(), servers.clone()),
        ("kept_out", kept_out(), servers.clone()),
        ("errors_told", errors_told(), servers.clone()),
        ("many_pools", many_pools(), servers.clone()),
        ("many_pools_one_chosen", many_pools(), one),
        ("many_pools_events", many_pools(), events),
        ("nobody_answers", nobody_answers(), servers),
        ("hot_keys", hot_keys(), hot),
        ("help", all_well(), help),
    ];
    let mut frames = Vec::new();
    for (name, seen, view) in cases {
        for size in [(80, 24), (120, 40)] {
            frames.push((format!("{name}.{}x{}", size.0, size.1), plain(&frame(&seen, &view, size))));
        }
    }
    frames.push(("server_out.text".to_owned(), text_of(&server_out())));
    frames.push(("many_pools.text".to_owned(), text_of(&many_pools())));
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/top");
    let mut differences = Vec::new();
    for (name, drawn) in frames {
        let expected = directory.join(format!("{name}.txt"));
        if std::env::var_os("SOFTMISS_BLESS").is_some() {
            fs::write(&expected, &drawn).expect("write");
        } else if fs::read_to_string(&expected).unwrap_or_default() != drawn {
            differences.push(format!("--- {name}\n{drawn}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn every_size_can_be_drawn_and_nothing_a_server_says_reaches_the_terminal_as_an_order() {
    let views = [Section::Servers, Section::Events, Section::HotKeys].map(|section| View {
        section,
        scroll: 3,
        pool: Some("shop_13".to_owned()),
        ..View::default()
    });
    for seen in [many_pools(), errors_told(), hot_keys(), seen([overview(0.0, &[], &[])])] {
        for view in &views {
            for width in (0..12).chain([40, 79, 111, 200]) {
                for height in (0..12).chain([19, 20, 50]) {
                    let buffer = frame(&seen, view, (width, height));
                    let is_order = |cell: &ratatui::buffer::Cell| cell.symbol().contains(char::is_control);
                    assert!(!buffer.content.iter().any(is_order), "{width}x{height}");
                }
            }
        }
    }
}

#[test]
fn colours_mark_trouble_and_can_be_done_without() {
    let colours = |colour| {
        let buffer = frame(&server_out(), &View { colour, ..View::default() }, (80, 24));
        let text = plain(&buffer);
        let painted: String =
            buffer.content.iter().filter(|cell| cell.fg == Color::Red).map(|cell| cell.symbol()).collect();
        let plain = buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset);
        (text, painted, plain)
    };
    let (with, without) = (colours(true), colours(false));
    assert_eq!(with.0, without.0, "the words are the same");
    assert!(with.1.contains("OUT"), "{}", with.1);
    assert!(without.2);
}

#[test]
fn keys_change_the_view() {
    let key = |code| KeyEvent::new(code, KeyModifiers::NONE);
    let (one, two, hot) = (all_well(), server_out(), hot_keys());
    let mut view = View::default();
    let mut press = |code, seen: &Seen| {
        assert_eq!(view.press(key(code), seen), Wish::Draw, "{code:?}");
        view.clone()
    };
    assert_eq!(
        press(KeyCode::Right, &one).chosen(&one.now).map(|pool| &pool.name),
        None,
        "one pool: nothing to choose"
    );
    press(KeyCode::Left, &one);
    for expected in [Some("web_cache"), Some("sessions"), None, Some("web_cache")] {
        assert_eq!(press(KeyCode::Char('p'), &two).pool.as_deref(), expected);
    }
    assert_eq!(press(KeyCode::Left, &two).pool, None);
    assert_eq!(press(KeyCode::Tab, &two).section, Section::Events);
    assert_eq!(press(KeyCode::Tab, &two).section, Section::Servers, "there are no hot keys");
    assert_eq!(press(KeyCode::Char('3'), &two).section, Section::Servers);
    assert_eq!(press(KeyCode::BackTab, &hot).section, Section::HotKeys);
    assert_eq!(press(KeyCode::Char('1'), &hot).section, Section::Servers);
    for expected in [Sort::Rate, Sort::Latency, Sort::Name, Sort::Problems] {
        assert_eq!(press(KeyCode::Char('s'), &two).sort, expected);
    }
    assert!(press(KeyCode::Char(' '), &two).is_paused);
    assert!(!press(KeyCode::Char(' '), &two).is_paused);
    assert!(press(KeyCode::Char('?'), &two).shows_help);
    assert!(!press(KeyCode::Esc, &two).shows_help, "out of the help, not out of the program");
    assert_eq!(press(KeyCode::Down, &two).scroll, 1);
    assert_eq!(press(KeyCode::PageUp, &two).scroll, 0);
    for end in [key(KeyCode::Char('q')), key(KeyCode::Esc), KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)] {
        assert_eq!(view.press(end, &two), Wish::End);
    }
}

#[test]
fn scrolling_ends_where_the_list_does() {
    let seen = many_pools();
    let mut buffer = Buffer::empty(ratatui::layout::Rect::new(0, 0, 80, 24));
    let mut at = |section, scroll| {
        let view = View { section, scroll, ..View::default() };
        draw::draw(&seen, &view, buffer.area, &mut buffer)
    };
    assert_eq!(at(Section::Servers, 2), 2);
    let last = at(Section::Servers, 1000);
    assert!((30..42).contains(&last), "{last} of 42 servers");
    assert_eq!(at(Section::Servers, last), last);
    assert!((10..30).contains(&at(Section::Events, 1000)));
}

#[test]
fn a_proxy_that_was_started_anew_has_no_past() {
    let mut seen = errors_told();
    let pool = seen.now.pools[0].clone();
    assert_eq!(seen.errors_per_s(&pool), Some(60.0));
    seen.failed(Trouble::TimedOut, Duration::from_secs(3));
    seen.answered(overview(1.0, &[], &[]));
    assert!(seen.silence.is_none());
    assert_eq!(seen.errors_per_s(&pool), None);
}

#[test]
fn addresses_are_taken_as_people_write_them() {
    for text in ["127.0.0.1:22223", "[::1]:22223", "web-17:22223", "http://127.0.0.1:22223/"] {
        assert!(written(text, "top").is_ok(), "{text}");
    }
    assert_eq!(written("http://web-17:22223/", "top").expect("an address"), "web-17:22223");
    for text in ["", "22223", ":22223", "web-17", "web-17:0", "web-17:99999", "127.0.0.1:x"] {
        assert!(written(text, "top").expect_err(text).to_string().contains("write HOST:PORT"), "{text}");
    }
    assert_eq!(reachable("0.0.0.0:1".parse().expect("an address")).to_string(), "127.0.0.1:1");
    assert_eq!(reachable("[::]:1".parse().expect("an address")).to_string(), "[::1]:1");
    assert_eq!(reachable("10.0.0.1:1".parse().expect("an address")).to_string(), "10.0.0.1:1");
}
