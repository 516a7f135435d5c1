//! Clients that have to say who they are, in either protocol.

/// Says whether this is the password of that user. Where there is none, everybody may come in.
pub type Guard<'a> = Option<&'a dyn Fn(&[u8], &[u8]) -> bool>;

/// Most bytes that a user and the password take together. Longer ones are nobody's.
pub(super) const LONGEST: usize = 4 << 10;
