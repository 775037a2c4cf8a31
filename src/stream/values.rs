//! Values without notices.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::{FusedStream, Stream};

use super::Subscription;
use super::many::{self, Many};
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

    /// Waits for the next value, and appends it to `buf` together with those that are there already:
    /// at most `limit` in all. Returns how many; 0 after the end, or if `limit` is 0.
    ///
    /// Allocates nothing but what `buf` needs to grow. Cancel safe: until it returns, no value is
    /// taken.
    pub async fn recv_many(&mut self, buf: &mut Vec<T>, limit: usize) -> usize {
        poll_fn(|cx| many::poll_recv_many(self, cx, buf, limit)).await
    }

    /// The subscription, with everything that was not read.
    pub fn into_inner(self) -> Subscription<T> {
        self.0
    }
}

impl<T: FromMessage> Many for Values<T> {
    type Item = T;

    fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(self).poll_next(cx)
    }

    fn one_now(&mut self, cx: &mut Context<'_>) -> Option<T> {
        loop {
            if let Ok(value) = self.0.one_now(cx)? {
                return Some(value);
            }
        }
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
