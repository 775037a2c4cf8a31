//! What a combinator takes its items from.
//!
//! # Invariants
//!
//! 1. The stream is not polled after its end.
//! 2. [`Taken::Idle`] means that nothing more is there, or that `MOST` items were taken in one go;
//!    never that the task's turn is over. So whoever yields on it yields what is newest.
//! 3. However many items are ready, a task gives way: to tokio's budget after `SHARE` items each,
//!    and where there is no such budget, after `MOST`.
//! 4. `Pending` and [`Taken::Idle`] leave a waker behind: the stream's, tokio's, or one that was
//!    woken at once.

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

/// What was there.
pub(super) enum Taken<T, E> {
    /// The end, again and again.
    Ended,
    /// Nothing for now.
    Idle,
    Notice(E),
    Value(T),
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
    /// Takes what comes next. Pending only if other tasks have to come first.
    pub(super) fn poll_take(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Taken<St::Ok, St::Error>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(Taken::Ended);
        }
        if *this.taken > 0 && *this.taken % SHARE == 0 {
            ready!(coop::poll_proceed(cx)).made_progress();
            if *this.taken >= MOST {
                *this.taken = 0;
                cx.waker().wake_by_ref();
                return Poll::Ready(Taken::Idle);
            }
        }
        match this.stream.try_poll_next(cx) {
            Poll::Ready(Some(item)) => {
                *this.taken += 1;
                Poll::Ready(item.map_or_else(Taken::Notice, Taken::Value))
            }
            Poll::Ready(None) => {
                *this.ended = true;
                Poll::Ready(Taken::Ended)
            }
            Poll::Pending => {
                // A stream of tokio's is pending also when the budget is used up, and has more.
                drop(ready!(coop::poll_proceed(cx)));
                *this.taken = 0;
                Poll::Ready(Taken::Idle)
            }
        }
    }
}
