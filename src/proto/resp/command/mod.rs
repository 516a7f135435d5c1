//! What is known of Redis's commands: the table, looked up for every request.

pub mod errors;
pub mod keys;
mod table;

use table::{COMMANDS, COUNT};

/// A command or a subcommand, as a server describes it in its answer to `COMMAND`.
#[derive(Debug)]
pub struct Command {
    /// Its number among all of them.
    pub id: u16,
    /// Its name in lower case; a subcommand's follows its command's: `config|get`.
    pub name: &'static str,
    /// Words of a request, the name included; at least so many when it is negative.
    pub arity: i16,
    /// What is true of it.
    pub flags: Flags,
    /// Where its keys stand.
    pub keys: &'static [KeySpec],
    /// Its subcommands, ordered by name.
    pub subcommands: &'static [Self],
}

/// Facts about a command, as bits: each at its place among the names in `tests/tools/command_table.py`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub(super) u32);

impl Flags {
    /// It may change keys.
    pub const WRITE: Self = Self(1);
    /// It only reads keys.
    pub const READONLY: Self = Self(1 << 1);
    /// It may need memory that a full server does not have.
    pub const DENYOOM: Self = Self(1 << 2);
    /// It is for whoever runs the server.
    pub const ADMIN: Self = Self(1 << 3);
    /// It has to do with channels.
    pub const PUBSUB: Self = Self(1 << 4);
    /// Scripts may not call it.
    pub const NOSCRIPT: Self = Self(1 << 5);
    /// It may wait.
    pub const BLOCKING: Self = Self(1 << 6);
    /// It is answered while the server still loads its data.
    pub const LOADING: Self = Self(1 << 7);
    /// It is answered by a replica that has lost its primary.
    pub const STALE: Self = Self(1 << 8);
    /// It takes the same short time, however much there is.
    pub const FAST: Self = Self(1 << 9);
    /// It is answered before a password is given.
    pub const NO_AUTH: Self = Self(1 << 10);
    /// Its keys stand where only looking at all of its words tells.
    pub const MOVABLE_KEYS: Self = Self(1 << 11);
    /// It may not stand in a transaction.
    pub const NO_MULTI: Self = Self(1 << 12);
    /// It is answered while a script takes its time.
    pub const ALLOW_BUSY: Self = Self(1 << 13);
    /// `MONITOR` does not show it.
    pub const SKIP_MONITOR: Self = Self(1 << 14);
    /// It is refused while a replica takes over new data.
    pub const NO_ASYNC_LOADING: Self = Self(1 << 15);
    /// It may have keys, or none.
    pub const NO_MANDATORY_KEYS: Self = Self(1 << 16);
    /// In a cluster it goes to slots on their way here.
    pub const ASKING: Self = Self(1 << 17);
    /// The slow log does not have it.
    pub const SKIP_SLOWLOG: Self = Self(1 << 18);
    /// Replicas may get something because of it.
    pub const MAY_REPLICATE: Self = Self(1 << 19);
    /// A sentinel has it.
    pub const SENTINEL: Self = Self(1 << 20);
    /// Only a sentinel has it.
    pub const ONLY_SENTINEL: Self = Self(1 << 21);
    /// It comes from a module.
    pub const MODULE: Self = Self(1 << 22);
    /// It may touch keys that it does not name.
    pub const TOUCHES_ARBITRARY_KEYS: Self = Self(1 << 23);
    /// Servers tell it to each other.
    pub const INTERNAL: Self = Self(1 << 24);

    /// Whether all of `others` are among them.
    #[must_use]
    pub const fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}

/// Where some of a command's keys stand.
#[derive(Debug)]
pub struct KeySpec {
    /// Where the words start that are about them.
    pub begin: Begin,
    /// Which of these they are.
    pub find: Find,
    /// There may be others, which no rule finds.
    pub incomplete: bool,
    /// They are no keys, but are routed as if they were (channels).
    pub not_key: bool,
}

/// Where words about keys start.
#[derive(Debug)]
pub enum Begin {
    /// At this place.
    Index(i32),
    /// Behind a word, which is looked for from this place on; backwards from the end if it is negative.
    Keyword(&'static str, i32),
    /// Nowhere that a rule could tell.
    Unknown,
}

/// Which words are keys, from the start on.
#[derive(Debug)]
pub enum Find {
    /// All up to `last` (from the start if positive, from the request's end if negative), each `step` words. With
    /// `last` -1, only the first 1/`limit` of them.
    Range {
        /// The last one.
        last: i32,
        /// Words from one key to the next.
        step: i32,
        /// See above.
        limit: i32,
    },
    /// A number of keys is given, and then they follow.
    Count {
        /// Where the number stands.
        at: i32,
        /// Where the first key stands.
        first: i32,
        /// Words from one key to the next.
        step: i32,
    },
    /// No rule could tell.
    Unknown,
}

/// Longest name of a command.
const NAME_LIMIT: usize = 24;

/// Places of the index, a power of two.
const PLACES: usize = 1024;

/// For each hash, the number of a command in the table and one more; 0 is none.
static INDEX: [u16; PLACES] = index();

#[expect(clippy::cast_possible_truncation, reason = "there are some hundred commands")]
const fn index() -> [u16; PLACES] {
    let mut index = [0; PLACES];
    let mut number = 0;
    while number < COMMANDS.len() {
        let mut place = hash(COMMANDS[number].name.as_bytes());
        while index[place] != 0 {
            place = (place + 1) % PLACES;
        }
        index[place] = number as u16 + 1;
        number += 1;
    }
    index
}

/// FNV-1a over the name in lower case.
const fn hash(name: &[u8]) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at].to_ascii_lowercase() as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    ((hash >> 16) ^ hash) as usize % PLACES
}

/// The command of a name, in whatever case it is written.
#[must_use]
pub fn find(name: &[u8]) -> Option<&'static Command> {
    if name.len() > NAME_LIMIT {
        return None;
    }
    let mut place = hash(name);
    loop {
        let command = &COMMANDS[usize::from(INDEX[place].checked_sub(1)?)];
        if command.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(command);
        }
        place = (place + 1) % PLACES;
    }
}

/// How many commands and subcommands there are; their numbers are below this.
#[must_use]
pub const fn count() -> usize {
    COUNT
}

/// All commands and subcommands.
pub fn all() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().flat_map(|command| std::iter::once(command).chain(command.subcommands))
}

impl Command {
    /// Whether a request may have so many words, the name included.
    #[must_use]
    pub fn accepts(&self, words: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { words >= arity } else { words == arity }
    }

    /// The subcommand of a name, in whatever case it is written.
    #[must_use]
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Self> {
        let skipped = self.name.len() + 1;
        self.subcommands.iter().find(|one| one.name.as_bytes()[skipped..].eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_by_its_name_in_any_case() {
        for command in COMMANDS.iter() {
            for name in [command.name.to_owned(), command.name.to_uppercase()] {
                assert_eq!(find(name.as_bytes()).map(|found| found.id), Some(command.id), "{name}");
            }
            assert!(command.name.len() <= NAME_LIMIT);
            assert!(command.subcommands.iter().all(|one| one.name.starts_with(&format!("{}|", command.name))));
        }
        for name in [&b""[..], b"ge", b"gett", b"config|get", b"\xff", &[b'x'; 300]] {
            assert!(find(name).is_none(), "{name:?}");
        }
    }

    #[test]
    fn numbers_are_dense_and_ordered() {
        assert!(all().map(|command| usize::from(command.id)).eq(0..count()));
        assert!(COMMANDS.is_sorted_by_key(|command| command.name));
    }

    #[test]
    fn the_number_of_words_is_checked() {
        let get = find(b"get").unwrap();
        assert!(get.accepts(2) && !get.accepts(3) && !get.accepts(1));
        let del = find(b"DEL").unwrap();
        assert!(!del.accepts(1) && del.accepts(2) && del.accepts(200));
        assert_eq!(find(b"config").unwrap().subcommand(b"GET").unwrap().name, "config|get");
        assert!(find(b"get").unwrap().flags.has(Flags::READONLY));
        assert!(find(b"set").unwrap().flags.has(Flags::WRITE));
        assert!(find(b"blpop").unwrap().flags.has(Flags::BLOCKING));
        assert!(find(b"eval").unwrap().flags.has(Flags::MOVABLE_KEYS));
    }
}
