//! What is found wrong while a file is resolved, and the keys of a mapping, which are where most of it is.

#![expect(clippy::wildcard_enum_match_arm, reason = "what is not the wanted kind of node is named in the message")]

use super::diagnostic::{Diagnostic, Severity, Span};
use super::nearest::nearest;
use super::options::{self, Form, Opt, POOL, PROCESS};
use super::raw::{Content, Node};
use super::value;

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
    pub(super) fn check<T>(&mut self, span: &Span, key: &str, read: Result<T, value::Wrong>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(wrong) => {
                let message = format!("`{key}`: {}", wrong.message);
                self.push(Diagnostic::error(Some(span.clone()), message).maybe_help(wrong.help));
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
    let is_of_process = options::is_of_process(name) && !known.contains(&PROCESS[0].about.name);
    let is_of_pool = options::is_of_pool(name) && !known.contains(&POOL[0].about.name);
    match () {
        () if is_of_process => {
            Some("it is a setting of the process: write it below `softmiss:`, which stands beside the pools")
        }
        () if is_of_pool => Some("it is a key of a pool: write it below the name of one"),
        () => None,
    }
}

/// A mapping's keys and values, each key once.
pub(super) struct Keys<'a> {
    pairs: Vec<(&'a Node, &'a Node)>,
}

impl<'a> Keys<'a> {
    /// Takes a mapping apart; notes keys that are unknown or repeated. `owner` is whose keys they are, for messages.
    pub(super) fn new<D, M>(
        pairs: &'a [(Node, Node)],
        known: &[Opt<D, M>],
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
            } else if known.iter().any(|option| option.about.has_name(name)) {
                kept.push((key, value));
            } else {
                let known = options::names(known);
                let help = match (elsewhere(name, &known), nearest(name, known.iter().copied())) {
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

    /// Reads the options of a table that have single values. The names of those that are there and could be read.
    pub(super) fn read<D, M>(&self, options: &[Opt<D, M>], into: &mut D, findings: &mut Findings) -> Vec<&'static str> {
        let mut said = Vec::new();
        for Opt { about, form } in options {
            let Form::Single { read, .. } = form else { continue };
            if let Some(alias) =
                about.alias.filter(|alias| [alias, about.name].iter().all(|name| self.find(name).is_some()))
            {
                let message = format!("`{alias}` and `{}` are two names of one setting", about.name);
                findings.push(Diagnostic::error(self.span(alias), message).help("keep one of the two"));
            }
            let mut take = |name: &str| {
                let (key, node) = self.find(name)?;
                let text = findings.scalar(key, node)?;
                findings.check(&node.span, name, read(into, text, about.limits))
            };
            if [Some(about.name), about.alias].into_iter().flatten().any(|name| take(name).is_some()) {
                said.push(about.name);
            }
        }
        said
    }

    /// Where the value of a key stands.
    pub(super) fn span(&self, name: &str) -> Option<Span> {
        self.find(name).map(|(key, node)| if node.span.is_empty() { key.span.clone() } else { node.span.clone() })
    }
}
