//! What is pending, and when it is not any more.

use super::*;

const NAME: ConnectionName = ConnectionName { worker: 0, place: 1, section: 0 };
const OTHER: ConnectionName = ConnectionName { worker: 1, place: 1, section: 0 };

fn from(name: ConnectionName) -> Option<OlderWrites> {
    Some(OlderWrites { name, is_foreign: false })
}

/// A connection.
struct Connection {
    name: ConnectionName,
    database: Option<u32>,
    invalidated: Invalidated,
}

impl Connection {
    fn new(name: ConnectionName, database: Option<u32>) -> Self {
        Self { name, database, invalidated: Invalidated::default() }
    }

    /// Sends so many keys at most.
    fn next(&mut self, pending: &PendingInvalidations, most: usize) -> InvalidationBatch {
        let batch = pending.next_batch(self.invalidated, self.database, self.name, most);
        self.invalidated = batch.range.end();
        batch
    }

    /// Sends all, and that is confirmed.
    fn confirm_all(&mut self, pending: &mut PendingInvalidations) {
        let batch = self.next(pending, usize::MAX);
        pending.confirm(batch.range, Some(self.name));
    }
}

fn key(number: usize) -> StaleKey {
    StaleKey { database: None, key: format!("key:{number}").into_bytes().into(), base64: false }
}

fn key_in(database: u32, number: usize) -> StaleKey {
    StaleKey { database: Some(database), ..key(number) }
}

#[test]
fn keys_are_pending_once_and_sent_in_batches() {
    let mut pending = PendingInvalidations::default();
    (0..10).chain(0..10).for_each(|number| pending.add_key(key(number), None, Instant::ZERO));
    let mut connection = Connection::new(NAME, None);
    let (first, second) = (connection.next(&pending, 4), connection.next(&pending, 100));
    assert_eq!((first.keys.len(), second.keys.len(), connection.next(&pending, 100).keys.len()), (4, 6, 0));
    pending.confirm(first.range, Some(NAME));
    assert_eq!(
        Connection::new(OTHER, None).next(&pending, 100).keys.len(),
        6,
        "another connection has fewer left to send"
    );
    pending.confirm(second.range, Some(NAME));
    assert!(pending.is_empty() && pending.cost() == 0);
}

#[test]
fn a_key_that_is_missed_once_more_is_not_confirmed_by_what_was_sent_before() {
    let mut pending = PendingInvalidations::default();
    pending.add_key(key(1), None, Instant::ZERO);
    let mut connection = Connection::new(NAME, None);
    let first = connection.next(&pending, 9);
    pending.add_key(key(1), None, Instant::ZERO);
    pending.confirm(first.range, Some(NAME));
    assert_eq!(connection.next(&pending, 9).keys, [key(1)]);
}

#[test]
fn a_connection_sends_for_its_own_database() {
    let mut pending = PendingInvalidations::default();
    pending.add_key(key_in(3, 1), None, Instant::ZERO);
    pending.add_database(5, Instant::ZERO);
    let [mut own, mut third, mut fifth] = [0, 3, 5].map(|database| Connection::new(NAME, Some(database)));
    assert_eq!(pending.sendable(), [Some(3), Some(5)]);
    own.confirm_all(&mut pending);
    assert_eq!(own.invalidated.number, pending.last(), "none of it concerns what is asked there");
    assert!(pending.has_pending_in(Some(3)) && pending.has_pending_in(Some(5)) && !pending.has_pending_in(Some(0)));
    assert_eq!(third.next(&pending, 9).keys, [key_in(3, 1)]);
    third.invalidated = Invalidated::default();
    third.confirm_all(&mut pending);
    let batch = fifth.next(&pending, 9);
    assert!(batch.database && !batch.flush && batch.keys.is_empty());
    pending.confirm(batch.range, Some(NAME));
    assert!(pending.is_empty());
}

#[test]
fn what_is_pending_in_a_database_that_cannot_be_selected_waits_or_is_void() {
    let mut pending = PendingInvalidations::default();
    pending.add_key(key_in(3, 1), None, Instant::ZERO);
    pending.add_key(key_in(9, 1), None, Instant::ZERO);
    pending.add_database(8, Instant::ZERO);
    pending.void_database(8);
    pending.void_database(9);
    pending.refuse_database(3);
    pending.refuse_database(4);
    assert!(pending.sendable().is_empty() && pending.has_pending_in(Some(3)) && !pending.has_pending_in(Some(9)));
    Connection::new(NAME, Some(3)).confirm_all(&mut pending);
    assert!(pending.is_empty(), "it can be selected after all");
    pending.add_key(key_in(3, 1), None, Instant::ZERO);
    assert_eq!(pending.sendable(), [Some(3)]);
}

#[test]
fn a_key_is_sent_behind_older_writes_of_it() {
    let mut pending = PendingInvalidations::default();
    let (mut connection, mut used) = (Connection::new(OTHER, None), Connection::new(NAME, None));
    pending.add_key(key(1), from(NAME), Instant::ZERO);
    connection.confirm_all(&mut pending);
    assert!(!pending.is_empty(), "an older write may come on the other connection");
    used.confirm_all(&mut pending);
    assert!(pending.is_empty());
    pending.add_key(key(1), from(NAME), Instant::ZERO);
    connection.confirm_all(&mut pending);
    let under_way = Connection::new(ConnectionName { worker: 2, ..NAME }, None).next(&pending, 9);
    pending.connection_ended(NAME);
    pending.confirm(under_way.range, Some(ConnectionName { worker: 2, ..NAME }));
    assert!(!pending.is_empty(), "its last writes may have been carried out behind what was sent before its end");
    assert!(connection.invalidated.number < pending.last());
    connection.confirm_all(&mut pending);
    assert!(pending.is_empty());
}

#[test]
fn what_is_sent_once_more_comes_in_batches_and_ends() {
    let mut pending = PendingInvalidations::default();
    let mut connection = Connection::new(OTHER, None);
    (0..4).for_each(|number| pending.add_key(key(number), None, Instant::ZERO));
    (4..10).for_each(|number| pending.add_key(key(number), from(NAME), Instant::ZERO));
    connection.confirm_all(&mut pending);
    pending.connection_ended(NAME);
    let batches: Vec<_> = (0..3).map(|_| connection.next(&pending, 4)).collect();
    assert_eq!(batches.iter().map(|batch| batch.keys.len()).collect::<Vec<_>>(), [4, 2, 0]);
    assert_eq!(connection.invalidated.number, pending.last());
    batches.into_iter().for_each(|batch| pending.confirm(batch.range, Some(OTHER)));
    assert!(pending.is_empty());
    pending.connection_ended(NAME);
    assert!(pending.is_empty());
}

#[test]
fn a_connection_of_another_database_is_asked_when_its_writes_are_over() {
    let mut pending = PendingInvalidations::default();
    let (mut used, mut connection) = (Connection::new(NAME, Some(0)), Connection::new(OTHER, Some(3)));
    pending.add_key(key_in(3, 1), Some(OlderWrites { name: NAME, is_foreign: true }), Instant::ZERO);
    let batch = used.next(&pending, 9);
    assert!(batch.fence && batch.keys.is_empty());
    connection.confirm_all(&mut pending);
    assert!(!pending.is_empty());
    pending.connection_ended(NAME);
    connection.confirm_all(&mut pending);
    assert!(pending.is_empty());
}

#[test]
fn a_flush_in_place_of_keys_is_sent_behind_the_same_writes() {
    for is_of_one in [false, true] {
        let mut pending = PendingInvalidations::default();
        let mut connection = Connection::new(OTHER, Some(3));
        pending.add_key(key_in(3, 1), from(NAME), Instant::ZERO);
        if is_of_one {
            pending.add_database(3, Instant::ZERO)
        } else {
            pending.add_flush(Instant::ZERO)
        }
        connection.confirm_all(&mut pending);
        assert!(pending.awaits_flush(), "an older write may come on the other connection");
        pending.connection_ended(NAME);
        let batch = connection.next(&pending, 9);
        assert!(batch.flush != is_of_one && batch.database == is_of_one, "it is sent once more: {batch:?}");
        pending.confirm(batch.range, Some(OTHER));
        assert!(pending.is_empty());
    }
}

#[test]
fn a_batch_confirms_what_was_sent_with_it() {
    let mut pending = PendingInvalidations::default();
    (0..4).for_each(|number| pending.add_key(key(number), from(NAME), Instant::ZERO));
    let mut used = Connection::new(NAME, None);
    let first = used.next(&pending, 2);
    pending.confirm(first.range, Some(OTHER));
    let second = used.next(&pending, 9);
    pending.confirm(BatchRange { up_to: 0, ..second.range }, Some(NAME));
    assert_eq!(
        Connection::new(OTHER, None).next(&pending, 9).keys.len(),
        4,
        "none of it was sent on the connection of the older writes"
    );
    pending.confirm(second.range, Some(NAME));
    assert_eq!(Connection::new(OTHER, None).next(&pending, 9).keys.len(), 2);
}

#[test]
fn too_many_keys_become_a_flush() {
    let mut pending = PendingInvalidations::default();
    (0..=COUNT_LIMIT).for_each(|number| pending.add_key(key(number), None, Instant::ZERO));
    assert_eq!(pending.all(), Invalidations { flush: true, ..Invalidations::default() });
    assert_eq!(pending.cost(), 0);
    Connection::new(NAME, None).confirm_all(&mut pending);
    assert!(pending.is_empty());
}

#[test]
fn too_many_keys_of_some_databases_become_a_flush_of_these() {
    let mut pending = PendingInvalidations::default();
    pending.add_key(key_in(3, 1), None, Instant::ZERO);
    (0..COUNT_LIMIT).for_each(|number| pending.add_key(key_in(5, number), None, Instant::ZERO));
    assert_eq!(pending.all(), Invalidations { databases: vec![3, 5], ..Invalidations::default() });
    assert_eq!(pending.cost(), 0);
}

/// However many keys are pending, the end of a connection costs no more than of few.
#[test]
fn the_end_of_a_connection_does_not_look_through_the_keys() {
    let mut pending = PendingInvalidations::default();
    (0..COUNT_LIMIT).for_each(|number| pending.add_key(key(number), from(NAME), Instant::ZERO));
    let numbers: Vec<_> = pending.numbers.values().copied().collect();
    pending.connection_ended(NAME);
    assert!(pending.numbers.values().copied().eq(numbers), "none of them is touched");
    assert_eq!(Connection::new(OTHER, None).next(&pending, 9).keys.len(), 9);
}

#[test]
fn a_restart_voids_what_was_pending_before_it_and_nothing_else() {
    let at = Instant::from_nanos;
    let mut pending = PendingInvalidations::default();
    pending.add_key(key(1), None, at(10));
    pending.void_before(at(10));
    assert!(!pending.is_empty(), "it may have been missed by the new process");
    pending.add_flush(at(11));
    pending.void_before(at(12));
    assert!(pending.is_empty());
}

#[test]
fn a_flush_that_takes_effect_later_is_pending_from_then_on() {
    let at = |ns| Instant::from_nanos(ns);
    let mut pending = PendingInvalidations::default();
    let mut connection = Connection::new(NAME, None);
    pending.add_flush_later(at(100));
    pending.add_flush_later(at(300));
    assert!(pending.is_empty() && !pending.is_nothing() && !pending.awaits_flush() && !pending.add_due_flush(at(99)));
    pending.add_flush(at(50));
    connection.confirm_all(&mut pending);
    pending.void_before(at(99)); // a server that was started anew has it before it as well
    assert!(pending.add_due_flush(at(100)) && pending.awaits_flush() && connection.next(&pending, 1).flush);
    Connection::new(NAME, None).confirm_all(&mut pending);
    assert!(!pending.add_due_flush(at(200)) && pending.all().flush);
    assert!(pending.add_due_flush(at(400)));
    (0..1000).for_each(|due| pending.add_flush_later(at(1000 + due)));
    assert_eq!(pending.later.len(), LATER_LIMIT);
    assert!(pending.add_due_flush(at(1999)) && !pending.add_due_flush(at(9999)));
}

#[test]
fn a_flush_is_awaited_until_the_last_one_is_confirmed() {
    let mut pending = PendingInvalidations::default();
    let mut connection = Connection::new(NAME, Some(3));
    pending.add_database(3, Instant::ZERO);
    let first = connection.next(&pending, 10);
    pending.add_database(3, Instant::ZERO);
    let second = connection.next(&pending, 10);
    assert!(first.database && second.database);
    pending.confirm(first.range, Some(NAME));
    assert!(pending.awaits_flush_in(Some(3)) && !pending.awaits_flush_in(Some(0)));
    pending.confirm(second.range, Some(NAME));
    assert!(pending.is_empty());
}

#[test]
fn a_database_is_flushed_behind_a_flush_that_is_under_way() {
    let mut pending = PendingInvalidations::default();
    let mut connection = Connection::new(NAME, Some(0));
    pending.add_flush(Instant::ZERO);
    let first = connection.next(&pending, 10);
    assert!(first.flush);
    pending.add_database(3, Instant::ZERO);
    pending.confirm(first.range, Some(NAME));
    assert!(pending.awaits_flush());
    assert!(connection.next(&pending, 10).flush);
}

/// A batch in front of what waits says nothing of what comes behind it.
#[test]
fn what_is_sent_in_front_of_a_connections_own_is_sent_again_behind_it() {
    let mut pending = PendingInvalidations::default();
    pending.add_key(key(1), from(NAME), Instant::ZERO);
    pending.add_key(key(2), from(OTHER), Instant::ZERO);
    pending.add_key(key(3), None, Instant::ZERO);
    let next = |pending: &PendingInvalidations, name| Connection::new(name, None).next(pending, 9);
    assert!(!next(&pending, ConnectionName { worker: 2, ..NAME }).is_behind_own);
    let batch = next(&pending, NAME);
    assert!(batch.is_behind_own);
    pending.confirm(batch.range, None);
    assert_eq!(next(&pending, NAME).keys, [key(1), key(2)]);
    pending.add_flush(Instant::ZERO);
    let batch = next(&pending, NAME);
    assert!(batch.flush && batch.is_behind_own);
    pending.confirm(batch.range, None);
    pending.confirm(batch.range, Some(OTHER));
    assert!(pending.awaits_flush());
    pending.confirm(batch.range, Some(NAME));
    assert!(pending.is_empty());
}

/// A connection that has sent all, and no older write since, is not waited for.
#[test]
fn a_connection_that_has_sent_all_is_not_waited_for_later() {
    let mut pending = PendingInvalidations::default();
    let (mut used, mut connection) = (Connection::new(NAME, None), Connection::new(OTHER, None));
    pending.add_key(key(1), from(NAME), Instant::ZERO);
    pending.add_key(key(2), from(OTHER), Instant::ZERO);
    used.confirm_all(&mut pending);
    pending.add_flush(Instant::ZERO);
    connection.confirm_all(&mut pending);
    assert!(pending.is_empty());
}

#[test]
fn what_was_sent_before_a_flush_does_not_count_for_it() {
    let mut pending = PendingInvalidations::default();
    let mut connection = Connection::new(NAME, None);
    pending.add_key(key(1), from(NAME), Instant::ZERO);
    pending.add_flush(Instant::ZERO);
    connection.invalidated = BatchRange { up_to: pending.last(), ..BatchRange::default() }.end();
    pending.add_key(key(2), None, Instant::ZERO);
    let batch = connection.next(&pending, 9);
    assert!(!batch.flush && batch.keys == [key(2)]);
    pending.confirm(batch.range, Some(NAME));
    assert!(pending.awaits_flush());
}

#[test]
fn the_keys_of_one_database_are_forgotten_and_no_others() {
    let mut pending = PendingInvalidations::default();
    for number in 0..9 {
        pending.add_key(key(number), None, Instant::ZERO);
        (2..5).for_each(|database| pending.add_key(key_in(database, number), from(NAME), Instant::ZERO));
    }
    let all = pending.cost();
    pending.void_database(3);
    let left: BTreeSet<_> = pending.all().keys.iter().map(|key| key.database).collect();
    assert_eq!(left, [None, Some(2), Some(4)].into());
    assert!(pending.cost() < all && pending.cost() > all / 2 && pending.numbers.len() == 27);
    (0..9).for_each(|number| pending.add_key(key_in(3, number), from(NAME), Instant::ZERO));
    assert_eq!(pending.cost(), all);
    [2, 3, 4].into_iter().for_each(|database| pending.void_database(database));
    pending.replace_keys(Instant::ZERO);
    assert_eq!((pending.cost(), pending.all().flush), (0, true));
}
