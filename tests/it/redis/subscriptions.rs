//! Subscriptions to very many channels.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use super::super::support::client::Client;
use super::super::support::process::{Process, Proxy, free_port};
use super::super::support::wait_until;

/// More than are dealt with at a time, several times over.
const MANY: usize = 12_000;

fn channel(number: usize) -> String {
    format!("channel:{}", number.wrapping_mul(2_654_435_761) % 1_000_000_007)
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    words.iter().for_each(|word| out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes()));
    out
}

fn word_and_names(word: &str, names: &[String]) -> Vec<u8> {
    command(&std::iter::once(word).chain(names.iter().map(String::as_str)).collect::<Vec<_>>())
}

/// What is said of a list of names, with the count that goes with each.
fn confirmations<'a>(word: &str, names: impl Iterator<Item = (&'a String, usize)>) -> Vec<u8> {
    let one = |(name, count): (&String, usize)| {
        format!("*3\r\n${}\r\n{word}\r\n${}\r\n{name}\r\n:{count}\r\n", word.len(), name.len())
    };
    names.map(one).collect::<String>().into_bytes()
}

fn redis_pool(servers: &[&Process], more: &[&str]) -> Proxy {
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    Proxy::start(&addresses, &[&["redis: true"], more].concat())
}

/// Reads what is expected, and says where it differs.
fn expect(client: &mut Client, expected: &[u8], what: &str) {
    let found = client.read(expected.len());
    let differs = (0..expected.len()).find(|at| found[*at] != expected[*at]);
    if let Some(at) = differs {
        let near =
            |text: &[u8]| String::from_utf8_lossy(&text[at.saturating_sub(60)..text.len().min(at + 60)]).into_owned();
        panic!("{what}: {:?} in place of {:?}", near(&found), near(expected));
    }
}

#[test]
fn each_of_many_channels_is_confirmed_in_order_and_what_follows_waits() {
    let servers: Vec<_> = (0..3).map(|_| Process::redis()).collect();
    let proxy = redis_pool(&servers.iter().collect::<Vec<_>>(), &["timeout: 5000"]);
    let names: Vec<String> = (0..MANY).map(channel).collect();
    let mut client = proxy.client();
    // One is there before, one is named twice, and a request follows at once.
    client.send(word_and_names("SUBSCRIBE", &names[5..6]));
    expect(&mut client, &confirmations("subscribe", names[5..6].iter().map(|name| (name, 1))), "the first");
    let mut asked = names.clone();
    asked.push(names[0].clone());
    client.send([word_and_names("SUBSCRIBE", &asked), command(&["PING", "behind"])].concat());
    let counts = (0..MANY).map(|at| if at < 5 { at + 2 } else { at + 1 });
    let expected = confirmations("subscribe", asked.iter().zip(counts.chain([MANY])));
    expect(&mut client, &expected, "all");
    expect(&mut client, b"*2\r\n$4\r\npong\r\n$6\r\nbehind\r\n", "what came behind");
    let mut publisher = proxy.client();
    for number in [0, 999, 1000, 1001, MANY - 1] {
        assert_eq!(publisher.ask(format!("PUBLISH {} heard\r\n", names[number])), ":1");
        let message =
            format!("*3\r\n$7\r\nmessage\r\n${0}\r\n{1}\r\n$5\r\nheard\r\n", names[number].len(), names[number]);
        expect(&mut client, message.as_bytes(), "a message");
    }
    // Half of them by name, the others with a word.
    client.send(word_and_names("UNSUBSCRIBE", &names[..MANY / 2]));
    let counts = (MANY / 2..MANY).rev();
    expect(&mut client, &confirmations("unsubscribe", names[..MANY / 2].iter().zip(counts)), "the end of half");
    client.send([command(&["UNSUBSCRIBE"]), command(&["PING"])].concat());
    let mut left: Vec<_> = names[MANY / 2..].to_vec();
    left.sort_unstable();
    expect(&mut client, &confirmations("unsubscribe", left.iter().zip((0..MANY / 2).rev())), "the end of all");
    expect(&mut client, b"+PONG\r\n", "it is a client like any other again");
    for number in [0, MANY - 1] {
        assert_eq!(publisher.ask(format!("PUBLISH {} heard\r\n", names[number])), ":0");
    }
}

#[test]
fn a_long_inline_subscription_and_many_patterns() {
    let servers: Vec<_> = (0..2).map(|_| Process::redis()).collect();
    let proxy = redis_pool(&servers.iter().collect::<Vec<_>>(), &["timeout: 5000"]);
    let names: Vec<String> = (0..4000).map(|number| format!("p{number}*")).collect();
    let mut client = proxy.client();
    client.send(format!("PSUBSCRIBE {}\r\nPING\r\n", names.join(" ")));
    expect(&mut client, &confirmations("psubscribe", names.iter().zip(1..)), "all patterns");
    expect(&mut client, b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", "what came behind");
    let mut publisher = proxy.client();
    assert_eq!(publisher.ask("PUBLISH p3999x heard\r\n"), ":4", "p3*, p39*, p399* and p3999* match");
    for _ in 0..4 {
        client.read_through(b"$5\r\nheard\r\n");
    }
    // One that leaves in the middle of it leaves nothing behind.
    let mut leaver = proxy.client();
    leaver.send(word_and_names("SUBSCRIBE", &(0..MANY).map(channel).collect::<Vec<_>>()));
    leaver.read_through(b"*3\r\n");
    drop(leaver);
    wait_until("its connections are closed", Duration::from_secs(5), || {
        publisher.ask(format!("PUBLISH {} x\r\n", channel(0))) == ":0"
    });
    drop(client);
    wait_until("these too", Duration::from_secs(5), || publisher.ask("PUBLISH p1 x\r\n") == ":0");
}

#[test]
fn many_subscriptions_outlive_their_server() {
    let mut servers: Vec<_> = (0..3).map(|_| Process::redis()).collect();
    let proxy = redis_pool(
        &servers.iter().collect::<Vec<_>>(),
        &["timeout: 400", "auto_eject_hosts: true", "server_failure_limit: 2", "server_retry_timeout: 500"],
    )
    .expect_log("server ejected");
    let names: Vec<String> = (0..MANY).map(channel).collect();
    let mut client = proxy.client();
    client.send(word_and_names("SUBSCRIBE", &names));
    expect(&mut client, &confirmations("subscribe", names.iter().zip(1..)), "all");
    let mut publisher = proxy.client();
    let mut hear_some = |round: &str| {
        for name in names.iter().step_by(MANY / 40) {
            let heard = |publisher: &mut Client| publisher.ask(format!("PUBLISH {name} {round}\r\n")) == ":1";
            wait_until("somebody hears it", Duration::from_secs(5), || heard(&mut publisher));
            client.read_through(format!("{name}\r\n${}\r\n{round}\r\n", round.len()).as_bytes());
        }
        assert!(client.rest().is_empty(), "each message comes once");
    };
    hear_some("first");
    let port = servers[0].address.port();
    servers[0].kill();
    proxy.wait_for_log("server ejected", Duration::from_secs(4));
    hear_some("second");
    servers[0] = Process::redis_with(port, &[]);
    proxy.wait_for_log("server restored", Duration::from_secs(4));
    hear_some("third");
}

/// What a client is subscribed to it keeps for as long as it likes: the one that holds most goes, and nobody else is
/// answered in a server's place.
#[test]
fn who_subscribes_to_more_than_there_is_memory_for_goes_alone() {
    let servers = [Process::redis(), Process::redis()];
    let port = free_port();
    let text = format!(
        "softmiss:\n  memory_limit: 16mb\npool:\n  listen: 127.0.0.1:{port}\n  timeout: 5000\n  redis: true\n  servers:\n{}",
        servers.iter().map(|server| format!("   - {}:1\n", server.address)).collect::<String>()
    );
    let proxy = Proxy::with_file(&text, port).expect_log("client cut off, it held too much memory");
    let mut neighbour = proxy.client();
    let names: Vec<String> = (0..MANY).map(channel).collect();
    neighbour.send(word_and_names("SUBSCRIBE", &names));
    expect(&mut neighbour, &confirmations("subscribe", names.iter().zip(1..)), "the neighbour");
    let mut hog = TcpStream::connect(("127.0.0.1", port)).unwrap();
    std::thread::scope(|scope| {
        let mut reader = hog.try_clone().unwrap();
        let reads = scope.spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        scope.spawn(move || {
            // One request for very many, and many for one each: until the connection is closed.
            let all: Vec<String> = (0..100_000).map(|number| format!("a{number}")).collect();
            let _ = hog.write_all(&word_and_names("SUBSCRIBE", &all));
            let _ = (0..100_000)
                .try_for_each(|number| hog.write_all(&word_and_names("SUBSCRIBE", &[format!("b{number}")])));
        });
        let mut asker = proxy.client();
        while !reads.is_finished() {
            assert_eq!(asker.ask("SET k v\r\n"), "+OK");
        }
    });
    proxy.wait_for_log("client cut off, it held too much memory", Duration::from_secs(2));
    neighbour.send("PING\r\n");
    expect(&mut neighbour, b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", "the neighbour, at the end");
}

/// Whoever may not hear one of several names hears none of them, on whatever servers they are, and is no subscriber.
#[test]
fn who_is_refused_one_of_several_names_is_subscribed_to_none_of_them() {
    let servers = [Process::redis(), Process::redis(), Process::redis()];
    for server in &servers {
        assert_eq!(server.client().ask("ACL SETUSER app on >apps ~* &ok* +@all\r\n"), "+OK");
    }
    let proxy =
        redis_pool(&[&servers[0], &servers[1], &servers[2]], &["redis_auth: apps", "redis_user: app", "timeout: 2000"]);
    let many: Vec<String> = (0..30).map(|number| format!("ok{number}")).chain(["bad".to_owned()]).collect();
    let requests: [&[&str]; 5] = [
        &["SUBSCRIBE", "bad"],
        &["PSUBSCRIBE", "ok*", "*"],
        &["SSUBSCRIBE", "bad"],
        &["SUBSCRIBE", "ok0", "bad", "ok1"],
        &std::iter::once("SUBSCRIBE").chain(many.iter().map(String::as_str)).collect::<Vec<_>>(),
    ];
    for request in requests {
        let mut client = proxy.client();
        assert_eq!(client.ask("AUTH app apps\r\n"), "+OK");
        client.send(command(&["SUBSCRIBE", "ok0"]));
        expect(&mut client, &confirmations("subscribe", [(&"ok0".to_owned(), 1)].into_iter()), "what it may hear");
        assert!(client.ask(command(request)).starts_with("-NOPERM"), "{request:?}");
        assert_eq!(client.ask(command(&["SUBSCRIBE", "ok1"])), "*3", "it goes on");
        client.send(command(&["UNSUBSCRIBE", "ok0", "ok1"]));
        let name = |name: &str| format!("${}\r\n{name}\r\n", name.len());
        let unsubscribed =
            |channel, count| format!("*3\r\n{}{}:{count}\r\n", name("unsubscribe"), name(channel)).into_bytes();
        let rest = format!("{}{}:2\r\n", name("subscribe"), name("ok1")).into_bytes();
        expect(&mut client, &[rest, unsubscribed("ok0", 1), unsubscribed("ok1", 0)].concat(), "nothing else is heard");
        assert_eq!(client.ask("GET nothing\r\n"), "$-1", "{request:?}: it is no subscriber any more");
        wait_until("no server tells anybody anything", Duration::from_secs(5), || {
            servers.iter().all(|server| {
                let mut direct = server.client();
                direct.send("PUBSUB CHANNELS\r\nPUBSUB NUMPAT\r\nPUBSUB SHARDCHANNELS\r\nPING\r\n");
                direct.read_through(b"+PONG\r\n") == b"*0\r\n:0\r\n*0\r\n+PONG\r\n"
            })
        });
    }
}
