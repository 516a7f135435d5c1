//! The answers of several servers to their parts of a transaction, as the answer to one `EXEC`.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use super::gather::Part;
use super::in_place::InPlace;
use super::piecemeal::{Place, Progress, RESULT, said};
use crate::proto::resp::encode;
use crate::proto::resp::plan::Split;
use crate::proto::resp::reply::{self, Items, Reply};
use std::ops::Deref;

/// The answer to a command of which more bytes have come is written a little at a time.
const LONG: usize = 64 << 10;

/// How the answers of an `EXEC` are put together.
#[derive(Debug)]
pub(crate) struct ExecPlan {
    pub(super) commands: Vec<Planned>,
    /// A watch guards it: what is not known to have been carried out was not.
    pub(super) guarded: bool,
    /// It selects databases: for each such command, the place of its answer and the number. What comes behind the answer to
    /// `EXEC` is that to the request which selected the first one again, for whoever uses the connection next.
    pub(super) selects: Vec<(usize, u32)>,
    /// For each part, how many commands it has a piece of.
    pub(super) answers: Vec<u32>,
    /// Each of the commands is one server's.
    pub(super) are_whole: bool,
}

/// One command of a transaction.
#[derive(Debug)]
pub(super) struct Planned {
    /// The parts that have a piece of its answer, in the order of its keys; the same part may come again.
    pub(super) order: Vec<u16>,
    /// The parts that have a piece, each once.
    pub(super) parts: Parts,
    pub(super) kind: Kind,
    pub(super) in_place: InPlace,
}

/// Parts of an answer. Most commands are one server's, and take no room beyond this.
#[derive(Debug)]
pub(super) enum Parts {
    None,
    One(u16),
    Several(Vec<u16>),
}

impl Deref for Parts {
    type Target = [u16];

    fn deref(&self) -> &[u16] {
        match self {
            Self::None => &[],
            Self::One(part) => std::slice::from_ref(part),
            Self::Several(parts) => parts,
        }
    }
}

#[derive(Debug)]
pub(super) enum Kind {
    /// One server's answer.
    Whole,
    /// Put together from several.
    Split(Split),
    /// Answered here.
    Here(Vec<u8>),
}

impl ExecPlan {
    /// Memory that it holds, about.
    pub(super) fn footprint(&self) -> usize {
        let of = |command: &Planned| {
            let body = if let Kind::Here(body) = &command.kind { body.capacity() } else { 0 };
            (command.order.len() + command.parts.len()) * size_of::<u16>() + body
        };
        let selects = self.selects.capacity() * size_of::<(usize, u32)>();
        self.commands.len() * size_of::<Planned>() + self.commands.iter().map(of).sum::<usize>() + selects
    }

    /// What a server said, without the answer to what selected its first database again.
    pub(super) fn without_return<'a>(&self, raw: &'a [u8]) -> &'a [u8] {
        if self.selects.is_empty() {
            return raw;
        }
        reply::last(raw).map_or(raw, |(start, _)| &raw[..start])
    }

    /// The database that is selected now, if the transaction has selected one.
    pub(super) fn selected(&self, parts: &[Part]) -> Option<u32> {
        let Some(Part::Came(raw)) = parts.first().filter(|_| !self.selects.is_empty()) else { return None };
        let Result_::Items(items) = result_of(self.without_return(raw), self.words(0)) else { return None };
        let answers: Vec<&[u8]> = items.collect();
        let mut well =
            self.selects.iter().rev().filter(|(place, _)| answers.get(*place).is_some_and(|one| one.starts_with(b"+")));
        well.next().map(|(_, database)| *database)
    }

    /// Appends the answer. `whole` is for when there is nothing to put together.
    pub(super) fn put(&self, out: &mut Vec<u8>, parts: &[Part], whole: InPlace) {
        let mut results = self.results(parts);
        if let [only] = &results[..] {
            match only {
                Result_::Lost(None) if self.guarded => return encode::null_array(out, whole.version),
                Result_::Aborted => return encode::null_array(out, whole.version),
                Result_::Refused(text) => return put_abort(out, text),
                Result_::Lost(Some(error)) => return out.extend_from_slice(error),
                Result_::Items(_) | Result_::Lost(None) => {}
            }
        }
        encode::array(out, self.commands.len());
        for command in &self.commands {
            let pieces = command.pieces(&mut results);
            command.put(out, &pieces);
        }
    }

    /// What the answer is begun with, if it can be put together a little at a time: it is the list of those of all commands.
    pub(super) fn progress(&self, parts: &[Part]) -> Option<Progress> {
        let results = self.results(parts);
        let is_list = |result: &Result_<'_>| matches!(result, Result_::Items(_));
        if results.len() == 1 && !results.iter().all(is_list) {
            return None;
        }
        let place = |(part, result): (usize, &Result_<'_>)| match result {
            Result_::Items(items) => Place::of(*items, self.without_return(said(parts, part)).len()),
            _ => Place::NOWHERE,
        };
        Some(Progress::new(results.iter().enumerate().map(place).collect()))
    }

    /// Goes on with the answer until `out` has so many bytes. Whether there is more.
    pub(super) fn put_on(&self, progress: &mut Progress, out: &mut Vec<u8>, parts: &[Part], until: usize) -> bool {
        if progress.begin() {
            encode::array(out, self.commands.len());
        }
        let result = |(part, place): (usize, &Place)| match place.is_nowhere() {
            true => parts.get(part).map_or(Result_::Lost(None), |said| self.result(part, said)),
            false => Result_::Items(place.items(said(parts, part))),
        };
        let mut results: Vec<Result_<'_>> = progress.places.iter().enumerate().map(result).collect();
        let mut more = true;
        let last = progress.next.saturating_add(Progress::elements(RESULT, out, until));
        while progress.copy(parts, out, until) && progress.next < last {
            if let Some(within) = &mut progress.within
                && let Some(command) = self.commands.get(progress.next - 1)
                && within.pick(&command.order, command.in_place.version, parts, out, until)
            {
                break;
            }
            progress.within = None;
            let Some(command) = self.commands.get(progress.next) else {
                more = false;
                break;
            };
            progress.next += 1;
            let pieces = command.pieces(&mut results);
            if !command.put_off(&pieces, &results, parts, progress) {
                command.put(out, &pieces);
            }
        }
        for (part, (place, result)) in progress.places.iter_mut().zip(&results).enumerate() {
            if let Result_::Items(items) = result
                && !place.is_nowhere()
            {
                *place = Place::of(*items, said(parts, part).len());
            }
        }
        more
    }
}

/// What one server made of its part of a transaction.
enum Result_<'a> {
    /// The answers to its commands.
    Items(Items<'a>),
    /// A watched key had been changed.
    Aborted,
    /// It refused the transaction, with this error.
    Refused(&'a [u8]),
    /// It failed.
    Lost(Option<&'a [u8]>),
}

impl ExecPlan {
    /// The answers that come from a server before that to `EXEC`.
    fn words(&self, part: usize) -> usize {
        self.answers.get(part).map_or(0, |count| *count as usize + 1)
    }

    fn result<'a>(&self, number: usize, part: &'a Part) -> Result_<'a> {
        match part {
            Part::Came(raw) => result_of(self.without_return(raw), self.words(number)),
            Part::Lost(error) => Result_::Lost(error.as_deref()),
        }
    }

    fn results<'a>(&self, parts: &'a [Part]) -> Vec<Result_<'a>> {
        parts.iter().enumerate().map(|(number, part)| self.result(number, part)).collect()
    }
}

/// Reads the answers to `MULTI` and the commands, which are so many words, and that to `EXEC`.
fn result_of(raw: &[u8], words: usize) -> Result_<'_> {
    let (mut rest, mut left, mut refusal) = (raw, words, None);
    while left > 0 {
        let (others, queued) = reply::behind_queued(rest, left);
        (rest, left) = (others, left - queued);
        if left > 0 {
            let (one, others) = rest.split_at(reply::end(rest));
            refusal = refusal.or_else(|| one.starts_with(b"-").then_some(one));
            (rest, left) = (others, left - 1);
        }
    }
    match reply::read(rest) {
        Reply::Null => Result_::Aborted,
        Reply::List(items) => Result_::Items(items),
        _ => Result_::Refused(refusal.unwrap_or(rest)),
    }
}

/// Appends the error of a transaction that a server would not take.
fn put_abort(out: &mut Vec<u8>, refusal: &[u8]) {
    if refusal.starts_with(b"-EXECABORT") {
        return out.extend_from_slice(refusal);
    }
    let text = refusal.trim_ascii_end().strip_prefix(b"-").unwrap_or(refusal);
    encode::error(out, &[b"EXECABORT Transaction discarded because of: ", text].concat());
}

impl Planned {
    /// The next piece of what each of its servers said.
    fn pieces<'a>(&self, results: &mut [Result_<'a>]) -> Vec<(u16, Piece_<'a>)> {
        let of = |part: &u16| match results.get_mut(usize::from(*part)) {
            Some(Result_::Items(items)) => (*part, items.next().map_or(Piece_::Lost, Piece_::Came)),
            Some(Result_::Refused(error) | Result_::Lost(Some(error))) => (*part, Piece_::Error(error)),
            _ => (*part, Piece_::Lost),
        };
        self.parts.iter().map(of).collect()
    }

    /// Has a large answer be written a little at a time, if none of its pieces is an error; nulls stand for what is lost. `results` are what follows them.
    fn put_off(
        &self,
        pieces: &[(u16, Piece_<'_>)],
        results: &[Result_<'_>],
        parts: &[Part],
        progress: &mut Progress,
    ) -> bool {
        let bytes = |piece: &Piece_<'_>| if let Piece_::Came(reply) = piece { reply.len() } else { 0 };
        let is_error = |piece: &Piece_<'_>| match piece {
            Piece_::Came(reply) => reply.starts_with(b"-"),
            Piece_::Error(_) => true,
            Piece_::Lost => false,
        };
        if pieces.iter().map(|(_, piece)| bytes(piece)).sum::<usize>() <= LONG
            || pieces.iter().any(|(_, piece)| is_error(piece))
        {
            return false;
        }
        let end = |part: u16| match results.get(usize::from(part)) {
            Some(Result_::Items(items)) => said(parts, part.into()).len() - items.bytes().len(),
            _ => 0,
        };
        match (&self.kind, pieces) {
            (Kind::Whole, [(part, Piece_::Came(reply))]) => {
                let end = end(*part);
                progress.rest = Some(((*part).into(), end - reply.len()..end));
            }
            (Kind::Split(Split::Values), _) => {
                let mut within = Progress::new(vec![Place::NOWHERE; parts.len()]);
                for (part, piece) in pieces {
                    if let Piece_::Came(reply) = piece
                        && let Some(items) = reply::items(reply)
                    {
                        within.places[usize::from(*part)] = Place::of(items, end(*part));
                    }
                }
                progress.within = Some(Box::new(within));
            }
            _ => return false,
        }
        true
    }

    fn put(&self, out: &mut Vec<u8>, pieces: &[(u16, Piece_<'_>)]) {
        if let Kind::Here(body) = &self.kind {
            return out.extend_from_slice(body);
        }
        let error = pieces.iter().find_map(|(_, piece)| match piece {
            Piece_::Error(error) => Some(*error),
            Piece_::Came(reply) if reply.starts_with(b"-") => Some(*reply),
            _ => None,
        });
        let lost = pieces.iter().any(|(_, piece)| matches!(piece, Piece_::Lost));
        match (&self.kind, error) {
            (_, Some(error)) => out.extend_from_slice(error),
            (Kind::Split(Split::Values), None) => self.put_values(out, pieces),
            (Kind::Split(Split::Count), None) => {
                let numbers = pieces.iter().filter_map(|(_, piece)| match piece {
                    Piece_::Came(reply) => match reply::read(reply) {
                        Reply::Integer(value) => Some(value),
                        _ => None,
                    },
                    _ => None,
                });
                encode::integer(out, numbers.fold(0, i64::saturating_add));
            }
            (_, None) if lost => {
                if !self.in_place.fallback.write(out, self.in_place.version) {
                    encode::error(out, b"ERR the server of this command failed");
                }
            }
            (_, None) => match pieces.first() {
                Some((_, Piece_::Came(reply))) => out.extend_from_slice(reply),
                _ => encode::null(out, self.in_place.version),
            },
        }
    }

    fn put_values(&self, out: &mut Vec<u8>, pieces: &[(u16, Piece_<'_>)]) {
        let mut lists: Vec<(u16, Option<Items<'_>>)> = pieces
            .iter()
            .map(|(part, piece)| match piece {
                Piece_::Came(reply) => (*part, reply::items(reply)),
                Piece_::Error(_) | Piece_::Lost => (*part, None),
            })
            .collect();
        encode::array(out, self.order.len());
        for from in &self.order {
            let Some((_, items)) = lists.iter_mut().find(|(part, _)| part == from) else { continue };
            match items.as_mut().and_then(Iterator::next) {
                Some(value) => out.extend_from_slice(value),
                None => encode::null(out, self.in_place.version),
            }
        }
    }
}

/// A piece of one command's answer.
enum Piece_<'a> {
    Came(&'a [u8]),
    Error(&'a [u8]),
    Lost,
}
