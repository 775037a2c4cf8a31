//! What a manager did lately: how often each thing that should be rare has happened.

use std::time::Duration;

use tokio::time::Instant;

use super::window::{Lately, MINUTE, Window, Windows};

/// How often what should be rare has happened lately; part of [`Health`](crate::Health).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Activity {
    /// Messages that could not be read as the type subscribed to, per reader.
    pub decode_errors: Lately,
    /// Sockets lost.
    pub disconnects: Lately,
    /// Streams that ended for another reason than that nobody wanted them.
    pub ended: Lately,
    /// Dials that failed since the process had no file descriptor or port left.
    pub exhausted: Lately,
    /// Messages missed by readers that lagged, summed over all of them.
    pub lagged: Lately,
    /// Messages received in the last five minutes.
    pub messages: u64,
    /// Subscriptions and leases refused at the connection limit.
    pub refused: Lately,
    /// Retries scheduled.
    pub retries: Lately,
    /// Messages for nobody: of no stream known, or of one not joined.
    pub unroutable: Lately,
}

/// The running counts behind [`Activity`]. Messages are counted per batch, all else as it happens.
#[derive(Debug)]
pub(crate) struct Recent {
    pub(crate) decode_errors: Windows,
    pub(crate) disconnects: Windows,
    pub(crate) ended: Windows,
    pub(crate) exhausted: Windows,
    pub(crate) lagged: Windows,
    pub(crate) messages: Window,
    pub(crate) refused: Windows,
    pub(crate) retries: Windows,
    pub(crate) unroutable: Windows,
    since: Instant,
}

impl Recent {
    fn new(now: Instant) -> Self {
        Self {
            decode_errors: Windows::new(now),
            disconnects: Windows::new(now),
            ended: Windows::new(now),
            exhausted: Windows::new(now),
            lagged: Windows::new(now),
            messages: Window::new(now, 5 * MINUTE),
            refused: Windows::new(now),
            retries: Windows::new(now),
            unroutable: Windows::new(now),
            since: now,
        }
    }

    /// Time since the manager was built.
    pub(crate) fn uptime(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    pub(crate) fn snapshot(&self, now: Instant) -> Activity {
        Activity {
            decode_errors: self.decode_errors.lately(now),
            disconnects: self.disconnects.lately(now),
            ended: self.ended.lately(now),
            exhausted: self.exhausted.lately(now),
            lagged: self.lagged.lately(now),
            messages: self.messages.sum(now),
            refused: self.refused.lately(now),
            retries: self.retries.lately(now),
            unroutable: self.unroutable.lately(now),
        }
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self::new(Instant::now())
    }
}
