//! The streams that users hold.

mod batches;
mod events;
mod fallback;
mod latency;
mod many;
pub(crate) mod open;
mod resync;
mod status;
mod streams;
mod values;

use std::fmt;
use std::future::poll_fn;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::{FusedStream, Stream};

use crate::batch::Entry;
use crate::decode::{DecodeError, FromMessage};
use crate::engine::seat::Seat;
use crate::engine::topic::{Next, Reader};
use crate::error::{CloseReason, StreamError};
use crate::message::MessageRef;
use crate::name::StreamName;
use crate::observe::{Status, StreamInfo};

use many::Many;

pub use batches::{Batches, Items};
pub use events::Events;
pub use fallback::{FallbackPolicy, OnClose, Sourced, WithFallback};
pub use latency::LatencyBy;
pub use resync::{Continuity, Resync, ResyncPolicy, Resynced};
pub use status::StatusStream;
pub use streams::Streams;
pub use values::Values;

/// A stream of messages read as `T`.
///
/// It yields what the server sent on the name from the moment it was joined: each message once and
/// in order, or a [`Gap`](crate::Gap) in its place. An `Err` is a notice, not the end: only
/// [`StreamError::Closed`] ends the stream, and `None` follows it. So `try_next()?` stops at the
/// first gap, which is rarely what is wanted; match on the item, or write
/// [`values`](Self::values) if gaps do not matter.
///
/// Dropping the last subscription to a name lets its socket close. There is no `Clone`, as a copy
/// could not replay what was read: [subscribe](crate::WsManager::subscribe) again, it costs little.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use wsmux::{Gap, StreamError, Text, WsManager};
///
/// let manager = WsManager::connect("wss://stream.binance.com:9443/ws")?;
/// let mut trades = manager.subscribe::<Text>("btcusdt@trade")?;
/// while let Some(item) = trades.recv().await {
///     match item {
///         Ok(trade) => println!("{trade}"),
///         Err(StreamError::Gap(Gap::Lagged { missed })) => println!("too slow: {missed} lost"),
///         Err(StreamError::Closed(reason)) => println!("the end: {reason}"),
///         Err(notice) => println!("{notice}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct Subscription<T> {
    // Before the seat: a reader that is dropped first leaves no waker behind it.
    reader: Reader,
    seat: Seat,
    // `fn() -> T`: a subscription holds no `T`, so it is `Send` and `Unpin` whatever `T` is.
    _reads: PhantomData<fn() -> T>,
}

impl<T: FromMessage> Subscription<T> {
    pub(crate) fn new(seat: Seat) -> Self {
        Self { reader: seat.read(), seat, _reads: PhantomData }
    }

    /// The next item; `None` after the end. The same as `StreamExt::next`, without an import.
    ///
    /// Cancel safe: dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<Result<T, StreamError>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Waits for the next item, and appends it to `buf` together with those that are there already:
    /// at most `limit` in all. Returns how many; 0 after the end, or if `limit` is 0.
    ///
    /// Allocates nothing but what `buf` needs to grow. Cancel safe: until it returns, nothing is
    /// taken.
    ///
    /// ```no_run
    /// # async fn run(mut trades: wsmux::Subscription<wsmux::Text>) {
    /// let mut items = Vec::with_capacity(256);
    /// while trades.recv_many(&mut items, 256).await > 0 {
    ///     for item in items.drain(..) {
    ///         println!("{item:?}");
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn recv_many(
        &mut self,
        buf: &mut Vec<Result<T, StreamError>>,
        limit: usize,
    ) -> usize {
        poll_fn(|cx| many::poll_recv_many(self, cx, buf, limit)).await
    }

    /// What `read` makes of the next item, if that is a message: it is lent as it came, neither
    /// copied nor read as `T`. A notice comes as it does from [`recv`](Self::recv); `None` after the
    /// end.
    ///
    /// For types that borrow from the message, one at a time; [`batches`](Self::batches) lends many
    /// at once. Cancel safe: until `read` is called, nothing is taken.
    ///
    /// ```no_run
    /// # async fn run(mut trades: wsmux::Subscription<wsmux::Message>) {
    /// #[derive(serde::Deserialize)]
    /// struct Trade<'a> {
    ///     #[serde(rename = "s")]
    ///     symbol: &'a str,
    ///     #[serde(rename = "q")]
    ///     quantity: &'a str,
    /// }
    ///
    /// let is_large = |message: wsmux::MessageRef<'_>| {
    ///     let trade: Trade<'_> = serde_json::from_slice(message.as_bytes()).ok()?;
    ///     let quantity: f64 = trade.quantity.parse().ok()?;
    ///     Some(trade.symbol == "BTCUSDT" && quantity > 1.0)
    /// };
    /// while let Some(item) = trades.recv_with(is_large).await {
    ///     match item {
    ///         Ok(Some(true)) => println!("a large one"),
    ///         Ok(Some(false)) => {}
    ///         Ok(None) => eprintln!("not a trade"),
    ///         Err(notice) => eprintln!("{notice}"),
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn recv_with<R>(
        &mut self,
        read: impl FnOnce(MessageRef<'_>) -> R,
    ) -> Option<Result<R, StreamError>> {
        let next = poll_fn(|cx| self.reader.poll_next(cx)).await?;
        self.read(next, |entry| Ok(read(entry.message())))
    }

    /// Waits until the stream is joined, or until there is something to read because it was:
    /// messages come in from then on. A message that is [replayed](Self::is_replayed) is no sign of
    /// that.
    ///
    /// Cancel safe. Items that come meanwhile are kept for [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// When the stream ends before it is joined; the same reason is the stream's last item.
    pub async fn ready(&mut self) -> Result<(), CloseReason> {
        let mut status = self.status_changes();
        loop {
            match poll_fn(|cx| Pin::new(&mut status).poll_next(cx)).await {
                Some(Status::Open) => return Ok(()),
                // Joined, and lost again before we looked.
                Some(_) if self.lag() > 0 => return Ok(()),
                Some(Status::Closed(reason)) => return Err(reason),
                Some(_) => {}
                None => return Err(CloseReason::Aborted),
            }
        }
    }

    /// The name subscribed to.
    #[must_use]
    pub fn name(&self) -> &StreamName {
        &self.seat.topic().name
    }

    /// What the stream is doing right now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.seat.topic().status().get()
    }

    /// What the stream is doing, now and whenever it changes.
    pub fn status_changes(&self) -> StatusStream {
        StatusStream::new(self.seat.topic().status())
    }

    /// A snapshot of the stream; `None` once it has ended.
    #[must_use]
    pub fn info(&self) -> Option<StreamInfo> {
        self.seat.core().info(self.seat.topic())
    }

    /// The last message that came on the stream, read as `T` by the caller, whether or not this
    /// reader has come to it; `None` if there was none yet. It stays there while the socket is lost,
    /// and after the end.
    ///
    /// A look at the state of a stream: it takes nothing from what [`recv`](Self::recv) yields.
    ///
    /// # Errors
    ///
    /// When that message cannot be read as `T`.
    ///
    /// ```no_run
    /// # fn run(ticker: &wsmux::Subscription<wsmux::Stamped<f64>>) {
    /// if let Some(Ok(price)) = ticker.latest() {
    ///     println!("{} as of {:.0?} ago", price.value, price.received_at.elapsed());
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn latest(&self) -> Option<Result<T, DecodeError>> {
        self.seat.topic().latest(T::from_entry)
    }

    /// Whether the item that was yielded last is a message that came before this reader did: the
    /// stream's last one by then, given first because
    /// [`Config::replay_latest`](field@crate::Config::replay_latest) says so.
    ///
    /// It tells what was last known, not that the stream is up: where its socket was lost by then,
    /// there may be messages missing after it without a [`Gap`](crate::Gap). In a
    /// [`Stamped`](crate::Stamped) value, the mark is [`replayed`](crate::Stamped::replayed).
    #[must_use]
    pub fn is_replayed(&self) -> bool {
        self.reader.is_replayed()
    }

    /// How many messages have come that this reader has not read. Up to
    /// [`Config::buffer`](crate::Config) and [`Config::buffer_bytes`](crate::Config) they are kept;
    /// beyond, the oldest become a [`Gap::Lagged`](crate::Gap::Lagged). Notices do not count.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.reader.lag()
    }

    /// Leaves out everything but values: gaps, messages that cannot be read and the reason of the
    /// end pass unseen.
    ///
    /// ```no_run
    /// # async fn run(manager: wsmux::WsManager) -> Result<(), wsmux::SubscribeError> {
    /// let mut prices = manager.subscribe::<f64>("btcusdt@price")?.values();
    /// while let Some(price) = prices.recv().await {
    ///     println!("{price}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn values(self) -> Values<T> {
        Values::new(self)
    }

    /// The same reader, reading as another type from here on.
    #[cfg(feature = "record")]
    pub(crate) fn read_as<U: FromMessage>(self) -> Subscription<U> {
        Subscription { reader: self.reader, seat: self.seat, _reads: PhantomData }
    }

    /// What draws of this stream's helpers follow from: the same for a manager's seed and a name.
    fn jitter_seed(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.name().hash(&mut hasher);
        self.seat.core().seed ^ hasher.finish()
    }

    #[inline]
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>> {
        match T::from_next_text(|| self.reader.text()) {
            Some(value) => Poll::Ready(Some(Ok(value))),
            None => self.poll_entry(cx),
        }
    }

    /// The next item, whatever it is.
    #[inline(never)]
    fn poll_entry(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>> {
        match self.reader.here() {
            Some(entry) => match T::from_entry(&entry) {
                Ok(value) => Poll::Ready(Some(Ok(value))),
                Err(e) => Poll::Ready(Some(Err(self.unreadable(e)))),
            },
            None => self.poll_step(cx),
        }
    }

    /// The next item, which is not one of the batch that the reader is in. Kept out of the way of
    /// those that are: it is most of the code, and among it each message would be moved about in
    /// memory.
    #[inline(never)]
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>> {
        match ready!(self.reader.poll_refill(cx)) {
            Some(Next::Message) if self.reader.has_message() => self.poll_entry(cx),
            next => Poll::Ready(next.and_then(|next| self.item(next))),
        }
    }

    /// What the reader has come to, as an item.
    fn item(&mut self, next: Next) -> Option<Result<T, StreamError>> {
        self.read(next, T::from_entry)
    }

    fn read<R>(
        &mut self,
        next: Next,
        read: impl FnOnce(&Entry<'_>) -> Result<R, DecodeError>,
    ) -> Option<Result<R, StreamError>> {
        Some(match next {
            Next::Message => {
                let read = self.reader.take(read)?;
                self.judged(read)
            }
            Next::Gap(gap) => Err(StreamError::Gap(*gap)),
            Next::Closed(reason) => Err(StreamError::Closed(*reason)),
        })
    }

    /// What was read, counted if it could not be.
    #[inline]
    fn judged<R>(&self, read: Result<R, DecodeError>) -> Result<R, StreamError> {
        read.map_err(|e| self.unreadable(e))
    }

    #[cold]
    fn unreadable(&self, e: DecodeError) -> StreamError {
        self.seat.core().metrics.decode_error();
        StreamError::Decode(e)
    }
}

impl<T: FromMessage> Many for Subscription<T> {
    type Item = Result<T, StreamError>;

    fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx)
    }

    fn one_now(&mut self, cx: &mut Context<'_>) -> Option<Self::Item> {
        if let Some(value) = T::from_next_text(|| self.reader.text()) {
            return Some(Ok(value));
        }
        if let Some(read) = self.reader.here().map(|entry| T::from_entry(&entry)) {
            return Some(self.judged(read));
        }
        let next = self.reader.next_now(cx)?;
        self.item(next)
    }
}

impl<T: FromMessage> Stream for Subscription<T> {
    type Item = Result<T, StreamError>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx)
    }
}

impl<T: FromMessage> FusedStream for Subscription<T> {
    fn is_terminated(&self) -> bool {
        self.reader.is_ended()
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("name", &self.seat.topic().name)
            .field("status", &self.seat.topic().status().get())
            .finish_non_exhaustive()
    }
}

/// Keeps a stream open without reading it; created by
/// [`WsManager::keep_warm`](crate::WsManager::keep_warm), given back on drop.
#[must_use = "the stream is kept open until the lease is dropped"]
pub struct Lease(Seat);

impl Lease {
    pub(crate) fn new(seat: Seat) -> Self {
        Self(seat)
    }

    /// The name kept open.
    #[must_use]
    pub fn name(&self) -> &StreamName {
        &self.0.topic().name
    }

    /// What the stream is doing right now. A stream that has ended stays ended for its leases.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.topic().status().get()
    }

    /// The same as a stream, which begins with the present state. It keeps nothing open.
    pub fn status_changes(&self) -> StatusStream {
        StatusStream::new(self.0.topic().status())
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("name", &self.0.topic().name).finish_non_exhaustive()
    }
}
