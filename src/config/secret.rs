//! Options with values that are nobody's business, and may contain anything.

use std::borrow::Cow;
use std::ops::Range;

use super::options;

/// What is told in place of such a value.
pub(super) const UNTOLD: &str = "...";

/// Whether it is the key of a secret.
pub(super) fn is_secret(key: &str) -> bool {
    options::all().any(|option| option.is_secret && option.name == key)
}

/// Where the first name of a secret in a text begins and ends.
fn secret(text: &str) -> Option<Range<usize>> {
    let lower = text.to_ascii_lowercase().replace('-', "_");
    let secrets = options::all().filter(|option| option.is_secret).map(|option| option.name);
    let places = secrets.filter_map(|name| lower.find(name).map(|at| at..at + name.len()));
    places.min_by_key(|place| place.start)
}

/// Whether a text names a secret.
pub(super) fn names_secret(text: &str) -> bool {
    secret(text).is_some()
}

/// Words with what stands in the file, without the values of secrets in it. The words go into a log as well, which more
/// people read than the file.
pub(super) fn without_secrets(words: &str) -> Cow<'_, str> {
    if !names_secret(words) {
        return Cow::Borrowed(words);
    }
    Cow::Owned(words.split('\n').map(without_secret).collect::<Vec<_>>().join("\n"))
}

/// The same of words about this place of a text, which may be one that stands below the key of a secret.
pub(super) fn without_secrets_at<'w>(words: &'w str, text: &str, at: usize) -> Cow<'w, str> {
    if !is_below_secret(&text[..text.floor_char_boundary(at)]) {
        return without_secrets(words);
    }
    // What is in backticks is as it stands there, and so is an example of what to write.
    let untold = |(place, part)| if place % 2 == 1 && !is_secret(part) { UNTOLD } else { part };
    let words = words.split("\n\n").next().unwrap_or_default();
    Cow::Owned(words.split('`').enumerate().map(untold).collect::<Vec<_>>().join("`"))
}

/// Whether the last line of a text stands below the key of a secret: it is indented further than that, or one of a list.
fn is_below_secret(text: &str) -> bool {
    let indentation = |line: &str| line.len() - line.trim_start_matches([' ', '-']).len();
    let mut lines = text.lines().rev();
    // Those of one list may be indented as somebody has happened to.
    let Some(mut depth) = lines.next().map(indentation) else { return false };
    for line in lines {
        if line.trim_start().starts_with('-') {
            depth = depth.max(1);
        } else if indentation(line) < depth {
            return names_secret(line);
        }
    }
    false
}

fn without_secret(line: &str) -> Cow<'_, str> {
    let mut at = 0;
    while let Some(place) = secret(&line[at..]) {
        at += place.end;
        let behind = &line[at..];
        // A name alone is told in backticks, or in a list.
        if !behind.starts_with([':', '=', '"', '\'', ' ', '\t']) {
            continue;
        }
        let value = behind.trim_start_matches([':', '=', '"', '\'', ' ', '\t']);
        if value.is_empty() || value.starts_with('`') {
            continue;
        }
        let end = value.rfind('`').map_or("", |end| &value[end..]);
        return Cow::Owned(format!("{}: {UNTOLD}{end}", &line[..at]));
    }
    Cow::Borrowed(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_tell_no_secret() {
        for (words, told) in [
            ("write `timeout: 400`", "write `timeout: 400`"),
            ("write `redis_auth: a`b c`", "write `redis_auth: ...`"),
            ("`1 redis_auth:hunter2` is not a duration", "`1 redis_auth: ...` is not a duration"),
            ("  softmiss:\n    Admin-Token = x y\nend", "  softmiss:\n    Admin-Token: ...\nend"),
            ("{listen: a, \"redis_auth\": b, admin_token: c", "{listen: a, \"redis_auth: ..."),
            ("`redis_auth` takes a single value", "`redis_auth` takes a single value"),
            ("`redis_auth`, admin_token, redis_auth hunter2", "`redis_auth`, admin_token, redis_auth: ..."),
            ("write `redis_auth: `", "write `redis_auth: `"),
        ] {
            assert_eq!(without_secrets(words), told);
        }
    }
}
