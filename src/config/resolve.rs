//! From the file as written to resolved values: defaults, ranges, cross-checks.
//!
//! Nothing here stops at the first problem: each key is looked at by itself, what is wrong is noted, and the file is
//! refused at the end with everything that was found.

#![expect(clippy::wildcard_enum_match_arm, reason = "what is not the wanted kind of node is named in the message")]

use super::diagnostic::{Diagnostic, Span};
use super::findings::Findings;
use super::model::{COUNT_LIMIT, Config, Pool, PoolId, SETTINGS_NAME, Settings};
use super::nearest::nearest;
use super::raw::{Content, Node};
use super::together::{self, Found};
use super::{options, pool, secret, settings};

/// What stands where a pool does, and is none: a setting of the process, or the section of these under another name.
fn no_pool(key: &Node, name: &str, node: &Node) -> Option<Diagnostic> {
    let error = |message: String| Diagnostic::error(Some(key.span.clone()), message);
    if options::is_of_process(name) && !matches!(&node.content, Content::Mapping(pairs) if has_pool_key(pairs)) {
        let value = node.scalar().filter(|_| !secret::is_secret(name)).unwrap_or(secret::UNTOLD);
        return Some(
            error(format!("`{name}` is no pool, but a setting of the process"))
                .help(format!("write it below `{SETTINGS_NAME}:`\n\n  {SETTINGS_NAME}:\n    {name}: {value}")),
        );
    }
    let pairs = match &node.content {
        Content::Mapping(pairs) if !has_pool_key(pairs) => pairs,
        _ => return None,
    };
    let is_setting = |(key, _): &(Node, Node)| key.scalar().is_some_and(options::is_of_process);
    (nearest(name, [SETTINGS_NAME]).is_some() || pairs.iter().any(is_setting)).then(|| {
        error(format!("`{name}` is no pool: it has no `listen` and no `servers`"))
            .label("the settings of the process?")
            .help(format!("did you mean `{SETTINGS_NAME}`? The settings of the process stand below that name"))
    })
}

fn has_pool_key(pairs: &[(Node, Node)]) -> bool {
    pairs.iter().any(|(key, _)| {
        key.scalar().is_some_and(|key| ["listen", "servers", "servers_file", "auto_discovery"].contains(&key))
    })
}

/// Resolves a file. The configuration is `None` when something is wrong with it.
pub(super) fn resolve(root: &Node, findings: &mut Findings) -> Option<Config> {
    let pairs = match &root.content {
        Content::Mapping(pairs) => pairs,
        Content::Empty => {
            findings.push(no_pools(None));
            return None;
        }
        other => {
            let message = format!("the file must be a mapping of pool names to their keys, not {}", other.kind());
            findings.push(Diagnostic::error(Some(root.span.clone()), message).help(POOL_EXAMPLE));
            return None;
        }
    };
    if let Some(problem) = lost_indentation(pairs) {
        findings.push(problem);
        return None;
    }
    let mut settings = Settings::default();
    let mut ports = together::PortSpans::default();
    let mut pools: Vec<Found> = Vec::new();
    let mut names: Vec<&Node> = Vec::new();
    for (key, node) in pairs {
        let Some(name) = key.scalar() else {
            findings.push(Diagnostic::error(Some(key.span.clone()), "the name of a pool must be a single word"));
            continue;
        };
        if let Some(first) = names.iter().find(|first| first.scalar() == Some(name)) {
            let repeated =
                Diagnostic::error(Some(key.span.clone()), format!("there are two pools with the name `{name}`"))
                    .label("again here")
                    .also(first.span.clone(), "first here")
                    .help("give each pool a name of its own");
            findings.push(repeated);
            continue;
        }
        names.push(key);
        if name == SETTINGS_NAME {
            (settings, ports) = settings::resolve(key, node, findings);
        } else if let Some(problem) = no_pool(key, name, node) {
            findings.push(problem);
        } else {
            pools.extend(pool::resolve(key, name, node, findings));
        }
    }
    if names.iter().all(|key| key.scalar() == Some(SETTINGS_NAME)) {
        findings.push(no_pools(names.first().map(|key| key.span.clone())));
    }
    if names.len() > COUNT_LIMIT {
        findings.push(Diagnostic::error(
            None,
            format!("there are {} pools; at most {COUNT_LIMIT} are possible", names.len()),
        ));
    }
    together::check(&settings, &ports, &pools, findings);
    if findings.has_errors() {
        return None;
    }
    Some(Config {
        settings,
        pools: (0..=u16::MAX).map(PoolId).zip(pools).map(|(id, found)| Pool { id, ..found.pool }).collect(),
    })
}

const POOL_EXAMPLE: &str = "a pool looks like this:\n\n  \
    cache:\n    listen: 127.0.0.1:11211\n    servers:\n      - 10.0.0.1:11211:1";

fn no_pools(span: Option<Span>) -> Diagnostic {
    Diagnostic::error(span, "the file has no pools").help(POOL_EXAMPLE)
}

/// Keys of a pool at the left margin, which is what is left of a file that was pasted without its indentation.
fn lost_indentation(pairs: &[(Node, Node)]) -> Option<Diagnostic> {
    let at_margin: Vec<_> = pairs.iter().filter(|(key, _)| key.scalar().is_some_and(options::is_of_pool)).collect();
    let (first, _) = at_margin.first()?;
    if at_margin.len() < 2 {
        return None;
    }
    let owner = pairs.iter().find(|(_, value)| matches!(value.content, Content::Empty));
    let name = owner.and_then(|(key, _)| key.scalar()).unwrap_or("cache");
    Some(
        Diagnostic::error(
            Some(first.span.clone()),
            "the keys of a pool stand at the left margin: their indentation is lost",
        )
        .label("this belongs to a pool")
        .help(format!(
            "put the pool's name on a line of its own and indent its keys by two spaces:\n\n  {name}:\n    {}: ...",
            first.scalar().unwrap_or("listen")
        )),
    )
}
