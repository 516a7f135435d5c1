//! Where a request's keys stand, by the key specifications of its command.

use super::{Begin, Command, Find, KeySpec};
use crate::proto::resp::args::Args;
use crate::proto::resp::request::integer;

/// Places of keys that are held without an allocation.
const FEW: usize = 4;

/// Keys in a row that take more arguments than this are held by where they begin.
const MANY: i64 = 64;

/// Places of keys in a request.
#[derive(Debug, Default)]
pub struct KeyList {
    few: [u32; FEW],
    count: usize,
    more: Vec<u32>,
    /// Those behind that: the places of very many take as long to be written down as they are looked up.
    rows: Vec<Row>,
}

/// Keys that stand in a row: the place of the first, how many they are, and how far apart.
#[derive(Debug, Clone, Copy)]
struct Row {
    first: usize,
    count: usize,
    step: usize,
}

impl KeyList {
    fn push(&mut self, place: usize) {
        if !self.rows.is_empty() {
            return self.push_row(Row { first: place, count: 1, step: 1 });
        }
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        if self.count < FEW {
            self.few[self.count] = place;
        } else {
            self.more.push(place);
        }
        self.count += 1;
    }

    #[cold]
    fn push_row(&mut self, row: Row) {
        self.count += row.count;
        self.rows.push(row);
    }

    fn push_all(&mut self, first: usize, count: usize) {
        if i64::try_from(count).is_ok_and(|count| count <= MANY) {
            (first..first + count).for_each(|place| self.push(place));
        } else {
            self.push_row(Row { first, count, step: 1 });
        }
    }

    /// The places, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.from(0)
    }

    /// The places from the one with this number on, in order.
    pub fn from(&self, number: usize) -> impl Iterator<Item = usize> {
        let before = self.count - self.in_rows();
        let mut skipped = number.saturating_sub(before);
        let rows = self.rows.iter().flat_map(move |row| {
            let skip = skipped.min(row.count);
            skipped -= skip;
            (row.first + skip * row.step..).step_by(row.step).take(row.count - skip)
        });
        let few = self.few.iter().take(before).chain(&self.more).skip(number);
        few.map(|place| *place as usize).chain(rows)
    }

    fn in_rows(&self) -> usize {
        self.rows.iter().map(|row| row.count).sum()
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// The request contradicts itself, so its keys cannot be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoKeys;

/// Finds the keys of a request, as `COMMAND GETKEYS` does; where that differs from what the command does, as the command.
///
/// # Errors
///
/// A count of keys that is no number, or does not fit the request.
pub fn keys(command: &Command, args: Args<'_>, found: &mut KeyList) -> Result<(), NoKeys> {
    match command.name {
        "sort" => sort(args, found),
        "migrate" => migrate(args, found),
        "xreadgroup" => xreadgroup(command, args, found),
        _ => specified(command.keys, args, found),
    }
}

/// Where the key of a command stands that has one key, at the same place in every request; else 0.
#[must_use]
pub fn only(command: &Command) -> u8 {
    let [KeySpec { begin: Begin::Index(place), find: Find::Range { last: 0, .. }, not_key: false, .. }] = command.keys
    else {
        return 0;
    };
    if matches!(command.name, "sort" | "sort_ro" | "migrate" | "xreadgroup") {
        0
    } else {
        u8::try_from(*place).unwrap_or(0)
    }
}

fn specified(specs: &[KeySpec], args: Args<'_>, found: &mut KeyList) -> Result<(), NoKeys> {
    let count = i64::try_from(args.len()).unwrap_or(i64::MAX);
    for spec in specs.iter().filter(|spec| !spec.not_key) {
        let start = match spec.begin {
            Begin::Index(place) => i64::from(place),
            Begin::Keyword(word, from) => match keyword(word, from, args) {
                Some(place) => place,
                None => continue,
            },
            Begin::Unknown => continue,
        };
        let (first, last, step) = match spec.find {
            Find::Range { last, step, limit } => {
                let last = match i64::from(last) {
                    last if last >= 0 => start + last,
                    last if limit <= 1 => count + last,
                    last => start + (count - start) / i64::from(limit) + last,
                };
                (start, last, i64::from(step))
            }
            Find::Count { at, first, step } => {
                let place = usize::try_from(start + i64::from(at)).map_err(|_| NoKeys)?;
                if place >= args.len() {
                    return Err(NoKeys);
                }
                let keys = integer(args.get(place)).filter(|keys| *keys >= 0).ok_or(NoKeys)?;
                let first = start + i64::from(first);
                let span = keys.checked_sub(1).and_then(|keys| keys.checked_mul(i64::from(step))).ok_or(NoKeys)?;
                (first, first.checked_add(span).ok_or(NoKeys)?, i64::from(step))
            }
            Find::Unknown => continue,
        };
        if last >= count {
            return Err(NoKeys);
        }
        let (mut place, step) = (first, step.max(1));
        if last - first >= MANY {
            let number = |number: i64| usize::try_from(number).map_err(|_| NoKeys);
            let count = number((last - first) / step + 1)?;
            found.push_row(Row { first: number(first)?, count, step: number(step)? });
            continue;
        }
        while place <= last {
            found.push(usize::try_from(place).map_err(|_| NoKeys)?);
            place += step;
        }
    }
    Ok(())
}

/// The place behind a word, which is looked for from a place on, or from the end.
fn keyword(word: &str, from: i32, args: Args<'_>) -> Option<i64> {
    let matches = |place: &usize| args.get(*place).eq_ignore_ascii_case(word.as_bytes());
    let count = args.len();
    let place = if from >= 0 {
        (usize::try_from(from).ok()?..count.saturating_sub(1)).find(matches)?
    } else {
        let last = count.checked_sub(usize::try_from(from.unsigned_abs()).ok()?)?;
        (1..=last).rev().find(matches)?
    };
    i64::try_from(place + 1).ok()
}

/// `SORT key ... [STORE destination]`: the last `STORE` counts.
fn sort(args: Args<'_>, found: &mut KeyList) -> Result<(), NoKeys> {
    if args.len() > 1 {
        found.push(1);
    }
    let mut destination = None;
    let mut place = 2;
    while place < args.len() {
        let word = args.get(place);
        let values = match () {
            () if word.eq_ignore_ascii_case(b"limit") => 2,
            () if word.eq_ignore_ascii_case(b"get") || word.eq_ignore_ascii_case(b"by") => 1,
            () if word.eq_ignore_ascii_case(b"store") && place + 1 < args.len() => {
                destination = Some(place + 1);
                1
            }
            () => 0,
        };
        place += 1 + values;
    }
    if let Some(destination) = destination {
        found.push(destination);
    }
    Ok(())
}

/// A pattern in a `SORT`: with each element in the place of its asterisk it is a key that the command reads, and which is
/// not among its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern<'a> {
    /// It stands behind `BY`; else behind `GET`.
    pub sorts: bool,
    /// What of those keys stands before the element.
    pub prefix: &'a [u8],
}

/// Whether a command is one of those whose requests have [`patterns`].
#[must_use]
pub fn has_patterns(command: &Command) -> bool {
    matches!(command.name, "sort" | "sort_ro")
}

/// The patterns of a `SORT` or `SORT_RO`. One without an asterisk is none: `BY nosort` looks nothing up, nor does `GET #`.
pub fn patterns(args: Args<'_>) -> impl Iterator<Item = Pattern<'_>> {
    let mut place = 2;
    std::iter::from_fn(move || {
        while place < args.len() {
            let is = |option: &[u8]| args.get(place).eq_ignore_ascii_case(option);
            let (sorts, gets) = (is(b"by"), is(b"get"));
            let value = args.get(place + 1);
            place += match () {
                () if is(b"limit") => 3,
                () if sorts || gets || is(b"store") => 2,
                () => 1,
            };
            if (sorts || gets)
                && let Some(end) = memchr::memchr(b'*', value)
            {
                return Some(Pattern { sorts, prefix: &value[..end] });
            }
        }
        None
    })
}

/// `MIGRATE host port key|"" database timeout ... [KEYS key ...]`: one key in its place or, if that is empty, all behind
/// `KEYS`. A password may be any word, `KEYS` too.
fn migrate(args: Args<'_>, found: &mut KeyList) -> Result<(), NoKeys> {
    let mut place = 6;
    while place < args.len() {
        let word = args.get(place);
        if word.eq_ignore_ascii_case(b"keys") {
            if !args.get(3).is_empty() {
                return Err(NoKeys);
            }
            found.push_all(place + 1, args.len() - place - 1);
            return Ok(());
        }
        place += match () {
            () if word.eq_ignore_ascii_case(b"auth") => 2,
            () if word.eq_ignore_ascii_case(b"auth2") => 3,
            () => 1,
        };
    }
    found.push(3);
    Ok(())
}

/// `XREADGROUP [options] GROUP group consumer [options] STREAMS key ... id ...`. The specification looks for `STREAMS`
/// from a fixed place on, so that options in front make it, and `COMMAND GETKEYS`, take a group or a consumer of that
/// name for it; the command does not.
fn xreadgroup(command: &Command, args: Args<'_>, found: &mut KeyList) -> Result<(), NoKeys> {
    let (mut place, mut has_group) = (1, false);
    while place < args.len() {
        let word = args.get(place);
        let is = |option: &[u8]| word.eq_ignore_ascii_case(option);
        if is(b"streams") && has_group {
            let first = place + 1;
            found.push_all(first, (args.len() - first) / 2);
            return Ok(());
        }
        has_group |= is(b"group");
        place += match () {
            () if is(b"group") => 3,
            () if is(b"count") || is(b"block") => 2,
            () if is(b"noack") => 1,
            () => break,
        };
    }
    specified(command.keys, args, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::resp::{command::find, encode, request};

    fn of(line: &str) -> Result<Vec<String>, NoKeys> {
        let mut out = Vec::new();
        encode::command(&mut out, line.split(' ').map(str::as_bytes).collect::<Vec<_>>().into_iter());
        let mut spans = Vec::new();
        let args = request::args(&out, &mut spans);
        let command = find(args.get(0)).expect("a command");
        let command = command.subcommand(args.get(1)).unwrap_or(command);
        let mut list = KeyList::default();
        keys(command, args, &mut list)?;
        Ok(list.iter().map(|place| String::from_utf8_lossy(args.get(place)).into_owned()).collect())
    }

    #[test]
    fn keys_are_found_where_they_stand() {
        for (line, expected) in [
            ("GET a", "a"),
            ("SORT", ""),
            ("SORT a", "a"),
            ("mget a b c d e f", "a b c d e f"),
            ("MSET a 1 b 2", "a b"),
            ("EVAL script 2 a b c", "a b"),
            ("EVAL script 0 a", ""),
            ("XREAD COUNT 1 STREAMS a b 0 0", "a b"),
            ("XREADGROUP GROUP g c STREAMS a >", "a"),
            ("ZUNION 2 a b WEIGHTS 1 2", "a b"),
            ("ZUNIONSTORE d 2 a b", "d a b"),
            ("BLPOP a b 0", "a b"),
            ("BLMPOP 0 2 a b LEFT", "a b"),
            ("OBJECT ENCODING a", "a"),
            ("GEORADIUS a 1 1 1 km STORE d", "a d"),
            ("SORT a BY x STORE d", "a d"),
            ("SORT a GET store", "a"),
            ("RENAME a b", "a b"),
            ("SMOVE a b m", "a b"),
            ("LMPOP 2 a b LEFT", "a b"),
            ("BITOP AND d a b", "d a b"),
            ("MEMORY USAGE a", "a"),
            ("FCALL f 1 a b", "a"),
            ("PFCOUNT a b", "a b"),
            ("XGROUP CREATE a g $", "a"),
            ("SORT a STORE store LIMIT 0 1", "a store"),
            ("XREADGROUP COUNT 1 GROUP g streams STREAMS a b > >", "a b"),
            ("XREADGROUP NOACK BLOCK 1 GROUP streams streams COUNT 1 streams a >", "a"),
            ("MIGRATE h 1 a 0 9", "a"),
            ("MIGRATE h 1 a 0 9 AUTH keys", "a"),
            ("MIGRATE h 1  0 9 COPY AUTH2 keys keys KEYS a b", "a b"),
            ("HGETEX a PERSIST FIELDS 1 f", "a"),
            ("PING", ""),
        ] {
            assert_eq!(of(line).map(|keys| keys.join(" ")), Ok(expected.to_owned()), "{line}");
            let words: Vec<&str> = line.split(' ').collect();
            let place = usize::from(find(words[0].as_bytes()).map_or(0, only));
            assert!(place == 0 || words[place] == expected, "{line}");
        }
    }

    #[test]
    fn very_many_keys_are_found_as_few_are() {
        for count in [1, 5, 63, 64, 65, 66, 127, 128, 129, 130, 500] {
            let keys: Vec<String> = (0..count).map(|key| format!("k{key}")).collect();
            let (plain, pairs) = (keys.join(" "), keys.join(" v ") + " v");
            let ids = vec!["0"; count].join(" ");
            for line in [
                format!("MGET {plain}"),
                format!("MSET {pairs}"),
                format!("EVAL s {count} {plain} k"),
                format!("BLPOP {plain} 0"),
                format!("ZUNIONSTORE k {count} {plain} WEIGHTS {ids}"),
                format!("XREAD STREAMS {plain} {ids}"),
                format!("XREADGROUP GROUP g c STREAMS {plain} {ids}"),
                format!("MIGRATE h 1  0 9 KEYS {plain}"),
            ] {
                let before = if line.starts_with('Z') { "k " } else { "" };
                let expected = format!("{before}{plain}");
                assert_eq!(of(&line).map(|keys| keys.join(" ")), Ok(expected), "{line}");
            }
            let mut list = KeyList::default();
            list.push(7);
            list.push_all(10, count);
            list.push_row(Row { first: 1000, count, step: 3 });
            list.push(5000);
            let all: Vec<usize> = list.iter().collect();
            assert_eq!((all.len(), all.last()), (list.len(), Some(&5000)));
            (0..=all.len()).for_each(|from| assert!(list.from(from).eq(all[from..].iter().copied())));
        }
    }

    #[test]
    fn patterns_are_found_where_sort_reads_them() {
        for (line, expected) in [
            ("SORT a BY w_*->f GET #", "by:w_"),
            ("SORT a by *", "by:"),
            ("SORT a BY nosort GET {a}* GET x GET y*z", "get:{a} get:y"),
            ("SORT a LIMIT 0 by GET b*", "get:b"),
            ("SORT a STORE by* GET get GET c*", "get:c"),
            ("SORT_RO a ALPHA DESC BY by*", "by:by"),
            ("SORT a", ""),
            ("SORT a BY", ""),
        ] {
            let mut out = Vec::new();
            encode::command(&mut out, line.split(' ').map(str::as_bytes).collect::<Vec<_>>().into_iter());
            let mut spans = Vec::new();
            let found: Vec<_> = patterns(request::args(&out, &mut spans))
                .map(|one| format!("{}:{}", if one.sorts { "by" } else { "get" }, String::from_utf8_lossy(one.prefix)))
                .collect();
            assert_eq!(found.join(" "), expected, "{line}");
        }
    }

    /// What no specification tells of: the commands that reach keys which are not among their arguments.
    #[test]
    fn no_other_command_reaches_keys_that_no_rule_tells() {
        let is_unknown = |spec: &KeySpec| matches!((&spec.begin, &spec.find), (Begin::Unknown, _) | (_, Find::Unknown));
        let unknown = crate::proto::resp::command::all().filter(|command| command.keys.iter().any(is_unknown));
        for command in unknown {
            assert!(has_patterns(command), "{}", command.name);
        }
    }

    #[test]
    fn counts_that_do_not_fit_are_told() {
        for line in [
            "EVAL s 3 a b",
            "EVAL s x a",
            "EVAL s -1 a",
            "ZUNION 9223372036854775807 a",
            "LMPOP 99999999999999999999 a LEFT",
            "LMPOP 4294967297 a LEFT",
            "LMPOP 01 a LEFT",
            "MIGRATE h 1 a 0 9 KEYS b",
        ] {
            assert_eq!(of(line), Err(NoKeys), "{line}");
        }
    }
}
