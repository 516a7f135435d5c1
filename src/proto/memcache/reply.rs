//! The bytes that a client sees when no server could answer it.
//!
//! Two ways to say it: the protocol's own words for "not there" ([`miss`]), and twemproxy's error lines ([`error`]).
//! Which of them is used is the pool's policy, decided in the engine.

#![expect(clippy::wildcard_enum_match_arm, reason = "classic verbs have no quiet mode")]

use super::Verb;
use crate::failure::Failure;

/// The answer to `version` while that of no server is known: the protocol that is spoken here, as clients choose by it
/// what they may ask.
pub const VERSION: &[u8] = b"VERSION 1.6.18\r\n";

/// The answer to `mn`.
pub const META_NOOP: &[u8] = b"MN\r\n";

/// The answer to `verbosity` and `flush_all`.
pub const OK: &[u8] = b"OK\r\n";

/// The end of the answer to a get.
pub const END: &[u8] = b"END\r\n";

/// Appends what a request of this kind gets when the item is not there. `echo` holds the flags that a meta response
/// repeats, each with a blank in front; it is empty for classic commands.
///
/// | request | answer |
/// | --- | --- |
/// | `get gets gat gats` | `END` |
/// | `set add replace append prepend` | `NOT_STORED` |
/// | `cas delete touch incr decr` | `NOT_FOUND` |
/// | `mg me` | `EN` |
/// | `ms` | `NS` |
/// | `md ma` | `NF` |
/// | `flush_all`, `stats reset` | `OK`, `RESET` |
pub fn miss(out: &mut Vec<u8>, verb: Verb, echo: &[u8]) {
    let words: &[u8] = match verb {
        Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats | Verb::Stats => b"END",
        Verb::Set | Verb::Add | Verb::Replace | Verb::Append | Verb::Prepend => b"NOT_STORED",
        Verb::Cas | Verb::Delete | Verb::Touch | Verb::Incr | Verb::Decr => b"NOT_FOUND",
        Verb::MetaGet | Verb::MetaDebug => b"EN",
        Verb::MetaSet => b"NS",
        Verb::MetaDelete | Verb::MetaArith => b"NF",
        Verb::FlushAll => b"OK",
        Verb::Version => VERSION.trim_ascii_end(),
        Verb::Query | Verb::Command | Verb::FlushDatabase | Verb::Subscribe | Verb::Watch => b"ERROR",
    };
    out.extend_from_slice(words);
    out.extend_from_slice(echo);
    out.extend_from_slice(b"\r\n");
}

/// Appends what a request of this kind gets from a server that forgets at once what it is given: it stores whatever it
/// is told to store without a condition, and has nothing. `conditional` is whether a storage command has one, `adds` whether
/// `add` is taken for one without: to such a server nothing is there.
///
/// | request | answer |
/// | --- | --- |
/// | `set` | `STORED` |
/// | `ms`, not with `C` or a mode of its own | `HD` |
/// | everything else | as [`miss`] |
///
/// `add` is told `STORED` only with `adds`: a lock must not be granted by a server that is not there.
pub fn absorbed(out: &mut Vec<u8>, verb: Verb, conditional: bool, adds: bool, echo: &[u8]) {
    let words: &[u8] = match verb {
        Verb::Set => b"STORED",
        Verb::Add if adds => b"STORED",
        Verb::MetaSet if !conditional => b"HD",
        _ => return miss(out, verb, echo),
    };
    out.extend_from_slice(words);
    out.extend_from_slice(echo);
    out.extend_from_slice(b"\r\n");
}

/// The error line for a failure, in twemproxy's words (the text of the errno that it reports for the same event) where they
/// say something.
#[must_use]
pub const fn error(failure: Failure) -> &'static [u8] {
    match failure {
        Failure::Ejected | Failure::Refused => b"SERVER_ERROR Connection refused\r\n",
        Failure::Unreachable => b"SERVER_ERROR No route to host\r\n",
        Failure::Unresolved => b"SERVER_ERROR Host is down\r\n",
        Failure::NoSocket => b"SERVER_ERROR No such file or directory\r\n",
        Failure::TimedOut | Failure::Stalled => b"SERVER_ERROR Connection timed out\r\n",
        // Here twemproxy says "unknown".
        Failure::Closed => b"SERVER_ERROR Connection closed by server\r\n",
        Failure::Reset => b"SERVER_ERROR Connection reset by peer\r\n",
        Failure::Full => b"SERVER_ERROR server takes no more connections\r\n",
        Failure::Protocol => b"SERVER_ERROR Invalid argument\r\n",
        Failure::QueueFull => b"SERVER_ERROR proxy queue full\r\n",
        Failure::NoMemory => b"SERVER_ERROR proxy out of memory\r\n",
        Failure::NoDedicated => b"SERVER_ERROR proxy out of dedicated_connections\r\n",
        Failure::ServerMemory => b"SERVER_ERROR out of memory storing object\r\n",
        Failure::Unready => b"SERVER_ERROR server not ready\r\n",
        Failure::ReadOnly => b"SERVER_ERROR server takes no writes\r\n",
        Failure::Denied => b"SERVER_ERROR server refused password, protocol or database\r\n",
        Failure::TooLarge => b"SERVER_ERROR response above the proxy's value_limit\r\n",
        Failure::NoResources => b"SERVER_ERROR proxy out of file descriptors\r\n",
    }
}

/// The text of [`error`] alone, which Redis clients get as well.
#[must_use]
pub fn reason(failure: Failure) -> &'static [u8] {
    let line = error(failure).trim_ascii_end();
    line.strip_prefix(b"SERVER_ERROR ").unwrap_or(line)
}

/// Whether a response with this first word is left out in a meta command's quiet mode.
///
/// memcached hides what is nominal: a miss of `mg`, and success of `ms`, `md` and `ma`. Errors are always told.
#[must_use]
pub fn is_hidden_when_quiet(verb: Verb, response: &[u8]) -> bool {
    match verb {
        Verb::MetaGet => response.starts_with(b"EN"),
        Verb::MetaSet | Verb::MetaDelete => response.starts_with(b"HD"),
        Verb::MetaArith => response.starts_with(b"HD") || response.starts_with(b"VA"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_is_told_in_words_that_say_something() {
        for failure in Failure::ALL {
            let line = error(failure);
            assert!(line.starts_with(b"SERVER_ERROR ") && line.ends_with(b"\r\n"), "{failure:?}");
            let text = String::from_utf8_lossy(reason(failure)).to_lowercase();
            assert!(text.len() > 9 && !text.contains("unknown"), "{failure:?}: {text}");
            assert!(!failure.to_string().contains("unknown") && !failure.name().contains("unknown"), "{failure:?}");
        }
    }
}
