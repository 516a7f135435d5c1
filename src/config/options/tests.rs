//! The tables against the pages, the example and the program's defaults.

use std::collections::BTreeSet;

use super::*;
use crate::config::{parse, write};

const PAGE: &str = include_str!("../../../docs/configuration.md");
const EXAMPLE: &str = include_str!("../../../conf/example.yml");

/// Where the remarks of the example begin.
const REMARKS: usize = 34;

/// What begins the row of an option on the page.
fn row(about: &About) -> String {
    let default = match about.default {
        Default::Required => "required".to_owned(),
        Default::None => "none".to_owned(),
        Default::Is(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.to_owned(),
        Default::Is(text) => format!("`{text}`"),
        Default::Told(words) => words.to_owned(),
    };
    let limits = Some(about.limits.in_words()).filter(|words| !words.is_empty());
    let limits = limits.map(|words| words + " ").unwrap_or_default();
    format!("| `{}` | {default} | {limits}| ", about.name)
}

/// The lines of an option in the example.
fn shown(about: &About, indentation: usize, is_pools: bool) -> String {
    let value = match (about.example, about.default) {
        ("", Default::Is(default)) => default,
        (example, _) => example,
    };
    let rare = if about.is_rare { "# " } else { "" };
    let new = if is_pools && about.is_new { "(new) " } else { "" };
    let head = format!("{}{rare}{}: {value}", " ".repeat(indentation), about.name);
    let width = REMARKS.max(head.len() + 1);
    let mut lines = about.what.lines();
    let first = format!("{head:<width$}# {new}{}\n", lines.next().unwrap_or_default());
    lines.fold(first, |text, line| format!("{text}{:REMARKS$}# {line}\n", ""))
}

#[test]
fn every_option_is_on_the_page_with_its_default_and_its_limits() {
    let missing: Vec<String> = all().map(row).filter(|row| !PAGE.contains(&format!("\n{row}"))).collect();
    assert!(missing.is_empty(), "docs/configuration.md has no such rows:\n{}", missing.join("...\n"));
    let known: BTreeSet<&str> = all().map(|about| about.name).collect();
    let told = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let unknown: Vec<&str> = told.filter(|name| !known.contains(name)).collect();
    assert!(unknown.is_empty(), "docs/configuration.md has rows for what is no option: {unknown:?}");
    for alias in all().filter_map(|about| about.alias) {
        assert!(PAGE.contains(&format!("`{alias}` is another name for it")), "{alias}");
    }
    for name in [names(STATSD), names(LOG)].concat() {
        assert!(PAGE.contains(name), "{name}");
    }
}

#[test]
fn every_option_is_in_the_example() {
    let pools = POOL.iter().map(|option| (&option.about, 2, true));
    let process = PROCESS.iter().map(|option| (&option.about, 2, false));
    let log = LOG.iter().map(|option| (&option.about, 4, false));
    let mut missing = String::new();
    for (about, indentation, is_pools) in pools.chain(process).chain(log) {
        // What stands in lines below its key is looked at there.
        let lines = match about.name {
            "servers" | "log" => format!("  {}:", about.name),
            _ => shown(about, indentation, is_pools),
        };
        if !EXAMPLE.contains(&format!("\n{lines}")) {
            missing += &lines;
        }
    }
    assert!(missing.is_empty(), "conf/example.yml has no such lines:\n{missing}");
    for name in names(STATSD) {
        assert!(EXAMPLE.contains(&format!("{name}: ")), "{name}");
    }
}

#[test]
fn what_stands_in_lines_below_a_key_is_told_in_one() {
    let lines = ["  wait: 2s", "  keys:", "    - \"page:\"", "    - \"flag:\"", "  lease: 5s"].map(str::to_owned);
    assert_eq!(as_words(&lines), "wait: 2s, keys: [\"page:\", \"flag:\"], lease: 5s");
    assert_eq!(as_words(&lines[1..4]), "keys: [\"page:\", \"flag:\"]");
}

/// A file with a line more for the process, or for the pool of a protocol; what it says, or what is wrong.
fn with(about: &About, value: Option<&str>) -> Result<String, String> {
    let line = value.map(|value| format!("  {}: {value}\n", about.name)).unwrap_or_default();
    let (process, pool) = if is_of_pool(about.name) { ("", line.as_str()) } else { (line.as_str(), "") };
    let is_redis = about.only == Only::Redis || about.name == "redis";
    let redis = if is_redis && about.name != "redis" { "  redis: true\n" } else { "" };
    let text = format!("softmiss:\n{process}p:\n  listen: /nowhere\n{redis}{pool}  servers: ['a:1:1']\n");
    parse("file", &text).map(|loaded| write(&loaded.config)).map_err(|report| report.render(false))
}

#[test]
fn every_default_is_what_holds_when_the_file_does_not_say() {
    for about in all() {
        match about.default {
            Default::Is(text) => assert_eq!(with(about, Some(text)), with(about, None), "{}: {text}", about.name),
            Default::None => {
                let text = with(about, None).expect("a good file");
                let said = text.lines().filter_map(|line| line.trim().strip_prefix(about.name)?.strip_prefix(": "));
                let said: Vec<&str> = said.collect();
                assert!(said.is_empty() || said == ["0"], "{}: {said:?}", about.name);
            }
            Default::Required | Default::Told(_) => {}
        }
    }
    for (about, text) in [("level", "info"), ("format", "text")] {
        let log = PROCESS.iter().map(|option| &option.about).find(|option| option.name == "log").expect("an option");
        assert_eq!(with(log, Some(&format!("{{{about}: {text}}}"))), with(log, None));
    }
}

#[test]
fn values_are_taken_up_to_their_limits_and_not_beyond() {
    for about in all() {
        let (least, most) = match about.limits {
            Limits::Numbers(least, most) if about.name != "servers" => (least, most),
            Limits::Sizes(least, most) => (least as u64, most as u64),
            Limits::Numbers(..) | Limits::Any | Limits::Told(_) => continue,
        };
        for (value, is_good) in
            [(Some(least), true), (Some(most), true), (least.checked_sub(1), false), (Some(most + 1), false)]
        {
            let Some(value) = value else { continue };
            let told = with(about, Some(&value.to_string()));
            // What is too much for another option is another matter.
            let is_taken = told.as_ref().map_or_else(|told| !told.contains("out of range"), |_| true);
            assert_eq!(is_taken, is_good, "{}: {value}: {told:?}", about.name);
        }
    }
}

#[test]
fn an_option_has_one_name_of_its_own_and_one_place() {
    let mut seen = BTreeSet::new();
    for about in all() {
        for name in [Some(about.name), about.alias].into_iter().flatten() {
            assert!(seen.insert(name), "{name} is there twice");
        }
        assert!(!about.what.is_empty(), "{}: what does it do?", about.name);
    }
}
