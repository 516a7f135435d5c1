//! What a pool says of `near_cache`.

#![expect(clippy::wildcard_enum_match_arm, reason = "what is not the wanted kind of node is named in the message")]

use super::begins;
use super::diagnostic::Diagnostic;
use super::findings::{Findings, Keys};
use super::model::NearCache;
use super::options::{KEYS, NEAR_CACHE};
use super::raw::{Content, Node};

const EXAMPLE: &str = "write `near_cache: true`, or `near_cache: {size: 64mb, ttl: 1s, keys: [\"page:\"]}`";

/// `None` when something is wrong with it, or it is `false`.
pub(super) fn resolve(node: &Node, findings: &mut Findings) -> Option<NearCache> {
    let pairs = match &node.content {
        Content::Mapping(pairs) => pairs,
        Content::Scalar(text) if text == "true" => return Some(NearCache::default()),
        Content::Scalar(text) if text == "false" => return None,
        other => {
            let kind = other.kind();
            let message =
                format!("`near_cache` takes `true`, or `size`, `ttl`, `keys` and `stale_on_error`, not {kind}");
            findings.push(Diagnostic::error(Some(node.span.clone()), message).help(EXAMPLE));
            return None;
        }
    };
    let keys = Keys::new(pairs, NEAR_CACHE, &[], "`near_cache`", findings);
    let mut near_cache = NearCache::default();
    keys.read(NEAR_CACHE, &mut near_cache, findings);
    if near_cache.stale_on_error.is_some_and(|stale| stale < near_cache.ttl) {
        let message = "`stale_on_error` is shorter than `ttl`, so nothing would be given for it";
        findings.push(Diagnostic::error(keys.span("stale_on_error"), message).help("`stale_on_error: 5m` is usual"));
    }
    if let Some((_, node)) = keys.find(KEYS) {
        near_cache.keys = begins::resolve(node, EXAMPLE, findings)?;
    }
    Some(near_cache)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{parse, write};
    use super::*;

    fn read(lines: &str) -> Result<Option<NearCache>, String> {
        let file = format!("p:\n  listen: /nowhere\n  timeout: 400\n  {lines}\n  servers: ['a:1:1']\n");
        let loaded = parse("file", &file).map_err(|report| report.render(false))?;
        let again = parse("again", &write(&loaded.config)).map_err(|report| report.render(false))?;
        assert_eq!(again.config.pools[0].near_cache, loaded.config.pools[0].near_cache);
        Ok(loaded.config.pools[0].near_cache.clone())
    }

    #[test]
    fn it_is_on_or_off_or_says_how() {
        assert_eq!(read("rise: 1"), Ok(None));
        assert_eq!(read("near_cache: false"), Ok(None));
        assert_eq!(read("near_cache: true"), Ok(Some(NearCache::default())));
        let said = read("near_cache: {size: 8mb, ttl: 500ms, stale_on_error: 5m, keys: [page:]}").unwrap().unwrap();
        let expected = NearCache {
            size: 8 << 20,
            ttl: Duration::from_millis(500),
            stale_on_error: Some(Duration::from_secs(300)),
            keys: vec!["page:".to_owned()],
        };
        assert_eq!(said, expected);
        assert!(said.is_for(b"page:1") && !said.is_for(b"pag"));
    }

    #[test]
    fn what_it_cannot_be_is_refused_with_the_reason() {
        for (lines, told) in [
            ("near_cache: yes", "takes `true`, or `size`, `ttl`, `keys` and `stale_on_error`"),
            ("near_cache: {size: 1kb}", "from 1048576"),
            ("near_cache: {ttl: 0}", "no time to give a value out for"),
            ("near_cache: {ttl: 2h}", "no time to give a value out for"),
            ("near_cache: {ttl: 10s, stale_on_error: 5s}", "shorter than `ttl`"),
            ("near_cache: {stale_on_eror: 5m}", "did you mean `stale_on_error`?"),
            ("near_cache: {keys: []}", "no key would be meant"),
            ("near_cache: true\n  distribution: random", "cannot be kept with `distribution: random`"),
        ] {
            let report = read(lines).expect_err(lines);
            assert!(report.contains(told), "{lines}: {report}");
        }
    }
}
