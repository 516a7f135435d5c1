//! Copies of values that outlive them: who finds that a value is over, while somebody else computes the next one, is given the
//! copy. It stands beside the key's item on its server, under a name of its own, so that the item itself ends when it should.

use super::lease::is_plain;

/// What the names of copies begin with.
const BEGIN: &[u8] = b"softmiss:stale:";

/// The largest value of which there is a copy. memcached takes none that is larger, as it comes.
pub const LARGEST: usize = 1 << 20;

/// The name of the copy of a key's value. It holds the whole key: with a hash in its place, one key could be given the value of another.
#[must_use]
pub fn name(key: &[u8]) -> Vec<u8> {
    [BEGIN, key].concat()
}

/// The commands of memcached.
pub mod memcache {
    use super::{BEGIN, LARGEST, is_plain};
    use crate::proto::memcache::lifetime::RELATIVE_LIMIT;
    use crate::proto::memcache::request::{Store, Words};
    use crate::proto::memcache::{number, reply};
    use std::time::Duration;

    /// What a server says to a command that it does not know.
    pub const UNKNOWN: &[u8] = b"ERROR\r\n";

    /// How long it is known that there is to be no copy, in seconds: longer than what stores one takes.
    const REMEMBERED: &[u8] = b"60";

    /// Whether the copy of a key's value has a name that memcached takes. With another one, the value would be taken for commands.
    #[must_use]
    pub fn has_name(key: &[u8]) -> bool {
        is_plain(BEGIN, key)
    }

    /// What is stored of a value, and for how long.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Copied<'a> {
        /// Flags of the client.
        pub flags: &'a [u8],
        /// The lifetime that its client has given it, as written.
        pub lifetime: &'a [u8],
        /// The value with its line end.
        pub block: &'a [u8],
        /// It is stored if nothing is there.
        pub is_added: bool,
    }

    impl<'a> Copied<'a> {
        /// What a meta command stores, if it says no more than what is stored and what is told of it.
        #[must_use]
        pub fn of_meta(flags: &'a [u8], block: &'a [u8]) -> Option<Self> {
            let mut copied = Self { flags: b"0", lifetime: b"0", block, is_added: false };
            for word in Words::new(flags) {
                match (word[0], &word[1..]) {
                    (b'F', flags) => copied.flags = flags,
                    (b'T', lifetime) => copied.lifetime = lifetime,
                    (b'M', [b'E' | b'e', ..]) => copied.is_added = true,
                    (b'M', [b'S' | b's', ..]) | (b'q' | b'O' | b'k' | b'b' | b'c' | b's' | b'I', _) => {}
                    _ => return None,
                }
            }
            Some(copied)
        }

        /// What a request stores that stands in an outbox, `set` or `add`.
        #[must_use]
        pub fn of_store(request: &'a [u8]) -> Option<Self> {
            let line_end = memchr::memchr(b'\n', request)? + 1;
            let (line, block) = request.split_at(line_end);
            let is_added = line.starts_with(b"add ");
            let mut words = Words::new(line.trim_ascii_end()).skip(2);
            Some(Self { flags: words.next()?, lifetime: words.next()?, block, is_added })
        }

        /// How long the copy is to live: so much longer than the value, in seconds. `None` where there is to be none: the value
        /// stays for ever, or is to be gone at once, or is none that is copied. `now` is in seconds since the Unix epoch.
        #[must_use]
        pub fn lives(&self, stale: Duration, now: u64) -> Option<u32> {
            if self.block.len() <= 2 || self.block.len() > LARGEST {
                return None; // an empty one says that there is none
            }
            // A classic command with flags that are no number has its value taken for commands; a meta command has not.
            u32::try_from(number::digits_only(self.flags)?).ok()?;
            let lifetime = match number::signed(self.lifetime)? {
                ..=0 => return None,
                relative if relative <= RELATIVE_LIMIT => relative,
                at => at.checked_sub_unsigned(now).filter(|left| *left > 0)?,
            };
            let stale = i64::try_from(stale.as_millis().div_ceil(1000)).unwrap_or(RELATIVE_LIMIT);
            u32::try_from((lifetime + stale).min(RELATIVE_LIMIT)).ok()
        }

        /// Appends what stores the copy. With a version, only where that is the copy's as yet; with none that there was, only
        /// where there is none.
        pub fn keep(&self, out: &mut Vec<u8>, name: &[u8], lives: u32, over: Over<'_>) {
            // No meta command: a server that does not know these would take the value for commands.
            let command: &[u8] = match over {
                Over::Any => b"set ",
                Over::Nothing => b"add ",
                Over::Version(_) => b"cas ",
            };
            for part in [command, name, b" ", self.flags, b" "] {
                out.extend_from_slice(part);
            }
            number::push(out, lives.into());
            out.push(b' ');
            number::push(out, (self.block.len() - 2) as u64);
            if let Over::Version(version) = over {
                [b" ", version].iter().for_each(|part| out.extend_from_slice(part));
            }
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(self.block);
        }
    }

    /// What a request stores, with its numbers written anew.
    #[derive(Debug)]
    pub struct Written<'a> {
        flags: Vec<u8>,
        lifetime: Vec<u8>,
        block: &'a [u8],
    }

    impl<'a> Written<'a> {
        /// What a `set` stores.
        #[must_use]
        pub fn new(store: &Store<'a>) -> Self {
            let (mut flags, mut lifetime) = (Vec::new(), Vec::new());
            number::push(&mut flags, store.flags.into());
            number::push_signed(&mut lifetime, store.exptime.into());
            Self { flags, lifetime, block: store.block }
        }

        /// It itself.
        #[must_use]
        pub fn copied(&self) -> Copied<'_> {
            Copied { flags: &self.flags, lifetime: &self.lifetime, block: self.block, is_added: false }
        }
    }

    /// What a copy may be stored over.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Over<'a> {
        /// Whatever is there.
        Any,
        /// Nothing is there.
        Nothing,
        /// What is there has this version.
        Version(&'a [u8]),
    }

    /// Appends what has no copy be there, nor be stored by whoever has looked before.
    pub fn forget(out: &mut Vec<u8>, name: &[u8]) {
        for part in [b"set ", name, b" 0 ", REMEMBERED, b" 0\r\n\r\n"] {
            out.extend_from_slice(part);
        }
    }

    /// Appends the question for the version of what is there.
    pub fn see(out: &mut Vec<u8>, name: &[u8]) {
        for part in [b"mg ", name, b" k c\r\n"] {
            out.extend_from_slice(part);
        }
    }

    /// The version in the answer to [`see`]: `None` within where there is nothing, `None` where that is not known.
    #[must_use]
    pub fn seen(answer: &[u8]) -> Option<Option<&[u8]>> {
        let mut words = Words::new(answer.trim_ascii_end());
        match words.next()? {
            b"EN" => Some(None), // newer ones say the key as well
            // As it goes into a command, it has to be a number.
            b"HD" => {
                words.find_map(|word| word.strip_prefix(b"c")).filter(|it| number::digits_only(it).is_some()).map(Some)
            }
            _ => None,
        }
    }

    /// Appends the request for a copy.
    pub fn read(out: &mut Vec<u8>, name: &[u8]) {
        for part in [b"mg ", name, b" k v f c\r\n"] {
            out.extend_from_slice(part);
        }
    }

    /// A copy as it was found.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Found<'a> {
        flags: &'a [u8],
        version: &'a [u8],
        block: &'a [u8],
    }

    /// The copy in the answer to [`read`].
    #[must_use]
    pub fn found(answer: &[u8]) -> Option<Found<'_>> {
        let line_end = memchr::memchr(b'\n', answer)? + 1;
        let (line, rest) = answer.split_at(line_end);
        let mut words = Words::new(line.trim_ascii_end());
        if words.next() != Some(b"VA") {
            return None;
        }
        let len = usize::try_from(number::digits_only(words.next()?)?).ok().filter(|len| *len > 0)?;
        let mut found = Found { flags: b"0", version: b"0", block: rest.get(..len + 2)? };
        for word in words {
            match (word[0], &word[1..]) {
                (b'f', flags) => found.flags = flags,
                (b'c', version) => found.version = version,
                (b'X' | b'Z' | b'W', _) => return None,
                _ => {}
            }
        }
        Some(found)
    }

    impl Found<'_> {
        /// As a get of the key is answered, without the end. Its version is none that the key's item will have.
        #[must_use]
        pub fn block_of(&self, key: &[u8], with_version: bool) -> Vec<u8> {
            let mut out = Vec::with_capacity(key.len() + self.block.len() + 64);
            for part in [b"VALUE ", key, b" ", self.flags, b" "] {
                out.extend_from_slice(part);
            }
            number::push(&mut out, (self.block.len() - 2) as u64);
            if with_version {
                out.push(b' ');
                out.extend_from_slice(self.version);
            }
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(self.block);
            out
        }

        /// As a get of nothing but the key is answered.
        #[must_use]
        pub fn response_of(&self, key: &[u8], with_version: bool) -> Vec<u8> {
            [&self.block_of(key, with_version), reply::END].concat()
        }

        /// As an `mg` of this line is answered; `None` where it asks for what is not known of a copy. The key is not told where the
        /// client has not asked for it.
        #[must_use]
        pub fn meta_response_of(&self, line: &[u8], tells_key: bool) -> Option<Vec<u8>> {
            let mut words = Words::new(line.trim_ascii_end()).skip(1);
            let key = words.next()?;
            let (mut told, mut has_value) = (Vec::new(), false);
            let mut tell = |letter: u8, rest: &[u8]| {
                told.extend_from_slice(&[b' ', letter]);
                told.extend_from_slice(rest);
            };
            for word in words {
                match word[0] {
                    b'v' => has_value = true,
                    b'f' => tell(b'f', self.flags),
                    b'c' => tell(b'c', self.version),
                    b'k' if tells_key => tell(b'k', key),
                    b'b' if tells_key => tell(b'b', b""),
                    b'O' => tell(b'O', &word[1..]),
                    b's' => tell(b's', (self.block.len() - 2).to_string().as_bytes()),
                    b'k' | b'b' | b'q' => {}
                    _ => return None,
                }
            }
            let mut out = if has_value {
                [b"VA ", (self.block.len() - 2).to_string().as_bytes(), &told, b"\r\n"].concat()
            } else {
                [b"HD", &told[..], b"\r\n"].concat()
            };
            if has_value {
                out.extend_from_slice(self.block);
            }
            Some(out)
        }
    }
}

/// The same of Redis.
pub mod resp {
    use super::LARGEST;
    use crate::proto::resp::args::Args;
    use crate::proto::resp::encode;
    use std::time::Duration;

    /// Stores the copy if the key has this value still.
    const SCRIPT: &[u8] =
        b"if redis.call('GET',KEYS[1])==ARGV[1] then redis.call('SET',KEYS[2],ARGV[1],'PX',ARGV[2]) end return 1";

    /// Forgets copies in a database, for which the script alone selects it.
    const FORGET_IN: &[u8] = b"redis.call('SELECT',ARGV[1]) return redis.call('DEL',unpack(KEYS))";

    /// Most names of a [`forget_in`]: a script has no room for very many at a time.
    pub const MOST_NAMES: usize = 1000;

    /// What a request stores.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Copied<'a> {
        /// The key.
        pub key: &'a [u8],
        /// The value.
        pub value: &'a [u8],
        /// How long it is to live, in milliseconds.
        lifetime: u64,
        /// It is stored if nothing is there.
        pub is_added: bool,
    }

    impl<'a> Copied<'a> {
        /// What a request stores that lives for some time and says no more.
        #[must_use]
        pub fn of(args: Args<'a>) -> Option<Self> {
            let name = args.get(0);
            let is = |word: &[u8], other: &[u8]| word.eq_ignore_ascii_case(other);
            let copied = |value, (unit, lifetime): (u64, &[u8]), is_added| {
                let count: u64 = std::str::from_utf8(lifetime).ok()?.parse().ok().filter(|count| *count > 0)?;
                let lifetime = count.checked_mul(unit)?;
                Some(Self { key: args.get(1), value, lifetime, is_added })
            };
            let copied = if is(name, b"setex") && args.len() == 4 {
                copied(args.get(3), (1000, args.get(2)), false)
            } else if is(name, b"psetex") && args.len() == 4 {
                copied(args.get(3), (1, args.get(2)), false)
            } else if is(name, b"set") && (5..=6).contains(&args.len()) {
                let (mut at, mut is_added, mut lifetime) = (3, false, None);
                while at < args.len() {
                    let word = args.get(at);
                    if is(word, b"nx") {
                        is_added = true;
                    } else if (is(word, b"ex") || is(word, b"px")) && lifetime.is_none() && at + 1 < args.len() {
                        lifetime = Some((if is(word, b"ex") { 1000 } else { 1 }, args.get(at + 1)));
                        at += 1;
                    } else {
                        return None;
                    }
                    at += 1;
                }
                copied(args.get(2), lifetime?, is_added)
            } else {
                None
            };
            copied.filter(|copied| copied.value.len() <= LARGEST)
        }

        fn lives(&self, stale: Duration) -> String {
            let stale = u64::try_from(stale.as_millis()).unwrap_or(u64::MAX);
            self.lifetime.saturating_add(stale).to_string()
        }

        /// Appends what stores the copy.
        pub fn keep(&self, out: &mut Vec<u8>, name: &[u8], stale: Duration) {
            encode::words(out, &[b"SET", name, self.value, b"PX", self.lives(stale).as_bytes()]);
        }

        /// Appends what stores the copy if the key has this value still.
        pub fn keep_if_there(&self, out: &mut Vec<u8>, name: &[u8], stale: Duration) {
            let lives = self.lives(stale);
            encode::words(out, &[b"EVAL", SCRIPT, b"2", self.key, name, self.value, lives.as_bytes()]);
        }
    }

    /// Appends what has no copies of these names be there.
    pub fn forget(out: &mut Vec<u8>, names: &[Vec<u8>]) {
        let mut words: Vec<&[u8]> = vec![b"DEL"];
        words.extend(names.iter().map(Vec::as_slice));
        encode::words(out, &words);
    }

    /// Appends what has no copies of these names be there, [`MOST_NAMES`] at most, in another database than the connection's.
    pub fn forget_in(out: &mut Vec<u8>, database: u32, names: &[Vec<u8>]) {
        let (count, database) = (names.len().to_string(), database.to_string());
        let mut words: Vec<&[u8]> = vec![b"EVAL", FORGET_IN, count.as_bytes()];
        words.extend(names.iter().map(Vec::as_slice));
        words.push(database.as_bytes());
        encode::words(out, &words);
    }

    /// Appends the request for a copy.
    pub fn read(out: &mut Vec<u8>, name: &[u8]) {
        encode::words(out, &[b"GET", name]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::resp::{encode, request};
    use std::time::Duration;

    const STALE: Duration = Duration::from_secs(30);

    #[test]
    fn a_copy_lives_longer_than_its_value_and_only_where_that_ends() {
        let lives = |lifetime: &str, block: &[u8]| {
            memcache::Copied { flags: b"0", lifetime: lifetime.as_bytes(), block, is_added: false }
                .lives(STALE, 2_000_000_000)
        };
        assert_eq!(lives("60", b"v\r\n"), Some(90));
        assert_eq!(lives("2592000", b"v\r\n"), Some(2_592_000));
        assert_eq!(lives("2000000060", b"v\r\n"), Some(90));
        for (lifetime, block) in [("0", &b"v\r\n"[..]), ("-1", b"v\r\n"), ("2000000000", b"v\r\n"), ("60", b"\r\n")] {
            assert_eq!(lives(lifetime, block), None, "{lifetime}");
        }
        assert_eq!(lives("60", &vec![b'v'; LARGEST + 1]), None);
        for flags in [&b"x"[..], b"", b"-1", b"4294967296", b"1\t2"] {
            let copied = memcache::Copied { flags, lifetime: b"60", block: b"flush_all\r\n", is_added: false };
            assert_eq!(copied.lives(STALE, 0), None, "{}", flags.escape_ascii());
        }
        assert_eq!(memcache::seen(b"HD kn cx\r\n"), None);
        assert!(memcache::has_name(&[b'x'; 235]) && !memcache::has_name(&[b'x'; 236]) && !memcache::has_name(b"b c"));
    }

    #[test]
    fn it_is_stored_by_commands_that_every_memcached_knows() {
        let copied = memcache::Copied::of_store(b"add k 7 60 1 noreply\r\nv\r\n").unwrap();
        assert_eq!(copied, memcache::Copied { flags: b"7", lifetime: b"60", block: b"v\r\n", is_added: true });
        for (over, said) in [
            (memcache::Over::Any, "set n 7 90 1\r\nv\r\n"),
            (memcache::Over::Nothing, "add n 7 90 1\r\nv\r\n"),
            (memcache::Over::Version(b"12"), "cas n 7 90 1 12\r\nv\r\n"),
        ] {
            let mut out = Vec::new();
            copied.keep(&mut out, b"n", 90, over);
            assert_eq!(String::from_utf8_lossy(&out), said);
        }
    }

    #[test]
    fn a_meta_command_is_copied_that_only_stores() {
        let of = |flags: &'static [u8]| memcache::Copied::of_meta(flags, b"v\r\n");
        let copied = of(b" T60 F7 q Oabc k").unwrap();
        assert_eq!((copied.flags, copied.lifetime), (&b"7"[..], &b"60"[..]));
        assert!(of(b" MS T1").is_some() && of(b"").is_some_and(|copied| copied.lifetime == b"0"));
        assert!(of(b" ME T1").unwrap().is_added && !copied.is_added);
        for flags in [&b" MA"[..], b" C1", b" T1 E5", b" N30"] {
            assert_eq!(of(flags), None, "{}", flags.escape_ascii());
        }
    }

    #[test]
    fn what_was_found_is_told_as_the_key_would_be() {
        let found = memcache::found(b"VA 1 ksoftmiss:stale:k f7 c12\r\nv\r\n").unwrap();
        assert_eq!(found.response_of(b"k", false), b"VALUE k 7 1\r\nv\r\nEND\r\n");
        assert_eq!(found.response_of(b"k", true), b"VALUE k 7 1 12\r\nv\r\nEND\r\n");
        let meta = |line: &str, tells_key| {
            found.meta_response_of(line.as_bytes(), tells_key).map(|told| String::from_utf8(told).unwrap())
        };
        assert_eq!(meta("mg k v f c k Oab s q\r\n", true).unwrap(), "VA 1 f7 c12 kk Oab s1\r\nv\r\n");
        assert_eq!(meta("mg k f k\r\n", false).unwrap(), "HD f7\r\n");
        assert_eq!(meta("mg k v t\r\n", true), None);
        for answer in [&b"EN\r\n"[..], b"VA 0 kk\r\n\r\n", b"VA 1 kk X\r\nv\r\n", b"VA 9 kk\r\nv\r\n", b"ERROR\r\n"] {
            assert_eq!(memcache::found(answer), None, "{}", answer.escape_ascii());
        }
        assert_eq!(memcache::seen(b"HD kn c12\r\n"), Some(Some(&b"12"[..])));
        assert_eq!(memcache::seen(b"EN kn\r\n"), Some(None));
        assert_eq!((memcache::seen(b"EN\r\n"), memcache::seen(b"ERROR\r\n")), (Some(None), None));
    }

    #[test]
    fn redis_stores_copies_of_strings_that_live_for_some_time() {
        let of = |words: &[&str]| {
            let (mut raw, mut spans) = (Vec::new(), Vec::new());
            encode::words(&mut raw, &words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
            let mut out = Vec::new();
            resp::Copied::of(request::args(&raw, &mut spans)).map(|copied| {
                copied.keep(&mut out, b"n", STALE);
                (String::from_utf8_lossy(&out).replace("\r\n", " "), copied.is_added)
            })
        };
        for words in [&["SET", "k", "v", "EX", "60"][..], &["setex", "k", "60", "v"], &["PSETEX", "k", "60000", "v"]] {
            assert_eq!(of(words).unwrap(), ("*5 $3 SET $1 n $1 v $2 PX $5 90000 ".to_owned(), false));
        }
        assert!(of(&["SET", "k", "v", "NX", "PX", "60000"]).unwrap().1);
        for words in [
            &["SET", "k", "v"][..],
            &["SET", "k", "v", "XX", "EX", "60"],
            &["SET", "k", "v", "EX", "0"],
            &["SET", "k", "v", "EX", "x"],
            &["SET", "k", "v", "KEEPTTL", "NX"],
            &["SET", "k", "v", "EX"],
            &["SETNX", "k", "v"],
        ] {
            assert_eq!(of(words), None, "{words:?}");
        }
    }
}
