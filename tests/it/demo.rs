//! `softmiss demo`, as the README has it: started, watched, and ended with Ctrl-C.

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use super::support::process::free_port;

fn start() -> Child {
    Command::new(env!("CARGO_BIN_EXE_softmiss"))
        .args(["demo", "--listen", &format!("127.0.0.1:{}", free_port())])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("softmiss")
}

fn end(demo: Child) -> Output {
    let done = Command::new("kill").args(["-s", "INT", &demo.id().to_string()]).status().expect("kill");
    assert!(done.success());
    demo.wait_with_output().expect("its end")
}

#[test]
fn ending_it_is_no_error_that_its_application_sees() {
    // Each catches its clients somewhere else.
    let demos: Vec<_> = (0..6).map(|_| start()).collect();
    std::thread::sleep(Duration::from_millis(1500));
    for output in demos.into_iter().map(end) {
        let text = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}\n{complaint}");
        assert!(text.contains(" 0 errors, 0 wrong values") && text.contains(" hits, "), "{text}\n{complaint}");
    }
}
