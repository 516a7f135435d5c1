//! `route`: where keys belong, and why; also as if some servers were gone.

use std::fmt::Write as _;
use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use crate::admin::route;
use crate::config;
use crate::config::diagnostic::nearest;
use crate::config::discovery::is_open;
use crate::config::model::{Distribution, Pool};
use crate::io::terminal::{colour, complain, say};
use crate::ring::Ring;
use crate::stats::hot::escaped;

/// The arguments of `route`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The keys; `-` reads them from stdin, one a line
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,

    /// Only this pool; all pools otherwise
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,

    /// As if this server, by name or address, were ejected; can be given several times
    #[arg(long, value_name = "SERVER")]
    dead: Vec<String>,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    /// Keys are written in hexadecimal, for those with bytes that cannot be typed
    #[arg(long)]
    hex: bool,
}

pub(super) fn run(file: &Path, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = match config::load(file) {
        Ok(loaded) => loaded.config,
        Err(report) => {
            complain(&report.render(colour()));
            bail!("{} cannot be used", file.display());
        }
    };
    let pools: Vec<_> =
        config.pools.iter().filter(|pool| arguments.pool.as_ref().is_none_or(|name| *name == pool.name)).collect();
    if pools.is_empty() {
        let wanted = arguments.pool.as_deref().unwrap_or_default();
        let names = config.pools.iter().map(|pool| pool.name.as_str());
        match nearest(wanted, names.clone()) {
            Some(meant) => bail!("there is no pool `{wanted}`; did you mean `{meant}`?"),
            None => bail!("there is no pool `{wanted}`; there are: {}", names.collect::<Vec<_>>().join(", ")),
        }
    }
    for pool in pools.iter().filter(|pool| is_open(pool)) {
        let name = &pool.name;
        complain(&format!(
            "softmiss: pool {name} has servers that are found: the running proxy knows them (`/route` of its admin port)"
        ));
    }
    let mut rings = Vec::new();
    for pool in &pools {
        rings.push((
            *pool,
            Ring::new(pool, &live(pool, &arguments.dead)),
            Ring::new(pool, &vec![true; pool.servers.len()]),
        ));
    }
    for dead in &arguments.dead {
        if !pools.iter().any(|pool| pool.servers.iter().any(|server| is_named(server, dead))) {
            let names = pools.iter().flat_map(|pool| &pool.servers).map(|server| server.name.as_str());
            bail!("there is no server `{dead}`; there are: {}", names.collect::<Vec<_>>().join(", "));
        }
    }
    let mut out = String::new();
    for argument in &arguments.keys {
        if argument == "-" {
            for line in std::io::stdin().lock().split(b'\n') {
                let line = line.context("cannot read keys from stdin")?;
                explain(&mut out, &rings, &key_of(&line, arguments.hex)?, arguments);
            }
        } else {
            explain(&mut out, &rings, &key_of(argument.as_bytes(), arguments.hex)?, arguments);
        }
    }
    say(&out);
    Ok(ExitCode::SUCCESS)
}

fn is_named(server: &config::model::Server, name: &str) -> bool {
    server.name == name || server.address.to_string() == name
}

fn live(pool: &Pool, dead: &[String]) -> Vec<bool> {
    pool.servers.iter().map(|server| !dead.iter().any(|name| is_named(server, name))).collect()
}

fn key_of(text: &[u8], hex: bool) -> anyhow::Result<Vec<u8>> {
    if !hex {
        return Ok(text.to_vec());
    }
    let text = text.trim_ascii();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.chunks(2).map(pair).collect();
    bytes.with_context(|| format!("`{}` is not hexadecimal", String::from_utf8_lossy(text)))
}

/// Appends what there is to say of a key in each pool.
fn explain(out: &mut String, rings: &[(&Pool, Ring, Ring)], key: &[u8], arguments: &Arguments) {
    let shown = escaped(key);
    for (pool, ring, whole) in rings {
        let why = ring.explain(key);
        let server = why.server.map(|id| &pool.servers[id.index()]);
        let home = whole.explain(key).server.map(|id| &pool.servers[id.index()]);
        let hashed = &key[why.hashed.clone()];
        let tagged = pool.hash_tag.is_some() && why.hashed != (0..key.len());
        if arguments.json {
            let object = route::answer(pool, ring, whole, key);
            let _ = writeln!(out, "{object}");
            continue;
        }
        let _ = writeln!(out, "{shown}");
        let _ = writeln!(out, "  pool     {}", pool.name);
        match server {
            Some(server) => {
                let _ = writeln!(out, "  server   {} ({}, weight {})", server.name, server.address, server.weight);
            }
            None if pool.distribution == Distribution::Random && ring.route(key, 0).is_some() => {
                let _ = writeln!(out, "  server   any live one: the distribution is random");
            }
            None if pool.servers.is_empty() => {
                let _ = writeln!(out, "  server   not known here: the file lists none");
            }
            None => {
                let _ = writeln!(out, "  server   none: every server of the pool is gone");
            }
        }
        if home.map(|server| &server.name) != server.map(|server| &server.name)
            && let Some(home) = home
        {
            let _ = writeln!(out, "  home     {} (gone)", home.name);
        }
        if pool.servers.len() == 1 {
            let _ = writeln!(out, "  why      the pool has one server, no key is hashed");
        } else {
            let tag =
                if tagged { format!(", of the part \"{}\" in the hash tag", escaped(hashed)) } else { String::new() };
            let _ = writeln!(out, "  why      {} is {:#010x}{tag}", pool.hash.name(), why.hash);
            if let Some(point) = why.point {
                let _ = writeln!(out, "           the next point of the ring is {point:#010x}");
            }
        }
    }
}
