//! Who may change anything, and who may look.
//!
//! To change: without `admin_token` it is whoever is on this host. A browser on this host is not meant by that: pages from
//! anywhere run in it. Such a page can send a request here, but it cannot keep the browser from saying where the page
//! is from (`Origin`); and if it gives its own name this host's address (DNS rebinding), `Host` has that name.

use std::net::IpAddr;

use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};

use super::refusal::Refusal;
use crate::proto::bytes::is_same_secret;

/// Refuses a request that is to change something, unless whoever sends it may do that.
pub(super) fn check(peer: IpAddr, headers: &HeaderMap, token: Option<&str>) -> Result<(), Refusal> {
    let host = one(headers, HOST).unwrap_or_default().to_ascii_lowercase();
    if headers.contains_key(ORIGIN) {
        let origin = one(headers, ORIGIN).unwrap_or_default().to_ascii_lowercase();
        if host.is_empty() || origin.strip_prefix("http://") != Some(host.as_str()) {
            return refuse(StatusCode::FORBIDDEN, "a page from elsewhere may not change anything here (Origin)");
        }
    }
    const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    if headers.contains_key(&SITE) && !matches!(one(headers, SITE), Some("same-origin" | "none")) {
        return refuse(StatusCode::FORBIDDEN, "a page from elsewhere may not change anything here (Sec-Fetch-Site)");
    }
    if let Some(token) = token {
        let Some(said) = one(headers, AUTHORIZATION) else {
            let text = "this needs the admin_token of the configuration: send the header `Authorization: Bearer TOKEN`";
            return refuse(StatusCode::UNAUTHORIZED, text);
        };
        let bearer = said.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        return match bearer {
            Some((_, said)) if is_same_secret(said.trim().as_bytes(), token.as_bytes()) => Ok(()),
            _ => refuse(StatusCode::UNAUTHORIZED, "this is not the admin_token of the configuration"),
        };
    }
    if !peer.to_canonical().is_loopback() {
        let text = "changes are taken from this host only; with `admin_token` in the `softmiss` section of the \
                    configuration they can come from elsewhere";
        return refuse(StatusCode::FORBIDDEN, text);
    }
    if !is_loopback(&host) {
        let text = "changes are taken only if they are sent to localhost, 127.0.0.1 or [::1] by that name (Host); with \
                    `admin_token` in the `softmiss` section of the configuration any name will do";
        return refuse(StatusCode::FORBIDDEN, text);
    }
    Ok(())
}

/// Refuses to show something to a page in a browser that has been given this host's address by the name of somebody else
/// (DNS rebinding). What asks without a name, by an address, or by a name that nobody else can have, is no such page. Who
/// comes from another host may use any name: the port was opened to the network, and is known there by names of all kinds.
pub(super) fn check_reader(peer: IpAddr, headers: &HeaderMap, host_name: &str) -> Result<(), Refusal> {
    if !headers.contains_key(HOST) || !peer.to_canonical().is_loopback() {
        return Ok(());
    }
    let host = one(headers, HOST).unwrap_or_default().to_ascii_lowercase();
    let name = bare(&host);
    if name == "localhost"
        || name.parse::<IpAddr>().is_ok()
        || (!name.is_empty() && name.eq_ignore_ascii_case(host_name))
    {
        return Ok(());
    }
    let text = "this is shown only to who asks for it by an address (127.0.0.1, [::1]), as localhost, or by the name of \
                this host (Host)";
    refuse(StatusCode::FORBIDDEN, text)
}

fn refuse(status: StatusCode, text: &str) -> Result<(), Refusal> {
    Err(Refusal { status, text: text.to_owned(), allow: None })
}

/// The text of a header that is there once.
fn one(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

/// Whether a `Host` names this host in a way that nobody else can make a name for.
fn is_loopback(host: &str) -> bool {
    let name = bare(host);
    name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

/// A `Host` without its port and its brackets.
fn bare(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn said(peer: &str, headers: &[(&'static str, &str)], token: Option<&str>) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), value.parse().expect("a value"));
        }
        check(peer.parse().expect("an address"), &map, token).map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn without_a_token_it_is_this_host_and_no_page_from_elsewhere() {
        let local = ("host", "127.0.0.1:22223");
        for (peer, headers, status) in [
            ("127.0.0.1", &[local][..], 200),
            ("127.9.9.9", &[local], 200),
            ("::1", &[("host", "[::1]:22223")], 200),
            ("::ffff:127.0.0.1", &[("host", "LocalHost")], 200),
            ("10.0.0.1", &[local], 403),
            ("::ffff:10.0.0.1", &[local], 403),
            ("127.0.0.1", &[], 403),
            ("127.0.0.1", &[("host", "evil.example:22223")], 403),
            ("127.0.0.1", &[("host", "localhost.evil.example")], 403),
            ("127.0.0.1", &[("host", "127.0.0.1.evil.example:80")], 403),
            ("127.0.0.1", &[local, ("host", "evil.example")], 403),
            ("127.0.0.1", &[local, ("origin", "http://127.0.0.1:22223")], 200),
            ("127.0.0.1", &[local, ("origin", "http://127.0.0.1:3000")], 403),
            ("127.0.0.1", &[local, ("origin", "https://127.0.0.1:22223")], 403),
            ("127.0.0.1", &[local, ("origin", "http://evil.example")], 403),
            ("127.0.0.1", &[local, ("origin", "null")], 403),
            ("127.0.0.1", &[("host", "evil.example"), ("origin", "http://evil.example")], 403),
            ("127.0.0.1", &[local, ("sec-fetch-site", "cross-site")], 403),
            ("127.0.0.1", &[local, ("sec-fetch-site", "same-origin")], 200),
            ("127.0.0.1", &[local, ("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], 403),
            ("127.0.0.1", &[local, ("sec-fetch-site", "none"), ("sec-fetch-site", "none")], 403),
            ("127.0.0.1", &[local, ("authorization", "Bearer whatever")], 200),
        ] {
            assert_eq!(said(peer, headers, None), status, "{peer} {headers:?}");
        }
    }

    #[test]
    fn nothing_is_shown_to_a_page_that_made_a_name_for_this_host() {
        for (peer, hosts, is_shown) in [
            ("127.0.0.1", &["127.0.0.1:22223"][..], true),
            ("127.0.0.1", &["localhost"], true),
            ("127.0.0.1", &["LocalHost:8080"], true),
            ("::1", &["[::1]:22223"], true),
            ("127.0.0.1", &["10.0.0.7:22223"], true),
            ("127.0.0.1", &["Web-7:22223"], true),
            ("127.0.0.1", &[], true),
            ("127.0.0.1", &[""], false),
            ("127.0.0.1", &["evil.example:22223"], false),
            ("127.0.0.1", &["evil.example"], false),
            ("127.0.0.1", &["web-7.evil.example"], false),
            ("::ffff:127.0.0.1", &["127.0.0.1.evil.example"], false),
            ("127.0.0.1", &["localhost:22223", "evil.example"], false),
            ("10.0.0.9", &["cache-host.prod.example:22223"], true),
        ] {
            let mut map = HeaderMap::new();
            for host in hosts {
                map.append(HOST, host.parse().expect("a value"));
            }
            let checked = check_reader(peer.parse().expect("an address"), &map, "web-7");
            assert_eq!(checked.is_ok(), is_shown, "{peer} {hosts:?}");
        }
    }

    #[test]
    fn with_a_token_it_is_whoever_knows_it() {
        let host = ("host", "cache-host:22223");
        for (peer, headers, status) in [
            ("10.0.0.1", &[host, ("authorization", "Bearer 0123456789abcdef")][..], 200),
            ("10.0.0.1", &[host, ("authorization", "bearer  0123456789abcdef")], 200),
            ("127.0.0.1", &[("host", "localhost")], 401),
            ("127.0.0.1", &[host, ("authorization", "Bearer 0123456789abcdeF")], 401),
            ("127.0.0.1", &[host, ("authorization", "Bearer 0123456789abcde")], 401),
            ("127.0.0.1", &[host, ("authorization", "Bearer 0123456789abcdef0")], 401),
            ("127.0.0.1", &[host, ("authorization", "Bearer ")], 401),
            ("127.0.0.1", &[host, ("authorization", "Basic 0123456789abcdef")], 401),
            ("127.0.0.1", &[host, ("authorization", "0123456789abcdef")], 401),
            (
                "127.0.0.1",
                &[host, ("authorization", "Bearer 0123456789abcdef"), ("origin", "http://evil.example")],
                403,
            ),
        ] {
            assert_eq!(said(peer, headers, Some(TOKEN)), status, "{peer} {headers:?}");
        }
    }
}
