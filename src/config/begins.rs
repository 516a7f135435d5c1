//! What keys begin with that an option is for.

use super::diagnostic::Diagnostic;
use super::findings::Findings;
use super::raw::{Content, Node};

/// The longest beginning of a key: memcached has none that are longer.
const LONGEST: usize = 250;

/// What the keys begin with that are meant. `None`, and said with this example, when it is no such list.
pub(super) fn resolve(node: &Node, example: &str, findings: &mut Findings) -> Option<Vec<String>> {
    let Content::List(items) = &node.content else {
        let message = format!("`keys` is a list of what keys begin with, not {}", node.content.kind());
        findings.push(Diagnostic::error(Some(node.span.clone()), message).help(example));
        return None;
    };
    if items.is_empty() {
        let message = "`keys` lists nothing, so no key would be meant";
        findings.push(Diagnostic::error(Some(node.span.clone()), message).help("leave it out, and all keys are meant"));
        return None;
    }
    let mut begins = Vec::new();
    for item in items {
        let text = match &item.content {
            Content::Scalar(text) => text.clone(),
            // To YAML, what ends with a colon is a key without a value.
            Content::Mapping(pairs) => match &pairs[..] {
                [(key, Node { content: Content::Empty, .. })] => format!("{}:", key.scalar().unwrap_or_default()),
                _ => String::new(),
            },
            Content::List(_) | Content::Empty => String::new(),
        };
        match text.len() {
            1..=LONGEST => begins.push(text),
            _ => {
                let message = "this is no text that a key could begin with";
                findings.push(Diagnostic::error(Some(item.span.clone()), message).help(example));
            }
        }
    }
    Some(begins)
}
