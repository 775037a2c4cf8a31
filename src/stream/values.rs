//! Values without notices.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::{FusedStream, Stream};

use super::Subscription;
use crate::decode::FromMessage;

/// Stream of the values alone; created by [`Subscription::values`]. Ends with the subscription,
/// without the reason.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Values<T>(Subscription<T>);

impl<T: FromMessage> Values<T> {
    pub(super) fn new(subscription: Subscription<T>) -> Self {
        Self(subscription)
    }

    /// The next value; `None` after the end. The same as `StreamExt::next`, without an import.
    ///
    /// Cancel safe: dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The subscription, with everything that was not read.
    pub fn into_inner(self) -> Subscription<T> {
        self.0
    }
}

impl<T: FromMessage> Stream for Values<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        loop {
            match ready!(Pin::new(&mut self.0).poll_next(cx)) {
                Some(Ok(value)) => return Poll::Ready(Some(value)),
                Some(Err(_)) => {}
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<T: FromMessage> FusedStream for Values<T> {
    fn is_terminated(&self) -> bool {
        self.0.is_terminated()
    }
}
