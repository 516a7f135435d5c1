//! What goes where of a transaction, found out in portions.
//!
//! To look up the servers of thousands of commands, and to write what each of them gets, takes long. So that is done a turn
//! at a time while the `EXEC` waits at the front of its client's input, as it is with [long](super::long) requests, and
//! nothing is sent before it is ready.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use super::call::Call;
use super::exec::{Kind, Parts, Planned};
use super::local::{NO_INTEGER, OUT_OF_RANGE};
use super::planned::Planning;
use super::portions::Long;
use super::queue::Queue;
use crate::engine::ids::SessionId;
use crate::engine::ways::To;
use crate::engine::{Engine, work};
use crate::failure::Failure;
use crate::proto::resp::args::Args;
use crate::proto::resp::command::keys::{self, KeyList};
use crate::proto::resp::fallback::Fallback;
use crate::proto::resp::plan::{self, CommandClass, Everywhere, Local, Split};
use crate::proto::resp::{encode, request};
use crate::time::Instant;

/// What a command costs that is planned.
const COMMAND: usize = 2 * work::KEY;

impl Engine {
    /// Goes on with finding out what goes where of a transaction; `false` when some is left, as the turn is over.
    ///
    /// # Errors
    ///
    /// What is said of a request that could be part of it when it was queued, and cannot by the ring of now.
    pub(super) fn plan_on(
        &mut self,
        id: SessionId,
        exec: Call<'_>,
        queue: &mut Queue,
        now: Instant,
    ) -> Result<bool, Vec<u8>> {
        let (pool, ring_version) = (exec.pool, self.pools[exec.pool.index()].ring_version);
        let known = queue.planning.take().filter(|planning| planning.ring_version == ring_version);
        let mut planning = known.unwrap_or_else(|| {
            let servers = self.topology.pool(pool).members().count();
            let is_judged = queue.judged_by.is_none_or(|version| version == ring_version);
            Box::new(Planning::new((ring_version, is_judged), servers, queue.len(), queue.bytes))
        });
        let mut spans = Vec::new();
        let is_ready = loop {
            let Some((raw, command)) = queue.get(planning.commands.len()) else { break true };
            if self.work.is_over() {
                break false;
            }
            let call = |args| Call { raw, args, command, plan: plan::of(command), ..exec };
            if planning.judged <= planning.commands.len() {
                let mut spans = Vec::new();
                let args = request::args(raw, &mut spans);
                self.queueable(
                    Call { raw, args, command, plan: plan::of(command), ..exec },
                    queue.first_key.as_deref(),
                    None,
                )?;
                planning.judged = planning.commands.len() + 1;
                self.work.cost += COMMAND + raw.len() / work::COPIED;
            }
            if raw.len() > self.memory.large {
                let mut long = planning.long.take().unwrap_or_default();
                let is_planned = long.find_on(raw, &mut self.work) && {
                    let spans = std::mem::take(&mut long.spans);
                    let is_planned = self.plan_long(id, call(Args::new(raw, &spans)), &mut long, &mut planning, now);
                    long.spans = spans;
                    is_planned
                };
                if !is_planned {
                    planning.long = Some(long);
                    break false;
                }
            } else {
                let planned = self.plan_command(id, call(request::args(raw, &mut spans)), &mut planning, now);
                planning.push(planned);
                self.work.cost += COMMAND + raw.len() / work::COPIED;
            }
        };
        queue.planning = Some(planning);
        Ok(is_ready)
    }

    /// Goes on with planning a long command; `false` when some is left.
    fn plan_long(
        &mut self,
        id: SessionId,
        call: Call<'_>,
        long: &mut Long,
        planning: &mut Planning,
        now: Instant,
    ) -> bool {
        let CommandClass::Split(split) = call.plan.class else {
            let planned =
                if matches!(call.plan.class, CommandClass::Keyed | CommandClass::Script | CommandClass::Publish) {
                    let to = self.home_of(call);
                    let Some(place) = planning.append_on(to, call.raw, &mut self.work) else { return false };
                    planning.asked += 1;
                    self.planned_whole(id, call, place)
                } else {
                    self.work.cost += call.raw.len() / work::COPIED;
                    self.plan_command(id, call, planning, now)
                };
            planning.push(planned);
            return true;
        };
        let (pool, stride) = (call.pool, split.stride());
        let sorted = long.sorted_in(planning.ring_version, call.args.len().saturating_sub(1) / stride);
        if !self.sort_on(pool, call.args, stride, sorted) {
            return false;
        }
        if let [share] = &sorted.shares[..] {
            // It goes on as it came.
            let Some(place) = planning.append_on(share.to(), call.raw, &mut self.work) else { return false };
            planning.asked += 1;
            planning.push(self.planned_whole(id, call, place));
            return true;
        }
        if !sorted.write_on(call, stride, &mut self.work) {
            return false;
        }
        let pieces = sorted.shares.iter().zip(&sorted.pieces.0);
        let parts: Vec<u16> = pieces.map(|(share, request)| planning.append(share.to(), request)).collect();
        let order = std::mem::take(&mut sorted.order);
        let planned = self.planned_split(id, call, split, parts, order);
        planning.push(planned);
        planning.asked += 1;
        true
    }

    /// Appends one command of a transaction to the pieces of the servers that it concerns.
    fn plan_command(&self, id: SessionId, call: Call<'_>, planning: &mut Planning, now: Instant) -> Planned {
        let mut in_place = self.in_place(id, call);
        if matches!(call.plan.class, CommandClass::Everywhere(Everywhere::Flush)) {
            in_place.fallback = Fallback::NONE; // no key has to be forgotten for it
        }
        if call.command.name == "script|flush" {
            planning.forgets.push(planning.commands.len());
        }
        let here = |body: Vec<u8>| Planned { order: Vec::new(), parts: Parts::None, kind: Kind::Here(body), in_place };
        match call.plan.class {
            CommandClass::Local(Local::Select) if self.database_of(call).is_none() => {
                let mut body = Vec::new();
                let is_number = Self::number(call.args.get(1)).is_some();
                encode::error(&mut body, if is_number { OUT_OF_RANGE } else { NO_INTEGER });
                return here(body);
            }
            CommandClass::Local(local) if !matches!(local, Local::Select | Local::Role) => {
                return here(self.answer_of(local, call.args, now));
            }
            CommandClass::Transaction(_) => return here(b"+OK\r\n".to_vec()), // UNWATCH, which EXEC does anyway
            _ => {}
        }
        if let Some(database) = self.database_of(call).filter(|_| call.plan.class == CommandClass::Local(Local::Select))
        {
            planning.selects.push((planning.asked, database));
        }
        planning.asked += 1;
        if let CommandClass::Split(split) = call.plan.class {
            let (pieces, order) = self.pieces(call, split);
            let parts = pieces.iter().map(|piece| planning.append(piece.to, &piece.request)).collect();
            return self.planned_split(id, call, split, parts, order);
        }
        let place = planning.append(self.home_of(call), call.raw);
        Planned { in_place, ..self.planned_whole(id, call, place) }
    }

    /// Where a command goes that is one server's.
    fn home_of(&self, call: Call<'_>) -> To {
        let server = self.pools[call.pool.index()].ring.route(self.first_key_of(call), 0);
        server.map_or(To::Nowhere(None, Failure::Ejected), To::Server)
    }

    /// What is one server's.
    fn planned_whole(&self, id: SessionId, call: Call<'_>, place: u16) -> Planned {
        let in_place = self.in_place(id, call);
        Planned { order: Vec::new(), parts: Parts::One(place), kind: Kind::Whole, in_place }
    }

    /// What was split over several servers, by the pieces of its parts and, for each key, the part that it is in.
    fn planned_split(
        &self,
        id: SessionId,
        call: Call<'_>,
        split: Split,
        parts: Vec<u16>,
        mut order: Vec<u16>,
    ) -> Planned {
        let in_place = self.in_place(id, call);
        if let [part] = parts[..] {
            return Planned { order: Vec::new(), parts: Parts::One(part), kind: Kind::Whole, in_place };
        }
        order.iter_mut().for_each(|part| *part = parts[usize::from(*part)]);
        Planned { order, parts: Parts::Several(parts), kind: Kind::Split(split), in_place }
    }

    /// The first key of a request, or the channel that takes its place.
    fn first_key_of<'a>(&self, call: Call<'a>) -> &'a [u8] {
        let only = usize::from(call.plan.key);
        if only > 0 || call.plan.class == CommandClass::Publish {
            return call.args.get(only.max(1));
        }
        let mut list = KeyList::default();
        let keys = keys::keys(call.command, call.args, &mut list);
        let first = keys.ok().and_then(|()| list.iter().next());
        first.map_or(b"", |place| call.args.get(place))
    }

    /// The database that a `SELECT` names, if the pool has it.
    pub(super) fn database_of(&self, call: Call<'_>) -> Option<u32> {
        let databases = self.topology.pools[call.pool.index()].redis.databases;
        u32::try_from(Self::number(call.args.get(1))?).ok().filter(|number| *number < databases)
    }

    /// What a command says that is answered here, inside a transaction.
    fn answer_of(&self, local: Local, args: Args<'_>, now: Instant) -> Vec<u8> {
        let mut body = Vec::new();
        match local {
            Local::Time => {
                let wall = self.started_at + (now - Instant::ZERO);
                encode::array(&mut body, 2);
                encode::bulk(&mut body, wall.as_secs().to_string().as_bytes());
                encode::bulk(&mut body, wall.subsec_micros().to_string().as_bytes());
            }
            _ if args.len() > 1 => encode::bulk(&mut body, args.get(1)),
            _ => encode::simple(&mut body, b"PONG"),
        }
        body
    }
}
