//! Measuring how old messages are when they arrive.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use futures::stream::{FusedStream, Stream};
use tokio::time::Instant;

use super::Subscription;
use crate::decode::FromMessage;
use crate::engine::topic::Meter;
use crate::error::StreamError;
use crate::observe::{Delays, Latency};

impl<T: FromMessage> Subscription<T> {
    /// Measures how old messages are when they are read from the socket, by the timestamp that
    /// `sent_at` finds in them; a message for which it finds none is left out.
    ///
    /// The stream stays as it is. What is measured is told by [`LatencyBy::latency`], by
    /// [`StreamInfo::latency`](crate::StreamInfo::latency) and by
    /// [`WsManager::health`](crate::WsManager::health). How long a message waited for its reader is
    /// not in it, and the difference between the two clocks is: see [`Latency`].
    ///
    /// ```no_run
    /// # async fn run(manager: wsmux::WsManager) -> Result<(), wsmux::SubscribeError> {
    /// use std::time::{Duration, SystemTime};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Trade {
    ///     #[serde(rename = "E")]
    ///     event_time: u64,
    /// }
    ///
    /// let mut trades = manager
    ///     .subscribe::<Trade>("btcusdt@trade")?
    ///     .latency_by(|t| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(t.event_time)));
    /// while let Some(_item) = trades.recv().await {}
    /// if let Some(latency) = trades.latency() {
    ///     println!("{:?} mostly, {:?} at worst", latency.p50, latency.max);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn latency_by<F>(self, sent_at: F) -> LatencyBy<T, F>
    where
        F: FnMut(&T) -> Option<SystemTime>,
    {
        let meter = Arc::new(Meter::new(Delays::new(Instant::now())));
        self.seat.topic().measured_by(&meter);
        LatencyBy { arrived: None, meter, sent_at, subscription: self }
    }
}

/// A subscription whose messages' age is measured; created by [`Subscription::latency_by`].
#[must_use = "streams do nothing unless polled"]
pub struct LatencyBy<T, F> {
    /// When the last batch arrived, by both clocks.
    arrived: Option<(Instant, SystemTime)>,
    meter: Arc<Meter>,
    sent_at: F,
    subscription: Subscription<T>,
}

// The function is never pinned.
impl<T, F> Unpin for LatencyBy<T, F> {}

impl<T, F> LatencyBy<T, F> {
    /// What this reader measured in the last one to two minutes; `None` if that is nothing.
    #[must_use]
    pub fn latency(&self) -> Option<Latency> {
        self.meter.lock().latency(Instant::now())
    }

    /// The subscription.
    pub fn get_ref(&self) -> &Subscription<T> {
        &self.subscription
    }

    /// The subscription. What is read from it directly is not measured.
    pub fn get_mut(&mut self) -> &mut Subscription<T> {
        &mut self.subscription
    }

    /// The subscription, with everything that was not read.
    pub fn into_inner(self) -> Subscription<T> {
        self.subscription
    }
}

impl<T: FromMessage, F: FnMut(&T) -> Option<SystemTime>> LatencyBy<T, F> {
    /// The next item; `None` after the end. The same as `StreamExt::next`, without an import.
    ///
    /// Cancel safe: dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<Result<T, StreamError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn measure(&mut self, value: &T) {
        let Some(received_at) = self.subscription.reader.received_at() else { return };
        let Some(sent_at) = (self.sent_at)(value) else { return };
        let now = Instant::now();
        let arrived = match self.arrived {
            Some((at, arrived)) if at == received_at => arrived,
            _ => {
                let date = (self.subscription.seat.core().wall)();
                let ago = now.saturating_duration_since(received_at);
                date.checked_sub(ago).unwrap_or(date)
            }
        };
        self.arrived = Some((received_at, arrived));
        self.meter.lock().record(sent_at, arrived, now);
    }
}

impl<T: FromMessage, F: FnMut(&T) -> Option<SystemTime>> Stream for LatencyBy<T, F> {
    type Item = Result<T, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(self.subscription.poll_recv(cx));
        if let Some(Ok(value)) = &item {
            self.measure(value);
        }
        Poll::Ready(item)
    }
}

impl<T: FromMessage, F: FnMut(&T) -> Option<SystemTime>> FusedStream for LatencyBy<T, F> {
    fn is_terminated(&self) -> bool {
        self.subscription.is_terminated()
    }
}

impl<T, F> fmt::Debug for LatencyBy<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatencyBy")
            .field("subscription", &self.subscription)
            .field("latency", &self.latency())
            .finish_non_exhaustive()
    }
}
