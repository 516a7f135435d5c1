//! What a service manager is told, and sockets that it hands over.

use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::support::client::Client;
use super::support::process::{Process, free_port, scratch_dir};
use super::support::wait_until;

const SOON: Duration = Duration::from_secs(10);

/// A process that is ended with the test.
pub(crate) struct Ended(pub(crate) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Ended {
    fn signal(&self, name: &str) {
        let done = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().expect("kill");
        assert!(done.success());
    }
}

/// What the unit says of this.
fn said(key: &str) -> Option<String> {
    let unit = std::fs::read_to_string("conf/systemd/softmiss.service").expect("the unit");
    unit.lines().rev().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
}

/// The signal that a reload sends, and from whose time on it waits for what is told.
fn reload_signal() -> String {
    said("ReloadSignal").unwrap_or_else(|| "SIGHUP".to_owned())
}

fn hear(manager: &UnixDatagram, wanted: &str) -> String {
    let (mut buffer, since, mut heard) = ([0; 4096], Instant::now(), Vec::new());
    while since.elapsed() < SOON {
        if let Ok(count) = manager.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            if text.lines().any(|line| line.starts_with(wanted)) {
                return text;
            }
            heard.push(text);
        }
    }
    panic!("not heard: {wanted}, but {heard:?}");
}

#[test]
fn it_is_told_of_the_start_of_reloads_of_servers_that_are_out_and_of_the_end() {
    let folder = scratch_dir();
    let socket = folder.join("notify");
    let manager = UnixDatagram::bind(&socket).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let (mut server, port) = (Process::memcached(), free_port());
    let at = server.address;
    let file = folder.join("softmiss.yml");
    let write = |timeout: u32| {
        let text = format!(
            "softmiss: {{stats: none, admin: none}}\ncache:\n  listen: 127.0.0.1:{port}\n  timeout: {timeout}\n  \
             auto_eject_hosts: true\n  server_failure_limit: 1\n  server_retry_timeout: 200\n  servers: ['{at}:1 one']\n"
        );
        std::fs::write(&file, text).expect("write");
    };
    write(400);
    // The shell's process becomes that of the program, so that the watchdog is meant for it.
    let line = "WATCHDOG_PID=$$ WATCHDOG_USEC=900000 exec \"$0\" -c \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", line, env!("CARGO_BIN_EXE_softmiss")]).arg(&file).env("NOTIFY_SOCKET", &socket);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut proxy = Ended(child.expect("softmiss"));
    let told = hear(&manager, "READY=1");
    assert_eq!(told, "READY=1\nSTATUS=all is well: 1 server in service\n");
    hear(&manager, "WATCHDOG=1");
    // Ready means ready: nobody is refused.
    assert_eq!(Client::connect(([127, 0, 0, 1], port).into()).ask("get k\r\n"), "END");
    // Whoever sends it waits for both, whether there is something to be changed, nothing, or a file that is refused.
    let wrong = |_: u32| std::fs::write(&file, "cache: 1\n").expect("write");
    let ways: [(&dyn Fn(u32), &str); 4] = [
        (&write, "all is well"),
        (&write, "all is well"),
        (&wrong, "the configuration file is refused"),
        (&write, "all"),
    ];
    let (signal, mut before) = (reload_signal(), 0);
    for (change, status) in ways {
        change(300);
        proxy.signal(signal.trim_start_matches("SIG"));
        let told = hear(&manager, "RELOADING=1");
        let at = told.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse::<u64>().ok());
        let at = at.unwrap_or_else(|| panic!("no time in {told}"));
        assert!(at > before, "the time of this one: {told}");
        before = at;
        let told = hear(&manager, "READY=1");
        assert!(told.contains(&format!("\nSTATUS={status}")), "{told}");
    }
    server.kill();
    let mut client = Client::connect(([127, 0, 0, 1], port).into());
    wait_until("the status", SOON, || {
        client.ask("get k\r\n");
        let mut buffer = [0; 4096];
        let count = manager.recv(&mut buffer).unwrap_or(0);
        String::from_utf8_lossy(&buffer[..count]).contains("STATUS=1 of 1 server out of service: cache/one")
    });
    proxy.signal("TERM");
    hear(&manager, "STOPPING=1");
    assert!(proxy.0.wait().expect("its end").success());
    std::fs::remove_dir_all(folder).expect("remove");
}

/// What a manager is told from when an upgrade is ordered, until `is_all` of it.
fn hear_all(manager: &UnixDatagram, is_all: impl Fn(&[String]) -> bool) -> Vec<String> {
    let mut heard = Vec::new();
    wait_until("what is told of an upgrade", SOON, || {
        let mut buffer = [0; 4096];
        heard.extend(manager.recv(&mut buffer).map(|count| String::from_utf8_lossy(&buffer[..count]).into_owned()));
        is_all(&heard)
    });
    heard
}

#[test]
fn it_is_told_of_the_process_that_takes_over_and_hears_of_life_from_that() {
    let (folder, port) = (scratch_dir(), free_port());
    let (socket, file, program) = (folder.join("notify"), folder.join("softmiss.yml"), folder.join("program"));
    let manager = UnixDatagram::bind(&socket).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let pool = format!("cache:\n  listen: 127.0.0.1:{port}\n  timeout: 400\n  servers: ['127.0.0.1:9:1 one']\n");
    std::fs::write(&file, format!("softmiss: {{stats: none, admin: none}}\n{pool}")).expect("write");
    // A package puts another file in the place of the program; this one ends when it is to take over.
    let next = folder.join("next");
    let put = |write: &dyn Fn()| {
        write();
        std::fs::set_permissions(&next, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
        std::fs::rename(&next, &program).expect("another program");
    };
    let real = || {
        std::fs::copy(env!("CARGO_BIN_EXE_softmiss"), &next).expect("a copy");
    };
    put(&real);
    let line = "WATCHDOG_PID=$$ WATCHDOG_USEC=900000 exec \"$0\" -c \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", line]).arg(&program).arg(&file).env("NOTIFY_SOCKET", &socket);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut proxy = Ended(child.expect("softmiss"));
    hear(&manager, "READY=1");
    let mut client = Client::connect(([127, 0, 0, 1], port).into());
    assert!(client.ask("version\r\n").starts_with("VERSION"));
    let main = |heard: &[String]| -> Vec<u32> {
        let told = heard.iter().filter_map(|text| text.strip_prefix("MAINPID=")?.trim_end().parse().ok());
        told.collect()
    };

    put(&|| std::fs::write(&next, super::upgrade::FALSE_SUCCESSOR.replace("HOW FAR", "starts")).expect("a script"));
    proxy.signal("USR2");
    let told = main(&hear_all(&manager, |heard| main(heard).len() == 2));
    assert!(told[0] != proxy.0.id() && told[1] == proxy.0.id(), "it is the main process again: {told:?}");

    put(&real);
    proxy.signal("USR2");
    let is_ready = |text: &String| text.starts_with("READY=1\nSTATUS=all is well");
    let mut heard = hear_all(&manager, |heard| heard.iter().any(is_ready));
    assert!(proxy.0.wait().expect("its end").success());
    manager.set_nonblocking(true).expect("a socket");
    let mut buffer = [0; 4096];
    while let Ok(count) = manager.recv(&mut buffer) {
        heard.push(String::from_utf8_lossy(&buffer[..count]).into_owned());
    }
    manager.set_nonblocking(false).expect("a socket");
    let successor = main(&heard)[0];
    let of = |wanted: &dyn Fn(&String) -> bool| heard.iter().position(wanted);
    assert!(of(&|text| text.starts_with("MAINPID=")) < of(&is_ready), "before that nobody listens to it: {heard:?}");
    assert_eq!(of(&|text| text.starts_with("STOPPING=1")), None, "the service goes on: {heard:?}");
    // Nobody else is left who could say so.
    hear(&manager, "WATCHDOG=1");
    assert!(client.ask("version\r\n").starts_with("VERSION"), "the client has gone over");
    assert!(Command::new("kill").arg(successor.to_string()).status().expect("kill").success());
    hear(&manager, "STOPPING=1");
    std::fs::remove_dir_all(folder).expect("remove");
}

/// A manager that keeps a TCP socket and a unix socket, and starts the program anew with both.
pub(crate) const MANAGER: &str = "
import os, socket, sys
program, config, port, path = sys.argv[1:]
tcp = socket.socket()
tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
tcp.bind(('127.0.0.1', int(port)))
tcp.listen(100)
unix = socket.socket(socket.AF_UNIX)
unix.bind(path)
unix.listen(100)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        tcp_copy, unix_copy = os.dup(tcp.fileno()), os.dup(unix.fileno())
        os.dup2(tcp_copy, 3)
        os.dup2(unix_copy, 4)
        os.set_inheritable(3, True)
        os.set_inheritable(4, True)
        os.environ.update(LISTEN_FDS='2', LISTEN_PID=str(os.getpid()))
        os.execv(program, [program, '-c', config])
    sys.stdin.readline()
    os.kill(child, 15)
    os.waitpid(child, 0)
    print('ended', flush=True)
";

#[test]
fn sockets_that_are_handed_over_are_taken_and_nobody_is_refused_over_a_restart() {
    let (server, port, folder) = (Process::memcached(), free_port(), scratch_dir());
    let (file, path) = (folder.join("softmiss.yml"), folder.join("cache.sock"));
    let pool = |name: &str, listen: &str| {
        format!("{name}:\n  listen: {listen}\n  timeout: 400\n  servers: ['{}:1 one']\n", server.address)
    };
    let text = "softmiss: {stats: none, admin: none}\n".to_owned()
        + &pool("tcp", &format!("127.0.0.1:{port}"))
        + &pool("unix", &path.display().to_string());
    std::fs::write(&file, text).expect("write");
    let mut command = Command::new("python3");
    command.args(["-c", MANAGER, env!("CARGO_BIN_EXE_softmiss")]).arg(&file).arg(port.to_string()).arg(&path);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut manager = Ended(child.expect("python3"));
    wait_until("the sockets", SOON, || path.exists() && std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let mut input = manager.0.stdin.take().expect("its input");
    for _ in 0..3 {
        // Who connects while nobody is there waits, and is served when somebody is.
        let mut early = Client::connect(([127, 0, 0, 1], port).into());
        early.send("get k\r\n");
        input.write_all(b"start\n").expect("a line");
        assert_eq!(early.line(), "END");
        assert_eq!(super::reload::unix(&path, "get k\r\n"), "END\r\n");
        input.write_all(b"end\n").expect("a line");
        assert!(early.is_closed());
        assert!(path.exists(), "the file is the manager's");
    }
    drop(input);
    std::fs::remove_dir_all(folder).expect("remove");
}

#[test]
fn the_unit_reloads_by_what_tells_of_its_end_and_fails_where_the_file_is_refused() {
    // Such a unit sends the signal and runs the command as well.
    assert_eq!((said("Type").as_deref(), reload_signal().as_str()), (Some("notify-reload"), "SIGHUP"));
    assert!(said("ExecReload").is_some_and(|command| command.starts_with("/usr/bin/softmiss reload ")));
    // Of an upgrade that fails, the predecessor tells while another is the main one.
    assert_eq!(said("NotifyAccess").as_deref(), Some("all"));
}
