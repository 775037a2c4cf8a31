//! The latest value while the consumer is busy.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::{FusedStream, Stream, TryStream};
use pin_project_lite::pin_project;

use super::latest::{Drained, Latest};

pin_project! {
    /// Stream of [`WsTryStreamExt::try_conflate`](super::WsTryStreamExt::try_conflate).
    #[must_use = "streams do nothing unless polled"]
    pub struct TryConflate<St>
    where
        St: TryStream,
    {
        #[pin]
        latest: Latest<St>,
    }
}

impl<St: TryStream> TryConflate<St> {
    pub(super) fn new(stream: St) -> Self {
        Self { latest: Latest::new(stream) }
    }
}

access!(TryConflate<St>: TryStream, latest.source.stream);

impl<St: TryStream> Stream for TryConflate<St> {
    type Item = Result<St::Ok, St::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut latest = self.project().latest;
        match ready!(latest.as_mut().poll_drain(cx)) {
            Drained::Due(item) => Poll::Ready(item),
            Drained::Idle { .. } => {
                latest.take().map_or(Poll::Pending, |item| Poll::Ready(Some(item)))
            }
        }
    }
}

impl<St: TryStream> FusedStream for TryConflate<St> {
    fn is_terminated(&self) -> bool {
        self.latest.is_ended()
    }
}

plain! {
    /// Stream of [`WsStreamExt::conflate`](super::WsStreamExt::conflate).
    Conflate<St> of TryConflate<Plain> over latest.source.stream,
    yields St::Item, where St: Stream
}
