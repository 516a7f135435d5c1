//! What clients ask for, and what becomes of it: the words that requests are counted by.

/// What kind of thing a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// It reads keys: memcached's gets, and Redis's commands that only read.
    Get,
    /// It stores something: memcached's storage commands, and every other Redis command that writes.
    Set,
    /// It removes keys.
    Delete,
    /// It counts up or down.
    Arithmetic,
    /// It changes how long something is kept.
    Touch,
    /// It does not concern keys, or is unknown.
    Other,
}

impl Class {
    /// Every class, in the order of their numbers.
    pub const ALL: [Self; 6] = [Self::Get, Self::Set, Self::Delete, Self::Arithmetic, Self::Touch, Self::Other];

    /// A word for labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Delete => "delete",
            Self::Arithmetic => "arithmetic",
            Self::Touch => "touch",
            Self::Other => "other",
        }
    }

    /// Whether requests of this class can end like this.
    #[must_use]
    pub const fn may_end(self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Hit | Outcome::Miss => matches!(self, Self::Get),
            Outcome::Done | Outcome::NotFound | Outcome::NotStored => !matches!(self, Self::Get),
            Outcome::Late | Outcome::Own | Outcome::Lost => false,
            Outcome::Error
            | Outcome::Degraded
            | Outcome::Failed
            | Outcome::Refused
            | Outcome::Local
            | Outcome::Unheard
            | Outcome::Abandoned => true,
        }
    }
}

/// How a request ended. Of several parts of one request the last in this order decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// A get: all its keys were there.
    Hit,
    /// Carried out: stored, deleted, changed.
    Done,
    /// A get: a key was not there.
    Miss,
    /// What it was to change was not there; for Redis, the reply was null.
    NotFound,
    /// It stores under a condition, which did not hold.
    NotStored,
    /// The server answered with an error line.
    Error,
    /// Answered in a server's place, as a miss or as the pool is set.
    Degraded,
    /// An error told to the client because a server failed.
    Failed,
    /// Refused by this program.
    Refused,
    /// Answered by this program, which needs no server for it.
    Local,
    /// The client wants no answer: it was sent, and nobody knows more.
    Unheard,
    /// The client left before the answer came.
    Abandoned,
    /// The answer came after the request had been given up.
    Late,
    /// A request of this program's own, and its answer.
    Own,
    /// Lost with its connection, and not sent again.
    Lost,
}

impl Outcome {
    /// How many there are.
    pub const COUNT: usize = 15;

    /// How requests of clients end.
    pub const OF_REQUESTS: [Self; 12] = [
        Self::Hit,
        Self::Done,
        Self::Miss,
        Self::NotFound,
        Self::NotStored,
        Self::Error,
        Self::Degraded,
        Self::Failed,
        Self::Refused,
        Self::Local,
        Self::Unheard,
        Self::Abandoned,
    ];

    /// How requests to a server end.
    pub const OF_SERVERS: [Self; 10] = [
        Self::Hit,
        Self::Done,
        Self::Miss,
        Self::NotFound,
        Self::NotStored,
        Self::Error,
        Self::Unheard,
        Self::Late,
        Self::Own,
        Self::Lost,
    ];

    /// A word for labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Done => "done",
            Self::Miss => "miss",
            Self::NotFound => "not_found",
            Self::NotStored => "not_stored",
            Self::Error => "error",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Local => "local",
            Self::Unheard => "noreply",
            Self::Abandoned => "abandoned",
            Self::Late => "late",
            Self::Own => "own",
            Self::Lost => "lost",
        }
    }
}
