//! What was meant where a file is not YAML, or says in YAML what nobody means: a colon without its blank, an equals sign, a
//! line that is indented otherwise than its neighbours, a quote that is not closed.

use std::borrow::Cow;

use super::diagnostic::{Diagnostic, Span};
use super::options::{is_of_pool, is_of_process};
use super::secret::{UNTOLD, is_secret, names_secret};

/// What is behind the words of the YAML library, `message`, and where, if it is one of the usual slips. The place that the
/// library names is where it could not go on; the slip is there or above.
pub(super) fn behind(text: &str, message: &str, span: Option<&Span>) -> Option<Diagnostic> {
    let stopped = span.map_or(text.len(), |span| span.start);
    let lines = lines(text);
    let stopped_in = lines.iter().rposition(|line| line.start <= stopped)?;
    // Of a line that is carried on behind its comment the library names the comment.
    let is_next = message.contains("comment intercepting") && stopped_in + 1 < lines.len();
    let last = stopped_in + usize::from(is_next);
    if message.contains("unclosed") {
        return span.map(|span| unclosed(text, span, &lines));
    }
    let in_line = |line: &Line<'_>| without_blank(line.words).map(|slip| slip.at(line));
    // What was carried on from a line above is taken for its value, so a mistake close above stops the library here as well.
    let mut above = lines[..last].iter().rev().take(LOOKED_AT);
    in_line(&lines[last]).or_else(|| shifted(&lines, last)).or_else(|| above.find_map(in_line))
}

/// Lines above the place that are looked at.
const LOOKED_AT: usize = 2;

/// A line of the file that says something.
#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    number: usize,
    /// Where its words begin.
    start: usize,
    indentation: usize,
    /// All of it, without the blanks around it.
    words: &'a str,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut at = 0;
    let mut found = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let words = line.trim();
        let indentation = line.len() - line.trim_start().len();
        if !words.is_empty() && !words.starts_with('#') {
            found.push(Line { number: index + 1, start: at + indentation, indentation, words });
        }
        at += line.len();
    }
    found
}

impl Line<'_> {
    /// The words without the comment behind them.
    fn meant(&self) -> &str {
        self.words.find(" #").map_or(self.words, |at| self.words[..at].trim_end())
    }

    /// Whether what belongs to it may stand deeper below it.
    fn is_parent(&self) -> bool {
        let last = self.meant().rsplit(' ').next().unwrap_or_default();
        let is_text = last.starts_with(['|', '>']) && last.len() <= 3;
        last.ends_with(':') || last == "-" || last.starts_with(['&', '!']) || is_text || self.is_in_brackets()
    }

    /// Whether brackets are open behind it, and what is within them may stand anywhere.
    fn is_in_brackets(&self) -> bool {
        self.meant().ends_with(['[', '{', ','])
    }
}

/// A slip in the words of a line.
#[derive(Debug)]
pub(super) struct Slip {
    /// Where it is, from the beginning of the words.
    span: Span,
    message: String,
    help: String,
}

impl Slip {
    fn at(self, line: &Line<'_>) -> Diagnostic {
        self.from(line.start)
    }

    /// Of words that begin here.
    pub(super) fn from(self, start: usize) -> Diagnostic {
        Diagnostic::error(Some(start + self.span.start..start + self.span.end), self.message).help(self.help)
    }
}

fn is_key(word: &str) -> bool {
    is_of_pool(word) || is_of_process(word)
}

/// `timeout:400` or `timeout = 400`, in words that begin with a key. Behind a dash stands a server, whose host may have the
/// name of a key.
pub(super) fn without_blank(words: &str) -> Option<Slip> {
    let name = words.bytes().take_while(|byte| byte.is_ascii_lowercase() || *byte == b'_').count();
    let (key, behind) = words.split_at(name);
    if !is_key(key) {
        return None;
    }
    let value = if is_secret(key) { UNTOLD } else { behind.trim_start_matches(['=', ':', ' ']) };
    if behind.starts_with(':') && !behind[1..].starts_with([' ', '\t']) && behind.len() > 1 {
        let message = format!("there is no blank behind `{key}:`, so this is no key with a value");
        return Some(Slip { span: 0..name + 1, message, help: format!("write `{key}: {value}`") });
    }
    if behind.trim_start().starts_with('=') {
        let message = format!("`{key}` is followed by `=`, and not by a colon");
        return Some(Slip { span: 0..name, message, help: format!("write `{key}: {value}`") });
    }
    None
}

/// Whether a value that stands behind these words of its line may be told: not where nobody knows the key, nor where there
/// is none and the line above has that of a secret.
fn may_be_told(before: &str, above: Option<&Line<'_>>) -> bool {
    let before = before.trim();
    match before.strip_suffix(':').map(|words| words.rsplit(['{', ',', ' ']).next().unwrap_or(words)) {
        Some(key) => is_key(key.trim_matches(['"', '\''])) && !names_secret(before),
        None => {
            before.starts_with('-') && !names_secret(before) && !above.is_some_and(|above| names_secret(above.words))
        }
    }
}

/// A quote or a bracket that is opened and not closed.
fn unclosed(text: &str, span: &Span, lines: &[Line<'_>]) -> Diagnostic {
    let opened = &text[span.start..];
    let line = opened.lines().next().unwrap_or_default();
    let begins = text[..span.start].rfind('\n').map_or(0, |end| end + 1);
    let above = lines.iter().rfind(|other| other.start < begins);
    let line = if may_be_told(&text[begins..span.start], above) {
        line.trim_end().trim_end_matches(',').to_owned()
    } else {
        opened.chars().take(1).chain(UNTOLD.chars()).collect()
    };
    let (what, end) = match opened.chars().next() {
        Some('[') => ("bracket", ']'),
        Some('{') => ("brace", '}'),
        Some(quote) => ("quote", quote),
        None => ("quote", '"'),
    };
    let help = format!("close it: `{line}{end}`");
    Diagnostic::error(
        Some(span.start..span.start + 1),
        format!("the file is not valid YAML: this {what} is not closed"),
    )
    .label("opened here")
    .help(help)
}

/// The words of a line as they may be told.
fn told<'a>(line: &Line<'a>, above: &Line<'_>) -> Cow<'a, str> {
    let words = line.words;
    let key = words.find(':').map(|colon| &words[..=colon]);
    let before = if words.starts_with('-') { "-" } else { key.unwrap_or_default() };
    if words.ends_with(':') || may_be_told(before, Some(above)) {
        return Cow::Borrowed(words);
    }
    key.map_or(Cow::Borrowed(UNTOLD), |key| Cow::Owned(format!("{key} {UNTOLD}")))
}

/// A line that is indented otherwise than those it belongs to.
fn shifted(lines: &[Line<'_>], last: usize) -> Option<Diagnostic> {
    let line = &lines[last];
    let before = lines[..last].last()?;
    // Those that it may stand below: the nearest with each indentation that is less than the one below it.
    let mut open: Vec<&Line<'_>> = Vec::new();
    for other in lines[..last].iter().rev() {
        if open.last().is_none_or(|below| other.indentation < below.indentation) {
            open.push(other);
        }
    }
    if open.iter().any(|other| other.indentation < line.indentation && other.is_in_brackets()) {
        return None;
    }
    let is_deeper = line.indentation > before.indentation && !before.is_parent();
    let is_between =
        !open.iter().any(|other| other.indentation == line.indentation) && line.indentation < before.indentation;
    if !is_deeper && !is_between {
        return None;
    }
    let beside = open.iter().min_by_key(|other| other.indentation.abs_diff(line.indentation))?;
    let blanks = |count: usize| if count == 1 { "1 blank".to_owned() } else { format!("{count} blanks") };
    let message = format!(
        "this line is indented by {}, and line {} above it by {}",
        blanks(line.indentation),
        beside.number,
        blanks(beside.indentation)
    );
    let example = format!("{}{}", " ".repeat(beside.indentation), told(line, before));
    Some(
        Diagnostic::error(Some(line.start..line.start + line.words.len()), message)
            .label("this one")
            .also(beside.start..beside.start + beside.words.len(), "is it to stand below this one?")
            .help(format!("what belongs together begins in one column:\n\n{example}")),
    )
}

/// The list of servers that was meant by one text, as it is to be written.
pub(super) fn as_servers(text: &str) -> String {
    let separators: &[char] = if text.contains(',') { &[','] } else { &[' ', '\n', '\t'] };
    let parts: Vec<&str> =
        text.split(separators).map(|part| part.trim().trim_start_matches(['-', '"', '\'']).trim()).collect();
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    // A word without a colon is the name of the one before it.
    let mut written = String::new();
    for part in parts {
        let is_name = !written.is_empty() && !part.contains(':');
        written.push_str(if is_name { " " } else { "\n      - " });
        written.push_str(part);
    }
    written
}
