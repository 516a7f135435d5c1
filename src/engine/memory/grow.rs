//! How what is kept of a message grows.

use crate::engine::buffers::{LARGE, enlarge};

/// Appends bytes to what is kept of a message. A large one grows by a part of what it is, not to twice of it: for a moment
/// there is room for both the old and the new.
#[inline]
pub(in crate::engine) fn grow(message: &mut Vec<u8>, bytes: &[u8]) {
    grow_to(message, bytes, usize::MAX);
}

/// As [`grow`], of a message that may come to `most` bytes: hardly any room is made for more.
#[inline]
pub(in crate::engine) fn grow_to(message: &mut Vec<u8>, bytes: &[u8], most: usize) {
    let (len, more) = (message.len(), bytes.len());
    if message.capacity() - len < more && len + more > LARGE {
        enlarge(message, growth(len, more, most));
    }
    message.extend_from_slice(bytes);
}

/// By how much a message of `len` bytes is made larger for `more` of them: to twice of it, up to half of `most`, then to
/// `most`, and by a part of it from there on. So it is never moved to `most` from a place that is nearly as large.
#[inline]
pub(in crate::engine) fn growth(len: usize, more: usize, most: usize) -> usize {
    let aim = if len < most / 2 { (2 * len).min(most / 2) } else { most };
    more.max(aim.saturating_sub(len)).max(len / 16)
}
