//! How fast one client may send.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many messages per second, evenly, with a burst of as many: by the "virtual scheduling" form of the
/// generic cell rate algorithm (ITU-T I.371). One instant per client, and no timer.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Pace {
    /// When everything would be used up that was sent so far.
    used_up: Mutex<Option<Instant>>,
}

impl Pace {
    /// Takes note of one message; `false` where it is one too many, which costs nothing then.
    pub(in crate::gateway) fn take(&self, per_second: u32) -> bool {
        let Some(apart) = Duration::from_secs(1).checked_div(per_second) else { return false };
        let now = Instant::now();
        let mut used_up = self.used_up.lock().unwrap_or_else(PoisonError::into_inner);
        let next = used_up.map_or(now, |at| at.max(now)) + apart;
        let is_due = next.duration_since(now) <= Duration::from_secs(1);
        if is_due {
            *used_up = Some(next);
        }
        is_due
    }

    /// How long until one more may come; a minute where none ever may.
    pub(in crate::gateway) fn due_in(&self, per_second: u32) -> Duration {
        let second = Duration::from_secs(1);
        let Some(apart) = second.checked_div(per_second) else { return 60 * second };
        let now = Instant::now();
        let used_up = *self.used_up.lock().unwrap_or_else(PoisonError::into_inner);
        let next = used_up.map_or(now, |at| at.max(now)) + apart;
        next.duration_since(now).saturating_sub(second)
    }

    /// Whether it is as if nothing had come yet.
    pub(in crate::gateway) fn is_idle(&self) -> bool {
        let used_up = *self.used_up.lock().unwrap_or_else(PoisonError::into_inner);
        used_up.is_none_or(|at| at <= Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_a_second_may_come_and_then_one_by_one() {
        let pace = Pace::default();
        let taken = |pace: &Pace| (0..100).filter(|_| pace.take(10)).count();
        assert_eq!(taken(&pace), 10);
        tokio::time::advance(Duration::from_millis(99)).await;
        assert_eq!(taken(&pace), 0);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(taken(&pace), 1);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(taken(&pace), 10, "what was not sent is not saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_may_send_nothing_may_send_nothing() {
        assert!(!Pace::default().take(0));
        assert!(Pace::default().take(u32::MAX));
    }
}
