//! Wake-ups and turns: nothing sleeps on a value, nothing spins, nothing keeps others from running.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use futures::future::poll_fn;
use futures::stream::{self, BoxStream, FusedStream};
use futures::task::{ArcWake, waker};
use tokio::sync::mpsc;
use wsmux::{DedupWindow, WsStreamExt as _};

use super::*;
use crate::DAY;

const NAMES: [&str; 7] =
    ["conflate", "conflate_by", "sample", "throttle_first", "debounce", "dedup_by", "batch_by"];

/// Longer than anything but a test that is about it.
const LONG: Duration = Duration::from_secs(1);

fn combine(
    name: &str,
    stream: impl Stream<Item = u32> + Send + 'static,
) -> BoxStream<'static, u32> {
    match name {
        "conflate" => stream.conflate().boxed(),
        "conflate_by" => stream.conflate_by(|n| n % 2).boxed(),
        "sample" => stream.sample(LONG).boxed(),
        "throttle_first" => stream.throttle_first(LONG).boxed(),
        "debounce" => stream.debounce(LONG).boxed(),
        "dedup_by" => stream.dedup_by(|n| *n, DedupWindow::last(9)).boxed(),
        "batch_by" => stream.batch_by(9, LONG).map(|batch| batch[0]).boxed(),
        other => panic!("{other}"),
    }
}

/// A stream from a channel that knows nothing of tokio's budget, and how often it was polled.
fn counted()
-> (Arc<AtomicUsize>, futures::channel::mpsc::UnboundedSender<u32>, impl Stream<Item = u32>) {
    let (sender, mut receiver) = futures::channel::mpsc::unbounded();
    let polls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&polls);
    let stream = stream::poll_fn(move |cx| {
        counter.fetch_add(1, Relaxed);
        receiver.poll_next_unpin(cx)
    });
    (polls, sender, stream)
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl ArcWake for Woken {
    fn wake_by_ref(this: &Arc<Self>) {
        this.0.fetch_add(1, Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_always_ready_lets_others_run() {
    for name in NAMES {
        let mut stream = combine(name, stream::repeat(1));
        let mut ran = false;
        let consumer = async { while stream.next().await.is_some() {} };
        let other = async { tokio::task::yield_now().await };
        tokio::select! {
            biased;
            () = consumer => {}
            () = other => ran = true,
        }
        assert!(ran, "{name}");
    }
}

#[test]
fn a_stream_that_is_always_ready_hangs_no_other_executor() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter(); // For the timers; no budget outside of a task.
    for name in NAMES {
        let mut stream = combine(name, stream::repeat(1));
        let woken = Arc::new(Woken::default());
        let waker = waker(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        for _ in 0..3 {
            let before = woken.0.load(Relaxed);
            if stream.poll_next_unpin(&mut cx).is_pending() {
                assert!(woken.0.load(Relaxed) > before, "{name} sleeps with items to take");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_of_an_always_ready_stream_still_gets_values() {
    let from = |n: u32| stream::iter(n..);
    assert!(from(0).conflate().next().await.is_some());
    assert!(from(0).conflate_by(|n| n % 100).next().await.is_some());
    assert!(from(0).debounce(Duration::ZERO).next().await.is_some());
    assert_eq!(from(0).batch_by(1000, Duration::MAX).next().await.unwrap().len(), 1000);
}

/// tokio's channels are pending once a task's budget is used up, although they have more.
#[tokio::test(start_paused = true)]
async fn a_used_up_budget_is_not_taken_for_an_empty_stream() {
    let backlog = |count: u32| {
        let (sender, receiver) = mpsc::unbounded_channel();
        (0..count).for_each(|n| sender.send(n).unwrap());
        (sender, tokio_stream::wrappers::UnboundedReceiverStream::new(receiver))
    };
    let (_open, stream) = backlog(5000);
    assert_eq!(stream.conflate().next().await, Some(4999));
    let (_open, stream) = backlog(5000);
    assert_eq!(stream.debounce(Duration::ZERO).next().await, Some(4999));
    let (_open, stream) = backlog(5000);
    let mut stream = stream.conflate_by(|n| n % 3);
    let latest = [stream.next().await, stream.next().await, stream.next().await];
    assert_eq!(latest, [Some(4998), Some(4999), Some(4997)]);
    let (_open, stream) = backlog(5000);
    let start = Instant::now();
    assert_eq!(stream.sample(10 * MS).next().await, Some(4999));
    assert_eq!(start.elapsed(), 10 * MS);
    let (_open, stream) = backlog(5000);
    assert_eq!(stream.batch_by(4000, Duration::ZERO).next().await.unwrap().len(), 4000);
}

/// Something else in the task has used up the budget, and the stream is empty.
#[tokio::test(start_paused = true)]
async fn a_value_is_not_slept_on_when_others_used_up_the_budget() {
    let (_, sender, stream) = counted();
    let mut stream = stream.conflate();
    sender.unbounded_send(7).unwrap();
    let mut is_first = true;
    let next = poll_fn(|cx| {
        if std::mem::take(&mut is_first) {
            while let Poll::Ready(unit) = tokio::task::coop::poll_proceed(cx) {
                unit.made_progress();
            }
        }
        stream.poll_next_unpin(cx)
    });
    assert_eq!(tokio::time::timeout(1000 * MS, next).await, Ok(Some(7)));
}

#[tokio::test(start_paused = true)]
async fn while_nothing_comes_nothing_is_polled() {
    for name in NAMES {
        let (polls, sender, stream) = counted();
        let mut stream = combine(name, stream);
        let task = tokio::spawn(async move { while stream.next().await.is_some() {} });
        sleep(MS).await;
        (0..10).for_each(|n| sender.unbounded_send(n).unwrap());
        sleep(DAY).await;
        let polls = polls.load(Relaxed);
        assert!(polls <= 30, "{name} polled {polls} times for 10 items");
        drop(sender);
        sleep(MS).await;
        assert!(task.is_finished(), "{name} was not woken");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_told_to_wait_is_woken_and_only_then() {
    for name in NAMES {
        let (_, sender, stream) = counted();
        let mut stream = combine(name, stream);
        let woken = Arc::new(Woken::default());
        let waker = waker(Arc::clone(&woken));
        let mut poll = || stream.poll_next_unpin(&mut Context::from_waker(&waker));
        let wakes = || woken.0.swap(0, Relaxed);
        assert!(poll().is_pending());
        assert_eq!(wakes(), 0, "{name}: nothing has happened");
        sender.unbounded_send(1).unwrap();
        assert!(wakes() > 0, "{name}: there is something to take");
        let is_timed = ["sample", "debounce", "batch_by"].contains(&name);
        if is_timed {
            assert!(poll().is_pending());
            tokio::time::advance(LONG / 2).await;
            assert_eq!(wakes(), 0, "{name}: it is not time");
            tokio::time::advance(LONG).await;
            assert!(wakes() > 0, "{name}: it is time");
        }
        assert_eq!(poll(), Poll::Ready(Some(1)), "{name}");
        assert!(poll().is_pending());
        assert_eq!(wakes(), 0, "{name}: nothing has happened");
        drop(sender);
        assert!(wakes() > 0, "{name}: it has ended");
        for _ in 0..3 {
            assert_eq!(poll(), Poll::Ready(None), "{name}");
        }
    }
}

/// The script panics if it is polled after its end.
#[tokio::test(start_paused = true)]
async fn the_end_is_the_end_for_whoever_asks_again() {
    for name in NAMES {
        let mut stream = combine(name, numbers(&[(0, 1)], 5));
        assert_eq!(stream.next().await, Some(1), "{name}");
        for _ in 0..3 {
            assert_eq!(stream.next().await, None, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_terminated_when_nothing_is_left_to_yield() {
    async fn check<St: FusedStream + Unpin>(mut stream: St, items: usize) {
        for _ in 0..items {
            assert!(!stream.is_terminated());
            assert!(stream.next().await.is_some());
        }
        assert!(stream.next().await.is_none());
        assert!(stream.is_terminated());
    }
    let source = || numbers(&[(0, 1), (0, 2)], 0);
    check(source().conflate(), 1).await;
    check(source().conflate_by(|n| *n), 2).await;
    check(source().sample(LONG), 1).await;
    check(source().throttle_first(LONG), 1).await;
    check(source().debounce(LONG), 1).await;
    check(source().dedup_by(|n| *n, DedupWindow::last(9)), 2).await;
    check(source().batch_by(9, LONG), 1).await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_of_next_loses_nothing() {
    for name in NAMES {
        let items: Vec<_> = (0..50).map(|n| (1500 * n, n)).collect();
        let mut stream = combine(name, numbers(&items, 100_000));
        let mut patient = Vec::new();
        while let Some(item) = stream.next().await {
            patient.push(item);
        }
        let mut stream = combine(name, numbers(&items, 100_000));
        let mut impatient = Vec::new();
        loop {
            match tokio::time::timeout(7 * MS, stream.next()).await {
                Ok(Some(item)) => impatient.push(item),
                Ok(None) => break,
                Err(_) => {}
            }
        }
        assert_eq!(impatient, patient, "{name}");
    }
}

#[test]
fn without_a_timer_no_runtime_is_needed() {
    fn values<T>(stream: impl Stream<Item = T>) -> Vec<T> {
        futures::executor::block_on(stream.collect())
    }
    let numbers = || stream::iter([1, 1, 2, 3, 3]);
    let minute = DedupWindow::within(60 * LONG);
    assert_eq!(values(numbers().conflate()), [3]);
    assert_eq!(values(numbers().conflate_by(|n| n % 2)), [3, 2]);
    assert_eq!(values(numbers().throttle_first(Duration::MAX)), [1]);
    assert_eq!(values(numbers().dedup_by(|n| *n, minute)), [1, 2, 3]);
    assert_eq!(values(numbers().sample(LONG)), [3]);
    assert_eq!(values(numbers().debounce(LONG)), [3]);
    assert_eq!(values(numbers().batch_by(2, LONG)), [vec![1, 1], vec![2, 3], vec![3]]);
}
