//! What must hold between any two calls. Simulations and fuzzing check it after every step.

use std::collections::BTreeSet;

use super::Engine;
use super::fault::down_is_empty;
use super::servers::ticket::{Intent, Ticket};

impl Engine {
    /// Checks everything that must hold between two calls.
    ///
    /// # Errors
    ///
    /// Says which rule is broken, and where.
    pub fn check_invariants(&self) -> Result<(), String> {
        let intents = self.servers.iter().flat_map(|(_, link)| link.queue().tickets()).filter_map(Ticket::intent);
        let asked: BTreeSet<u32> = intents
            .filter_map(|intent| match intent {
                Intent::Near(number) | Intent::NearLife(number) => Some(number),
                Intent::Plain
                | Intent::Name
                | Intent::End(_)
                | Intent::Copy(_)
                | Intent::Lease(_)
                | Intent::Look(_)
                | Intent::Former(_)
                | Intent::See
                | Intent::Unheard => None,
            })
            .collect();
        if let Some(number) = self.near.fetched().find(|number| !asked.contains(number)) {
            return Err(format!("value {number} is being fetched, and nobody is asked for it"));
        }
        let mut awaited = std::collections::BTreeMap::new();
        for (_, link) in self.servers.iter() {
            for client in link.queue().tickets().filter_map(|ticket| ticket.client()) {
                *awaited.entry(client).or_insert(0u32) += 1;
            }
        }
        for client in self.stampede.held() {
            *awaited.entry(client).or_insert(0u32) += 1;
        }
        let mut memory = self.memory.buffers.bytes() + self.stampede.charged();
        for (id, session) in self.clients.iter() {
            let index = id.index();
            memory += session.holding.charged();
            let say = |what: &str| Err(format!("session {index}: {what}"));
            if let Err(what) = session.requests.check() {
                return say(&what);
            }
            let mut latest = crate::time::Instant::ZERO;
            for (number, slot) in session.requests.iter() {
                let tickets = awaited.get(&(id, number));
                if slot.waiting() > tickets.copied().unwrap_or(0) && session.crawl().is_none() {
                    return say(&format!("request {number} waits for a response that nobody will bring"));
                }
                if let Some(scattered) = slot.scattered()
                    && scattered.awaited().count() != scattered.waiting() as usize
                {
                    return say(&format!("request {number} has lost count of its parts"));
                }
                if slot.waiting() > 0 {
                    if self.stampede.has_own_time(id, number) {
                        continue; // it has begun anew, and what comes behind it has not
                    }
                    if slot.started() < latest {
                        return say("deadlines are out of order");
                    }
                    latest = slot.started();
                }
            }
        }
        memory += self.memory.part_of_unassigned();
        for (id, link) in self.servers.iter() {
            memory += link.charged();
            let say = |what: &str| Err(format!("link {}: {what}", id.index()));
            if !down_is_empty(link) {
                return say("is down and holds requests");
            }
            let may_wait = link.dedicated().is_some() && link.is_up();
            if !link.queue().is_empty() && !link.is_timed() && !may_wait {
                return say("requests are in flight without a timer");
            }
            if !self.is_in_place(link) {
                return say("leads to a server that has left, and nothing is in flight");
            }
            if link.is_up() && link.queue().unwritten() > 0 && !link.is_woken() {
                // The shell clears the mark when it asks for the bytes; it comes back when the socket is writable.
                continue;
            }
        }
        self.check_dedicated()?;
        self.check_accounts()?;
        if memory != self.memory.held() {
            return Err(format!("{memory} bytes are charged and {} accounted for", self.memory.held()));
        }
        Ok(())
    }
}
