//! The methods that make combinators.

use std::hash::Hash;
use std::time::Duration;

use futures::stream::{Stream, TryStream};

use super::batch_by::{BatchBy, TryBatchBy};
use super::conflate::{Conflate, TryConflate};
use super::conflate_by::{ConflateBy, TryConflateBy};
use super::debounce::{Debounce, TryDebounce};
use super::dedup_by::{DedupBy, DedupWindow, TryDedupBy};
use super::form::Plain;
use super::sample::{Sample, TrySample};
use super::throttle_first::{ThrottleFirst, TryThrottleFirst};

/// Combinators for any stream; [the module](crate::ext) says what they have in common.
///
/// On a [`Subscription`](crate::Subscription) use those of [`WsTryStreamExt`], or these on its
/// [`values`](crate::Subscription::values).
pub trait WsStreamExt: Stream {
    /// The latest value while the consumer is busy.
    ///
    /// When polled, takes all that is there and yields the last of it. A consumer that keeps up gets
    /// every value.
    ///
    /// ```no_run
    /// # #[derive(serde::Deserialize)] struct Book;
    /// # async fn quote(_: Book) {}
    /// # async fn run(manager: wsmux::WsManager) -> Result<(), wsmux::SubscribeError> {
    /// use futures::StreamExt as _;
    /// use wsmux::WsStreamExt as _;
    ///
    /// // Each message is a whole book, so only the last one counts.
    /// let mut books = manager.subscribe::<Book>("btcusdt@depth5")?.values().conflate();
    /// while let Some(book) = books.next().await {
    ///     quote(book).await; // Takes its time.
    /// }
    /// # Ok(())
    /// # }
    /// ```
    fn conflate(self) -> Conflate<Self>
    where
        Self: Sized,
    {
        Conflate::new(TryConflate::new(Plain { stream: self }))
    }

    /// The latest value of each key while the consumer is busy.
    ///
    /// When polled, takes all that is there, and yields one value. Keys take turns in the order in
    /// which they came since their last turn; a key that is updated keeps its place, so a busy one
    /// never holds up a quiet one. What waits is bounded by the number of keys that wait, at most
    /// [`max_keys`](ConflateBy::max_keys).
    ///
    /// ```no_run
    /// # #[derive(serde::Deserialize)] struct Ticker { symbol: String, price: f64 }
    /// # async fn draw(_: &str, _: f64) {}
    /// # async fn run(manager: wsmux::WsManager) -> Result<(), wsmux::SubscribeError> {
    /// use futures::StreamExt as _;
    /// use wsmux::WsStreamExt as _;
    ///
    /// // A dashboard: however many tickers a second, each row shows its latest price.
    /// let tickers = manager.subscribe::<Ticker>("!ticker@all")?.values();
    /// let mut rows = tickers.conflate_by(|ticker| ticker.symbol.clone());
    /// while let Some(ticker) = rows.next().await {
    ///     draw(&ticker.symbol, ticker.price).await;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    fn conflate_by<K, F>(self, key: F) -> ConflateBy<Self, K, F>
    where
        Self: Sized,
        F: FnMut(&Self::Item) -> K,
        K: Eq + Hash,
    {
        ConflateBy::new(TryConflateBy::new(Plain { stream: self }, key))
    }

    /// The latest value at each tick, if there is a new one.
    ///
    /// Ticks are whole periods after the first poll; those that a busy consumer misses are left
    /// out. Between ticks the stream is read all the time, so its buffer does not run full. At the
    /// end, the last value does not wait for its tick. A `period` of zero is
    /// [`conflate`](Self::conflate).
    ///
    /// ```no_run
    /// # fn plot(_: f64) {}
    /// # async fn run(manager: wsmux::WsManager) -> Result<(), wsmux::SubscribeError> {
    /// use std::time::Duration;
    ///
    /// use futures::StreamExt as _;
    /// use wsmux::WsStreamExt as _;
    ///
    /// // A chart: ten points a second at most.
    /// let prices = manager.subscribe::<f64>("btcusdt@price")?.values();
    /// let mut points = prices.sample(Duration::from_millis(100));
    /// while let Some(price) = points.next().await {
    ///     plot(price);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    fn sample(self, period: Duration) -> Sample<Self>
    where
        Self: Sized,
    {
        Sample::new(TrySample::new(Plain { stream: self }, period))
    }

    /// A value at once, and none of those that follow it within `period`.
    ///
    /// What does not pass is dropped, not held back: what is yielded is never old. (To have the
    /// latest at a fixed rate, use [`sample`](Self::sample).) With a `period` of zero all pass.
    ///
    /// ```no_run
    /// # #[derive(serde::Deserialize)] struct Trade { price: f64 }
    /// # async fn notify(_: f64) {}
    /// # async fn run(manager: wsmux::WsManager) -> Result<(), wsmux::SubscribeError> {
    /// use std::future::ready;
    /// use std::time::Duration;
    ///
    /// use futures::StreamExt as _;
    /// use wsmux::WsStreamExt as _;
    ///
    /// // An alert: at once, and then not again for five minutes.
    /// let trades = manager.subscribe::<Trade>("btcusdt@trade")?.values();
    /// let mut alerts = trades
    ///     .filter(|trade| ready(trade.price > 100_000.0))
    ///     .throttle_first(Duration::from_secs(300));
    /// while let Some(trade) = alerts.next().await {
    ///     notify(trade.price).await;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    fn throttle_first(self, period: Duration) -> ThrottleFirst<Self>
    where
        Self: Sized,
    {
        ThrottleFirst::new(TryThrottleFirst::new(Plain { stream: self }, period))
    }

    /// A value once nothing has followed it for `period`.
    ///
    /// Each value replaces the one that waits, and starts the wait anew: a stream that is never
    /// quiet for that long yields nothing. At the end, the last value does not wait. A `period` of
    /// zero is [`conflate`](Self::conflate).
    ///
    /// ```no_run
    /// # #[derive(serde::Deserialize)] struct Book;
    /// # fn reprice(_: &Book) {}
    /// # async fn run(manager: wsmux::WsManager) -> Result<(), wsmux::SubscribeError> {
    /// use std::time::Duration;
    ///
    /// use futures::StreamExt as _;
    /// use wsmux::WsStreamExt as _;
    ///
    /// // The book has settled: half a second without a change.
    /// let books = manager.subscribe::<Book>("btcusdt@depth5")?.values();
    /// let mut settled = books.debounce(Duration::from_millis(500));
    /// while let Some(book) = settled.next().await {
    ///     reprice(&book);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    fn debounce(self, period: Duration) -> Debounce<Self>
    where
        Self: Sized,
    {
        Debounce::new(TryDebounce::new(Plain { stream: self }, period))
    }

    /// Values whose key was not seen within the [`DedupWindow`].
    ///
    /// ```no_run
    /// # #[derive(serde::Deserialize)] struct Trade { id: u64 }
    /// # fn record(_: Trade) {}
    /// # async fn run(one: wsmux::WsManager, two: wsmux::WsManager)
    /// # -> Result<(), wsmux::SubscribeError> {
    /// use futures::StreamExt as _;
    /// use futures::stream::select;
    /// use wsmux::{DedupWindow, WsStreamExt as _};
    ///
    /// // Two sockets for the same trades: whichever is first.
    /// let first = one.subscribe::<Trade>("btcusdt@trade")?.values();
    /// let second = two.subscribe::<Trade>("btcusdt@trade")?.values();
    /// let mut trades =
    ///     select(first, second).dedup_by(|trade| trade.id, DedupWindow::last(10_000));
    /// while let Some(trade) = trades.next().await {
    ///     record(trade);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    fn dedup_by<K, F>(self, key: F, window: DedupWindow) -> DedupBy<Self, K, F>
    where
        Self: Sized,
        F: FnMut(&Self::Item) -> K,
        K: Eq + Hash,
    {
        DedupBy::new(TryDedupBy::new(Plain { stream: self }, key, window))
    }

    /// Batches of at most `size` values, yielded at most `period` after their first value was
    /// taken.
    ///
    /// No batch is empty. A consumer that is late gets what came meanwhile as well, up to `size`.
    /// At the end, the last batch does not wait. A `size` of zero is one; with a `period` of zero, a
    /// batch is what is there.
    ///
    /// ```no_run
    /// # #[derive(serde::Deserialize)] struct Trade;
    /// # async fn insert(_: &[Trade]) -> std::io::Result<()> { Ok(()) }
    /// # async fn run(manager: wsmux::WsManager) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// use futures::StreamExt as _;
    /// use wsmux::WsStreamExt as _;
    ///
    /// // One insert for up to 500 trades, and none waits for longer than a second.
    /// let trades = manager.subscribe::<Trade>("btcusdt@trade")?.values();
    /// let mut batches = trades.batch_by(500, Duration::from_secs(1));
    /// while let Some(batch) = batches.next().await {
    ///     insert(&batch).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    fn batch_by(self, size: usize, period: Duration) -> BatchBy<Self>
    where
        Self: Sized,
    {
        BatchBy::new(TryBatchBy::new(Plain { stream: self }, size, period))
    }
}

impl<St: Stream + ?Sized> WsStreamExt for St {}

/// The combinators of [`WsStreamExt`] for streams of results, whose errors are notices that keep
/// their place among the values; [the module](crate::ext) says more.
///
/// They end when the stream does: an `Err` ends none of them.
///
/// ```no_run
/// # #[derive(serde::Deserialize)] struct Ticker { symbol: String }
/// # async fn draw(_: Ticker) {}
/// # fn mark_all_stale() {}
/// # async fn run(manager: wsmux::WsManager) -> Result<(), wsmux::SubscribeError> {
/// use futures::StreamExt as _;
/// use wsmux::{StreamError, WsTryStreamExt as _};
///
/// let tickers = manager.subscribe::<Ticker>("!ticker@all")?;
/// let mut rows = tickers.try_conflate_by(|ticker| ticker.symbol.clone());
/// while let Some(item) = rows.next().await {
///     match item {
///         Ok(ticker) => draw(ticker).await,
///         Err(StreamError::Gap(_)) => mark_all_stale(),
///         Err(notice) => eprintln!("{notice}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub trait WsTryStreamExt: TryStream {
    /// As [`conflate`](WsStreamExt::conflate); a value that waits is yielded before a notice.
    fn try_conflate(self) -> TryConflate<Self>
    where
        Self: Sized,
    {
        TryConflate::new(self)
    }

    /// As [`conflate_by`](WsStreamExt::conflate_by); all values that wait are yielded before a
    /// notice, and until then nothing is taken from behind it.
    fn try_conflate_by<K, F>(self, key: F) -> TryConflateBy<Self, K, F>
    where
        Self: Sized,
        F: FnMut(&Self::Ok) -> K,
        K: Eq + Hash,
    {
        TryConflateBy::new(self, key)
    }

    /// As [`sample`](WsStreamExt::sample); a notice waits for no tick, nor does the value before
    /// it.
    fn try_sample(self, period: Duration) -> TrySample<Self>
    where
        Self: Sized,
    {
        TrySample::new(self, period)
    }

    /// As [`throttle_first`](WsStreamExt::throttle_first); notices pass at all times, and change
    /// nothing for values.
    fn try_throttle_first(self, period: Duration) -> TryThrottleFirst<Self>
    where
        Self: Sized,
    {
        TryThrottleFirst::new(self, period)
    }

    /// As [`debounce`](WsStreamExt::debounce); a notice does not wait, nor does the value before
    /// it.
    fn try_debounce(self, period: Duration) -> TryDebounce<Self>
    where
        Self: Sized,
    {
        TryDebounce::new(self, period)
    }

    /// As [`dedup_by`](WsStreamExt::dedup_by); notices pass, and keys are remembered across them:
    /// what a server repeats after a reconnect is a repeat.
    fn try_dedup_by<K, F>(self, key: F, window: DedupWindow) -> TryDedupBy<Self, K, F>
    where
        Self: Sized,
        F: FnMut(&Self::Ok) -> K,
        K: Eq + Hash,
    {
        TryDedupBy::new(self, key, window)
    }

    /// As [`batch_by`](WsStreamExt::batch_by); a batch that waits is yielded before a notice.
    fn try_batch_by(self, size: usize, period: Duration) -> TryBatchBy<Self>
    where
        Self: Sized,
    {
        TryBatchBy::new(self, size, period)
    }
}

impl<St: TryStream + ?Sized> WsTryStreamExt for St {}
