//! A value once nothing has followed it for a while.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{FusedStream, Stream, TryStream};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::alarm::{Alarm, after};
use super::latest::{Drained, Latest};

pin_project! {
    /// Stream of [`WsTryStreamExt::try_debounce`](super::WsTryStreamExt::try_debounce).
    #[must_use = "streams do nothing unless polled"]
    pub struct TryDebounce<St>
    where
        St: TryStream,
    {
        #[pin]
        latest: Latest<St>,
        alarm: Alarm,
        period: Duration,
    }
}

impl<St: TryStream> TryDebounce<St> {
    pub(super) fn new(stream: St, period: Duration) -> Self {
        Self { latest: Latest::new(stream), alarm: Alarm::default(), period }
    }
}

access!(TryDebounce<St>: TryStream, latest.source.stream);

impl<St: TryStream> Stream for TryDebounce<St> {
    type Item = Result<St::Ok, St::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        let fresh = match ready!(this.latest.as_mut().poll_drain(cx)) {
            Drained::Due(item) => return Poll::Ready(item),
            Drained::Idle { fresh } => fresh,
        };
        if !this.latest.has_value() {
            return Poll::Pending;
        }
        if !this.period.is_zero() {
            if fresh {
                this.alarm.set(after(Instant::now(), *this.period));
            }
            ready!(this.alarm.poll(cx));
        }
        Poll::Ready(this.latest.take())
    }
}

impl<St: TryStream> FusedStream for TryDebounce<St> {
    fn is_terminated(&self) -> bool {
        self.latest.is_ended()
    }
}

plain! {
    /// Stream of [`WsStreamExt::debounce`](super::WsStreamExt::debounce).
    Debounce<St> of TryDebounce<Plain> over latest.source.stream,
    yields St::Item, where St: Stream
}
