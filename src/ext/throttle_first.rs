//! A value, and none of those that follow it for a while.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{FusedStream, Stream, TryStream};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::alarm::{Clock, after};
use super::source::Source;

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

impl Gate {
    /// Whether a value passes. If it does, the gate closes behind it.
    fn passes(&mut self, period: Duration, clock: &mut Clock) -> bool {
        let is_open = match self {
            Self::Closed => false,
            Self::ClosedUntil(then) => *then <= clock.now(),
            Self::Open => true,
        };
        if is_open && !period.is_zero() {
            *self = after(clock.now(), period).map_or(Self::Closed, Self::ClosedUntil);
        }
        is_open
    }
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
        let this = self.project();
        let (gate, period) = (this.gate, *this.period);
        let mut clock = Clock::default();
        let stop = this.source.poll_take(cx, |value| {
            if gate.passes(period, &mut clock) {
                ControlFlow::Break(value)
            } else {
                ControlFlow::Continue(())
            }
        });
        ready!(stop).into_poll()
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
