//! What is made of a failure.

use std::time::Duration;

/// What became of a failure that was reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is one of several reports of the same trouble, or the server is ejected already.
    Ignored,
    /// It counts; so many in a row by now.
    Counted(u32),
    /// It counts, the server stays in the ring, and it is time to tell that it fails.
    Failing {
        /// Failures in a row.
        failures: u32,
        /// How long it has failed.
        lasts: Duration,
        /// Failures that were worth telling and were not told since the last one that was.
        suppressed: u32,
    },
    /// It was the last straw: the server is out of the ring.
    Ejected {
        /// Failures in a row that led to it.
        failures: u32,
    },
}
