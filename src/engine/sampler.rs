//! Which requests have their keys noted.

use super::random::next_random;

/// A request counts once more for each so many bytes that it moves, as a power of two.
const SHARE_BITS: u32 = 14;

/// Which requests are in the sample.
#[derive(Debug)]
pub(super) struct Sampler {
    /// What is passed over before the next one.
    pub(super) left: i64,
    /// One in so many is in it; 0 for none.
    pub(super) rate: u32,
    pub(super) random: u64,
}

impl Sampler {
    pub(super) fn new(rate: Option<u32>, seed: u64) -> Self {
        let mut sampler = Self { left: 0, rate: rate.unwrap_or(0), random: seed ^ 0x9e37_79b9_7f4a_7c15 | 1 };
        sampler.draw();
        sampler
    }

    /// Has one in so many in it from here on.
    pub(super) fn set_rate(&mut self, rate: Option<u32>) {
        (self.rate, self.left) = (rate.unwrap_or(0), 0);
        self.draw();
    }

    /// Passes over a request that moves so many bytes; returns whether it is in the sample.
    #[inline]
    pub(super) fn meets(&mut self, bytes: usize) -> bool {
        self.left -= size_of(bytes);
        self.left <= 0
    }

    /// Draws where the next ones are, until one is ahead: the mean gap is the rate, the least is one. Returns how many fell
    /// on the request at hand.
    pub(super) fn draw(&mut self) -> u64 {
        if self.rate == 0 {
            self.left = i64::MAX;
            return 0;
        }
        let mut met = 0;
        while self.left <= 0 {
            let drawn = u64::from(next_random(&mut self.random));
            let gap = 1 + ((drawn * (2 * u64::from(self.rate) - 1)) >> 32);
            self.left += i64::try_from(gap).unwrap_or(i64::MAX);
            met += 1;
        }
        met
    }
}

/// As how many requests one counts that moves so many bytes.
#[inline]
#[expect(clippy::cast_possible_wrap, reason = "a length, divided")]
pub(super) const fn size_of(bytes: usize) -> i64 {
    1 + (bytes >> SHARE_BITS) as i64
}
