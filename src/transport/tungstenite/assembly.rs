//! How long a message may take from its first byte to its last.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::flood::Unfinished;

/// A timer that fires so late has waited for this program: it stood still, and so did its reading.
/// The message has its whole time anew.
const OURS: Duration = Duration::from_secs(1);

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
        let now = Instant::now();
        let stood_still = now.saturating_duration_since(timer.deadline()) >= OURS;
        let anew = now.checked_add(self.limit).filter(|_| stood_still);
        let due = anew.unwrap_or(due);
        if due <= now {
            return Poll::Ready(());
        }
        if stood_still {
            self.begun = Some((unfinished, now));
        }
        timer.as_mut().reset(due);
        timer.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::advance;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);
    const SECOND: Duration = Duration::from_secs(1);

    fn first() -> Option<Unfinished> {
        Some(Unfinished::numbered(1))
    }

    /// Whether it is overdue now.
    async fn is_overdue(assembly: &mut Assembly, unfinished: Option<Unfinished>) -> bool {
        poll_fn(|cx| Poll::Ready(assembly.poll_overdue(cx, unfinished).is_ready())).await
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_is_overdue_at_the_limit_and_wakes_whoever_waits() {
        let (mut assembly, start) = (Assembly::new(LIMIT), Instant::now());
        poll_fn(|cx| assembly.poll_overdue(cx, first())).await;
        // Timers are exact to a millisecond.
        assert!((LIMIT..LIMIT + SECOND / 100).contains(&start.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn each_message_has_the_whole_limit() {
        let mut assembly = Assembly::new(LIMIT);
        for number in 0..10 {
            for _ in 0..50 {
                assert!(!is_overdue(&mut assembly, Some(Unfinished::numbered(number))).await);
                advance(SECOND).await;
            }
        }
        assert!(!is_overdue(&mut assembly, None).await);
        for _ in 0..59 {
            assert!(!is_overdue(&mut assembly, Some(Unfinished::numbered(10))).await);
            advance(SECOND).await;
        }
        advance(SECOND).await;
        assert!(is_overdue(&mut assembly, Some(Unfinished::numbered(10))).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_in_which_we_stood_still_is_not_the_servers() {
        let mut assembly = Assembly::new(LIMIT);
        assert!(!is_overdue(&mut assembly, first()).await);
        advance(LIMIT + 100 * SECOND).await;
        assert!(!is_overdue(&mut assembly, first()).await, "nobody has looked for so long");
        let start = Instant::now();
        poll_fn(|cx| assembly.poll_overdue(cx, first())).await;
        assert!(start.elapsed() <= LIMIT, "and it ends all the same");
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_is_never_reached_is_none() {
        let mut assembly = Assembly::new(Duration::MAX);
        assert!(!is_overdue(&mut assembly, first()).await);
        assert!(assembly.timer.is_none());
    }
}
