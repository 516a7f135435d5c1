//! `softmiss demo`, as the README has it: started, watched, and ended with Ctrl-C.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::support::process::free_port;

/// A demo, which ends with the test whatever becomes of that.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start() -> Demo {
    let child = Command::new(env!("CARGO_BIN_EXE_softmiss"))
        .args(["demo", "--admin", "none", "--listen", &format!("127.0.0.1:{}", free_port())])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("softmiss");
    Demo(child)
}

/// Ends it as Ctrl-C does; returns what it ended with and what it said.
fn end(mut demo: Demo) -> (ExitStatus, String) {
    let done = Command::new("kill").args(["-s", "INT", &demo.0.id().to_string()]).status().expect("kill");
    assert!(done.success());
    let mut text = String::new();
    demo.0.stdout.take().expect("stdout").read_to_string(&mut text).expect("what it says");
    demo.0.stderr.take().expect("stderr").read_to_string(&mut text).expect("what it complains of");
    (demo.0.wait().expect("its end"), text)
}

#[test]
fn ending_it_is_no_error_that_its_application_sees() {
    // Each catches its clients somewhere else.
    let demos: Vec<_> = (0..6).map(|_| start()).collect();
    std::thread::sleep(Duration::from_millis(1500));
    for (status, text) in demos.into_iter().map(end) {
        assert!(status.success(), "{text}");
        assert!(text.contains(" 0 errors, 0 wrong values") && text.contains(" hits, "), "{text}");
    }
}

/// What a terminal shows when this is written to it, line by line. What does not fit into 80x24 fails the test.
fn screen(text: &str) -> Vec<String> {
    let (mut lines, mut row, mut column) = (vec![String::new(); 24], 0_usize, 0_usize);
    let mut rest = text.chars();
    while let Some(sign) = rest.next() {
        match sign {
            '\r' => column = 0,
            '\n' => {
                row += 1;
                assert!(row < 24, "the terminal would scroll: {lines:#?}");
            }
            '\x1b' => {
                let order = rest.as_str().trim_start_matches('[');
                let end = order.find(char::is_alphabetic).expect("an order");
                let (number, kind) = (&order[..end], &order[end..=end]);
                rest = order[end + 1..].chars();
                match kind {
                    "A" => row -= number.parse::<usize>().expect("lines to go up"),
                    "K" => lines[row] = lines[row].chars().take(column).collect(),
                    "m" => {}
                    _ => panic!("{kind} is not known"),
                }
            }
            sign => {
                let mut signs: Vec<char> = lines[row].chars().collect();
                signs.resize(signs.len().max(column + 1), ' ');
                signs[column] = sign;
                lines[row] = signs.into_iter().collect();
                column += 1;
                assert!(column <= 80, "a line would be broken: {}", lines[row]);
            }
        }
    }
    lines
}

#[test]
fn it_fits_a_terminal_of_80x24_and_says_where_the_dashboard_is() {
    let (port, admin) = (free_port(), free_port());
    let demo = format!("demo --listen 127.0.0.1:{port} --admin 127.0.0.1:{admin} --seconds 60");
    let command = format!("stty rows 24 cols 80; exec {} {demo}", env!("CARGO_BIN_EXE_softmiss"));
    let mut script = Demo(
        Command::new("script")
            .args(["-qefc", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script (of bsdutils)"),
    );
    let mut terminal = script.0.stdout.take().expect("stdout");
    let (mut written, mut chunk) = (Vec::new(), [0; 4096]);
    // Until it has drawn what the monkey has done, which is not at once, and once more.
    while !(screen_text(&written).contains("node-") && written.windows(3).filter(|part| part == b"\x1b[1").count() >= 3)
    {
        let read = terminal.read(&mut chunk).expect("the terminal");
        assert!(read > 0, "it has ended: {}", screen_text(&written));
        written.extend_from_slice(&chunk[..read]);
    }
    let shown = screen(&screen_text(&written)).join("\n");
    for part in [
        &format!("  watch    http://127.0.0.1:{admin}/ in a browser"),
        &format!("softmiss top 127.0.0.1:{admin} in another terminal"),
        "requests/s",
        "Not stored: sets whose node had just failed",
        "latency: half below",
        "in service",
    ] {
        assert!(shown.contains(part), "no {part:?} in\n{shown}");
    }
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], admin));
    let past = super::support::http::get(address, "/history").json();
    assert_eq!(past["pools"][0]["servers"].as_array().map(Vec::len), Some(3), "{past}");
    script.0.stdin.take().expect("stdin").write_all(b"\x03").expect("Ctrl-C");
    let mut end = String::new();
    terminal.read_to_string(&mut end).expect("the end of it");
    assert!(end.contains(" 0 errors, 0 wrong values"), "{end}");
    // The terminal itself says ^C, wherever the line is by then.
    let mut lines = end.lines().map(|line| line.strip_prefix("^C").unwrap_or(line));
    assert!(lines.all(|line| line.starts_with('\x1b') || line.chars().count() <= 80), "{end}");
}

/// What was written, without a piece of a character or an order at its end.
fn screen_text(written: &[u8]) -> String {
    let text = String::from_utf8_lossy(written);
    let whole = text.rfind('\n').map_or(0, |at| at + 1);
    text[..whole].to_owned()
}

#[test]
fn an_address_that_is_taken_is_said_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_softmiss"))
        .args(["demo", "--listen", &address, "--admin", "none", "--seconds", "1"])
        .output()
        .expect("softmiss");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.matches("cannot listen on").count()), (Some(1), 1), "{said}");
    assert!(said.contains(&format!("is {address} taken? Choose another with --listen")), "{said}");
}
