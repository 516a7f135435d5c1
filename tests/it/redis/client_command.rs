//! `CLIENT LIST`, `INFO`, `KILL` and their like: the fields and the words of Redis, for the clients of all workers.

use std::net::TcpStream;
use std::time::Duration;

use super::super::support::client::Client;
use super::super::support::process::{Process, Proxy, free_port, scratch_dir};
use super::super::support::wait_until;
use super::reply_of;

/// A client with a name, and its own address.
fn named(proxy: &Proxy, name: &str) -> (Client, String) {
    let stream = TcpStream::connect(proxy.address).unwrap();
    let address = stream.local_addr().unwrap().to_string();
    let mut client = Client::of(stream);
    assert_eq!(client.ask(format!("CLIENT SETNAME {name}\r\n")), "+OK");
    (client, address)
}

/// The text that a request is answered with.
fn text(client: &mut Client, request: &str) -> String {
    let reply = reply_of(client, request);
    reply.split_once("\r\n").unwrap_or_else(|| panic!("{request}: {reply}")).1.trim_end().to_owned()
}

fn names_of_fields(line: &str) -> Vec<&str> {
    line.split_whitespace().map(|field| field.split_once('=').unwrap().0).collect()
}

fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let found = line.split_whitespace().find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {line}"))
}

/// A pool of three servers with three workers.
fn of_three_workers() -> (Vec<Process>, Proxy) {
    let servers: Vec<_> = (0..3).map(|_| Process::redis()).collect();
    let lines: String = servers.iter().map(|server| format!("  - {}:1\n", server.address)).collect();
    let port = free_port();
    let file = format!(
        "softmiss:\n  workers: 3\npool:\n  listen: 127.0.0.1:{port}\n  redis: true\n  timeout: 2000\n  servers:\n{lines}"
    );
    let proxy = Proxy::with_file(&file, port);
    (servers, proxy)
}

#[test]
fn the_fields_are_those_of_redis_in_its_order() {
    let server = Process::redis();
    let proxy = Proxy::start(&[server.address], &["redis: true"]);
    for request in ["CLIENT LIST", "CLIENT INFO"] {
        let theirs = text(&mut server.client(), request);
        let (mut client, address) = named(&proxy, "me");
        let ours = text(&mut client, request);
        let line = ours.lines().find(|line| field(line, "name") == "me").unwrap();
        let mut names = names_of_fields(theirs.lines().next().unwrap());
        names.extend(["lib-name", "lib-ver"]); // Redis 7.2 has these behind the others
        assert_eq!(names_of_fields(line), names, "{request}");
        assert_eq!((field(line, "addr"), field(line, "laddr")), (&*address, &*proxy.address.to_string()));
        assert_eq!(field(line, "cmd"), request.to_lowercase().replace(' ', "|"));
        assert_eq!((field(line, "flags"), field(line, "multi"), field(line, "user")), ("N", "-1", "default"));
    }
    let mut client = proxy.client();
    assert_eq!(client.ask("MULTI\r\nPING\r\n"), "+OK");
    assert_eq!(client.line(), "+QUEUED");
    let mut waits = proxy.client();
    waits.send("BLPOP nothing 0\r\n");
    let mut hears = proxy.client();
    hears.send("SUBSCRIBE a b\r\nPSUBSCRIBE c*\r\n");
    hears.read_through(b":3\r\n");
    let list = loop {
        let list = text(&mut proxy.client(), "CLIENT LIST");
        if list.contains(" cmd=blpop ") {
            break list;
        }
    };
    let of = |command: &str| list.lines().find(|line| field(line, "cmd") == command).unwrap();
    assert_eq!((field(of("ping"), "flags"), field(of("ping"), "multi")), ("x", "1"));
    assert_eq!(field(of("blpop"), "flags"), "b");
    let hears = of("psubscribe");
    assert_eq!((field(hears, "flags"), field(hears, "sub"), field(hears, "psub")), ("P", "2", "1"));
}

#[test]
fn arguments_get_the_answers_of_redis() {
    let server = Process::redis();
    let proxy = Proxy::start(&[server.address], &["redis: true"]);
    let (mut theirs, mut ours) = (server.client(), proxy.client());
    for request in [
        "LIST ID",
        "LIST ID x",
        "LIST ID 0",
        "LIST ID -1",
        "LIST ID 999999 999998 999999",
        "LIST ID 999999 TYPE normal",
        "LIST ID 99999999999999999999",
        "LIST TYPE",
        "LIST TYPE nobody",
        "LIST TYPE master",
        "LIST TYPE REPLICA",
        "LIST TYPE slave",
        "LIST TYPE pubsub",
        "LIST TYPE pubsub x",
        "LIST TYPE normal ID 999999",
        "LIST nothing",
        "LIST nothing more",
        "INFO x",
        "ID x",
        "KILL",
        "KILL 1.2.3.4:5",
        "KILL ID",
        "KILL ID x",
        "KILL ID 0",
        "KILL ID -1",
        "KILL ID 99999999999999999999",
        "KILL ID 999999",
        "KILL ID 999999 x",
        "KILL ID 999999 x y",
        "KILL 1.2.3.4:5 6",
        "KILL ADDR 1.2.3.4:5",
        "KILL LADDR 1.2.3.4:5",
        "KILL TYPE nobody",
        "KILL TYPE master",
        "KILL USER nobody",
        "KILL USER default SKIPME maybe",
        "KILL SKIPME yes",
        "KILL ID 999999 SKIPME no",
        "KILL ID 999999 ID 999998 TYPE normal TYPE pubsub",
        "KILL MAXAGE 5",
        "UNBLOCK",
        "UNBLOCK x",
        "UNBLOCK 0",
        "UNBLOCK -5",
        "UNBLOCK 999999",
        "UNBLOCK 999999 timeout",
        "UNBLOCK 999999 ERROR",
        "UNBLOCK 999999 never",
        "UNBLOCK x never",
        "UNBLOCK 999999 error x",
        "NO-EVICT",
        "NO-EVICT x",
        "NO-EVICT on",
        "NO-EVICT OFF",
        "GETREDIR",
        "GETREDIR x",
        "TRACKINGINFO",
        "TRACKING",
        "TRACKING x",
        "TRACKING off",
        "CACHING yes",
        "CACHING x",
        "REPLY",
        "REPLY x",
        "SETNAME",
        "GETNAME x",
        "NOSUCH",
    ] {
        let request = format!("CLIENT {request}");
        assert_eq!(reply_of(&mut ours, &request), reply_of(&mut theirs, &request), "{request}");
    }
    for client in [&mut theirs, &mut ours] {
        client.send("HELLO 3\r\n");
        client.read_through(b"modules\r\n*0\r\n");
    }
    for request in ["CLIENT TRACKINGINFO", "CLIENT LIST TYPE master", "CLIENT LIST ID 999999"] {
        assert_eq!(reply_of(&mut ours, request), reply_of(&mut theirs, request), "{request}");
    }
}

#[test]
fn nothing_is_said_to_be_done_that_is_not() {
    let server = Process::redis();
    let proxy = Proxy::start(&[server.address], &["redis: true"]);
    let mut client = proxy.client();
    for request in ["CLIENT TRACKING ON", "CLIENT TRACKING on BCAST", "CLIENT NO-TOUCH on", "CLIENT PAUSE 10"] {
        assert!(client.ask(format!("{request}\r\n")).starts_with("-ERR "), "{request}");
    }
    assert_eq!(client.ask("CLIENT NO-EVICT on\r\n"), "+OK");
    assert_eq!(field(&text(&mut client, "CLIENT INFO"), "flags"), "e");
}

#[test]
fn clients_of_all_workers_are_listed() {
    let (_servers, proxy) = of_three_workers();
    let mut clients: Vec<_> = (0..9).map(|number| named(&proxy, &format!("c{number}"))).collect();
    let ids: Vec<String> = clients.iter_mut().map(|(client, _)| client.ask("CLIENT ID\r\n")[1..].to_owned()).collect();
    for asker in [0, 4, 8] {
        let list = text(&mut clients[asker].0, "CLIENT LIST");
        for (number, (_, address)) in clients.iter().enumerate() {
            let name = format!("c{number}");
            let line =
                list.lines().find(|line| field(line, "name") == name).unwrap_or_else(|| panic!("{name}: {list}"));
            assert_eq!((field(line, "id"), field(line, "addr")), (&*ids[number], &**address));
        }
        assert_eq!(list.lines().count(), 9);
        // In the order that is asked for, and as often.
        let some = text(&mut clients[asker].0, &format!("CLIENT LIST ID {} 77777 {} {}", ids[7], ids[2], ids[7]));
        assert_eq!(some.lines().map(|line| field(line, "name")).collect::<Vec<_>>(), ["c7", "c2", "c7"]);
    }
    // What is asked behind it is answered behind it, and none of it is lost when the client is done.
    let (client, _) = &mut clients[0];
    client.send("SET k v\r\nCLIENT LIST TYPE pubsub\r\nGET k\r\nCLIENT REPLY SKIP\r\nCLIENT LIST\r\nCLIENT LIST TYPE master\r\n");
    assert_eq!(client.read(24), b"+OK\r\n$0\r\n\r\n$1\r\nv\r\n$0\r\n\r\n"[..].to_vec());
}

#[test]
fn clients_of_other_pools_are_not_touched() {
    let server = Process::redis();
    let ports = [free_port(), free_port()];
    let of = |name: &str, port: u16| {
        format!(
            "{name}:\n  listen: 127.0.0.1:{port}\n  redis: true\n  timeout: 2000\n  servers: ['{}:1']\n",
            server.address
        )
    };
    let proxy = Proxy::with_file(&(of("one", ports[0]) + &of("two", ports[1])), ports[0]);
    let mut other = Client::connect(([127, 0, 0, 1], ports[1]).into());
    let mut client = proxy.client();
    let id = &other.ask("CLIENT ID\r\n")[1..];
    assert_eq!(text(&mut client, "CLIENT LIST").lines().count(), 1);
    assert_eq!(client.ask(format!("CLIENT KILL ID {id}\r\n")), ":0");
    assert_eq!(other.ask("PING\r\n"), "+PONG");
}

#[test]
fn clients_of_all_workers_are_killed() {
    let (_servers, proxy) = of_three_workers();
    let mut killer = proxy.client();
    let fresh = || (0..6).map(|number| named(&proxy, &format!("c{number}"))).collect::<Vec<_>>();
    let closed = |clients: &mut [(Client, String)]| {
        for (client, _) in &mut *clients {
            assert!(client.is_closed());
        }
    };
    let mut clients = fresh();
    for (client, address) in &mut clients[..2] {
        assert_eq!(killer.ask(format!("CLIENT KILL {address}\r\n")), "+OK");
        assert!(client.is_closed());
        assert_eq!(killer.ask(format!("CLIENT KILL {address}\r\n")), "-ERR No such client");
    }
    let id = clients[2].0.ask("CLIENT ID\r\n")[1..].to_owned();
    assert_eq!(killer.ask(format!("CLIENT KILL ID {id} ADDR {}\r\n", clients[3].1)), ":0", "all must hold");
    assert_eq!(killer.ask(format!("CLIENT KILL ID {id} ADDR {}\r\n", clients[2].1)), ":1");
    assert_eq!(killer.ask(format!("CLIENT KILL ADDR {} LADDR {}\r\n", clients[3].1, proxy.address)), ":1");
    clients[4].0.send("SUBSCRIBE s\r\n");
    clients[4].0.read_through(b":1\r\n");
    assert_eq!(killer.ask("CLIENT KILL TYPE pubsub\r\n"), ":1");
    closed(&mut clients[2..5]);
    // Whatever they are at: waiting, in a transaction, with an answer that they do not read.
    clients[5].0.send("BLPOP nothing 0\r\n");
    let mut more = fresh();
    more[0].0.send("MULTI\r\n");
    more[1].0.send("BLPOP nothing 0\r\nGET k\r\n");
    assert_eq!(killer.ask("CLIENT KILL USER default LADDR 9.9.9.9:9\r\n"), ":0");
    assert_eq!(killer.ask("CLIENT KILL USER default\r\n"), ":7");
    closed(&mut clients[5..]);
    closed(&mut more[2..]);
    assert_eq!(text(&mut killer, "CLIENT LIST").lines().count(), 1);
    // Oneself only if that is said, and then the answer comes first.
    let own = killer.ask("CLIENT ID\r\n")[1..].to_owned();
    assert_eq!(killer.ask(format!("CLIENT KILL ID {own}\r\n")), ":0");
    assert_eq!(killer.ask(format!("CLIENT KILL SKIPME no ID {own}\r\nPING\r\n")), ":1");
    assert!(killer.is_closed());
    let (mut killer, address) = named(&proxy, "last");
    assert_eq!(killer.ask(format!("CLIENT KILL {address}\r\n")), "+OK");
    assert!(killer.is_closed());
}

#[test]
fn who_has_the_pools_user_is_told_apart() {
    let server = Process::redis_with(free_port(), &["--user", "cache", "on", ">secret", "~*", "&*", "+@all"]);
    let proxy = Proxy::start(&[server.address], &["redis: true", "redis_user: cache", "redis_auth: secret"]);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    assert_eq!(one.ask("AUTH cache secret\r\n"), "+OK");
    assert_eq!(two.ask("AUTH default secret\r\n"), "+OK");
    assert_eq!(field(&text(&mut one, "CLIENT INFO"), "user"), "cache");
    assert_eq!(field(&text(&mut two, "CLIENT INFO"), "user"), "default");
    assert_eq!(one.ask("CLIENT KILL USER nobody\r\n"), "-ERR No such user 'nobody'");
    assert_eq!(two.ask("CLIENT KILL USER cache\r\n"), ":1");
    assert!(one.is_closed());
}

#[test]
fn a_unix_sockets_clients_have_its_path() {
    let server = Process::redis();
    let path = scratch_dir().join("socket");
    let port = free_port();
    let pool = |listen: &str, name: &str| {
        format!("{name}:\n  listen: {listen}\n  redis: true\n  timeout: 2000\n  servers: ['{}:1']\n", server.address)
    };
    let file = pool(&path.display().to_string(), "unix") + &pool(&format!("127.0.0.1:{port}"), "tcp");
    let _proxy = Proxy::with_file(&file, port);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    std::io::Write::write_all(&mut stream, b"CLIENT INFO\r\nQUIT\r\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    let line = answer.lines().nth(1).unwrap();
    let place = format!("{}:0", path.display());
    assert_eq!((field(line, "addr"), field(line, "laddr"), field(line, "flags")), (&*place, &*place, "U"));
}

/// Asks for it until the client waits at its server.
fn unblock(killer: &mut Client, request: &str) {
    wait_until(request, Duration::from_secs(5), || killer.ask(format!("{request}\r\n")) == ":1");
    assert_eq!(killer.ask(format!("{request}\r\n")), ":0", "it waits no more: {request}");
}

#[test]
fn who_waits_is_unblocked_whichever_worker_has_it() {
    let (_servers, proxy) = of_three_workers();
    let mut killer = proxy.client();
    for (reason, expected) in
        [("", "*-1"), (" timeout", "*-1"), (" ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK")]
    {
        let mut clients: Vec<_> = (0..3).map(|_| proxy.client()).collect();
        for client in &mut clients {
            let id = client.ask("CLIENT ID\r\n")[1..].to_owned();
            client.send("BLPOP nothing 0\r\n");
            unblock(&mut killer, &format!("CLIENT UNBLOCK {id}{reason}"));
            assert_eq!(client.line(), expected);
            // It can wait again, and gets what comes.
            client.send("BLPOP list 0\r\nPING\r\n");
            killer.ask("RPUSH list x\r\n");
            client.read_through(b"$1\r\nx\r\n+PONG\r\n");
            assert_eq!(killer.ask(format!("CLIENT UNBLOCK {id}\r\n")), ":0");
        }
    }
    let mut client = proxy.client();
    let id = client.ask("CLIENT ID\r\n")[1..].to_owned();
    client.send("XREAD BLOCK 0 STREAMS s $\r\n");
    unblock(&mut killer, &format!("CLIENT UNBLOCK {id}"));
    assert_eq!(client.line(), "*-1");
}

#[test]
fn who_waits_in_a_pool_of_one_is_unblocked() {
    let server = Process::redis();
    let proxy = Proxy::start(&[server.address], &["redis: true", "timeout: 2000"]);
    let (mut client, mut killer) = (proxy.client(), proxy.client());
    let id = client.ask("CLIENT ID\r\n")[1..].to_owned();
    client.send("BLMOVE nothing other LEFT LEFT 0\r\n");
    unblock(&mut killer, &format!("CLIENT UNBLOCK {id}"));
    assert_eq!(client.line(), "*-1"); // as Redis says it of any command that waits
}
