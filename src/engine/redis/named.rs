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
