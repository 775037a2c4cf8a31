//! Values in batches of a size and an age.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{FusedStream, Stream, TryStream};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::alarm::{Alarm, after};
use super::source::{Source, Stop};

pin_project! {
    /// Stream of [`WsTryStreamExt::try_batch_by`](super::WsTryStreamExt::try_batch_by).
    #[must_use = "streams do nothing unless polled"]
    pub struct TryBatchBy<St>
    where
        St: TryStream,
    {
        #[pin]
        source: Source<St>,
        alarm: Alarm,
        batch: Vec<St::Ok>,
        // Whether the alarm is set for this batch.
        is_set: bool,
        notice: Option<St::Error>,
        period: Duration,
        size: usize,
    }
}

impl<St: TryStream> TryBatchBy<St> {
    pub(super) fn new(stream: St, size: usize, period: Duration) -> Self {
        Self {
            source: Source::new(stream),
            alarm: Alarm::default(),
            batch: Vec::new(),
            is_set: false,
            notice: None,
            period,
            size: size.max(1),
        }
    }
}

access!(TryBatchBy<St>: TryStream, source.stream);

impl<St: TryStream> TryBatchBy<St> {
    /// Fills the batch with what is there. Ready when that is all of it: it is full, or a notice or
    /// the end follows, or its time has come.
    fn poll_fill(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.notice.is_some() {
            return Poll::Ready(());
        }
        let (batch, size) = (&mut *this.batch, *this.size);
        let stop = this.source.poll_take(cx, |value| {
            batch.push(value);
            if batch.len() < size { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        match ready!(stop) {
            Stop::Notice(notice) => *this.notice = Some(notice),
            Stop::Break(()) | Stop::Ended => {}
            Stop::Idle if this.batch.is_empty() => return Poll::Pending,
            Stop::Idle if this.period.is_zero() => {}
            Stop::Idle => {
                if !*this.is_set {
                    *this.is_set = true;
                    this.alarm.set(after(Instant::now(), *this.period));
                }
                return this.alarm.poll(cx);
            }
        }
        Poll::Ready(())
    }
}

impl<St: TryStream> Stream for TryBatchBy<St> {
    type Item = Result<Vec<St::Ok>, St::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        ready!(self.as_mut().poll_fill(cx));
        let this = self.project();
        *this.is_set = false;
        if this.batch.is_empty() {
            return Poll::Ready(this.notice.take().map(Err));
        }
        // The next one is likely to be as long.
        let next = Vec::with_capacity(this.batch.len());
        Poll::Ready(Some(Ok(std::mem::replace(this.batch, next))))
    }
}

impl<St: TryStream> FusedStream for TryBatchBy<St> {
    fn is_terminated(&self) -> bool {
        self.source.is_ended() && self.batch.is_empty() && self.notice.is_none()
    }
}

plain! {
    /// Stream of [`WsStreamExt::batch_by`](super::WsStreamExt::batch_by).
    BatchBy<St> of TryBatchBy<Plain> over source.stream,
    yields Vec<St::Item>, where St: Stream
}
