//! The end of a run: faults stop, and everything must become well again. What is held is judged all the time.

use std::time::Duration;

use softmiss::health::tracker::State;

use super::client::Asked;
use super::draw::Draft;
use super::plan::{DATABASES, RETRY};
use super::world::{MS, World};

/// What an engine may hold over its limit: the largest value that is there, and what was accepted below the limit.
const SLACK: usize = 4 << 20;

impl World {
    pub(super) fn judge_memory(&self) {
        if let Some(limit) = self.plan.memory_limit {
            let held = self.engine.memory();
            assert!(held <= limit + SLACK, "{held} bytes are held, the limit being {limit}");
        }
    }

    /// Faults stop; every request is answered and every server comes back.
    pub(super) fn come_to_rest(&mut self) {
        self.calm = true;
        self.hear_news();
        (0..self.nodes.len()).for_each(|server| self.mend(server));
        self.rest(RETRY + Duration::from_secs(1));
        for node in self.nodes.iter().filter(|node| node.left_at.is_none()) {
            let state = self.registry.state(node.known.0, node.known.1);
            assert!(matches!(state, State::Up { .. }), "{} of {:?} is well and {state:?}", node.name, node.known);
        }
        // As good as new.
        self.rest(Duration::from_secs(1));
        for at in 0..self.customers.len() {
            self.ask_as_new(at);
        }
        self.exact = true;
        self.rest(Duration::from_millis(500));
        for customer in self.customers.iter().filter(|customer| customer.hog.is_none()) {
            let waits = customer.asked.iter().find(|pending| !matches!(pending.asked, Asked::Pop(_)));
            let pops = customer.asked.iter().any(|pending| matches!(pending.asked, Asked::Pop(_)));
            assert!(waits.is_none() || pops, "client {} waits for {waits:?}", customer.name);
            assert!(!customer.dismissed, "client {} is told nothing and stays", customer.name);
        }
        while !self.customers.is_empty() {
            self.dismiss(0);
        }
        assert_eq!(self.engine.clients(), 0);
        if let Err(what) = self.engine.check_invariants() {
            panic!("{what}");
        }
    }

    /// A client asks what must be answered as if nothing had ever happened.
    fn ask_as_new(&mut self, at: usize) {
        let customer = &self.customers[at];
        let subscribed = !customer.channels.is_empty() || !customer.hears.is_empty();
        if !self.plan.pools[customer.pool].redis
            || subscribed
            || !customer.is_idle()
            || customer.ended
            || customer.dismissed
            || customer.hog.is_some()
        {
            return;
        }
        self.customers[at].guarding = None;
        let mut draft = Draft::default();
        for database in 0..DATABASES {
            self.draw_select(at, &mut draft, database);
            self.draw_set(at, &mut draft, "key3");
            self.draw_get(at, &mut draft, "key3");
        }
        self.send(at, draft);
    }

    /// Lets everything move for a while.
    fn rest(&mut self, span: Duration) {
        let end = self.now + span.as_nanos() as u64;
        while self.now < end {
            self.ledger.tick += 1;
            self.move_everything();
            self.pass(5 * MS);
            self.settle();
        }
    }

    /// Whatever is on its way comes a step further.
    pub(super) fn move_everything(&mut self) {
        for _ in 0..self.connecting.len() {
            self.connect();
        }
        (0..self.customers.len()).for_each(|at| self.give(at));
        let mut at = 0;
        while at < self.connections.len() {
            self.carry_there(at);
            at += 1;
        }
        let ids: Vec<_> = self.connections.iter().map(|one| one.id).collect();
        for id in ids {
            if let Some(at) = self.connections.iter().position(|one| one.id == id) {
                self.carry_back(at);
            }
        }
    }
}
