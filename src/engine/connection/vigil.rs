//! Notices that the machine slept, or that the task stood still.
//!
//! While a machine sleeps, its monotonic clock stands still, and so does every timer: a socket that
//! died in the meantime would be found dead as late as one that died just now. The wall clock goes
//! on, and so tells of the sleep. A task that was not polled for long (a blocked runtime, a stopped
//! process) finds its timer overdue.
//!
//! Clocks are only compared, never believed: one that was set forward looks like a sleep, and costs
//! a ping.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::engine::moment::Moment;

/// How far the wall clock may get ahead at least before the machine must have slept. Clocks are put
/// right by less every day.
const SLEEP: Duration = Duration::from_secs(10);

/// What one connection has seen of the clocks.
#[derive(Debug)]
pub(super) struct Vigil {
    /// Both clocks at the latest look.
    looked: (Moment, SystemTime),
    /// Sleeps that any connection of the manager has noticed.
    sleeps: Arc<AtomicU64>,
    /// How many of them this connection knows of.
    sleeps_known: u64,
}

/// Something that makes it doubtful whether the peer is still there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Doubt {
    /// The machine slept, and this connection is the first to notice.
    Slept,
    /// Another connection has noticed that the machine slept.
    SleptSaysAnother,
    /// The task's turn came long after its timer.
    StoodStill,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slept => "the machine slept, or its clock was set forward",
            Self::SleptSaysAnother => "another connection says that the machine slept",
            Self::StoodStill => "the task or its process stood still",
        })
    }
}

impl Vigil {
    pub(super) fn new(now: Instant, wall: SystemTime, sleeps: Arc<AtomicU64>) -> Self {
        let sleeps_known = sleeps.load(Relaxed);
        Self { looked: (now.into(), wall), sleeps, sleeps_known }
    }

    /// Begins a turn of a task whose timer is or was `due`. The `wall` clock is looked at when the timer
    /// has come, or there is another reason for doubt. What is no longer than an `interval` is none: who
    /// hardly ever pings, or never, is in no doubt.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        wall: fn() -> SystemTime,
        due: Instant,
        interval: Duration,
    ) -> Option<Doubt> {
        let heard_of = self.sleeps.load(Relaxed) != self.sleeps_known;
        if due > now && !heard_of {
            return None;
        }
        let stood_still = now.saturating_duration_since(due) > interval;
        let slept = self.look(now, wall()) > interval.max(SLEEP);
        if heard_of {
            self.sleeps_known = self.sleeps.load(Relaxed);
            Some(Doubt::SleptSaysAnother)
        } else if slept {
            self.tell();
            Some(Doubt::Slept)
        } else {
            stood_still.then_some(Doubt::StoodStill)
        }
    }

    /// How far the wall clock has got ahead since the last look.
    fn look(&mut self, now: Instant, wall: SystemTime) -> Duration {
        let (before, wall_before) = std::mem::replace(&mut self.looked, (now.into(), wall));
        let passed = wall.duration_since(wall_before).unwrap_or_default(); // It may be set back.
        passed.saturating_sub(now.saturating_duration_since(before.at()))
    }

    /// One sleep is counted once, though many may notice it at the same time.
    fn tell(&mut self) {
        let known = self.sleeps_known;
        let told = self.sleeps.compare_exchange(known, known + 1, Relaxed, Relaxed);
        self.sleeps_known = told.map_or_else(|other| other, |_| known + 1);
    }
}

#[cfg(all(test, not(wsmux_shuttle)))]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const DAY: Duration = Duration::from_secs(86_400);

    fn vigil(sleeps: &Arc<AtomicU64>, now: Instant) -> Vigil {
        Vigil::new(now, SystemTime::UNIX_EPOCH + DAY, Arc::clone(sleeps))
    }

    /// A look in time, after `passed` by the monotonic clock, with the wall clock at a day and `WALL` seconds.
    fn look<const WALL: u64>(vigil: &mut Vigil, start: Instant, passed: Duration) -> Option<Doubt> {
        let wall = || SystemTime::UNIX_EPOCH + DAY + Duration::from_secs(WALL);
        vigil.turn(start + passed, wall, start + passed, 20 * SECOND)
    }

    #[test]
    fn a_sleep_is_what_the_wall_clock_is_ahead_of_the_monotonic_one() {
        let start = Instant::now();
        let mut vigil = vigil(&Arc::default(), start);
        assert_eq!(look::<20>(&mut vigil, start, 20 * SECOND), None);
        assert_eq!(look::<50>(&mut vigil, start, 40 * SECOND), None, "a clock put right");
        assert_eq!(look::<90>(&mut vigil, start, 60 * SECOND), None, "it was worth no ping");
        assert_eq!(look::<131>(&mut vigil, start, 80 * SECOND), Some(Doubt::Slept));
        assert_eq!(look::<151>(&mut vigil, start, 100 * SECOND), None, "it is told once");
        assert_eq!(look::<0>(&mut vigil, start, 120 * SECOND), None, "set back");
        assert_eq!(look::<20>(&mut vigil, start, 140 * SECOND), None);
    }

    #[test]
    fn a_task_whose_timer_is_late_by_more_than_an_interval_stood_still() {
        let start = Instant::now();
        let mut vigil = vigil(&Arc::default(), start);
        let mut turn = |now: u32, due: u32| {
            let wall = || SystemTime::UNIX_EPOCH;
            vigil.turn(start + now * SECOND, wall, start + due * SECOND, 20 * SECOND)
        };
        assert_eq!(turn(90, 90), None, "it waited for long, and was in time");
        assert_eq!(turn(110, 90), None);
        assert_eq!(turn(131, 110), Some(Doubt::StoodStill));
        assert_eq!(turn(131, 136), None);
    }

    #[test]
    fn what_one_notices_the_others_are_told_once() {
        let (start, sleeps) = (Instant::now(), Arc::default());
        let [mut first, mut second, mut third] = [(); 3].map(|()| vigil(&sleeps, start));
        assert_eq!(look::<60>(&mut first, start, SECOND), Some(Doubt::Slept));
        let not_time = |vigil: &mut Vigil| {
            let wall = || SystemTime::UNIX_EPOCH + DAY + 61 * SECOND;
            vigil.turn(start + 2 * SECOND, wall, start + 3 * SECOND, 20 * SECOND)
        };
        assert_eq!(not_time(&mut first), None);
        assert_eq!(not_time(&mut second), Some(Doubt::SleptSaysAnother));
        assert_eq!(look::<62>(&mut third, start, 3 * SECOND), Some(Doubt::SleptSaysAnother));
        for vigil in [&mut first, &mut second, &mut third] {
            assert_eq!(look::<64>(vigil, start, 5 * SECOND), None);
        }
        assert_eq!(sleeps.load(Relaxed), 1);
    }
}
