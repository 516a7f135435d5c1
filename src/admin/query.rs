//! What stands behind the `?` of an address: parameters, and the pools and servers that they name.

use super::refusal::Refusal;
use crate::config::model::{Config, Pool, PoolId, Server, ServerId};

/// The parameters of one request, each once, all of them known.
#[derive(Debug)]
pub(super) struct Query {
    pairs: Vec<(String, Vec<u8>)>,
}

impl Query {
    /// Takes a query apart; `known` are the parameters that there are.
    pub(super) fn parse(text: Option<&str>, known: &[&str]) -> Result<Self, Refusal> {
        let mut pairs: Vec<(String, Vec<u8>)> = Vec::new();
        for part in text.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            if !known.contains(&name) {
                let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
                return Err(Refusal::bad(format!("`{name}` is not a parameter of this; {known}")));
            }
            if pairs.iter().any(|(other, _)| other == name) {
                return Err(Refusal::bad(format!("`{name}` is given twice")));
            }
            let value = decoded(value).ok_or_else(|| {
                Refusal::bad(format!(
                    "`{name}`: behind a % stand two hexadecimal digits; write %25 for the sign itself"
                ))
            })?;
            pairs.push((name.to_owned(), value));
        }
        Ok(Self { pairs })
    }

    /// The bytes of a parameter.
    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    /// The text of a parameter.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.bytes(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Whether something is said to be so.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.text(name).as_deref() {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(other) => Err(Refusal::bad(format!("`{name}` is 1 or 0, not `{other}`"))),
        }
    }

    /// The pool that `pool` names; where there is only one it need not be named.
    pub(super) fn pool<'a>(&self, config: &'a Config) -> Result<(PoolId, &'a Pool), Refusal> {
        let mut pools = config.pools.iter().map(|pool| (pool.id, pool));
        let names = || config.pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>().join(", ");
        match (self.text("pool"), config.pools.as_slice()) {
            (Some(name), _) => pools
                .find(|(_, pool)| pool.name == name)
                .ok_or_else(|| Refusal::missing(format!("there is no pool `{name}`; there are: {}", names()))),
            (None, [only]) => Ok((only.id, only)),
            (None, _) => Err(Refusal::bad(format!("say which pool: `pool=` one of {}", names()))),
        }
    }

    /// The server of a pool that `server` names, by its name or its address.
    pub(super) fn server<'a>(&self, pool: &'a Pool) -> Result<(ServerId, &'a Server), Refusal> {
        let names = || pool.servers.iter().map(|server| server.name.as_str()).collect::<Vec<_>>().join(", ");
        let Some(name) = self.text("server") else {
            return Err(Refusal::bad(format!("say which server: `server=` one of {}", names())));
        };
        let mut servers = pool.servers.iter().map(|server| (server.id, server));
        let found = servers.find(|(_, server)| server.name == name || server.address.to_string() == name);
        found.ok_or_else(|| {
            Refusal::missing(format!("there is no server `{name}` in pool {}; there are: {}", pool.name, names()))
        })
    }
}

/// The bytes of a percent-encoded text. A `+` is a `+`: keys have it more often than blanks.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || u8::try_from(char::from(bytes.next()?).to_digit(16)?).ok();
        out.push(digit()? << 4 | digit()?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_are_undone() {
        for (text, bytes) in [
            ("", Some(&b""[..])),
            ("user:42", Some(b"user:42")),
            ("a%20b%25+c", Some(b"a b%+c")),
            ("%ff%00%C3%a4", Some(b"\xff\0\xc3\xa4")),
            ("%", None),
            ("%4", None),
            ("%zz", None),
        ] {
            assert_eq!(decoded(text).as_deref(), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_not_known_or_said_twice_is_refused() {
        let query = Query::parse(Some("pool=a&force=1&"), &["pool", "force"]).expect("a good one");
        assert_eq!((query.text("pool").as_deref(), query.flag("force").expect("a flag")), (Some("a"), true));
        assert!(Query::parse(None, &[]).expect("nothing").bytes("pool").is_none());
        for text in ["sever=a", "pool=a&pool=b", "pool=%", "x"] {
            assert!(Query::parse(Some(text), &["pool", "force"]).is_err(), "{text}");
        }
    }
}
