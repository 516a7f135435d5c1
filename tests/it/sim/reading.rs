//! Clients read what they are told, and have it checked.

use softmiss::config::model::OnFailure;
use softmiss::time::Instant;

use super::client::Reader;
use super::judge::{Judge, PATIENCE};
use super::short;
use super::tally::Thing;
use super::world::{MS, World};

/// What the engine leaves to requests that it could not take up when they were read.
const GRACE: u64 = 40 * MS;

/// Bytes that a client takes at once of which the engine may have said: these are many, and the time that it took to
/// read them is the client's own. It says so from a megabyte on, of which the last part may still be held.
const MANY: usize = 256 << 10;

/// The same where memory is scarce, and the engine says so from 64 KiB on.
const FEW: usize = 16 << 10;

impl World {
    /// Clients read what is there, and have it checked.
    pub(super) fn read(&mut self) -> Result<(), String> {
        self.ledger.tick += 1;
        if !self.is_brisk() {
            self.slow = Some(self.now);
        }
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            let stuck = client.reader == Reader::Stuck;
            if client.reader != Reader::Prompt && !self.calm && (stuck || self.random.below(3) > 0) {
                continue;
            }
            let mut taken = 0;
            loop {
                let client = &mut self.clients[index];
                let engine = &mut self.engines[client.worker];
                let output = engine.client_output(client.id);
                let slow = client.reader != Reader::Prompt && !self.calm;
                let most = if slow { self.random.index(500) } else { output.len() };
                let count = most.min(output.len());
                if count == 0 {
                    break;
                }
                if count < output.len() {
                    self.tally.add(Thing::PartialRead);
                }
                client.incoming.tail().extend_from_slice(&output[..count]);
                taken += count;
                if taken > if self.plan.memory_limit.is_some() { FEW } else { MANY } {
                    client.gorged = self.now;
                }
                engine.client_wrote(client.id, count, Instant::from_nanos(self.now));
                if slow {
                    break;
                }
            }
            let client = &self.clients[index];
            if !client.incoming.is_empty() && client.incoming.len() >= client.need {
                self.understand(index)?;
            }
        }
        Ok(())
    }

    fn understand(&mut self, index: usize) -> Result<(), String> {
        let read = self.clients[index].incoming.len();
        if self.has_history() {
            let bytes = short(self.clients[index].incoming.as_slice());
            self.note(|| format!("client {index} < {bytes:?}"));
        }
        let client = &mut self.clients[index];
        if !self.plan.faults {
            let told = client.incoming.as_slice();
            let expected = client.expected.as_slice();
            // What is left of an answer that is not whole yet has been compared, and is still in both.
            if expected.get(..told.len()) != Some(told) {
                return Err(format!(
                    "client {index} was told something else than one memcached says: {:?}",
                    short(told)
                ));
            }
        }
        let mut judge = Judge {
            client: client.name,
            ledger: &self.ledger,
            servers: &self.servers,
            homes: &self.homes,
            tally: &mut self.tally,
            now: self.now,
            miss_mode: self.plan.on_failure == OnFailure::Miss,
            value_limit: self.plan.value_limit,
            thrifty: self.plan.memory_limit.is_some(),
            keeps: self.plan.keeps,
            copies: self.plan.copies(),
            slow: self.slow,
        };
        client.understand(&mut judge).map_err(|what| format!("client {index} {what}"))?;
        let used = read - client.incoming.len();
        if !self.plan.faults {
            client.expected.consume(used);
        }
        self.fold(used as u64);
        Ok(())
    }

    /// Whether nobody has been waiting for long.
    fn is_brisk(&self) -> bool {
        let old = |since: u64| self.now - since > PATIENCE;
        !self
            .clients
            .iter()
            .any(|client| client.pending.front().and_then(|one| one.sent).is_some_and(|at| old(at.time)))
            && !self.connections.iter().any(|one| one.waiting_since.is_some_and(old))
            && !self.connecting.iter().any(|(_, since)| old(*since))
    }

    /// A client that reads at once has its answers by their deadline.
    pub(super) fn is_in_time(&self, index: usize) -> Result<(), String> {
        let client = &self.clients[index];
        if client.reader != Reader::Prompt || !self.plan.faults || client.untimed {
            return Ok(());
        }
        // Timers have been carried out for this very moment: there is no step to be added.
        let Some((oldest, sent)) = client.oldest() else { return Ok(()) };
        let start = if oldest.behind { sent.time.max(client.gorged) + GRACE } else { sent.time };
        if self.now >= start.max(self.untimed) + self.plan.timeout() + self.plan.wait() {
            let waited = (self.now - sent.time) / MS;
            return Err(format!("client {index} has waited {waited} ms for the answer to {oldest:?}"));
        }
        Ok(())
    }
}
