//! What is wrong with a file, in the log.

use tracing::{error, warn};

use crate::config::diagnostic::{Report, Severity};

/// Tells the log everything in a report, each with its place and what to write instead.
pub fn tell_report(report: &Report) {
    for one in &report.diagnostics {
        let (place, help) = (report.place(one), one.help.as_deref());
        match one.severity {
            Severity::Error => error!(place, help, "{}", one.message),
            Severity::Warning => warn!(place, help, "{}", one.message),
        }
    }
}
