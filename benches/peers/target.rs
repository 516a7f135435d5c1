//! The programs to compare: what is here, what it speaks, and which version it is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::options::Options;
use crate::process::find_program;
use crate::workload::Workload;

/// How the label of a target ends whose clients speak text in workloads of the binary protocol.
const TEXT: &str = "-text";

/// A program to compare.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// How the report calls it.
    pub(crate) label: String,
    /// How it is started.
    pub(crate) kind: TargetKind,
    /// The binary.
    pub(crate) program: PathBuf,
    /// Its clients speak text where those of the others speak the binary protocol, which is compared with that.
    pub(crate) text: bool,
}

/// What kind of program a target is, which decides its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetKind {
    /// One server and no proxy: what the proxies are compared with at best.
    Direct,
    /// twemproxy's binary.
    Nutcracker,
    /// This crate's binary, any build of it, with so many workers.
    Softmiss { workers: u32 },
    /// A memcached that was built with its proxy.
    MemcachedProxy,
    /// Predixy, for Redis.
    Predixy,
    /// Envoy with its Redis filter.
    Envoy,
}

impl TargetKind {
    /// A build of this crate.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Softmiss { .. })
    }

    /// Whether it understands the clients of `workload`.
    fn speaks(self, workload: &Workload) -> bool {
        match self {
            Self::Direct | Self::Softmiss { .. } => true,
            Self::Nutcracker => !workload.binary,
            Self::MemcachedProxy => !workload.redis && !workload.binary,
            Self::Predixy | Self::Envoy => workload.redis,
        }
    }

    fn version_flag(self) -> &'static str {
        match self {
            Self::Direct | Self::Nutcracker | Self::Softmiss { .. } | Self::MemcachedProxy => "-V",
            Self::Predixy | Self::Envoy => "--version",
        }
    }
}

impl Target {
    /// Whether it has a part in `workload`.
    pub(crate) fn takes(&self, workload: &Workload) -> bool {
        if self.text { workload.binary } else { self.kind.speaks(workload) }
    }

    /// What the program says of its version.
    pub(crate) fn version(&self) -> String {
        version(&self.program, self.kind.version_flag())
    }
}

/// The first number with two points in what `program` prints when asked for its version.
pub(crate) fn version(program: &Path, flag: &str) -> String {
    let output = Command::new(program).arg(flag).stdin(Stdio::null()).output();
    let Ok(output) = output else { return "of unknown version".to_owned() };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let number = |word: &&str| word.split('.').count() == 3 && word.starts_with(|first: char| first.is_ascii_digit());
    let mut words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.');
    words.find(number).map_or_else(|| "of unknown version".to_owned(), str::to_owned)
}

/// What can be compared here. The direct row and nutcracker come first, ours after them, other peers last.
pub(crate) fn targets(options: &Options, memcached: &Path, workloads: &[Workload]) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    let mut add = |label: String, kind, program| {
        if targets.iter().any(|target: &Target| target.label == label) {
            bail!("two targets are called {label:?}; write --softmiss LABEL=PATH");
        }
        let text = label.ends_with(TEXT);
        targets.push(Target { label, kind, program, text });
        Ok(())
    };
    add("direct".to_owned(), TargetKind::Direct, memcached.to_owned())?;
    match options.nutcracker.clone().or_else(|| find_program("nutcracker")) {
        Some(program) => add("nutcracker".to_owned(), TargetKind::Nutcracker, program)?,
        None => eprintln!("nutcracker is not installed: no ratios to it"),
    }
    for build in builds(options)? {
        let (label, path) = build.split_once('=').unwrap_or(("softmiss", &build));
        for &workers in &options.workers {
            let label = if workers == 1 { label.to_owned() } else { format!("{label}-{workers}w") };
            add(label.clone(), TargetKind::Softmiss { workers }, PathBuf::from(path))?;
            if workloads.iter().any(|workload| workload.binary) {
                add(label + TEXT, TargetKind::Softmiss { workers }, PathBuf::from(path))?;
            }
        }
    }
    let peers = [
        ("mcproxy", TargetKind::MemcachedProxy, &options.memcached_proxy),
        ("predixy", TargetKind::Predixy, &options.predixy),
        ("envoy", TargetKind::Envoy, &options.envoy),
    ];
    for (label, kind, program) in peers {
        if let Some(program) = program {
            add(label.to_owned(), kind, program.clone())?;
        }
    }
    if !options.only.is_empty() {
        if let Some(label) = options.only.iter().find(|&label| targets.iter().all(|target| target.label != *label)) {
            bail!("--only names {label:?}, which is not among the targets");
        }
        targets.retain(|target| options.only.contains(&target.label));
    }
    Ok(targets)
}

/// The builds of softmiss that are named, or the one that lies beside this program.
fn builds(options: &Options) -> Result<Vec<String>> {
    if !options.softmiss.is_empty() {
        return Ok(options.softmiss.clone());
    }
    // Benches run in the package's directory; the bench itself lies in target/release/deps.
    let beside = std::env::current_exe()?.ancestors().nth(2).map(|directory| directory.join("softmiss"));
    if let Some(file) = beside.filter(|file| file.is_file()) {
        return Ok(vec![file.display().to_string()]);
    }
    eprintln!("no release build of softmiss found; name one with --softmiss");
    Ok(Vec::new())
}
