//! What the engine has for the shell, until it is asked for.

use std::collections::VecDeque;

use super::effect::{Effect, Notice};
use super::ids::{LinkId, SessionId};

/// What the shell is to do, and whom it is to look at.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    effects: VecDeque<Effect>,
    sessions: Vec<SessionId>,
    links: Vec<LinkId>,
}

impl Outputs {
    /// The shell is to do this.
    pub(super) fn push(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    /// The operator is to be told.
    pub(super) fn tell(&mut self, notice: Notice) {
        self.push(Effect::Notice(notice));
    }

    /// The shell is to look at a client. Called once for each client, which has a mark that it has been.
    pub(super) fn wake_client(&mut self, id: SessionId) {
        self.sessions.push(id);
    }

    /// There is something to write to a server. Called once for each connection, which has a mark that it has been.
    pub(super) fn wake_link(&mut self, id: LinkId) {
        self.links.push(id);
    }

    pub(super) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub(super) fn has_effects(&self) -> bool {
        !self.effects.is_empty()
    }

    pub(super) fn next_client(&mut self) -> Option<SessionId> {
        self.sessions.pop()
    }

    pub(super) fn next_link(&mut self) -> Option<LinkId> {
        self.links.pop()
    }
}
