//! The demo's own clock and pauses: it plays the outside world, where time is not an argument.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall-clock time.
#[expect(clippy::disallowed_methods, reason = "the demo plays the outside world")]
pub(super) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The time.
#[expect(clippy::disallowed_methods, reason = "the demo plays the outside world")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Waits.
#[expect(clippy::disallowed_methods, reason = "the demo's threads own their time")]
pub(super) fn pause(span: Duration) {
    std::thread::sleep(span);
}
