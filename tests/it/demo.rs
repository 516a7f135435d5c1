//! `softmiss demo`, as the README has it: started, watched, and ended with Ctrl-C.

use std::io::Read;
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
        .args(["demo", "--listen", &format!("127.0.0.1:{}", free_port())])
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
