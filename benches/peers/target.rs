//! The programs to compare.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::Options;
use crate::process::find_program;

/// A program to compare.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// How the report calls it.
    pub(crate) label: String,
    /// How it is started.
    pub(crate) kind: TargetKind,
    /// The binary.
    pub(crate) program: PathBuf,
}

/// What kind of program a target is, which decides its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetKind {
    /// One memcached and no proxy: what the proxies are compared with at best.
    Direct,
    /// twemproxy's binary.
    Nutcracker,
    /// This crate's binary, any build of it.
    Softmiss,
    /// A memcached that was built with its proxy.
    MemcachedProxy,
}

/// What can be compared here. The direct row and nutcracker come first, ours after them.
pub(crate) fn targets(options: &Options, memcached: &Path) -> Result<Vec<Target>> {
    let mut targets =
        vec![Target { label: "direct".to_owned(), kind: TargetKind::Direct, program: memcached.to_owned() }];
    match options.nutcracker.clone().or_else(|| find_program("nutcracker")) {
        Some(program) => {
            targets.push(Target { label: "nutcracker".to_owned(), kind: TargetKind::Nutcracker, program });
        }
        None => eprintln!("nutcracker is not installed: no ratios to it"),
    }
    if let Some(program) = options.memcached_proxy.clone() {
        targets.push(Target { label: "mcproxy".to_owned(), kind: TargetKind::MemcachedProxy, program });
    }
    let mut builds = options.softmiss.clone();
    if builds.is_empty() {
        // Benches run in the package's directory; the bench itself lies in target/release/deps.
        let beside = std::env::current_exe()?.ancestors().nth(2).map(|directory| directory.join("softmiss"));
        match beside.filter(|file| file.is_file()) {
            Some(file) => builds.push(file.display().to_string()),
            None => eprintln!("no release build of softmiss found; name one with --softmiss"),
        }
    }
    for build in builds {
        let (label, path) = build.split_once('=').unwrap_or(("softmiss", &build));
        if targets.iter().any(|target| target.label == label) {
            bail!("two targets are called {label:?}; write --softmiss LABEL=PATH");
        }
        targets.push(Target { label: label.to_owned(), kind: TargetKind::Softmiss, program: PathBuf::from(path) });
    }
    if !options.only.is_empty() {
        if let Some(label) = options.only.iter().find(|&label| targets.iter().all(|target| target.label != *label)) {
            bail!("--only names {label:?}, which is not among the targets");
        }
        targets.retain(|target| options.only.contains(&target.label));
    }
    Ok(targets)
}
