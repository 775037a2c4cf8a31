//! The latest value of each key while the consumer is busy.

use std::hash::Hash;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::{FusedStream, Stream, TryStream};
use pin_project_lite::pin_project;

use super::queue::KeyedQueue;
use super::source::{Source, Stop};

/// Keys that may wait unless [`max_keys`](ConflateBy::max_keys) says otherwise.
const MAX_KEYS: usize = 65_536;

pin_project! {
    /// Stream of [`WsTryStreamExt::try_conflate_by`](super::WsTryStreamExt::try_conflate_by).
    #[must_use = "streams do nothing unless polled"]
    pub struct TryConflateBy<St, K, F>
    where
        St: TryStream,
    {
        #[pin]
        source: Source<St>,
        key: F,
        max_keys: usize,
        notice: Option<St::Error>,
        queue: KeyedQueue<K, St::Ok>,
    }
}

impl<St: TryStream, K, F> TryConflateBy<St, K, F> {
    pub(super) fn new(stream: St, key: F) -> Self {
        Self {
            source: Source::new(stream),
            key,
            max_keys: MAX_KEYS,
            notice: None,
            queue: KeyedQueue::new(),
        }
    }

    /// As [`ConflateBy::max_keys`].
    pub fn max_keys(mut self, max: usize) -> Self {
        self.max_keys = max.max(1);
        self
    }
}

access!(TryConflateBy<St, K, F>: TryStream, source.stream);

impl<St, K, F> Stream for TryConflateBy<St, K, F>
where
    St: TryStream,
    K: Eq + Hash,
    F: FnMut(&St::Ok) -> K,
{
    type Item = Result<St::Ok, St::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        let (queue, max_keys) = (&mut *this.queue, *this.max_keys);
        let mut is_ended = false;
        if this.notice.is_none() && queue.len() < max_keys {
            let stop = this.source.as_mut().poll_take(cx, |value| {
                queue.put((this.key)(&value), value);
                if queue.len() < max_keys {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            });
            match ready!(stop) {
                Stop::Notice(notice) => *this.notice = Some(notice),
                Stop::Ended => is_ended = true,
                Stop::Break(()) | Stop::Idle => {}
            }
        }
        if let Some(value) = this.queue.pop_front() {
            return Poll::Ready(Some(Ok(value)));
        }
        match this.notice.take() {
            Some(notice) => Poll::Ready(Some(Err(notice))),
            None if is_ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<St, K, F> FusedStream for TryConflateBy<St, K, F>
where
    St: TryStream,
    K: Eq + Hash,
    F: FnMut(&St::Ok) -> K,
{
    fn is_terminated(&self) -> bool {
        self.source.is_ended() && self.queue.is_empty() && self.notice.is_none()
    }
}

plain! {
    /// Stream of [`WsStreamExt::conflate_by`](super::WsStreamExt::conflate_by).
    ConflateBy<St, K, F> of TryConflateBy<Plain, K, F> over source.stream,
    yields St::Item, where St: Stream, K: Eq + Hash, F: FnMut(&St::Item) -> K
}

impl<St: Stream, K, F> ConflateBy<St, K, F> {
    /// The most keys that may wait; 65,536 by default. Zero is one.
    ///
    /// While so many wait, nothing more is taken from the stream, whose own buffer then holds what
    /// comes. So a feed that invents keys costs no more memory than this, and nothing is lost in
    /// silence: a [`Subscription`](crate::Subscription) whose reader is behind for too long says so.
    pub fn max_keys(mut self, max: usize) -> Self {
        self.form = self.form.max_keys(max);
        self
    }
}
