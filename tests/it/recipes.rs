//! What the pages give to be typed: each command, request, file and link in them is tried.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::pages::{is_told_by, logged, messages};
use super::support::http::{Answer, ask};
use super::support::logfmt;
use super::support::process::{Process, Proxy, free_port, scratch_dir};
use super::support::wait_until;

/// A page, by its path from the root of the tree.
struct Page {
    name: String,
    text: String,
}

impl Page {
    /// What stands between fences, with the word behind the first of them.
    fn blocks(&self) -> Vec<(&str, String)> {
        let (mut blocks, mut open): (Vec<(&str, String)>, bool) = (Vec::new(), false);
        for line in self.text.lines() {
            match (line.trim_start().strip_prefix("```"), open) {
                (Some(kind), false) => blocks.push((kind, String::new())),
                (None, true) => blocks.last_mut().expect("a block").1.extend([line, "\n"]),
                _ => {}
            }
            open ^= line.trim_start().starts_with("```");
        }
        blocks
    }

    /// What is not between fences.
    fn prose(&self) -> String {
        let mut open = false;
        let outside = self.text.lines().filter(|line| {
            let fence = line.trim_start().starts_with("```");
            open ^= fence;
            !open && !fence
        });
        outside.collect::<Vec<_>>().join("\n")
    }

    /// What stands in backticks, on one line.
    fn quoted(&self) -> Vec<String> {
        self.prose().split('`').skip(1).step_by(2).map(|words| words.replace('\n', " ")).collect()
    }

    /// What can be typed into a shell: lines of blocks, and what stands in backticks.
    fn lines(&self) -> Vec<String> {
        let blocks = self.blocks().into_iter().filter(|(kind, _)| ["", "sh"].contains(kind));
        let lines = blocks.flat_map(|(_, text)| text.lines().map(str::to_owned).collect::<Vec<_>>());
        // A comment stands behind blanks and ends the line.
        let bare = lines.map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned());
        bare.chain(self.quoted()).filter(|line| !line.is_empty()).collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files of the tree that somebody wrote, by their paths from its root.
fn files(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() && !["target", "node_modules", ".git"].contains(&&*name) {
            files(&path, found);
        } else if path.is_file() {
            found.insert(path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned());
        }
    }
}

fn tree() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    files(root(), &mut found);
    found
}

fn page(name: &str) -> Page {
    Page { name: name.to_owned(), text: std::fs::read_to_string(root().join(name)).expect(name) }
}

/// All pages but the list of changes, which tells of what was, too.
fn pages() -> Vec<Page> {
    let is_page = |name: &String| {
        Path::new(name).extension().is_some_and(|end| end == "md")
            && (name.starts_with("docs/") || name.starts_with("conf/") || name == "README.md")
    };
    tree().iter().filter(|name| is_page(name)).map(|name| page(name)).collect()
}

/// The words of a line as a shell divides it, with quotes taken off.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quote) = (vec![String::new()], None);
    for one in line.chars() {
        match (one, quote) {
            ('\'' | '"', None) => quote = Some(one),
            (_, Some(mark)) if one == mark => quote = None,
            (' ', None) => words.push(String::new()),
            _ => words.last_mut().expect("a word").push(one),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A proxy before three servers, with the file that the book has a newcomer write.
struct Stage {
    proxy: Proxy,
    admin: SocketAddr,
    folder: PathBuf,
    _servers: Vec<Process>,
}

impl Stage {
    fn set() -> Self {
        let (port, admin) = (free_port(), SocketAddr::from(([127, 0, 0, 1], free_port())));
        let servers: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
        let blocks =
            page("docs/quick-start.md").blocks().into_iter().find(|(kind, _)| *kind == "yaml").map(|(_, text)| text);
        let mut text = blocks.expect("a file").replace("listen: 127.0.0.1:11211", &format!("listen: 127.0.0.1:{port}"));
        for (number, server) in servers.iter().enumerate() {
            text = text.replace(&format!("10.0.0.1{}:11211", number + 1), &server.address.to_string());
        }
        assert!(!text.contains("11211"), "{text}");
        let text = format!("softmiss:\n  admin: {admin}\n{text}");
        let folder = scratch_dir();
        std::fs::create_dir(folder.join("conf")).expect("a folder");
        for name in ["softmiss.yml", "conf/softmiss.yml", "nutcracker.yml"] {
            std::fs::write(folder.join(name), &text).expect("a file");
        }
        for name in ["conf/example.yml", "conf/twemproxy.yml"] {
            std::fs::copy(root().join(name), folder.join(name)).expect("a copy");
        }
        let proxy = Proxy::with_file(&text, port).expect_log("by the operator");
        // The file that the proxy reads, for who has it read again.
        std::fs::remove_file(folder.join("softmiss.yml")).expect("remove");
        std::os::unix::fs::symlink(&proxy.file, folder.join("softmiss.yml")).expect("a link");
        wait_until("the admin port", Duration::from_secs(10), || TcpStream::connect(admin).is_ok());
        Self { proxy, admin, folder, _servers: servers }
    }

    /// A word of a command, with what is really there in the place of what stands for it.
    fn filled(&self, word: &str) -> String {
        match word {
            "FILE" | "OLD" | "NEW" => "softmiss.yml".to_owned(),
            "/etc/nutcracker/nutcracker.yml" => "nutcracker.yml".to_owned(),
            "/etc/softmiss/softmiss.yml" => "softmiss.yml".to_owned(),
            "NAME" => "cache-a".to_owned(),
            "HOST:PORT" | "127.0.0.1:22223" => self.admin.to_string(),
            _ => word.to_owned(),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The arguments of `softmiss`, if that is what the line runs.
fn arguments(line: &str) -> Option<&str> {
    let starts = ["softmiss ", "target/release/softmiss ", "cargo run --release -- "];
    let rest = starts.iter().find_map(|start| line.strip_prefix(start))?;
    // What comes of it may go on elsewhere.
    let rest = rest.split(" | ").next().unwrap_or_default();
    // It begins what is printed and logged as well.
    (!rest.starts_with(env!("CARGO_PKG_VERSION"))).then_some(rest)
}

#[test]
fn every_command_of_the_pages_runs() {
    let stage = Stage::set();
    let logged = messages();
    let help = Command::new(env!("CARGO_BIN_EXE_softmiss")).arg("-h").output().expect("softmiss");
    let help = String::from_utf8(help.stdout).expect("text");
    let (_, examples) = help.split_once("Examples:\n").expect("examples");
    let examples = examples.split("\n\n").next().unwrap_or_default().lines();
    let examples = examples.map(|line| line.trim_start().split("  ").next().unwrap_or_default().to_owned());
    let told = pages().into_iter().flat_map(|page| {
        let lines = page.lines();
        lines.into_iter().map(move |line| (page.name.clone(), line))
    });
    let mut tried = BTreeSet::new();
    for (place, line) in told.chain(examples.map(|line| ("the help".to_owned(), line))) {
        let Some(rest) = arguments(&line) else { continue };
        if logged.iter().any(|message| is_told_by(message, &line)) {
            continue;
        }
        let mut given: Vec<_> = words(rest).iter().map(|word| stage.filled(word)).collect();
        // What would go on until it is ended says only whether it would start.
        match given.first().map_or("", String::as_str) {
            "check" | "route" | "reload" | "health" | "man" | "completions" | "--help" => {}
            "top" => given.push("--once".to_owned()),
            "demo" | "upgrade" => given.push("--help".to_owned()),
            _ => given.push("-t".to_owned()),
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_softmiss"));
        let output = command.args(&given).current_dir(&stage.folder).stdin(Stdio::null()).output().expect("softmiss");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{place}: {line}: {said}");
        assert!(!said.contains("warning"), "{place}: {line}: {said}");
        tried.insert(line);
    }
    println!("{tried:#?}");
    assert!(tried.len() >= 15, "{tried:?}");
}

#[test]
fn every_line_of_the_log_that_the_pages_show_is_one_that_is_written() {
    let logged = logged();
    let levels = ["ERROR", "WARN", "INFO", "DEBUG"];
    let mut tried = 0;
    for page in pages() {
        for line in page.blocks().iter().flat_map(|(_, text)| text.lines()) {
            let at = levels.iter().filter_map(|level| line.find(&format!("{level} "))).min();
            // Where the page leaves the time out, it is of no importance.
            let Some(at) = at.filter(|at| *at == 0 || line.starts_with("20")) else { continue };
            let line = format!("2026-11-28T09:00:00.000000Z {}", &line[at..]);
            let shown = logfmt::parse(&line).unwrap_or_else(|why| panic!("{}: {line}: {why}", page.name));
            let calls: Vec<_> = logged.iter().filter(|(message, _)| is_told_by(message, &shown.message)).collect();
            assert!(!calls.is_empty(), "{}: {line}: nobody logs that", page.name);
            let tells = |call: &str, field: &str| {
                call.split(|one: char| !(one.is_ascii_alphanumeric() || one == '_')).any(|word| word == field)
            };
            let all = |(_, call): &&&(String, String)| shown.fields.iter().all(|(field, _)| tells(call, field));
            assert!(calls.iter().any(|call| all(&call)), "{}: {line}: with other fields: {calls:?}", page.name);
            tried += 1;
        }
    }
    assert!(tried >= 4, "{tried}");
}

/// Asks what a `curl` asks.
fn curl(stage: &Stage, line: &str) -> (String, Answer) {
    let given = words(line.split(" | ").next().unwrap_or_default());
    let (mut method, mut headers, mut address) = ("GET", Vec::new(), None);
    let mut given = given.iter().skip(1);
    while let Some(word) = given.next() {
        match word.as_str() {
            "-s" => {}
            "-X" => method = given.next().expect("a method"),
            "-H" => headers.push(given.next().expect("a header").as_str()),
            _ => assert!(address.replace(word).is_none(), "{line}: two addresses"),
        }
    }
    let address = address.expect(line);
    let address = address.strip_prefix("http://").unwrap_or(address);
    let (host, path) = address.split_once('/').expect("a path");
    assert!(["127.0.0.1:22223", "localhost:22223"].contains(&host), "{line}: not the admin port's usual place");
    let path = format!("/{path}");
    (path.clone(), ask(stage.admin, method, &path, &headers))
}

#[test]
fn every_request_of_the_pages_is_answered() {
    let stage = Stage::set();
    let (mut tried, mut looked) = (0, 0);
    for page in pages() {
        // Behind `...` whoever reads is to put an address.
        for line in page.lines().into_iter().filter(|line| line.starts_with("curl ") && !line.ends_with(" ...")) {
            let (path, answer) = curl(&stage, &line);
            tried += 1;
            // This one is there to be told what there is.
            assert_eq!(answer.status, if path == "/nothing" { 404 } else { 200 }, "{}: {line}: {answer:?}", page.name);
            // What a filter asks for is in the answer.
            let filter = line.split_once("| jq ").map_or("", |(_, filter)| filter);
            let fields = filter.split(|one: char| !(one.is_ascii_lowercase() || one == '_'));
            for field in fields.filter(|field| !field.is_empty() && *field != "select") {
                assert!(answer.body.contains(&format!("\"{field}\":")), "{}: {line}: no {field}", page.name);
                looked += 1;
            }
        }
        // Pages name what can be asked for without the port, too.
        for words in page.quoted() {
            let words = words.strip_prefix("http://127.0.0.1:22223").unwrap_or(&words);
            let (method, path) = words.split_once(' ').unwrap_or(("GET", words));
            let named = path.strip_prefix('/').is_some_and(|name| {
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && words.starts_with(['G', '/'])
            });
            if named && method == "GET" {
                let answer = ask(stage.admin, method, path, &[]);
                assert!(![404, 405].contains(&answer.status), "{}: {words}: {answer:?}", page.name);
                tried += 1;
            }
        }
    }
    assert!(tried >= 40 && looked >= 5, "{tried} {looked}");
    stage.proxy.wait_for_log("servers flushed by the operator", Duration::from_secs(10));
}

#[test]
fn every_bench_command_of_the_pages_has_flags_and_workloads_that_exist() {
    let source = |name: &str| std::fs::read_to_string(root().join(name)).expect(name);
    let workloads = source("benches/peers/workload.rs");
    let mut tried = 0;
    for line in pages().iter().flat_map(Page::lines) {
        let Some(rest) = line.strip_prefix("cargo bench --bench ") else { continue };
        let given = words(rest);
        let [bench, given @ ..] = &given[..] else { panic!("{line}: which?") };
        let options = if bench == "peers" { "options" } else { "main" };
        let main = source(&format!("benches/{bench}/{options}.rs"));
        // A flag is a field with `arg(long)` above it.
        let fields = main.split("#[arg(long").skip(1).filter_map(|part| part.split_once("\n    ")?.1.split(':').next());
        let flags: BTreeSet<String> = fields
            .filter_map(|field| field.rsplit(' ').next())
            .map(|name| format!("--{}", name.replace('_', "-")))
            .collect();
        for (number, word) in given.iter().enumerate().filter(|(_, word)| word.starts_with("--") && word.len() > 2) {
            assert!(flags.contains(word), "{line}: there is no {word} in {flags:?}");
            let names = given.get(number + 1).filter(|_| word == "--workloads").map_or("", String::as_str);
            for name in names.split(',').filter(|name| !["", "all"].contains(name)) {
                assert!(workloads.contains(&format!("\"{name}\"")), "{line}: there is no workload {name}");
            }
        }
        tried += 1;
    }
    assert!(tried >= 9, "{tried}");
}

#[test]
fn every_configuration_of_the_pages_can_be_used_as_it_is() {
    let check = |place: &str, text: &str| {
        let loaded = softmiss::config::parse(place, text).unwrap_or_else(|report| panic!("{}", report.render(false)));
        assert!(loaded.warnings.diagnostics.is_empty(), "{}", loaded.warnings.render(false));
    };
    let mut tried = 0;
    for page in pages() {
        for (_, text) in page.blocks().into_iter().filter(|(kind, _)| *kind == "yaml") {
            // Prometheus has files of this kind, too.
            if text.trim_start().starts_with("rule_files:") {
                continue;
            }
            let servers = "  timeout: 400\n  servers: ['10.0.0.11:11211:1']\n";
            let whole = match (text.contains("servers:"), text.contains("listen:")) {
                (true, _) => text,
                (false, true) => text + servers,
                // Options of a pool, or those of the process.
                (false, false) if text.starts_with("  ") => format!("p:\n  listen: 127.0.0.1:11211\n{servers}{text}"),
                (false, false) => format!("{text}p:\n  listen: 127.0.0.1:11211\n{servers}"),
            };
            check(&page.name, &whole);
            tried += 1;
        }
    }
    assert!(tried >= 6, "{tried}");

    // What is commented out in the example can be used as well.
    let example = std::fs::read_to_string(root().join("conf/example.yml")).expect("a file");
    let mut uncommented = 0;
    let lines = example.lines().map(|line| {
        let shown = line.trim_start().strip_prefix("# ").filter(|_| line.starts_with("  # "));
        let is_key = |(key, _): (&str, &str)| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        match shown.filter(|shown| shown.split_once(": ").is_some_and(is_key)) {
            Some(shown) => {
                uncommented += 1;
                format!("  {}\n", shown.replace("3f1c...", "3f1c9a7be2d04856"))
            }
            None => format!("{line}\n"),
        }
    });
    let all: String = lines.collect();
    check("conf/example.yml", &all);
    assert!(uncommented >= 7, "{uncommented}: {all}");
}

#[test]
fn what_the_pages_have_typed_into_files_and_shells_can_be_read_there() {
    // The words behind a fence, and who says whether what follows can be read.
    let readers: [(&str, &[&str]); 4] = [
        ("python", &["python3", "-c", "import sys; compile(sys.stdin.read(), 'page', 'exec')"]),
        ("js", &["node", "--check", "-"]),
        ("json", &["python3", "-c", "import json, sys; json.load(sys.stdin)"]),
        ("sh", &["bash", "-n"]),
    ];
    let mut tried = BTreeMap::new();
    for page in pages() {
        for (kind, text) in page.blocks() {
            let Some((_, reader)) = readers.iter().find(|(name, _)| *name == kind) else { continue };
            let mut command = Command::new(reader[0]);
            let command = command.args(&reader[1..]).stdin(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().expect(reader[0]);
            child.stdin.take().expect("an input").write_all(text.as_bytes()).expect("write");
            let output = child.wait_with_output().expect(reader[0]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{}: {text}{said}", page.name);
            *tried.entry(kind.to_owned()).or_insert(0) += 1;
        }
    }
    assert!(tried.len() == readers.len() && tried.values().sum::<i32>() >= 20, "{tried:?}");
}

/// The table of contents names every page once, and nothing else. Decisions and the example site count.
#[test]
fn every_page_is_in_the_book() {
    let summary = page("docs/SUMMARY.md");
    let links = summary.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let mut named: Vec<String> = links.map(|link| format!("docs/{link}")).collect();
    named.sort();
    let is_page = |name: &String| {
        name.starts_with("docs/")
            && Path::new(name).extension().is_some_and(|end| end == "md")
            && name != "docs/SUMMARY.md"
    };
    let there: Vec<String> = tree().into_iter().filter(is_page).collect();
    assert_eq!(named, there);
}

#[test]
fn the_readme_fits_on_a_screen_and_has_the_two_commands() {
    let readme = page("README.md");
    let commands: Vec<String> = readme.blocks().iter().flat_map(|(_, text)| text.lines()).map(str::to_owned).collect();
    assert_eq!(commands, ["cargo run --release -- demo", "tests/run.sh"]);
    assert!(readme.text.lines().count() <= 70, "{}", readme.text.lines().count());
    // A picture is read out to whoever cannot see it, and has a ground of its own, as it is shown on dark pages, too.
    let mut tried = 0;
    for name in tree().iter().filter(|name| name.starts_with("docs/") && name.ends_with(".svg")) {
        let text = std::fs::read_to_string(root().join(name)).expect(name);
        assert!(text.contains("fill=\"#fff\"") && text.contains("aria-label="), "{name}");
        tried += 1;
    }
    assert!(tried >= 5, "{tried}");
}

/// docs/faq.md says that keys which differ in their last characters alone stay together.
#[test]
fn keys_that_end_in_numbers_are_on_one_server_as_the_page_says() {
    let servers: Vec<String> =
        (1..4).map(|n| format!("'10.0.0.1{n}:11211:1 cache-{}'", ["a", "b", "c"][n - 1])).collect();
    let folder = scratch_dir();
    let most = |hash: &str, behind: &str| {
        let file = folder.join(format!("{hash}.yml"));
        let pool = format!(
            "c:\n  listen: 127.0.0.1:11211\n  hash: {hash}\n  timeout: 400\n  servers: [{}]\n",
            servers.join(", ")
        );
        std::fs::write(&file, pool).expect("a file");
        let keys = (100..200).map(|n| format!("user:{n}{behind}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_softmiss"));
        let output = command.args(["route", "--json", "-c"]).arg(&file).args(keys).output().expect("softmiss");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let on = |name: &str| said.matches(&format!("\"server\":\"{name}\"")).count();
        let counts = ["cache-a", "cache-b", "cache-c"].map(on);
        assert_eq!(counts.iter().sum::<usize>(), 100, "{said}");
        counts.into_iter().max()
    };
    assert_eq!(most("fnv1a_64", ""), Some(100));
    assert!(most("fnv1a_64", ":profile") < Some(50));
    assert!(most("md5", "") < Some(50) && most("murmur", "") < Some(50));
    std::fs::remove_dir_all(folder).expect("remove");
}

/// What a heading is called in an address.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|one| one.is_alphanumeric() || [' ', '-', '_'].contains(one));
    kept.flat_map(char::to_lowercase).map(|one| if one == ' ' { '-' } else { one }).collect()
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let tree = tree();
    let mut tried = 0;
    for page in
        tree.iter().filter(|name| Path::new(name).extension().is_some_and(|end| end == "md")).map(|name| page(name))
    {
        let prose = page.prose();
        let links = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("http")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let place = Path::new(&page.name);
            let place = if file.is_empty() { root().join(place) } else { root().join(place).with_file_name(file) };
            assert!(place.exists(), "{}: {link}: there is no such file", page.name);
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&place).expect("a page");
                let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
                let there: Vec<_> = headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect();
                assert!(there.iter().any(|there| there == heading), "{}: {link}: of {there:?}", page.name);
            }
            tried += 1;
        }
    }
    assert!(tried >= 70, "{tried}");
}

#[test]
fn every_file_that_the_pages_name_is_there() {
    let tree = tree();
    let ends = ["yml", "rs", "md", "py", "json", "sh", "png", "toml"];
    // Files of whoever runs it.
    let theirs = ["softmiss.yml", "nutcracker.yml", "conf/softmiss.yml", "conf/nutcracker.yml"];
    let is_there = |name: &str| {
        let ending = format!("/{name}");
        tree.contains(name)
            || tree.iter().any(|file| file.ends_with(&ending))
            || [root().join(name), root().join("src").join(name)].iter().any(|place| place.is_dir())
    };
    let mut tried = 0;
    for page in pages() {
        let map = page.blocks().into_iter().filter(|(_, text)| text.contains("src/main.rs")).map(|(_, text)| text);
        let told: Vec<String> = page.quoted().into_iter().chain(map).collect();
        for word in told.iter().flat_map(|text| text.split([' ', '\n', ';', '('])) {
            let word = word.trim_end_matches([':', ',', ')', '.']);
            let file = Path::new(word).extension().is_some_and(|end| ends.iter().any(|known| end == *known));
            let folder = ["src/", "tests/", "benches/", "docs/", "conf/"].iter().any(|start| word.starts_with(start));
            if (!file && !folder)
                || word.starts_with(['/', '.'])
                || word.contains(['*', '$', '='])
                || theirs.contains(&word)
            {
                continue;
            }
            assert!(is_there(word.trim_end_matches('/')), "{}: there is no {word}", page.name);
            tried += 1;
        }
        // What a shell is to run has to be there, too, and to be a program.
        for line in page.lines().iter().filter(|line| line.starts_with("tests/") && !line.contains(".rs")) {
            use std::os::unix::fs::PermissionsExt;
            let Some(program) = line.split(' ').next().filter(|name| name.ends_with(".sh")) else { continue };
            let mode = std::fs::metadata(root().join(program)).expect(program).permissions().mode();
            assert_eq!(mode & 0o111, 0o111, "{program} cannot be run");
            tried += 1;
        }
    }
    assert!(tried >= 60, "{tried}");
}

/// The map of the source names every file of it, in the entry for its folder.
#[test]
fn the_map_of_the_source_is_whole() {
    let text = std::fs::read_to_string(root().join("docs/architecture.md")).expect("a page");
    let map = text.split("```").nth(1).expect("a map");
    // An entry begins at the margin with its folder.
    let entries: Vec<&str> = map.split("\nsrc/").skip(1).collect();
    let missing: Vec<_> = tree()
        .into_iter()
        .filter_map(|path| Some(path.strip_prefix("src/")?.strip_suffix(".rs")?.to_owned()))
        .filter(|path| {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            // `cli/top/draw/` belongs to `cli/top/`, and not to `cli/`.
            let of = |entry: &str| entry.split('/').take_while(|part| !part.contains(' ')).count();
            let is_in = |entry: &&&str| format!("{folder}/").starts_with(entry.split(' ').next().unwrap_or_default());
            let entry = entries.iter().filter(is_in).max_by_key(|entry| of(entry));
            let is_word =
                |text: &str| text.split(|one: char| !one.is_alphanumeric() && one != '_').any(|word| word == name);
            !["mod", "tests", "lib"].contains(&name)
                && !entry.map_or_else(|| map.contains(&format!("{name}.rs")), |entry| is_word(entry))
        })
        .collect();
    assert!(missing.is_empty(), "docs/architecture.md does not name {missing:#?}");
}

/// The bugs that are planted to see whether the simulation finds them still fit where they are planted.
#[test]
fn every_planted_bug_fits_into_the_tree() {
    let folder = root().join("tests/planted");
    let patches = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut tried = 0;
    for path in patches.filter(|path| path.extension().is_some_and(|end| end == "patch")) {
        let patch = std::fs::File::open(&path).expect("a patch");
        let mut command = Command::new("git");
        let output =
            command.args(["apply", "--check", "-C1", "-"]).current_dir(root()).stdin(patch).output().expect("git");
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
        tried += 1;
    }
    assert!(tried >= 18, "{tried}");
}
