//! What is read of one connection in one turn of the loop.
//!
//! A few connections may read much at a time, which costs fewer calls. Where many have something to read, each gets less:
//! who comes last in a turn waits until all others have been read. (A message that is so large that it has a buffer of its
//! own is read in one call as far as the kernel has it, if that is not much more.)
//!
//! That bounds what one connection costs, not what two hundred do that all have much to say. So those that had much to
//! say lately are *bulky*: when something is announced of one, it waits until the others have been read, and of all that
//! wait only so many are read in a turn that it is short. Who comes meanwhile does not wait behind them.

use std::time::Duration;

/// Bytes read of all connections in one turn, as long as [`LEAST`] of each is not more.
const TURN: usize = 4 << 20;

/// Bytes read of one connection, at most and at least.
const MOST: usize = 256 << 10;
const LEAST: usize = 64 << 10;

/// A connection of which so many bytes are read in one turn is bulky, unless they are many small messages, as servers
/// send that many clients share.
pub(crate) const BULKY: usize = 16 << 10;

/// Bytes read of a bulky connection in one turn at most: as much as lets a value of ordinary size come in one call.
pub(crate) const SLICE: usize = 128 << 10;

/// Bytes read in one turn behind which bulky connections wait for the next. Each has its turn, so it costs a look at what
/// has come meanwhile, and not a call more.
pub(crate) const ENOUGH: usize = 32 << 10;

/// Something due that is looked at so late finds a worker that was away, or that has too much to do: before it is said
/// that servers are silent, those are read that were asked something and wait to be read.
pub(crate) const LATE: Duration = Duration::from_millis(10);

/// Bytes that are read of each of so many connections.
#[inline]
pub(crate) fn share(connections: usize) -> usize {
    if connections <= TURN / MOST { MOST } else { (TURN / connections).max(LEAST) }
}

#[cfg(test)]
mod tests {
    use super::{LEAST, MOST, TURN, share};

    #[test]
    fn many_connections_have_a_turn_in_common() {
        assert_eq!([share(0), share(1), share(16)], [MOST; 3]);
        assert_eq!(share(32) * 32, TURN);
        assert_eq!(share(1000), LEAST);
    }
}
