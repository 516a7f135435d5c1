//! The pages and the help against the tables of the program: nothing is told that is not there, nothing is there that is not
//! told.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use softmiss::proto::resp::command;
use softmiss::proto::resp::plan::{self, CommandClass};

use super::support::http::get;
use super::support::process::{Proxy, free_port};
use super::support::wait_until;

fn text(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect(name)
}

/// What stands in backticks.
fn quoted(text: &str) -> BTreeSet<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// What stands in backticks in the first column of the tables.
fn first_column(text: &str) -> BTreeSet<&str> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_page_of_the_admin_port_is_told_of() {
    let (port, admin) = (free_port(), SocketAddr::from(([127, 0, 0, 1], free_port())));
    let pool = format!("p:\n  listen: 127.0.0.1:{port}\n  timeout: 400\n  servers: ['127.0.0.1:9:1']\n");
    let _proxy = Proxy::with_file(&format!("softmiss:\n  admin: {admin}\n{pool}"), port);
    wait_until("the admin port", Duration::from_secs(10), || TcpStream::connect(admin).is_ok());
    // The port lists what there is to whoever asks for something else.
    let listed = get(admin, "/nothing").body;
    let form = |words: &str| {
        let (method, path) = words.split_once(' ')?;
        (["GET", "POST"].contains(&method) && path.starts_with('/'))
            .then(|| format!("{method} {}", path.split('?').next().unwrap_or_default()))
    };
    let there: BTreeSet<String> = listed
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            form(&format!("{} {}", words.next()?, words.next()?))
        })
        .collect();
    assert!(there.len() >= 16, "{listed}");
    let page = text("docs/admin.md");
    let told: BTreeSet<String> = quoted(&page).into_iter().filter_map(form).collect();
    assert_eq!(told, there);
}

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_softmiss")).args(arguments).output().expect("softmiss");
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The flags, or the subcommands, that a help lists, of the lines that begin with them.
fn listed(help: &str, section: &str) -> BTreeSet<String> {
    let (_, rest) = help.split_once(&format!("{section}:\n")).expect(section);
    let lines = rest.lines().take_while(|line| !line.is_empty() && line.starts_with(' ') || line.is_empty());
    // A description stands further to the right, or behind its flag.
    let entries = lines.filter(|line| line.len() - line.trim_start().len() <= 6);
    let words = entries.flat_map(|line| line.trim_start().split("  ").next().unwrap_or_default().split([' ', ',']));
    words.filter(|word| !word.is_empty() && !word.starts_with(['<', '['])).map(str::to_owned).collect()
}

#[test]
fn every_flag_and_every_command_is_told_of_where_it_is_looked_for() {
    let main = help(&["-h"]);
    let flags = listed(&main, "Options");
    let page = text("docs/configuration.md");
    let (_, section) = page.split_once("## Flags").expect("a section on flags");
    let told: BTreeSet<String> = quoted(section)
        .into_iter()
        .filter_map(|words| words.split(' ').next())
        .filter(|word| word.starts_with('-'))
        .map(str::to_owned)
        .collect();
    let short: BTreeSet<String> = flags.iter().filter(|flag| flag.len() == 2 || *flag == "--admin").cloned().collect();
    assert!(short.len() >= 14, "{flags:?}");
    assert_eq!(told, short, "the page, and the help");

    let commands: BTreeSet<String> = listed(&main, "Commands").into_iter().filter(|name| name != "help").collect();
    assert_eq!(
        commands,
        ["check", "completions", "demo", "health", "man", "reload", "route", "top", "upgrade"]
            .map(str::to_owned)
            .into(),
        "{main}"
    );
    let all: String = [
        "README.md",
        "docs/quick-start.md",
        "docs/install.md",
        "docs/faq.md",
        "docs/configuration.md",
        "docs/failure-modes.md",
        "docs/runbook.md",
        "docs/admin.md",
        "docs/operations.md",
    ]
    .map(text)
    .concat();
    for command in &commands {
        assert!(
            all.contains(&format!("softmiss {command}")) || all.contains(&format!("-- {command}")),
            "{command} is on no page"
        );
        assert!(main.contains(&format!("softmiss {command}")), "{command} has no example in the help");
        // What a page has a command do, it can do.
        let known = listed(&help(&[command, "-h"]), "Options");
        for words in quoted(&all)
            .into_iter()
            .filter(|words| !words.contains('\n'))
            .chain(all.lines())
            .filter_map(|words| words.split_once(&format!("softmiss {command} ")))
        {
            for flag in words
                .1
                .split(['#', '`', '|'])
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .filter(|word| word.starts_with('-') && word.len() > 1)
            {
                assert!(known.contains(flag), "softmiss {command} {}: there is no {flag}", words.1);
            }
        }
    }
}

/// The page is made of the definitions of the flags and of the tables of options, so what it has not is not there.
#[test]
fn the_manual_has_every_flag_every_command_and_every_option() {
    // What is bold there begins with this, and a `-` is written so.
    let page = help(&["man"]).replace("\\-", "-");
    let bold: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("\\fB")?.split("\\fR").next()).collect();
    let there = |name: &str| bold.iter().any(|words| words.split(", ").any(|word| word == name));
    for option in softmiss::config::options::all() {
        assert!(there(option.name), "{} is not in {bold:?}", option.name);
        // It says what the option is when the file does not.
        if let softmiss::config::options::Default::Is(text) = option.default {
            assert!(page.contains(&format!("default: {text}")), "{}: {text}", option.name);
        }
    }
    let main = help(&["-h"]);
    for flag in listed(&main, "Options") {
        assert!(there(&flag) || page.contains(&format!("\\fB{flag}\\fR")), "{flag}");
    }
    for command in listed(&main, "Commands").into_iter().filter(|name| name != "help") {
        assert!(page.contains(&format!(".SS \"softmiss {command}")), "{command}");
        for flag in listed(&help(&[&command, "-h"]), "Options").into_iter().filter(|flag| flag.starts_with("--")) {
            let known = ["--help", "--conf-file"].contains(&&*flag);
            assert!(known || there(&flag), "softmiss {command} {flag}");
        }
    }
    for signal in ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU"] {
        assert!(there(signal), "{signal}");
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// What of a message is always the same: all but what is put into it.
fn pieces(message: &str) -> Vec<&str> {
    message
        .split('{')
        .enumerate()
        .map(|(number, part)| if number == 0 { part } else { part.split_once('}').map_or(part, |(_, part)| part) })
        .collect()
}

/// Whether a page's words are this message, or its beginning.
pub(crate) fn is_told_by(message: &str, told: &str) -> bool {
    let pieces = pieces(message);
    let [first, more @ ..] = &pieces[..] else { return false };
    let whole = || !first.is_empty() && told.starts_with(first) && more.iter().all(|piece| told.contains(piece));
    first.starts_with(told) || whole()
}

/// The messages that the program logs, with what is put into them in braces.
pub(crate) fn messages() -> BTreeSet<String> {
    logged().into_iter().map(|(message, _)| message).collect()
}

/// The messages that the program logs, each with the text that says what is told with it.
pub(crate) fn logged() -> BTreeSet<(String, String)> {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut found = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a file");
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for start in ["info!(", "warn!(", "error!("] {
            for (at, _) in text.match_indices(start) {
                if text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
                    continue;
                }
                // To the bracket that closes it, outside of texts; the last text at its top is the message.
                let (mut depth, mut begun, mut last, mut escaped, mut end) = (1, None, None, false, 0);
                let body = &text[at + start.len()..];
                for (place, one) in body.char_indices() {
                    match (one, begun) {
                        _ if escaped => escaped = false,
                        ('\\', Some(_)) => escaped = true,
                        ('"', Some(from)) => {
                            last = (depth == 1).then(|| &body[from..place]).or(last);
                            begun = None;
                        }
                        ('"', None) => begun = Some(place + 1),
                        (_, Some(_)) => {}
                        ('(' | '[' | '{', None) => depth += 1,
                        (')' | ']' | '}', None) => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 {
                        end = place;
                        break;
                    }
                }
                let message: String = last.unwrap_or_default().split("\\\n").map(str::trim_start).collect();
                if !pieces(&message).concat().trim().is_empty() {
                    found.insert((message, body[..end].to_owned()));
                }
            }
        }
    }
    found
}

#[test]
fn every_line_of_the_log_is_explained() {
    let page = text("docs/failure-modes.md");
    let (_, section) = page.split_once("## What the log says").expect("a section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let told: Vec<&str> = first_column(section).into_iter().collect();
    let there = messages();
    assert!(there.len() > 35, "{there:?}");
    let missing: Vec<_> = there.iter().filter(|message| !told.iter().any(|told| is_told_by(message, told))).collect();
    assert!(missing.is_empty(), "no row for {missing:#?}");
    let gone: Vec<_> = told.iter().filter(|told| !there.iter().any(|message| is_told_by(message, told))).collect();
    assert!(gone.is_empty(), "nobody logs {gone:#?}");
}

#[test]
fn commands_of_redis_go_where_the_page_says() {
    let page = text("docs/redis.md");
    let (_, section) = page.split_once("## Where a command goes").expect("a section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let class = |name: &str| {
        let (name, sub) = name.split_once(' ').unwrap_or((name, ""));
        let command = command::find(name.as_bytes()).unwrap_or_else(|| panic!("there is no {name}"));
        let sub = (!sub.is_empty())
            .then(|| command.subcommand(sub.as_bytes()).unwrap_or_else(|| panic!("there is no {name} {sub}")));
        plan::of(sub.unwrap_or(command)).class
    };
    let mut seen = 0;
    for row in section.lines().filter_map(|line| line.strip_prefix("| ")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [commands, to, ..] = cells[..] else { continue };
        for words in quoted(commands) {
            let (name, subs) = words.split_once(' ').unwrap_or((words, ""));
            if name.len() < 2 || !name.bytes().all(|byte| byte.is_ascii_uppercase()) || subs.contains(['*', '_']) {
                continue;
            }
            let subs: Vec<&str> =
                subs.split('/').filter(|sub| sub.bytes().all(|byte| byte.is_ascii_uppercase())).collect();
            // Of a command that has subcommands only these are looked at; of others, words behind the name are options.
            let has_more = command::find(name.as_bytes()).is_some_and(|command| !command.subcommands.is_empty());
            let subs = if has_more { subs } else { vec![""] };
            for sub in subs.into_iter().filter(|sub| !(sub.is_empty() && has_more)) {
                let class = class(format!("{name} {sub}").trim());
                let fits = match to {
                    to if to.starts_with("to all") => {
                        matches!(class, CommandClass::Everywhere(_) | CommandClass::Monitor)
                    }
                    to if to.starts_with("in parts") => matches!(class, CommandClass::Split(_)),
                    to if to.starts_with("answered here") => matches!(class, CommandClass::Local(_)),
                    to if to.starts_with("nowhere: ") => {
                        !matches!(class, CommandClass::Split(_) | CommandClass::Everywhere(_))
                    }
                    _ => true,
                };
                assert!(fits, "{name} {sub}: {class:?}, and the page says {to}");
                seen += 1;
            }
        }
    }
    assert!(seen > 40, "only {seen}");
}
