//! What transport, protocol and sessions of a replay share: the recording, how fast it is played, and
//! how far it is.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::cursor::Cursor;
use crate::record::recording::Recording;

/// Why all streams end with the recording.
pub(super) const END: &str = "the recording ends here";

pub(super) struct Shared {
    /// Records that have been passed, by the session that is ahead.
    pub(super) passed: AtomicU64,
    pub(super) recording: Recording,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) pace: Pace,
    /// Where the last session left off.
    pub(super) parked: Option<Cursor>,
    /// When the recording began to be played.
    pub(super) started: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) lossless: bool,
    pub(super) speed: f64,
}

impl Pace {
    pub(super) fn scaled(self, at: Duration) -> Duration {
        #[expect(clippy::float_cmp, reason = "no speed was asked for")]
        if self.speed == 1.0 { at } else { at.div_f64(self.speed) }
    }
}

impl Shared {
    pub(super) fn new(recording: Recording) -> Self {
        let pace = Pace { lossless: false, speed: 1.0 };
        let state = Mutex::new(State { pace, parked: None, started: None });
        Self { passed: AtomicU64::new(0), recording, state }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
