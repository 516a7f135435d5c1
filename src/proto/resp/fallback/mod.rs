//! What a command is answered in the place of a server that failed it.
//!
//! Reads get what Redis answers for a key that is not there, in the client's version of the protocol. Writes get what
//! says "not done" in the command's own words, where it has such words, or, with `on_failure: absorb`, what a server
//! says that forgets at once. Where neither exists there is no answer, and the client is told of the failure: it must
//! never take a counter or a length for true that nobody has counted. The tables are in [`table`].

mod table;

use super::args::Args;
use super::request::integer;
use super::{Version, encode};
pub use table::shape;

/// What kind of answer a command gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// None: the failure is told.
    None,
    /// A missing value.
    Null,
    /// A missing array.
    NullArray,
    /// This number.
    Integer(i8),
    EmptyArray,
    EmptyMap,
    EmptySet,
    EmptyText,
    Ok,
    /// `TYPE` of nothing.
    NoType,
    /// The end of a scan that has found nothing.
    Scan,
    /// A missing value for each argument from this place on.
    Nulls(u8),
    /// A missing array for each argument from this place on.
    NullArrays(u8),
    /// A zero for each argument from this place on.
    Zeros(u8),
    /// `-2` for each argument from this place on.
    MinusTwos(u8),
    /// A zero for each three arguments from this place on.
    ZerosOfThree(u8),
    /// One answer without a count (the argument at this place), another with it.
    Counted(u8, &'static [Self; 2]),
    /// How many arguments there are from a place on, in groups of so many.
    Count(u8, u8),
    /// The number at this place, times this.
    Given(u8, i8),
    /// The bytes of the argument at this place.
    Length(u8),
    /// The end of what is written at an offset.
    Reach,
    /// The integer at this place, as text or as a double.
    Score(u8),
    /// `OK`, unless the command has a condition or asks for the old value.
    Set,
    /// `ZADD`: how many are added.
    ZAdd,
    /// Stored or not, where it is stored only if nothing is there: 0, or 1 where that is granted.
    Added,
    /// Where `BITPOS` would find the bit.
    BitPosition,
    /// `BITFIELD`: a zero for each field, if it only reads.
    BitFields,
    /// `PUBSUB NUMSUB`, which its answer is made of elsewhere: it has the names of the channels.
    NoChannels,
    /// `LCS`, which has three kinds of answer.
    Lcs,
    /// `LPOS`: with `COUNT` an array.
    Position,
}

/// What becomes of a command when its server has failed.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    miss: Form,
    absorb: Form,
}

/// The answer to one request, should it be needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallback {
    answer: Answer,
    /// As bytes, so that it takes no room for its alignment: every request in flight has one of these.
    number: [u8; 4],
}

impl Fallback {
    /// Nothing there.
    pub const NULL: Self = Self::new(Answer::Null, 0);

    /// No answer but an error.
    pub const NONE: Self = Self::new(Answer::None, 0);

    const fn new(answer: Answer, number: i32) -> Self {
        Self { answer, number: number.to_ne_bytes() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    None,
    Null,
    NullArray,
    Integer,
    EmptyArray,
    EmptyMap,
    EmptySet,
    EmptyText,
    Ok,
    NoType,
    Scan,
    Nulls,
    NullArrays,
    Zeros,
    MinusTwos,
    Score,
    NoMatches,
}

impl Rule {
    /// The same, with a missing value where there would be no answer.
    #[must_use]
    pub fn or_null(self) -> Self {
        let or_null = |form| if form == Form::None { Form::Null } else { form };
        Self { miss: or_null(self.miss), absorb: or_null(self.absorb) }
    }

    /// What one request would be answered. `absorb` is whether its pool says that writes were made, `adds` whether it then
    /// says so of those that only store where nothing is.
    #[must_use]
    #[inline(always)]
    pub fn fallback(self, args: Args<'_>, absorb: bool, adds: bool) -> Fallback {
        let form = if absorb { self.absorb } else { self.miss };
        if adds && form == Form::Set && is_add(args) {
            return Fallback::new(Answer::Ok, 0);
        }
        if adds && form == Form::Added {
            return Fallback::new(Answer::Integer, 1);
        }
        form.fallback(args)
    }
}

/// Whether a `SET` stores only where nothing is, and asks nothing else.
pub(super) fn is_add(args: Args<'_>) -> bool {
    let has = |word: &[u8]| args.iter().skip(3).any(|arg| arg.eq_ignore_ascii_case(word));
    has(b"nx") && !has(b"xx") && !has(b"get")
}

impl Form {
    fn fallback(self, args: Args<'_>) -> Fallback {
        let plain = |answer| Fallback::new(answer, 0);
        // A larger number than this, and there is no answer.
        let number = |answer, number: i64| match i32::try_from(number) {
            Ok(number) => Fallback::new(answer, number),
            Err(_) => Fallback::new(Answer::None, 0),
        };
        let behind = |place: u8| i64::try_from(args.len().saturating_sub(usize::from(place))).unwrap_or(i64::MAX);
        let has = |word: &[u8]| args.iter().skip(2).any(|arg| arg.eq_ignore_ascii_case(word));
        match self {
            Self::None => plain(Answer::None),
            Self::Null => plain(Answer::Null),
            Self::NullArray => plain(Answer::NullArray),
            Self::Integer(value) => number(Answer::Integer, value.into()),
            Self::EmptyArray => plain(Answer::EmptyArray),
            Self::EmptyMap => plain(Answer::EmptyMap),
            Self::EmptySet => plain(Answer::EmptySet),
            Self::EmptyText => plain(Answer::EmptyText),
            Self::Ok => plain(Answer::Ok),
            Self::NoType => plain(Answer::NoType),
            Self::Scan => plain(Answer::Scan),
            Self::Nulls(place) => number(Answer::Nulls, behind(place)),
            Self::NullArrays(place) => number(Answer::NullArrays, behind(place)),
            Self::Zeros(place) => number(Answer::Zeros, behind(place)),
            Self::MinusTwos(place) => number(Answer::MinusTwos, behind(place)),
            Self::ZerosOfThree(place) => number(Answer::Zeros, behind(place) / 3),
            Self::Counted(place, forms) => forms[usize::from(args.len() > usize::from(place))].fallback(args),
            Self::Count(place, group) => number(Answer::Integer, behind(place) / i64::from(group.max(1))),
            Self::Given(place, times) => match integer(args.get(usize::from(place))) {
                Some(given) => number(Answer::Integer, given.saturating_mul(times.into())),
                None => plain(Answer::None),
            },
            Self::Length(place) => {
                number(Answer::Integer, i64::try_from(args.get(usize::from(place)).len()).unwrap_or(i64::MAX))
            }
            Self::Reach => match integer(args.get(2)) {
                Some(0..) if args.get(3).is_empty() => number(Answer::Integer, 0),
                Some(offset @ 0..=0xffff_ffff) => {
                    number(Answer::Integer, offset + i64::try_from(args.get(3).len()).unwrap_or(0))
                }
                _ => plain(Answer::None),
            },
            Self::Score(place) => match integer(args.get(usize::from(place))) {
                Some(score) => number(Answer::Score, score),
                None => plain(Answer::None),
            },
            Self::Set if args.len() > 3 && (has(b"nx") || has(b"xx") || has(b"get")) => plain(Answer::Null),
            Self::Set => plain(Answer::Ok),
            Self::Added => number(Answer::Integer, 0),
            Self::ZAdd => zadd(args),
            Self::BitPosition => match args.get(2) {
                b"0" => number(Answer::Integer, 0),
                _ => number(Answer::Integer, -1),
            },
            Self::BitFields if reads_only(args) => Self::ZerosOfThree(2).fallback(args),
            Self::BitFields | Self::NoChannels => plain(Answer::None),
            Self::Lcs if has(b"idx") => plain(Answer::NoMatches),
            Self::Lcs if has(b"len") => number(Answer::Integer, 0),
            Self::Lcs => plain(Answer::EmptyText),
            Self::Position if args.iter().skip(3).any(|arg| arg.eq_ignore_ascii_case(b"count")) => {
                plain(Answer::EmptyArray)
            }
            Self::Position => plain(Answer::Null),
        }
    }
}

/// Whether a `BITFIELD` changes nothing: `BITFIELD key [GET type offset ...]`.
pub(super) fn reads_only(args: Args<'_>) -> bool {
    args.len() % 3 == 2 && args.iter().skip(2).step_by(3).all(|word| word.eq_ignore_ascii_case(b"get"))
}

/// `ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member ...` to nothing.
fn zadd(args: Args<'_>) -> Fallback {
    let is_option =
        |arg: &[u8]| [&b"nx"[..], b"xx", b"gt", b"lt", b"ch", b"incr"].iter().any(|o| arg.eq_ignore_ascii_case(o));
    let options = args.iter().skip(2).take_while(|arg| is_option(arg)).count();
    let has = |word: &[u8]| args.iter().skip(2).take(options).any(|arg| arg.eq_ignore_ascii_case(word));
    let pairs = args.len().saturating_sub(2 + options) / 2;
    match (has(b"incr"), has(b"xx")) {
        (true, true) => Fallback::new(Answer::Null, 0),
        (true, false) => Form::Score(u8::try_from(2 + options).unwrap_or(u8::MAX)).fallback(args),
        (false, true) => Fallback::new(Answer::Integer, 0),
        (false, false) => Fallback::new(Answer::Integer, i32::try_from(pairs).unwrap_or(i32::MAX)),
    }
}

impl Fallback {
    /// Appends the answer; `false` when there is none.
    pub fn write(self, out: &mut Vec<u8>, version: Version) -> bool {
        let number = i32::from_ne_bytes(self.number);
        let count = usize::try_from(number).unwrap_or(0);
        let mut repeat = |one: fn(&mut Vec<u8>, Version)| {
            encode::array(out, count);
            (0..count).for_each(|_| one(out, version));
        };
        match self.answer {
            Answer::None => return false,
            Answer::Nulls => repeat(encode::null),
            Answer::NullArrays => repeat(encode::null_array),
            Answer::Zeros => repeat(|out, _| encode::integer(out, 0)),
            Answer::MinusTwos => repeat(|out, _| encode::integer(out, -2)),
            Answer::Null => encode::null(out, version),
            Answer::NullArray => encode::null_array(out, version),
            Answer::Integer => encode::integer(out, number.into()),
            Answer::EmptyArray => encode::array(out, 0),
            Answer::EmptyMap => encode::map(out, 0, version),
            Answer::EmptySet => encode::set(out, 0, version),
            Answer::EmptyText => encode::bulk(out, b""),
            Answer::Ok => encode::simple(out, b"OK"),
            Answer::NoType => encode::simple(out, b"none"),
            Answer::NoMatches => {
                encode::map(out, 2, version);
                encode::bulk(out, b"matches");
                encode::array(out, 0);
                encode::bulk(out, b"len");
                encode::integer(out, 0);
            }
            Answer::Scan => out.extend_from_slice(b"*2\r\n$1\r\n0\r\n*0\r\n"),
            Answer::Score if version == Version::Resp3 => {
                out.push(b',');
                encode::number(out, number.into());
                out.extend_from_slice(b"\r\n");
            }
            Answer::Score => {
                let mut text = Vec::new();
                encode::number(&mut text, number.into());
                encode::bulk(out, &text);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::resp::command;
    use crate::proto::resp::request;

    fn answer(line: &str, absorb: bool, version: Version) -> Option<String> {
        let mut request = Vec::new();
        encode::command(&mut request, line.split(' ').map(str::as_bytes).collect::<Vec<_>>().into_iter());
        let mut spans = Vec::new();
        let args = request::args(&request, &mut spans);
        let command = command::find(args.get(0))?;
        let command = command.subcommand(args.get(1)).unwrap_or(command);
        let mut out = Vec::new();
        let written = shape(command.name).fallback(args, absorb, false).write(&mut out, version);
        written.then(|| String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn locks_are_never_granted() {
        for line in ["SET k v NX", "SET k v nx px 100", "SET k v PX 100 NX", "SETNX k v", "MSETNX k v", "HSETNX k f v"]
        {
            for absorb in [false, true] {
                let told = answer(line, absorb, Version::Resp2);
                assert!(matches!(told.as_deref(), Some("$-1\r\n" | ":0\r\n")), "{line}: {told:?}");
            }
        }
    }

    #[test]
    fn what_nobody_has_counted_is_not_told() {
        for line in
            ["INCR k", "LPUSH k a", "HSET k f v", "ZADD k 1 m", "SADD k m", "APPEND k v", "EVAL s 1 k", "XADD k * f v"]
        {
            assert_eq!(answer(line, false, Version::Resp2), None, "{line}");
        }
    }

    #[test]
    fn absorbed_writes_are_those_of_a_server_that_forgets() {
        for (line, told) in [
            ("SET k v", "+OK\r\n"),
            ("SET k v EX 10", "+OK\r\n"),
            ("SET k v GET", "$-1\r\n"),
            ("INCR k", ":1\r\n"),
            ("DECRBY k 5", ":-5\r\n"),
            ("LPUSH k a b c", ":3\r\n"),
            ("HSET k f v g w", ":2\r\n"),
            ("ZADD k NX CH 1 a 2 b", ":2\r\n"),
            ("ZADD k XX 1 a", ":0\r\n"),
            ("APPEND k abc", ":3\r\n"),
            ("SETRANGE k 5 abc", ":8\r\n"),
        ] {
            assert_eq!(
                answer(line, true, Version::Resp3).as_deref().map(|told| told.replace("_\r\n", "$-1\r\n")),
                Some(told.to_owned()),
                "{line}"
            );
        }
        assert_eq!(answer("INCRBY k x", true, Version::Resp2), None);
    }

    #[test]
    fn the_answer_is_small() {
        assert!(size_of::<Fallback>() <= 5);
    }
}
