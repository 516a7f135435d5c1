//! Options whose values are words.

/// A value that the file has words for.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// Every value, with its word.
    const WORDS: &'static [(&'static str, Self)];
}

/// Defines what can be chosen between, each with the word that the file has for it.
macro_rules! choice {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $word:literal => $one:ident,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$meaning])* $one,)+
        }

        impl $name {
            /// Every value, with the word that the file has for it.
            pub const ALL: &'static [(&'static str, Self)] = &[$(($word, Self::$one)),+];

            /// The word that the file has for it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$one => $word,)+
                }
            }
        }

        impl Choice for $name {
            const WORDS: &'static [(&'static str, Self)] = Self::ALL;
        }
    };
}

choice! {
    /// What becomes of a name that stands for several addresses.
    Resolve {
        /// It is one server, at the first of them that lets itself be connected to.
        "first" => First,
        /// Each is a server.
        "all" => All,
    }
}

choice! {
    /// The hash functions, under twemproxy's names.
    #[expect(
        missing_docs,
        non_camel_case_types,
        reason = "these are twemproxy's names; the definitions are in `ring::hash`"
    )]
    HashKind {
        "one_at_a_time" => OneAtATime,
        "md5" => Md5,
        "crc16" => Crc16,
        "crc32" => Crc32,
        "crc32a" => Crc32a,
        "fnv1_64" => Fnv1_64,
        "fnv1a_64" => Fnv1a_64,
        "fnv1_32" => Fnv1_32,
        "fnv1a_32" => Fnv1a_32,
        "hsieh" => Hsieh,
        "murmur" => Murmur,
        "jenkins" => Jenkins,
    }
}

choice! {
    /// How a hash becomes a server.
    Distribution {
        /// A ring of points per server.
        "ketama" => Ketama,
        /// Remainder over the live servers.
        "modula" => Modula,
        /// Any live server, whatever the key.
        "random" => Random,
    }
}

choice! {
    /// What a client is told when a server failed its request.
    OnFailure {
        /// The protocol's own words for "not there".
        "miss" => Miss,
        /// twemproxy's error line.
        "error" => Error,
        /// As [`OnFailure::Miss`], but a write is told what a server would say that forgets at once.
        "absorb" => Absorb,
    }
}

choice! {
    /// What becomes of an ejected server's keys.
    OnEject {
        /// They belong to the servers that are left, as with twemproxy.
        "rehash" => Rehash,
        /// They stay its own, and are answered by [`OnFailure`] until it is back.
        "hold" => Hold,
    }
}

choice! {
    /// What becomes of the items of a server that comes back.
    Rejoin {
        /// They are served as they are, as with twemproxy.
        "keep" => Keep,
        /// They are flushed first.
        "flush" => Flush,
        /// Those that were to be changed meanwhile are deleted first.
        "safe" => Safe,
    }
}

choice! {
    /// What becomes of transactions over several servers.
    Transactions {
        /// Each server carries out its part.
        "split" => Split,
        /// They are refused.
        "single" => Single,
    }
}

choice! {
    /// What becomes of scripts without keys.
    KeylessScripts {
        /// Any server runs them.
        "any" => Any,
        /// They are refused.
        "refuse" => Refuse,
    }
}

choice! {
    /// Severity threshold of the log, from quiet to loud.
    LogLevel {
        /// Errors only.
        "error" => Error,
        /// Errors and warnings.
        "warn" => Warn,
        /// State changes as well.
        "info" => Info,
        /// Diagnosis; may name keys.
        "debug" => Debug,
        /// Everything, requests included.
        "trace" => Trace,
    }
}

choice! {
    /// Form of a log line.
    LogFormat {
        /// One readable line an event.
        "text" => Text,
        /// One JSON object an event.
        "json" => Json,
    }
}
