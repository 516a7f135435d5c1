//! Numbers that need not be hard to guess.

/// The next number for the `random` distribution (xorshift64).
pub(super) fn next_random(state: &mut u64) -> u32 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 32) as u32
}
