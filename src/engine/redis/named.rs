//! The keys that a Redis request names, and the values that it has for them.

#![expect(clippy::wildcard_enum_match_arm, reason = "requests that are split are named, the others are alike")]

use super::call::find;
use crate::engine::named_key::{Named, Replied};
use crate::proto::resp::args::{Args, Span};
use crate::proto::resp::command::keys::{self, KeyList};
use crate::proto::resp::plan::{self, CommandClass, Split};
use crate::proto::resp::request::{self, Limits, Parsed, Progress};

/// As [`each_key`], of a long request: the keys among its first `most` arguments, an even number, stand for all. `false`, and
/// none shown, when it has no more arguments than that and was not taken apart by its keys.
pub(in crate::engine) fn first_keys(
    request: &[u8],
    most: usize,
    spans: &mut Vec<Span>,
    visit: &mut dyn FnMut(Named<'_>),
) -> bool {
    spans.clear();
    request::find_spans(request, 0, 1 + most, spans);
    let args = Args::new(request, spans);
    let (command, plan) = find(args).unwrap_or_else(|_| plan::unknown());
    let is_known = match plan.class {
        CommandClass::Split(split) => {
            for place in (1..args.len()).step_by(split.stride()) {
                let stored = if split == Split::Pairs { args.get(place + 1).len() } else { 0 };
                let replied = if split == Split::Values { Replied::Next } else { Replied::Nothing };
                visit(Named { key: args.get(place), stored, replied });
            }
            true
        }
        _ if args.len() > most => {
            let mut list = KeyList::default();
            if keys::keys(command, args, &mut list).is_ok() {
                // All that is sent with one key is its value, as good as.
                let (stored, replied) =
                    if list.len() == 1 { (request.len(), Replied::All) } else { (0, Replied::Nothing) };
                list.iter().for_each(|place| visit(Named { key: args.get(place), stored, replied }));
            }
            true
        }
        _ => false,
    };
    spans.clear();
    is_known
}

/// Shows every key of a request to `visit`; returns the name of the command. A transaction is several requests, and has
/// the name of the first, `multi`; of those, the ones are looked at that begin in its first `most` bytes.
pub(in crate::engine) fn each_key(
    request: &[u8],
    most: usize,
    spans: &mut Vec<Span>,
    visit: &mut dyn FnMut(Named<'_>),
) -> &'static str {
    let mut rest = request;
    let mut name = None;
    let limits = Limits { value: usize::MAX, trusted: true };
    while !rest.is_empty()
        && request.len() - rest.len() < most
        && let Parsed::Complete { len } = request::parse(rest, &mut Progress::default(), limits, spans)
    {
        let args = Args::new(&rest[..len], spans);
        let (command, plan) = find(args).unwrap_or_else(|_| plan::unknown());
        let is_alone = len == request.len();
        let mut list = KeyList::default();
        if keys::keys(command, args, &mut list).is_ok() {
            let sent = || args.iter().skip(1).map(<[u8]>::len).sum::<usize>();
            for place in list.iter() {
                let key = args.get(place);
                let stored = match plan.class {
                    CommandClass::Split(Split::Pairs) => args.get(place + 1).len(),
                    _ if list.len() == 1 => sent().saturating_sub(key.len()),
                    _ => 0,
                };
                let replied = match plan.class {
                    _ if !is_alone => Replied::Nothing,
                    _ if list.len() == 1 => Replied::All,
                    CommandClass::Split(Split::Values) => Replied::Next,
                    _ => Replied::Nothing,
                };
                visit(Named { key, stored, replied });
            }
        }
        name.get_or_insert(command.name);
        rest = &rest[len..];
    }
    spans.clear();
    name.unwrap_or_default()
}

/// Shows every key that a request may change in another database than its connection's, and in which: `MOVE`, `COPY`, and what
/// stands behind a `SELECT` in a transaction.
pub(in crate::engine) fn each_key_elsewhere(request: &[u8], visit: &mut dyn FnMut(u32, &[u8])) {
    let (mut rest, mut spans, mut selected) = (request, Vec::new(), None);
    let limits = Limits { value: usize::MAX, trusted: true };
    let number = |text: &[u8]| request::integer(text).and_then(|number| u32::try_from(number).ok());
    while !rest.is_empty()
        && let Parsed::Complete { len } = request::parse(rest, &mut Progress::default(), limits, &mut spans)
    {
        let args = Args::new(&rest[..len], &spans);
        let (command, _) = find(args).unwrap_or_else(|_| plan::unknown());
        let option = (3..args.len()).find(|place| args.get(*place).eq_ignore_ascii_case(b"db"));
        match (command.name, option) {
            ("select", _) => selected = number(args.get(1)),
            ("move", _) => {
                number(args.get(2)).into_iter().for_each(|database| visit(database, args.get(1)));
            }
            ("copy", Some(option)) => {
                number(args.get(option + 1)).into_iter().for_each(|database| visit(database, args.get(2)));
            }
            _ => {}
        }
        let mut list = KeyList::default();
        if let Some(database) = selected
            && keys::keys(command, args, &mut list).is_ok()
        {
            list.iter().for_each(|place| visit(database, args.get(place)));
        }
        rest = &rest[len..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_other_databases_are_found() {
        for (lines, found) in [
            ("SET a 1", ""),
            ("MOVE a 3", "3 a"),
            ("COPY a b", ""),
            ("copy a b replace db 2", "2 b"),
            ("COPY a b DB x", ""),
            ("COPY a b DB", ""),
            ("MULTI\nSET a 1\nSELECT 2\nDEL a b\nGET c\nSELECT 0\nMOVE d 5\nEXEC\nSELECT 1", "2 a,2 b,2 c,5 d,0 d"),
        ] {
            let mut request = Vec::new();
            for line in lines.split('\n') {
                let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
                crate::proto::resp::encode::words(&mut request, &words);
            }
            let mut all = Vec::new();
            each_key_elsewhere(&request, &mut |database, key| {
                all.push(format!("{database} {}", String::from_utf8_lossy(key)));
            });
            assert_eq!(all.join(","), found, "{lines}");
        }
    }
}
