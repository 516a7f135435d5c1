//! Asking the admin port of a running proxy: one request over HTTP/1.0, with a limit on everything.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::flags::DEFAULT_FILES;
use crate::config;
use crate::config::model::Port;
use crate::io::terminal::{colour, complain};

/// Where an admin port usually is.
pub(super) const EXAMPLE: &str = "127.0.0.1:22223";

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

/// The answer to a request, its head included: `what` is the method and the path, `token` what is said to be let in. Who
/// takes longer than `limit` does not answer.
pub(super) async fn ask(address: &str, what: &str, token: Option<&str>, limit: Duration) -> Result<Vec<u8>, Trouble> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!("{what} HTTP/1.0\r\nHost: {address}\r\n{token}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_LIMIT).read_to_end(&mut answer).await?;
        Ok(answer)
    };
    tokio::time::timeout(limit, exchange).await.map_err(|_| Trouble::TimedOut)?
}

/// The status and the body of an answer; nothing of what is none of HTTP.
pub(super) fn parts(answer: &[u8]) -> Option<(u16, &[u8])> {
    let rest = answer.strip_prefix(b"HTTP/1.0 ").or_else(|| answer.strip_prefix(b"HTTP/1.1 "))?;
    let status = std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()?;
    let body = memchr::memmem::find(answer, b"\r\n\r\n")? + 4;
    Some((status, &answer[body..]))
}

/// An address as it is written on the command line; that of the dashboard in a browser will do.
pub(super) fn written(text: &str, command: &str) -> anyhow::Result<String> {
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    match address.rsplit_once(':') {
        Some((host, number)) if !host.is_empty() && port(number) => Ok(address.to_owned()),
        _ => bail!("`{text}` is not an address: write HOST:PORT, as in softmiss {command} {EXAMPLE}"),
    }
}

/// The admin port of the configuration file.
pub(super) fn configured(file: &Path, command: &str) -> anyhow::Result<String> {
    if file == Path::new(DEFAULT_FILES[0]) && !file.exists() {
        return Ok(EXAMPLE.to_owned()); // nobody said where; it is probably where it usually is
    }
    let shown = file.display();
    let loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(report) => {
            complain(&report.render(colour()));
            bail!(
                "{shown} cannot be used; name another with -c FILE, or the admin port itself: softmiss {command} {EXAMPLE}"
            );
        }
    };
    match loaded.config.settings.admin {
        Port::At(address) => Ok(reachable(address).to_string()),
        Port::Unsaid => Ok(EXAMPLE.to_owned()),
        Port::Off => bail!(
            "{shown} has no admin port: write `softmiss: {{admin: {EXAMPLE}}}` into it and start the proxy again, \
             or say where the port is: softmiss {command} {EXAMPLE}"
        ),
    }
}

/// A port that is served on all interfaces is reached by the loopback interface.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, address.port())
}
