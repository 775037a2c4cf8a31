//! Polling while a stream is down.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, pending};
use futures::stream::FusedStream as _;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use tokio::time::{self, Instant, sleep};
use wsmux::test_util::memory::{MemoryServer, Peer};
use wsmux::{
    CloseReason, Config, FallbackPolicy, Gap, OnClose, RetryPolicy, Sourced, StreamError,
    WithFallback,
};

use crate::{DAY, MINUTE, MS, SECOND, alive_tasks, config, manager_with, settle};

type Items = WithFallback<u64>;
type Fetch = BoxFuture<'static, Result<Vec<u64>, io::Error>>;

/// What polls bring, one after the other, and when they were made. With nothing left, nothing.
#[derive(Clone, Default)]
struct Rest {
    answers: Arc<Mutex<VecDeque<Fetch>>>,
    polls: Arc<Mutex<Vec<Instant>>>,
}

impl Rest {
    fn answer(&self, items: impl IntoIterator<Item = u64>) {
        let items = Ok(items.into_iter().collect());
        self.answers.lock().unwrap().push_back(std::future::ready(items).boxed());
    }

    fn fail(&self) {
        let error = Err(io::ErrorKind::ConnectionRefused.into());
        self.answers.lock().unwrap().push_back(std::future::ready(error).boxed());
    }

    fn answer_after(&self, delay: Duration, item: u64) {
        let answer = async move {
            sleep(delay).await;
            Ok(vec![item])
        };
        self.answers.lock().unwrap().push_back(answer.boxed());
    }

    fn poll(&self) -> impl FnMut() -> Fetch + Send + 'static {
        let rest = self.clone();
        move || {
            rest.polls.lock().unwrap().push(Instant::now());
            let answer = rest.answers.lock().unwrap().pop_front();
            answer.unwrap_or_else(|| std::future::ready(Ok(vec![])).boxed())
        }
    }

    /// Seconds from `start` to each poll.
    fn seconds(&self, start: Instant) -> Vec<f64> {
        let polls = self.polls.lock().unwrap();
        polls.iter().map(|at| (*at - start).as_millis() as f64 / 1000.0).collect()
    }

    fn count(&self) -> usize {
        self.polls.lock().unwrap().len()
    }
}

/// Retries for ever, and often.
fn persevering() -> Config {
    let often = RetryPolicy { base_delay: 100 * MS, max_delay: 100 * MS, ..RetryPolicy::forever() };
    config().retry(often)
}

fn started(config: Config, policy: FallbackPolicy) -> (Items, Rest, MemoryServer) {
    let (manager, server) = manager_with(config);
    let rest = Rest::default();
    let stream = manager.subscribe("x").unwrap();
    (stream.with_fallback(rest.poll(), |n| *n, policy), rest, server)
}

/// The same, live.
async fn live() -> (Items, Rest, MemoryServer, Peer) {
    let (mut stream, rest, mut server) = started(persevering(), FallbackPolicy::default());
    let peer = server.accept().await;
    assert_eq!(items(&mut stream, MS).await, [""; 0]);
    (stream, rest, server, peer)
}

/// All that comes within `wait`, in words.
async fn items(stream: &mut Items, wait: Duration) -> Vec<String> {
    let (mut items, end) = (Vec::new(), Instant::now() + wait);
    while let Ok(Some(item)) = time::timeout_at(end, stream.recv()).await {
        items.push(match item {
            Ok(Sourced::Live(n)) => format!("live {n}"),
            Ok(Sourced::Polled(n)) => format!("polled {n}"),
            Err(StreamError::Gap(Gap::Reconnected { .. })) => "reconnected".to_owned(),
            Err(StreamError::Closed(reason)) => reason.label().to_owned(),
            Err(other) => other.to_string(),
        });
    }
    items
}

#[tokio::test(start_paused = true)]
async fn polls_begin_after_the_grace_and_their_interval_doubles_up_to_a_minute() {
    let (mut stream, rest, _server) = started(persevering(), FallbackPolicy::default());
    let start = Instant::now();
    assert_eq!(items(&mut stream, 4 * MINUTE).await, [""; 0]);
    let intervals = [3.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0];
    let expected = intervals.iter().scan(0.0, |at, interval| {
        *at += interval;
        Some(*at)
    });
    assert_eq!(rest.seconds(start), expected.collect::<Vec<_>>());
    assert_eq!((stream.polls(), stream.failures(), stream.is_polling()), (9, 0, true));
}

#[tokio::test(start_paused = true)]
async fn intervals_are_those_of_the_policy() {
    let (first_interval, max_interval, grace) = (5 * SECOND, 12 * SECOND, Duration::ZERO);
    let policy = FallbackPolicy { first_interval, max_interval, grace, ..Default::default() };
    let (mut stream, rest, _server) = started(persevering(), policy);
    let start = Instant::now();
    items(&mut stream, MINUTE - MS).await;
    assert_eq!(rest.seconds(start), [0.0, 5.0, 15.0, 27.0, 39.0, 51.0]);

    let (first_interval, max_interval) = (Duration::ZERO, Duration::ZERO);
    let policy = FallbackPolicy { first_interval, max_interval, grace, ..Default::default() };
    let (mut stream, rest, _server) = started(persevering(), policy);
    items(&mut stream, 100 * MS).await;
    assert!((50..=101).contains(&rest.count()), "no hot loop: {}", rest.count());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_polled_while_the_stream_is_live_or_soon_is_again() {
    let (mut stream, rest, mut server, mut peer) = live().await;
    assert_eq!(items(&mut stream, DAY / 2).await, [""; 0]);
    for n in 0..10 {
        drop(peer);
        assert_eq!(items(&mut stream, 2900 * MS).await, [""; 0]);
        peer = server.accept().await;
        peer.send(n.to_string());
        assert_eq!(
            items(&mut stream, 5 * SECOND).await,
            ["reconnected".into(), format!("live {n}")]
        );
    }
    assert_eq!((rest.count(), stream.polls(), stream.is_polling()), (0, 0, false));
}

#[tokio::test(start_paused = true)]
async fn a_poll_under_way_is_dropped_when_the_stream_is_live() {
    struct Dropped(Arc<Mutex<Option<Instant>>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = Some(Instant::now());
        }
    }
    let (mut stream, rest, mut server) = started(persevering(), FallbackPolicy::default());
    let dropped = Arc::new(Mutex::new(None));
    let guard = Dropped(Arc::clone(&dropped));
    let hangs = async move {
        let _guard = guard;
        pending().await
    };
    rest.answers.lock().unwrap().push_back(hangs.boxed());
    items(&mut stream, 5 * SECOND).await;
    assert_eq!((rest.count(), stream.is_polling()), (1, true));
    let _peer = server.accept().await;
    let joined = Instant::now();
    assert_eq!(items(&mut stream, DAY / 2).await, [""; 0]);
    assert_eq!(*dropped.lock().unwrap(), Some(joined), "at once");
    assert_eq!((rest.count(), stream.is_polling(), stream.failures()), (1, false, 0));
}

#[tokio::test(start_paused = true)]
async fn each_outage_begins_anew() {
    let (mut stream, rest, mut server, mut peer) = live().await;
    for _ in 0..3 {
        drop(peer);
        rest.polls.lock().unwrap().clear();
        let start = Instant::now();
        assert_eq!(items(&mut stream, 15 * SECOND).await, [""; 0]);
        assert_eq!(rest.seconds(start), [3.0, 4.0, 6.0, 10.0]);
        peer = server.accept().await;
        assert_eq!(items(&mut stream, MINUTE).await, ["reconnected"]);
    }
}

#[tokio::test(start_paused = true)]
async fn both_sources_are_one_without_repeats() {
    let (mut stream, rest, mut server, peer) = live().await;
    peer.send_all(["1", "2", "2"]);
    assert_eq!(items(&mut stream, MS).await, ["live 1", "live 2"]);
    drop(peer);
    rest.answer([1, 2, 3, 3]);
    rest.answer([2, 3, 4]);
    assert_eq!(items(&mut stream, 5 * SECOND).await, ["polled 3", "polled 4"]);
    let peer = server.accept().await;
    peer.send_all(["4", "5"]);
    assert_eq!(items(&mut stream, SECOND).await, ["reconnected", "live 5"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_poll_has_brought_comes_before_what_is_live_again() {
    let (mut stream, rest, mut server, peer) = live().await;
    drop(peer);
    rest.answer([1, 2, 3]);
    sleep(MS).await;
    assert_eq!(stream.recv().await.unwrap().unwrap(), Sourced::Polled(1));
    let peer = server.accept().await;
    peer.send("9");
    settle().await;
    let rest = items(&mut stream, SECOND).await;
    assert_eq!(rest, ["polled 2", "polled 3", "reconnected", "live 9"]);
}

#[tokio::test(start_paused = true)]
async fn messages_from_before_the_outage_come_before_what_is_polled() {
    let (mut stream, rest, _server, peer) = live().await;
    peer.send_all(["1", "2"]);
    settle().await;
    drop(peer);
    rest.answer([2, 3]);
    sleep(MINUTE).await;
    assert_eq!(rest.count(), 0, "nothing happens but in the reader's task");
    assert_eq!(items(&mut stream, 4 * SECOND).await, ["live 1", "live 2", "polled 3"]);
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_fails_or_hangs_is_counted_and_the_next_one_comes() {
    let (mut stream, rest, _server) = started(persevering(), FallbackPolicy::default());
    let start = Instant::now();
    rest.fail();
    rest.answers.lock().unwrap().push_back(pending().boxed());
    rest.answer([1]);
    assert_eq!(items(&mut stream, 3 * SECOND + MS).await, [""; 0]);
    assert_eq!(stream.last_error().unwrap().to_string(), "connection refused");
    assert_eq!(items(&mut stream, MINUTE - 3 * SECOND).await, ["polled 1"]);
    // 4 s and the timeout of 10 s; what was due at 6 s comes then.
    assert_eq!(rest.seconds(start)[..4], [3.0, 4.0, 14.0, 18.0]);
    assert_eq!(stream.failures(), 2);
    assert!(stream.last_error().is_none());
}

#[tokio::test(start_paused = true)]
async fn there_is_one_poll_at_a_time() {
    let (mut stream, rest, _server) = started(persevering(), FallbackPolicy::default());
    let start = Instant::now();
    rest.answer_after(5 * SECOND, 1);
    rest.answer_after(SECOND, 2);
    assert_eq!(items(&mut stream, 15 * SECOND).await, ["polled 1", "polled 2"]);
    assert_eq!(rest.seconds(start), [3.0, 8.0, 10.0, 14.0]);
}

#[tokio::test(start_paused = true)]
async fn a_recv_that_is_dropped_loses_neither_an_item_nor_the_poll() {
    let (mut stream, rest, _server) = started(persevering(), FallbackPolicy::default());
    rest.answer_after(5 * SECOND, 1);
    let start = Instant::now();
    let item = loop {
        if let Ok(item) = time::timeout(10 * MS, stream.recv()).await {
            break item;
        }
    };
    assert_eq!(item.unwrap().unwrap(), Sourced::Polled(1));
    assert_eq!(rest.seconds(start), [3.0]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_stream_is_the_end_by_default() {
    let retry = RetryPolicy { max_attempts: Some(2), ..RetryPolicy::default() };
    let (mut stream, rest, _server) = started(config().retry(retry), FallbackPolicy::default());
    assert_eq!(items(&mut stream, DAY / 4).await, ["retries_exhausted"]);
    assert!(stream.is_terminated() && stream.recv().await.is_none());
    let polls = rest.count();
    sleep(DAY).await;
    assert_eq!((rest.count(), stream.is_polling()), (polls, false));
}

#[tokio::test(start_paused = true)]
async fn a_fallback_may_outlast_its_stream() {
    let policy = FallbackPolicy { on_close: OnClose::KeepPolling, ..FallbackPolicy::default() };
    let (mut stream, rest, _server) = started(config().retry(RetryPolicy::never()), policy);
    items(&mut stream, MINUTE).await;
    assert!(matches!(stream.closed(), Some(CloseReason::RetriesExhausted { .. })));
    rest.answer([1]);
    assert_eq!(items(&mut stream, 2 * MINUTE).await, ["polled 1"]);
    assert!(!stream.is_terminated());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_also_a_fallback_that_outlasts_its_stream() {
    let policy = FallbackPolicy { on_close: OnClose::KeepPolling, ..FallbackPolicy::default() };
    let (manager, _server) = manager_with(persevering());
    let rest = Rest::default();
    let stream = manager.subscribe("x").unwrap();
    let mut stream = stream.with_fallback(rest.poll(), |n: &u64| *n, policy);
    items(&mut stream, 10 * SECOND).await;
    manager.shutdown().await;
    assert_eq!(items(&mut stream, DAY).await, ["shutdown"]);
    assert!(stream.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_window_bounds_what_is_remembered() {
    let policy = FallbackPolicy { window: 2, ..FallbackPolicy::default() };
    let (mut stream, rest, _server) = started(persevering(), policy);
    rest.answer([1, 2]);
    rest.answer([1, 2, 3]);
    rest.answer([1]);
    let polled = items(&mut stream, 7 * SECOND).await;
    assert_eq!(polled, ["polled 1", "polled 2", "polled 3", "polled 1"], "1 was forgotten");
}

#[tokio::test(start_paused = true)]
async fn one_item_is_as_good_as_a_list() {
    let (manager, _server) = manager_with(persevering());
    let poll = || async { Ok::<_, io::Error>(Some(7)) };
    let stream = manager.subscribe::<u64>("x").unwrap();
    let mut stream = stream.with_fallback(poll, |n| *n, FallbackPolicy::default());
    assert_eq!(stream.recv().await.unwrap().unwrap().into_inner(), 7);
    assert_eq!(items(&mut stream, MINUTE).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_beside_the_reader() {
    let before = alive_tasks();
    let (mut stream, rest, server) = started(persevering(), FallbackPolicy::default());
    rest.answers.lock().unwrap().push_back(pending().boxed());
    items(&mut stream, 5 * SECOND).await;
    assert_eq!(alive_tasks(), before + 1, "the connection's");
    drop((stream, server));
    settle().await;
    assert_eq!(alive_tasks(), before);
}

#[test]
fn a_fallback_is_send_and_unpin_and_can_be_named() {
    fn held<T: Send + Unpin + std::fmt::Debug + 'static>() {}
    held::<WithFallback<u64>>();
    fn unpin<T: Unpin>() {}
    unpin::<WithFallback<std::marker::PhantomPinned>>();
}

/// What one run of a server with outages came to.
#[derive(Debug, Default)]
struct Outcome {
    items: Vec<u64>,
    /// The numbers that were sent between the last poll of an outage and the join after it.
    unpolled: BTreeSet<u64>,
}

/// A server that has a number each second, live or polled (the last hundred), and goes down and up
/// by `spans`, in seconds.
async fn outages(spans: &[(u64, u64)], forgets: bool) -> Outcome {
    let (manager, mut server) = manager_with(persevering());
    let now = Arc::new(Mutex::new((0_u64, 0_u64))); // the number, and the last one polled
    let seen = Arc::clone(&now);
    let poll = move || {
        let mut now = seen.lock().unwrap();
        now.1 = now.0;
        let list: Vec<_> = (now.0.saturating_sub(99).max(1)..=now.0).collect();
        std::future::ready(Ok::<_, io::Error>(list))
    };
    let window = if forgets { 1 } else { 4096 };
    let policy = FallbackPolicy { window, ..FallbackPolicy::default() };
    let stream = manager.subscribe::<u64>("x").unwrap();
    let mut stream = stream.with_fallback(poll, |n| *n, policy);
    let mut outcome = Outcome::default();
    for (up, down) in spans {
        let peer = server.accept().await;
        {
            let now = now.lock().unwrap();
            outcome.unpolled.extend(now.1 + 1..=now.0);
        }
        for second in 0..up + down {
            let n = {
                let mut now = now.lock().unwrap();
                now.0 += 1;
                if second < *up {
                    now.1 = now.0;
                }
                now.0
            };
            if second < *up {
                peer.send(n.to_string());
            } else if second == *up {
                peer.close(1001, "");
            }
            let end = Instant::now() + SECOND;
            while let Ok(item) = time::timeout_at(end, stream.recv()).await {
                outcome.items.extend(item.unwrap().ok().map(Sourced::into_inner));
            }
        }
    }
    let last = now.lock().unwrap();
    outcome.unpolled.extend(last.1 + 1..=last.0);
    outcome
}

fn no_repeats_and_no_loss(forgets: bool) -> Result<(), String> {
    // A mistake is looked for until it shows.
    let cases = if forgets { 50_000 } else { 64 };
    let config = ProptestConfig { cases, failure_persistence: None, ..Default::default() };
    let spans = proptest::collection::vec((1..20_u64, 0..90_u64), 1..6);
    let check = |spans: Vec<_>| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        let Outcome { items, unpolled } = runtime.block_on(outages(&spans, forgets));
        let set: BTreeSet<_> = items.iter().copied().collect();
        prop_assert_eq!(set.len(), items.len(), "a repeat");
        let last: u64 = spans.iter().map(|(up, down)| up + down).sum();
        let lost: Vec<_> =
            (1..=last).filter(|n| !set.contains(n) && !unpolled.contains(n)).collect();
        prop_assert!(lost.is_empty(), "lost {lost:?}");
        Ok::<_, TestCaseError>(())
    };
    TestRunner::new(config).run(&spans, check).map_err(|e| e.to_string())
}

#[test]
fn nothing_is_yielded_twice_and_nothing_that_was_polled_or_sent_is_lost() {
    no_repeats_and_no_loss(false).unwrap();
}

#[test]
fn a_fallback_that_forgets_its_keys_is_found_out() {
    assert!(no_repeats_and_no_loss(true).unwrap_err().contains("a repeat"));
}

/// Both changes of its state fall between two looks at it.
#[tokio::test(start_paused = true)]
async fn an_outage_that_follows_at_once_on_another_begins_anew() {
    let (mut stream, rest, mut server, peer) = live().await;
    drop(peer);
    items(&mut stream, MINUTE).await;
    let peer = server.accept().await;
    settle().await;
    drop(peer);
    settle().await;
    rest.polls.lock().unwrap().clear();
    let start = Instant::now();
    assert_eq!(items(&mut stream, 15 * SECOND).await, ["reconnected"]);
    assert_eq!(rest.seconds(start), [3.0, 4.0, 6.0, 10.0]);
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_panics_is_over_and_the_next_one_comes() {
    let (mut stream, rest, _server) = started(persevering(), FallbackPolicy::default());
    let start = Instant::now();
    rest.answers.lock().unwrap().push_back(async { panic!("a poll") }.boxed());
    rest.answer([1]);
    assert!(AssertUnwindSafe(items(&mut stream, MINUTE)).catch_unwind().await.is_err());
    assert_eq!(items(&mut stream, 2 * SECOND).await, ["polled 1"]);
    assert_eq!(rest.seconds(start), [3.0, 4.0]);
}
