//! The combinators against their models, and the checks against wrong ones.

use std::fmt::Debug;

use futures::TryStreamExt as _;
use futures::stream::{self, BoxStream};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{TestCaseResult, TestRunner};
use wsmux::{DedupWindow, WsStreamExt as _, WsTryStreamExt as _};

use super::models::{Events, Played};
use super::*;

/// Events are 5 ms off the periods' multiples: no two things happen at one time by chance.
fn events() -> impl Strategy<Value = Events> {
    let item = prop_oneof![8 => (0..4_u8).prop_map(Ok), 1 => Just(Err(()))];
    let step = (prop_oneof![3 => Just(0), 4 => 1..4_u64, 1 => 4..40_u64], item);
    (prop::collection::vec(step, 0..60), 0..10_u64).prop_map(|(steps, last)| {
        let mut at = 5;
        let items = (0..).zip(steps).map(|(number, (step, item))| {
            at += 10 * step;
            (at, item.map(|key| (key, number)).map_err(|()| number))
        });
        let items = items.collect();
        Events { items, ends_at: at + 10 * last }
    })
}

/// Zero, some, and for ever.
fn period() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 8 => (1..20_u64).prop_map(|n| 10 * n), 1 => Just(1 << 40)]
}

fn duration(period: u64) -> Duration {
    if period == 1 << 40 { Duration::MAX } else { Duration::from_millis(period) }
}

fn script(events: &Events) -> Script<Item> {
    let items = events.items.iter().map(|(at, item)| (Duration::from_millis(*at), *item));
    Script::new(items, Duration::from_millis(events.ends_at))
}

fn paused<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(future)
}

/// What `stream` yields, and when, is what the model says.
fn check<T: Debug + PartialEq>(
    stream: impl Stream<Item = Result<T, u32>>,
    expected: &Played<T>,
) -> TestCaseResult {
    let played = paused(play(stream, idle));
    prop_assert_eq!(&played, expected);
    Ok(())
}

/// The plain form yields what the other one does.
fn check_plain<T: Debug + PartialEq>(
    stream: impl Stream<Item = T>,
    expected: &Played<T>,
) -> TestCaseResult {
    check(stream.map(Ok), expected)
}

fn key(value: &Value) -> u8 {
    value.0
}

/// The script without its notices.
fn values(events: &Events) -> (Events, impl Stream<Item = Value> + use<>) {
    let mut plain = events.clone();
    plain.items.retain(|(_, item)| item.is_ok());
    let stream = script(&plain).map(|item| item.expect("a value"));
    (plain, stream)
}

proptest! {
    #[test]
    fn conflate_does_as_its_model(events in events()) {
        check(script(&events).try_conflate(), &events.conflate())?;
        let (plain, stream) = values(&events);
        check_plain(stream.conflate(), &plain.conflate())?;
    }

    #[test]
    fn conflate_by_does_as_its_model(events in events(), max in 4..9_usize) {
        check(script(&events).try_conflate_by(key).max_keys(max + 1), &events.conflate_by())?;
        let (plain, stream) = values(&events);
        check_plain(stream.conflate_by(key), &plain.conflate_by())?;
    }

    #[test]
    fn sample_does_as_its_model(events in events(), period in period()) {
        check(script(&events).try_sample(duration(period)), &events.sample(period))?;
        let (plain, stream) = values(&events);
        check_plain(stream.sample(duration(period)), &plain.sample(period))?;
    }

    #[test]
    fn throttle_first_does_as_its_model(events in events(), period in period()) {
        let stream = script(&events).try_throttle_first(duration(period));
        check(stream, &events.throttle_first(period))?;
        let (plain, stream) = values(&events);
        check_plain(stream.throttle_first(duration(period)), &plain.throttle_first(period))?;
    }

    #[test]
    fn debounce_does_as_its_model(events in events(), period in period()) {
        check(script(&events).try_debounce(duration(period)), &events.debounce(period))?;
        let (plain, stream) = values(&events);
        check_plain(stream.debounce(duration(period)), &plain.debounce(period))?;
    }

    #[test]
    fn dedup_by_does_as_its_model(events in events(), keys in 0..5_usize, period in period()) {
        let window = DedupWindow::last(keys).period(duration(period));
        check(script(&events).try_dedup_by(key, window), &events.dedup_by(keys, period))?;
        let (plain, stream) = values(&events);
        check_plain(stream.dedup_by(key, window), &plain.dedup_by(keys, period))?;
    }

    #[test]
    fn batch_by_does_as_its_model(events in events(), size in 0..6_usize, period in period()) {
        let stream = script(&events).try_batch_by(size, duration(period));
        check(stream, &events.batch_by(size, period))?;
        let (plain, stream) = values(&events);
        check_plain(stream.batch_by(size, duration(period)), &plain.batch_by(size, period))?;
    }

    /// Values count up: what is yielded between two notices came between them, and in order.
    #[test]
    fn a_busy_consumer_loses_no_notice_and_no_order(
        events in events(),
        busy in prop::collection::vec(0..80_u64, 1..8),
    ) {
        let busy = |turn: usize| Duration::from_millis(busy[turn % busy.len()]);
        let keeps = |last, stream: BoxStream<'static, Item>| {
            keeps_order(&events, &paused(play(stream, busy)), last)
        };
        keeps(Last::Comes, script(&events).try_conflate().boxed())?;
        keeps(Last::Comes, script(&events).try_sample(30 * MS).boxed())?;
        keeps(Last::Comes, script(&events).try_debounce(20 * MS).boxed())?;
        keeps(Last::MayBeDropped, script(&events).try_throttle_first(30 * MS).boxed())?;
        let window = DedupWindow::last(2);
        keeps(Last::MayBeDropped, script(&events).try_dedup_by(key, window).boxed())?;
        let batches = script(&events).try_batch_by(3, 30 * MS);
        let each = batches.map_ok(|batch| stream::iter(batch).map(Ok)).try_flatten();
        keeps(Last::Comes, each.boxed())?;
    }

    /// Poll for poll: what is yielded is the newest there is when the consumer asks.
    #[test]
    fn a_busy_consumer_gets_the_newest_of_each_key(
        events in events(),
        busy in prop::collection::vec(0..80_u64, 1..8),
        max in 1..6_usize,
    ) {
        let busy = |turn: usize| busy[turn % busy.len()];
        let stream = script(&events).try_conflate_by(key).max_keys(max);
        let played = paused(play(stream, |turn| Duration::from_millis(busy(turn))));
        prop_assert_eq!(played, events.conflate_by_while_busy(max, busy));
    }
}

/// Whether the last value before a notice or the end has to be yielded.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Last {
    Comes,
    MayBeDropped,
}

fn keeps_order(events: &Events, played: &Played<Value>, last: Last) -> TestCaseResult {
    let all: Vec<Item> = events.items.iter().map(|(_, item)| *item).collect();
    let yielded: Vec<Item> = played.iter().filter_map(|(_, item)| *item).collect();
    let parts = |items: &[Item]| -> Vec<Vec<Item>> {
        items.split_inclusive(Item::is_err).map(<[_]>::to_vec).collect()
    };
    let notices = |items: &[Item]| items.iter().filter_map(|item| item.err()).collect::<Vec<_>>();
    prop_assert_eq!(notices(&all), notices(&yielded));
    // Numbers count up over the whole script, so order says which part a value is from.
    let number = |item: &Item| item.map_or_else(|notice| notice, |value| value.1);
    prop_assert!(yielded.iter().is_sorted_by_key(number), "out of order: {yielded:?}");
    prop_assert!(yielded.iter().all(|item| all.contains(item)), "made up: {yielded:?}");
    if last == Last::Comes {
        for part in parts(&all) {
            let value = part.iter().rev().find(|item| item.is_ok());
            prop_assert!(value.is_none_or(|value| yielded.contains(value)), "{value:?} is lost");
        }
    }
    Ok(())
}

// The checks themselves: each has to reject something that is nearly right.

/// Whether some script out of many tells the twin from the real one.
fn is_rejected(twin: impl Fn(&Events) -> TestCaseResult) -> bool {
    let mut runner = TestRunner::deterministic();
    (0..300).any(|_| twin(&events().new_tree(&mut runner).unwrap().current()).is_err())
}

#[test]
fn the_models_reject_combinators_that_are_nearly_right() {
    let plain = |events: &Events| values(events);
    // The plain form over results, where a value replaces a notice.
    assert!(is_rejected(|e| check(script(e).conflate(), &e.conflate())));
    assert!(is_rejected(|e| check(script(e).sample(30 * MS), &e.sample(30))));
    assert!(is_rejected(|e| check(script(e).debounce(30 * MS), &e.debounce(30))));
    // Holding back instead of dropping.
    assert!(is_rejected(|e| {
        let (e, stream) = plain(e);
        let throttle = async move { tokio_stream::StreamExt::throttle(stream, 30 * MS) };
        let stream = stream::once(throttle).flatten();
        check_plain(stream, &e.throttle_first(30))
    }));
    // The others' ideas of when.
    assert!(is_rejected(|e| check(script(e).try_sample(30 * MS), &e.debounce(30))));
    assert!(is_rejected(|e| check(script(e).try_debounce(30 * MS), &e.sample(30))));
    assert!(is_rejected(|e| check(script(e).try_sample(40 * MS), &e.sample(30))));
    // One key for all.
    assert!(is_rejected(|e| check(script(e).try_conflate_by(|_| 0), &e.conflate_by())));
    // Forgets too early, or too late.
    for keys in [1, 3] {
        assert!(is_rejected(|e| {
            let stream = script(e).try_dedup_by(key, DedupWindow::last(keys).period(200 * MS));
            check(stream, &e.dedup_by(2, 200))
        }));
    }
    assert!(is_rejected(|e| {
        check(script(e).try_dedup_by(key, DedupWindow::last(3)), &e.dedup_by(3, 200))
    }));
    // Does not wait for more, or waits from the last value on.
    assert!(is_rejected(|e| {
        let (e, stream) = plain(e);
        check_plain(stream.ready_chunks(3), &e.batch_by(3, 30))
    }));
    assert!(is_rejected(|e| check(script(e).try_batch_by(3, 40 * MS), &e.batch_by(3, 30))));
}

#[test]
fn the_check_of_order_rejects_what_is_lost_moved_or_made_up() {
    let events =
        Events { items: vec![(5, Ok((0, 0))), (15, Err(1)), (25, Ok((0, 2)))], ends_at: 25 };
    let check = |items: &[Item]| {
        let played = items.iter().map(|item| (0, Some(*item))).collect();
        keeps_order(&events, &played, Last::Comes).is_ok()
    };
    assert!(check(&[Ok((0, 0)), Err(1), Ok((0, 2))]));
    assert!(!check(&[Ok((0, 0)), Ok((0, 2))]));
    assert!(!check(&[Err(1), Ok((0, 0)), Ok((0, 2))]));
    assert!(!check(&[Ok((0, 0)), Ok((0, 2)), Err(1)]));
    assert!(!check(&[Err(1), Ok((0, 2))]));
    assert!(!check(&[Ok((0, 0)), Err(1), Err(1), Ok((0, 2))]));
    assert!(!check(&[Ok((0, 0)), Err(1), Ok((0, 2)), Ok((0, 3))]));
}
