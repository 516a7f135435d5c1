//! A line that says where a server is: twemproxy's `host:port:weight name`, or the name of a service.

use super::model::Address;
use super::value::{Wrong, port_number, unbracketed, unix_path, wrong};

/// memcached's own port.
const USUAL_PORT: u16 = 11211;

const SERVER_HELP: &str = "write `host:port:weight name` or `/path/of/socket:weight name`; the name is optional";

/// A line of `servers:`: twemproxy's name for it, where it is, and its weight.
pub(super) fn server(text: &str) -> Result<(String, Address, u32), Wrong> {
    let (place, name) = match text.rsplit_once(' ') {
        Some((place, name)) => (place, Some(name)),
        None => (text, None),
    };
    if place.contains(' ') {
        return wrong("there are blanks in the address or the name", SERVER_HELP);
    }
    if is_service(place) {
        return service(place, name);
    }
    let is_unix = place.starts_with('/');
    let named = name.map(|name| format!(" {name}")).unwrap_or_default();
    let Some((address, weight)) = place.rsplit_once(':') else {
        return if is_unix {
            wrong(format!("`{place}` has no weight"), format!("write `{place}:1{named}`: the path and a weight"))
        } else {
            let message = if place.is_empty() { "a server has no address" } else { &format!("`{place}` has no port") };
            let host = if place.is_empty() { "10.0.0.1" } else { place };
            let help = format!(
                "write `{host}:11211:1{named}`: host, port and weight (memcached is at port 11211 mostly, Redis at 6379)"
            );
            wrong(message, help)
        };
    };
    if !is_unix && !unbracketed_has_port(address) {
        return match weight.parse::<u16>() {
            // Nobody gives a server such a weight, and a cache is hardly at so low a port.
            Ok(port) if port >= 1024 => {
                wrong(format!("`{place}` has no weight"), format!("write `{place}:1{named}`: host, port and weight"))
            }
            Ok(0) => wrong(format!("`{place}` has no port and no weight"), SERVER_HELP),
            Ok(_) => wrong(
                format!("`{place}` has no weight (or no port)"),
                format!(
                    "write `{address}:11211:{weight}{named}` if {weight} is its weight, `{place}:1{named}` if it is its port"
                ),
            ),
            Err(_) if weight.bytes().all(|byte| byte.is_ascii_digit()) && !weight.is_empty() => wrong(
                format!("`{weight}` is not a port"),
                "write a port from 1 to 65535 behind the host, and then a weight",
            ),
            Err(_) => wrong(
                format!("`{place}` has no port and no weight"),
                format!("write `HOST:11211:1{named}`: host, port and weight"),
            ),
        };
    }
    let weight = self::weight(weight)?;
    if is_unix {
        let path = unix_path(address)?;
        return Ok((name.unwrap_or(address).to_owned(), Address::Unix(path), weight));
    }
    let Some((host, port)) = address.rsplit_once(':') else {
        return wrong(format!("`{text}` has no port"), SERVER_HELP);
    };
    let port = port_number(port)?;
    if host.is_empty() {
        return wrong(format!("`{text}` has no host"), SERVER_HELP);
    }
    let default = if port == USUAL_PORT { host } else { address };
    let name = name.unwrap_or(default).to_owned();
    Ok((name, Address::Tcp { host: unbracketed(host).to_owned(), port }, weight))
}

/// Whether this is a name of SRV records, which have the ports of the servers: no host's name begins like that.
fn is_service(place: &str) -> bool {
    let mut labels = place.split(':').next().unwrap_or_default().split('.');
    labels.next().is_some_and(|label| label.starts_with('_')) && labels.next() == Some("_tcp")
}

fn service(place: &str, name: Option<&str>) -> Result<(String, Address, u32), Wrong> {
    let help = "write `_memcached._tcp.cache.example.com:1`: the name, and the weight of each server that it has";
    if name.is_some() {
        return wrong("the servers of SRV records have names of their own", help);
    }
    let (service, weight) = match place.split(':').collect::<Vec<_>>()[..] {
        [service] => (service, 1),
        [service, weight] => (service, self::weight(weight)?),
        _ => return wrong("the ports of these servers are in their SRV records", help),
    };
    let fits = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_graphic());
    if service.len() > 253
        || service.trim_end_matches('.').split('.').count() < 3
        || !service.trim_end_matches('.').split('.').all(fits)
    {
        return wrong(format!("`{service}` is not the name of a service"), help);
    }
    Ok((service.to_owned(), Address::Sought(service.to_owned()), weight))
}

fn weight(text: &str) -> Result<u32, Wrong> {
    match text.parse::<u32>() {
        Ok(0) => {
            wrong("a weight of 0 would give the server no keys", "write a weight of 1 or more, or leave the server out")
        }
        Ok(weight) if weight <= 1_000_000 => Ok(weight),
        Ok(_) => wrong(format!("weight {text} is out of range"), "write a weight from 1 to 1000000"),
        Err(_) => wrong(format!("`{text}` is not a weight"), SERVER_HELP),
    }
}

/// The name of a server that is given none: memcached's own port is left out of it, as other clients' ketama does.
pub(super) fn usual_name(host: &str, port: u16) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == USUAL_PORT { host } else { format!("{host}:{port}") }
}

/// Whether an address has a port behind its host (and not only colons of IPv6).
fn unbracketed_has_port(address: &str) -> bool {
    match address.rsplit_once(':') {
        Some((host, port)) => !host.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_as_twemproxy_names_them() {
        for (line, name, weight) in [
            ("10.0.0.1:11211:1", "10.0.0.1", 1),
            ("10.0.0.1:11212:2", "10.0.0.1:11212", 2),
            ("10.0.0.1:11211:1 cache-a", "cache-a", 1),
            ("/run/m.sock:3", "/run/m.sock", 3),
            ("/run/m.sock:3 local", "local", 3),
            ("::1:11211:1", "::1", 1),
            ("::1:11300:1", "::1:11300", 1),
        ] {
            let (found, _, found_weight) = server(line).unwrap_or_else(|wrong| panic!("{line}: {wrong:?}"));
            assert_eq!((found.as_str(), found_weight), (name, weight), "{line}");
        }
    }

    #[test]
    fn bad_server_lines_are_refused() {
        for line in [
            "10.0.0.1:11211",
            "10.0.0.1",
            "10.0.0.1:0:1",
            "10.0.0.1:99999:1",
            "a:1:0",
            "a:1:x",
            "a:1:1 two words",
            "",
            ":1:1",
            "a:1:1  x",
        ] {
            assert!(server(line).is_err(), "{line:?} was accepted");
        }
    }
}
