//! Where two addresses are one, however each is written.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::model::{Address, Listen};

/// Where something listens, in one spelling. No name of a server is looked up, since a file is read without waiting for servers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Ip(u16, IpAddr),
    Name(u16, String),
    Unix(PathBuf),
}

impl Place {
    /// Where a server is.
    pub(super) fn of_server(address: &Address) -> Self {
        let (host, port) = match address {
            Address::Tcp { host, port } | Address::Found { host, port, .. } => {
                (host.trim_end_matches('.').to_lowercase(), *port)
            }
            Address::Sought(name) => return Self::Name(0, name.trim_end_matches('.').to_lowercase()),
            Address::Unix(path) => return Self::Unix(canonical(path)),
        };
        let ip = match host.as_str() {
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            host => host.parse().ok().or_else(|| ipv4(host).map(IpAddr::V4)),
        };
        match ip.map(|ip| ip.to_canonical()) {
            // To connect to no address in particular is to connect to this host.
            Some(IpAddr::V4(ip)) if ip.is_unspecified() => Self::Ip(port, IpAddr::V4(Ipv4Addr::LOCALHOST)),
            Some(IpAddr::V6(ip)) if ip.is_unspecified() => Self::Ip(port, IpAddr::V6(Ipv6Addr::LOCALHOST)),
            Some(ip) => Self::Ip(port, ip),
            None => Self::Name(port, host),
        }
    }

    /// Where a pool listens.
    pub(super) fn of_listener(listen: &Listen) -> Self {
        match listen {
            Listen::Tcp { address, .. } => Self::Ip(address.port(), address.ip().to_canonical()),
            Listen::Unix { path, .. } => Self::Unix(canonical(path)),
        }
    }

    /// Whether who connects to `self` reaches what listens at `listener`, on the same host.
    pub(super) fn reaches(&self, listener: &Self) -> bool {
        match (self, listener) {
            (Self::Ip(port, ip), Self::Ip(other, at)) => {
                port == other
                    && (ip == at || (ip.is_loopback() && at.is_unspecified() && (ip.is_ipv4() || at.is_ipv6())))
            }
            (one, other) => one == other,
        }
    }
}

/// Whether only one of two can be listened on at a time.
#[must_use]
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    if one.port() != other.port() || !(a == b || a.is_unspecified() || b.is_unspecified()) {
        return false;
    }
    match (a, b) {
        (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => true,
        // Whoever listens on all addresses of IPv6 has those of IPv4 as well, unless the system is told otherwise.
        (IpAddr::V6(wide), IpAddr::V4(_)) | (IpAddr::V4(_), IpAddr::V6(wide)) => {
            let own = std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only");
            wide.is_unspecified() && !own.is_ok_and(|own| own.trim() == "1")
        }
    }
}

/// A path without detours, as far as there are folders on this host.
fn canonical(path: &Path) -> PathBuf {
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    match (folder, path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path.components().collect(),
    }
}

/// What the system takes for an address of IPv4 although it is not written as four decimal numbers: fewer of them, of
/// which the last fills what is left, each also octal or hexadecimal.
pub(super) fn ipv4(host: &str) -> Option<Ipv4Addr> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None if text.starts_with('0') => u32::from_str_radix(text, 8).ok(),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        None => None,
    };
    let parts: Vec<u32> = host.split('.').map(number).collect::<Option<_>>()?;
    let (last, bytes) = parts.split_last()?;
    if bytes.len() > 3 || bytes.iter().any(|byte| *byte > 255) {
        return None;
    }
    let room = 8 * (4 - bytes.len());
    if u64::from(*last) >> room != 0 {
        return None;
    }
    let high = bytes.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    u32::try_from(high << room | u64::from(*last)).ok().map(Ipv4Addr::from)
}

/// Those of several things that are at one place with an earlier one, each with that one.
pub(super) fn repeated<T: Copy>(places: impl IntoIterator<Item = (Place, T)>) -> Vec<(T, T)> {
    let mut first: BTreeMap<Place, T> = BTreeMap::new();
    let mut repeated = Vec::new();
    for (place, one) in places {
        match first.get(&place) {
            Some(earlier) => repeated.push((*earlier, one)),
            None => drop(first.insert(place, one)),
        }
    }
    repeated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_known_in_other_spellings() {
        let tcp = |host: &str, port| Place::of_server(&Address::Tcp { host: host.to_owned(), port });
        for (one, other) in [
            ("localhost", "127.0.0.1"),
            ("LocalHost.", "127.0.0.1"),
            ("127.1", "127.0.0.1"),
            ("0x7f.0.0.1", "127.0.0.1"),
            ("010.0.0.1", "8.0.0.1"),
            ("0.0.0.0", "127.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("0:0:0:0:0:0:0:1", "::1"),
            ("Cache-1.Example.", "cache-1.example"),
        ] {
            assert_eq!(tcp(one, 1), tcp(other, 1), "{one} and {other}");
            assert_ne!(tcp(one, 1), tcp(other, 2), "{one} and {other}");
        }
        for (one, other) in [("127.0.0.2", "127.0.0.1"), ("::1", "127.0.0.1"), ("a", "b"), ("10.0.0.256", "10.0.1.0")] {
            assert_ne!(tcp(one, 1), tcp(other, 1), "{one} and {other}");
        }
        let unix = |path: &str| Place::of_server(&Address::Unix(path.into()));
        assert_eq!(unix("/tmp/../tmp//a.sock"), unix("/tmp/a.sock"));
        assert_eq!(unix("/no/such//./a.sock"), unix("/no/such/a.sock"));
        assert_ne!(unix("/tmp/a.sock"), unix("/tmp/b.sock"));
    }
}
