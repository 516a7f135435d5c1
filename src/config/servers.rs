//! The servers of a pool: its lines, and what of them cannot be meant.

#![expect(clippy::wildcard_enum_match_arm, reason = "what is not the wanted kind of node is named in the message")]

use std::collections::HashMap;

use super::diagnostic::{Diagnostic, Span};
use super::findings::Findings;
use super::model::{Address, COUNT_LIMIT, Server, ServerId};
use super::options::is_of_pool;
use super::place::{self, Place};
use super::raw::{Content, Node};
use super::secret::names_secret;
use super::text::{variable, visible};
use super::{line, slips};

/// Servers that are listed, each with the place of its line, no name twice.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) found: Vec<(Server, Span)>,
    names: HashMap<String, Span>,
}

impl Lines {
    /// One more, as its line says: its name, where it is, and its weight.
    pub(super) fn add(&mut self, (name, address, weight): (String, Address, u32), span: Span, findings: &mut Findings) {
        let shown = visible(&name).into_owned();
        if let Some(first) = self.names.get(&shown) {
            let repeated = Diagnostic::error(Some(span), format!("two servers have the name `{shown}`"))
                .label("again here")
                .also(Span::clone(first), "first here")
                .help("list it once, or give each a name of its own behind the weight");
            return findings.push(repeated);
        }
        self.names.insert(shown.clone(), span.clone());
        let ring_name = (shown != name).then(|| name.into());
        let position = self.found.len();
        self.found.push((Server { id: ServerId(0), name: shown, ring_name, address, weight, position }, span));
    }
}

/// The servers, each with the place of its line.
pub(super) fn resolve(key: &Node, node: &Node, findings: &mut Findings) -> Vec<(Server, Span)> {
    let items = match &node.content {
        Content::List(items) => items,
        other => {
            let message = format!("`servers` takes a list, not {}", other.kind());
            let is_other = |name: &str| is_of_pool(name) || names_secret(name);
            let pair = |(name, line): &(Node, Node)| {
                let name = name.scalar().filter(|name| !is_other(name))?;
                Some(format!("{} {name}", line.scalar()?))
            };
            let meant = match other {
                Content::Scalar(text) => slips::as_servers(text),
                Content::Mapping(pairs) => {
                    pairs.iter().filter_map(pair).map(|line| format!("\n      - {line}")).collect()
                }
                _ => String::new(),
            };
            let meant = if meant.is_empty() { "\n      - 10.0.0.1:11211:1 cache-a" } else { &meant };
            let help = format!("write one server a line, with a dash and a blank before it:\n\n    servers:{meant}");
            let span = if node.span.is_empty() { key.span.clone() } else { node.span.clone() };
            findings.push(Diagnostic::error(Some(span), message).help(help));
            return Vec::new();
        }
    };
    if items.is_empty() || items.len() > COUNT_LIMIT {
        let message = format!("`servers` lists {} servers", items.len());
        let help = format!("list from 1 to {COUNT_LIMIT}");
        findings.push(Diagnostic::error(Some(key.span.clone()), message).help(help));
    }
    let mut lines = Lines::default();
    for item in items {
        let Some(text) = item.scalar() else {
            let message = format!("a server is one line of text, not {}", item.content.kind());
            let help = "write `- host:port:weight name`";
            findings.push(Diagnostic::error(Some(item.span.clone()), message).help(help));
            continue;
        };
        if let Some(read) = findings.check(&item.span, "servers", line::server(text)) {
            lines.add(read, item.span.clone(), findings);
        }
    }
    lines.found
}

/// What works, but hardly as it was meant.
pub(super) fn warn(pool: &str, servers: &[(Server, Span)], findings: &mut Findings) {
    let mut warn = |span: &Span, message: String, help: &str| {
        findings.push(Diagnostic::warning(Some(span.clone()), message).help(help));
    };
    for (server, span) in servers {
        if server.ring_name.is_some() {
            let message = format!(
                "the name of server `{}` of pool `{pool}` has characters in it that cannot be seen",
                server.name
            );
            warn(span, message, "write the name without them; its keys are placed anew then");
        }
        if server.name.is_empty() {
            let message = format!("a server of pool `{pool}` has an empty name");
            warn(span, message, "write a name behind the weight, or nothing, not even a blank");
        }
        if let Address::Tcp { host, .. } = &server.address
            && let Some(why) = no_host(host)
        {
            let message = format!("`{}` of pool `{pool}` can never be reached: {why}", visible(host));
            warn(span, message, "write `host:port:weight name`, with the name or the address of one host");
        }
    }
    let places = servers.iter().map(|(server, span)| (Place::of_server(&server.address), (server, span)));
    for ((first, earlier), (second, span)) in place::repeated(places) {
        let message = format!(
            "servers `{}` and `{}` of pool `{pool}` have one address, so they are one server, with both shares of the keys",
            first.name, second.name
        );
        let twice = Diagnostic::warning(Some(span.clone()), message)
            .label("again here")
            .also(earlier.clone(), "first here")
            .help("list each server once; for a larger share give it a larger weight");
        findings.push(twice);
    }
}

/// Why a host cannot be one, if it is certain. A variable is told of elsewhere.
fn no_host(host: &str) -> Option<&'static str> {
    if variable(host).is_some() {
        return None;
    }
    if host.contains("://") || host.starts_with("//") {
        return Some("an address has no `scheme://` before it");
    }
    if host.contains(',') {
        return Some("it is a list");
    }
    if host.contains(|one: char| one.is_ascii() && !one.is_ascii_alphanumeric() && !"-._:%".contains(one)) {
        return Some("a host's name has no such characters");
    }
    if host.contains(':') {
        let address = host.split('%').next().unwrap_or_default();
        return address.parse::<std::net::Ipv6Addr>().is_err().then_some("it is no address of IPv6");
    }
    let figures = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    (figures && place::ipv4(host).is_none()).then_some("it is no address of IPv4")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_can_be_are_not_doubted() {
        for host in
            ["a", "cache-1.example.", "my_cache", "10.0.0.1", "127.1", "::1", "fe80::1%eth0", "1.de", "b\u{fc}cher"]
        {
            assert_eq!(no_host(host), None, "{host}");
        }
        for host in ["http", "tcp"] {
            assert!(no_host(&format!("{host}://10.0.0.1")).is_some());
        }
        for host in
            ["10.0.0.1,10.0.0.2", "10.0.0.256", "1.2.3.4.5", "12345:1", ":::1", "a/b", "a;b", "[::1", "-c\u{1b}"]
        {
            assert!(no_host(host).is_some(), "{host}");
        }
    }
}
