//! The combinators, over streams that say what they are told to.

mod imports;
mod models;
mod properties;
mod sentences;
mod subscriptions;
mod turns;

use std::collections::VecDeque;
use std::fmt;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::Stream;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::MS;

/// A value for a key; values count up.
type Value = (u8, u32);

/// A notice is a number.
type Item = Result<Value, u32>;

/// Yields each item when its time has come, counted from the first poll, and ends. What nobody
/// polls for waits. Panics if it is polled after its end.
struct Script<T> {
    ended: bool,
    ends_at: Duration,
    items: VecDeque<(Duration, T)>,
    sleep: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<T> Script<T> {
    fn new(items: impl IntoIterator<Item = (Duration, T)>, ends_at: Duration) -> Self {
        Self { ended: false, ends_at, items: items.into_iter().collect(), sleep: None }
    }
}

impl<T: Unpin> Stream for Script<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        assert!(!self.ended, "polled after the end");
        let at = self.items.front().map_or(self.ends_at, |(at, _)| *at);
        let (start, sleep) = self.sleep.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(sleep_until(now)))
        });
        let due = *start + at;
        // Not through the timer if it is due already: all that is due comes within one poll.
        if due > Instant::now() {
            sleep.as_mut().reset(due);
            ready!(sleep.as_mut().poll(cx));
        }
        let item = self.items.pop_front().map(|(_, item)| item);
        self.ended = item.is_none();
        Poll::Ready(item)
    }
}

impl<T> fmt::Debug for Script<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

/// What `stream` yields and when, in milliseconds since its first poll, the end included. After
/// the n-th item, the consumer is busy for `busy(n)`.
async fn play<St: Stream>(
    stream: St,
    busy: impl Fn(usize) -> Duration,
) -> Vec<(u64, Option<St::Item>)> {
    let mut stream = pin!(stream);
    let start = Instant::now();
    let mut played = Vec::new();
    loop {
        let item = stream.next().await;
        let is_end = item.is_none();
        played.push((start.elapsed().as_millis() as u64, item));
        if is_end {
            return played;
        }
        let busy = busy(played.len() - 1);
        if !busy.is_zero() {
            sleep(busy).await;
        }
    }
}

fn idle(_: usize) -> Duration {
    Duration::ZERO
}

/// A script of plain numbers at times in milliseconds.
fn numbers(items: &[(u32, u32)], ends_at: u32) -> Script<u32> {
    Script::new(items.iter().map(|(at, item)| (*at * MS, *item)), ends_at * MS)
}

/// The same of results.
fn results(
    items: &[(u32, Result<u32, &'static str>)],
    ends_at: u32,
) -> Script<Result<u32, &'static str>> {
    Script::new(items.iter().map(|(at, item)| (*at * MS, *item)), ends_at * MS)
}
