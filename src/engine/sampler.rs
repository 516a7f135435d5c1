//! Which requests have their keys noted.

use super::random::next_random;

/// A request counts once more for each so many bytes that it moves, as a power of two.
const SHARE_BITS: u32 = 14;

/// Which requests are in the sample.
#[derive(Debug)]
pub(super) struct Sampler {
    /// What is passed over before the next one, or before the next that is looked at.
    pub(super) left: i64,
    /// Where each is looked at: what is passed over before the next one that is in it.
    ahead: Option<i64>,
    /// One in so many is in it; 0 for none.
    pub(super) rate: u32,
    pub(super) random: u64,
}

impl Sampler {
    pub(super) fn new(rate: Option<u32>, seed: u64) -> Self {
        let random = seed ^ 0x9e37_79b9_7f4a_7c15 | 1;
        let mut sampler = Self { left: 0, ahead: None, rate: rate.unwrap_or(0), random };
        sampler.draw();
        sampler
    }

    /// Has one in so many in it from here on.
    pub(super) fn set_rate(&mut self, rate: Option<u32>) {
        (self.rate, self.left, self.ahead) = (rate.unwrap_or(0), 0, self.ahead.and(Some(0)));
        self.draw();
    }

    /// Has each request met from here on, be it in the sample or not, or only those that are: so there is one question to
    /// each request, whoever wants to look at it.
    pub(super) fn meet_all(&mut self, all: bool) {
        if all != self.ahead.is_some() {
            let ahead = self.ahead.unwrap_or(0) + self.left;
            (self.left, self.ahead) = if all { (0, Some(ahead)) } else { (ahead, None) };
        }
    }

    /// Passes over a request that moves so many bytes; returns whether it is met. What that is for is said by
    /// [`Sampler::draw`].
    #[inline]
    pub(super) fn meets(&mut self, bytes: usize) -> bool {
        self.left -= size_of(bytes);
        self.left <= 0
    }

    /// Draws where the next ones are, until one is ahead: the mean gap is the rate, the least is one. Returns how many fell
    /// on the request at hand, which was met.
    pub(super) fn draw(&mut self) -> u64 {
        if self.rate == 0 {
            (self.left, self.ahead) = if self.ahead.is_some() { (0, Some(i64::MAX)) } else { (i64::MAX, None) };
            return 0;
        }
        let mut ahead = self.ahead.unwrap_or(0) + self.left;
        let mut met = 0;
        while ahead <= 0 {
            let drawn = u64::from(next_random(&mut self.random));
            let gap = 1 + ((drawn * (2 * u64::from(self.rate) - 1)) >> 32);
            ahead += i64::try_from(gap).unwrap_or(i64::MAX);
            met += 1;
        }
        (self.left, self.ahead) = if self.ahead.is_some() { (0, Some(ahead)) } else { (ahead, None) };
        met
    }
}

/// As how many requests one counts that moves so many bytes.
#[inline]
#[expect(clippy::cast_possible_wrap, reason = "a length, divided")]
pub(super) const fn size_of(bytes: usize) -> i64 {
    1 + (bytes >> SHARE_BITS) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of a thousand requests are in a sample, of which some are met for other reasons.
    fn drawn(rate: Option<u32>, is_met_at: impl Fn(usize) -> bool) -> Vec<(usize, u64)> {
        let mut sampler = Sampler::new(rate, 7);
        let mut drawn = Vec::new();
        for place in 0..1000 {
            sampler.meet_all(is_met_at(place));
            if sampler.meets(place << 6) {
                drawn.push((place, sampler.draw()));
            } else {
                assert!(!is_met_at(place));
            }
        }
        drawn.retain(|(_, met)| *met > 0);
        drawn
    }

    #[test]
    fn the_same_requests_are_in_it_where_each_is_met() {
        for rate in [None, Some(1), Some(3), Some(50)] {
            let sample = drawn(rate, |_| false);
            assert_eq!(sample.is_empty(), rate.is_none());
            assert_eq!(drawn(rate, |_| true), sample);
            assert_eq!(drawn(rate, |place| place / 100 % 2 == 0), sample);
        }
    }
}
