//! A value, and none of those that follow it for a while.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{FusedStream, Stream, TryStream};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::alarm::{Clock, after};
use super::source::{Source, Taken};

pin_project! {
    /// Stream of [`WsTryStreamExt::try_throttle_first`](super::WsTryStreamExt::try_throttle_first).
    #[must_use = "streams do nothing unless polled"]
    pub struct TryThrottleFirst<St> {
        #[pin]
        source: Source<St>,
        gate: Gate,
        period: Duration,
    }
}

/// Whether the next value passes.
enum Gate {
    Closed,
    ClosedUntil(Instant),
    Open,
}

impl<St> TryThrottleFirst<St> {
    pub(super) fn new(stream: St, period: Duration) -> Self {
        Self { source: Source::new(stream), gate: Gate::Open, period }
    }
}

access!(TryThrottleFirst<St>: TryStream, source.stream);

impl<St: TryStream> Stream for TryThrottleFirst<St> {
    type Item = Result<St::Ok, St::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        let mut clock = Clock::default();
        loop {
            let value = match ready!(this.source.as_mut().poll_take(cx)) {
                Taken::Value(value) => value,
                Taken::Notice(notice) => return Poll::Ready(Some(Err(notice))),
                Taken::Ended => return Poll::Ready(None),
                Taken::Idle => return Poll::Pending,
            };
            let is_open = match this.gate {
                Gate::Closed => false,
                Gate::ClosedUntil(then) => *then <= clock.now(),
                Gate::Open => true,
            };
            if is_open {
                if !this.period.is_zero() {
                    *this.gate = match after(clock.now(), *this.period) {
                        Some(then) => Gate::ClosedUntil(then),
                        None => Gate::Closed,
                    };
                }
                return Poll::Ready(Some(Ok(value)));
            }
        }
    }
}

impl<St: TryStream> FusedStream for TryThrottleFirst<St> {
    fn is_terminated(&self) -> bool {
        self.source.is_ended()
    }
}

plain! {
    /// Stream of [`WsStreamExt::throttle_first`](super::WsStreamExt::throttle_first).
    ThrottleFirst<St> of TryThrottleFirst<Plain> over source.stream,
    yields St::Item, where St: Stream
}
