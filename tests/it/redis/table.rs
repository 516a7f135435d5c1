//! The table of Redis's commands against a real server, the first of those that the table was written from: what it
//! says of each command, which words of random requests are keys, and the words of its errors.

use std::collections::BTreeMap;

use softmiss::proto::resp::args::Args;
use softmiss::proto::resp::command::keys::{KeyList, keys};
use softmiss::proto::resp::command::{self, Begin, Command, Find, Flags, errors};
use softmiss::proto::resp::{encode, request};

use super::super::support::Random;
use super::super::support::client::Client;
use super::super::support::process::Process;
use super::super::support::script::show;

/// Random requests whose keys are compared.
const REQUESTS: usize = 60_000;

/// The flags that the table has bits for, as a server calls them.
const FLAGS: [(&str, Flags); 25] = [
    ("write", Flags::WRITE),
    ("readonly", Flags::READONLY),
    ("denyoom", Flags::DENYOOM),
    ("admin", Flags::ADMIN),
    ("pubsub", Flags::PUBSUB),
    ("noscript", Flags::NOSCRIPT),
    ("blocking", Flags::BLOCKING),
    ("loading", Flags::LOADING),
    ("stale", Flags::STALE),
    ("fast", Flags::FAST),
    ("no_auth", Flags::NO_AUTH),
    ("movablekeys", Flags::MOVABLE_KEYS),
    ("no_multi", Flags::NO_MULTI),
    ("allow_busy", Flags::ALLOW_BUSY),
    ("skip_monitor", Flags::SKIP_MONITOR),
    ("no_async_loading", Flags::NO_ASYNC_LOADING),
    ("no_mandatory_keys", Flags::NO_MANDATORY_KEYS),
    ("asking", Flags::ASKING),
    ("skip_slowlog", Flags::SKIP_SLOWLOG),
    ("may_replicate", Flags::MAY_REPLICATE),
    ("sentinel", Flags::SENTINEL),
    ("only_sentinel", Flags::ONLY_SENTINEL),
    ("module", Flags::MODULE),
    ("touches_arbitrary_keys", Flags::TOUCHES_ARBITRARY_KEYS),
    ("internal", Flags::INTERNAL),
];

/// An answer.
#[derive(Debug)]
enum Reply {
    Text(Vec<u8>),
    Error,
    Number(i64),
    List(Vec<Self>),
    Null,
}

impl Reply {
    fn list(&self) -> &[Self] {
        let Self::List(items) = self else { panic!("no list: {self:?}") };
        items
    }

    fn text(&self) -> String {
        let Self::Text(text) = self else { panic!("no text: {self:?}") };
        String::from_utf8_lossy(text).to_lowercase()
    }
}

fn read(client: &mut Client) -> Reply {
    let line = client.line();
    let (mark, rest) = line.split_at(1);
    let number = || rest.parse::<i64>().unwrap();
    match mark {
        "+" => Reply::Text(rest.as_bytes().to_vec()),
        "-" => Reply::Error,
        ":" => Reply::Number(number()),
        "$" if number() >= 0 => {
            let mut text = client.read(number() as usize + 2);
            text.truncate(text.len() - 2);
            Reply::Text(text)
        }
        "*" if number() >= 0 => Reply::List((0..number()).map(|_| read(client)).collect()),
        _ => Reply::Null,
    }
}

fn request(words: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::command(&mut out, words.iter().map(Vec::as_slice));
    out
}

fn with_args<T>(words: &[Vec<u8>], then: impl FnOnce(Args<'_>) -> T) -> T {
    let (bytes, mut spans) = (request(words), Vec::new());
    then(request::args(&bytes, &mut spans))
}

/// What the server says of its commands, subcommands included: arity and flags.
fn described(client: &mut Client) -> BTreeMap<String, (i64, Vec<String>)> {
    fn note(entry: &Reply, into: &mut BTreeMap<String, (i64, Vec<String>)>) {
        let [name, Reply::Number(arity), flags, .., subcommands] = entry.list() else { panic!("{entry:?}") };
        into.insert(name.text(), (*arity, flags.list().iter().map(Reply::text).collect()));
        subcommands.list().iter().for_each(|one| note(one, into));
    }
    client.send("COMMAND\r\n");
    let mut found = BTreeMap::new();
    read(client).list().iter().for_each(|entry| note(entry, &mut found));
    found
}

fn ours(name: &str) -> Option<&'static Command> {
    let (first, second) = name.split_once('|').map_or((name, None), |(first, second)| (first, Some(second)));
    let command = command::find(first.as_bytes())?;
    second.map_or(Some(command), |word| command.subcommand(word.as_bytes()))
}

#[test]
fn the_table_says_what_the_server_says() {
    let server = Process::redis();
    let described = described(&mut server.client());
    assert!(described.len() > 300, "{}", described.len());
    let mut wrong = Vec::new();
    for (name, (arity, flags)) in &described {
        let Some(command) = ours(name) else {
            wrong.push(format!("{name}: not in the table"));
            continue;
        };
        if command.name != name || i64::from(command.arity) != *arity {
            wrong.push(format!("{name}: {} with arity {}, not {arity}", command.name, command.arity));
        }
        let unknown = flags.iter().filter(|flag| FLAGS.iter().all(|(name, _)| name != flag));
        wrong.extend(unknown.map(|flag| format!("{name}: the flag {flag} is not known here")));
        for (flag, bit) in FLAGS {
            if flags.iter().any(|one| one == flag) != command.flags.has(bit) {
                wrong.push(format!("{name}: {flag} here is {}", command.flags.has(bit)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Words that mean something to one command or another.
const WORDS: [&str; 30] = [
    "STORE",
    "store",
    "STOREDIST",
    "LIMIT",
    "BY",
    "GET",
    "ASC",
    "DESC",
    "ALPHA",
    "STREAMS",
    "streams",
    "KEYS",
    "keys",
    "COUNT",
    "BLOCK",
    "NOACK",
    "GROUP",
    "AUTH",
    "AUTH2",
    "COPY",
    "REPLACE",
    "WEIGHTS",
    "AGGREGATE",
    "LEFT",
    "MIN",
    "MATCH",
    "NX",
    "EX",
    "WITHSCORES",
    "*",
];

const NUMBERS: [&str; 16] = [
    "0",
    "1",
    "2",
    "3",
    "4",
    "-1",
    "-2",
    "100",
    "2147483647",
    "2147483648",
    "-2147483648",
    "4294967297",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551617",
    "99999999999999999999999",
];

/// A request of a command, mostly with as many words as it may have.
fn random_request(random: &mut Random, command: &Command) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = command.name.split('|').map(|word| word.as_bytes().to_vec()).collect();
    if random.one_in(3) {
        words[0].make_ascii_uppercase();
    }
    let least = usize::from(command.arity.unsigned_abs());
    let length = match command.arity {
        _ if random.one_in(20) => 2 + random.below(6) as usize,
        arity if arity > 0 => least,
        _ => least + random.below(10) as usize,
    };
    let own: Vec<&str> = command
        .keys
        .iter()
        .filter_map(|spec| if let Begin::Keyword(word, _) = spec.begin { Some(word) } else { None })
        .collect();
    // Counts of keys that fit are rare among random words: half of the requests get one where it belongs.
    let counts: Vec<usize> = command
        .keys
        .iter()
        .filter_map(|spec| match (&spec.begin, &spec.find) {
            (Begin::Index(start), Find::Count { at, .. }) => usize::try_from(start + at).ok(),
            _ => None,
        })
        .collect();
    let fits = random.one_in(2);
    while words.len() < length {
        let at = words.len();
        let word = match random.below(12) {
            _ if fits && counts.contains(&at) => random.below((length - at) as u64 + 1).to_string().into_bytes(),
            0..=4 => format!("k{at}-{}", random.below(1000)).into_bytes(),
            5 | 6 => random.pick(&NUMBERS).as_bytes().to_vec(),
            7 if !own.is_empty() => random.pick(&own).as_bytes().to_vec(),
            7 | 8 => random.pick(&WORDS).as_bytes().to_vec(),
            9 => Vec::new(),
            10 => vec![b'\r', b'\n', 0, random.below(256) as u8],
            _ => [random.pick(&WORDS).as_bytes(), b"x"].concat(),
        };
        words.push(word);
    }
    words
}

/// What is found in a request: the keys, or nothing that could be routed by.
fn found_here(words: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    with_args(words, |args| {
        let command = command::find(args.get(0))?;
        let command = command.subcommand(args.get(1)).unwrap_or(command);
        if !command.accepts(args.len()) {
            return None;
        }
        let mut list = KeyList::default();
        keys(command, args, &mut list).ok()?;
        Some(list.iter().map(|place| args.get(place).to_vec()).collect())
    })
}

/// What the server finds.
fn found_there(reply: Reply) -> Option<Vec<Vec<u8>>> {
    let text = |key| if let Reply::Text(key) = key { key } else { panic!("no key: {key:?}") };
    match reply {
        Reply::List(keys) => Some(keys.into_iter().map(text).collect()),
        Reply::Error => None,
        other @ (Reply::Text(_) | Reply::Number(_) | Reply::Null) => panic!("{other:?}"),
    }
}

/// Whether a difference is meant: the server's `COMMAND GETKEYS` is not as strict as its commands are, or stricter.
fn is_meant(client: &mut Client, words: &[Vec<u8>], theirs: Option<&[Vec<u8>]>, here: Option<&[Vec<u8>]>) -> bool {
    match (theirs, here) {
        // A count like `01` or 2^32 + 1, of which it takes what a C library makes of it; `STREAMS` before it may stand,
        // where it looks a second time when there was nothing at the right place. The command itself refuses these.
        (Some(_), None | Some([])) => {
            client.send(request(words));
            matches!(read(client), Reply::Error)
        }
        // `PFMERGE` with nothing to merge, which it serves; and no source where there must be one, which it had better
        // say itself. The destination is a key all the same.
        (None, Some([key])) => {
            let name = words[0].to_ascii_lowercase();
            *key == words[1] && (name == b"pfmerge" && words.len() == 2 || name.ends_with(b"store") && words[2] == b"0")
        }
        // `STORE` or `STREAMS` twice, the second one as a name: see the next test for who is right.
        (Some(_), Some(_)) => {
            let twice = |word: &[u8]| words.iter().filter(|one| one.eq_ignore_ascii_case(word)).count() > 1;
            (words[0].eq_ignore_ascii_case(b"sort") && twice(b"store"))
                || (words[0].eq_ignore_ascii_case(b"xreadgroup") && twice(b"streams"))
        }
        _ => false,
    }
}

#[test]
fn keys_are_those_that_the_server_finds() {
    const BATCH: usize = 500;
    let server = Process::redis();
    let mut client = server.client();
    let names: Vec<String> = described(&mut client).into_keys().collect();
    // Without its subcommand a request of these is refused before anyone looks for keys.
    let commands: Vec<_> =
        names.iter().filter_map(|name| ours(name)).filter(|one| one.subcommands.is_empty()).collect();
    let mut random = Random(20_260);
    let (mut with_keys, mut without, mut refused, mut meant) = (0, 0, 0, 0);
    let mut chosen = commands.iter().cycle();
    for _ in 0..REQUESTS / BATCH {
        let batch: Vec<_> = chosen.by_ref().take(BATCH).map(|command| random_request(&mut random, command)).collect();
        let questions = batch.iter().map(|words| [&[b"COMMAND".to_vec(), b"GETKEYS".to_vec()], &words[..]].concat());
        client.send(questions.flat_map(|words| request(&words)).collect::<Vec<_>>());
        let answers: Vec<_> = batch.iter().map(|_| found_there(read(&mut client))).collect();
        for (words, theirs) in batch.iter().zip(answers) {
            let here = found_here(words);
            match here.as_deref() {
                None => refused += 1,
                Some([]) => without += 1,
                Some(_) => with_keys += 1,
            }
            // "No keys" is an error in some commands and an empty list in others: both leave nothing to route by.
            if theirs.as_deref().unwrap_or_default() == here.as_deref().unwrap_or_default() {
                continue;
            }
            let line: Vec<_> = words.iter().map(|word| show(word)).collect();
            let is_meant = is_meant(&mut client, words, theirs.as_deref(), here.as_deref());
            assert!(is_meant, "{line:?}\n  redis {theirs:?}\n  here  {here:?}");
            meant += 1;
        }
    }
    println!("{with_keys} with keys, {without} without, {refused} refused, {meant} differ as they should");
    assert!(with_keys > REQUESTS / 3 && refused > REQUESTS / 50 && meant < REQUESTS / 200);
}

#[test]
fn keys_with_the_names_of_options_are_those_that_the_command_uses() {
    let server = Process::redis();
    let mut client = server.client();
    let keys_of = |line: &str| {
        let words: Vec<_> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let keys = found_here(&words).unwrap();
        keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(client.ask("RPUSH l 1\r\n"), ":1");
    let sort = "SORT l STORE store LIMIT 0 1";
    assert_eq!(client.ask(format!("{sort}\r\n")), ":1");
    assert_eq!(client.ask("EXISTS store\r\n"), ":1");
    assert_eq!(client.ask("EXISTS LIMIT\r\n"), ":0");
    assert_eq!(keys_of(sort), ["l", "store"]);

    assert_eq!(client.ask("XGROUP CREATE a streams 0 MKSTREAM\r\n"), "+OK");
    client.send("XADD a 1-1 f v\r\n");
    assert_eq!(client.read(9), b"$3\r\n1-1\r\n");
    let group = "XREADGROUP COUNT 1 GROUP streams c STREAMS a >";
    client.send(format!("{group}\r\n"));
    let read = read(&mut client);
    let [stream] = read.list() else { panic!("{read:?}") };
    assert_eq!(stream.list()[0].text(), "a");
    assert_eq!(keys_of(group), ["a"]);
}

#[test]
fn errors_have_the_servers_words() {
    let server = Process::redis();
    let mut client = server.client();
    let long = |byte: u8, count| vec![byte; count];
    // No known name with a zero byte behind it: Redis finds the command or does not, by the bucket that its seed gives it.
    let mut cases: Vec<Vec<Vec<u8>>> = vec![
        vec![b"foo".to_vec()],
        vec![b"foo".to_vec(), b"a".to_vec(), b"b".to_vec()],
        vec![b"a\r\nb\x01\x7f\xff".to_vec(), b"c\rd".to_vec(), Vec::new(), b"g'h".to_vec()],
        vec![b"fo\0o".to_vec(), b"a\0b".to_vec(), b"\0".to_vec(), b"c".to_vec()],
        vec![Vec::new()],
        vec![b"\0get".to_vec()],
        vec![b"config".to_vec(), b"x".to_vec()],
        vec![b"CONFIG".to_vec(), b"a\r\nb\0c".to_vec()],
        vec![b"config".to_vec(), Vec::new()],
    ];
    for count in [1, 120, 123, 124, 125, 126, 127, 128, 129, 300] {
        cases.push(vec![long(b'n', count.max(40)), b"a".to_vec()]);
        cases.push(vec![b"foo".to_vec(), long(b'y', count), b"zzz".to_vec(), b"q".to_vec()]);
        cases.push(vec![b"foo".to_vec(), [long(b'y', count), b"\0".to_vec(), long(b'w', 9)].concat(), b"zzz".to_vec()]);
        cases.push(std::iter::once(b"foo".to_vec()).chain((0..count).map(|at| at.to_string().into_bytes())).collect());
        cases.push(vec![b"xgroup".to_vec(), [b"x".to_vec(), long(b's', count)].concat(), b"a".to_vec()]);
    }
    // Too few words, of every command and subcommand that asks for more than its name.
    for name in described(&mut client).into_keys() {
        let words: Vec<_> = name.split('|').map(|word| word.as_bytes().to_vec()).collect();
        if ours(&name).is_some_and(|one| !one.accepts(words.len())) {
            cases.push(words);
        }
    }
    assert!(cases.len() > 200);
    for words in cases {
        client.send(request(&words));
        let found = client.read_through(b"\r\n");
        let text = with_args(&words, |args| match command::find(args.get(0)) {
            None => errors::unknown_command(args),
            Some(command) if !command.subcommands.is_empty() && args.len() > 1 => {
                match command.subcommand(args.get(1)) {
                    None => errors::unknown_subcommand(command, args.get(1)),
                    Some(command) => errors::wrong_arity(command.name),
                }
            }
            Some(command) => errors::wrong_arity(command.name),
        });
        let mut expected = Vec::new();
        encode::error(&mut expected, &text);
        let sent: Vec<_> = words.iter().map(|word| show(word)).collect();
        assert!(found == expected, "{sent:?}\n  redis {}\n  here  {}", show(&found), show(&expected));
    }
}
