//! A network of a test's own, in which packets can be dropped without anybody else noticing.

use std::process::{Command, Stdio};

/// Set in the process that runs inside.
const INSIDE: &str = "SOFTMISS_CHAOS_NAMESPACE";

/// `PATH` with the directories of the tools that only root uses.
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Runs a command to its end; what it says of a failure is returned.
fn tried(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).env("PATH", path()).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program} {}: {text}", arguments.join(" "))) }
}

/// Runs `body` in a network of its own, by way of running the test of this name again in there. Where that is not
/// possible it says why, and the test has nothing to say.
pub(super) fn alone(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        body();
        return;
    }
    let trial = "ip link set lo up && iptables -A INPUT -p tcp --dport 1 --syn -j DROP";
    if let Err(reason) = tried("unshare", &["-n", "sh", "-c", trial]) {
        println!("not run, for want of a network of its own: {reason}");
        eprintln!("{test} was not run, for want of a network of its own: {reason}");
        return;
    }
    let output = Command::new("unshare")
        .args(["-n", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("this program"))
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .env("PATH", path())
        .stdin(Stdio::null())
        .output()
        .expect("unshare");
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    eprintln!("{complained}");
    assert!(output.status.success(), "{test} failed in a network of its own");
    assert!(said.contains("1 passed"), "{test} did not run in a network of its own");
}
