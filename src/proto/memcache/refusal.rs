//! Requests that are refused, and with which words.

/// Why a request is refused; memcached's own words for it come from [`Refusal::line`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the error line that it stands for")]
pub enum Refusal {
    Unknown,
    BadFormat,
    BadFormatDelete,
    BadChunk,
    BadExptime,
    BadDelta,
    BadStatsDetail,
    BadStats,
    TooLarge,
    LineTooLong,
    DuplicateFlag,
    InvalidFlag,
    InvalidOrDuplicateFlag,
    TooManyMetaGetFlags,
    TooManyFlags,
    BadKeyEncoding,
    OpaqueTooLong,
    NoShutdown,
    NoWatch,
    NoCacheMemlimit,
    NoServerCommand,
}

impl Refusal {
    /// The line that tells it, CRLF included.
    #[must_use]
    pub const fn line(self) -> &'static [u8] {
        match self {
            Self::Unknown => b"ERROR\r\n",
            Self::BadFormat => b"CLIENT_ERROR bad command line format\r\n",
            Self::BadFormatDelete => b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n",
            Self::BadChunk => b"CLIENT_ERROR bad data chunk\r\n",
            Self::BadExptime => b"CLIENT_ERROR invalid exptime argument\r\n",
            Self::BadDelta => b"CLIENT_ERROR invalid numeric delta argument\r\n",
            Self::BadStatsDetail => b"CLIENT_ERROR usage: stats detail on|off|dump\r\n",
            Self::BadStats => b"CLIENT_ERROR bad command line\r\n",
            Self::TooLarge => b"SERVER_ERROR object too large for cache\r\n",
            Self::LineTooLong => b"CLIENT_ERROR line too long\r\n",
            Self::DuplicateFlag => b"CLIENT_ERROR duplicate flag\r\n",
            Self::InvalidFlag => b"CLIENT_ERROR invalid flag\r\n",
            Self::InvalidOrDuplicateFlag => b"CLIENT_ERROR invalid or duplicate flag\r\n",
            Self::TooManyMetaGetFlags => b"CLIENT_ERROR options flags are too long\r\n",
            Self::TooManyFlags => b"CLIENT_ERROR options flags too long\r\n",
            Self::BadKeyEncoding => b"CLIENT_ERROR error decoding key\r\n",
            Self::OpaqueTooLong => b"CLIENT_ERROR opaque token too long\r\n",
            Self::NoShutdown => b"ERROR: shutdown not enabled\r\n",
            Self::NoWatch => b"CLIENT_ERROR watch commands not allowed\r\n",
            Self::NoCacheMemlimit => b"CLIENT_ERROR cache_memlimit not allowed through a proxy\r\n",
            Self::NoServerCommand => b"CLIENT_ERROR not allowed through a proxy, ask the server itself\r\n",
        }
    }
}
