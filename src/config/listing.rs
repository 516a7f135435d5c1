//! A file that lists servers, one on each line.

use std::path::Path;

use super::diagnostic::{Diagnostic, Report};
use super::findings::Findings;
use super::line;
use super::model::{COUNT_LIMIT, Server};
use super::reading::{read_at_once, text_with};
use super::servers::Lines;

/// Problems that are told of one file. Behind so many it is not read on: it is hardly a list of servers.
const MOST_PROBLEMS: usize = 50;

/// Reads such a file: on each line a server, as below `servers:`, with or without its dash. What stands behind `#` is a
/// remark.
///
/// # Errors
///
/// Its problems at once, each with its place, the first 50 of them. One that lists no server is one, too.
pub fn load(path: &Path) -> Result<Vec<Server>, Box<Report>> {
    let name = path.display().to_string();
    let unreadable = |message: String| Box::new(Report::new(&name, "", vec![Diagnostic::error(None, message)]));
    parse(&name, &text(path).map_err(unreadable)?)
}

/// The text of such a file. Its end is not waited for.
///
/// # Errors
///
/// Why it cannot be read, in words; that may be over the next time.
pub fn text(path: &Path) -> Result<String, String> {
    let text = text_with("list of servers", path, read_at_once)?;
    // Nobody writes into it just now.
    if text.is_empty() && std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err("this is a pipe or a device that says nothing, and not a file".to_owned());
    }
    Ok(text)
}

/// Reads the text of such a file; `name` is what to call it in messages.
///
/// # Errors
///
/// As [`load`].
pub fn parse(name: &str, text: &str) -> Result<Vec<Server>, Box<Report>> {
    let mut findings = Findings::default();
    let mut servers = Lines::default();
    let mut start = usize::from(text.starts_with('\u{feff}')) * '\u{feff}'.len_utf8();
    for written in text[start..].split_inclusive('\n') {
        let bare = written.trim_start_matches([' ', '\t']);
        let bare = bare.strip_prefix("- ").unwrap_or(bare).trim_start();
        let at = start + written.len() - bare.len();
        start += written.len();
        let server = bare.split(" #").next().unwrap_or_default().trim_end();
        if server.is_empty() || server.starts_with('#') {
            continue;
        }
        let span = at..at + server.len();
        if findings.list.len() >= MOST_PROBLEMS {
            findings.push(Diagnostic::warning(Some(span), "from here on the file has not been read"));
            break;
        }
        if let Some(read) = findings.check(&span, "server", line::server(server)) {
            servers.add(read, span, &mut findings);
        }
    }
    let servers = servers.found;
    if !findings.has_errors() && (servers.is_empty() || servers.len() > COUNT_LIMIT) {
        let message = format!("the file lists {} servers", servers.len());
        findings.push(Diagnostic::error(None, message).help("write `host:port:weight name`, one server a line"));
    }
    if findings.has_errors() {
        return Err(Box::new(Report::new(name, text, findings.list)));
    }
    Ok(servers.into_iter().map(|(server, _)| server).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_stand_one_on_a_line() {
        let text =
            "\u{feff}# ours\r\n10.0.0.1:11211:1 a\r\n\n  - 10.0.0.2:11211:2 b # second\n\t[::1]:7:1\n/u.sock:1 u\n";
        let servers = parse("file", text).expect("a good file");
        let told: Vec<_> = servers.iter().map(|one| format!("{} {} {}", one.name, one.address, one.weight)).collect();
        assert_eq!(told, ["a 10.0.0.1:11211 1", "b 10.0.0.2:11211 2", "[::1]:7 [::1]:7 1", "u /u.sock 1"]);
    }

    #[test]
    fn every_problem_has_its_place() {
        let report = parse("file", "a:1:1\nb:1\n\n  - c:1:0 c # no\na:1:2\n").expect_err("a bad file");
        let places: Vec<_> = report.diagnostics.iter().map(|one| report.place(one)).collect();
        assert_eq!(places, ["file:2:1", "file:4:5", "file:5:1"]);
        // One that is no list at all costs no more than some of its lines.
        let text = format!("a:1:1\n{}", "no server\n".repeat(100_000));
        let report = parse("file", &text).expect_err("a bad file");
        assert_eq!((report.errors(), report.diagnostics.len()), (MOST_PROBLEMS, MOST_PROBLEMS + 1));
        assert_eq!(report.place(&report.diagnostics[MOST_PROBLEMS]), "file:52:1");
        for empty in ["", "\n", "# nobody\n", "\u{feff}"] {
            let report = parse("file", empty).expect_err("a bad file");
            assert!(report.diagnostics[0].message.contains("0 servers"), "{empty:?}");
        }
    }
}
