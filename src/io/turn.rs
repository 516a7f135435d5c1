//! What is read of one connection in one turn of the loop.
//!
//! A few connections may read much at a time, which costs fewer calls. Where many have something to read, each gets less:
//! who comes last in a turn waits until all others have been read. (A message that is so large that it has a buffer of its
//! own is read in one call as far as the kernel has it.)

/// Bytes read of all connections in one turn, as long as [`LEAST`] of each is not more.
const TURN: usize = 4 << 20;

/// Bytes read of one connection, at most and at least.
const MOST: usize = 512 << 10;
const LEAST: usize = 64 << 10;

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
        assert_eq!([share(0), share(1), share(8)], [MOST; 3]);
        assert_eq!(share(16) * 16, TURN);
        assert_eq!(share(1000), LEAST);
    }
}
