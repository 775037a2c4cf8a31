//! What each combinator does, one sentence at a time.

use wsmux::{DedupWindow, WsStreamExt as _, WsTryStreamExt as _};

use super::*;

/// After each item, the consumer is busy for so many milliseconds.
fn busy(ms: u32) -> impl Fn(usize) -> Duration {
    move |_| ms * MS
}

#[tokio::test(start_paused = true)]
async fn conflate_yields_the_newest_to_a_consumer_that_was_busy() {
    let source = numbers(&[(0, 1), (10, 2), (20, 3), (100, 4), (110, 5)], 200);
    let played = play(source.conflate(), busy(50)).await;
    assert_eq!(played, [(0, Some(1)), (50, Some(3)), (100, Some(4)), (150, Some(5)), (200, None)]);
}

#[tokio::test(start_paused = true)]
async fn conflate_by_keeps_a_key_that_is_updated_in_its_place() {
    let items = [(0, 10), (1, 20), (2, 11), (3, 30), (4, 21), (5, 12)];
    let played = play(numbers(&items, 6).conflate_by(|n| n / 10), busy(100)).await;
    assert_eq!(
        played,
        [(0, Some(10)), (100, Some(21)), (200, Some(12)), (300, Some(30)), (400, None)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_busy_key_does_not_hold_up_a_quiet_one() {
    let mut items: Vec<_> = (0..1000).map(|at| (at, 0)).collect();
    items.insert(10, (10, 1));
    let played = play(numbers(&items, 1000).conflate_by(|n| *n), busy(20)).await;
    let quiet = played.iter().position(|(_, item)| *item == Some(1)).unwrap();
    assert!(quiet <= 2, "it was item {quiet}");
}

#[tokio::test(start_paused = true)]
async fn with_the_most_keys_waiting_the_rest_stays_in_the_stream() {
    let items: Vec<_> = (0..10).map(|n| (0, n)).collect();
    let mut stream = numbers(&items, 0).conflate_by(|n| *n).max_keys(3);
    assert_eq!(stream.next().await, Some(0));
    assert_eq!(stream.get_ref().items.len(), 7);
    assert_eq!(stream.next().await, Some(1));
    assert_eq!(stream.get_ref().items.len(), 6);
    let rest: Vec<_> = stream.collect().await;
    assert_eq!(rest, [2, 3, 4, 5, 6, 7, 8, 9]);
    let none = numbers(&items, 0).conflate_by(|n| *n).max_keys(0);
    assert_eq!(none.collect::<Vec<_>>().await, (0..10).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn sample_yields_the_latest_at_each_tick_and_nothing_twice() {
    let items = [(10, 1), (20, 2), (120, 3), (300, 4), (450, 5)];
    let played = play(numbers(&items, 460).sample(100 * MS), idle).await;
    // What comes on a tick is in time for it; the last does not wait.
    let expected = [(100, 2), (200, 3), (300, 4), (460, 5)].map(|(at, n)| (at, Some(n)));
    assert_eq!(played[..4], expected);
    assert_eq!(played[4], (460, None));
}

#[tokio::test(start_paused = true)]
async fn sample_leaves_out_ticks_that_a_busy_consumer_missed() {
    let items: Vec<_> = (0..100).map(|n| (10 * n + 5, n)).collect();
    let played = play(numbers(&items, 996).sample(100 * MS), busy(250)).await;
    let at: Vec<_> = played.iter().map(|(at, _)| *at).collect();
    // Busy until 350: the value that is there then is for the tick at 400.
    assert_eq!(at, [100, 400, 700, 996, 1246]);
}

#[tokio::test(start_paused = true)]
async fn throttle_first_drops_and_never_holds_back() {
    let items = [(0, 1), (10, 2), (99, 3), (100, 4), (150, 5), (500, 6)];
    let played = play(numbers(&items, 501).throttle_first(100 * MS), idle).await;
    assert_eq!(played, [(0, Some(1)), (100, Some(4)), (500, Some(6)), (501, None)]);
}

#[tokio::test(start_paused = true)]
async fn debounce_waits_for_silence_and_flushes_at_the_end() {
    let items = [(0, 1), (50, 2), (100, 3), (400, 4), (900, 5)];
    let played = play(numbers(&items, 950).debounce(100 * MS), idle).await;
    assert_eq!(played, [(200, Some(3)), (500, Some(4)), (950, Some(5)), (950, None)]);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_comes_while_debounce_is_not_polled_replaces_the_one_that_waits() {
    let mut stream = numbers(&[(0, 1), (200, 2)], 1000).debounce(100 * MS);
    assert!(futures::poll!(stream.next()).is_pending());
    sleep(300 * MS).await;
    let start = Instant::now();
    assert_eq!(stream.next().await, Some(2));
    assert_eq!(start.elapsed(), 100 * MS, "silence counts from when the value was seen");
}

#[tokio::test(start_paused = true)]
async fn dedup_by_remembers_so_many_keys_for_so_long() {
    let items = [(0, 1), (1, 2), (2, 1), (3, 3), (4, 1), (5, 2), (200, 2)];
    let window = DedupWindow::last(2);
    let values = |window| numbers(&items, 300).dedup_by(|n| *n, window).collect::<Vec<_>>();
    assert_eq!(values(window).await, [1, 2, 3, 1, 2]);
    assert_eq!(values(window.keys(3)).await, [1, 2, 3]);
    assert_eq!(values(window.keys(3).period(100 * MS)).await, [1, 2, 3, 2]);
    assert_eq!(values(DedupWindow::within(100 * MS)).await, [1, 2, 3, 2]);
    assert_eq!(values(DedupWindow::within(Duration::MAX)).await, [1, 2, 3]);
    assert_eq!(values(DedupWindow::within(Duration::ZERO)).await.len(), items.len());
    assert_eq!(values(DedupWindow::last(0)).await.len(), items.len());
}

#[tokio::test(start_paused = true)]
async fn a_repeat_does_not_renew_a_key() {
    let items: Vec<_> = (0..10).map(|n| (30 * n, 7)).collect();
    let played = play(numbers(&items, 300).dedup_by(|n| *n, DedupWindow::within(100 * MS)), idle);
    let at: Vec<_> = played.await.iter().map(|(at, _)| *at).collect();
    assert_eq!(at, [0, 120, 240, 300]);
}

#[tokio::test(start_paused = true)]
async fn batch_by_yields_at_a_size_or_an_age_whatever_is_first() {
    let items = [(0, 1), (10, 2), (20, 3), (30, 4), (200, 5), (250, 6)];
    let played = play(numbers(&items, 260).batch_by(3, 100 * MS), idle).await;
    let expected =
        [(20, Some(vec![1, 2, 3])), (130, Some(vec![4])), (260, Some(vec![5, 6])), (260, None)];
    assert_eq!(played, expected);
}

#[tokio::test(start_paused = true)]
async fn a_late_consumer_gets_a_batch_with_all_that_came() {
    let items: Vec<_> = (0..10).map(|n| (100 * n, n)).collect();
    let played = play(numbers(&items, 1000).batch_by(5, 150 * MS), busy(420)).await;
    let sizes: Vec<_> =
        played.iter().map(|(at, batch)| (*at, batch.iter().flatten().count())).collect();
    assert_eq!(sizes, [(150, 2), (600, 5), (1020, 3), (1440, 0)]);
}

#[tokio::test(start_paused = true)]
async fn the_next_batch_has_a_time_of_its_own() {
    let items = [(0, 1), (10, 2), (15, 3)];
    let played = play(numbers(&items, 500).batch_by(2, 100 * MS), idle).await;
    assert_eq!(played, [(10, Some(vec![1, 2])), (115, Some(vec![3])), (500, None)]);
}

#[tokio::test(start_paused = true)]
async fn a_size_of_zero_is_one_and_the_largest_allocates_nothing() {
    let items = [(0, 1), (0, 2)];
    let batches: Vec<_> = numbers(&items, 9).batch_by(0, MS).collect().await;
    assert_eq!(batches, [[1], [2]]);
    let batches: Vec<_> = numbers(&items, 9).batch_by(usize::MAX, 5 * MS).collect().await;
    assert_eq!(batches, [[1, 2]]);
}

#[tokio::test(start_paused = true)]
async fn a_period_of_zero_means_what_is_there() {
    let items = [(0, 1), (0, 2), (5, 3), (9, 4), (9, 5)];
    let source = || numbers(&items, 9);
    let latest = [(0, Some(2)), (5, Some(3)), (9, Some(5)), (9, None)];
    assert_eq!(play(source().sample(Duration::ZERO), idle).await, latest);
    assert_eq!(play(source().debounce(Duration::ZERO), idle).await, latest);
    assert_eq!(source().throttle_first(Duration::ZERO).collect::<Vec<_>>().await, [1, 2, 3, 4, 5]);
    let batches: Vec<_> = source().batch_by(9, Duration::ZERO).collect().await;
    assert_eq!(batches, [vec![1, 2], vec![3], vec![4, 5]]);
}

#[tokio::test(start_paused = true)]
async fn a_period_of_for_ever_ends_with_the_stream_and_overflows_nothing() {
    for period in [Duration::MAX, Duration::from_secs(u64::MAX / 4), Duration::from_secs(1 << 35)] {
        let source = || numbers(&[(0, 1), (5, 2)], 10);
        assert_eq!(play(source().sample(period), idle).await[0], (10, Some(2)));
        assert_eq!(play(source().debounce(period), idle).await[0], (10, Some(2)));
        assert_eq!(play(source().batch_by(9, period), idle).await[0], (10, Some(vec![1, 2])));
        assert_eq!(source().throttle_first(period).collect::<Vec<_>>().await, [1]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_notice_follows_what_was_held_and_waits_for_nothing() {
    let items = [(10, Ok(1)), (20, Ok(2)), (30, Err("gap")), (30, Err("again")), (40, Ok(3))];
    let source = || results(&items, 50);
    let held = [(30, Some(Ok(2))), (30, Some(Err("gap"))), (30, Some(Err("again")))];
    let long = 1000 * MS;
    assert_eq!(play(source().try_sample(long), idle).await[..3], held);
    assert_eq!(play(source().try_debounce(long), idle).await[..3], held);
    let batches = play(source().try_batch_by(9, long), idle).await;
    assert_eq!(batches[0], (30, Some(Ok(vec![1, 2]))));
    assert_eq!(batches[1], (30, Some(Err("gap"))));
    assert_eq!(batches[3], (50, Some(Ok(vec![3]))));
    let first = play(source().try_throttle_first(long), idle).await;
    assert_eq!(first[1], (30, Some(Err("gap"))));
    assert_eq!(first.len(), 4, "a notice opens nothing for the values after it");
    let played = play(source().try_conflate(), |_| 100 * MS).await;
    let items: Vec<_> = played.into_iter().filter_map(|(_, item)| item).collect();
    assert_eq!(items, [Ok(1), Ok(2), Err("gap"), Err("again"), Ok(3)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_the_stream_can_be_had_back() {
    let mut stream = numbers(&[(0, 1), (1, 2)], 2).conflate();
    assert_eq!(stream.next().await, Some(1));
    assert_eq!(format!("{stream:?}"), "Conflate { stream: Script, .. }");
    assert_eq!(stream.get_mut().items.len(), 1);
    assert_eq!(pin!(stream).as_mut().get_pin_mut().next().await, Some(2));
    let left = numbers(&[(0, 1)], 2).batch_by(2, MS).into_inner();
    assert_eq!(left.collect::<Vec<_>>().await, [1]);
}
