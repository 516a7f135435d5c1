//! How many points of the ring are a server's, by twemproxy's rule.

/// Points that a server of average weight has.
const POINTS_PER_SERVER: f32 = 160.0;

/// Points that one MD5 digest gives.
const POINTS_PER_HASH: f32 = 4.0;

/// How many digests, of four points each, a server of this weight gets. Computed in 32-bit floating point as twemproxy
/// does: a very light server can get none, and then no keys.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the rounding is the rule"
)]
pub fn ketama_groups(weight: u32, total_weight: u32, live: usize) -> u32 {
    let share = weight as f32 / total_weight as f32;
    (share * POINTS_PER_SERVER / POINTS_PER_HASH * live as f32 + 1e-10).floor() as u32
}
