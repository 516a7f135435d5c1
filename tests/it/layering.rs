//! Dependencies between the parts of the program point one way.

use std::fs;
use std::path::{Path, PathBuf};

/// For each part of the source, what it must not name.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("time.rs", &["crate::"]),
    ("failure.rs", &["crate::"]),
    ("outcome.rs", &["crate::"]),
    (
        "config",
        &[
            "crate::proto",
            "crate::health",
            "crate::engine",
            "crate::stats",
            "crate::io",
            "crate::admin",
            "crate::cli",
            "crate::demo",
        ],
    ),
    (
        "proto",
        &[
            "crate::ring",
            "crate::health",
            "crate::config",
            "crate::engine",
            "crate::stats",
            "crate::io",
            "crate::admin",
            "crate::cli",
            "crate::demo",
        ],
    ),
    (
        "ring",
        &[
            "crate::proto",
            "crate::health",
            "crate::engine",
            "crate::stats",
            "crate::io",
            "crate::admin",
            "crate::cli",
            "crate::demo",
        ],
    ),
    (
        "health",
        &[
            "crate::proto",
            "crate::ring",
            "crate::engine",
            "crate::stats",
            "crate::io",
            "crate::admin",
            "crate::cli",
            "crate::demo",
        ],
    ),
    (
        "stats",
        &["crate::proto", "crate::ring", "crate::engine", "crate::io", "crate::admin", "crate::cli", "crate::demo"],
    ),
    ("engine", &["crate::io", "crate::admin", "crate::cli", "crate::demo"]),
    ("io", &["crate::admin", "crate::cli", "crate::demo"]),
    ("admin", &["crate::engine", "crate::cli", "crate::demo"]),
    // It knows a proxy by what its admin port answers.
    (
        "cli/top",
        &[
            "crate::admin",
            "crate::engine",
            "crate::health",
            "crate::ring",
            "crate::stats",
            "crate::proto",
            "crate::demo",
        ],
    ),
];

/// What only the shell may name.
const SHELL_ONLY: &[&str] = &[
    "tokio",
    "rustix",
    "std::net::Tcp",
    "UnixStream",
    "Instant::now",
    "SystemTime",
    "std::thread",
    "HashMap",
    "rand::",
];

/// The parts that are below the shell.
const BELOW_THE_SHELL: &[&str] = &["time.rs", "failure.rs", "proto", "ring", "health", "stats", "engine"];

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            sources(&entry.expect("an entry").path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        found.push(path.to_owned());
    }
}

/// The lines of a file that are code and not test code.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).expect("a source file");
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim() == "#[cfg(test)]" {
            break; // tests stand last
        }
        if !line.trim_start().starts_with("//") {
            lines.push((number, line.to_owned()));
        }
    }
    lines
}

fn violations(part: &str, forbidden: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root.join(part), &mut files);
    assert!(!files.is_empty(), "src/{part} is not there");
    let mut found = Vec::new();
    for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
        for (number, line) in code(file) {
            for word in forbidden.iter().filter(|word| line.contains(**word)) {
                let shown = file.strip_prefix(&root).expect("below src").display().to_string();
                found.push(format!("src/{shown}:{number} names {word}: {}", line.trim()));
            }
        }
    }
    found
}

#[test]
fn dependencies_point_one_way() {
    let found: Vec<_> = FORBIDDEN.iter().flat_map(|(part, forbidden)| violations(part, forbidden)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn nothing_below_the_shell_knows_sockets_clocks_or_threads() {
    let found: Vec<_> = BELOW_THE_SHELL.iter().flat_map(|part| violations(part, SHELL_ONLY)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
