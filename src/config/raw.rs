//! The file as it was written: a tree of nodes, each with its place.
//!
//! All that is known of the YAML library stays in here. Scalars are kept as the text that stands in the file, so that a
//! number is read by our rules and not by YAML's (`010`, `1_000` and `yes` are not what YAML makes of them).

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy, Options, Spanned};

use super::diagnostic::{Diagnostic, Span};

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
pub(super) fn read(text: &str) -> Result<Node, Diagnostic> {
    if let Some(diagnostic) = tab_in_indentation(text) {
        return Err(diagnostic);
    }
    let mut options = Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options.merge_keys = MergeKeyPolicy::Merge;
    options.strict_booleans = true;
    options.with_snippet = false;
    match serde_saphyr::from_str_with_options::<Spanned<Any>>(text, options) {
        Ok(tree) => Ok(node(tree, text)),
        Err(error) => Err(not_yaml(&error, text)),
    }
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
    Diagnostic::error(span, format!("the file is not valid YAML: {message}"))
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

fn node(tree: Spanned<Any>, text: &str) -> Node {
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
            _ => Content::Scalar(read),
        },
        Any::List(items) => Content::List(items.into_iter().map(|item| node(item, text)).collect()),
        Any::Mapping(pairs) => {
            Content::Mapping(pairs.into_iter().map(|(key, value)| (node(key, text), node(value, text))).collect())
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
