//! CPU time per item of each combinator, against the loop that does the same and that one would
//! write by hand, over the same source.
//!
//! The source has its items in memory and costs next to nothing, so the figures are those of the
//! combinators alone; with a socket below, all ratios would be nearer to one. While nobody is busy
//! it has `BURST` items at a time, and is pending between them; what conflates has a consumer that
//! is ten times too slow.
//!
//! ```text
//! cargo bench --bench combinators
//! cargo bench --bench combinators -- ours conflate_by    # one side, for a profiler
//! ```

mod common;

use std::collections::{HashMap, HashSet, VecDeque};
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::Stream;
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use wsmux::{DedupWindow, WsStreamExt as _};

use self::common::clock::{Clock, Cost};
use self::common::cpus::pinned;
use self::common::rounds::compare;
use self::common::{run, runtime};

const COUNT: u64 = 2_000_000;

/// As many as a connection publishes at once.
const BURST: u64 = 128;

/// Items that come while one is consumed, where the consumer is slow.
const SLOW: u64 = 10;

/// Symbols.
const KEYS: u64 = 100;

const PERIOD: Duration = Duration::from_millis(1);

const WINDOW: usize = 10_000;

const BATCH: usize = 500;

/// As large as a small message of a feed.
#[derive(Clone, Copy, Debug)]
struct Tick {
    id: u64,
    symbol: u64,
    time: u64,
    _price: f64,
    _size: f64,
}

/// `COUNT` ticks. Each second one repeats the `id` of the one before it.
struct Ticks {
    arrived: Arc<AtomicU64>,
    is_idle: bool,
    sent: u64,
    symbol: u64,
}

impl Stream for Ticks {
    type Item = Tick;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Tick>> {
        if self.sent == COUNT {
            return Poll::Ready(None);
        }
        if self.sent >= self.arrived.load(Relaxed) {
            self.is_idle = !self.is_idle;
            if self.is_idle {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.arrived.fetch_add(BURST, Relaxed);
        }
        self.is_idle = false;
        self.sent += 1;
        // In no order that a branch predictor could learn.
        self.symbol = self.symbol.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let symbol = (self.symbol >> 33) % KEYS;
        let id = self.sent / 2;
        let tick = Tick { id, symbol, time: self.sent, _price: 1.0, _size: 2.0 };
        // An item of a real source is there, also if nobody looks at it.
        Poll::Ready(Some(black_box(tick)))
    }
}

/// What is done with what comes out: the count and a sum, to compare both sides. Each item takes as
/// long as `slowness` others take to come.
#[derive(Debug, Default)]
struct Sink {
    arrived: Arc<AtomicU64>,
    items: u64,
    slowness: u64,
    sum: u64,
}

impl Sink {
    fn take(&mut self, tick: Tick) {
        let tick = black_box(tick);
        self.items += 1;
        self.sum = self.sum.wrapping_add(tick.time);
        if self.slowness > 0 {
            self.arrived.fetch_add(self.slowness, Relaxed);
        }
    }
}

fn main() {
    pinned(|| {
        let newest = ours(SLOW, |source| source.conflate());
        side_by_side("conflate", Exact::No, newest, bare_conflate);
        let by_symbol = ours(SLOW, |source| source.conflate_by(|tick| tick.symbol));
        side_by_side("conflate_by", Exact::No, by_symbol, bare_conflate_by);
        let at_ticks = ours(0, |source| source.sample(PERIOD));
        side_by_side("sample", Exact::No, at_ticks, bare_sample);
        let first = ours(0, |source| source.throttle_first(PERIOD));
        side_by_side("throttle_first", Exact::No, first, bare_throttle_first);
        let settled = ours(0, |source| source.debounce(PERIOD));
        side_by_side("debounce", Exact::No, settled, bare_debounce);
        let new = ours(0, |source| source.dedup_by(|tick| tick.id, DedupWindow::last(WINDOW)));
        side_by_side("dedup_by", Exact::Yes, new, bare_dedup_by);
        side_by_side("batch_by", Exact::Yes, batch_by, bare_batch_by);
    });
}

/// Whether both sides yield exactly the same, or what depends on when they are polled.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Exact {
    No,
    Yes,
}

fn side_by_side<O, B>(name: &str, exact: Exact, ours: impl Fn() -> O, bare: impl Fn() -> B)
where
    O: Future<Output = Sink> + Send + 'static,
    B: Future<Output = Sink> + Send + 'static,
{
    {
        let (ours, bare) = (run(&runtime(None), ours()), run(&runtime(None), bare()));
        println!("# {name}: of {COUNT} items, ours yields {}, bare {}", ours.items, bare.items);
        let is_same = (ours.items, ours.sum) == (bare.items, bare.sum);
        assert!(exact == Exact::No || is_same, "{name}: {ours:?} is not {bare:?}");
    }
    compare(name, COUNT, || measure(ours()), || measure(bare()));
}

fn measure(task: impl Future<Output = Sink> + Send + 'static) -> Cost {
    let runtime = runtime(None);
    run(&runtime, async {
        let clock = Clock::start();
        let sink = task.await;
        assert!(sink.items > 0);
        clock.stop()
    })
}

/// A source and its consumer.
fn ticks(slowness: u64) -> (Ticks, Sink) {
    let sink = Sink { slowness, ..Sink::default() };
    (Ticks { arrived: Arc::clone(&sink.arrived), is_idle: true, sent: 0, symbol: 1 }, sink)
}

// Ours.

fn ours<St: Stream<Item = Tick> + Send + Unpin + 'static>(
    slowness: u64,
    combine: impl Fn(Ticks) -> St,
) -> impl Fn() -> BoxFuture<'static, Sink> {
    move || {
        let (source, sink) = ticks(slowness);
        each(combine(source), sink).boxed()
    }
}

async fn each(mut stream: impl Stream<Item = Tick> + Unpin, mut sink: Sink) -> Sink {
    while let Some(tick) = stream.next().await {
        sink.take(tick);
    }
    sink
}

async fn batch_by() -> Sink {
    let (source, mut sink) = ticks(0);
    let mut batches = source.batch_by(BATCH, PERIOD * 1000);
    while let Some(batch) = batches.next().await {
        batch.into_iter().for_each(|tick| sink.take(tick));
    }
    sink
}

// By hand.

async fn bare_conflate() -> Sink {
    let (mut source, mut sink) = ticks(SLOW);
    while let Some(mut latest) = source.next().await {
        while let Some(Some(newer)) = source.next().now_or_never() {
            latest = newer;
        }
        sink.take(latest);
    }
    sink
}

async fn bare_conflate_by() -> Sink {
    let (mut source, mut sink) = ticks(SLOW);
    let mut latest = HashMap::new();
    while let Some(tick) = source.next().await {
        latest.insert(tick.symbol, tick);
        while let Some(Some(tick)) = source.next().now_or_never() {
            latest.insert(tick.symbol, tick);
        }
        latest.drain().for_each(|(_, tick)| sink.take(tick));
    }
    sink
}

async fn bare_sample() -> Sink {
    let (mut source, mut sink) = ticks(0);
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut latest = None;
    loop {
        tokio::select! {
            tick = source.next() => match tick {
                Some(tick) => latest = Some(tick),
                None => break,
            },
            _ = ticks.tick() => {
                if let Some(tick) = latest.take() {
                    sink.take(tick);
                }
            }
        }
    }
    if let Some(tick) = latest {
        sink.take(tick);
    }
    sink
}

async fn bare_throttle_first() -> Sink {
    let (mut source, mut sink) = ticks(0);
    let mut passed: Option<Instant> = None;
    while let Some(tick) = source.next().await {
        let now = Instant::now();
        if passed.is_none_or(|passed| now - passed >= PERIOD) {
            passed = Some(now);
            sink.take(tick);
        }
    }
    sink
}

async fn bare_debounce() -> Sink {
    let (mut source, mut sink) = ticks(0);
    let mut timer = pin!(sleep(PERIOD));
    let mut latest = None;
    loop {
        tokio::select! {
            tick = source.next() => match tick {
                Some(tick) => {
                    latest = Some(tick);
                    timer.as_mut().reset(Instant::now() + PERIOD);
                }
                None => break,
            },
            () = &mut timer, if latest.is_some() => {
                if let Some(tick) = latest.take() {
                    sink.take(tick);
                }
            }
        }
    }
    if let Some(tick) = latest {
        sink.take(tick);
    }
    sink
}

async fn bare_dedup_by() -> Sink {
    let (mut source, mut sink) = ticks(0);
    let (mut seen, mut order) = (HashSet::new(), VecDeque::new());
    while let Some(tick) = source.next().await {
        if seen.insert(tick.id) {
            order.push_back(tick.id);
            if order.len() > WINDOW {
                let oldest = order.pop_front().unwrap();
                seen.remove(&oldest);
            }
            sink.take(tick);
        }
    }
    sink
}

async fn bare_batch_by() -> Sink {
    let (mut source, mut sink) = ticks(0);
    let mut timer = pin!(sleep(PERIOD));
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let is_ended = tokio::select! {
            tick = source.next() => match tick {
                Some(tick) => {
                    if batch.is_empty() {
                        timer.as_mut().reset(Instant::now() + PERIOD * 1000);
                    }
                    batch.push(tick);
                    if batch.len() < BATCH {
                        continue;
                    }
                    false
                }
                None => true,
            },
            () = &mut timer, if !batch.is_empty() => false,
        };
        let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
        full.into_iter().for_each(|tick| sink.take(tick));
        if is_ended {
            return sink;
        }
    }
}
