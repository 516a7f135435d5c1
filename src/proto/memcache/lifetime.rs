//! Lifetimes of items: what `exptime` means, and how it is shortened.

use super::number;

/// Longest lifetime that is counted from now; larger numbers are points in time (memcached's `REALTIME_MAXDELTA`).
pub const RELATIVE_LIMIT: i64 = 60 * 60 * 24 * 30;

/// A bound on lifetimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cap {
    /// Longest lifetime, in seconds.
    pub seconds: u32,
    /// The time, in seconds since the Unix epoch.
    pub now: u64,
}

impl Cap {
    /// The lifetime to ask for in place of `exptime`. An item that is to be gone at once stays so.
    #[must_use]
    pub fn apply(self, exptime: i64) -> i64 {
        let most = i64::from(self.seconds);
        match exptime {
            0 => most,
            gone if gone < 0 => gone,
            relative if relative <= RELATIVE_LIMIT => relative.min(most),
            at if at.saturating_sub_unsigned(self.now) <= most => at,
            _ => most,
        }
    }

    /// As [`Cap::apply`], for a number as it stands in a request; what is not one is left to the server.
    pub fn push(self, out: &mut Vec<u8>, exptime: &[u8]) {
        match number::signed(exptime) {
            Some(exptime) => number::push_signed(out, self.apply(exptime)),
            None => out.extend_from_slice(exptime),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_shortened_and_never_made_longer() {
        let cap = Cap { seconds: 60, now: 2_000_000_000 };
        for (asked, given) in [
            (0, 60),
            (-1, -1),
            (1, 1),
            (60, 60),
            (61, 60),
            (RELATIVE_LIMIT, 60),
            (RELATIVE_LIMIT + 1, RELATIVE_LIMIT + 1), // a point in time long past
            (2_000_000_030, 2_000_000_030),
            (2_000_000_061, 60),
        ] {
            assert_eq!(cap.apply(asked), given, "{asked}");
        }
    }
}
