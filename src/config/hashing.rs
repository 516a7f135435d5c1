//! How keys become servers, in twemproxy's words.

/// Points that a server of average weight has.
const POINTS_PER_SERVER: f32 = 160.0;

/// Points that one MD5 digest gives.
const POINTS_PER_HASH: f32 = 4.0;

/// The hash functions, under twemproxy's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    non_camel_case_types,
    reason = "these are twemproxy's names; the definitions are in `ring::hash`"
)]
pub enum HashKind {
    OneAtATime,
    Md5,
    Crc16,
    Crc32,
    Crc32a,
    Fnv1_64,
    Fnv1a_64,
    Fnv1_32,
    Fnv1a_32,
    Hsieh,
    Murmur,
    Jenkins,
}

impl HashKind {
    /// Every hash with the name it has in the file.
    pub const ALL: [(&'static str, Self); 12] = [
        ("one_at_a_time", Self::OneAtATime),
        ("md5", Self::Md5),
        ("crc16", Self::Crc16),
        ("crc32", Self::Crc32),
        ("crc32a", Self::Crc32a),
        ("fnv1_64", Self::Fnv1_64),
        ("fnv1a_64", Self::Fnv1a_64),
        ("fnv1_32", Self::Fnv1_32),
        ("fnv1a_32", Self::Fnv1a_32),
        ("hsieh", Self::Hsieh),
        ("murmur", Self::Murmur),
        ("jenkins", Self::Jenkins),
    ];

    /// The name it has in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// How a hash becomes a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Distribution {
    /// A ring of points per server.
    Ketama,
    /// Remainder over the live servers.
    Modula,
    /// Any live server, whatever the key.
    Random,
}

impl Distribution {
    /// Every distribution with the name it has in the file.
    pub const ALL: [(&'static str, Self); 3] =
        [("ketama", Self::Ketama), ("modula", Self::Modula), ("random", Self::Random)];

    /// The name it has in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// How many digests, of four points each, a server of this weight gets. Computed in 32-bit floating point as twemproxy
/// does: a very light server can get none, and then no keys.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the rounding is the rule"
)]
pub fn ketama_groups(weight: u32, total_weight: u32, live: usize) -> u32 {
    let share = weight as f32 / total_weight as f32;
    (share * POINTS_PER_SERVER / POINTS_PER_HASH * live as f32 + 1e-10).floor() as u32
}
