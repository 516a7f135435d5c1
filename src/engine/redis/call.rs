//! A Redis request that is being carried out.

use crate::config::model::PoolId;
use crate::engine::dispatched::Dispatched;
use crate::proto::resp::args::Args;
use crate::proto::resp::command::{self, Command, errors};
use crate::proto::resp::plan::{self, Plan};
use crate::time::Instant;

/// What became of the bytes at the front of a client's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Turn {
    /// So many of them are used.
    Used(usize),
    /// More are needed.
    Incomplete,
    /// The request has to wait until those before it are answered.
    Alone,
    /// The request has to wait for a server's queue to drain.
    Backpressured,
    /// The request is long, and is made ready in portions: this was one of them.
    Unready,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Performed {
    /// It is done with.
    Done,
    /// It has to be alone: see [`Turn::Alone`].
    Alone,
    /// See [`Turn::Backpressured`].
    Backpressured,
    /// See [`Turn::Unready`].
    Unready,
}

/// A request on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    /// The pool of its client.
    pub(super) pool: PoolId,
    /// Its bytes as they came.
    pub(super) raw: &'a [u8],
    pub(super) args: Args<'a>,
    /// The command, or the subcommand.
    pub(super) command: &'static Command,
    pub(super) plan: Plan,
    /// When it was read.
    pub(super) started: Instant,
}

impl From<Dispatched> for Performed {
    fn from(outcome: Dispatched) -> Self {
        match outcome {
            Dispatched::Backpressured => Self::Backpressured,
            Dispatched::Done | Dispatched::Begun(_) => Self::Done,
        }
    }
}

impl Performed {
    pub(super) const fn turn(self, len: usize) -> Turn {
        match self {
            Self::Done => Turn::Used(len),
            Self::Alone => Turn::Alone,
            Self::Backpressured => Turn::Backpressured,
            Self::Unready => Turn::Unready,
        }
    }
}

/// Why a request's command is not to be had.
pub(super) enum Unfound {
    Command,
    Subcommand(&'static Command),
}

impl Unfound {
    pub(super) fn text(&self, args: Args<'_>) -> Vec<u8> {
        match self {
            Self::Command => errors::unknown_command(args),
            Self::Subcommand(command) => errors::unknown_subcommand(command, args.get(1)),
        }
    }
}

/// Commands that were found lately, by their names as clients wrote them: most requests are of a few.
#[derive(Debug, Default)]
pub(in crate::engine) struct Recent([Option<(u64, &'static Command, Plan)>; Self::PLACES]);

impl Recent {
    pub(super) const PLACES: usize = 8;

    /// As [`find`].
    #[inline(always)]
    pub(super) fn find(&mut self, args: Args<'_>) -> Result<(&'static Command, Plan), Unfound> {
        let name = args.get(0);
        if name.len() >= 8 {
            return find(args);
        }
        // The bytes and how many they are: different for different names.
        let word = name.iter().fold(name.len() as u64, |word, byte| word << 8 | u64::from(*byte));
        let place = (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61) as usize % Self::PLACES;
        if let Some((known, command, plan)) = self.0[place]
            && known == word
        {
            return Ok((command, plan));
        }
        let found = find(args)?;
        // A subcommand is told from its command by more than the first word.
        if command::find(name).is_some_and(|command| command.subcommands.is_empty()) {
            self.0[place] = Some((word, found.0, found.1));
        }
        Ok(found)
    }
}

/// The command that a request names, or its subcommand, and what is done about it.
pub(super) fn find(args: Args<'_>) -> Result<(&'static Command, Plan), Unfound> {
    let command = command::find(args.get(0)).ok_or(Unfound::Command)?;
    let command = if command.subcommands.is_empty() || args.len() < 2 {
        command
    } else {
        command.subcommand(args.get(1)).ok_or(Unfound::Subcommand(command))?
    };
    Ok((command, plan::of(command)))
}
