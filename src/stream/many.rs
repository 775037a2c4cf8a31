//! Taking what is there at once.

use std::task::{Context, Poll};

/// A source of items, some of which may be there already.
pub(super) trait Many {
    type Item;

    /// The next item; `None` after the end.
    fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::Item>>;

    /// The next item, if it is there and the task has not had its turn. Does not ask to be woken,
    /// so that a reader that is awake costs its publisher nothing.
    fn one_now(&mut self, cx: &mut Context<'_>) -> Option<Self::Item>;
}

/// Waits for one item, and appends it to `buf` with those that are there, `limit` at most. Ready
/// with how many.
pub(super) fn poll_recv_many<S: Many>(
    source: &mut S,
    cx: &mut Context<'_>,
    buf: &mut Vec<S::Item>,
    limit: usize,
) -> Poll<usize> {
    if limit == 0 {
        return Poll::Ready(0);
    }
    let Some(first) = std::task::ready!(source.poll_one(cx)) else { return Poll::Ready(0) };
    buf.push(first);
    let mut taken = 1;
    while taken < limit {
        let Some(item) = source.one_now(cx) else { break };
        buf.push(item);
        taken += 1;
    }
    Poll::Ready(taken)
}
