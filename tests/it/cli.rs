//! The command line: twemproxy's flags, the subcommands, and what a mistake is told.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use super::support::process::{Process, Proxy, free_port, scratch_dir};

fn softmiss(arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Command::new(env!("CARGO_BIN_EXE_softmiss")).current_dir(root).args(arguments).output().expect("softmiss")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_sample_files_can_be_used() {
    let files: Vec<_> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf"))
        .expect("conf")
        .map(|entry| entry.expect("an entry").path().display().to_string())
        .filter(|path| path.ends_with(".yml"))
        .collect();
    assert!(files.len() >= 2);
    for file in &files {
        let output = softmiss(&["-t", "-c", file]);
        assert!(output.status.success(), "{}", err(&output));
        assert_eq!(err(&output), format!("softmiss: configuration file '{file}' syntax is ok\n"), "no warnings either");
        assert!(out(&softmiss(&["check", file])).contains(": ok ("));
    }
}

#[test]
fn a_wrong_file_is_refused_with_the_reason_and_exit_status_1() {
    let directory = scratch_dir();
    let file = directory.join("wrong.yml");
    std::fs::write(&file, "p:\n  listen: 127.0.0.1:1\n  hsah: md5\n  servers:\n    - 1.2.3.4:1:1\n").expect("write");
    let file = file.display().to_string();
    for arguments in [
        vec!["-t", "-c", &file],
        vec!["check", &file],
        vec!["-c", &file],
        vec!["route", "-c", &file, "k"],
        vec!["top", "-c", &file],
    ] {
        let output = softmiss(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(err(&output).contains("did you mean `hash`?"), "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains("wrong.yml:3:3"), "{arguments:?}: {}", err(&output));
    }
    let output = softmiss(&["-c", "no/such/file.yml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("cannot be read"));
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn bad_options_are_told_and_exit_with_status_1() {
    for arguments in [
        &["-z"][..],
        &["-s", "0"],
        &["-s", "x"],
        &["-m", "100"],
        &["-c"],
        &["route"],
        &["check"],
        &["top", "a:1", "b:1"],
        &["nonsense"],
    ] {
        let output = softmiss(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(err(&output).starts_with("error: "), "{arguments:?}: {}", err(&output));
    }
}

#[test]
fn help_version_and_statistics_are_described() {
    let help = softmiss(&["-h"]);
    assert!(help.status.success());
    for word in ["-c, --conf-file", "check", "route", "top", "demo", "Examples:"] {
        assert!(out(&help).contains(word), "{word} is missing in {}", out(&help));
    }
    assert_eq!(out(&softmiss(&["-V"])), format!("This is softmiss-{}\n", env!("CARGO_PKG_VERSION")));
    let described = out(&softmiss(&["-D"]));
    for field in ["client_eof", "fragments", "server_ejected_at", "out_queue_bytes"] {
        assert!(described.contains(field), "{field} is missing in {described}");
    }
    assert!(out(&softmiss(&["completions", "bash"])).contains("softmiss"));
    assert!(out(&softmiss(&["man"])).contains(".TH softmiss"));
}

#[test]
fn route_says_where_and_why_and_what_if() {
    let file = "conf/example.yml";
    let plain = out(&softmiss(&["route", "-c", file, "user:42"]));
    assert!(plain.contains("pool     web_cache") && plain.contains("why      fnv1a_64 is 0x"), "{plain}");
    let json = |arguments: &[&str]| -> serde_json::Value {
        let output = softmiss(arguments);
        serde_json::from_str(&out(&output)).unwrap_or_else(|_| panic!("{}{}", out(&output), err(&output)))
    };
    let home = json(&["route", "-c", file, "--pool", "web_cache", "--json", "user:42"]);
    let server = home["server"].as_str().expect("a server");
    let moved = json(&["route", "-c", file, "--pool", "web_cache", "--json", "--dead", server, "user:42"]);
    assert_ne!(moved["server"], home["server"]);
    assert_eq!(moved["home"], home["server"]);
    let nowhere = json(&[
        "route",
        "-c",
        file,
        "--pool",
        "web_cache",
        "--json",
        "--dead",
        "cache-a",
        "--dead",
        "cache-b",
        "--dead",
        "cache-c",
        "k",
    ]);
    assert!(nowhere["server"].is_null());
    assert_eq!(
        json(&["route", "-c", file, "--pool", "web_cache", "--json", "--hex", "757365723a3432"])["server"],
        home["server"]
    );
    let wrong = softmiss(&["route", "-c", file, "--dead", "cache-x", "k"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(err(&wrong).contains("there is no server `cache-x`"));
    assert!(err(&softmiss(&["route", "-c", file, "--pool", "web-cache", "k"])).contains("did you mean `web_cache`?"));
}

#[test]
fn a_taken_address_is_told_at_start() {
    let server = Process::memcached();
    let text = format!("p:\n  listen: {}\n  timeout: 400\n  servers:\n    - 127.0.0.1:1:1\n", server.address);
    let directory = scratch_dir();
    let file = directory.join("taken.yml");
    std::fs::write(&file, text).expect("write");
    let output = softmiss(&["-c", &file.display().to_string(), "-s", &free_port().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains(&format!("pool p: cannot listen on {}", server.address)), "{}", err(&output));
    assert!(err(&output).contains("in use"), "{}", err(&output));
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn unix_sockets_on_both_sides() {
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    let directory = scratch_dir();
    let (behind, front) = (directory.join("memcached.sock"), directory.join("proxy.sock"));
    let mut memcached =
        Command::new("memcached").args(["-u", "nobody", "-a", "0777", "-s"]).arg(&behind).spawn().expect("memcached");
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).expect("permissions");
    let port = free_port();
    let text = format!(
        "unix:\n  listen: {} 0600\n  timeout: 400\n  servers:\n    - {}:1 local\ntcp:\n  listen: 127.0.0.1:{port}\n  timeout: 400\n  servers:\n    - {}:1 local\n",
        front.display(),
        behind.display(),
        behind.display()
    );
    super::support::wait_until("memcached's socket", Duration::from_secs(5), || UnixStream::connect(&behind).is_ok());
    let proxy = Proxy::with_file(&text, port);
    assert_eq!(std::fs::metadata(&front).expect("the socket").permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&front).expect("connect");
    stream.write_all(b"set a 0 0 2\r\nhi\r\nget a\r\n").expect("send");
    let expected = b"STORED\r\nVALUE a 0 2\r\nhi\r\nEND\r\n";
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer).expect("answer");
    assert_eq!(answer, expected);
    assert_eq!(proxy.client().exchange(b"get a\r\n"), b"VALUE a 0 2\r\nhi\r\nEND\r\n");
    memcached.kill().expect("kill");
    memcached.wait().expect("wait");
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn a_second_start_leaves_the_socket_of_the_first_alone() {
    let server = Process::memcached();
    let (path, port) = (scratch_dir().join("s.sock"), free_port());
    let pool = |name: &str, listen: &str| {
        format!("{name}:\n  listen: {listen}\n  timeout: 400\n  servers: ['{}:1']\n", server.address)
    };
    let unix = pool("unix", &format!("{} 0600", path.display()));
    let ask = || {
        let mut client = std::os::unix::net::UnixStream::connect(&path).ok()?;
        std::io::Write::write_all(&mut client, b"mn\r\n").ok()?;
        let mut answer = [0; 4];
        std::io::Read::read_exact(&mut client, &mut answer).ok()?;
        Some(answer)
    };
    let mut first = Proxy::with_file(&(unix.clone() + &pool("pool", &format!("127.0.0.1:{port}"))), port);
    assert_eq!(ask(), Some(*b"MN\r\n"));
    let file = scratch_dir().join("second.yml");
    std::fs::write(&file, &unix).expect("write the file");
    let second = Command::new(env!("CARGO_BIN_EXE_softmiss"))
        .arg("-c")
        .arg(&file)
        .args(["-s", &free_port().to_string(), "--admin", "none"])
        .output()
        .expect("softmiss");
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another process listens on this socket"));
    assert_eq!(ask(), Some(*b"MN\r\n"), "the first one has it still");
    first.signal("TERM");
    assert!(first.wait(Duration::from_secs(10)).success());
    assert!(!path.exists(), "it removes its own");
}

/// The arguments that put a proxy in the background, and the places of its log and its id.
fn in_background(file: &Path) -> (Vec<String>, std::path::PathBuf, std::path::PathBuf) {
    let (log, pid) = (file.with_extension("log"), file.with_extension("pid"));
    let arguments = ["-c", &file.display().to_string(), "-d", "-s", &free_port().to_string(), "--admin", "none"]
        .map(str::to_owned)
        .into_iter()
        .chain(["-o".to_owned(), log.display().to_string(), "-p".to_owned(), pid.display().to_string()]);
    (arguments.collect(), log, pid)
}

#[test]
fn what_starts_in_the_background_serves_when_that_is_said() {
    let server = Process::memcached();
    let (file, port) = (scratch_dir().join("file.yml"), free_port());
    let text = format!("pool:\n  listen: 127.0.0.1:{port}\n  timeout: 400\n  servers: ['{}:1']\n", server.address);
    std::fs::write(&file, text).expect("write the file");
    let (arguments, log, pid) = in_background(&file);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let started = softmiss(&arguments);
    assert!(started.status.success(), "{}", err(&started));
    // At once, without waiting.
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut client = super::support::client::Client::connect(address);
    assert_eq!(client.ask("mn\r\n"), "MN");
    let id = std::fs::read_to_string(&pid).expect("the pid file");
    assert!(err(&started).contains(&format!("process {id}")), "{}", err(&started));

    // A second one cannot start: said here, and in its log.
    let other = file.with_file_name("other.yml");
    std::fs::copy(&file, &other).expect("copy");
    let (arguments, other_log, other_pid) = in_background(&other);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let second = softmiss(&arguments);
    assert_eq!(second.status.code(), Some(1), "{}", err(&second));
    assert!(err(&second).contains("cannot listen on"), "{}", err(&second));
    let told = std::fs::read_to_string(other_log).expect("a log");
    assert!(told.contains("cannot listen on") && told.contains("ERROR"), "{told}");
    assert!(!other_pid.exists());

    assert!(Command::new("kill").args(["-s", "TERM", &id]).status().expect("kill").success());
    super::support::wait_until("its end", Duration::from_secs(10), || !pid.exists());
    assert!(std::fs::read_to_string(log).expect("a log").contains("pool is served"));
}

#[test]
fn why_it_cannot_start_is_a_line_of_the_log_wherever_the_log_is() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let (folder, port) = (scratch_dir(), free_port().to_string());
    let file = folder.join("file.yml");
    let usual = ["-s", &port, "--admin", "none", "-c", file.to_str().expect("a name")];
    for format in ["text", "json"] {
        let text = format!(
            "softmiss: {{log: {{format: {format}}}}}\np:\n  listen: {address}\n  timeout: 400\n  servers: ['127.0.0.1:9:1']\n"
        );
        std::fs::write(&file, text).expect("write the file");
        // Of the line, by what is said: the message and the reason.
        let read = |line: &str| {
            if format == "json" {
                let line: serde_json::Value = serde_json::from_str(line).expect("a line");
                return [&line["message"], &line["reason"]].map(|word| word.as_str().unwrap_or_default().to_owned());
            }
            let line = super::support::logfmt::parse(line).expect("a line");
            assert_eq!(line.level, "ERROR");
            [line.message.clone(), line.get("reason").unwrap_or_default().to_owned()]
        };
        let last = |text: &str| read(text.lines().last().expect("a line"));
        let log = folder.join(format!("{format}.log"));
        let to_file: Vec<&str> = usual.iter().copied().chain(["-o", log.to_str().expect("a name")]).collect();
        for (arguments, to_file) in [(&usual[..], false), (&to_file, true)] {
            let output = softmiss(arguments);
            assert_eq!(output.status.code(), Some(1));
            let [message, reason] = last(&err(&output));
            assert_eq!(message, "softmiss cannot start");
            assert!(reason.starts_with(&format!("pool p: cannot listen on {address}: ")), "{reason}");
            assert_eq!(err(&output).matches("cannot listen on").count(), 1, "once: {}", err(&output));
            if to_file {
                let told = std::fs::read_to_string(&log).expect("a log");
                assert_eq!(last(&told), [message, reason]);
            }
        }
        // A log that cannot be opened, by its name.
        let nowhere = folder.join("no/such/folder.log");
        let arguments: Vec<&str> = usual.iter().copied().chain(["-o", nowhere.to_str().expect("a name")]).collect();
        let output = softmiss(&arguments);
        assert_eq!(output.status.code(), Some(1));
        let [message, reason] = last(&err(&output));
        assert_eq!(message, "softmiss cannot start");
        assert!(
            reason.starts_with(&format!("cannot open the log file {}: No such file", nowhere.display())),
            "{reason}"
        );
    }
}

#[test]
fn flags_that_give_a_port_twice_are_told_which() {
    let (file, port, admin) = (scratch_dir().join("file.yml"), free_port(), free_port());
    let text = format!(
        "softmiss: {{admin: '127.0.0.1:{admin}'}}\ncache:\n  listen: 0.0.0.0:{port}\n  timeout: 400\n  servers: ['127.0.0.1:9:1']\n"
    );
    std::fs::write(&file, text).expect("write the file");
    let (port, admin) = (port.to_string(), admin.to_string());
    let at_pool = format!("127.0.0.1:{port}");
    let spare = free_port().to_string();
    for (flags, told) in [
        (
            vec!["-s", &port],
            format!("the address that -s or -a gives, {at_pool}, is where pool cache listens (0.0.0.0:{port})"),
        ),
        (
            vec!["-s", &spare, "--admin", &at_pool],
            format!("the address that --admin gives, {at_pool}, is where pool cache listens"),
        ),
        (
            vec!["-s", &admin],
            format!("the address that -s or -a gives, 127.0.0.1:{admin}, is that of the admin port as well"),
        ),
    ] {
        let arguments: Vec<&str> = ["-c", file.to_str().expect("a name")].into_iter().chain(flags).collect();
        let output = softmiss(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(err(&output).contains(&told), "{arguments:?}: {}", err(&output));
    }
}

#[test]
fn a_log_that_goes_nowhere_is_said_to_when_it_starts() {
    let (file, port) = (scratch_dir().join("file.yml"), free_port());
    std::fs::write(&file, format!("p:\n  listen: 127.0.0.1:{port}\n  timeout: 400\n  servers: ['127.0.0.1:9:1']\n"))
        .expect("write the file");
    let (mut arguments, log, pid) = in_background(&file);
    let ends = |pid: &Path| {
        let id = std::fs::read_to_string(pid).expect("the pid file");
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().expect("kill").success());
        super::support::wait_until("its end", Duration::from_secs(10), || !pid.exists());
    };
    let start = |arguments: &[String]| err(&softmiss(&arguments.iter().map(String::as_str).collect::<Vec<_>>()));
    let said = start(&arguments);
    ends(&pid);
    assert!(!said.contains("nowhere"), "{said}");
    arguments.retain(|argument| argument != "-o" && *argument != log.display().to_string());
    let said = start(&arguments);
    ends(&pid);
    assert!(said.contains("its log goes nowhere from here on: name a file for it with `-o FILE`"), "{said}");
}

#[test]
fn the_help_fits_a_terminal_and_its_examples_can_be_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tried = 0;
    for command in ["", "check", "route", "reload", "upgrade", "health", "top", "demo"] {
        for flag in ["-h", "--help"] {
            let arguments: Vec<&str> = [command, flag].into_iter().filter(|word| !word.is_empty()).collect();
            let output = softmiss(&arguments);
            let text = String::from_utf8(output.stdout).expect("text");
            let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > 80).collect();
            assert!(wide.is_empty(), "{arguments:?}: {wide:#?}");
            for line in text.lines().filter_map(|line| line.strip_prefix("  softmiss ")) {
                let words: Vec<&str> = line.split("  ").next().unwrap_or_default().split(' ').collect();
                if ["check", "route"].contains(&words[0]) {
                    let output = Command::new(env!("CARGO_BIN_EXE_softmiss")).current_dir(root).args(&words).output();
                    let output = output.expect("softmiss");
                    assert!(output.status.success(), "{words:?}: {}", err(&output));
                    tried += 1;
                }
            }
        }
    }
    assert_eq!(tried, 8, "four examples, each in both helps");
    assert!(String::from_utf8_lossy(&softmiss(&["--help"]).stdout).contains("memcached and Redis"));
}

#[test]
fn a_level_beyond_twemproxys_is_taken_for_its_highest_and_that_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let file = scratch_dir().join("file.yml");
    let address = taken.local_addr().expect("an address");
    std::fs::write(&file, format!("p:\n  listen: {address}\n  timeout: 400\n  servers: ['127.0.0.1:9:1']\n"))
        .expect("write the file");
    let port = free_port().to_string();
    for (level, said) in [("11", false), ("12", true), ("300", true)] {
        // It does not start, so that it ends.
        let output = softmiss(&["-c", file.to_str().expect("a name"), "-s", &port, "--admin", "none", "-v", level]);
        let line = err(&output)
            .lines()
            .find(|line| line.contains("the log level is out of its range, 0 to 11"))
            .map(str::to_owned);
        assert_eq!(line.is_some(), said, "{level}: {}", err(&output));
        assert!(line.is_none_or(|line| line.contains(&format!("level={level} taken_as=11"))));
        assert!(err(&output).contains("cannot listen on"), "{}", err(&output));
    }
}

#[test]
fn no_secret_of_a_file_that_is_refused_goes_into_the_log() {
    let file = scratch_dir().join("file.yml");
    let (arguments, log, _) = in_background(&file);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let pool = "  listen: 127.0.0.1:1\n  redis: true\n  servers: ['127.0.0.1:9:1']\n";
    for wrong in [
        "p:\n  redis_auth=hunter2\n  redis: true\n",
        "p:\n  redis_auth:hunter2\n  redis: true\n",
        "p:\n  redis_auth:hunter2\n",
        "p:\n  redis: true\n  redis_auth: \"hunter2\n  timeout: 400\n",
        "p:\n  redis: true\n  redis_auth: ['hunter2\n  timeout: 400\n",
        "p:\n  redis: true\n  redis_auth:\n    'hunter2\n  timeout: 400\n",
        "p:\n  redis: true\n  password: \"hunter2\n  timeout: 400\n",
        "p: {redis: true, redis_auth: hunter2, timeout: 400\n",
        "p: {redis: true, redis_auth: 'hunter2}\n",
        "p:\n  redis: true\n   redis_auth: hunter2\n",
        "p:\n  redis: true\n   redis_password: hunter2\n",
        "p:\n  redis: true\n redis_auth: hunter2\n",
        "p:\n  timeout: 400\n    redis_auth:hunter2\n",
        "p:\n  servers: 10.0.0.1:1:1\n    redis_auth=hunter2\n",
        "p:\n  servers:\n    a: 10.0.0.1:1:1\n    redis_auth: hunter2\n",
        "p:\n  servers:\n    - 10.0.0.1:1:1\n    - redis_auth:hunter2\n",
        "p:\n  sasl=app:hunter2\n  timeout: 400\n",
        "p:\n  sasl:app:hunter2\n  timeout: 400\n",
        "p:\n  sasl: {app: hunter2}\n",
        "p:\n  sasl: {app: \"${hunter2}\"}\n",
        "p:\n  sasl: [app:hunter2\n  timeout: 400\n",
        "p:\n  sasl:\n    - app:hunter2\n    - \"app:hunter2\n",
        "p:\n  sasl:\n    - app:hunter2\n   - app:hunter2\n",
        "p:\n  sasl:\n    - app:hunter2\n  timeout: 400\n   rise: 1\n",
        "p:\n  sasl:\n    -app:hunter2\n    -app:hunter2\n",
        "p:\n  sasl:\n    app:hunter2\n",
        "p:\n  sasl:\n    app: hunter2\n  timeout: 400\n",
        "p:\n  sasl:\n  app: hunter2\n  timeout: 400\n",
        "p:\n  sasl:\n    - app: hunter2\n  timeout: 400\n",
        "p:\n  sasl:\n    - app hunter2\n  timeout: 400\n",
        "p:\n  users:\n    - app:hunter2\n",
        "admin_token: hunter2\np:\n",
        "admin_token: 'a\n\n  hunter2'\np:\n",
    ] {
        let _ = std::fs::remove_file(&log);
        std::fs::write(&file, format!("{wrong}q:\n{pool}")).expect("write the file");
        let refused = softmiss(&arguments);
        assert_eq!(refused.status.code(), Some(1), "{wrong}");
        let logged = std::fs::read_to_string(&log).expect("a log");
        assert!(logged.contains("is refused") && !logged.contains("hunter2"), "{wrong}\n{logged}");
        // The line itself is shown where the file is; what is said of it is not.
        let said = err(&refused);
        let said: Vec<_> = said.lines().filter(|line| !line.contains(" | ")).collect();
        assert!(!said.join("\n").contains("hunter2"), "{wrong}\n{said:#?}");
    }
}

#[test]
fn a_file_that_is_refused_is_told_of_in_the_log_as_well() {
    let file = scratch_dir().join("file.yml");
    std::fs::write(&file, "pool:\n  listen: 127.0.0.1:1\n").expect("write the file");
    let (arguments, log, _) = in_background(&file);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let refused = softmiss(&arguments);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("is refused"));
    assert!(std::fs::read_to_string(log).expect("a log").contains("is refused"));
}

#[test]
fn a_signal_as_soon_as_it_listens_does_not_kill_it() {
    let server = Process::memcached();
    for signal in ["HUP", "USR1", "USR2"].into_iter().cycle().take(9) {
        let (file, port) = (scratch_dir().join("file.yml"), free_port());
        let text = format!("pool:\n  listen: 127.0.0.1:{port}\n  timeout: 400\n  servers: ['{}:1']\n", server.address);
        std::fs::write(&file, text).expect("write the file");
        let mut proxy = Command::new(env!("CARGO_BIN_EXE_softmiss"))
            .arg("-c")
            .arg(&file)
            .args(["-s", &free_port().to_string(), "--admin", "none"])
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("softmiss");
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        while std::net::TcpStream::connect(address).is_err() {
            assert!(proxy.try_wait().expect("its state").is_none(), "it did not start");
        }
        let id = proxy.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().expect("kill").success());
        let answer = super::support::client::Client::connect(address).ask("mn\r\n");
        assert_eq!(answer, "MN", "after {signal}");
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().expect("kill").success());
        assert!(proxy.wait().expect("its end").success(), "after {signal}");
    }
}
