//! Asking the admin port: one `GET /servers` over HTTP/1.0, with a limit on everything.

use std::io::ErrorKind;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::overview::Overview;

/// A proxy that takes longer for its answer does not answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Longer answers are not read: thousands of servers fit in.
const ANSWER_LIMIT: u64 = 16 << 20;

/// Why there is nothing to show.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub(super) enum Trouble {
    #[error("connection refused")]
    Refused,
    #[error("timed out")]
    TimedOut,
    #[error("{0}")]
    Io(String),
    /// Whoever listens there is no admin port.
    #[error("not an admin port")]
    Stranger,
    #[error("an answer that this version does not understand: {0}")]
    Unreadable(String),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == ErrorKind::ConnectionRefused {
            return Self::Refused;
        }
        // `(os error 113)` tells nobody anything.
        let text = error.to_string();
        Self::Io(text.split(" (os error").next().unwrap_or_default().to_lowercase())
    }
}

/// What the proxy at `address` has to show.
pub(super) async fn fetch(address: &str) -> Result<Overview, Trouble> {
    let answer = tokio::time::timeout(TIMEOUT, exchange(address)).await.map_err(|_| Trouble::TimedOut)??;
    parse(&answer)
}

async fn exchange(address: &str) -> Result<Vec<u8>, Trouble> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET /servers HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_LIMIT).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn parse(answer: &[u8]) -> Result<Overview, Trouble> {
    let is_ok = answer.starts_with(b"HTTP/1.0 200 ") || answer.starts_with(b"HTTP/1.1 200 ");
    let body = memchr::memmem::find(answer, b"\r\n\r\n").filter(|_| is_ok).ok_or(Trouble::Stranger)? + 4;
    serde_json::from_slice(&answer[body..])
        .map_err(|error| if error.is_syntax() { Trouble::Stranger } else { Trouble::Unreadable(error.to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_admin_port_is_told_from_one_that_cannot_be_read() {
        let cases: [(&str, &[u8], Option<Trouble>); 6] = [
            ("nothing", b"", Some(Trouble::Stranger)),
            ("memcached", b"ERROR\r\n", Some(Trouble::Stranger)),
            ("another web server", b"HTTP/1.1 404 Not Found\r\n\r\n{}", Some(Trouble::Stranger)),
            ("a page", b"HTTP/1.1 200 OK\r\n\r\n<html>", Some(Trouble::Stranger)),
            ("no end of the head", b"HTTP/1.0 200 OK\r\n", Some(Trouble::Stranger)),
            (
                "the least there can be",
                b"HTTP/1.0 200 OK\r\nx: y\r\n\r\n{\"version\":\"1\",\"host\":\"h\",\"uptime_s\":1,\"workers\":1,\"buffered_bytes\":0,\"memory_limit_bytes\":1,\"pools\":[],\"events\":[],\"more\":0}",
                None,
            ),
        ];
        for (name, answer, expected) in cases {
            assert_eq!(parse(answer).err(), expected, "{name}");
        }
        assert!(matches!(parse(b"HTTP/1.0 200 OK\r\n\r\n{\"version\":\"9\"}"), Err(Trouble::Unreadable(_))));
        assert!(matches!(parse(b"HTTP/1.0 200 OK\r\n\r\n{\"version\":"), Err(Trouble::Unreadable(_))));
    }
}
