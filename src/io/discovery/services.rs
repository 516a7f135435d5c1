//! SRV records: the hosts and ports of a service, asked of the system's name servers.
//!
//! The system's resolver looks up addresses only. What is needed beyond that is one question and one kind of answer (RFC 1035,
//! RFC 2782), over UDP, or over TCP where the answer is too long for that. A name is taken as whole: no domain is tried behind
//! it.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Where the name servers stand.
pub(super) const FILE: &str = "/etc/resolv.conf";

/// How long one of them has, so that there is time for others.
const LIMIT: Duration = Duration::from_millis(1500);

/// What a name server may send over UDP, in bytes.
const MOST_BYTES: u16 = 4096;

/// Most targets that are believed: each of them is looked up.
const MOST_TARGETS: usize = 1000;

const SRV: u16 = 33;

/// Bytes of a question behind the name, its kind and its class: how much may be answered.
const OPTIONS: usize = 11;

/// A host, and a port there.
type Target = (String, u16);

/// Asks each of the name servers that stand in the text of [`FILE`], until one answers.
pub(super) async fn look(text: &str, name: &str) -> Result<Vec<Target>, String> {
    let server = |line: &str| line.strip_prefix("nameserver")?.split_whitespace().next()?.parse::<IpAddr>().ok();
    let mut reason = format!("{FILE} names no name server");
    for address in text.lines().filter_map(server) {
        match ask(SocketAddr::new(address, 53), name).await {
            Ok(targets) => return Ok(targets),
            Err(told) => reason = format!("{address}: {told}"),
        }
    }
    Err(reason)
}

async fn ask(server: SocketAddr, name: &str) -> Result<Vec<Target>, String> {
    let [high, low, ..] = RandomState::new().build_hasher().finish().to_be_bytes();
    let query = query([high, low], name).ok_or("this is no name")?;
    if let Some(targets) = parse(&within(over_udp(server, &query)).await?, &query)? {
        return Ok(targets);
    }
    parse(&within(over_tcp(server, &query)).await?, &query)?.ok_or_else(|| "the answer is cut short".to_owned())
}

async fn within(answer: impl Future<Output = io::Result<Vec<u8>>>) -> Result<Vec<u8>, String> {
    timeout(LIMIT, answer).await.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())
}

async fn over_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut answer = vec![0; usize::from(MOST_BYTES)];
    loop {
        let length = socket.recv(&mut answer).await?;
        if answers(&answer[..length], query) {
            answer.truncate(length);
            return Ok(answer); // others answer something that was asked before, or are nobody's answer
        }
    }
}

async fn over_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).unwrap_or(u16::MAX).to_be_bytes();
    stream.write_all(&[&length, query].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// The question for the SRV records of a name: a header, the name, and how much may be answered (RFC 6891).
fn query(id: [u8; 2], name: &str) -> Option<Vec<u8>> {
    let mut query = [&id[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]].concat();
    for label in name.trim_end_matches('.').split('.') {
        query.push(u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 33, 0, 1]);
    query.extend([0, 0, 41]); // from here on these are `OPTIONS`
    query.extend(MOST_BYTES.to_be_bytes());
    query.extend([0; 6]);
    Some(query)
}

/// Whether this answers a question: it repeats it, as no one else can who has not seen it. Who reports an error may leave it out.
fn answers(answer: &[u8], query: &[u8]) -> bool {
    let [Some(id), Some(flags), Some(count)] = [answer.get(..2), answer.get(2..4), answer.get(4..6)] else {
        return false;
    };
    let question = &query[12..query.len() - OPTIONS];
    let is_repeated =
        count == [0, 1] && answer[6..].get(6..6 + question.len()).is_some_and(|one| one.eq_ignore_ascii_case(question));
    let is_error = flags[1] & 0xf != 0 && count == [0, 0];
    id == &query[..2] && flags[0] & 0x80 != 0 && (is_repeated || is_error)
}

/// The targets with the best priority in an answer; nothing where it did not fit.
fn parse(answer: &[u8], query: &[u8]) -> Result<Option<Vec<Target>>, String> {
    let number = |at: usize| Some(u16::from_be_bytes([*answer.get(at)?, *answer.get(at + 1)?]));
    let cut = || "the answer is no answer".to_owned();
    let flags = number(2).filter(|_| answers(answer, query)).ok_or_else(cut)?;
    match flags & 0xf {
        0 => {}
        3 => return Err("there is no such name".to_owned()),
        code => return Err(format!("the name server answers with error {code}")),
    }
    if flags & 0x200 != 0 {
        return Ok(None);
    }
    let (questions, records) = (number(4).ok_or_else(cut)?, number(6).ok_or_else(cut)?);
    let mut at = 12;
    for _ in 0..questions {
        at = name(answer, at).ok_or_else(cut)?.1 + 4;
    }
    let mut targets: BTreeSet<(u16, Target)> = BTreeSet::new();
    for _ in 0..records {
        let start = name(answer, at).ok_or_else(cut)?.1;
        let (kind, length) = (number(start).ok_or_else(cut)?, number(start + 8).ok_or_else(cut)?);
        at = start + 10 + usize::from(length);
        if kind == SRV {
            let (priority, port) = (number(start + 10).ok_or_else(cut)?, number(start + 14).ok_or_else(cut)?);
            let (host, end) = name(answer, start + 16).ok_or_else(cut)?;
            if end > at {
                return Err(cut());
            }
            if !host.is_empty() && port > 0 {
                targets.insert((priority, (host, port)));
            }
        }
    }
    let best = targets.first().map(|(priority, _)| *priority).ok_or("the name has no SRV records")?;
    let best: Vec<_> =
        targets.into_iter().filter(|(priority, _)| *priority == best).map(|(_, target)| target).collect();
    if best.len() > MOST_TARGETS {
        return Err(format!("{} targets: more than {MOST_TARGETS} are not believed", best.len()));
    }
    Ok(Some(best))
}

/// The name at a place of a message, and where it ends there. Parts of it may stand further in front.
fn name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let (mut text, mut end) = (String::new(), None);
    for _ in 0..128 {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => return Some((text, end.unwrap_or(at + 1))),
            0xc0.. => {
                end = end.or(Some(at + 2));
                at = (length & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
            }
            _ => {
                let label = message.get(at + 1..at + 1 + length).filter(|_| length < 64 && text.len() < 255)?;
                let label = std::str::from_utf8(label)
                    .ok()
                    .filter(|label| label.bytes().all(|byte| byte.is_ascii_graphic()))?;
                text = if text.is_empty() { label.to_owned() } else { format!("{text}.{label}") };
                at += 1 + length;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    const NAME: &str = "_memcached._tcp.cache.example";

    /// An answer to a query: flags, and records of priority, port, host. The host's last part stands in the question.
    fn answer(query: &[u8], flags: [u8; 2], records: &[(u16, u16, &str)]) -> Vec<u8> {
        let end = query.len() - 11;
        let count = u16::try_from(records.len()).unwrap().to_be_bytes();
        let mut all = [&query[..2], &flags, &[0, 1], &count, &[0; 4], &query[12..end]].concat();
        for (priority, port, host) in records {
            let data = [&priority.to_be_bytes()[..], &[0, 9], &port.to_be_bytes()].concat();
            // Where `cache.example` begins.
            let host = [&[u8::try_from(host.len()).unwrap()], host.as_bytes(), &[0xc0, 12 + 16]].concat();
            let length = u16::try_from(data.len() + host.len()).unwrap().to_be_bytes();
            all.extend([&[0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 5][..], &length, &data, &host].concat());
        }
        all
    }

    #[test]
    fn targets_of_the_best_priority_are_read_and_nothing_else() {
        let query = query([7, 9], NAME).unwrap();
        let good = answer(&query, [0x81, 0x80], &[(1, 11211, "m-1"), (0, 11212, "m-0"), (0, 11211, "m-2")]);
        let host = |name: &str| format!("{name}.cache.example");
        assert_eq!(parse(&good, &query), Ok(Some(vec![(host("m-0"), 11212), (host("m-2"), 11211)])));
        for end in 0..good.len() {
            assert!(parse(&good[..end], &query).is_err(), "{end} bytes of {}", good.len());
        }
        // Whatever stands in a byte, it comes to an end.
        for (at, byte) in (0..good.len()).flat_map(|at| [0, 1, 0x3f, 0xc0, 0xff].map(|byte| (at, byte))) {
            let mut bad = good.clone();
            bad[at] = byte;
            let _ = parse(&bad, &query);
        }
        assert_eq!(parse(&answer(&query, [0x83, 0x80], &[]), &query), Ok(None), "it did not fit");
        // What answers another question says nothing of this one; however its letters are written, it is this one.
        let other = self::query([7, 9], "_memcached._tcp.cache.examplf").unwrap();
        assert!(parse(&answer(&other, [0x81, 0x80], &[(0, 7, "m")]), &query).is_err());
        let louder = self::query([7, 9], &NAME.to_uppercase()).unwrap();
        assert!(parse(&answer(&louder, [0x81, 0x80], &[(0, 7, "m")]), &query).is_ok());
        let mut silent = good;
        silent[5] = 0;
        assert!(parse(&silent, &query).is_err(), "an answer to nothing");
        let mut error = answer(&query, [0x81, 0x82], &[])[..12].to_vec();
        error[5] = 0;
        assert!(parse(&error, &query).unwrap_err().contains("error 2"));
        for (flags, reason) in [([0x81, 0x83], "no such name"), ([0x81, 0x82], "error 2"), ([0x81, 0x80], "no SRV")] {
            assert!(parse(&answer(&query, flags, &[]), &query).unwrap_err().contains(reason));
        }
    }

    #[test]
    fn what_does_not_fit_is_asked_again_over_tcp() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = std::net::TcpListener::bind(address).unwrap();
        let served = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let mut query = [0; 512];
            let (length, from) = udp.recv_from(&mut query).unwrap();
            udp.send_to(b"\0\0something else", from).unwrap();
            let other = super::query([query[0], query[1]], "_m._tcp.other.example").unwrap();
            udp.send_to(&answer(&other, [0x81, 0x80], &[(0, 666, "m")]), from).unwrap();
            udp.send_to(&answer(&query[..length], [0x83, 0x80], &[]), from).unwrap();
            let (mut stream, _) = tcp.accept().unwrap();
            stream.read_exact(&mut query[..2 + length]).unwrap();
            let whole = answer(&query[2..2 + length], [0x81, 0x80], &[(0, 7, "m")]);
            stream.write_all(&u16::try_from(whole.len()).unwrap().to_be_bytes()).unwrap();
            stream.write_all(&whole).unwrap();
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(runtime.block_on(ask(address, NAME)), Ok(vec![("m.cache.example".to_owned(), 7)]));
        served.join().unwrap();
    }
}
