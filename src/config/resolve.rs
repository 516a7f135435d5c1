//! From the file as written to resolved values: defaults, ranges, cross-checks.
//!
//! Nothing here stops at the first problem: each key is looked at by itself, what is wrong is noted, and the file is
//! refused at the end with everything that was found.

#![expect(clippy::wildcard_enum_match_arm, reason = "what is not the wanted kind of node is named in the message")]

use super::diagnostic::{Diagnostic, Severity, Span, nearest};
use super::model::{Config, Settings};
use super::raw::{Content, Node};
use super::together::{self, Found};
use super::{pool, settings, text, value};

/// The name that is not a pool's.
pub(super) const SETTINGS_NAME: &str = "softmiss";

/// Most pools and servers that can be told apart.
pub(super) const COUNT_LIMIT: usize = 65_535;

/// What is found wrong.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) list: Vec<Diagnostic>,
    /// What a flag of the command line may set right.
    pub(super) unless_flags: Vec<Diagnostic>,
}

impl Findings {
    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    pub(super) fn has_errors(&self) -> bool {
        self.list.iter().any(|one| one.severity == Severity::Error)
    }

    /// The value, or a note of what is wrong with it.
    pub(super) fn check<T>(&mut self, node: &Node, key: &str, read: Result<T, value::Wrong>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(wrong) => {
                let message = format!("`{key}`: {}", wrong.message);
                self.push(Diagnostic::error(Some(node.span.clone()), message).maybe_help(wrong.help));
                None
            }
        }
    }

    /// The text of a single value, or a note that there is none.
    pub(super) fn scalar<'a>(&mut self, key: &Node, node: &'a Node) -> Option<&'a str> {
        let name = key.scalar().unwrap_or_default();
        let problem = match &node.content {
            Content::Scalar(text) => return Some(text),
            Content::Empty => Diagnostic::error(Some(key.span.clone()), format!("`{name}` has no value"))
                .label("nothing stands behind it")
                .help("write a value, or leave the line out to get the default"),
            other => {
                let is_address = |item: &Node| item.scalar().is_some_and(|text| text.contains(':'));
                let is_address = matches!(other, Content::List(items) if items.iter().any(is_address));
                let help = "an address of IPv6 has its port behind the bracket: `[::1]:11211`".to_owned();
                let message = format!("`{name}` takes a single value, not {}", other.kind());
                Diagnostic::error(Some(node.span.clone()), message).maybe_help(is_address.then_some(help))
            }
        };
        self.push(problem);
        None
    }
}

/// Where a key belongs that is one of others than these.
fn elsewhere(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let is_of_process = settings::KEYS.contains(&name) && !known.contains(&settings::KEYS[0]);
    let is_of_pool = pool::KEYS.contains(&name) && !known.contains(&pool::KEYS[0]);
    match () {
        () if is_of_process => {
            Some("it is a setting of the process: write it below `softmiss:`, which stands beside the pools")
        }
        () if is_of_pool => Some("it is a key of a pool: write it below the name of one"),
        () => None,
    }
}

/// What stands where a pool does, and is none: a setting of the process, or the section of these under another name.
fn no_pool(key: &Node, name: &str, node: &Node) -> Option<Diagnostic> {
    let error = |message: String| Diagnostic::error(Some(key.span.clone()), message);
    if settings::KEYS.contains(&name) && !matches!(&node.content, Content::Mapping(pairs) if has_pool_key(pairs)) {
        let value = node.scalar().filter(|_| !text::is_secret(name)).unwrap_or(text::UNTOLD);
        return Some(
            error(format!("`{name}` is no pool, but a setting of the process"))
                .help(format!("write it below `{SETTINGS_NAME}:`\n\n  {SETTINGS_NAME}:\n    {name}: {value}")),
        );
    }
    let pairs = match &node.content {
        Content::Mapping(pairs) if !has_pool_key(pairs) => pairs,
        _ => return None,
    };
    let is_setting = |(key, _): &(Node, Node)| key.scalar().is_some_and(|key| settings::KEYS.contains(&key));
    (nearest(name, [SETTINGS_NAME]).is_some() || pairs.iter().any(is_setting)).then(|| {
        error(format!("`{name}` is no pool: it has no `listen` and no `servers`"))
            .label("the settings of the process?")
            .help(format!("did you mean `{SETTINGS_NAME}`? The settings of the process stand below that name"))
    })
}

fn has_pool_key(pairs: &[(Node, Node)]) -> bool {
    pairs.iter().any(|(key, _)| key.scalar().is_some_and(|key| ["listen", "servers"].contains(&key)))
}

/// A mapping's keys and values, each key once.
pub(super) struct Keys<'a> {
    pairs: Vec<(&'a Node, &'a Node)>,
}

impl<'a> Keys<'a> {
    /// Takes a mapping apart; notes keys that are unknown or repeated. `owner` is whose keys they are, for messages.
    pub(super) fn new(
        pairs: &'a [(Node, Node)],
        known: &[&'static str],
        later: &[&'static str],
        owner: &str,
        findings: &mut Findings,
    ) -> Self {
        let mut kept: Vec<(&Node, &Node)> = Vec::new();
        for (key, value) in pairs {
            let Some(name) = key.scalar() else {
                findings.push(Diagnostic::error(Some(key.span.clone()), "a key must be a single word"));
                continue;
            };
            if let Some((first, _)) = kept.iter().find(|(first, _)| first.scalar() == Some(name)) {
                let repeated = Diagnostic::error(Some(key.span.clone()), format!("`{name}` is given twice"))
                    .label("again here")
                    .also(first.span.clone(), "first here")
                    .help("keep one of the two");
                findings.push(repeated);
            } else if later.contains(&name) {
                let early =
                    Diagnostic::error(Some(key.span.clone()), format!("`{name}` is not supported by this version yet"))
                        .help("leave it out");
                findings.push(early);
            } else if known.contains(&name) {
                kept.push((key, value));
            } else {
                let help = match (elsewhere(name, known), nearest(name, known.iter().copied())) {
                    (Some(place), _) => place.to_owned(),
                    (None, Some(meant)) => format!("did you mean `{meant}`?"),
                    (None, None) => format!("the keys of {owner} are: {}", known.join(", ")),
                };
                findings.push(
                    Diagnostic::error(Some(key.span.clone()), format!("`{name}` is not a key of {owner}")).help(help),
                );
            }
        }
        Self { pairs: kept }
    }

    /// The key's own place and its value.
    pub(super) fn find(&self, name: &str) -> Option<(&'a Node, &'a Node)> {
        self.pairs.iter().find(|(key, _)| key.scalar() == Some(name)).copied()
    }

    /// Reads the single value of a key, if it is there.
    pub(super) fn read<T>(
        &self,
        name: &str,
        findings: &mut Findings,
        read: impl FnOnce(&str) -> Result<T, value::Wrong>,
    ) -> Option<T> {
        let (key, node) = self.find(name)?;
        let text = findings.scalar(key, node)?;
        findings.check(node, name, read(text))
    }

    /// Where the value of a key stands.
    pub(super) fn span(&self, name: &str) -> Option<Span> {
        self.find(name).map(|(key, node)| if node.span.is_empty() { key.span.clone() } else { node.span.clone() })
    }
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
    Some(Config { settings, pools: pools.into_iter().map(|found| found.pool).collect() })
}

const POOL_EXAMPLE: &str = "a pool looks like this:\n\n  \
    cache:\n    listen: 127.0.0.1:11211\n    servers:\n      - 10.0.0.1:11211:1";

fn no_pools(span: Option<Span>) -> Diagnostic {
    Diagnostic::error(span, "the file has no pools").help(POOL_EXAMPLE)
}

/// Keys of a pool at the left margin, which is what is left of a file that was pasted without its indentation.
fn lost_indentation(pairs: &[(Node, Node)]) -> Option<Diagnostic> {
    let at_margin: Vec<_> =
        pairs.iter().filter(|(key, _)| key.scalar().is_some_and(|name| pool::KEYS.contains(&name))).collect();
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

/// One of several words.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&'static str, T)]) -> Result<T, value::Wrong> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names = choices.iter().map(|(name, _)| *name);
    let all = names.clone().collect::<Vec<_>>().join(", ");
    let help = match nearest(text, names) {
        Some(meant) => format!("did you mean `{meant}`? It can be: {all}"),
        None => format!("it can be: {all}"),
    };
    Err(value::Wrong { message: format!("`{text}` is not one of the values it can have"), help: Some(help) })
}
