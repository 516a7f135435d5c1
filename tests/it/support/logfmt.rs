//! Lines of the log, taken apart by a reader that forgives nothing.

/// A line: when, how bad, what, and the fields behind it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) level: String,
    pub(crate) message: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Line {
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.fields.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// Takes a line apart.
pub(crate) fn parse(line: &str) -> Result<Line, String> {
    let shown = |why: &str| Err(format!("{why} in {line:?}"));
    if line.chars().any(char::is_control) {
        return shown("a control character");
    }
    let Some((time, rest)) = line.split_once(' ') else { return shown("no time") };
    let form: String = time.chars().map(|one| if one.is_ascii_digit() { '0' } else { one }).collect();
    if form != "0000-00-00T00:00:00.000000Z" {
        return shown("no time");
    }
    let Some((level, rest)) = rest.trim_start().split_once(' ') else { return shown("no level") };
    if !["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&level) {
        return shown("no level");
    }
    let mut words = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    let mut rest = rest;
    while !rest.is_empty() {
        let end = rest.find(['=', ' ', '"']).unwrap_or(rest.len());
        let word = &rest[..end];
        match rest.as_bytes().get(end) {
            Some(b'"') => return shown("a quote in a word"),
            Some(b'=') => {
                let is_name = |one: u8| one.is_ascii_lowercase() || one.is_ascii_digit() || one == b'_';
                if word.is_empty() || !word.bytes().all(is_name) {
                    return shown("no name of a field");
                }
                let (value, behind) = value(&rest[end + 1..]).ok_or_else(|| format!("no value in {line:?}"))?;
                if fields.iter().any(|(name, _)| name == word) {
                    return shown("a field twice");
                }
                fields.push((word.to_owned(), value));
                rest = behind;
            }
            _ if !fields.is_empty() => return shown("a word behind the fields"),
            _ => {
                words.push(word);
                rest = &rest[end..];
            }
        }
        match rest.strip_prefix(' ') {
            Some(next) if !next.is_empty() => rest = next,
            None if rest.is_empty() => {}
            _ => return shown("something behind a value"),
        }
    }
    let mut message = words.join(" ");
    if message.is_empty() {
        match fields.first() {
            Some((name, value)) if name == "message" => message.clone_from(value),
            _ => return shown("no message"),
        }
    }
    Ok(Line { level: level.to_owned(), message, fields })
}

/// A value at the beginning of a text, and what stands behind it.
fn value(text: &str) -> Option<(String, &str)> {
    if !text.starts_with('"') {
        let end = text.find(' ').unwrap_or(text.len());
        let bare = &text[..end];
        let plain = !bare.is_empty() && !bare.contains(['=', '"', '\\']);
        return plain.then(|| (bare.to_owned(), &text[end..]));
    }
    let mut escaped = false;
    for (at, one) in text.char_indices().skip(1) {
        match one {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => {
                // What is in quotes is as in JSON.
                let value = serde_json::from_str(&text[..=at]).ok()?;
                return Some((value, &text[at + 1..]));
            }
            _ => {}
        }
    }
    None
}
