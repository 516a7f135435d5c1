//! What a request is answered in its server's place.

use crate::proto::resp::Version;
use crate::proto::resp::fallback::Fallback;

/// What a request is answered if a server fails it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InPlace {
    pub(crate) version: Version,
    pub(crate) fallback: Fallback,
}
