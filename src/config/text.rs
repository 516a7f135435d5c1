//! What stands in a file without being meant: variables that nobody has put a value for, characters that cannot be seen.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::diagnostic::{Diagnostic, Severity};
use super::findings::Findings;
use super::raw::{Content, Node};
use super::secret::is_secret;

const EXPAND: &str =
    "write the value itself, or put it there before the start: `envsubst < template.yml > softmiss.yml`";

/// Notes everything in the file that looks like a variable.
pub(super) fn variables(root: &Node, findings: &mut Findings) {
    look(root, None, findings);
}

fn look(node: &Node, key: Option<&str>, findings: &mut Findings) {
    match &node.content {
        Content::Empty => {}
        Content::Scalar(text) => {
            if let Some(variable) = variable(text) {
                tell(node, key, variable, findings);
            }
        }
        Content::List(items) => items.iter().for_each(|item| look(item, key, findings)),
        Content::Mapping(pairs) => {
            for (name, value) in pairs {
                look(name, None, findings);
                look(value, key.filter(|key| is_secret(key)).or_else(|| name.scalar()), findings);
            }
        }
    }
}

fn tell(node: &Node, key: Option<&str>, variable: &str, findings: &mut Findings) {
    let refused = |one: &&mut Diagnostic| one.severity == Severity::Error && one.span.as_ref() == Some(&node.span);
    if let Some(error) = findings.list.iter_mut().find(refused) {
        error.help = Some(format!("variables are not expanded here: {EXPAND}"));
        return;
    }
    let message = match key {
        // Part of a password may look like anything, and its line is shown: only what is a variable and nothing else is told.
        Some(key) if is_secret(key) && !is_all(node, variable) => return,
        Some(key) if is_secret(key) => {
            format!("`{key}` holds what looks like a variable; it is taken as it stands")
        }
        _ => format!("`{variable}` is taken as it stands: variables are not expanded"),
    };
    findings.push(Diagnostic::warning(Some(node.span.clone()), message).help(EXPAND));
}

/// Whether a value is a variable in braces and nothing else.
fn is_all(node: &Node, variable: &str) -> bool {
    node.scalar() == Some(variable) && variable.ends_with(['}', ')', '>'])
}

/// The first part of a text that looks like a variable of a shell or of a template.
pub(super) fn variable(text: &str) -> Option<&str> {
    for (start, end) in [("${", "}"), ("{{", "}}"), ("<%", "%>"), ("$(", ")")] {
        if let Some(at) = text.find(start)
            && let Some(length) = text[at + 2..].find(end)
            && length > 0
        {
            return Some(&text[at..at + 2 + length + end.len()]);
        }
    }
    let at = text.find('$')?;
    let name = text[at + 1..].bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    let named = &text[at + 1..at + 1 + name];
    (named.len() > 1 && named.starts_with(|first: char| first.is_ascii_uppercase() || first == '_'))
        .then(|| &text[at..at + 1 + name])
}

/// Whether a character cannot be seen, or changes how others are shown.
pub(crate) fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A name with what cannot be seen in it made visible. Names are written in the log, on terminals, into lines of both
/// protocols and into metrics, and none of these is to be led astray by one.
pub(super) fn visible(name: &str) -> Cow<'_, str> {
    if !name.contains(is_unseen) {
        return Cow::Borrowed(name);
    }
    let mut shown = String::with_capacity(name.len() + 8);
    for character in name.chars() {
        if is_unseen(character) {
            let code = u32::from(character);
            let _ = if code < 256 { write!(shown, "\\x{code:02x}") } else { write!(shown, "\\u{{{code:x}}}") };
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_looks_like_a_variable_is_not_shown() {
        let said = |password: &str| {
            let file = format!(
                "p:\n  listen: 127.0.0.1:1\n  redis: true\n  timeout: 400\n  redis_auth: {password}\n  servers: ['10.0.0.1:1:1']\n"
            );
            crate::config::parse("file", &file)
                .expect("a good file")
                .warnings
                .to_string()
                .matches("looks like a variable")
                .count()
        };
        for password in ["Xk$Ab12", "a${b}c", "x{{y}}"] {
            assert_eq!(said(password), 0, "{password}");
        }
        assert_eq!(said("${REDIS_PASSWORD}"), 1);
    }

    #[test]
    fn variables_are_known() {
        for (text, wanted) in [
            ("${HOST}:11211:1", Some("${HOST}")),
            ("x-${a.b}", Some("${a.b}")),
            ("$CACHE_1:11211:1", Some("$CACHE_1")),
            ("{{ listen }}", Some("{{ listen }}")),
            ("<%= @a %>", Some("<%= @a %>")),
            ("$(hostname):1:1", Some("$(hostname)")),
            ("{}", None),
            ("{{", None),
            ("${}", None),
            ("pa$$word", None),
            ("$5", None),
            ("a$", None),
            ("10.0.0.1:11211:1 a", None),
        ] {
            assert_eq!(variable(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_shown() {
        assert_eq!(visible("a b\u{e9}\u{1f600}"), "a b\u{e9}\u{1f600}");
        assert_eq!(visible("a\u{1b}[31m\nb\u{7f}\u{85}\u{202e}"), "a\\x1b[31m\\x0ab\\x7f\\x85\\u{202e}");
    }
}
