//! `flush_all` to the servers of a pool, each asked on a connection of its own, so that each one's answer can be told.
//!
//! A server that is out of the ring, or does not answer well, is flushed before it is used again.

use std::io;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use crate::config::model::{Address, Pool, PoolId};
use crate::io::Operator;

/// How long a server may take, in a pool without `timeout`.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time that is waited for keys that are just being brought along.
const COPIES: Duration = Duration::from_millis(500);

/// Longest line that a server is heard out.
const LINE_LIMIT: u64 = 1024;

/// What became of one server.
#[derive(Debug, Serialize)]
pub(super) struct Flushed {
    server: String,
    address: String,
    /// It holds nothing any more.
    pub(super) flushed: bool,
    /// It is flushed before it is used again.
    pub(super) owed: bool,
    said: String,
}

/// Flushes every server of a pool, in the order of the file.
pub(super) async fn all(operator: &Operator, id: PoolId, pool: &Pool) -> Vec<Flushed> {
    let topology = operator.observed().topology();
    if let Some(warming) = &topology.pool(id).warming {
        // What is being brought along from one server must not be stored at another behind its flush.
        let until = tokio::time::Instant::now() + COPIES;
        while !warming.end() && tokio::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    forget(operator, id);
    let live = topology.registry.live(id);
    let timeout = pool.timeout.unwrap_or(TIMEOUT);
    let mut asked = JoinSet::new();
    for of in &pool.servers {
        let (server, live) = (of.id, live[of.id.index()]);
        if !live {
            operator.invalidate_all(id, server);
        }
        let (of, operator, is_followed) = (of.clone(), operator.clone(), pool.discovery.interval.is_some());
        asked.spawn(async move {
            let said = if live { Some(ask(&operator, &of.address, is_followed, timeout).await) } else { None };
            (of, said)
        });
    }
    let mut answers = asked.join_all().await;
    forget(operator, id);
    answers.sort_by_key(|(of, _)| of.position);
    let told = answers.into_iter().map(|(of, said)| {
        let (flushed, owed, said) = match said {
            None => (false, true, "out of the ring: it is flushed before it is back".to_owned()),
            Some(Ok(line)) if line == "OK" => (true, false, line),
            Some(Ok(line)) => (false, false, line), // `-F`: it would refuse the next one as well
            Some(Err(error)) => {
                operator.invalidate_all(id, of.id);
                (false, true, format!("{error}: it is flushed on its next connection"))
            }
        };
        Flushed { server: of.name, address: of.address.to_string(), flushed, owed, said }
    });
    told.collect()
}

/// Nothing is given out any more that is kept of a pool.
fn forget(operator: &Operator, id: PoolId) {
    if let Some(near) = &operator.observed().topology().pool(id).near {
        near.all_changed();
    }
}

async fn ask(operator: &Operator, address: &Address, is_followed: bool, timeout: Duration) -> io::Result<String> {
    let answer = async {
        let socket = operator.connect(address, is_followed).await;
        let socket = socket.map_err(|failure| io::Error::other(failure.to_string()))?;
        match address {
            Address::Unix(_) => flush(UnixStream::from_std(socket.into())?).await,
            Address::Tcp { .. } | Address::Found { .. } | Address::Sought(_) => {
                flush(TcpStream::from_std(socket.into())?).await
            }
        }
    };
    match tokio::time::timeout(timeout, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "timed out")),
    }
}

async fn flush(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<String> {
    stream.write_all(b"flush_all\r\n").await?;
    let mut line = Vec::new();
    BufReader::new(stream.take(LINE_LIMIT)).read_until(b'\n', &mut line).await?;
    if !line.ends_with(b"\n") {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer"));
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn a_server_is_flushed_where_its_name_is_known_to_be() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let served = std::thread::spawn(move || {
            let mut asked = [0; b"flush_all\r\n".len()];
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(b"OK\r\n").unwrap();
            asked
        });
        // A name that nobody has.
        let file = format!("p: {{listen: '127.0.0.1:1', timeout: 400, servers: ['cache.invalid:{}:1']}}\n", at.port());
        let proxy = crate::io::Proxy::of(&file);
        let operator = proxy.operator(None);
        operator.know("cache.invalid", &[at]);
        let topology = operator.observed().topology();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let told = runtime.block_on(all(&operator, PoolId(0), &topology.config.pools[0]));
        assert!(told[0].flushed, "{told:?}");
        assert_eq!(&served.join().unwrap(), b"flush_all\r\n");
        proxy.shutdown();
    }
}
