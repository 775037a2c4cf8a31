//! What something took, and what time it is for two processes.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// What something took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// CPU time of this process, the kernel's work for it included.
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
impl Cost {
    /// Nanoseconds of CPU time for each of `units`.
    pub(crate) fn cpu_ns(self, units: u64) -> f64 {
        self.cpu.as_nanos() as f64 / units as f64
    }

    /// Nanoseconds of wall time for each of `units`.
    pub(crate) fn wall_ns(self, units: u64) -> f64 {
        self.wall.as_nanos() as f64 / units as f64
    }

    /// Share of the time that the client was at work: near 100 %, the server was no bottleneck.
    pub(crate) fn busy(self) -> f64 {
        100.0 * self.cpu.as_secs_f64() / self.wall.as_secs_f64()
    }
}

/// Runs from its creation.
pub(crate) struct Clock {
    cpu: Duration,
    wall: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { cpu: cpu(), wall: Instant::now() }
    }

    pub(crate) fn stop(&self) -> Cost {
        Cost { cpu: cpu().saturating_sub(self.cpu), wall: self.wall.elapsed() }
    }
}

fn cpu() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
}

/// The time by a clock that all processes of a machine share.
pub(crate) fn monotonic() -> Duration {
    clock_gettime(ClockId::Monotonic).try_into().unwrap()
}
