//! What clients are told, and whether it can be so.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use softmiss::config::model::{OnEject, OnFailure, PoolId};
use softmiss::proto::resp::reply::{self, Reply, Scan, Scanned};

use super::client::{Asked, Pending};
use super::memcache;
use super::plan::TIMEOUT;
use super::store::{Node, Serial, Write, brief};
use super::world::{MS, World};
use super::{show, text};

impl World {
    /// One has the lease of a key at a time: nobody is told a miss with it to whom no server has given it.
    pub(super) fn judge_leases(&self) {
        let pools = (0u16..).map(PoolId).take(self.topology.pools.len());
        let told: u64 = pools.map(|pool| self.topology.counters[0].pool(pool).stampede_leases.value()).sum();
        let given: u64 = self.nodes.iter().map(|node| node.given).sum();
        assert!(told <= given, "{told} leases were told, of {given} that were given");
    }

    pub(super) fn read_answers(&mut self) {
        let mut at = 0;
        while at < self.customers.len() {
            if self.customers[at].deaf {
                at += 1;
                continue;
            }
            let session = self.customers[at].session;
            loop {
                let output = self.engine.client_output(session).to_vec();
                if output.is_empty() {
                    break;
                }
                self.customers[at].input.extend_from_slice(&output);
                self.engine.client_wrote(session, output.len(), self.at());
            }
            while let Some(len) = self.first_answer(at) {
                let frame: Vec<u8> = self.customers[at].input.drain(..len).collect();
                self.ledger.tick += 1;
                self.judge(at, &frame);
            }
            at += 1;
        }
        self.carry_out();
    }

    fn first_answer(&self, at: usize) -> Option<usize> {
        let customer = &self.customers[at];
        if self.plan.pools[customer.pool].redis {
            let scanned = Scan::new(1).advance(&customer.input);
            assert_ne!(scanned, Scanned::Broken, "client {} is told {}", customer.name, show(&customer.input));
            let Scanned::Complete { len } = scanned else { return None };
            return Some(len);
        }
        let values = customer.asked.front().is_some_and(|pending| matches!(pending.asked, Asked::Values(_)));
        memcache::answer_end(&customer.input, values)
    }

    /// Nobody waits for longer than may be.
    pub(super) fn judge_time(&self) {
        for customer in self
            .customers
            .iter()
            .filter(|customer| !customer.deaf && !customer.untimed && self.plan.memory_limit.is_none())
        {
            if let Some(pending) = customer.asked.front()
                && !matches!(pending.asked, Asked::Pop(_))
                && let Some(given) = pending.given
            {
                let wait = self.plan.pools[customer.pool].waits.map_or(0, |wait| wait.as_nanos() as u64);
                // The time of a large one begins when it is ready, and turns are short where that is small.
                let timeouts = if self.plan.small.is_some() { 2 } else { 1 };
                let waited = self.now - given.max(self.untimed[customer.pool]);
                assert!(
                    waited <= timeouts * TIMEOUT.as_nanos() as u64 + wait + 50 * MS,
                    "client {}: {pending:?} waits for {} ms, in front of {:?}",
                    customer.name,
                    waited / MS,
                    customer.asked.get(1)
                );
            }
        }
    }

    fn judge(&mut self, at: usize, frame: &[u8]) {
        let name = self.customers[at].name;
        self.note(|| format!("client {name} is told {}", show(frame)));
        let words: Vec<Vec<u8>> = match reply::read(frame) {
            Reply::List(items) if self.plan.pools[self.customers[at].pool].redis => items.map(text).collect(),
            _ => Vec::new(),
        };
        let customer = &mut self.customers[at];
        if words.first().is_some_and(|word| word == b"message") && frame[0] != b'$' {
            let (channel, message) =
                (String::from_utf8_lossy(&words[1]).into_owned(), String::from_utf8_lossy(&words[2]).into_owned());
            assert!(message.starts_with(&format!("{channel}|")), "another channel's: {message}");
            assert!(customer.hears.contains(&channel), "client {name} hears {message} and does not listen to it");
            assert!(customer.heard.insert(message), "a message comes twice");
            self.count("messages");
            return;
        }
        if customer.hog.is_some() && customer.asked.is_empty() {
            return; // what it never said to its end is refused
        }
        let pending = customer.asked.pop_front();
        let pending = pending.unwrap_or_else(|| panic!("client {name}: nobody asked for {}", show(frame)));
        if let Asked::Count(_) = pending.asked {
            self.removal_answered(at, frame[0] != b':');
        }
        let customer = &mut self.customers[at];
        match &pending.asked {
            Asked::Subscribed(channel) if frame[0] == b'-' => {
                // Unless it has asked for the same once more.
                let again = |pending: &Pending| matches!(&pending.asked, Asked::Subscribed(other) if other == channel);
                if !customer.asked.iter().any(again) {
                    customer.channels.remove(channel);
                    customer.hears.remove(channel);
                }
            }
            Asked::Subscribed(_) => return assert!(words[0].ends_with(b"subscribe"), "{}", show(frame)),
            Asked::Unsubscribed(count) => {
                assert!(words[0].ends_with(b"subscribe"), "{}", show(frame));
                let channel = String::from_utf8_lossy(&words[1]).into_owned();
                if !customer.channels.contains(&channel) {
                    customer.hears.remove(&channel);
                }
                if *count > 1 {
                    let asked = Asked::Unsubscribed(count - 1);
                    customer.asked.push_front(Pending { asked, ..pending });
                }
                return;
            }
            // What stood behind it was not looked at before.
            Asked::Pop(_) => customer.asked.iter_mut().for_each(|behind| {
                behind.given = behind.given.map(|_| self.now);
            }),
            _ => {}
        }
        if let Err(what) = self.check(at, &pending, &pending.asked, frame) {
            panic!("client {name}: {what}: it asked {pending:?}");
        }
        self.tell(&pending.asked);
        if matches!(pending.asked, Asked::GuardedExec(_)) {
            self.customers[at].guarding = None;
        }
    }

    /// Nothing more will be said of what was asked.
    fn tell(&mut self, asked: &Asked) {
        match asked {
            Asked::Set(serial)
            | Asked::SetNx(serial)
            | Asked::SetNxCount(serial)
            | Asked::Script(serial)
            | Asked::Stored(serial) => {
                let tick = self.ledger.tick;
                self.ledger.writes[*serial].told.get_or_insert((tick, false));
            }
            Asked::Exec(parts) | Asked::GuardedExec(parts) => parts.iter().for_each(|part| self.tell(part)),
            _ => {}
        }
    }

    fn may_be_told(&self, pool: usize, asked: &Asked, told: &str) -> bool {
        match asked {
            _ if self.exact => false,
            _ if self.plan.pools[pool].on_failure == OnFailure::Error => true,
            Asked::Watch | Asked::GuardedExec(_) if told.starts_with("-CROSSSLOT") => true,
            Asked::Pop(_) | Asked::Subscribed(_) | Asked::Watch if told.contains("dedicated_connections") => true,
            Asked::Push | Asked::Script(_) | Asked::Sha => true,
            _ => false,
        }
    }

    fn check(&mut self, at: usize, pending: &Pending, asked: &Asked, frame: &[u8]) -> Result<(), String> {
        let pool = self.customers[at].pool;
        if !self.plan.pools[pool].redis {
            return self.check_memcached(at, pending, asked, frame);
        }
        if matches!(asked, Asked::Anything) {
            return Ok(());
        }
        if frame[0] == b'-' {
            let told = show(frame);
            if !self.may_be_told(pool, asked, &told) {
                return Err(format!("an error in miss mode: {told}"));
            }
            if let Some(guarding) = &mut self.customers[at].guarding {
                guarding.failed = true;
            }
            self.count("errors");
            return Ok(());
        }
        match (asked, reply::read(frame)) {
            (Asked::Get(key), Reply::Null) => self.read(at, pending, key, None)?,
            (Asked::Get(key), Reply::Bulk(value)) => self.read(at, pending, key, Some(value))?,
            (Asked::Mget(keys), Reply::List(items)) if items.len() == keys.len() => {
                for (key, value) in keys.iter().zip(items) {
                    self.check(at, pending, &Asked::Get(key.clone()), value)?;
                }
            }
            (Asked::Exec(parts), Reply::List(items)) if items.len() == parts.len() => {
                for (part, value) in parts.iter().zip(items) {
                    self.check(at, pending, part, value)?;
                }
                self.count("transactions");
            }
            (Asked::GuardedExec(_), Reply::Null) => self.count("guards that held"),
            (Asked::GuardedExec(parts), Reply::List(items)) if items.len() == parts.len() => {
                self.check_guards(at, pending)?;
                for (part, value) in parts.iter().zip(items) {
                    self.check(at, pending, part, value)?;
                    if let Asked::Set(serial) = part {
                        let write = &self.ledger.writes[*serial];
                        if value[0] != b'-' && write.stored.is_none() {
                            return Err(format!("a guarded change that nobody made is confirmed: {write:?}"));
                        }
                        self.count("guarded changes");
                    }
                }
            }
            (Asked::Set(serial) | Asked::Script(serial), Reply::Simple(b"OK")) => {
                let absorbs = self.plan.pools[pool].on_failure == OnFailure::Absorb;
                self.done(at, *serial, absorbs && matches!(asked, Asked::Set(_)))?;
            }
            (Asked::SetNx(serial), Reply::Simple(b"OK")) | (Asked::SetNxCount(serial), Reply::Integer(1)) => {
                self.done(at, *serial, false)?;
                self.count("locks");
            }
            (Asked::SetNx(_), Reply::Null) | (Asked::SetNxCount(_), Reply::Integer(0)) => {}
            (Asked::Set(serial), Reply::Null) if !self.exact && self.plan.pools[pool].on_failure == OnFailure::Miss => {
                self.told_in_place(*serial);
            }
            (Asked::Flush(number), Reply::Simple(b"OK")) => {
                self.ledger.flushes[*number].done = Some(self.ledger.tick);
            }
            (Asked::Ok | Asked::Watch, Reply::Simple(b"OK"))
            | (Asked::Queued, Reply::Simple(b"QUEUED"))
            | (Asked::Hello, Reply::List(_))
            | (Asked::Pong, Reply::Simple(b"PONG"))
            | (Asked::Sha, Reply::Bulk(_))
            | (Asked::Push | Asked::Published, Reply::Integer(_))
            | (Asked::Pop(_), Reply::Null) => {}
            // A subscriber is answered in its own way.
            (Asked::Pong, Reply::List(_)) => {}
            (Asked::Count(most), Reply::Integer(count)) if (0..=*most).contains(&count) => {}
            (Asked::Pop(queue), Reply::List(items)) => {
                let words: Vec<_> = items.map(text).collect();
                assert_eq!(words[0], queue.as_bytes());
                assert!(words[1].starts_with(format!("{queue}|").as_bytes()));
                assert!(self.popped.insert(words[1].clone()), "a job is done twice");
                self.count("jobs");
            }
            (asked, _) => return Err(format!("{} is no answer to {asked:?}", show(frame))),
        }
        Ok(())
    }

    fn check_memcached(&mut self, at: usize, pending: &Pending, asked: &Asked, frame: &[u8]) -> Result<(), String> {
        let errors = self.plan.pools[self.customers[at].pool].on_failure == OnFailure::Error;
        if frame.starts_with(b"SERVER_ERROR") {
            return if errors { Ok(()) } else { Err(format!("an error in miss mode: {}", show(frame))) };
        }
        match asked {
            Asked::Values(names) => {
                let (values, rest) = memcache::values(frame);
                let whole = rest == b"END\r\n";
                let cut_short = errors && rest.starts_with(b"SERVER_ERROR");
                if !whole && !cut_short {
                    return Err(format!("no end of values: {}", show(rest)));
                }
                let mut values = values.into_iter().peekable();
                for name in names {
                    match values.next_if(|(known, _)| known == name) {
                        Some((_, value)) => self.read(at, pending, name, Some(value))?,
                        None if whole => self.read(at, pending, name, None)?,
                        None => {}
                    }
                }
                if let Some((key, _)) = values.next() {
                    return Err(format!("{key} was not asked for, or not there"));
                }
            }
            Asked::Stored(serial) if frame == b"STORED\r\n" => {
                self.done(at, *serial, self.plan.pools[self.customers[at].pool].on_failure == OnFailure::Absorb)?;
            }
            Asked::Stored(serial) if frame == b"NOT_STORED\r\n" && !errors => self.told_in_place(*serial),
            _ => return Err(format!("{} is no answer", show(frame))),
        }
        Ok(())
    }

    /// A client is told that its value is stored; `absorbed`: perhaps nobody has done that.
    fn done(&mut self, at: usize, serial: Serial, absorbed: bool) -> Result<(), String> {
        let tick = self.ledger.tick;
        let write = &mut self.ledger.writes[serial];
        write.told = Some((tick, true));
        if write.stored.is_none() && !absorbed {
            return Err(format!("a change that nobody made is confirmed: {write:?}"));
        }
        let key = (write.database, write.key.clone());
        self.customers[at].own.insert(key, serial);
        if absorbed {
            self.told_in_place(serial);
        }
        Ok(())
    }

    /// A client is told something of its writing in a server's place, unless a server has stored it all the same.
    fn told_in_place(&mut self, serial: Serial) {
        let write = &self.ledger.writes[serial];
        if write.stored.is_none() && write.guards.is_empty() {
            let key = (write.pool, write.database, write.key.clone());
            self.ledger.in_place.entry(key).or_default().push(serial);
            self.count("told in place");
        }
    }

    /// Whether a value is read that a client was told to be replaced, though that never reached the server. If it may have,
    /// and its connection is over, nobody knows.
    fn check_replaced(&mut self, pending: &Pending, read: Serial, home: usize) -> Result<(), String> {
        let (writes, node) = (&self.ledger.writes, &self.nodes[home]);
        let Write { pool, database, ref key, stored: Some((stored, place)), .. } = writes[read] else { return Ok(()) };
        let Some(candidates) = self.ledger.in_place.get(&(pool, database, key.clone())) else { return Ok(()) };
        let lost = candidates.iter().copied().find(|serial| {
            let write = &writes[*serial];
            let before = write.told.is_some_and(|(told, _)| told < pending.tick) && stored < write.drawn;
            // One whose time was over before its server refused it may be carried out still, as far as anybody knows.
            let is_known =
                self.ledger.refused.get(serial).is_none_or(|heard| heard.is_some_and(|at| at < pending.tick));
            before
                && is_known
                && write.stored.is_none()
                && place == home
                && !node.was_out(write.drawn)
                && node.ended < write.drawn
        });
        let Some(serial) = lost else { return Ok(()) };
        self.count("replaced and read");
        if self.is_under_way(serial, home) {
            return Ok(());
        }
        let (old, new) = (&self.ledger.writes[read], &self.ledger.writes[serial]);
        Err(format!("what was answered in a server's place is read as before: {old:?} and not {new:?}"))
    }

    /// Whether a writing may be on its way to a server still.
    fn is_under_way(&mut self, serial: Serial, server: usize) -> bool {
        let text = format!("|{serial}|").into_bytes();
        let has = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        if self.connecting.iter().any(|(_, of)| self.server_of(*of) == server) {
            return true;
        }
        let connections = self.connections.iter().filter(|one| one.server == server);
        for connection in connections {
            let (link, epoch) = connection.id;
            let output = self.engine.link_output(link, epoch);
            if (self.plan.large || self.plan.small.is_some()) && !output.is_empty() {
                return true; // nobody sees what stands behind a large request
            }
            let on_its_way = [&connection.there[..], output].concat();
            // Or with the server, in a transaction that has not been executed.
            if has(&on_its_way) || connection.queued.iter().flatten().flatten().any(|word| has(word)) {
                return true;
            }
        }
        false
    }

    /// Where a key may have been looked for since `tick`.
    fn candidates(&self, pool: usize, key: &str, tick: u64) -> Vec<usize> {
        let home = self.home(pool, key);
        let is_rehashed = self.plan.pools[pool].on_eject == OnEject::Rehash && self.nodes[home].was_out(tick);
        if is_rehashed || self.shifted[pool] >= tick {
            let of_pool = |place: &usize| self.nodes[*place].pool == pool && !self.nodes[*place].had_left(tick);
            (0..self.nodes.len()).filter(of_pool).collect()
        } else {
            vec![home]
        }
    }

    /// A client is told that a key is like this.
    fn read(&mut self, at: usize, pending: &Pending, key: &str, state: Option<&[u8]>) -> Result<(), String> {
        let customer = &mut self.customers[at];
        let (pool, database) = (customer.pool, pending.database);
        if let Some(guarding) = customer.guarding.as_mut().filter(|_| pending.guards)
            && let Some(watched) =
                guarding.watched.iter_mut().find(|watched| watched.key == key && watched.base.is_none())
        {
            watched.base = Some(state.map(<[u8]>::to_vec));
        }
        let candidates = self.candidates(pool, key, pending.tick);
        let was = |node: &Node, tick: u64| node.databases[database].was(key.as_bytes(), tick, state);
        let Some(value) = state else {
            self.count("misses");
            if self.exact {
                return Err(format!("{key} is not told, and nothing is wrong with its server"));
            }
            let errors = self.plan.pools[pool].on_failure == OnFailure::Error;
            if errors && !candidates.iter().any(|place| was(&self.nodes[*place], pending.tick)) {
                return Err(format!("{key} was there all the time"));
            }
            return Ok(());
        };
        self.count("hits");
        let serial = self.ledger.written(value, pool, database, key)?;
        if self.plan.pools[pool].on_failure != OnFailure::Error {
            let home = self.home(pool, key);
            self.check_replaced(pending, serial, home)?;
        }
        let write = &self.ledger.writes[serial];
        let customer = &self.customers[at];
        if write.client == customer.name && serial >= pending.serial {
            return Err(format!("a client reads what it wrote only afterwards: {write:?}"));
        }
        // Where values are kept, one may be told of which nobody had been told yet that another has taken its place, or that its
        // server has lost it.
        let keeps = self.plan.pools[pool].near.is_some();
        let is_known = |node: &Node, at: u64, state: &Option<Vec<u8>>| match state {
            None => {
                !node.losses.contains(&at) && !self.ledger.is_removal_untold((pool, database, key), at, pending.tick)
            }
            Some(value) => match self.ledger.written(value, pool, database, key) {
                // What was answered in the place of its server may be on its way still.
                Ok(serial) => {
                    let (write, key) = (&self.ledger.writes[serial], (pool, database, key.to_owned()));
                    let in_place = self.ledger.in_place.get(&key).is_some_and(|known| known.contains(&serial));
                    write.told.is_some_and(|(told, done)| done && told < pending.tick) && !in_place
                }
                Err(_) => true,
            },
        };
        let was_kept = |node: &Node, floor: u64| {
            let of = &node.databases[database];
            keeps && of.was_kept(key.as_bytes(), (floor, pending.tick), state, |at, other| is_known(node, at, other))
        };
        // A copy is of what was there when it was lost, or of what was stored while that was on its way. It may also be of what
        // never came, or came to another server.
        let drawn = |value: &Vec<u8>| {
            let serial = self.ledger.written(value, pool, database, key);
            serial.map_or(u64::MAX, |serial| self.ledger.writes[serial].drawn)
        };
        let was_copied = |node: &Node| {
            let mut left = node.databases[database].left(key.as_bytes(), pending.tick, &node.losses);
            let is_copied =
                |last: &Vec<u8>| last == value || write.stored.is_some_and(|(stored, _)| stored > drawn(last));
            let is_at =
                |node: &Node| write.stored.is_some_and(|(_, place)| std::ptr::eq(node, &raw const self.nodes[place]));
            let is_left_alone = || {
                let told = write.told.map_or(u64::MAX, |(told, _)| told);
                !node.databases[database].has_changed(key.as_bytes(), (told, pending.tick), &node.losses)
            };
            self.plan.pools[pool].copies && (left.any(is_copied) || !is_at(node) && is_left_alone())
        };
        let may_be = |place: &usize| {
            let node = &self.nodes[*place];
            was(node, pending.tick) || was_kept(node, 0) || was_copied(node)
        };
        // While a key's server is out, what is kept stands in for it, though the key may have had another one then.
        let stands_in = || {
            let is_out = self.nodes[self.home(pool, key)].was_out(pending.tick);
            self.plan.pools[pool].stale && is_out && self.nodes.iter().any(|node| was_kept(node, 0))
        };
        if !candidates.iter().any(may_be) && !stands_in() {
            let states =
                candidates.iter().map(|place| brief(self.nodes[*place].databases[database].get(key.as_bytes())));
            let states: Vec<_> = states.collect();
            return Err(format!(
                "{key} was not {} at {candidates:?} since then, now {states:?}: {write:?}",
                show(value)
            ));
        }
        let Some((stored, place)) = write.stored else {
            // With copies that may be so.
            let says = format!("nobody has stored {write:?}");
            return if self.plan.pools[pool].copies { Ok(()) } else { Err(says) };
        };
        let covers = |of: &Option<usize>| of.is_none_or(|of| of == database);
        for flush in self.ledger.flushes.iter().filter(|flush| flush.pool == pool && covers(&flush.database)) {
            let Some(done) = flush.done.filter(|done| *done < pending.tick) else { continue };
            let node = &self.nodes[place];
            let was_away =
                |(left, back): &(u64, Option<u64>)| *left <= done && back.is_none_or(|back| back >= flush.drawn);
            let is_owed = !node.aways.iter().any(was_away) && node.named_elsewhere < flush.drawn;
            if stored < flush.drawn && is_owed {
                return Err(format!("a flush is undone: {flush:?} and yet {write:?}"));
            }
        }
        for absence in self.nodes[place].absences.iter().filter(|absence| absence.flushes) {
            // What it had received before, it may have carried out while it was away.
            let is_stray = write.stray || self.ledger.dismissed.contains(&write.client);
            let before = |back: u64| back < pending.tick && stored < if is_stray { absence.out } else { back };
            if absence.back.is_some_and(before) {
                return Err(format!("server {place} was not flushed after {absence:?}: {write:?}"));
            }
        }
        let Some(own) = customer.own.get(&(database, key.to_owned())) else { return Ok(()) };
        let own = &self.ledger.writes[*own];
        let home = &self.nodes[self.home(pool, key)];
        if let (Some((stored, place)), Some((told, true))) = (own.stored, own.told)
            && stored < told
            && place == self.home(pool, key)
            && !home.was_out(own.drawn)
            && !was(home, stored.max(pending.tick))
            && !was_kept(home, stored)
            && !was_copied(home)
        {
            return Err(format!("{key} is as it was before the client's own {own:?}"));
        }
        Ok(())
    }

    /// A transaction behind a watch took place: what was watched must have been as it was read.
    fn check_guards(&self, at: usize, pending: &Pending) -> Result<(), String> {
        let customer = &self.customers[at];
        let Some(guarding) = &customer.guarding else { return Err("no guard".to_owned()) };
        for watched in &guarding.watched {
            let base = watched.base.as_ref().and_then(Option::as_deref);
            let was = |node: &Node| node.databases[watched.database].was(watched.key.as_bytes(), pending.tick, base);
            if !self.nodes.iter().any(|node| node.pool == customer.pool && was(node)) {
                return Err(format!("unguarded: {watched:?} was changed before"));
            }
        }
        Ok(())
    }
}
