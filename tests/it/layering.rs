//! Dependencies between the parts of the program point one way, and files do not need each other in circles.
//!
//! A file needs another when it names something of it outside of its tests. A name that a folder's `mod.rs` passes on with
//! `pub use` is that of the file behind it: a door needs nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// For each part of the source, the other parts that it may name. A folder within a part has the part's rule, unless it has
/// one of its own.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("failure", &[]),
    ("outcome", &[]),
    ("near", &["time"]),
    ("config", &["time", "failure", "outcome"]),
    ("proto", &["time", "failure", "outcome"]),
    ("ring", &["time", "failure", "outcome", "config"]),
    ("health", &["time", "failure", "outcome", "config"]),
    ("stats", &["time", "failure", "outcome", "config", "health"]),
    ("topology", &["time", "failure", "outcome", "config", "ring", "health", "stats", "near"]),
    ("engine", &["time", "failure", "outcome", "config", "proto", "ring", "health", "stats", "near", "topology"]),
    ("io", &["time", "failure", "outcome", "config", "proto", "ring", "health", "stats", "topology", "engine"]),
    ("admin", &["time", "failure", "outcome", "config", "proto", "ring", "health", "stats", "topology", "io"]),
    (
        "demo",
        &[
            "time", "failure", "outcome", "config", "proto", "ring", "health", "stats", "topology", "engine", "io",
            "admin",
        ],
    ),
    (
        "cli",
        &[
            "time", "failure", "outcome", "config", "proto", "ring", "health", "stats", "topology", "engine", "io",
            "admin", "demo",
        ],
    ),
    // It knows a proxy by what its admin port answers.
    ("cli/top", &["time", "failure", "outcome", "config", "io", "cli"]),
];

/// Circles over several folders, or over more than [`CIRCLE_LIMIT`] files, that there are: the folder they lie in, and how
/// many files are in them at most. These figures only ever become less.
const KNOWN_CIRCLES: &[(&str, usize)] = &[];

/// So many files of one folder may need each other in a circle.
const CIRCLE_LIMIT: usize = 3;

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
const BELOW_THE_SHELL: &[&str] =
    &["time.rs", "failure.rs", "outcome.rs", "proto", "ring", "health", "stats", "near.rs", "topology", "engine"];

/// The source files below a path, whose names are shown from `root`.
fn sources(root: &Path, path: &Path, found: &mut Vec<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            sources(root, &entry.expect("an entry").path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
        found.push(path.strip_prefix(root).expect("below the root").display().to_string());
    }
}

/// A file's code without comments, texts, and tests, which stand last. Lines keep their numbers.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let (mut code, mut rest) = (String::with_capacity(end), &text[..end]);
    while let Some(at) = rest.find(['"', '\'', '/']) {
        let (before, behind) = rest.split_at(at);
        code.push_str(before);
        let hashes = before.len() - before.trim_end_matches('#').len();
        let is_raw = before[..before.len() - hashes].ends_with('r');
        let length = match (&behind[..1], behind.as_bytes().get(1)) {
            ("/", Some(b'/')) => behind.find('\n').unwrap_or(behind.len()),
            ("\"", _) if is_raw => {
                let close = format!("\"{}", "#".repeat(hashes));
                1 + behind[1..].find(&close).expect("the end of a text") + close.len()
            }
            ("\"", _) => closed(behind, b'"'),
            ("'", Some(b'\\')) => closed(behind, b'\''),
            // A letter in quotes, and not a lifetime.
            ("'", Some(_)) if behind.chars().nth(2) == Some('\'') => closed(behind, b'\''),
            _ => {
                code.push_str(&behind[..1]);
                1
            }
        };
        code.extend(behind[..length].chars().filter(|character| *character == '\n'));
        rest = &behind[length..];
    }
    code + rest
}

/// How long a text is that ends with this byte, unless a backslash stands before it.
fn closed(text: &str, end: u8) -> usize {
    let mut bytes = text.bytes().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            byte if byte == end => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The files of one crate, and what they name of each other.
struct Crate {
    root: PathBuf,
    /// Each file's module, by its path: `engine/redis/mod.rs` is `["engine", "redis"]`.
    modules: BTreeMap<Vec<String>, String>,
    /// What each module passes on, by the name that it gives it.
    doors: BTreeMap<Vec<String>, BTreeMap<String, Vec<String>>>,
    /// For each file the others that it needs, each with the first line that says so.
    needs: BTreeMap<String, BTreeMap<String, String>>,
}

/// A path that a file names, from the root of its crate.
struct Named {
    path: Vec<String>,
    is_door: bool,
    line: usize,
}

impl Crate {
    /// Reads the crate in a folder; `entry` is the file that it begins with.
    fn read(folder: &str, entry: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let mut files = Vec::new();
        sources(&root, &root, &mut files);
        // The program's own file is a crate beside the library.
        files.retain(|file| file == entry || file != "main.rs");
        assert!(files.len() > 1, "{folder} has no sources");
        let module = |file: &String| {
            let path = file.trim_end_matches(".rs");
            let path = if file == entry { "" } else { path.strip_suffix("/mod").unwrap_or(path) };
            let steps: Vec<String> = path.split('/').filter(|step| !step.is_empty()).map(str::to_owned).collect();
            (steps, file.clone())
        };
        let modules: BTreeMap<_, _> = files.iter().map(module).collect();
        let mut this = Self { root, modules, doors: BTreeMap::new(), needs: BTreeMap::new() };
        let mut named = BTreeMap::new();
        for (module, file) in &this.modules {
            named.insert(module.clone(), this.names(module, &code(&this.root.join(file))));
        }
        for (module, names) in &named {
            let doors = names.iter().filter(|one| one.is_door);
            let doors = doors.filter_map(|one| Some((one.path.last()?.clone(), one.path.clone()))).collect();
            this.doors.insert(module.clone(), doors);
        }
        for (module, names) in named {
            let file = this.modules[&module].clone();
            let mut needs = BTreeMap::new();
            for one in names.iter().filter(|one| !one.is_door) {
                let other = this.file_of(&one.path, 0);
                if other != file {
                    needs.entry(other).or_insert_with(|| format!("{folder}/{file}:{}", one.line));
                }
            }
            this.needs.insert(file, needs);
        }
        this
    }

    /// The paths of this crate that a module's code names.
    fn names(&self, module: &[String], code: &str) -> Vec<Named> {
        let newlines = |text: &str| text.bytes().filter(|byte| *byte == b'\n').count();
        let mut found = Vec::new();
        let mut rest = code;
        let (mut at, mut line) = (0, 1);
        while let Some(length) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_') {
            let before = rest[..length].chars().next_back();
            let word_end =
                |text: &str| text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
            line += newlines(&rest[..length]);
            at += length;
            rest = &code[at..];
            let word = &rest[..word_end(rest)];
            let mut taken = word.len();
            if word == "use" && rest[taken..].starts_with([' ', '\n']) {
                taken = rest.find(';').expect("the end of a use");
                let is_door = code[..at].rsplit('\n').next().is_some_and(|line| line.trim_start().starts_with("pub"));
                for path in unfolded(&rest[word.len()..taken]) {
                    found.extend(self.absolute(module, &path).map(|path| Named { path, is_door, line }));
                }
            } else if !matches!(before, Some(':' | '\'' | '$'))
                && !code[..at].ends_with("(in ")
                && rest[taken..].starts_with("::")
            {
                while rest[taken..].starts_with("::") {
                    let length = word_end(&rest[taken + 2..]);
                    taken += 2 + length;
                    if length == 0 {
                        break;
                    }
                }
                let path = rest[..taken].trim_end_matches(':');
                found.extend(self.absolute(module, path).map(|path| Named { path, is_door: false, line }));
            }
            line += newlines(&rest[..taken]);
            at += taken;
            rest = &code[at..];
        }
        found
    }

    /// A path as a module names it, from the root; nothing for what is of another crate, or no module's.
    fn absolute(&self, module: &[String], path: &str) -> Option<Vec<String>> {
        let mut steps: Vec<String> = path.split("::").map(|step| step.trim().to_owned()).collect();
        let mut base = module.to_vec();
        match steps[0].as_str() {
            "crate" => base.clear(),
            "self" => {}
            "super" => drop(base.pop()),
            child => {
                base.push(child.to_owned());
                return self.modules.contains_key(&base).then(|| [module, &steps].concat());
            }
        }
        steps.remove(0);
        while steps.first().is_some_and(|step| step == "super") {
            base.pop();
            steps.remove(0);
        }
        Some([base, steps].concat())
    }

    /// The file that has what a path names.
    fn file_of(&self, path: &[String], doors: usize) -> String {
        let known =
            (0..=path.len()).rev().find(|length| self.modules.contains_key(&path[..*length])).expect("the root");
        let behind = path.get(known).and_then(|name| self.doors.get(&path[..known])?.get(name));
        match behind {
            // A few doors may stand behind each other.
            Some(behind) if doors < 5 => self.file_of(&[behind, &path[known + 1..]].concat(), doors + 1),
            _ => self.modules[&path[..known]].clone(),
        }
    }

    /// The files that are reached from one.
    fn reached(&self, file: &String) -> BTreeSet<String> {
        let (mut seen, mut next) = (BTreeSet::new(), vec![file]);
        while let Some(one) = next.pop() {
            next.extend(self.needs[one].keys().filter(|other| seen.insert((*other).clone())));
        }
        seen
    }

    /// Files that need each other, each circle once.
    fn circles(&self) -> Vec<BTreeSet<String>> {
        let reached: BTreeMap<&String, BTreeSet<String>> =
            self.needs.keys().map(|file| (file, self.reached(file))).collect();
        let circle = |file: &&String| -> BTreeSet<String> {
            reached[*file].iter().filter(|other| reached[*other].contains(*file)).cloned().collect()
        };
        let all: BTreeSet<_> = self.needs.keys().collect::<Vec<_>>().iter().map(circle).collect();
        all.into_iter().filter(|circle| circle.len() > 1).collect()
    }

    /// The folders that a file belongs to: the one it lies in, and the one whose door it is.
    fn folders(&self, file: &str) -> BTreeSet<String> {
        let lies_in = Path::new(file).parent().expect("a folder").display().to_string();
        let behind = file.trim_end_matches(".rs").to_owned();
        let is_door = self.root.join(&behind).is_dir();
        [Some(lies_in), is_door.then_some(behind)].into_iter().flatten().collect()
    }

    /// Whether a circle stays within one folder, and is small.
    fn is_tolerable(&self, circle: &BTreeSet<String>) -> bool {
        let shared = circle.iter().map(|file| self.folders(file)).reduce(|a, b| &a & &b).unwrap_or_default();
        !shared.is_empty() && circle.len() <= CIRCLE_LIMIT
    }

    /// A circle's files, and what each needs of the others.
    fn shown(&self, circle: &BTreeSet<String>) -> String {
        let pairs =
            circle.iter().flat_map(|file| self.needs[file].iter().map(move |(other, place)| (file, other, place)));
        let lines = pairs
            .filter(|(_, other, _)| circle.contains(*other))
            .map(|(file, other, place)| format!("\n    {file} needs {other} ({place})"));
        format!("a circle over {} files:{}", circle.len(), lines.collect::<String>())
    }
}

/// The paths of a `use`, each with all its steps: `a::{b, c::{self, d as e}}` is `a::b`, `a::c`, `a::c::d`.
fn unfolded(text: &str) -> Vec<String> {
    let text = text.trim();
    let Some(open) = text.find('{') else {
        let path = text.split(" as ").next().unwrap_or_default().trim();
        return vec![path.strip_suffix("::self").unwrap_or(path).to_owned()];
    };
    let inner = &text[open + 1..text.rfind('}').expect("a closing bracket")];
    let (mut depth, mut parts) = (0_usize, vec![String::new()]);
    for character in inner.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match parts.last_mut() {
            Some(part) if character != ',' || depth > 0 => part.push(character),
            _ => parts.push(String::new()),
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| unfolded(&format!("{}{}", &text[..open], part.trim()))).collect()
}

/// The rule of a file: that of the folder that is nearest to it.
fn rule(file: &str) -> Option<&'static (&'static str, &'static [&'static str])> {
    let path = Path::new(file).with_extension("");
    MAY_NAME.iter().filter(|(part, _)| path.starts_with(part)).max_by_key(|(part, _)| part.len())
}

#[test]
fn dependencies_point_one_way() {
    let library = Crate::read("src", "lib.rs");
    let mut found = Vec::new();
    for (file, needs) in library.needs.iter().filter(|(file, _)| *file != "lib.rs") {
        let Some((part, may)) = rule(file) else {
            found.push(format!("src/{file} has no rule in MAY_NAME"));
            continue;
        };
        for (other, place) in needs {
            let named = other.split(['/', '.']).next().unwrap_or_default();
            if !Path::new(other).starts_with(part) && !may.contains(&named) {
                found.push(format!("{place} names {other}, which `{part}` may not"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    for (part, may) in MAY_NAME {
        let is_there =
            |part: &str| library.needs.keys().any(|file| Path::new(file).with_extension("").starts_with(part));
        let gone: Vec<_> = [part].into_iter().chain(may.iter()).filter(|part| !is_there(part)).collect();
        assert!(gone.is_empty(), "MAY_NAME has parts that are not there: {gone:?}");
    }
}

#[test]
fn files_do_not_need_each_other_in_circles() {
    let mut found = Vec::new();
    let mut known: BTreeMap<&str, (usize, usize)> =
        KNOWN_CIRCLES.iter().map(|(folder, limit)| (*folder, (*limit, 0))).collect();
    for (folder, entry) in [("src", "lib.rs"), ("benches/peers", "main.rs"), ("benches/engine", "main.rs")] {
        let files = Crate::read(folder, entry);
        for circle in files.circles().iter().filter(|circle| !files.is_tolerable(circle)) {
            let lies_in = |within: &str| circle.iter().all(|file| Path::new(folder).join(file).starts_with(within));
            match known.iter_mut().find(|(within, _)| lies_in(within)) {
                Some((_, (_, files))) => *files += circle.len(),
                None => found.push(format!("in {folder} {}", files.shown(circle))),
            }
        }
    }
    for (folder, (limit, files)) in known {
        if files == 0 {
            found.push(format!("{folder} has no such circle: take it out of KNOWN_CIRCLES"));
        } else if files > limit {
            found.push(format!("{files} files of {folder} are in circles; at most {limit} may be"));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn paths_are_read_as_the_compiler_reads_them() {
    assert_eq!(
        unfolded(" crate::a::{self, b::{c as d, e}, f}"),
        ["crate::a", "crate::a::b::c", "crate::a::b::e", "crate::a::f"]
    );
    let library = Crate::read("src", "lib.rs");
    let module = |path: &str| path.split("::").map(str::to_owned).collect::<Vec<_>>();
    let file = |from: &str, path: &str| {
        library.absolute(&module(from), path).map(|path| library.file_of(&path, 0)).unwrap_or_default()
    };
    for (from, path, wanted) in [
        ("io::client", "super::worker::Worker", "io/worker.rs"),
        ("io::log", "queue::Queue", "io/log/queue.rs"),
        ("cli", "crate::config::model::HashKind", "config/choices.rs"),
        ("engine::redis::script", "super::super::Engine", "engine/mod.rs"),
        ("cli", "std::fs::read", ""),
    ] {
        assert_eq!(file(from, path), wanted, "{path} in {from}");
    }
    let names = library.names(
        &module("config"),
        "pub mod raw;\nuse raw::{self as r};\npub(in crate::io) fn f() { crate::time::now(); place::g() }\npub use text::h;\n",
    );
    let shown: Vec<_> = names.iter().map(|one| (one.path.join("::"), one.line, one.is_door)).collect();
    let wanted = [
        ("config::raw", 2, false),
        ("time::now", 3, false),
        ("config::place::g", 3, false),
        ("config::text::h", 4, true),
    ];
    assert_eq!(shown, wanted.map(|(path, line, is_door)| (path.to_owned(), line, is_door)));
}

#[test]
fn nothing_below_the_shell_knows_sockets_clocks_or_threads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for part in BELOW_THE_SHELL {
        let mut files = Vec::new();
        sources(&root, &root.join(part), &mut files);
        assert!(!files.is_empty(), "src/{part} is not there");
        for file in files {
            for (number, line) in (1..).zip(code(&root.join(&file)).lines()) {
                let words = SHELL_ONLY.iter().filter(|word| line.contains(**word));
                found.extend(words.map(|word| format!("src/{file}:{number} names {word}: {}", line.trim())));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
