//! How often everything that can be drawn was drawn: a fault that no run has seen proves nothing.

macro_rules! things {
    ($($name:ident = $text:literal,)*) => {
        /// Something that a run draws.
        #[derive(Debug, Clone, Copy)]
        pub(super) enum Thing { $($name),* }
        const NAMES: &[&str] = &[$($text),*];
    };
}

things! {
    Get = "request: get, gat",
    MultiGet = "request: multi-get",
    LongGet = "request: multi-get of more keys than the window",
    Store = "request: set, add, replace, append, prepend",
    BigValue = "request: value of 40 KB",
    Cas = "request: cas",
    CasFresh = "request: cas with a unique value that was read",
    Delete = "request: delete",
    Touch = "request: touch",
    Count = "request: incr, ma",
    MetaGet = "request: mg",
    MetaStore = "request: ms",
    MetaDelete = "request: md",
    Quiet = "request: quiet meta command",
    Noreply = "request: noreply",
    Barrier = "request: mn",
    Stalled = "server found silent",
    FlushAll = "request: flush_all",
    Stats = "request: stats",
    Nonsense = "request: nonsense of a client",
    TooLarge = "request: value over the limit",
    PartialGive = "client bytes cut inside a request",
    PartialWrite = "server-bound bytes cut",
    PartialHear = "response bytes cut",
    LargeRead = "message read straight into its buffer",
    PartialRead = "client takes a part of its response",
    BackPressure = "client is not read from for a while",
    SlowReader = "slow reader joins",
    StuckReader = "client that never reads joins",
    ClientDeath = "fault: client dies",
    HalfClose = "fault: client half-closes",
    CutOff = "client cut off that held too much",
    Hang = "fault: server hangs",
    Kill = "fault: server is killed",
    Start = "fault: server starts again",
    Unreachable = "fault: connects go nowhere",
    NoRoute = "fault: connects fail with no route",
    Reset = "fault: connections reset",
    ResetMidResponse = "fault: reset in the middle of a response",
    IdleClose = "fault: server closes a connection",
    Trickle = "fault: server sends a byte or two at a time",
    Flap = "fault: server flaps",
    WrongKey = "fault: value of another key",
    Junk = "fault: junk",
    Truncate = "fault: truncated response",
    Twice = "fault: response said twice",
    OutOfMemory = "fault: server out of memory",
    Evict = "fault: server loses items",
    Hold = "fault: the operator ejects a server",
    Drain = "fault: the operator drains a server",
    Added = "shift: server added",
    Removed = "shift: server removed",
    Moved = "shift: server moved to another address",
    Weighed = "shift: weight of a server changed",
    Tuned = "shift: options changed",
    CameBack = "shift: server that had left added again",
    Replaced = "shift: pool removed and added",
    Copied = "key brought along from where it was",
    Lingering = "connection given up whose end is waited for",
    Zombie = "fault: command executed after its connection died",
    TimeJump = "fault: the process stands still",
    LateReply = "late response",
    Joined = "get that went out in one line with others",
    Degraded = "request answered by policy",
    Ejected = "server ejected",
    Restored = "server restored",
    MemoryLimit = "memory limit reached",
    Exact = "answer checked exactly",
    OwnWrite = "read checked against an own write",
    Waited = "request that waited for a key that somebody computes",
    Stale = "value before the next one, given while that is computed",
    Computes = "miss told with the lease for a key",
}

/// The counts of one or several runs.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    counts: [u64; NAMES.len()],
}

impl Default for Tally {
    fn default() -> Self {
        Self { counts: [0; NAMES.len()] }
    }
}

impl Tally {
    pub(super) fn add(&mut self, thing: Thing) {
        self.more(thing, 1);
    }

    pub(super) fn more(&mut self, thing: Thing, more: u64) {
        self.counts[thing as usize] += more;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
    }

    pub(super) fn table(&self) -> String {
        NAMES.iter().zip(self.counts).map(|(name, count)| format!("{count:>12}  {name}\n")).collect()
    }

    /// What was never drawn.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        NAMES.iter().zip(self.counts).filter(|(_, count)| *count == 0).map(|(name, _)| *name).collect()
    }
}
