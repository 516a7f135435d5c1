//! What a pool says of `sasl`: its users, or the file that lists them.

#![expect(clippy::wildcard_enum_match_arm, reason = "what is not the wanted kind of node is named in the message")]

use std::path::Path;

use super::diagnostic::Diagnostic;
use super::findings::Findings;
use super::raw::{Content, Node};
use super::reading::{read_at_once, text_with};
use super::text::is_unseen;
use super::users::Users;

const EXAMPLE: &str =
    "write `sasl: /etc/softmiss/users`, a file with a line `user:password` for each, or `sasl: [\"user:password\"]`";

/// `None` when something is wrong with it.
pub(super) fn resolve(key: &Node, node: &Node, findings: &mut Findings) -> Option<Users> {
    let span = || Some(if node.span.is_empty() { key.span.clone() } else { node.span.clone() });
    let items = match &node.content {
        Content::Scalar(path) if path.starts_with('/') => return of_file(path, node, findings),
        Content::Scalar(_) => std::slice::from_ref(node),
        Content::List(items) => items,
        other => {
            let message =
                format!("`sasl` takes a list of users, or the path of a file with them, not {}", other.kind());
            findings.push(Diagnostic::error(span(), message).help(EXAMPLE));
            return None;
        }
    };
    let mut known = Known::default();
    for item in items {
        let read = match &item.content {
            Content::Scalar(text) => known.add(text),
            _ => Err("a user is one line of text, `user:password`"),
        };
        if let Err(message) = read {
            let help = "where there are blanks in it or behind the colon, write it in quotes: `- \"user:password\"`";
            findings.push(Diagnostic::error(Some(item.span.clone()), message).help(help));
        }
    }
    if items.is_empty() {
        let message = "`sasl` lists nobody, so that nobody could come in";
        findings.push(Diagnostic::error(span(), message).help("list somebody, or leave it out"));
    }
    Some(Users { file: None, known: known.0 })
}

/// Those that a file lists, one on each line as in memcached's own files. Empty lines, and what begins with `#`, are nobody.
fn of_file(path: &str, node: &Node, findings: &mut Findings) -> Option<Users> {
    let error = |message: String| Diagnostic::error(Some(node.span.clone()), message);
    let text = match text_with("file of users", Path::new(path), read_at_once) {
        Ok(text) => text,
        Err(message) => {
            findings
                .push(error(message).help("it has to be there, and to be read by whoever runs this, from the start"));
            return None;
        }
    };
    let mut known = Known::default();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        // The line itself is nobody's business.
        if let Err(message) = known.add(line) {
            let help = "each line of it is `user:password`";
            findings.push(error(format!("line {number} of the file: {message}")).help(help));
            return None;
        }
    }
    if known.0.is_empty() {
        findings.push(error("the file lists nobody, so that nobody could come in".to_owned()).help(EXAMPLE));
        return None;
    }
    Some(Users { file: Some(path.into()), known: known.0 })
}

/// Those that have been read.
#[derive(Default)]
struct Known(Vec<(String, String)>);

impl Known {
    fn add(&mut self, line: &str) -> Result<(), &'static str> {
        let Some((name, password)) = line.split_once(':') else { return Err("there is no colon behind the user") };
        if name.is_empty() || password.is_empty() {
            return Err("there is nothing before, or behind, the colon");
        }
        if line.contains(is_unseen) {
            return Err("there is a character in it that cannot be seen");
        }
        if self.0.iter().any(|(known, _)| known == name) {
            return Err("this user is listed twice");
        }
        self.0.push((name.to_owned(), password.to_owned()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{parse, write};

    fn read(lines: &str) -> Result<crate::config::model::Pool, String> {
        let file = format!("p:\n  listen: /nowhere\n  timeout: 400\n  {lines}\n  servers: ['a:1:1']\n");
        parse("file", &file).map(|loaded| loaded.config.pools[0].clone()).map_err(|report| report.render(false))
    }

    fn users(lines: &str) -> Vec<(String, String)> {
        let pool = read(lines).expect("a good file");
        pool.sasl.iter().flat_map(|users| users.known.clone()).collect()
    }

    fn named(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, password)| ((*name).to_owned(), (*password).to_owned())).collect()
    }

    fn file(text: &str) -> std::path::PathBuf {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("softmiss-users-{}-{number}", std::process::id()));
        std::fs::write(&path, text).expect("a file");
        path
    }

    #[test]
    fn users_stand_in_the_file_or_in_one_of_their_own() {
        assert_eq!(users("rise: 1"), []);
        assert_eq!(users("sasl: app:secret"), named(&[("app", "secret")]));
        let both = named(&[("app", "a:b c"), ("other", "1234")]);
        assert_eq!(users("sasl: [\"app:a:b c\", 'other:1234']"), both);
        assert_eq!(users("sasl:\n    - \"app:a:b c\"\n    - other:1234"), both);
        let path = file("# who\n\napp:a:b c\r\nother:1234");
        assert_eq!(users(&format!("sasl: {}", path.display())), both);
        std::fs::remove_file(path).expect("it is there");
    }

    #[test]
    fn what_they_cannot_be_is_refused_with_the_reason_and_without_a_password() {
        let colon = file("app:hunter2\nhunter2\n");
        let nobody = file("\n# app:hunter2\n");
        let refused = |lines: &str| {
            let told = read(lines).expect_err("it is refused");
            let said: Vec<_> = told.lines().filter(|line| !line.contains(" | ")).collect();
            assert!(!said.join("\n").contains("hunter2"), "{told}");
            told
        };
        for (lines, told) in [
            ("sasl: true".to_owned(), "there is no colon behind the user"),
            ("sasl:".to_owned(), "takes a list of users, or the path of a file with them, not "),
            ("sasl: []".to_owned(), "lists nobody"),
            ("sasl: {app: hunter2}".to_owned(), "takes a list of users, or the path of a file with them, not "),
            ("sasl: [app: hunter2]".to_owned(), "a user is one line of text"),
            ("sasl: [\":hunter2\"]".to_owned(), "nothing before, or behind, the colon"),
            ("sasl: [\"app:\"]".to_owned(), "nothing before, or behind, the colon"),
            ("sasl: [\"app:hunter2\\0\"]".to_owned(), "cannot be seen"),
            ("sasl: [app:hunter2, app:b]".to_owned(), "listed twice"),
            ("sasl: /nowhere/users".to_owned(), "the file of users cannot be read: No such file"),
            (format!("sasl: {}", colon.display()), "line 2 of the file: there is no colon behind the user"),
            (format!("sasl: {}", nobody.display()), "the file lists nobody"),
            ("redis: true\n  sasl: app:hunter2".to_owned(), "`sasl` is for memcached pools"),
        ] {
            let said = refused(&lines);
            assert!(said.contains(told), "{lines}\n{said}");
        }
        for path in [colon, nobody] {
            std::fs::remove_file(path).expect("it is there");
        }
    }

    #[test]
    fn no_password_is_told_and_another_one_is_a_difference() {
        let path = file("app:hunter2\n");
        let line = format!("sasl: {}", path.display());
        let of_file = read(&line).expect("a good file");
        std::fs::write(&path, "app:hunter3\n").expect("a file");
        let changed = read(&line).expect("a good file");
        let (here, other) =
            (read("sasl: [app:hunter2]").expect("a good file"), read("sasl: [app:x]").expect("a good file"));
        let differences = crate::config::options::pool_differences;
        for (before, after) in [(&of_file, &changed), (&here, &other), (&here, &of_file)] {
            let found = differences(before, after);
            assert_eq!(found.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["sasl"]);
            assert!(!format!("{found:?} {before:?} {after:?}").contains("hunter"), "{found:?}");
        }
        assert!(differences(&of_file, &of_file).is_empty() && differences(&here, &here).is_empty());
        let nobody = read("rise: 1").expect("a good file");
        assert_eq!(differences(&nobody, &here).len(), 1);
        for pool in [&of_file, &here] {
            let config = crate::config::model::Config { settings: Default::default(), pools: vec![pool.clone()] };
            let text = write(&config);
            assert!(text.contains("\n  sasl: ") && !text.contains("hunter"), "{text}");
            let again = parse("again", &text).map_err(|report| report.render(false)).expect("it reads");
            // Of who does not tell its passwords, it is not known whether it has others.
            assert_eq!(
                differences(&again.config.pools[0], &here).len(),
                usize::from(pool.sasl.as_ref().unwrap().file.is_some())
            );
            assert_eq!(
                again.config.pools[0].sasl.as_ref().unwrap().iter().map(|(name, _)| name).collect::<Vec<_>>(),
                ["app"]
            );
        }
        std::fs::remove_file(path).expect("it is there");
    }
}
