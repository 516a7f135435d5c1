//! `stats` of several servers as one: each field by its [`Rule`].

mod fields;

use crate::proto::names::Names;

use super::number;
use super::response::{Line, Response, Status, Violation, error_status, line};
use super::version::Version;
pub use fields::{Rule, rule};

/// Most bytes of one server's listing. memcached lists 2 MiB of a slab class at most.
pub const LISTING_LIMIT: usize = (2 << 20) + (64 << 10);

/// Names that room is made for before they are known, at most.
const LINES_EXPECTED: usize = 1 << 20;

/// Reads a whole `STAT ...` listing through its `END`, or an error line. `looked` is how far an earlier call has looked at
/// the same bytes, at first 0.
#[must_use]
pub fn listing(input: &[u8], looked: &mut usize) -> Response {
    let mut at = (*looked).min(input.len());
    loop {
        if at > LISTING_LIMIT {
            return Response::TooLarge { len: at, whole: false };
        }
        let (line, len) = match line(&input[at..]) {
            Line::Whole(line, len) => (line, len),
            Line::Partial => {
                *looked = at;
                return Response::Incomplete { need: input.len() + 1 };
            }
            Line::TooLong => return Response::Broken(Violation::TooLong),
        };
        at += len;
        if line == b"END" {
            return Response::Complete { len: at, status: Status::Done, strip: 0..0 };
        }
        if is_row(line) {
            continue;
        }
        return match error_status(line) {
            Some(status) if at == len => Response::Complete { len, status, strip: 0..0 },
            _ => Response::Broken(Violation::UnexpectedLine),
        };
    }
}

/// Whether it is a line of a listing: `stats detail dump` has `PREFIX`, `stats cachedump` has `ITEM`.
fn is_row(line: &[u8]) -> bool {
    line.starts_with(b"STAT ") || line.starts_with(b"ITEM ") || line.starts_with(b"PREFIX ")
}

/// As [`listing`], of one whose beginning was too large: drops what has come, up to its end.
#[must_use]
pub fn rest_of_listing(input: &[u8]) -> Response {
    let mut at = 0;
    loop {
        let (line, len) = match line(&input[at..]) {
            Line::Whole(line, len) => (line, len),
            Line::Partial if at > 0 => return Response::TooLarge { len: at, whole: false },
            Line::Partial => return Response::Incomplete { need: input.len() + 1 },
            Line::TooLong => return Response::Broken(Violation::TooLong),
        };
        at += len;
        if line == b"END" {
            return Response::TooLarge { len: at, whole: true };
        }
        if !is_row(line) {
            return Response::Broken(Violation::UnexpectedLine);
        }
    }
}

/// A number of a listing.
#[must_use]
pub fn number(listing: &[u8], name: &[u8]) -> Option<u64> {
    listing.split(|byte| *byte == b'\n').find_map(|line| {
        let rest = line.strip_prefix(b"STAT ")?.strip_prefix(name)?.strip_prefix(b" ")?;
        number::signed(rest.trim_ascii_end()).and_then(|value| u64::try_from(value).ok())
    })
}

/// What becomes of the listings of several servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Each field by its [`Rule`].
    #[default]
    Fields,
    /// Each field as the first server has it: settings.
    First,
    /// All lines of all servers, one server's behind the other's: what is told of connections and of items.
    Lines,
}

/// What this process has to say in a listing of its pool's servers.
#[derive(Debug, Default)]
pub struct Own {
    /// Its process id.
    pub pid: u32,
    /// The lowest version that is known of servers of the pool, whether they answer now or not.
    pub version: Option<Version>,
}

/// What several servers listed, in the order in which the names first came.
#[derive(Debug, Default)]
pub struct Summed {
    kind: Kind,
    own: Own,
    lines: Vec<Row>,
    /// The number of the line of each name.
    places: Names,
    /// What stands before the values of all lines. Or all lines, where they are not put together.
    text: Vec<u8>,
    /// Bytes of lines and values.
    held: usize,
}

/// A line: where in the text stands what comes before its value, and the value.
#[derive(Debug)]
struct Row {
    start: usize,
    len: usize,
    value: Value,
}

impl Row {
    fn name<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(self.start..self.start + self.len).unwrap_or_default()
    }
}

/// How far a listing has been written: bytes of lines that are not put together, and lines that are.
#[derive(Debug, Default)]
pub struct Written {
    bytes: usize,
    lines: usize,
}

/// Bytes that are taken in one step.
const STEP: usize = 1 << 10;

#[derive(Debug)]
enum Value {
    Count(u64),
    Fraction(f64),
    Word(Vec<u8>),
}

impl Summed {
    /// Nothing yet.
    #[must_use]
    pub fn new(kind: Kind, own: Own) -> Self {
        Self { kind, own, ..Self::default() }
    }

    /// Takes more than a few lines: who chooses their names does not know `seed`, and so many will be about all of them.
    pub fn expect(&mut self, lines: usize, seed: u64) {
        if self.kind != Kind::Lines {
            let mut places = Names::with_room(seed, self.lines.len() + lines.min(LINES_EXPECTED));
            for (number, line) in self.lines.iter().enumerate() {
                places.add(line.name(&self.text), |known| self.lines[..number][known].name(&self.text));
            }
            self.places = places;
        }
    }

    /// Adds one server's listing.
    pub fn add(&mut self, listing: &[u8]) {
        self.add_some(listing, usize::MAX);
    }

    /// Adds what stands at the front of one server's listing, or of the rest of it, in so many steps at most: a line is one.
    /// Says how many bytes that were, and how many steps.
    pub fn add_some(&mut self, listing: &[u8], steps: usize) -> (usize, usize) {
        if self.kind == Kind::Lines {
            let lines = listing.trim_ascii_end();
            self.text.extend_from_slice(lines.strip_suffix(b"END").unwrap_or(lines));
            return (listing.len(), 1 + listing.len() / STEP);
        }
        let (mut at, mut taken) = (0, 0);
        while at < listing.len() && taken < steps {
            let rest = &listing[at..];
            let end = memchr::memchr(b'\n', rest);
            let line = &rest[..end.unwrap_or(rest.len())];
            self.add_line(line.strip_suffix(b"\r").unwrap_or(line));
            (at, taken) = (at + end.map_or(rest.len(), |end| end + 1), taken + 1 + line.len() / STEP);
        }
        (at, taken)
    }

    fn add_line(&mut self, line: &[u8]) {
        let Some(at) = [&b"STAT "[..], b"PREFIX "].iter().find(|tag| line.starts_with(tag)).map(|tag| tag.len()) else {
            return;
        };
        let end = memchr::memchr(b' ', &line[at..]).map_or(line.len(), |blank| at + blank);
        let (name, value) = (&line[..end], line.get(end + 1..).unwrap_or_default());
        let bytes = value.len();
        let value = Value::read(value);
        let Self { kind, lines, places, text, held, .. } = self;
        match places.add(name, |known| lines.get(known).map_or(b"", |line| line.name(text))) {
            None => {
                *held += bytes + size_of::<Row>();
                lines.push(Row { start: text.len(), len: name.len(), value });
                text.extend_from_slice(name);
            }
            Some(_) if *kind == Kind::First => {}
            Some(number) => {
                let Some(Row { value: sum, .. }) = lines.get_mut(number) else { return };
                // What follows `PREFIX` is an application's own word.
                sum.add(value, if name.starts_with(b"PREFIX ") { Rule::Sum } else { rule(&name[at..]) });
            }
        }
    }

    /// Bytes that it holds.
    #[must_use]
    pub const fn footprint(&self) -> usize {
        self.held + self.text.len() + self.places.footprint()
    }

    /// Appends the listing and its `END`.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_on(&mut Written::default(), out, usize::MAX);
    }

    /// Goes on with appending the listing and its `END`, until `out` has so many bytes. Whether there is more.
    pub fn write_on(&self, written: &mut Written, out: &mut Vec<u8>, until: usize) -> bool {
        if self.kind == Kind::Lines {
            let rest = self.text.get(written.bytes..).unwrap_or_default();
            let next = rest.len().min(until.saturating_sub(out.len()));
            out.extend_from_slice(&rest[..next]);
            written.bytes += next;
            if next < rest.len() {
                return true;
            }
        }
        while out.len() < until {
            let Some(line) = self.lines.get(written.lines) else {
                out.extend_from_slice(b"END\r\n");
                return false;
            };
            written.lines += 1;
            self.write_line(line, out);
        }
        true
    }

    fn write_line(&self, line: &Row, out: &mut Vec<u8>) {
        let name = line.name(&self.text);
        out.extend_from_slice(name);
        out.push(b' ');
        match (name, &line.value) {
            (b"STAT pid", _) => number::push(out, self.own.pid.into()),
            (b"STAT version", Value::Word(word)) => {
                let version = Version::lower(Version::find(word), self.own.version.clone());
                out.extend_from_slice(version.as_ref().map_or(word, Version::word));
            }
            (_, Value::Count(count)) => number::push(out, *count),
            (_, Value::Fraction(fraction)) => out.extend_from_slice(format!("{fraction:.6}").as_bytes()),
            (_, Value::Word(word)) => out.extend_from_slice(word),
        }
        out.extend_from_slice(b"\r\n");
    }
}

impl Value {
    fn read(text: &[u8]) -> Self {
        if let Some(count) = number::digits_only(text) {
            return Self::Count(count);
        }
        let fraction = std::str::from_utf8(text)
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
            .filter(|text| text.bytes().filter(|&byte| byte == b'.').count() == 1)
            .and_then(|text| text.parse().ok());
        match fraction {
            Some(fraction) => Self::Fraction(fraction),
            None => Self::Word(text.to_vec()),
        }
    }

    fn add(&mut self, other: Self, rule: Rule) {
        match (self, other) {
            (Self::Count(value), Self::Count(more)) => {
                *value = match rule {
                    Rule::Sum => value.saturating_add(more),
                    Rule::Smallest => (*value).min(more),
                    Rule::Largest => (*value).max(more),
                    Rule::First | Rule::Version | Rule::Own => *value,
                };
            }
            (Self::Fraction(sum), Self::Fraction(more)) if rule == Rule::Sum => *sum += more,
            (Self::Word(word), Self::Word(other)) if rule == Rule::Version => {
                let lowest = Version::lower(Version::find(word), Version::find(&other));
                if let Some(lowest) = lowest {
                    *word = lowest.word().to_vec();
                }
            }
            (Self::Word(row), Self::Word(more)) if rule == Rule::Sum => add_rows(row, &more),
            _ => {} // two servers that do not agree on the kind: the first one's stays
        }
    }
}

/// Adds up what stands in two rows of words and numbers in turn (`get 2 hit 1`), if the words are the same.
fn add_rows(row: &mut Vec<u8>, more: &[u8]) {
    let blank = |byte: &u8| *byte == b' ';
    let mut out = Vec::with_capacity(row.len());
    let mut numbers = 0;
    let mut others = more.split(blank);
    for word in row.split(blank) {
        let Some(other) = others.next() else { return };
        match (number::digits_only(word), number::digits_only(other)) {
            (Some(one), Some(other)) => {
                number::push(&mut out, one.saturating_add(other));
                numbers += 1;
            }
            (None, None) if word == other => out.extend_from_slice(word),
            _ => return,
        }
        out.push(b' ');
    }
    if numbers > 0 && others.next().is_none() {
        out.pop();
        *row = out;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field that memcached tells, up to 1.6.39, by what becomes of it.
    const FIELDS: [(Rule, &str); 6] = [
        (Rule::Own, "pid"),
        (Rule::Version, "version"),
        (Rule::First, "libevent pointer_size slab_reassign_last_busy_status 1:chunk_size 1:chunks_per_page"),
        (Rule::Smallest, "uptime accepting_conns"),
        (
            Rule::Largest,
            "time hash_power_level hash_is_expanding slab_reassign_running lru_crawler_running \
             time_since_server_cert_refresh items:1:age items:1:age_hot items:1:age_warm items:1:evicted_time active_slabs",
        ),
        (
            Rule::Sum,
            "rusage_user rusage_system max_connections curr_connections total_connections rejected_connections \
             connection_structures response_obj_oom response_obj_count response_obj_bytes read_buf_count read_buf_bytes \
             read_buf_bytes_free read_buf_oom reserved_fds cmd_get cmd_set cmd_flush cmd_touch cmd_meta get_hits \
             get_misses get_expired get_flushed get_extstore get_aborted_extstore get_oom_extstore recache_from_extstore \
             miss_from_extstore badcrc_from_extstore delete_misses delete_hits incr_misses incr_hits decr_misses decr_hits \
             cas_misses cas_hits cas_badval touch_hits touch_misses store_too_large store_no_memory auth_cmds auth_errors \
             idle_kicks bytes_read bytes_written limit_maxbytes listen_disabled_num time_in_listen_disabled_us threads \
             conn_yields hash_bytes slab_reassign_rescues slab_reassign_chunk_rescues slab_reassign_evictions_nomem \
             slab_reassign_inline_reclaim slab_reassign_busy_items slab_reassign_busy_deletes slab_reassign_busy_nomem \
             slabs_moved lru_crawler_starts lru_maintainer_juggles malloc_fails log_worker_dropped log_worker_written \
             log_watcher_skipped log_watcher_sent log_watchers unexpected_napi_ids round_robin_fallback bytes curr_items \
             total_items slab_global_page_pool expired_unfetched evicted_unfetched evicted_active evictions reclaimed \
             crawler_reclaimed crawler_items_checked lrutail_reflocked moves_to_cold moves_to_warm moves_within_lru \
             direct_reclaims lru_bumps_dropped items:1:number items:1:number_hot items:1:number_warm items:1:number_cold \
             items:1:number_temp items:1:mem_requested items:1:evicted items:1:evicted_nonzero items:1:outofmemory \
             items:1:tailrepairs items:1:reclaimed items:1:hits_to_hot items:1:hits_to_temp 1:total_pages 1:total_chunks \
             1:used_chunks 1:free_chunks 1:free_chunks_end 1:mem_requested 1:get_hits 1:cmd_set total_malloced 96 1184",
        ),
    ];

    fn together(kind: Kind, own: Own, listings: &[&[u8]]) -> String {
        let mut summed = Summed::new(kind, own);
        listings.iter().for_each(|listing| summed.add(listing));
        let mut out = Vec::new();
        summed.write(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn every_field_has_its_rule() {
        for (wanted, names) in FIELDS {
            for name in names.split_ascii_whitespace() {
                assert_eq!(rule(name.as_bytes()), wanted, "{name}");
                let listing = |value: &str| format!("STAT {name} {value}\r\nEND\r\n").into_bytes();
                let own = Own { pid: 5, version: Version::find(b"1.6.9") };
                let found = together(Kind::Fields, own, &[&listing("3"), &listing("1"), &listing("4")]);
                let expected = match wanted {
                    Rule::Sum => "8",
                    Rule::Smallest => "1",
                    Rule::Largest => "4",
                    Rule::First | Rule::Version => "3",
                    Rule::Own => "5",
                };
                assert_eq!(found, format!("STAT {name} {expected}\r\nEND\r\n"));
            }
        }
    }

    #[test]
    fn words_stay_fractions_add_up_and_the_version_is_the_lowest() {
        let one = b"STAT version 1.6.18\r\nSTAT rusage_user 0.500000\r\nSTAT x on\r\nSTAT get_hits 3\r\nEND\r\n";
        let other = b"STAT version 1.6.9\r\nSTAT rusage_user 0.250000\r\nSTAT x off\r\nSTAT get_hits no\r\nSTAT more 1\r\nEND\r\n";
        let rest = "STAT rusage_user 0.750000\r\nSTAT x on\r\nSTAT get_hits 3\r\nSTAT more 1\r\nEND\r\n";
        for (known, version) in
            [(None, "1.6.9"), (Version::find(b"1.5.22"), "1.5.22"), (Version::find(b"2.0"), "1.6.9")]
        {
            let own = Own { pid: 1, version: known };
            let found = together(Kind::Fields, own, &[one, other]);
            assert_eq!(found, format!("STAT version {version}\r\n{rest}"));
        }
        let prefixes = together(
            Kind::Fields,
            Own::default(),
            &[
                b"PREFIX version get 2 hit 1 set 1 del 0\r\nEND\r\n",
                b"PREFIX b get 1 hit 0 set 0 del 0\r\nPREFIX version get 1 hit 1 set 4 del 1\r\nEND\r\n",
            ],
        );
        assert_eq!(prefixes, "PREFIX version get 3 hit 2 set 5 del 1\r\nPREFIX b get 1 hit 0 set 0 del 0\r\nEND\r\n");
    }

    #[test]
    fn settings_are_the_first_servers_and_lines_are_all_servers() {
        let listings: [&[u8]; 3] = [b"STAT a 1\r\nEND\r\n", b"END\r\n", b"STAT a 2\r\nSTAT b 2\r\nEND\r\n"];
        assert_eq!(together(Kind::First, Own::default(), &listings), "STAT a 1\r\nSTAT b 2\r\nEND\r\n");
        assert_eq!(together(Kind::Lines, Own::default(), &listings), "STAT a 1\r\nSTAT a 2\r\nSTAT b 2\r\nEND\r\n");
    }

    #[test]
    fn a_listing_ends_at_its_end_and_is_incomplete_before() {
        let text = b"STAT a 1\r\nSTAT b two words\r\nEND\r\n";
        let mut looked = 0;
        for cut in 0..text.len() {
            assert!(matches!(listing(&text[..cut], &mut looked), Response::Incomplete { .. }), "{cut}");
            assert!(matches!(listing(&text[..cut], &mut 0), Response::Incomplete { .. }), "{cut}");
        }
        assert_eq!(
            listing(text, &mut looked),
            Response::Complete { len: text.len(), status: Status::Done, strip: 0..0 }
        );
        assert!(matches!(listing(b"VALUE a 0 1\r\n", &mut 0), Response::Broken(_)));
    }
}
