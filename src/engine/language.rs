//! What clients speak that is not spoken here.

/// What such a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// memcached's binary protocol.
    Binary,
    /// HTTP.
    Http,
    /// TLS.
    Tls,
    /// Redis, in a pool of memcached.
    Redis,
}

impl Language {
    pub(super) const COUNT: usize = 4;

    /// A name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Binary => "memcached's binary protocol",
            Self::Http => "HTTP",
            Self::Tls => "TLS",
            Self::Redis => "Redis",
        }
    }

    /// What the first bytes of a request tell of it.
    pub(super) fn of(request: &[u8]) -> Option<Self> {
        match request {
            [0x80, ..] => Some(Self::Binary),
            [0x16, 0x03, ..] => Some(Self::Tls), // a handshake of any version
            [b'*', b'0'..=b'9', ..] => Some(Self::Redis),
            _ => None,
        }
    }
}
