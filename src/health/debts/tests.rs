//! What is owed, and when it is not any more.

use super::*;

const WAY: Way = Way { worker: 0, place: 1, turn: 0 };
const OTHER: Way = Way { worker: 1, place: 1, turn: 0 };

fn from(way: Way) -> Option<Origin> {
    Some(Origin { way, is_foreign: false })
}

/// A connection.
struct Payer {
    way: Way,
    database: Option<u32>,
    behind: Behind,
}

impl Payer {
    fn new(way: Way, database: Option<u32>) -> Self {
        Self { way, database, behind: Behind::default() }
    }

    /// Pays so many keys at most.
    fn pay(&mut self, debts: &Debts, most: usize) -> Bill {
        let bill = debts.due(self.behind, self.database, self.way, most);
        self.behind = bill.share.behind();
        bill
    }

    /// Pays all, and that is confirmed.
    fn settle(&mut self, debts: &mut Debts) {
        let bill = self.pay(debts, usize::MAX);
        debts.confirm(bill.share, Some(self.way));
    }
}

fn key(number: usize) -> OwedKey {
    OwedKey { database: None, key: format!("key:{number}").into_bytes().into(), base64: false }
}

fn key_in(database: u32, number: usize) -> OwedKey {
    OwedKey { database: Some(database), ..key(number) }
}

#[test]
fn keys_are_owed_once_and_paid_in_batches() {
    let mut debts = Debts::default();
    (0..10).chain(0..10).for_each(|number| debts.add_key(key(number), None, Instant::ZERO));
    let mut payer = Payer::new(WAY, None);
    let (first, second) = (payer.pay(&debts, 4), payer.pay(&debts, 100));
    assert_eq!((first.keys.len(), second.keys.len(), payer.pay(&debts, 100).keys.len()), (4, 6, 0));
    debts.confirm(first.share, Some(WAY));
    assert_eq!(Payer::new(OTHER, None).pay(&debts, 100).keys.len(), 6, "who pays too has less to pay");
    debts.confirm(second.share, Some(WAY));
    assert!(debts.is_empty() && debts.cost() == 0);
}

#[test]
fn a_key_that_is_owed_once_more_is_not_paid_by_what_was_sent_before() {
    let mut debts = Debts::default();
    debts.add_key(key(1), None, Instant::ZERO);
    let mut payer = Payer::new(WAY, None);
    let first = payer.pay(&debts, 9);
    debts.add_key(key(1), None, Instant::ZERO);
    debts.confirm(first.share, Some(WAY));
    assert_eq!(payer.pay(&debts, 9).keys, [key(1)]);
}

#[test]
fn a_connection_pays_for_its_own_database() {
    let mut debts = Debts::default();
    debts.add_key(key_in(3, 1), None, Instant::ZERO);
    debts.add_database(5, Instant::ZERO);
    let [mut own, mut third, mut fifth] = [0, 3, 5].map(|database| Payer::new(WAY, Some(database)));
    assert_eq!(debts.payable(), [Some(3), Some(5)]);
    own.settle(&mut debts);
    assert_eq!(own.behind.number, debts.last(), "none of it concerns what is asked there");
    assert!(debts.owes_in(Some(3)) && debts.owes_in(Some(5)) && !debts.owes_in(Some(0)));
    assert_eq!(third.pay(&debts, 9).keys, [key_in(3, 1)]);
    third.behind = Behind::default();
    third.settle(&mut debts);
    let bill = fifth.pay(&debts, 9);
    assert!(bill.database && !bill.flush && bill.keys.is_empty());
    debts.confirm(bill.share, Some(WAY));
    assert!(debts.is_empty());
}

#[test]
fn what_is_owed_of_a_database_that_cannot_be_selected_waits_or_is_void() {
    let mut debts = Debts::default();
    debts.add_key(key_in(3, 1), None, Instant::ZERO);
    debts.add_key(key_in(9, 1), None, Instant::ZERO);
    debts.add_database(8, Instant::ZERO);
    debts.void_database(8);
    debts.void_database(9);
    debts.refuse_database(3);
    debts.refuse_database(4);
    assert!(debts.payable().is_empty() && debts.owes_in(Some(3)) && !debts.owes_in(Some(9)));
    Payer::new(WAY, Some(3)).settle(&mut debts);
    assert!(debts.is_empty(), "it can be selected after all");
    debts.add_key(key_in(3, 1), None, Instant::ZERO);
    assert_eq!(debts.payable(), [Some(3)]);
}

#[test]
fn a_key_is_paid_behind_older_writes_of_it() {
    let mut debts = Debts::default();
    let (mut payer, mut way) = (Payer::new(OTHER, None), Payer::new(WAY, None));
    debts.add_key(key(1), from(WAY), Instant::ZERO);
    payer.settle(&mut debts);
    assert!(!debts.is_empty(), "an older write may come by the other way");
    way.settle(&mut debts);
    assert!(debts.is_empty());
    debts.add_key(key(1), from(WAY), Instant::ZERO);
    payer.settle(&mut debts);
    let under_way = Payer::new(Way { worker: 2, ..WAY }, None).pay(&debts, 9);
    debts.end_way(WAY);
    debts.confirm(under_way.share, Some(Way { worker: 2, ..WAY }));
    assert!(!debts.is_empty(), "its last writes may have been carried out behind what was sent before its end");
    assert!(payer.behind.number < debts.last());
    payer.settle(&mut debts);
    assert!(debts.is_empty());
}

#[test]
fn what_is_to_be_paid_anew_comes_in_batches_and_ends() {
    let mut debts = Debts::default();
    let mut payer = Payer::new(OTHER, None);
    (0..4).for_each(|number| debts.add_key(key(number), None, Instant::ZERO));
    (4..10).for_each(|number| debts.add_key(key(number), from(WAY), Instant::ZERO));
    payer.settle(&mut debts);
    debts.end_way(WAY);
    let batches: Vec<_> = (0..3).map(|_| payer.pay(&debts, 4)).collect();
    assert_eq!(batches.iter().map(|bill| bill.keys.len()).collect::<Vec<_>>(), [4, 2, 0]);
    assert_eq!(payer.behind.number, debts.last());
    batches.into_iter().for_each(|bill| debts.confirm(bill.share, Some(OTHER)));
    assert!(debts.is_empty());
    debts.end_way(WAY);
    assert!(debts.is_empty());
}

#[test]
fn who_cannot_pay_for_what_comes_behind_it_is_asked_when_that_is_over() {
    let mut debts = Debts::default();
    let (mut way, mut payer) = (Payer::new(WAY, Some(0)), Payer::new(OTHER, Some(3)));
    debts.add_key(key_in(3, 1), Some(Origin { way: WAY, is_foreign: true }), Instant::ZERO);
    let bill = way.pay(&debts, 9);
    assert!(bill.fence && bill.keys.is_empty());
    payer.settle(&mut debts);
    assert!(!debts.is_empty());
    debts.end_way(WAY);
    payer.settle(&mut debts);
    assert!(debts.is_empty());
}

#[test]
fn a_flush_in_place_of_keys_is_paid_behind_what_they_were_to_be_paid_behind() {
    for is_of_one in [false, true] {
        let mut debts = Debts::default();
        let mut payer = Payer::new(OTHER, Some(3));
        debts.add_key(key_in(3, 1), from(WAY), Instant::ZERO);
        if is_of_one {
            debts.add_database(3, Instant::ZERO)
        } else {
            debts.add_flush(Instant::ZERO)
        }
        payer.settle(&mut debts);
        assert!(debts.awaits_flush(), "an older write may come by the other way");
        debts.end_way(WAY);
        let bill = payer.pay(&debts, 9);
        assert!(bill.flush != is_of_one && bill.database == is_of_one, "it is paid anew: {bill:?}");
        debts.confirm(bill.share, Some(OTHER));
        assert!(debts.is_empty());
    }
}

#[test]
fn a_payment_confirms_what_was_paid_with_it() {
    let mut debts = Debts::default();
    (0..4).for_each(|number| debts.add_key(key(number), from(WAY), Instant::ZERO));
    let mut way = Payer::new(WAY, None);
    let first = way.pay(&debts, 2);
    debts.confirm(first.share, Some(OTHER));
    let second = way.pay(&debts, 9);
    debts.confirm(Share { up_to: 0, ..second.share }, Some(WAY));
    assert_eq!(Payer::new(OTHER, None).pay(&debts, 9).keys.len(), 4, "none of it came by the way of the older writes");
    debts.confirm(second.share, Some(WAY));
    assert_eq!(Payer::new(OTHER, None).pay(&debts, 9).keys.len(), 2);
}

#[test]
fn too_many_keys_become_a_flush() {
    let mut debts = Debts::default();
    (0..=COUNT_LIMIT).for_each(|number| debts.add_key(key(number), None, Instant::ZERO));
    assert_eq!(debts.all(), Due { flush: true, ..Due::default() });
    assert_eq!(debts.cost(), 0);
    Payer::new(WAY, None).settle(&mut debts);
    assert!(debts.is_empty());
}

#[test]
fn too_many_keys_of_some_databases_become_a_flush_of_these() {
    let mut debts = Debts::default();
    debts.add_key(key_in(3, 1), None, Instant::ZERO);
    (0..COUNT_LIMIT).for_each(|number| debts.add_key(key_in(5, number), None, Instant::ZERO));
    assert_eq!(debts.all(), Due { databases: vec![3, 5], ..Due::default() });
    assert_eq!(debts.cost(), 0);
}

/// However many keys are owed, the end of a connection costs no more than of few.
#[test]
fn the_end_of_a_connection_does_not_look_through_the_keys() {
    let mut debts = Debts::default();
    (0..COUNT_LIMIT).for_each(|number| debts.add_key(key(number), from(WAY), Instant::ZERO));
    let numbers: Vec<_> = debts.numbers.values().copied().collect();
    debts.end_way(WAY);
    assert!(debts.numbers.values().copied().eq(numbers), "none of them is touched");
    assert_eq!(Payer::new(OTHER, None).pay(&debts, 9).keys.len(), 9);
}

#[test]
fn a_restart_settles_what_was_owed_before_it_and_nothing_else() {
    let at = Instant::from_nanos;
    let mut debts = Debts::default();
    debts.add_key(key(1), None, at(10));
    debts.void_before(at(10));
    assert!(!debts.is_empty(), "it may have been missed by the new process");
    debts.add_flush(at(11));
    debts.void_before(at(12));
    assert!(debts.is_empty());
}

#[test]
fn a_flush_that_takes_effect_later_is_owed_from_then_on() {
    let at = |ns| Instant::from_nanos(ns);
    let mut debts = Debts::default();
    let mut payer = Payer::new(WAY, None);
    debts.add_flush_later(at(100));
    debts.add_flush_later(at(300));
    assert!(debts.is_empty() && !debts.is_nothing() && !debts.awaits_flush() && !debts.add_due_flush(at(99)));
    debts.add_flush(at(50));
    payer.settle(&mut debts);
    debts.void_before(at(99)); // a server that was started anew has it before it as well
    assert!(debts.add_due_flush(at(100)) && debts.awaits_flush() && payer.pay(&debts, 1).flush);
    Payer::new(WAY, None).settle(&mut debts);
    assert!(!debts.add_due_flush(at(200)) && debts.all().flush);
    assert!(debts.add_due_flush(at(400)));
    (0..1000).for_each(|due| debts.add_flush_later(at(1000 + due)));
    assert_eq!(debts.later.len(), LATER_LIMIT);
    assert!(debts.add_due_flush(at(1999)) && !debts.add_due_flush(at(9999)));
}

#[test]
fn a_flush_is_awaited_until_the_last_one_is_confirmed() {
    let mut debts = Debts::default();
    let mut payer = Payer::new(WAY, Some(3));
    debts.add_database(3, Instant::ZERO);
    let first = payer.pay(&debts, 10);
    debts.add_database(3, Instant::ZERO);
    let second = payer.pay(&debts, 10);
    assert!(first.database && second.database);
    debts.confirm(first.share, Some(WAY));
    assert!(debts.awaits_flush_in(Some(3)) && !debts.awaits_flush_in(Some(0)));
    debts.confirm(second.share, Some(WAY));
    assert!(debts.is_empty());
}

#[test]
fn a_database_is_flushed_behind_a_flush_that_is_under_way() {
    let mut debts = Debts::default();
    let mut payer = Payer::new(WAY, Some(0));
    debts.add_flush(Instant::ZERO);
    let first = payer.pay(&debts, 10);
    assert!(first.flush);
    debts.add_database(3, Instant::ZERO);
    debts.confirm(first.share, Some(WAY));
    assert!(debts.awaits_flush());
    assert!(payer.pay(&debts, 10).flush);
}

/// A payment in front of what waits says nothing of what comes behind it.
#[test]
fn what_is_paid_in_front_of_a_connections_own_is_paid_again_behind_it() {
    let mut debts = Debts::default();
    debts.add_key(key(1), from(WAY), Instant::ZERO);
    debts.add_key(key(2), from(OTHER), Instant::ZERO);
    debts.add_key(key(3), None, Instant::ZERO);
    let pay = |debts: &Debts, way| Payer::new(way, None).pay(debts, 9);
    assert!(!pay(&debts, Way { worker: 2, ..WAY }).is_behind_own);
    let bill = pay(&debts, WAY);
    assert!(bill.is_behind_own);
    debts.confirm(bill.share, None);
    assert_eq!(pay(&debts, WAY).keys, [key(1), key(2)]);
    debts.add_flush(Instant::ZERO);
    let bill = pay(&debts, WAY);
    assert!(bill.flush && bill.is_behind_own);
    debts.confirm(bill.share, None);
    debts.confirm(bill.share, Some(OTHER));
    assert!(debts.awaits_flush());
    debts.confirm(bill.share, Some(WAY));
    assert!(debts.is_empty());
}

/// A connection that has paid all, and been asked nothing that is owed since, is not waited for.
#[test]
fn who_has_paid_all_is_not_to_pay_for_what_comes_later() {
    let mut debts = Debts::default();
    let (mut way, mut payer) = (Payer::new(WAY, None), Payer::new(OTHER, None));
    debts.add_key(key(1), from(WAY), Instant::ZERO);
    debts.add_key(key(2), from(OTHER), Instant::ZERO);
    way.settle(&mut debts);
    debts.add_flush(Instant::ZERO);
    payer.settle(&mut debts);
    assert!(debts.is_empty());
}

#[test]
fn what_was_paid_before_a_flush_does_not_count_for_it() {
    let mut debts = Debts::default();
    let mut payer = Payer::new(WAY, None);
    debts.add_key(key(1), from(WAY), Instant::ZERO);
    debts.add_flush(Instant::ZERO);
    payer.behind = Share { up_to: debts.last(), ..Share::default() }.behind();
    debts.add_key(key(2), None, Instant::ZERO);
    let bill = payer.pay(&debts, 9);
    assert!(!bill.flush && bill.keys == [key(2)]);
    debts.confirm(bill.share, Some(WAY));
    assert!(debts.awaits_flush());
}

#[test]
fn the_keys_of_one_database_are_forgotten_and_no_others() {
    let mut debts = Debts::default();
    for number in 0..9 {
        debts.add_key(key(number), None, Instant::ZERO);
        (2..5).for_each(|database| debts.add_key(key_in(database, number), from(WAY), Instant::ZERO));
    }
    let all = debts.cost();
    debts.void_database(3);
    let left: BTreeSet<_> = debts.all().keys.iter().map(|key| key.database).collect();
    assert_eq!(left, [None, Some(2), Some(4)].into());
    assert!(debts.cost() < all && debts.cost() > all / 2 && debts.numbers.len() == 27);
    (0..9).for_each(|number| debts.add_key(key_in(3, number), from(WAY), Instant::ZERO));
    assert_eq!(debts.cost(), all);
    [2, 3, 4].into_iter().for_each(|database| debts.void_database(database));
    debts.replace_keys(Instant::ZERO);
    assert_eq!((debts.cost(), debts.all().flush), (0, true));
}
