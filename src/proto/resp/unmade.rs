//! What may be out of date at a server that did not get a write while its client was told something in the server's place.
//!
//! A client that was told "nothing there" of a key that it deletes, or overwrites, takes it to be gone, or replaced. The
//! server has to forget the key before anybody reads it. Not so where what was told is true of a server that has done
//! nothing, or more would be lost than is out of date:
//! - an error says that nothing was done;
//! - what depends on the key not being there (`NX`) leaves what it was told to be there, perhaps somebody's lock, unless it
//!   was told that it has stored;
//! - what takes something from a list, a set or a stream was told that there is nothing to take, and leaves it there for
//!   the next one; nothing was moved or copied.

use super::args::Args;
use super::command::{self, Command, Flags, keys};
use super::fallback::is_add;
use super::request::{self, Limits, Parsed, Progress};
use super::{Version, fallback, plan};

/// Finds the keys that a server has to forget if it did not get these requests: one, or a transaction; with each the
/// database that the transaction had selected by then, if it had. `absorbs` says that
/// their clients were told what a server says that forgets at once, `adds` that this holds for what stores only where nothing
/// is.
pub fn keys(requests: &[u8], absorbs: bool, adds: bool, mut found: impl FnMut(&[u8], Option<u32>)) {
    let mut spans = Vec::new();
    let (mut rest, mut selected) = (requests, None);
    while !rest.is_empty() {
        spans.clear();
        let limits = Limits { value: usize::MAX, trusted: true };
        let parsed = request::parse(rest, &mut Progress::default(), limits, &mut spans);
        let Parsed::Complete { len } = parsed else { return };
        let args = Args::new(rest, &spans);
        if args.get(0).eq_ignore_ascii_case(b"select") && args.len() == 2 {
            selected = std::str::from_utf8(args.get(1)).ok().and_then(|number| number.parse().ok()).or(selected);
        }
        one(args, absorbs, adds, &mut |key: &[u8]| found(key, selected));
        rest = &rest[len..];
    }
}

fn one(args: Args<'_>, absorbs: bool, adds: bool, found: &mut impl FnMut(&[u8])) {
    let command = command::find(args.get(0));
    let Some(command) =
        command.filter(|command| command.flags.has(Flags::WRITE) && !leaves_what_is_there(command, args, adds))
    else {
        return;
    };
    let is_told = !plan::of(command).rule.fallback(args, absorbs, adds).write(&mut Vec::new(), Version::Resp2);
    let mut list = keys::KeyList::default();
    if is_told || keys::keys(command, args, &mut list).is_err() {
        return;
    }
    // Where the result goes to is what was to be changed, not what it is made of.
    let (from, count) = match command.name {
        "sort" | "georadius" | "georadiusbymember" => (1, 1),
        "sinterstore" | "sunionstore" | "sdiffstore" | "zinterstore" | "zunionstore" | "zdiffstore" | "zrangestore"
        | "geosearchstore" | "pfmerge" => (0, 1),
        _ => (0, usize::MAX),
    };
    list.iter().skip(from).take(count).for_each(|place| found(args.get(place)));
}

/// Whether what was told in place of the answer to a command is true if nothing has been done.
fn leaves_what_is_there(command: &Command, args: Args<'_>, adds: bool) -> bool {
    let has = |words: &[&[u8]]| args.iter().skip(3).any(|arg| words.iter().any(|word| arg.eq_ignore_ascii_case(word)));
    match command.name {
        "setnx" | "msetnx" => !adds,
        // A hash is more than the field.
        "hsetnx" | "copy" | "move" | "smove" => true,
        "lpop" | "rpop" | "lmpop" | "blpop" | "brpop" | "blmpop" | "rpoplpush" | "brpoplpush" | "lmove" | "blmove"
        | "spop" | "zpopmin" | "zpopmax" | "zmpop" | "bzpopmin" | "bzpopmax" | "bzmpop" => true,
        "set" if adds && is_add(args) => false,
        "set" => has(&[b"nx", b"ifeq", b"ifne", b"ifdeq", b"ifdne"]),
        "hsetex" => has(&[b"fnx"]),
        "getex" => args.len() == 2, // it only reads
        "bitfield" => fallback::reads_only(args),
        name => name.starts_with('x'), // streams
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::resp::encode;

    fn told(absorbs: bool, adds: bool, requests: &[&str]) -> Vec<String> {
        let mut bytes = Vec::new();
        for request in requests {
            encode::words(&mut bytes, &request.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        }
        let mut all = Vec::new();
        keys(&bytes, absorbs, adds, |key, _| all.push(String::from_utf8_lossy(key).into_owned()));
        all
    }

    fn found(absorbs: bool, requests: &[&str]) -> Vec<String> {
        told(absorbs, false, requests)
    }

    #[test]
    fn keys_of_a_transaction_are_in_the_database_that_it_had_selected() {
        let mut bytes = Vec::new();
        for request in ["MULTI", "SET a v", "SELECT 3", "SET b v", "select x", "DEL c", "SELECT 1", "DEL d", "EXEC"] {
            encode::words(&mut bytes, &request.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        }
        let mut all = Vec::new();
        keys(&bytes, false, false, |key, selected| all.push((key[0], selected)));
        assert_eq!(all, [(b'a', None), (b'b', Some(3)), (b'c', Some(3)), (b'd', Some(1))]);
    }

    #[test]
    fn what_was_said_to_be_added_is_not_to_be_what_was_there_before() {
        for (request, expected) in [
            ("SET k v NX", &["k"][..]),
            ("SET k v EX 9 nx", &["k"]),
            ("SETNX k v", &["k"]),
            ("MSETNX a 1 b 2", &["a", "b"]),
            ("SET k v NX GET", &[]),
            ("HSETNX k f v", &[]),
            ("LPOP k", &[]),
        ] {
            assert_eq!(told(true, true, &[request]), expected, "{request}");
        }
    }

    #[test]
    fn what_a_client_takes_to_be_gone_or_replaced_is_forgotten() {
        for (request, expected) in [
            ("SET k v", &["k"][..]),
            ("set k v XX", &["k"]),
            ("SET k nx", &["k"]),
            ("SETEX k 1 v", &["k"]),
            ("GETSET k v", &["k"]),
            ("GETDEL k", &["k"]),
            ("GETEX k PERSIST", &["k"]),
            ("DEL a b c", &["a", "b", "c"]),
            ("UNLINK a b", &["a", "b"]),
            ("MSET a 1 b 2", &["a", "b"]),
            ("EXPIRE k 10", &["k"]),
            ("PERSIST k", &["k"]),
            ("HDEL k f", &["k"]),
            ("SREM k m", &["k"]),
            ("ZREM k m", &["k"]),
            ("LTRIM k 0 1", &["k"]),
            ("SORT a STORE b", &["b"]),
        ] {
            assert_eq!(found(false, &[request]), expected, "{request}");
            assert_eq!(found(true, &[request]), expected, "{request}, absorbed");
        }
    }

    #[test]
    fn what_is_true_of_a_server_that_has_done_nothing_is_left() {
        for request in [
            "GET k",
            "SET k v NX",
            "SET k v EX 9 nx",
            "SETNX k v",
            "MSETNX a 1 b 2",
            "LPOP k",
            "RPOPLPUSH a b",
            "SPOP k",
            "SORT k",
            "COPY a b",
            "XDEL k 1-1",
            "GETEX k",
            "BITFIELD k GET u8 0",
            "EVAL x 1 k",
            "RENAME a b",
            "SUBSCRIBE k",
            "FLUSHALL",
        ] {
            assert_eq!(found(false, &[request]), [""; 0], "{request}");
            assert_eq!(found(true, &[request]), [""; 0], "{request}, absorbed");
        }
    }

    #[test]
    fn an_error_is_true_and_what_is_absorbed_is_not() {
        for (request, expected) in [
            ("INCR k", "k"),
            ("HSET k f v", "k"),
            ("LPUSH k v", "k"),
            ("SADD k v", "k"),
            ("ZADD k 1 v", "k"),
            ("ZUNIONSTORE to 2 a b", "to"),
        ] {
            assert_eq!(found(false, &[request]), [""; 0], "{request}");
            assert_eq!(found(true, &[request]), [expected], "{request}, absorbed");
        }
    }

    #[test]
    fn a_transaction_is_looked_at_whole() {
        let all = ["MULTI", "SET a 1", "GET b", "INCR c", "DEL d e", "EXEC"];
        assert_eq!(found(false, &all), ["a", "d", "e"]);
        assert_eq!(found(true, &all), ["a", "c", "d", "e"]);
    }
}
