//! What a pool says of `stampede`.

#![expect(clippy::wildcard_enum_match_arm, reason = "what is not the wanted kind of node is named in the message")]

use super::begins;
use super::diagnostic::Diagnostic;
use super::findings::{Findings, Keys};
use super::model::Stampede;
use super::options::{KEYS, STAMPEDE};
use super::raw::{Content, Node};

const EXAMPLE: &str = "write `stampede: true`, or `stampede: {wait: 2s, lease: 5s, stale: 30s, keys: [\"page:\"]}`";

/// `None` when something is wrong with it, or it is `false`.
pub(super) fn resolve(node: &Node, findings: &mut Findings) -> Option<Stampede> {
    let pairs = match &node.content {
        Content::Mapping(pairs) => pairs,
        Content::Scalar(text) if text == "true" => return Some(Stampede::default()),
        Content::Scalar(text) if text == "false" => return None,
        other => {
            let message =
                format!("`stampede` takes `true`, or `wait`, `lease`, `stale` and `keys`, not {}", other.kind());
            findings.push(Diagnostic::error(Some(node.span.clone()), message).help(EXAMPLE));
            return None;
        }
    };
    let keys = Keys::new(pairs, STAMPEDE, &[], "`stampede`", findings);
    let mut stampede = Stampede::default();
    keys.read(STAMPEDE, &mut stampede, findings);
    if let Some((_, node)) = keys.find(KEYS) {
        stampede.keys = begins::resolve(node, EXAMPLE, findings)?;
    }
    Some(stampede)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{parse, write};
    use super::*;

    fn read(lines: &str) -> Result<Option<Stampede>, String> {
        let file = format!("p:\n  listen: /nowhere\n  timeout: 400\n  {lines}\n  servers: ['a:1:1']\n");
        let loaded = parse("file", &file).map_err(|report| report.render(false))?;
        let again = parse("again", &write(&loaded.config)).map_err(|report| report.render(false))?;
        assert_eq!(again.config.pools[0].stampede, loaded.config.pools[0].stampede);
        Ok(loaded.config.pools[0].stampede.clone())
    }

    #[test]
    fn it_is_on_or_off_or_says_how() {
        assert_eq!(read("rise: 1"), Ok(None));
        assert_eq!(read("stampede: false"), Ok(None));
        assert_eq!(read("stampede: true"), Ok(Some(Stampede::default())));
        let said = read("stampede: {wait: 500, lease: 1m, stale: 0, keys: [page:, \"a b\", 'x']}").unwrap().unwrap();
        let keys = ["page:", "a b", "x"].map(str::to_owned).to_vec();
        let (wait, lease) = (Duration::from_millis(500), Duration::from_secs(60));
        assert_eq!(said, Stampede { wait, lease, keys, stale: None });
        assert!(said.is_for(b"page:1") && said.is_for(b"xyz") && !said.is_for(b"pag") && !said.is_for(b""));
        assert!(Stampede::default().is_for(b"anything"));
    }

    #[test]
    fn what_it_cannot_be_is_refused_with_the_reason() {
        for (lines, told) in [
            ("stampede: yes", "takes `true`, or `wait`, `lease`, `stale` and `keys`"),
            ("stampede: [page]", "not a list"),
            ("stampede: {wait: 2m}", "no time to wait"),
            ("stampede: {wait: 0}", "no time to wait"),
            ("stampede: {lease: 10ms}", "no time to compute"),
            ("stampede: {stale: 25h}", "longer than a day"),
            ("stampede: {keys: page}", "is a list of what keys begin with"),
            ("stampede: {keys: []}", "no key would be meant"),
            ("stampede: {keys: ['']}", "no text that a key could begin with"),
            ("stampede: {wiat: 2s}", "did you mean `wait`?"),
            ("stampede: true\n  distribution: random", "cannot be kept with `distribution: random`"),
        ] {
            let report = read(lines).expect_err(lines);
            assert!(report.contains(told), "{lines}: {report}");
        }
    }
}
