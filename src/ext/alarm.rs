//! Time for combinators: one timer that is set lazily, and a clock that is read seldom.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// What is this far away never comes; beyond it, clocks overflow. 30 years, as in tokio.
const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);

/// `period` after `now`; `None` for never.
pub(super) fn after(now: Instant, period: Duration) -> Option<Instant> {
    if is_never(period) { None } else { now.checked_add(period) }
}

pub(super) fn is_never(period: Duration) -> bool {
    period >= FAR
}

/// Goes off once at a time that may be moved as often as one likes: the timer below is touched
/// only where it would go off too late, and when it has gone off too early.
#[derive(Default)]
pub(super) struct Alarm {
    due: Option<Instant>,
    // Made with the first alarm, within the runtime that polls.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Moves the alarm; `None` for never.
    pub(super) fn set(&mut self, due: Option<Instant>) {
        self.due = due;
    }

    /// Ready when it is due.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.due else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if sleep.deadline() > due {
            sleep.as_mut().reset(due);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }
}

/// The time within one poll, read again after each `EVERY` uses.
#[derive(Default)]
pub(super) struct Clock {
    now: Option<Instant>,
    uses: u32,
}

const EVERY: u32 = 64;

impl Clock {
    pub(super) fn now(&mut self) -> Instant {
        self.uses += 1;
        match self.now {
            Some(now) if self.uses % EVERY != 0 => now,
            _ => *self.now.insert(Instant::now()),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_period_beyond_any_clock_is_never() {
        let now = Instant::now();
        for period in [Duration::MAX, Duration::from_secs(u64::MAX / 2), FAR] {
            assert_eq!(after(now, period), None, "{period:?}");
        }
        assert!(after(now, FAR - MS).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_goes_off_when_due_however_often_it_is_moved() {
        let start = Instant::now();
        let mut alarm = Alarm::default();
        let ring = async |alarm: &mut Alarm, at: Duration| {
            alarm.set(Some(start + at));
            std::future::poll_fn(|cx| alarm.poll(cx)).await;
            assert_eq!(start.elapsed(), at);
        };
        ring(&mut alarm, 10 * MS).await;
        ring(&mut alarm, 20 * MS).await;
        // Later, while the timer below stands at an earlier time.
        for at in 21..30 {
            alarm.set(Some(start + at * MS));
            assert!(poll!(std::future::poll_fn(|cx| alarm.poll(cx))).is_pending());
        }
        ring(&mut alarm, 40 * MS).await;
        // Earlier.
        alarm.set(Some(start + 99 * MS));
        assert!(poll!(std::future::poll_fn(|cx| alarm.poll(cx))).is_pending());
        ring(&mut alarm, 50 * MS).await;
        alarm.set(None);
        assert!(poll!(std::future::poll_fn(|cx| alarm.poll(cx))).is_pending());
    }
}
