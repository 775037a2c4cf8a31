//! When a server is asked for a sign of life by a message, and until when it has to answer.

use std::time::Duration;

use tokio::time::Instant;

/// The clock of one socket.
#[derive(Debug)]
pub(super) struct Pulse {
    /// By when an answer is due.
    due: Option<Instant>,
    interval: Duration,
    /// When it is asked next; `None` before the socket is open.
    next: Option<Instant>,
    on_silence: bool,
    timeout: Duration,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Beat {
    Ask,
    /// The answer is overdue. Said once.
    Dead,
    Rest,
}

impl Pulse {
    /// Asks after each `silence`, for an answer within `timeout`.
    pub(super) fn on_silence(silence: Duration, timeout: Duration) -> Self {
        Self { due: None, interval: silence, next: None, on_silence: true, timeout }
    }

    /// Asks each `interval`, whatever comes meanwhile, for an answer within `timeout`.
    pub(super) fn steady(interval: Duration, timeout: Duration) -> Self {
        Self { on_silence: false, ..Self::on_silence(interval, timeout) }
    }

    /// The socket has opened.
    pub(super) fn start(&mut self, now: Instant) {
        self.next = now.checked_add(self.interval);
    }

    /// Something came.
    pub(super) fn heard(&mut self, now: Instant) {
        if self.on_silence && self.next.is_some() {
            self.start(now);
        }
    }

    /// The answer came.
    pub(super) fn answered(&mut self) {
        self.due = None;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.into_iter().chain(self.next).min()
    }

    pub(super) fn tick(&mut self, now: Instant) -> Beat {
        if self.due.is_some_and(|due| due <= now) {
            (self.due, self.next) = (None, None);
            return Beat::Dead;
        }
        if self.next.is_none_or(|next| next > now) {
            return Beat::Rest;
        }
        self.start(now);
        if self.due.is_none() {
            self.due = now.checked_add(self.timeout);
        }
        Beat::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silence_is_asked_about_and_what_comes_puts_it_off() {
        let (mut pulse, now) = (Pulse::on_silence(10 * SECOND, 4 * SECOND), Instant::now());
        assert_eq!((pulse.deadline(), pulse.tick(now)), (None, Beat::Rest));
        pulse.start(now);
        pulse.heard(now + SECOND);
        assert_eq!(pulse.tick(now + 10 * SECOND), Beat::Rest);
        assert_eq!(pulse.tick(now + 11 * SECOND), Beat::Ask);
        assert_eq!(pulse.deadline(), Some(now + 15 * SECOND));
        pulse.answered();
        pulse.heard(now + 12 * SECOND);
        assert_eq!(pulse.deadline(), Some(now + 22 * SECOND));
    }

    #[test]
    fn who_does_not_answer_is_dead_once() {
        let (mut pulse, now) = (Pulse::steady(3 * SECOND, 4 * SECOND), Instant::now());
        pulse.start(now);
        pulse.heard(now + 2 * SECOND);
        assert_eq!(pulse.tick(now + 3 * SECOND), Beat::Ask, "whatever comes");
        assert_eq!(pulse.tick(now + 6 * SECOND), Beat::Ask, "and does not move what is due");
        assert_eq!(pulse.tick(now + 7 * SECOND), Beat::Dead);
        assert_eq!((pulse.deadline(), pulse.tick(now + 99 * SECOND)), (None, Beat::Rest));
    }
}
