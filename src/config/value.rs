//! Single values: how each is written, and what is wrong when it is not.
//!
//! Each function takes the text of a value and returns it or a [`Wrong`]: what it should have been, and what to write.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use super::model::{Listen, Port};
use super::nearest::nearest;

/// Why a value is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

pub(super) fn wrong<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { message: message.into(), help: Some(help.into()) })
}

/// The shortest and the longest word that protects the admin port.
const TOKEN_LENGTHS: (usize, usize) = (16, 256);

/// The shortest and the longest time between two reports to statsd.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(600));

/// The shortest time between two look-ups of a name, and the longest that a change of them is waited for.
const SHORTEST_RESOLVE: Duration = Duration::from_millis(100);
const LONGEST_SETTLE: Duration = Duration::from_secs(600);

/// The longest time that is waited for another one's value, and the shortest and the longest that it may take to compute.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const SHORTEST_LEASE: Duration = Duration::from_secs(1);
const LONGEST_LEASE: Duration = Duration::from_secs(3600);

/// Values of a pool are kept in no less and no more than this.
const NEAR_SIZES: (usize, usize) = (1 << 20, 16 << 30);

/// Nobody wants values that are older than this, while their server is there to be asked.
const LONGEST_TTL: Duration = Duration::from_secs(3600);

/// One in so many requests is the least that can be looked at for hot keys.
const MOST_SPARING: u64 = 1_000_000;

/// Longest path of a unix socket (the size of `sockaddr_un` less its end).
const UNIX_PATH_LIMIT: usize = 107;

pub(super) fn boolean(text: &str) -> Result<bool, Wrong> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        other => {
            let lower = other.to_lowercase();
            let help = match lower.as_str() {
                "yes" | "on" | "1" | "true" | "y" => "write `true`".to_owned(),
                "no" | "off" | "0" | "false" | "n" => "write `false`".to_owned(),
                word => match nearest(word, ["true", "false"]) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "write `true` or `false`".to_owned(),
                },
            };
            wrong(format!("`{other}` is not true or false"), help)
        }
    }
}

/// Digits only, as twemproxy has it, but without its silent wrapping.
pub(super) fn number(text: &str, least: u64, most: u64) -> Result<u64, Wrong> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return wrong(format!("`{text}` is not a number"), format!("write digits only, from {least} to {most}"));
    }
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => wrong(format!("{text} is out of range"), format!("write a number from {least} to {most}")),
    }
}

/// Milliseconds when bare, else with a unit. `None` for 0.
pub(super) fn duration(text: &str) -> Result<Option<Duration>, Wrong> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (figures, unit) = text.split_at(digits);
    let scale = match unit.trim_start() {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => {
            return wrong(
                format!("`{text}` is not a duration"),
                "write milliseconds (`400`) or a number with a unit: `400ms`, `30s`, `1m`, `1h`",
            );
        }
    };
    let millis = figures.parse::<u64>().ok().and_then(|figures| figures.checked_mul(scale));
    match millis {
        Some(millis) if millis <= 86_400_000 => Ok((millis > 0).then(|| Duration::from_millis(millis))),
        Some(_) => {
            wrong(format!("`{text}` is longer than a day"), "write a shorter duration; bare numbers are milliseconds")
        }
        None => wrong(
            format!("`{text}` is not a duration"),
            "write milliseconds (`400`) or a number with a unit: `400ms`, `30s`, `1m`, `1h`",
        ),
    }
}

/// Bytes when bare, else with a unit.
pub(super) fn size(text: &str, least: usize, most: usize) -> Result<usize, Wrong> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (figures, unit) = text.split_at(digits);
    let shift = match unit.trim_start().to_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => {
            return wrong(
                format!("`{text}` is not a size"),
                "write bytes or a number with a unit: `512kb`, `64mb`, `1gb`",
            );
        }
    };
    match figures.parse::<usize>().ok().and_then(|figures| figures.checked_mul(1 << shift)) {
        Some(size) if (least..=most).contains(&size) => Ok(size),
        Some(_) => wrong(format!("`{text}` is out of range"), format!("write a size from {least} to {most} bytes")),
        None => wrong(format!("`{text}` is not a size"), "write bytes or a number with a unit: `512kb`, `64mb`, `1gb`"),
    }
}

/// One of several words.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&'static str, T)]) -> Result<T, Wrong> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names = choices.iter().map(|(name, _)| *name);
    let all = names.clone().collect::<Vec<_>>().join(", ");
    let help = match nearest(text, names) {
        Some(meant) => format!("did you mean `{meant}`? It can be: {all}"),
        None => format!("it can be: {all}"),
    };
    wrong(format!("`{text}` is not one of the values it can have"), help)
}

/// The word for one of several values.
pub(super) fn word<T: PartialEq>(value: T, choices: &[(&'static str, T)]) -> Option<String> {
    choices.iter().find(|(_, one)| *one == value).map(|(word, _)| (*word).to_owned())
}

pub(super) fn hash_tag(text: &str) -> Result<[u8; 2], Wrong> {
    <[u8; 2]>::try_from(text.as_bytes()).map_err(|_| Wrong {
        message: format!("`{text}` is not a pair of marks"),
        help: Some("write exactly two characters, the opening and the closing one, in quotes: \"{}\"".to_owned()),
    })
}

/// Two changes are the least that a server can go out and come back with; `None` for no limit.
pub(super) fn flap_limit(text: &str) -> Result<Option<u32>, Wrong> {
    match number(text, 0, 1000)? {
        1 => wrong(
            "`1` would keep a server out for ever: to leave and to return are two changes",
            "write `2` or more, or `0` for no limit",
        ),
        limit => Ok(u32::try_from(limit).ok().filter(|limit| *limit > 0)),
    }
}

/// A lifetime in whole seconds, which is what memcached counts in.
pub(super) fn failover_ttl(text: &str) -> Result<Option<u32>, Wrong> {
    let help = "write `60s`; leave the line out for no limit";
    match duration(text)? {
        Some(span) if span >= Duration::from_secs(1) => Ok(Some(u32::try_from(span.as_secs()).unwrap_or(u32::MAX))),
        Some(_) | None => wrong(format!("`{text}` is less than a second"), help),
    }
}

/// A folder, wherever the process is started; `None` for none.
pub(super) fn folder(text: &str) -> Result<Option<PathBuf>, Wrong> {
    match text {
        text if is_none(text) => Ok(None),
        path if path.starts_with('/') => Ok(Some(path.into())),
        other => wrong(
            format!("`{other}` is not the whole path of a folder"),
            "write one that begins with `/`, such as `/var/lib/softmiss`, or `none`",
        ),
    }
}

/// A file, wherever the process is started; `None` for none.
pub(super) fn whole_path(text: &str) -> Result<Option<PathBuf>, Wrong> {
    match text {
        text if is_none(text) => Ok(None),
        path if path.starts_with('/') && path.len() > 1 && !path.ends_with('/') => Ok(Some(path.into())),
        other => wrong(
            format!("`{other}` is not the whole path of a file"),
            "write one that begins with `/`, such as `/etc/softmiss/servers`, or `none`",
        ),
    }
}

/// The time between two look-ups of a name; `None` where it is looked up when it is connected to only.
pub(super) fn resolve_interval(text: &str) -> Result<Option<Duration>, Wrong> {
    match duration(text)? {
        Some(span) if span < SHORTEST_RESOLVE => {
            wrong(format!("`{text}` is too short to look names up at"), "write `100ms` or more, or `0` for never")
        }
        span => Ok(span),
    }
}

/// How long what has changed has to stay so.
pub(super) fn settle(text: &str) -> Result<Duration, Wrong> {
    match duration(text)?.unwrap_or_default() {
        span if span <= LONGEST_SETTLE => Ok(span),
        _ => wrong(format!("`{text}` is too long to wait for a change"), "write `10m` or less"),
    }
}

/// The address of a port that can be switched off with `none`.
pub(super) fn port(text: &str) -> Result<Port, Wrong> {
    match text {
        "none" => Ok(Port::Off),
        address => socket_address(address, "write `host:port`, or `none` to switch the port off").map(Port::At),
    }
}

/// A word that is not guessed, and that can stand in a header. What is wrong with it is said without repeating it.
pub(super) fn token(text: &str) -> Result<Option<String>, Wrong> {
    let help = "write what `openssl rand -hex 24` prints, or another word of letters and digits";
    if text.len() < TOKEN_LENGTHS.0 || text.len() > TOKEN_LENGTHS.1 {
        let (least, most) = TOKEN_LENGTHS;
        return wrong(format!("a token of {} characters; it must have {least} to {most}", text.len()), help);
    }
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)) {
        return wrong("a token can hold nothing but letters, digits and `-._~+/=`", help);
    }
    Ok(Some(text.to_owned()))
}

/// One in how many requests is looked at; `None` for none of them.
pub(super) fn sampling(text: &str) -> Result<Option<u32>, Wrong> {
    match text {
        text if is_none(text) => Ok(None),
        "true" => wrong(
            "`true` does not say how many requests are looked at",
            "write `128` to count the keys of one in 128 requests, or `none` to count none",
        ),
        sparing => number(sparing, 0, MOST_SPARING).map(|number| u32::try_from(number).ok().filter(|one| *one > 0)),
    }
}

/// Whether this says that something is to be off.
fn is_none(text: &str) -> bool {
    matches!(text, "none" | "false")
}

/// Failures in a row; 0 acts as 1.
pub(super) fn failures(text: &str) -> Result<u32, Wrong> {
    number(text, 0, u64::from(u32::MAX)).map(|failures| u32::try_from(failures).unwrap_or(u32::MAX).max(1))
}

/// How long a request may take before it is slow; `None` where none is.
pub(super) fn slow(text: &str) -> Result<Option<Duration>, Wrong> {
    if is_none(text) { Ok(None) } else { duration(text) }
}

/// Event-loop threads; `auto` for one for each core.
pub(super) fn workers(text: &str) -> Result<usize, Wrong> {
    match text {
        "auto" => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
        workers => number(workers, 1, 64).map(|workers| usize::try_from(workers).unwrap_or(1)),
    }
}

/// The first step of the names that statsd is told.
pub(super) fn prefix(text: &str) -> Result<String, Wrong> {
    let fits = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    if text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    wrong(format!("`{text}` is not the beginning of a name"), "letters, digits, dots, dashes and underscores")
}

/// How long who misses a key waits for another one that computes it.
pub(super) fn stampede_wait(text: &str) -> Result<Duration, Wrong> {
    match duration(text)? {
        Some(wait) if wait <= LONGEST_WAIT => Ok(wait),
        _ => wrong(format!("`{text}` is no time to wait for another one's value"), "1ms to 1m; `2s` is usual"),
    }
}

/// How long who was told the miss first has before the next one is.
pub(super) fn stampede_lease(text: &str) -> Result<Duration, Wrong> {
    match duration(text)? {
        Some(lease) if (SHORTEST_LEASE..=LONGEST_LEASE).contains(&lease) => Ok(lease),
        _ => wrong(format!("`{text}` is no time to compute a value in"), "1s to 1h; `5s` is usual"),
    }
}

/// For how long after its end a value is given to who would have to wait.
pub(super) fn stampede_stale(text: &str) -> Result<Option<Duration>, Wrong> {
    duration(text)
}

/// Most bytes that are kept of a pool's values.
pub(super) fn near_size(text: &str) -> Result<usize, Wrong> {
    size(text, NEAR_SIZES.0, NEAR_SIZES.1)
}

/// How long a value is given out that is kept.
pub(super) fn near_ttl(text: &str) -> Result<Duration, Wrong> {
    match duration(text)? {
        Some(ttl) if ttl <= LONGEST_TTL => Ok(ttl),
        _ => wrong(format!("`{text}` is no time to give a value out for"), "1ms to 1h; `1s` is usual"),
    }
}

/// How long a value is given out after it was read, when its server is out.
pub(super) fn near_stale(text: &str) -> Result<Option<Duration>, Wrong> {
    duration(text)
}

/// Time between two reports to statsd.
pub(super) fn interval(text: &str) -> Result<Duration, Wrong> {
    match duration(text)? {
        Some(span) if (INTERVALS.0..=INTERVALS.1).contains(&span) => Ok(span),
        Some(_) | None => {
            wrong(format!("`{text}` is no interval to report at"), "100ms to 10m; statsd itself works in steps of 10s")
        }
    }
}

const LISTEN_HELP: &str = "write `host:port` (`127.0.0.1:11211`, `[::1]:11211`), or the path of a unix socket with optional mode bits (`/run/cache.sock 0660`)";

/// Where a pool listens. Host names are resolved at once, as twemproxy does.
pub(super) fn listen(text: &str) -> Result<Listen, Wrong> {
    if text.starts_with('/') {
        let (path, mode) = match text.rsplit_once(' ') {
            Some((path, mode)) => (path.trim_end(), Some(permissions(mode)?)),
            None => (text, None),
        };
        return Ok(Listen::Unix { path: unix_path(path)?, mode: mode.filter(|mode| *mode != 0) });
    }
    let address = socket_address(text, LISTEN_HELP)?;
    Ok(Listen::Tcp { text: text.to_owned(), address })
}

/// An address to listen on.
pub(super) fn socket_address(text: &str, help: &str) -> Result<SocketAddr, Wrong> {
    let (host, port) = split_address(text, help)?;
    match (host, port).to_socket_addrs().ok().and_then(|mut found| found.next()) {
        Some(address) => Ok(address),
        None => wrong(format!("`{host}` is not an address of this host and does not resolve"), help),
    }
}

/// The host and the port of another program, to be looked up when it is needed.
pub(super) fn host_and_port(text: &str) -> Result<(String, u16), Wrong> {
    split_address(text, "write `host:port`").map(|(host, port)| (host.to_owned(), port))
}

fn split_address<'a>(text: &'a str, help: &str) -> Result<(&'a str, u16), Wrong> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return wrong(format!("`{text}` is not an address with a port"), help);
    };
    let port = port_number(port)?;
    let host = unbracketed(host);
    if host.is_empty() {
        return wrong(format!("`{text}` has no host"), help);
    }
    Ok((host, port))
}

pub(super) fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

pub(super) fn port_number(text: &str) -> Result<u16, Wrong> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => wrong(format!("`{text}` is not a port"), "write a port from 1 to 65535 behind the last colon"),
    }
}

fn permissions(text: &str) -> Result<u32, Wrong> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        Ok(_) => wrong(format!("mode {text} is out of range"), "write octal mode bits from 0 to 0777"),
        Err(_) => wrong(
            format!("`{text}` is not an octal mode"),
            "write the path and then mode bits as in `/run/cache.sock 0660`; the path must not contain blanks",
        ),
    }
}

pub(super) fn unix_path(path: &str) -> Result<PathBuf, Wrong> {
    if path.len() > UNIX_PATH_LIMIT {
        return wrong(
            format!("the path has {} bytes", path.len()),
            format!("use a path of at most {UNIX_PATH_LIMIT} bytes: sockets cannot have longer ones"),
        );
    }
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_take_units() {
        for (text, millis) in [("400", 400), ("400ms", 400), ("30s", 30_000), ("1m", 60_000), ("2 s", 2000)] {
            assert_eq!(duration(text), Ok(Some(Duration::from_millis(millis))), "{text}");
        }
        assert_eq!(duration("0"), Ok(None));
        for text in ["-1", "", "1.5s", "4x", "99999999999999999999", "25h"] {
            assert!(duration(text).is_err(), "{text:?} was accepted");
        }
        assert_eq!(size("64mb", 0, usize::MAX), Ok(64 << 20));
        assert_eq!(size("16KB", 0, usize::MAX), Ok(16 << 10));
        assert!(size("1tb", 0, usize::MAX).is_err());
        assert!(size("5", 10, 20).is_err());
    }

    #[test]
    fn listeners_are_tcp_or_unix() {
        assert!(matches!(listen("127.0.0.1:11211"), Ok(Listen::Tcp { .. })));
        assert!(matches!(listen("[::1]:11211"), Ok(Listen::Tcp { address, .. }) if address.is_ipv6()));
        assert!(matches!(listen("::1:22121"), Ok(Listen::Tcp { address, .. }) if address.port() == 22121));
        for text in ["::1:22121", "[::1]:22121"] {
            assert_eq!(
                listen(text).map(|listen| listen.to_string()),
                Ok("[::1]:22121".to_owned()),
                "shown in brackets"
            );
        }
        assert_eq!(listen("/tmp/x.sock 0660"), Ok(Listen::Unix { path: "/tmp/x.sock".into(), mode: Some(0o660) }));
        assert_eq!(listen("/tmp/x.sock"), Ok(Listen::Unix { path: "/tmp/x.sock".into(), mode: None }));
        for text in [
            "127.0.0.1",
            "127.0.0.1:0",
            "127.0.0.1:x",
            ":11211",
            "/tmp/x 0999",
            "/tmp/x 1000",
            "no.such.host.invalid:1",
        ] {
            assert!(listen(text).is_err(), "{text:?} was accepted");
        }
    }
}
