use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::summary::{LARGEST, Largest, PLACES, Summary};
use super::*;
use crate::config::model::ServerId;

fn touch(key: &[u8], bytes: u64) -> Touch<'_> {
    Touch { key, server: ServerId(0), requests: REQUEST, bytes, value: bytes }
}

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

/// A key that is asked for `share` of the times, the rest being as many keys as you like.
fn stream(seed: u64, share: f64, tail: u64) -> impl Iterator<Item = Vec<u8>> {
    let mut state = seed | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let drawn = (state >> 11) as f64 / (1_u64 << 53) as f64;
        if drawn < share { b"hot".to_vec() } else { format!("key:{}", state % tail).into_bytes() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_summary_keeps_its_bounds(touches in proptest::collection::vec((0u32..800, 1u64..1000), 1..6000), skew in 1u32..6) {
        let mut summary = Summary::default();
        let (mut truth, mut all) = (BTreeMap::<Vec<u8>, u64>::new(), 0);
        for (key, weight) in touches {
            let key = format!("{}", key / skew.pow(key % 4)).into_bytes();
            summary.touch(hash(&key), touch(&key, weight), weight);
            *truth.entry(key).or_default() += weight;
            all += weight;
        }
        prop_assert!(summary.entries.len() <= PLACES);
        prop_assert_eq!(summary.weights.iter().sum::<u64>(), all, "no weight is lost");
        for (entry, weight) in summary.entries.iter().zip(&summary.weights) {
            let (_, truly) = truth.iter().find(|(key, _)| entry.key.is(key)).expect("a key that came");
            prop_assert!(entry.own.bytes <= *truly && *truly <= *weight, "{} {truly} {weight}", entry.own.bytes);
            prop_assert!(weight - entry.own.bytes <= all / PLACES as u64, "what is inherited is bounded");
        }
        for (key, weight) in &truth {
            let found = summary.entries.iter().any(|entry| entry.key.is(key));
            prop_assert!(found || *weight <= all / PLACES as u64, "{weight} of {all} is missed");
        }
    }

    #[test]
    fn the_largest_are_the_largest(values in proptest::collection::vec((0u32..60, 1u64..10_000), 1..500)) {
        let mut largest = Largest::default();
        let mut truth = BTreeMap::<u32, u64>::new();
        for (key, value) in values {
            largest.touch(touch(format!("{key}").as_bytes(), value));
            let known = truth.entry(key).or_default();
            *known = (*known).max(value);
        }
        let mut told: Vec<u64> = largest.values.iter().map(|(_, _, value)| *value).collect();
        let mut wanted: Vec<u64> = truth.into_values().collect();
        told.sort_unstable();
        wanted.sort_unstable();
        let few = wanted.len().saturating_sub(LARGEST);
        prop_assert_eq!(told, &wanted[few..]);
    }

    #[test]
    fn any_bytes_are_shown_and_none_can_do_harm(key in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut summary = Summary::default();
        summary.touch(hash(&key), touch(&key, 1), 1);
        let text = summary.entries[0].key.text();
        prop_assert!(!text.chars().any(char::is_control), "{text:?}");
        prop_assert_eq!(text.ends_with('…') && !key.ends_with("…".as_bytes()), key.len() > KEY_BYTES);
    }
}

#[test]
fn keys_are_shown_as_they_are_or_escaped() {
    for (key, text) in [
        (&b"user:42"[..], "user:42"),
        ("straße".as_bytes(), "straße"),
        (b"a\xff\x00b\\", "a\\xff\\u{0}b\\\\"),
        ("x\u{202e}y".as_bytes(), "x\\u{202e}y"),
        (b"<b>&\"", "<b>&\""),
    ] {
        assert_eq!(escaped(key), text);
    }
}

#[test]
fn a_key_with_a_share_is_found_with_its_rate_among_a_million() {
    let hot = HotKeys::default();
    for (number, key) in (0..20_000).zip(stream(5, 0.05, 1_000_000)) {
        hot.note(at(number / 4), |noted| noted.touch(touch(&key, 100))); // 4,000 a second
    }
    let seen = Seen::by(std::iter::once(&hot), at(5_000));
    assert_eq!(seen.by_requests[0].key.text(), "hot");
    assert!((170.0..=230.0).contains(&seen.by_requests[0].per_s), "{}", seen.by_requests[0].per_s);
    assert!((seen.requests_per_s - 4000.0).abs() < 40.0, "{}", seen.requests_per_s);
    assert!(seen.by_requests[1..].iter().all(|key| key.per_s < 20.0), "{:?}", seen.by_requests);
}

#[test]
fn hot_means_lately() {
    let hot = HotKeys::default();
    let ask = |key: &[u8], from: u64, to: u64| {
        (from..to).step_by(10).for_each(|ms| hot.note(at(ms), |noted| noted.touch(touch(key, 5))));
    };
    let seen = |ms: u64| Seen::by(std::iter::once(&hot), at(ms));
    let rate = |ms: u64, key: &str| {
        seen(ms).by_requests.iter().find(|known| known.key.text() == key).map_or(0.0, |known| known.per_s.round())
    };
    assert!(seen(0).by_requests.is_empty());
    ask(b"one", 50_000, 58_000);
    assert_eq!(rate(58_000, "one"), 100.0, "a pool that was silent before has its rate at once");
    ask(b"two", 58_000, 65_000);
    assert_eq!((rate(65_000, "one"), rate(65_000, "two")), (53.0, 47.0), "over the 15 s that both periods have");
    ask(b"two", 65_000, 95_000);
    assert_eq!((rate(95_000, "one"), rate(95_000, "two")), (0.0, 100.0), "it is forgotten");
    assert_eq!(rate(99_000, "two"), 79.0, "and a rate falls when nothing comes");
    assert!(seen(120_000).by_requests.is_empty() && seen(120_000).largest.is_empty());
    ask(b"three", 200_000, 201_000);
    assert_eq!((rate(201_000, "two"), rate(201_000, "three")), (0.0, 100.0), "what is long ago does not count");
}

#[test]
fn workers_are_added_up_and_a_reader_is_not_waited_for() {
    let (one, two) = (HotKeys::default(), HotKeys::default());
    for ms in (0..2000).step_by(10) {
        one.note(at(ms), |noted| noted.touch(touch(b"both", 10)));
        two.note(at(ms), |noted| noted.touch(touch(b"both", 20)));
    }
    two.note(at(2000), |noted| noted.touch(touch(b"once", 9_000)));
    let seen = Seen::by([&one, &two].into_iter(), at(2000));
    assert_eq!(seen.by_requests.len(), 1, "one request may be chance: {:?}", seen.by_requests);
    let key = &seen.by_requests[0];
    assert_eq!((key.per_s.round(), key.bytes_per_s.round(), key.samples), (200.0, 3000.0, 400));
    assert_eq!((seen.largest[0].key.text().as_str(), seen.largest[0].bytes), ("once", 9_000));
    let held = one.0.lock();
    one.note(at(2000), |_| panic!("somebody looks"));
    drop(held);
    assert_eq!(Seen::by(std::iter::once(&one), at(2000) + Duration::ZERO).samples, 200);
}
