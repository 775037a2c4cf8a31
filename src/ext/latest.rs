//! The latest value of a source, and the notice that follows it.
//!
//! # Invariants
//!
//! 1. A value is replaced only by a later one with no notice between them.
//! 2. While a notice is held, nothing is taken.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::TryStream;
use pin_project_lite::pin_project;

use super::source::{Source, Stop};

pin_project! {
    pub(super) struct Latest<St>
    where
        St: TryStream,
    {
        #[pin]
        pub(super) source: Source<St>,
        value: Option<St::Ok>,
        notice: Option<St::Error>,
        fresh: bool,
    }
}

/// What a source that was drained has left.
pub(super) enum Drained<T, E> {
    /// To be yielded now: a notice, the value in front of one, the last value, or the end.
    Due(Option<Result<T, E>>),
    /// [`Latest::take`] has the value, if there is one.
    Idle {
        /// Whether it came since the last time.
        fresh: bool,
    },
}

impl<St: TryStream> Latest<St> {
    pub(super) fn new(stream: St) -> Self {
        Self { source: Source::new(stream), value: None, notice: None, fresh: false }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.source.is_ended() && self.value.is_none() && self.notice.is_none()
    }

    pub(super) fn has_value(&self) -> bool {
        self.value.is_some()
    }

    pub(super) fn take(self: Pin<&mut Self>) -> Option<Result<St::Ok, St::Error>> {
        self.project().value.take().map(Ok)
    }

    /// Takes all that is there.
    #[inline]
    pub(super) fn poll_drain(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Drained<St::Ok, St::Error>> {
        let mut this = self.project();
        if let Some(notice) = this.notice.take() {
            return Poll::Ready(Drained::Due(Some(Err(notice))));
        }
        let (value, fresh) = (&mut *this.value, &mut *this.fresh);
        let stop = this.source.as_mut().poll_take::<Infallible>(cx, |newer| {
            *value = Some(newer);
            *fresh = true;
            ControlFlow::Continue(())
        });
        Poll::Ready(match ready!(stop) {
            Stop::Break(never) => match never {},
            Stop::Notice(notice) => Drained::Due(Some(match this.value.take() {
                Some(value) => {
                    *this.notice = Some(notice);
                    Ok(value)
                }
                None => Err(notice),
            })),
            Stop::Ended => Drained::Due(this.value.take().map(Ok)),
            Stop::Idle => Drained::Idle { fresh: std::mem::take(this.fresh) },
        })
    }
}
