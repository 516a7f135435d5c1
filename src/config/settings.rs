//! The settings of the process: the file's `softmiss:` section.

#![expect(clippy::wildcard_enum_match_arm, reason = "what is not the wanted kind of node is named in the message")]

use super::diagnostic::Diagnostic;
use super::findings::{Findings, Keys};
use super::model::{LogSettings, SETTINGS_NAME, Settings, StatsdSettings};
use super::options::{LOG, PROCESS, STATSD};
use super::raw::{Content, Node};
use super::together::PortSpans;

const STATSD_EXAMPLE: &str = "write `statsd: {address: 127.0.0.1:8125, prefix: softmiss, interval: 10s}`";

pub(super) fn resolve(key: &Node, node: &Node, findings: &mut Findings) -> (Settings, PortSpans) {
    let mut settings = Settings::default();
    let pairs = match &node.content {
        Content::Mapping(pairs) => pairs,
        Content::Empty => return (settings, PortSpans::default()),
        other => {
            let message = format!("`{SETTINGS_NAME}` holds the settings of the process, not {}", other.kind());
            findings.push(Diagnostic::error(Some(key.span.clone()), message));
            return (settings, PortSpans::default());
        }
    };
    let keys = Keys::new(pairs, PROCESS, &[], "the `softmiss` section", findings);
    keys.read(PROCESS, &mut settings, findings);
    settings.statsd = keys.find("statsd").and_then(|(key, node)| statsd(key, node, findings));
    if let Some((key, node)) = keys.find("log") {
        settings.log = log(key, node, findings);
    }
    (settings, ["stats", "admin"].map(|key| keys.span(key)))
}

/// `None` when something is wrong with it, or it is `none`.
fn statsd(key: &Node, node: &Node, findings: &mut Findings) -> Option<StatsdSettings> {
    let pairs = match &node.content {
        Content::Mapping(pairs) => pairs,
        Content::Scalar(text) if text == "none" => return None,
        other => {
            let message = format!("`statsd` takes `address`, `prefix` and `interval`, not {}", other.kind());
            findings.push(Diagnostic::error(Some(key.span.clone()), message).help(STATSD_EXAMPLE));
            return None;
        }
    };
    let keys = Keys::new(pairs, STATSD, &[], "`statsd`", findings);
    if keys.find("address").is_none() {
        let message = "`statsd` has no `address`";
        findings.push(Diagnostic::error(Some(key.span.clone()), message).help(STATSD_EXAMPLE));
    }
    let mut statsd = StatsdSettings::default();
    let said = keys.read(STATSD, &mut statsd, findings);
    said.contains(&"address").then_some(statsd)
}

fn log(key: &Node, node: &Node, findings: &mut Findings) -> LogSettings {
    let mut log = LogSettings::default();
    let Content::Mapping(pairs) = &node.content else {
        let message = format!("`log` takes `level` and `format`, not {}", node.content.kind());
        findings
            .push(Diagnostic::error(Some(key.span.clone()), message).help("write `log: {level: info, format: text}`"));
        return log;
    };
    let keys = Keys::new(pairs, LOG, &[], "`log`", findings);
    keys.read(LOG, &mut log, findings);
    log
}
