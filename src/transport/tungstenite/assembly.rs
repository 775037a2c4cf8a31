//! How long a message may take from its first byte to its last.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::guard::Unfinished;

/// The deadline of what has begun to come. There is a timer only where something was in the midst of
/// coming when there was nothing more to read, and it is not moved for each message.
#[derive(Debug)]
pub(super) struct Assembly {
    begun: Option<(Unfinished, Instant)>,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Assembly {
    pub(super) fn new(limit: Duration) -> Self {
        Self { begun: None, limit, timer: None }
    }

    /// Ready once `unfinished` has been the same for too long. To be asked whenever there is nothing
    /// to read.
    pub(super) fn poll_overdue(
        &mut self,
        cx: &mut Context<'_>,
        unfinished: Option<Unfinished>,
    ) -> Poll<()> {
        let Some(unfinished) = unfinished else {
            // A timer that is armed stays: most likely it serves the next one.
            self.begun = None;
            self.timer.take_if(|timer| timer.is_elapsed());
            return Poll::Pending;
        };
        let begun = match self.begun {
            Some((same, begun)) if same == unfinished => begun,
            _ => {
                let now = Instant::now();
                self.begun = Some((unfinished, now));
                now
            }
        };
        let Some(due) = begun.checked_add(self.limit) else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        ready!(timer.as_mut().poll(cx));
        if due <= Instant::now() {
            return Poll::Ready(());
        }
        timer.as_mut().reset(due);
        timer.as_mut().poll(cx)
    }
}
