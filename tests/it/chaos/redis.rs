//! The same faults for Redis pools: with misses, nobody is told of them; with errors, each is told in time, and no
//! connection closes.

use std::time::Duration;

use super::book::Speaks;
use super::fault::Fault;
use super::row::{Row, play};
use super::tap::Trouble;
use super::{FLAPPING, LONG, SHORT, all_of, idle_closes, namespace};

const MISS: Speaks = Speaks::Redis { errors: false };

const ERROR: Speaks = Speaks::Redis { errors: true };

/// One server of four, without errors and with them.
fn one(fault: Fault, span: Duration, ejects: bool) {
    for speaks in [MISS, ERROR] {
        play(Row { speaks, fault, all: false, span, ejects, rate: 800, more: "" });
    }
}

#[test]
fn one_killed() {
    one(Fault::Killed, SHORT, true);
}

#[test]
fn one_stopped() {
    one(Fault::Stopped, LONG, true);
}

#[test]
fn one_accepts_and_never_answers() {
    one(Fault::Wire(Trouble::Silent), LONG, true);
}

#[test]
fn one_breaks_connections() {
    for trouble in [Trouble::Resets, Trouble::Cuts, Trouble::Junk, Trouble::Closes] {
        one(Fault::Wire(trouble), SHORT, true);
    }
}

#[test]
fn one_is_slow() {
    one(Fault::Wire(Trouble::Drips), LONG, false);
    one(Fault::Wire(Trouble::Late), SHORT, false);
}

#[test]
fn one_flaps() {
    one(Fault::Flapping, FLAPPING, true);
}

#[test]
fn one_out_of_memory() {
    one(Fault::Full, SHORT, false);
}

#[test]
fn one_unreachable() {
    namespace::alone("chaos::redis::one_unreachable", || {
        one(Fault::SynDropped, LONG, true);
        one(Fault::Dropped, LONG, true);
    });
}

#[test]
fn all_at_once() {
    for speaks in [MISS, ERROR] {
        all_of(
            speaks,
            &[
                (Fault::Killed, SHORT, true),
                (Fault::Wire(Trouble::Closes), SHORT, true),
                (Fault::Wire(Trouble::Resets), SHORT, true),
                (Fault::Wire(Trouble::Junk), SHORT, true),
                (Fault::Wire(Trouble::Cuts), SHORT, true),
            ],
        );
        all_of(
            speaks,
            &[
                (Fault::Stopped, LONG, true),
                (Fault::Wire(Trouble::Silent), LONG, true),
                (Fault::Wire(Trouble::Drips), LONG, false),
                (Fault::Wire(Trouble::Late), SHORT, false),
                (Fault::Full, SHORT, false),
                (Fault::Flapping, FLAPPING, false),
            ],
        );
    }
}

#[test]
fn connections_that_servers_close_while_idle_cost_nothing() {
    for speaks in [MISS, ERROR] {
        idle_closes(speaks, &["--timeout", "1"]);
    }
}
