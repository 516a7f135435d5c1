//! The file as it was written: a tree of nodes, each with its place.
//!
//! All that is known of the YAML library stays in here. Scalars are kept as the text that stands in the file, so that a
//! number is read by our rules and not by YAML's (`010`, `1_000` and `yes` are not what YAML makes of them).

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy, Options, Spanned};

use super::diagnostic::{Diagnostic, Span};
use super::slips;

/// A part of the file.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) content: Content,
}

/// What a part of the file is.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Nothing.
    Empty,
    /// A word, a number, a quoted text.
    Scalar(String),
    /// A list.
    List(Vec<Node>),
    /// Keys and their values, in order, repetitions included.
    Mapping(Vec<(Node, Node)>),
}

impl Content {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Empty => "nothing",
            Self::Scalar(_) => "a single value",
            Self::List(_) => "a list",
            Self::Mapping(_) => "a mapping of keys to values",
        }
    }
}

impl Node {
    /// The text of a scalar.
    pub(super) fn scalar(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(text) => Some(text),
            Content::Empty | Content::List(_) | Content::Mapping(_) => None,
        }
    }
}

/// Reads the text of a file; one diagnostic when it is not YAML.
pub(super) fn read(text: &str) -> Result<Node, Box<Diagnostic>> {
    if let Some(diagnostic) = tab_in_indentation(text) {
        return Err(Box::new(diagnostic));
    }
    let mut options = Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options.merge_keys = MergeKeyPolicy::Merge;
    options.strict_booleans = true;
    options.with_snippet = false;
    let masked = Masked::new(text);
    match serde_saphyr::from_str_with_options::<Spanned<Any>>(&masked.text, options) {
        Ok(tree) => Ok(node(tree, text, &masked)),
        Err(error) => Err(Box::new(not_yaml(&error, text))),
    }
}

/// A text in which the brackets around IPv6 addresses are other characters. To YAML `[::1]:11211` without quotes is a list
/// and then a mistake; nobody who writes it means that, so the address is made a plain word of the same length.
struct Masked<'a> {
    text: Cow<'a, str>,
    /// What stands for the brackets: characters that the file does not have otherwise.
    brackets: Option<[char; 2]>,
}

impl<'a> Masked<'a> {
    fn new(text: &'a str) -> Self {
        let places = bracketed_addresses(text);
        let mut unused =
            ['(', ')', '^', '~', ';', '$', '<', '+', '=', '/'].into_iter().filter(|one| !text.contains(*one));
        let (false, Some(open), Some(close)) = (places.is_empty(), unused.next(), unused.next()) else {
            return Self { text: Cow::Borrowed(text), brackets: None };
        };
        let mut masked = String::with_capacity(text.len());
        let mut at = 0;
        for (start, end) in places {
            masked.push_str(&text[at..start]);
            masked.push(open);
            masked.push_str(&text[start + 1..end]);
            masked.push(close);
            at = end + 1;
        }
        masked.push_str(&text[at..]);
        Self { text: Cow::Owned(masked), brackets: Some([open, close]) }
    }

    /// What the file has where YAML has read `text`.
    fn unmasked(&self, text: String) -> String {
        match self.brackets {
            Some([open, close]) => text.replace(open, "[").replace(close, "]"),
            None => text,
        }
    }
}

/// The brackets of each IPv6 address that begins a word and has a port, as pairs of places.
fn bracketed_addresses(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (start, _) in text.match_indices('[') {
        let begins = start == 0 || text[..start].ends_with([' ', '\t', '\n', ',', '[', '{']);
        let rest = &text[start + 1..];
        // No address is longer, with the name of an interface behind it.
        let Some(length) = rest.bytes().take(64).position(|byte| byte == b']') else { continue };
        let behind = &rest.as_bytes()[length + 1..];
        let has_port = behind.first() == Some(&b':') && behind.get(1).is_some_and(u8::is_ascii_digit);
        let address = rest[..length].split('%').next().unwrap_or_default();
        if begins && has_port && address.parse::<Ipv6Addr>().is_ok() {
            found.push((start, start + 1 + length));
        }
    }
    found
}

fn tab_in_indentation(text: &str) -> Option<Diagnostic> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let indentation = line.len() - line.trim_start_matches([' ', '\t']).len();
        let blank = line.trim().is_empty() || line.trim_start().starts_with('#');
        if let Some(tab) = line[..indentation].find('\t')
            && !blank
        {
            return Some(
                Diagnostic::error(Some(start + tab..start + tab + 1), "a tab is used for indentation")
                    .label("a tab stands here")
                    .help("indent with spaces; YAML does not allow tabs"),
            );
        }
        start += line.len();
    }
    None
}

fn not_yaml(error: &serde_saphyr::Error, text: &str) -> Diagnostic {
    let span = error.location().map(|location| {
        let line = line_start(text, location.line()).min(text.len());
        let columns = usize_of(location.column().saturating_sub(1));
        let start = line + text[line..].chars().take(columns).map(char::len_utf8).sum::<usize>();
        let rest = text[start..].lines().next().map_or(0, str::len);
        let len = location.span().byte_len().map_or(0, usize_of).min(rest).max(1);
        start..(start + len).min(text.len())
    });
    let plain = error.to_string();
    let message = plain.lines().next().unwrap_or("it cannot be read").trim_start_matches("error: ");
    if message.contains("multiple YAML documents") {
        return Diagnostic::error(span, "the file holds several documents")
            .label("a second one starts here or above")
            .help("put all pools into one document: take out the lines `---`");
    }
    let message = message.split(" at line ").next().unwrap_or(message);
    if let Some(slip) = slips::behind(text, message, span.as_ref()) {
        return slip;
    }
    let line = span.as_ref().and_then(|span| text[..span.start].lines().next_back()).unwrap_or_default();
    let help =
        "to YAML a bracket begins a list: put what is no address of IPv6 with a port behind it in quotes".to_owned();
    let help = line.contains(['[', ']']).then_some(help);
    Diagnostic::error(span, format!("the file is not valid YAML: {message}")).maybe_help(help)
}

fn line_start(text: &str, line: u64) -> usize {
    let lines = usize_of(line.saturating_sub(1));
    text.split_inclusive('\n').take(lines).map(str::len).sum()
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Any YAML value, with places.
enum Any {
    Empty,
    Scalar(String),
    List(Vec<Spanned<Self>>),
    Mapping(Vec<(Spanned<Self>, Spanned<Self>)>),
}

fn node(tree: Spanned<Any>, text: &str, masked: &Masked<'_>) -> Node {
    let place = tree.referenced.span();
    let start = place.byte_offset().map_or(0, usize_of).min(text.len());
    let end = (start + place.byte_len().map_or(0, usize_of)).min(text.len());
    let content = match tree.value {
        Any::Empty => Content::Empty,
        // A plain scalar is what stands there; only quoted ones need YAML's reading.
        Any::Scalar(read) => match text.get(start..end).map(str::trim_end) {
            Some(written) if !written.is_empty() && !written.starts_with(['"', '\'', '|', '>', '&', '*', '!']) => {
                Content::Scalar(written.to_owned())
            }
            _ => Content::Scalar(masked.unmasked(read)),
        },
        Any::List(items) => Content::List(items.into_iter().map(|item| node(item, text, masked)).collect()),
        Any::Mapping(pairs) => {
            let pair = |(key, value)| (node(key, text, masked), node(value, text, masked));
            Content::Mapping(pairs.into_iter().map(pair).collect())
        }
    };
    let end = start + text.get(start..end).map_or(0, |written| written.trim_end().len());
    Node { span: start..end, content }
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Any;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Any, E> {
        Ok(Any::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Any, E> {
        Ok(Any::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Any, E> {
        Ok(Any::Scalar(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Any, E> {
        Ok(Any::Scalar(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Any, E> {
        Ok(Any::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Any, E> {
        Ok(Any::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Any, E> {
        Ok(Any::Scalar(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Any, E> {
        Ok(Any::Empty)
    }

    fn visit_none<E>(self) -> Result<Any, E> {
        Ok(Any::Empty)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Any, D::Error> {
        Any::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Any, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Any::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Any, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Any::Mapping(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    /// The listening address, the servers' lines as they are written out again, and the host that statsd is at.
    fn read(file: &str) -> (String, Vec<String>, Option<String>) {
        let config = parse("file", file).map_err(|report| report.render(false)).unwrap().config;
        let pool = &config.pools[0];
        let server = |server: &super::super::model::Server| format!("{} {}", server.address, server.name);
        let statsd = config.settings.statsd.map(|statsd| statsd.host);
        (pool.listen.to_string(), pool.servers.iter().map(server).collect(), statsd)
    }

    #[test]
    fn an_ipv6_address_needs_no_quotes() {
        let servers = ["[::1]:11211 [::1]", "[fe80::1%eth0]:11300 b", "[::ffff:10.0.0.1]:7 [::ffff:10.0.0.1]:7"];
        let block = "softmiss:\n  admin: [::]:9 # (all) of them\n  statsd: {address: [::2]:8125, prefix: x}\n\
                     pool:\n  listen: [::1]:11211\n  servers:\n    - [::1]:11211:1\n    - [fe80::1%eth0]:11300:2 b\n    \
                     -   [::ffff:10.0.0.1]:7:1\n";
        let (listen, mut told, statsd) = read(block);
        told.sort();
        let mut wanted = servers;
        wanted.sort();
        assert_eq!((listen.as_str(), statsd.as_deref()), ("[::1]:11211", Some("::2")));
        assert_eq!(told, wanted);
        let flow =
            "pool: {listen: [::1]:11211, servers: [[::1]:11211:1, [fe80::1%eth0]:11300:2 b,[::ffff:10.0.0.1]:7:1]}";
        assert_eq!(read(flow).1.len(), 3);
        // What is quoted is left as it is, and so is a list of one address.
        let quoted = "pool: {listen: \"[::1]:11211\", servers: ['[::1]:11211:1 (a)', ::1:7:1]}";
        assert_eq!(read(quoted).1, ["[::1]:11211 (a)", "[::1]:7 ::1:7"]);
    }
}
