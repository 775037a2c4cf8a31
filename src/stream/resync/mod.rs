//! A stream of updates on top of a snapshot that is fetched elsewhere: an order book done right.
//!
//! The procedure is the one that Binance documents. Updates come in first, then the snapshot is
//! asked for: the other way round, what happens in between is lost. Updates are held until the
//! snapshot is there; those that it contains are dropped; the first of the rest has to follow on it.
//! After whatever may have lost an update, all of it begins again.
//!
//! # Invariants
//!
//! 1. Between a snapshot and the next gap, the snapshot and the updates yielded since then are the
//!    server's state, at each of them: no hole, no repeat, nothing out of order.
//! 2. What may be a hole is told before anything else is yielded: the stream's gaps, messages that
//!    cannot be read, numbers that do not follow, and updates dropped here for want of room. After it
//!    comes no update before the next snapshot.
//! 3. A fetch begins when the stream is joined, and is void when a hole comes during it: its future
//!    is dropped.
//! 4. The stream is read during a fetch, and what is held is bounded.
//! 5. No two fetches begin within the policy's `min_delay`, and those that fail are backed off.
//! 6. The end of the stream is the end of this.
//!
//! All of it happens in the reader's task, while it polls. Nothing is spawned.

mod fetch;
mod held;
mod policy;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::{FusedStream, Stream};

use self::fetch::Fetcher;
use self::held::{Held, Overflow};
use self::policy::Rule;
use super::Subscription;
use crate::decode::FromMessage;
use crate::error::{CloseReason, Gap, SnapshotError, StreamError};

pub use policy::{Continuity, ResyncPolicy};

/// Updates taken from the stream between two looks at the fetch.
const DRAIN: usize = 64;

/// Stream of snapshots and of the updates that follow on them; created by
/// [`Subscription::resync`].
#[must_use = "streams do nothing unless polled"]
pub struct Resync<S, T> {
    fetcher: Fetcher<S>,
    held: Held<T>,
    /// The first update after a snapshot that was just yielded: it was judged already.
    next: Option<T>,
    rule: Box<dyn Rule<S, T> + Send>,
    state: State,
    updates: Subscription<T>,
}

/// What a [`Resync`] yields.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resynced<S, T> {
    /// The state as a whole: it replaces what was there. The first item is one, and after each gap
    /// there is a new one.
    Snapshot(S),
    /// The next update on top of it.
    Update(T),
}

#[derive(Clone, Debug)]
enum State {
    /// The end was yielded.
    Ended,
    /// The end is yet to be yielded.
    Ending(CloseReason),
    /// A snapshot was yielded, and updates follow on it.
    Synced,
    /// A snapshot is needed.
    Syncing,
}

impl<T: FromMessage> Subscription<T> {
    /// Keeps a state that the server sends as updates, such as an order book, in step with
    /// snapshots of it that are fetched elsewhere, such as over REST.
    ///
    /// `snapshot` is called once the stream is joined, and again after each gap. Meanwhile updates
    /// are held. The result yields the snapshot, then the updates that follow on it without a hole
    /// or a repeat, as `policy` knows by their numbers. An `Err` is a notice in its place, as on
    /// every subscription, and what was built is out of date from it on, until the next snapshot:
    ///
    /// - [`Gap`]s of the stream, and [`StreamError::Decode`]: an update that cannot be read is one
    ///   that is missing;
    /// - [`Gap::Sequence`], also where the policy finds that an update does not follow on the last
    ///   one: the server skipped one, or mixed up their order;
    /// - [`Gap::Lagged`], also where more updates came during a fetch than
    ///   [`max_held`](field@ResyncPolicy::max_held): that many were dropped;
    /// - [`StreamError::Closed`] ends it. So does the policy, by [`CloseReason::NoSnapshot`], unless
    ///   it retries for ever, which is its default.
    ///
    /// A fetch that fails is no item: it is retried with backoff, and is a line at level WARN with
    /// the error's text (one that shows URLs with tokens had better be wrapped), and
    /// [`last_error`](Resync::last_error).
    ///
    /// Venues that send the snapshot in the feed itself (Bybit, OKX, Kraken, Coinbase, Deribit) need
    /// none of this: take their snapshot as a new state whenever it comes.
    ///
    /// Runs in the reader's task, inside a Tokio runtime: nothing is spawned, and nothing is fetched
    /// unless the result is polled.
    ///
    /// ```no_run
    /// # #[derive(serde::Deserialize)] struct Book { #[serde(rename = "lastUpdateId")] last: u64 }
    /// # #[derive(serde::Deserialize)]
    /// # struct Change { #[serde(rename = "U")] first: u64, #[serde(rename = "u")] last: u64 }
    /// # async fn get(url: &str) -> Result<Book, std::io::Error> { unimplemented!() }
    /// # impl Book { fn apply(&mut self, change: Change) {} }
    /// # async fn run(manager: wsmux::WsManager) -> Result<(), wsmux::SubscribeError> {
    /// use wsmux::{Resynced, ResyncPolicy};
    ///
    /// let policy = ResyncPolicy::numbered(|b: &Book| b.last, |c: &Change| c.first..=c.last);
    /// let snapshot = || get("https://api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=5000");
    /// let mut items = manager.subscribe("btcusdt@depth")?.resync(snapshot, policy);
    /// let mut book = None;
    /// while let Some(item) = items.recv().await {
    ///     match item {
    ///         Ok(Resynced::Snapshot(snapshot)) => book = Some(snapshot),
    ///         Ok(Resynced::Update(change)) => book.as_mut().expect("a snapshot").apply(change),
    ///         Err(notice) => {
    ///             println!("{notice}: quoting stops until the next snapshot");
    ///             book = None;
    ///         }
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn resync<S, F, Fut, E>(self, mut snapshot: F, policy: ResyncPolicy<S, T>) -> Resync<S, T>
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<S, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let ResyncPolicy { max_held, retry, timeout, rule } = policy;
        let get = Box::new(move || fetch::boxed(snapshot(), timeout));
        let (name, status) = (self.name().clone(), self.status_changes());
        Resync {
            fetcher: Fetcher::new(get, name, retry, self.jitter_seed(), status),
            held: Held::new(max_held),
            next: None,
            rule,
            state: State::Syncing,
            updates: self,
        }
    }
}

impl<S, T: FromMessage> Resync<S, T> {
    /// The next item; `None` after the end. The same as `StreamExt::next`, without an import.
    ///
    /// Cancel safe: dropping the future loses nothing, and a fetch goes on where it was.
    pub async fn recv(&mut self) -> Option<Result<Resynced<S, T>, StreamError>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    /// Throws away what is known and fetches a new snapshot, as after a gap: for a program that
    /// finds its state wrong, by a checksum in the feed or since bids are above asks. The next item
    /// that is not an `Err` is a snapshot.
    pub fn restart(&mut self) {
        if let State::Synced | State::Syncing = self.state {
            self.start_over();
        }
    }

    /// Whether the latest snapshot and the updates since are the server's state, as far as they were
    /// read. It is not while a snapshot is awaited.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        matches!(self.state, State::Synced)
    }

    /// Number of fetches so far.
    #[must_use]
    pub fn fetches(&self) -> u64 {
        self.fetcher.fetches()
    }

    /// How the last attempt to get a snapshot failed; `None` if it did not.
    #[must_use]
    pub fn last_error(&self) -> Option<&SnapshotError> {
        self.fetcher.last_error()
    }

    /// The subscription, for its name, status and lag.
    pub fn subscription(&self) -> &Subscription<T> {
        &self.updates
    }

    /// The subscription itself. Updates that are held are lost.
    pub fn into_inner(self) -> Subscription<T> {
        self.updates
    }

    fn poll_item(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Resynced<S, T>, StreamError>>> {
        loop {
            let item = match &self.state {
                State::Ended => return Poll::Ready(None),
                State::Ending(reason) => Some(Err(StreamError::Closed(reason.clone()))),
                State::Synced => ready!(self.poll_update(cx)),
                State::Syncing => match self.fetcher.poll(cx) {
                    Poll::Ready(Ok(snapshot)) => self.splice(snapshot),
                    Poll::Ready(Err(reason)) => Some(Err(StreamError::Closed(reason))),
                    Poll::Pending => ready!(self.poll_hold(cx)).map(Err),
                },
            };
            if let Some(Err(StreamError::Closed(_))) = item {
                self.start_over();
                self.state = State::Ended;
            }
            if item.is_some() {
                return Poll::Ready(item);
            }
        }
    }

    /// What follows on a snapshot that was yielded.
    fn poll_update(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Resynced<S, T>, StreamError>>> {
        if let Some(update) = self.next.take() {
            return Poll::Ready(Some(Ok(Resynced::Update(update))));
        }
        let update = match self.held.pop() {
            Some(update) => update,
            None => match ready!(self.poll_source(cx)) {
                Some(Ok(update)) => update,
                other => return Poll::Ready(other.map(|notice| notice.map(Resynced::Update))),
            },
        };
        Poll::Ready(match self.rule.step(&update) {
            Continuity::Follows => Some(Ok(Resynced::Update(update))),
            Continuity::Old => None,
            Continuity::Hole { missed } => {
                // The next snapshot has to reach up to this one.
                self.held.unpop(update);
                self.state = State::Syncing;
                Some(Err(self.counted(Gap::Sequence { missed })))
            }
        })
    }

    /// Holds what comes during a fetch. Yields what voids it.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<Option<StreamError>> {
        for _ in 0..DRAIN {
            match ready!(self.poll_source(cx)) {
                Some(Ok(update)) => {
                    if let Err(overflow) = self.held.push(update, self.fetcher.in_flight()) {
                        return Poll::Ready(Some(self.overflowed(overflow)));
                    }
                }
                Some(Err(notice)) => return Poll::Ready(Some(notice)),
                None => break,
            }
        }
        Poll::Ready(None)
    }

    /// The stream's next item. All but an update mean that a new snapshot is needed.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>> {
        let item = ready!(self.updates.poll_recv(cx));
        match &item {
            Some(Ok(_)) => {}
            Some(Err(_)) => self.start_over(),
            None => self.state = State::Ended,
        }
        Poll::Ready(item)
    }

    /// Takes a snapshot, if what is held follows on it.
    fn splice(&mut self, snapshot: S) -> Option<Result<Resynced<S, T>, StreamError>> {
        self.rule.start(&snapshot);
        while let Some(update) = self.held.pop() {
            match self.rule.step(&update) {
                Continuity::Old => {}
                Continuity::Follows => {
                    self.next = Some(update);
                    break;
                }
                Continuity::Hole { .. } => {
                    self.held.unpop(update);
                    self.failed(SnapshotError::TooOld);
                    return None;
                }
            }
        }
        self.fetcher.succeeded();
        self.state = State::Synced;
        Some(Ok(Resynced::Snapshot(snapshot)))
    }

    fn overflowed(&mut self, Overflow { dropped: missed }: Overflow) -> StreamError {
        let max_held = self.held.max();
        self.failed(SnapshotError::Overflow { max_held });
        self.counted(Gap::Lagged { missed })
    }

    fn failed(&mut self, error: SnapshotError) {
        if let Some(reason) = self.fetcher.failed(error) {
            self.state = State::Ending(reason);
        }
    }

    /// A gap that was found here, and not by the stream below.
    fn counted(&self, gap: Gap) -> StreamError {
        self.updates.seat.topic().counted(&gap);
        StreamError::Gap(gap)
    }

    /// Nothing that is held, or being fetched, is of use any more.
    fn start_over(&mut self) {
        self.fetcher.void();
        self.held.clear();
        self.next = None;
        self.state = State::Syncing;
    }
}

impl<S, T: FromMessage> Stream for Resync<S, T> {
    type Item = Result<Resynced<S, T>, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

impl<S, T: FromMessage> FusedStream for Resync<S, T> {
    fn is_terminated(&self) -> bool {
        matches!(self.state, State::Ended)
    }
}

// Nothing in it is pinned but what is boxed.
impl<S, T> Unpin for Resync<S, T> {}

impl<S, T> fmt::Debug for Resync<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resync")
            .field("fetcher", &self.fetcher)
            .field("held", &self.held.len())
            .field("state", &self.state)
            .field("updates", &self.updates)
            .finish_non_exhaustive()
    }
}
