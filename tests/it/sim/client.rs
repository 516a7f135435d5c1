//! A pretend client: it draws requests, remembers what it asked, and has what it is told checked.

use std::collections::VecDeque;

use softmiss::engine::ids::SessionId;

use super::answer::Answered;
use super::judge::Judge;
use super::ledger::{Ledger, Moment, WriteId};
use super::servers::Pipe;
use super::store::{KEYS, Key};

/// A key of a read, and the client's last write of it before.
pub(super) type Asked = (Key, Option<WriteId>);

/// A request, as far as its answer is concerned.
#[derive(Debug)]
pub(super) enum Ask {
    Get { keys: Vec<Asked>, unique: bool },
    Store(WriteId),
    Delete(Key),
    Touch(Key),
    Count(Key),
    MetaGet { asked: Asked, value: bool, named: bool, quiet: bool, token: u32 },
    MetaStore { id: WriteId, named: bool, quiet: bool, token: u32 },
    MetaDelete { key: Key, quiet: bool, token: u32 },
    MetaCount { key: Key, token: u32 },
    Barrier,
    Flush,
    Stats,
    Nonsense,
    TooLarge,
}

/// What a client knows of a request that it sent.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) ask: Ask,
    /// When its last byte was given to the engine.
    pub(super) sent: Option<Moment>,
    /// The engine could not take it up when it was given.
    pub(super) behind: bool,
    /// The number of what it removes.
    pub(super) removal: Option<usize>,
}

/// A request that has not been given whole to the engine.
#[derive(Debug)]
pub(super) struct Unsent {
    /// Where it ends in the client's stream.
    pub(super) end: usize,
    pub(super) write: Option<WriteId>,
    pub(super) change: Option<(&'static str, Key)>,
    /// The number of its [`Pending`], if an answer is awaited.
    pub(super) awaited: Option<u64>,
    pub(super) class: Class,
}

/// Who answers a request when all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Server,
    /// The proxy itself.
    Here,
    /// The proxy, which takes it for no request.
    Refused,
}

/// What the clients' requests come to, to be compared with what the engine counts.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Totals {
    pub(super) given: u64,
    pub(super) here: u64,
    pub(super) refused: u64,
}

/// How a client takes what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    Prompt,
    Slow,
    /// Not at all, until the calm.
    Stuck,
}

/// A client of the simulation.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: SessionId,
    pub(super) worker: usize,
    pub(super) name: usize,
    pub(super) tokens: u32,
    /// Bytes that it has sent and the engine has not been given.
    pub(super) outgoing: Pipe,
    pub(super) unsent: VecDeque<Unsent>,
    /// Sent requests, oldest first, and the number of the first.
    pub(super) pending: VecDeque<Pending>,
    pub(super) first: u64,
    /// Bytes that it has been written.
    pub(super) incoming: Pipe,
    /// Fewer bytes than these make no whole answer.
    pub(super) need: usize,
    /// In healthy runs: what it must read.
    pub(super) expected: Pipe,
    pub(super) answered: u64,
    /// Bytes drawn so far.
    pub(super) drawn: usize,
    pub(super) reader: Reader,
    /// When it last took very many bytes at once.
    pub(super) gorged: u64,
    /// It has sent its last byte.
    pub(super) ending: bool,
    /// The engine knows that.
    pub(super) ended: bool,
    /// Its pool is served no longer: what the engine has been given is answered, and no more.
    pub(super) dismissed: bool,
    /// That had no timeout then.
    pub(super) untimed: bool,
    pub(super) own: Vec<Option<WriteId>>,
    /// The unique value that it last read of each key.
    pub(super) uniques: Vec<u64>,
}

impl Client {
    pub(super) fn new(id: SessionId, worker: usize, name: usize, reader: Reader) -> Self {
        Self {
            id,
            worker,
            name,
            tokens: 0,
            outgoing: Pipe::default(),
            unsent: VecDeque::new(),
            pending: VecDeque::new(),
            first: 0,
            incoming: Pipe::default(),
            need: 0,
            expected: Pipe::default(),
            answered: 0,
            drawn: 0,
            reader,
            gorged: 0,
            ending: false,
            ended: false,
            dismissed: false,
            untimed: false,
            own: vec![None; KEYS],
            uniques: vec![0; KEYS],
        }
    }

    /// The engine was given more bytes: requests that it has whole count their time from now. `paused` says that the
    /// engine could not take them all up.
    pub(super) fn gave(&mut self, now: u64, paused: bool, ledger: &mut Ledger, totals: &mut Totals) {
        ledger.tick += 1;
        let moment = Moment { tick: ledger.tick, time: now };
        let given = self.drawn - self.outgoing.len();
        while let Some(unsent) = self.unsent.front()
            && unsent.end <= given
        {
            totals.given += 1;
            totals.here += u64::from(unsent.class == Class::Here);
            totals.refused += u64::from(unsent.class == Class::Refused);
            if let Some(id) = unsent.write {
                ledger.sent(id, moment);
            }
            let mut removal = None;
            if let Some((verb, key)) = unsent.change {
                ledger.asked(verb, key);
                removal = matches!(verb, "delete" | "md").then(|| ledger.removal(Some(key)));
            }
            // What is refused for its first line may be answered before it is sent whole.
            if let Some(index) = unsent.awaited.and_then(|number| number.checked_sub(self.first))
                && let Some(pending) = self.pending.get_mut(index as usize)
            {
                (pending.sent, pending.behind) = (Some(moment), paused);
                pending.removal = removal.or_else(|| matches!(pending.ask, Ask::Flush).then(|| ledger.removal(None)));
            }
            self.unsent.pop_front();
        }
    }

    /// Checks every whole answer in what it has been written. `None` as judge: healthy runs compare bytes.
    pub(super) fn understand(&mut self, judge: &mut Judge<'_>) -> Result<(), String> {
        while !self.incoming.is_empty() && self.incoming.len() >= self.need {
            let Some(pending) = self.pending.front() else {
                return Err(format!("was told {:?} without having asked", super::short(self.incoming.as_slice())));
            };
            match pending.check(self.incoming.as_slice(), judge, &mut self.uniques) {
                Err(what) => {
                    let read = super::short(self.incoming.as_slice());
                    let behind: Vec<_> = self.pending.iter().skip(1).take(4).map(|pending| &pending.ask).collect();
                    return Err(format!("asked {pending:?}: {what}; it read {read:?}; behind it {behind:?}"));
                }
                Ok(Answered::Not { need }) => {
                    self.need = need;
                    return Ok(());
                }
                // A quiet request that was answered by silence: what comes next answers a later one.
                Ok(Answered::Silently) => {
                    self.pending.pop_front();
                    self.first += 1;
                }
                Ok(Answered::With { len }) => {
                    let said = &self.incoming.as_slice()[..len];
                    let is_done = ["DELETED", "HD", "OK"].iter().any(|word| said.starts_with(word.as_bytes()));
                    if let Some(removal) = pending.removal.filter(|_| is_done) {
                        judge.ledger.removal_told(removal);
                    }
                    self.incoming.consume(len);
                    self.need = 0;
                    self.answered += 1;
                    self.pending.pop_front();
                    self.first += 1;
                }
            }
        }
        Ok(())
    }

    /// The oldest request that must be answered aloud, if the engine has it whole.
    pub(super) fn oldest(&self) -> Option<(&Pending, Moment)> {
        let loud = self.pending.iter().find(|pending| !pending.ask.is_quiet())?;
        Some((loud, loud.sent?))
    }

    /// Whether something is still to be answered; quiet requests at the end may stay silent.
    pub(super) fn waits(&self) -> bool {
        !self.outgoing.is_empty()
            || !self.expected.is_empty()
            || self.pending.iter().any(|pending| !pending.ask.is_quiet())
    }
}

impl Ask {
    pub(super) fn is_quiet(&self) -> bool {
        match self {
            Self::MetaGet { quiet, .. } | Self::MetaStore { quiet, .. } | Self::MetaDelete { quiet, .. } => *quiet,
            Self::Get { .. }
            | Self::Store(_)
            | Self::Delete(_)
            | Self::Touch(_)
            | Self::Count(_)
            | Self::MetaCount { .. }
            | Self::Barrier
            | Self::Flush
            | Self::Stats
            | Self::Nonsense
            | Self::TooLarge => false,
        }
    }
}
