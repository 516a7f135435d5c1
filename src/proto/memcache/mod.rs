//! memcached's text protocol: the classic commands and the meta commands, told apart request by request.
//!
//! Rules and error lines are memcached's own (`doc/protocol.txt`, and the behaviour of 1.6.18 where the text is
//! silent). Where memcached would run the data block of a refused storage command as commands, this parser swallows
//! it instead: see [`request::Skip`].

pub mod encode;
pub mod lifetime;
pub mod meta;
pub mod number;
pub mod reply;
pub mod request;
pub mod response;
pub mod stats;

/// Longest key, in bytes (memcached's `KEY_MAX_LENGTH`).
pub const KEY_LIMIT: usize = 250;

/// Longest command line that is not a list of keys, in bytes. memcached gives up at 2,048 without a line end.
pub const LINE_LIMIT: usize = 8 << 10;

/// Longest line of a multi-get, in bytes: 10,000 keys of 250 bytes fit.
pub const KEYS_LINE_LIMIT: usize = 4 << 20;

/// The commands that are passed to a server, one name for each behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the protocol's command names")]
pub enum Verb {
    Get,
    Gets,
    Gat,
    Gats,
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Cas,
    Delete,
    Incr,
    Decr,
    Touch,
    MetaGet,
    MetaSet,
    MetaDelete,
    MetaArith,
    MetaDebug,
    FlushAll,
    Stats,
    Version,
}

impl Verb {
    /// The word on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Gets => "gets",
            Self::Gat => "gat",
            Self::Gats => "gats",
            Self::Set => "set",
            Self::Add => "add",
            Self::Replace => "replace",
            Self::Append => "append",
            Self::Prepend => "prepend",
            Self::Cas => "cas",
            Self::Delete => "delete",
            Self::Incr => "incr",
            Self::Decr => "decr",
            Self::Touch => "touch",
            Self::MetaGet => "mg",
            Self::MetaSet => "ms",
            Self::MetaDelete => "md",
            Self::MetaArith => "ma",
            Self::MetaDebug => "me",
            Self::FlushAll => "flush_all",
            Self::Stats => "stats",
            Self::Version => "version",
        }
    }

    /// Whether it asks for something and stores nothing of the client's own.
    #[must_use]
    pub const fn is_read(self) -> bool {
        matches!(self, Self::Gat | Self::Gats) || self.is_repeatable()
    }

    /// Whether it may change what is stored under its key.
    #[must_use]
    pub const fn is_write(self) -> bool {
        matches!(
            self,
            Self::Set
                | Self::Add
                | Self::Replace
                | Self::Append
                | Self::Prepend
                | Self::Cas
                | Self::Delete
                | Self::Incr
                | Self::Decr
                | Self::Touch
                | Self::MetaSet
                | Self::MetaDelete
                | Self::MetaArith
        )
    }

    /// Whether sending it twice does what sending it once does, so that a connection that died may be made up for.
    ///
    /// `gat` is not: it sets a lifetime, which another client may have changed in between. A meta get is, unless its
    /// flags change something ([`meta::Flags::changes`]).
    #[must_use]
    pub const fn is_repeatable(self) -> bool {
        matches!(self, Self::Get | Self::Gets | Self::MetaGet | Self::MetaDebug | Self::Stats | Self::Version)
    }
}
