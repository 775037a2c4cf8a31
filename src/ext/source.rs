//! What a combinator takes its items from.
//!
//! # Invariants
//!
//! 1. The stream is not polled after its end.
//! 2. [`Stop::Idle`] means that nothing more is there, or that `MOST` items were taken in one go;
//!    never that the task's turn is over. So whoever yields on it yields what is newest.
//! 3. However many items are ready, a task gives way: to tokio's budget after `SHARE` items each,
//!    and where there is no such budget, after `MOST`.
//! 4. `Pending` and [`Stop::Idle`] leave a waker behind: the stream's, tokio's, or one that was
//!    woken at once.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::TryStream;
use pin_project_lite::pin_project;
use tokio::task::coop;

/// Items per unit of tokio's budget; as many as a connection publishes at once.
const SHARE: u32 = 128;

/// The most that is taken before a combinator has to look up: a whole budget of tokio's.
pub(super) const MOST: u32 = 128 * SHARE;

pin_project! {
    pub(super) struct Source<St> {
        #[pin]
        pub(super) stream: St,
        ended: bool,
        // Since the stream last had nothing.
        taken: u32,
    }
}

/// Why no more is taken.
pub(super) enum Stop<B, E> {
    /// Who took the values wants no more.
    Break(B),
    /// The end, again and again.
    Ended,
    /// Nothing is there for now.
    Idle,
    Notice(E),
}

impl<T, E> Stop<T, E> {
    /// What a combinator that holds nothing yields.
    pub(super) fn into_poll(self) -> Poll<Option<Result<T, E>>> {
        match self {
            Self::Break(value) => Poll::Ready(Some(Ok(value))),
            Self::Ended => Poll::Ready(None),
            Self::Idle => Poll::Pending,
            Self::Notice(notice) => Poll::Ready(Some(Err(notice))),
        }
    }
}

impl<St> Source<St> {
    pub(super) fn new(stream: St) -> Self {
        Self { stream, ended: false, taken: 0 }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }
}

impl<St: TryStream> Source<St> {
    /// Hands the values that are there to `take`. Pending only if other tasks have to come first.
    #[inline]
    pub(super) fn poll_take<B>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut take: impl FnMut(St::Ok) -> ControlFlow<B>,
    ) -> Poll<Stop<B, St::Error>> {
        let mut this = self.project();
        if *this.ended {
            return Poll::Ready(Stop::Ended);
        }
        loop {
            if *this.taken > 0 && *this.taken % SHARE == 0 {
                ready!(coop::poll_proceed(cx)).made_progress();
                if *this.taken >= MOST {
                    *this.taken = 0;
                    cx.waker().wake_by_ref();
                    return Poll::Ready(Stop::Idle);
                }
            }
            match this.stream.as_mut().try_poll_next(cx) {
                Poll::Ready(Some(Ok(value))) => {
                    *this.taken += 1;
                    if let ControlFlow::Break(stop) = take(value) {
                        return Poll::Ready(Stop::Break(stop));
                    }
                }
                Poll::Ready(Some(Err(notice))) => {
                    *this.taken += 1;
                    return Poll::Ready(Stop::Notice(notice));
                }
                Poll::Ready(None) => {
                    *this.ended = true;
                    return Poll::Ready(Stop::Ended);
                }
                Poll::Pending => {
                    // One of tokio's is pending also when the budget is used up, and has more.
                    drop(ready!(coop::poll_proceed(cx)));
                    *this.taken = 0;
                    return Poll::Ready(Stop::Idle);
                }
            }
        }
    }
}
