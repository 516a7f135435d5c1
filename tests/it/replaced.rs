//! Reloads for which something stands in the way: a listener that is to be replaced, or what is no file.

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use super::reload::{Reloaded, SOON, got, loopback, mode, pool, unix, whole, works};
use super::support::client::Client;
use super::support::http::post;
use super::support::process::{Process, free_port, scratch_dir};
use super::support::wait_until;
use super::systemd::{Ended, MANAGER};

/// A pipe in the place of the file would hold up this reload, and all that come after it.
#[test]
fn a_pipe_into_which_nobody_writes_is_not_waited_for() {
    let (server, port) = (Process::memcached(), free_port());
    let pools = pool("p", &loopback(port).to_string(), &[(server.address, "s")], &[]);
    let reloaded = Reloaded::start(port, "", &pools).expect_log("configuration refused").expect_log("has no pools");
    let file = reloaded.proxy.file.clone();
    let pipe = || {
        std::fs::remove_file(&file).expect("the file");
        assert!(Command::new("mkfifo").arg(&file).status().expect("mkfifo").success());
    };
    pipe();
    assert_eq!(post(reloaded.admin, "/reload").status, 422);
    assert_eq!(reloaded.metric("softmiss_reload_refused"), 1.0);
    // What somebody writes into one is taken up, also if it takes more than one piece.
    let next = format!("{}{}", "# a comment\n".repeat(20_000), pools.replace("timeout: 1000", "timeout: 900"));
    let admin = reloaded.admin;
    let whole = format!("softmiss:\n  admin: {admin}\n{next}");
    let to = file.clone();
    let writer = std::thread::spawn(move || while std::fs::write(&to, &whole).is_err() {});
    // Who comes before the writer finds the pipe empty, and may be gone when it writes: it tries again.
    let changed = std::iter::repeat_with(|| post(admin, "/reload")).find(|answer| answer.status == 200);
    assert!(changed.expect("it ends").body.contains("timeout: 900ms, it was 1000ms"));
    writer.join().expect("the writer");
    std::fs::remove_file(&file).expect("the pipe");
    reloaded.write("", &pools);
    assert_eq!(reloaded.reload().len(), 3, "{:?}", reloaded.proxy.log());
    assert!(works(&mut reloaded.proxy.client(), "k"));
}

#[test]
fn a_listener_is_widened_and_narrowed_at_its_port() {
    let (server, port) = (Process::memcached(), free_port());
    let at = |listen: &str| pool("p", &format!("{listen}:{port}"), &[(server.address, "s")], &[]);
    let reloaded = Reloaded::start(port, "", &at("127.0.0.1"));
    let mut client = reloaded.proxy.client();
    for listen in ["0.0.0.0", "127.0.0.1", "[::]", "0.0.0.0", "[::ffff:127.0.0.1]", "127.0.0.1"] {
        reloaded.goes_over("", &at(listen));
        assert!(works(&mut client, "k") && works(&mut Client::connect(loopback(port)), "k"), "{listen}");
    }
    // The port is not to be had for another process by mistake.
    let other = std::net::TcpListener::bind(loopback(port));
    assert_eq!(other.map(drop).map_err(|error| error.kind()), Err(std::io::ErrorKind::AddrInUse));
}

#[test]
fn the_path_of_a_socket_may_be_written_otherwise_and_its_mode_left_out() {
    let (server, port, folder) = (Process::memcached(), free_port(), scratch_dir());
    let path = folder.join("a.sock");
    let first = pool("first", &loopback(port).to_string(), &[(server.address, "s")], &[]);
    let with = |listen: String| format!("{first}{}", pool("p", &listen, &[(server.address, "s")], &[]));
    let reloaded = Reloaded::start(port, "", &with(format!("{} 0600", path.display())));
    assert_eq!(mode(&path), 0o600);
    let usual = folder.join("usual");
    drop(std::os::unix::net::UnixListener::bind(&usual).expect("a socket"));
    reloaded.goes_over("", &with(path.display().to_string()));
    assert_eq!(mode(&path), mode(&usual));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("a mode");
    let detour = folder.join("../").join(folder.file_name().expect("a name")).join("a.sock");
    reloaded.goes_over("", &with(detour.display().to_string()));
    assert_eq!(mode(&path), 0o640, "nothing was said of the mode");
    assert_eq!(unix(&path, "get k\r\n"), "END\r\n");
    assert_eq!(got(&mut reloaded.proxy.client(), "k"), "END\r\n");
}

/// A pool whose listening sockets somebody else keeps moves elsewhere and comes back to them.
#[test]
fn sockets_that_were_handed_over_are_there_for_who_comes_back() {
    let (server, port, folder) = (Process::memcached(), free_port(), scratch_dir());
    let (file, path, admin) = (folder.join("softmiss.yml"), folder.join("cache.sock"), loopback(free_port()));
    let pools = |tcp: &str, unix: &str| {
        let servers = [(server.address, "s")];
        let text = pool("tcp", tcp, &servers, &[]) + &pool("unix", unix, &servers, &[]);
        std::fs::write(&file, whole(admin, "  stats: none\n", &text)).expect("write");
    };
    let (tcp, unix_path) = (loopback(port).to_string(), path.display().to_string());
    pools(&tcp, &unix_path);
    let mut command = Command::new("python3");
    command.args(["-c", MANAGER, env!("CARGO_BIN_EXE_softmiss")]).arg(&file).arg(port.to_string()).arg(&path);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut manager = Ended(child.expect("python3"));
    let mut input = manager.0.stdin.take().expect("its input");
    input.write_all(b"start\n").expect("a line");
    wait_until("the admin port", SOON, || TcpStream::connect(admin).is_ok());
    for _ in 0..2 {
        let mut client = Client::connect(loopback(port));
        assert!(works(&mut client, "k"));
        pools(&loopback(free_port()).to_string(), &folder.join("other.sock").display().to_string());
        assert_eq!(post(admin, "/reload").status, 200);
        // Somebody who comes meanwhile waits for who listens there next.
        let mut early = Client::connect(loopback(port));
        pools(&tcp, &unix_path);
        let answer = post(admin, "/reload");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(works(&mut early, "k") && works(&mut client, "k"));
        assert!(unix(&path, "get k\r\n").starts_with("VALUE k 0 1"));
    }
    input.write_all(b"end\n").expect("a line");
    drop(input);
    assert!(manager.0.wait().expect("its end").success() && path.exists());
}
