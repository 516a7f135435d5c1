//! How often a server is connected to: a bucket of tokens that fills steadily.

use std::time::Duration;

use crate::time::Instant;

/// A bucket of tokens, one for each new connection.
#[derive(Debug)]
pub struct Bucket {
    /// Tokens in it.
    tokens: u32,
    /// Most tokens that it holds.
    burst: u32,
    /// How many of these were added later.
    widened: u32,
    /// Time in which a token comes.
    pace: Duration,
    /// Up to when the tokens that have come are counted.
    counted: Instant,
}

impl Bucket {
    /// A full bucket of `burst` tokens that gets `per_second` new ones each second.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        let burst = burst.max(1);
        Self {
            tokens: burst,
            burst,
            widened: 0,
            pace: Duration::from_secs(1) / per_second.max(1),
            counted: Instant::ZERO,
        }
    }

    /// Fills at another pace, up to another limit, from here on.
    pub fn set(&mut self, per_second: u32, burst: u32) {
        let other = Self::new(per_second, burst);
        (self.burst, self.pace) = (other.burst + self.widened, other.pace);
        self.tokens = self.tokens.min(self.burst);
    }

    /// Is as full as it can be: what was taken from it is of no account any more.
    pub fn refill(&mut self) {
        self.tokens = self.burst;
    }

    /// Holds one token more from here on.
    pub fn widen(&mut self) {
        self.burst += 1;
        self.widened += 1;
        self.tokens += 1;
    }

    /// Takes a token.
    ///
    /// # Errors
    ///
    /// There is none; says when there will be.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let come = u32::try_from((now - self.counted).as_nanos() / self.pace.as_nanos()).unwrap_or(u32::MAX);
        if come >= self.burst - self.tokens {
            self.tokens = self.burst;
            self.counted = now;
        } else {
            self.tokens += come;
            self.counted = self.counted + self.pace * come;
        }
        if self.tokens == 0 {
            return Err(self.counted + self.pace);
        }
        self.tokens -= 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_so_many_a_second() {
        let mut bucket = Bucket::new(10, 5);
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let taken = (0..20).filter(|_| bucket.take(at(7)).is_ok()).count();
        assert_eq!(taken, 5, "the burst");
        let next = bucket.take(at(7)).expect_err("empty");
        assert_eq!(next, at(107));
        assert!(bucket.take(next).is_ok(), "it says when there is one, and then there is");
        let taken = (200..10_200).filter(|ms| bucket.take(at(*ms)).is_ok()).count();
        assert_eq!(taken, 100, "ten a second");
        let taken = (0..20).filter(|_| bucket.take(at(60_000)).is_ok()).count();
        assert_eq!(taken, 5, "no more than a burst is kept");
        bucket.widen();
        assert!(bucket.take(at(60_000)).is_ok());
        let taken = (0..20).filter(|_| bucket.take(at(120_000)).is_ok()).count();
        assert_eq!(taken, 6, "a wider one");
    }
}
