//! Values whose key was not seen a short while ago.

use std::collections::VecDeque;
use std::hash::Hash;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{FusedStream, Stream, TryStream};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::alarm::{Clock, after, is_never};
use super::queue::KeyedQueue;
use super::source::Source;

/// Keys that are remembered at most where only a period is given.
const MAX_KEYS: usize = 65_536;

/// For how long `dedup_by` remembers a key: until so many others have come, or for so long.
///
/// Both count from when the key was first seen; a repeat does not renew it. The number of keys is
/// always bounded, and with it the memory.
///
/// ```
/// use std::time::Duration;
/// use wsmux::DedupWindow;
///
/// let _ = DedupWindow::last(10_000); // however old they are
/// let _ = DedupWindow::last(10_000).period(Duration::from_secs(60)); // what comes first
/// let _ = DedupWindow::within(Duration::from_secs(60)); // at most 65,536 keys
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct DedupWindow {
    keys: usize,
    period: Duration,
}

pin_project! {
    /// Stream of [`WsTryStreamExt::try_dedup_by`](super::WsTryStreamExt::try_dedup_by).
    #[must_use = "streams do nothing unless polled"]
    pub struct TryDedupBy<St, K, F> {
        #[pin]
        source: Source<St>,
        key: F,
        seen: Seen<K>,
    }
}

impl DedupWindow {
    /// The last `keys` keys, however old they are. With zero, nothing is a repeat.
    pub const fn last(keys: usize) -> Self {
        Self { keys, period: Duration::MAX }
    }

    /// The keys of the last `period`: of more than 65,536, the last of them. With zero, nothing is
    /// a repeat.
    pub const fn within(period: Duration) -> Self {
        Self { keys: MAX_KEYS, period }
    }

    /// At most so many keys, each of which costs some tens of bytes and what it owns.
    pub const fn keys(mut self, keys: usize) -> Self {
        self.keys = keys;
        self
    }

    /// Each key for `period` at most.
    pub const fn period(mut self, period: Duration) -> Self {
        self.period = period;
        self
    }
}

/// The keys that are remembered.
struct Seen<K> {
    keys: KeyedQueue<K, ()>,
    /// When to forget each of them, if ever.
    until: VecDeque<Instant>,
    window: DedupWindow,
}

impl<K> Seen<K> {
    fn new(window: DedupWindow) -> Self {
        Self { keys: KeyedQueue::new(), until: VecDeque::new(), window }
    }
}

impl<K: Eq + Hash> Seen<K> {
    /// Remembers a key; whether it was not remembered already.
    fn is_new(&mut self, key: K, clock: &mut Clock) -> bool {
        let DedupWindow { keys, period } = self.window;
        if keys == 0 || period.is_zero() {
            return true;
        }
        // Never needs no clock.
        let until = if is_never(period) { None } else { self.forget(clock.now()) };
        let is_new = self.keys.push_new(key, ());
        if is_new {
            self.until.extend(until);
            if self.keys.len() > keys {
                self.keys.pop_front();
                self.until.pop_front();
            }
        }
        is_new
    }

    /// Forgets what is too old; when to forget what comes now.
    fn forget(&mut self, now: Instant) -> Option<Instant> {
        while self.until.front().is_some_and(|then| *then <= now) {
            self.keys.pop_front();
            self.until.pop_front();
        }
        after(now, self.window.period)
    }
}

impl<St, K, F> TryDedupBy<St, K, F> {
    pub(super) fn new(stream: St, key: F, window: DedupWindow) -> Self {
        Self { source: Source::new(stream), key, seen: Seen::new(window) }
    }
}

access!(TryDedupBy<St, K, F>: TryStream, source.stream);

impl<St, K, F> Stream for TryDedupBy<St, K, F>
where
    St: TryStream,
    K: Eq + Hash,
    F: FnMut(&St::Ok) -> K,
{
    type Item = Result<St::Ok, St::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        let mut clock = Clock::default();
        let stop = this.source.poll_take(cx, |value| {
            if this.seen.is_new((this.key)(&value), &mut clock) {
                ControlFlow::Break(value)
            } else {
                ControlFlow::Continue(())
            }
        });
        ready!(stop).into_poll()
    }
}

impl<St, K, F> FusedStream for TryDedupBy<St, K, F>
where
    St: TryStream,
    K: Eq + Hash,
    F: FnMut(&St::Ok) -> K,
{
    fn is_terminated(&self) -> bool {
        self.source.is_ended()
    }
}

plain! {
    /// Stream of [`WsStreamExt::dedup_by`](super::WsStreamExt::dedup_by).
    DedupBy<St, K, F> of TryDedupBy<Plain, K, F> over source.stream,
    yields St::Item, where St: Stream, K: Eq + Hash, F: FnMut(&St::Item) -> K
}
