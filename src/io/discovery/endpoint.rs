//! `config get cluster`: who is in a cluster of ElastiCache or Memorystore, as each of its nodes says.
//!
//! ```text
//! CONFIG cluster 0 <length>\r\n
//! <version>\n
//! <name>|<address>|<port> <name>|<address>|<port>\n
//! \r\n
//! END\r\n
//! ```
//!
//! The version counts the changes of the list. The name of a node is the same whatever its address; the address may be left
//! out.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Longest answer that is read, in bytes: a cluster has 300 nodes at most, of some 100 bytes each.
const MOST_BYTES: usize = 256 << 10;

/// Most nodes that are believed of an endpoint.
const MOST_NODES: usize = 1000;

/// Addresses of one name that are asked, and how long after the one before each is.
const MOST_ADDRESSES: u32 = 8;
const TURN: Duration = Duration::from_millis(200);

/// Longest line that an answer can begin with.
const MOST_LINE: usize = 128;

/// Who is in the cluster.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cluster {
    /// How often the list has changed.
    pub(super) version: u64,
    pub(super) nodes: Vec<Node>,
}

/// A node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// What it is called as long as it is there.
    pub(super) name: String,
    /// Its address, or else its name.
    pub(super) host: String,
    pub(super) port: u16,
}

/// Asks several addresses, one after the other, each without waiting long for those before: the first good answer counts.
pub(super) async fn look(at: &[SocketAddr]) -> Result<Cluster, String> {
    let mut asked = JoinSet::new(); // who has not answered yet is not waited for
    for (address, turn) in at.iter().copied().zip(0..MOST_ADDRESSES) {
        asked.spawn(async move {
            sleep(TURN * turn).await;
            let reason = |reason| if turn > 0 { format!("{address}: {reason}") } else { reason };
            ask(address).await.map_err(reason)
        });
    }
    let mut last = Err("it has no address".to_owned());
    while let Some(result) = asked.join_next().await {
        last = result.unwrap_or_else(|error| Err(error.to_string()));
        if last.is_ok() {
            break;
        }
    }
    last
}

async fn ask(at: SocketAddr) -> Result<Cluster, String> {
    let told = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(at).await.map_err(told)?;
    stream.write_all(b"config get cluster\r\n").await.map_err(told)?;
    let mut read = Vec::new();
    loop {
        if stream.read_buf(&mut read).await.map_err(told)? == 0 {
            return Err(format!("closed after {} bytes of an answer", read.len()));
        }
        if let Some(cluster) = parse(&read)? {
            return Ok(cluster);
        }
        if read.len() > MOST_BYTES {
            return Err("the answer does not come to an end".to_owned());
        }
    }
}

/// Reads an answer; nothing where there is more to come.
fn parse(bytes: &[u8]) -> Result<Option<Cluster>, String> {
    let garbage = || "the answer is not one to `config get cluster`".to_owned();
    let Some(end) = bytes.iter().take(MOST_LINE).position(|byte| *byte == b'\n') else {
        return if bytes.len() < MOST_LINE { Ok(None) } else { Err(garbage()) };
    };
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| garbage())?.trim_end();
    let length: usize = match line.split(' ').collect::<Vec<_>>()[..] {
        ["CONFIG", "cluster", _, length] => length.parse().map_err(|_| garbage())?,
        ["END"] => return Err("it knows of no cluster".to_owned()),
        ["ERROR" | "CLIENT_ERROR" | "SERVER_ERROR", ..] if line.bytes().all(|byte| (b' '..0x7f).contains(&byte)) => {
            return Err(format!("it answers {line}"));
        }
        _ => return Err(garbage()),
    };
    if length > MOST_BYTES {
        return Err(format!("it announces {length} bytes, which no cluster needs"));
    }
    let rest = &bytes[end + 1..];
    let Some((body, behind)) = rest.split_at_checked(length) else { return Ok(None) };
    let closing = behind.trim_ascii_start();
    if !b"END\r\n".starts_with(closing) && !closing.starts_with(b"END\r\n") {
        return Err("its length is not what it announces".to_owned());
    }
    if closing.len() < b"END\r\n".len() {
        return if behind.len() < MOST_LINE { Ok(None) } else { Err(garbage()) };
    }
    cluster(std::str::from_utf8(body).map_err(|_| garbage())?).map(Some)
}

fn cluster(body: &str) -> Result<Cluster, String> {
    let mut lines = body.lines();
    let version = lines.next().unwrap_or_default().trim();
    let version = version.parse().map_err(|_| format!("its version is no number: {version:.20}"))?;
    let (mut nodes, mut names) = (Vec::new(), BTreeSet::new());
    for word in lines.flat_map(str::split_ascii_whitespace) {
        let node = node(word).ok_or_else(|| format!("it lists what is no node: {word:.80}"))?;
        if !names.insert((node.name.clone(), node.port)) {
            return Err(format!("it lists {} twice", node.name));
        }
        nodes.push(node);
        if nodes.len() > MOST_NODES {
            return Err(format!("it lists more than {MOST_NODES} nodes, which no cluster has"));
        }
    }
    if nodes.is_empty() {
        return Err("it lists no nodes".to_owned());
    }
    Ok(Cluster { version, nodes })
}

fn node(word: &str) -> Option<Node> {
    let [name, address, port] = word.split('|').collect::<Vec<_>>()[..] else { return None };
    let fits = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte));
    // Behind `%` is the interface by which an address of a link is reached.
    let (figures, scope) = address.split_once('%').map_or((address, None), |(figures, scope)| (figures, Some(scope)));
    let is_scope = |scope: &str| !scope.is_empty() && scope.len() < 16 && fits(scope);
    let is_address =
        figures.parse::<IpAddr>().is_ok_and(|ip| scope.is_none_or(|scope| ip.is_ipv6() && is_scope(scope)));
    if (name.is_empty() && address.is_empty()) || !(address.is_empty() || is_address) || name.len() > 253 || !fits(name)
    {
        return None;
    }
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let [name, host] = [[name, address], [address, name]].map(|either| either.into_iter().find(|one| !one.is_empty()));
    Some(Node { name: name?.to_owned(), host: host?.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with this body.
    fn answer(body: &str) -> Vec<u8> {
        format!("CONFIG cluster 0 {}\r\n{body}\r\nEND\r\n", body.len()).into_bytes()
    }

    const BODY: &str =
        "12\na.x.cache.amazonaws.com|10.82.235.120|11211 b.x.cache.amazonaws.com||11212 |fd00::7|7 c|fe80::1%eth0|8\n";

    #[test]
    fn a_cluster_is_read_however_it_is_cut() {
        let whole = answer(BODY);
        let cluster = parse(&whole).expect("a good answer").expect("a whole one");
        let told = |node: &Node| format!("{} {} {}", node.name, node.host, node.port);
        assert_eq!(cluster.version, 12);
        assert_eq!(
            cluster.nodes.iter().map(told).collect::<Vec<_>>(),
            [
                "a.x.cache.amazonaws.com 10.82.235.120 11211",
                "b.x.cache.amazonaws.com b.x.cache.amazonaws.com 11212",
                "fd00::7 fd00::7 7",
                "c fe80::1%eth0 8"
            ]
        );
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), Ok(None), "{end} bytes of {}", whole.len());
        }
        // Whatever stands in a byte, it is read or refused.
        for (at, byte) in (0..whole.len()).flat_map(|at| [0, b' ', b'|', b'\n', b'0', 0xff].map(|byte| (at, byte))) {
            let mut other = whole.clone();
            other[at] = byte;
            let _ = parse(&other);
        }
        // Whether the last line end belongs to it is not agreed on.
        let short = format!("CONFIG cluster 0 {}\r\n{BODY}\r\nEND\r\n", BODY.len() - 1);
        assert_eq!(parse(short.as_bytes()), Ok(Some(cluster)));
    }

    #[test]
    fn an_address_that_says_nothing_of_use_is_passed_over() {
        use std::io::{Read as _, Write as _};
        let listen = || std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let [silent, garbage, good] = [listen(), listen(), listen()];
        let at = [&silent, &garbage, &good].map(|listener| listener.local_addr().expect("an address"));
        let serve = |listener: std::net::TcpListener, answer: Vec<u8>| {
            std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("somebody");
                stream.read_exact(&mut [0; b"config get cluster\r\n".len()]).expect("a question");
                stream.write_all(&answer).expect("somebody who reads");
            })
        };
        let served = [serve(garbage, b"HTTP/1.1 400\r\n".to_vec()), serve(good, answer(BODY))];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let limited = async { tokio::time::timeout(Duration::from_secs(10), look(&at)).await };
        let cluster = runtime.block_on(limited).expect("an answer in time").expect("a good one");
        assert_eq!(cluster.version, 12);
        served.into_iter().for_each(|served| served.join().expect("it has served"));
    }

    #[test]
    fn what_lies_is_not_believed() {
        let long = format!("CONFIG cluster 0 {}\r\n", MOST_BYTES + 1);
        let wrong = format!("CONFIG cluster 0 {}\r\n{BODY}\r\nEND\r\n", BODY.len() - 9);
        let nodes = |count: usize| {
            let nodes: String = (0..count).map(|number| format!("n{number}|10.0.0.1|1 ")).collect();
            answer(&format!("1\n{nodes}\n"))
        };
        assert_eq!(parse(&nodes(MOST_NODES)).map(|all| all.map(|all| all.nodes.len())), Ok(Some(MOST_NODES)));
        for (bytes, reason) in [
            (answer("12\n\n"), "no nodes"),
            (answer("12\n"), "no nodes"),
            (answer(""), "version"),
            (answer("-1\na|10.0.0.1|1\n"), "version"),
            (answer("1\na|10.0.0.1|0\n"), "no node"),
            (answer("1\na|10.0.0.1|65536\n"), "no node"),
            (answer("1\na|10.0.0.1\n"), "no node"),
            (answer("1\na|10.0.0|1\n"), "no node"),
            (answer("1\n||1\n"), "no node"),
            (answer("1\na|10.0.0.1%eth0|1\n"), "no node"),
            (answer("1\na|fe80::1%|1\n"), "no node"),
            (answer("1\na|fe80::1%e\u{7}|1\n"), "no node"),
            (answer("1\na\u{7}|10.0.0.1|1\n"), "no node"),
            (answer("1\na|10.0.0.1|1 a|10.0.0.2|1\n"), "twice"),
            (nodes(MOST_NODES + 1), "more than 1000 nodes"),
            (b"ERROR\r\n".to_vec(), "it answers ERROR"),
            (b"END\r\n".to_vec(), "no cluster"),
            (b"VERSION 1.6\r\n".to_vec(), "not one to"),
            (b"CONFIG cluster 0 x\r\n".to_vec(), "not one to"),
            (b"CONFIG cluster 0 -1\r\n".to_vec(), "not one to"),
            (b"\xff\xfe\r\n".to_vec(), "not one to"),
            (vec![b'x'; MOST_LINE], "not one to"),
            (long.into_bytes(), "announces"),
            (wrong.into_bytes(), "length"),
        ] {
            let told = parse(&bytes).expect_err(&String::from_utf8_lossy(&bytes));
            assert!(told.contains(reason), "{told}: {}", String::from_utf8_lossy(&bytes));
        }
    }
}
