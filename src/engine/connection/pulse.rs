//! Whether the peer of an open socket is still there: when to ask, and when to give it up.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::vigil::{Doubt, Vigil};
use crate::config::Heartbeat;
use crate::engine::moment::Moment;

/// What a pong may take when it is in doubt whether the peer is still there.
const PROBE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Pulse {
    heard_at: Moment,
    /// When something must have followed the last ping, until it has.
    pong_due: Option<Moment>,
    vigil: Vigil,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Beat {
    Dead,
    Nothing,
    Ping,
    /// A ping at once, because of a doubt.
    Probe(Doubt),
}

impl Pulse {
    pub(super) fn new(now: Instant, wall: SystemTime, sleeps: Arc<AtomicU64>) -> Self {
        Self { heard_at: now.into(), pong_due: None, vigil: Vigil::new(now, wall, sleeps) }
    }

    /// Any frame is a sign of life.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now.into();
        self.pong_due = None;
    }

    pub(super) fn heard_at(&self) -> Instant {
        self.heard_at.at()
    }

    /// When to [check](Self::check) again: at least each interval, so that a task that stood still can
    /// be told from one that waits for a pong.
    pub(super) fn next_check(&self, now: Instant, heartbeat: &Heartbeat) -> Instant {
        self.due(heartbeat).min(now + heartbeat.interval)
    }

    fn due(&self, heartbeat: &Heartbeat) -> Instant {
        self.pong_due.map_or(self.heard_at.at() + heartbeat.interval, Moment::at)
    }

    /// Once per turn, after what was there to be heard; the turn's `timer` is or was due then. A silent peer is pinged after the interval.
    /// One that is in doubt is pinged at once, whatever is under way, and has less time to answer:
    /// what it owed while nobody could hear it is not held against it.
    pub(super) fn check(
        &mut self,
        now: Instant,
        wall: fn() -> SystemTime,
        timer: Instant,
        heartbeat: &Heartbeat,
    ) -> Beat {
        let (beat, timeout) = match self.vigil.turn(now, wall, timer, heartbeat.interval) {
            Some(doubt) => (Beat::Probe(doubt), heartbeat.timeout.min(PROBE)),
            None if self.due(heartbeat) > now => return Beat::Nothing,
            None if self.pong_due.is_some() => return Beat::Dead,
            None => (Beat::Ping, heartbeat.timeout),
        };
        self.pong_due = Some((now + timeout).into());
        beat
    }
}
