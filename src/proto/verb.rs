//! What is asked of a server, in either protocol, as far as the engine has to tell requests apart.

use crate::outcome::Class;

/// What is asked of a server, one name for each behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are memcached's command names, but for the last five")]
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
    /// Redis: a command that only reads.
    Query,
    /// Redis: a command that may change something.
    Command,
    /// Redis: `FLUSHDB`, of one database.
    FlushDatabase,
    /// Redis: `SUBSCRIBE` and its relatives, which are answered by push messages.
    Subscribe,
    /// Redis: `WATCH`, and what is asked to keep a watch of use.
    Watch,
}

impl Verb {
    /// The word on the wire; for Redis, where the request has its own, a word for messages.
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
            Self::Query => "query",
            Self::Command => "command",
            Self::FlushDatabase => "flushdb",
            Self::Subscribe => "subscribe",
            Self::Watch => "watch",
        }
    }

    /// What kind of thing one of memcached's commands asks for.
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Self::Get | Self::Gets | Self::Gat | Self::Gats | Self::MetaGet => Class::Get,
            Self::Set | Self::Add | Self::Replace | Self::Append | Self::Prepend | Self::Cas | Self::MetaSet => {
                Class::Set
            }
            Self::Delete | Self::MetaDelete => Class::Delete,
            Self::Incr | Self::Decr | Self::MetaArith => Class::Arithmetic,
            Self::Touch => Class::Touch,
            Self::MetaDebug
            | Self::FlushAll
            | Self::Stats
            | Self::Version
            | Self::Query
            | Self::Command
            | Self::FlushDatabase
            | Self::Subscribe
            | Self::Watch => Class::Other,
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
    /// flags change something ([`changes`](super::memcache::meta::Flags::changes)).
    #[must_use]
    pub const fn is_repeatable(self) -> bool {
        matches!(
            self,
            Self::Get | Self::Gets | Self::MetaGet | Self::MetaDebug | Self::Stats | Self::Version | Self::Query
        )
    }
}
