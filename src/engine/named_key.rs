//! A key that a request names.

/// A key of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) key: &'a [u8],
    /// Bytes of the value that the request has for it.
    pub(super) stored: usize,
    pub(super) replied: Replied,
}

/// What of a response is one key's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replied {
    All,
    /// The next of its values.
    Next,
    Nothing,
}
