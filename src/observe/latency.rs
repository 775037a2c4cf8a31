//! How old messages are when they arrive, by the timestamps in them.

use std::mem;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::window::MINUTE;

/// How old messages were when they were read from the socket: the time by our wall clock minus the
/// timestamp in the message. Measured by
/// [`Subscription::latency_by`](crate::Subscription::latency_by).
///
/// It holds the last one to two minutes, and is exact to two digits. **The difference between the
/// two clocks is in it**: 80 ms may be 10 ms on the way and a clock 70 ms fast. What only compares
/// (today with yesterday, one venue's host with another's) is not harmed; for absolute figures
/// keep the machine's clock in step with NTP. Messages that seem to come from the future count as
/// zero, and [`ahead`](Self::ahead) says how far ahead the other clock runs at least.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Latency {
    /// How far ahead of our clock a timestamp was at most; zero if none was.
    pub ahead: Duration,
    /// Messages measured.
    pub count: u64,
    /// The largest.
    pub max: Duration,
    /// The smallest.
    pub min: Duration,
    /// The median.
    pub p50: Duration,
    /// What 99 of 100 do not exceed.
    pub p99: Duration,
}

/// Measures latencies over the last one to two minutes.
#[derive(Debug)]
pub(crate) struct Delays {
    ahead: [Duration; 2],
    earlier: Histogram<u32>,
    present: Histogram<u32>,
    since: Instant,
}

/// Latencies above it count as so long.
const LONGEST: Duration = Duration::from_secs(3600);

impl Delays {
    pub(crate) fn new(now: Instant) -> Self {
        Self { ahead: [Duration::ZERO; 2], earlier: empty(), present: empty(), since: now }
    }

    /// A message that was sent at `sent` arrived at `received`, both by the wall clock.
    pub(crate) fn record(&mut self, sent: SystemTime, received: SystemTime, now: Instant) {
        self.turn(now);
        let latency = match received.duration_since(sent) {
            Ok(latency) => latency.min(LONGEST),
            Err(e) => {
                self.ahead[1] = self.ahead[1].max(e.duration());
                Duration::ZERO
            }
        };
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        // It grows as far as it must; what is bounded by an hour always fits.
        let _ = self.present.record(micros);
    }

    /// What was measured lately; `None` if nothing was.
    pub(crate) fn latency(&mut self, now: Instant) -> Option<Latency> {
        self.turn(now);
        let mut both = self.present.clone();
        both.add(&self.earlier).ok()?;
        if both.is_empty() {
            return None;
        }
        Some(Latency {
            ahead: self.ahead[0].max(self.ahead[1]),
            count: both.len(),
            max: Duration::from_micros(both.max()),
            min: Duration::from_micros(both.min()),
            p50: Duration::from_micros(both.value_at_quantile(0.5)),
            p99: Duration::from_micros(both.value_at_quantile(0.99)),
        })
    }

    /// Forgets what is older than a minute before the present one.
    fn turn(&mut self, now: Instant) {
        let past = now.saturating_duration_since(self.since);
        if past < MINUTE {
            return;
        }
        mem::swap(&mut self.earlier, &mut self.present);
        self.present.reset();
        self.ahead = [self.ahead[1], Duration::ZERO];
        if past >= 2 * MINUTE {
            self.earlier.reset();
            self.ahead[0] = Duration::ZERO;
            self.since = now;
        } else {
            self.since += MINUTE;
        }
    }
}

/// A histogram exact to two digits, which takes up more memory only as it meets larger values.
fn empty() -> Histogram<u32> {
    Histogram::new(2).expect("two digits are within the bounds of zero and five")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SENT: SystemTime = SystemTime::UNIX_EPOCH;

    fn about(said: Duration, right: Duration) -> bool {
        said.abs_diff(right) <= right / 100
    }

    #[test]
    fn the_quantiles_are_those_of_what_was_recorded() {
        let now = Instant::now();
        let mut delays = Delays::new(now);
        assert_eq!(delays.latency(now), None);
        (1..=1000).for_each(|n| delays.record(SENT, SENT + n * MS, now));
        let latency = delays.latency(now).unwrap();
        assert!(about(latency.p50, 500 * MS), "{latency:?}");
        assert!(about(latency.p99, 990 * MS), "{latency:?}");
        assert!(about(latency.max, 1000 * MS) && about(latency.min, MS), "{latency:?}");
        assert_eq!((latency.count, latency.ahead), (1000, Duration::ZERO));
    }

    #[test]
    fn a_message_from_the_future_counts_as_zero_and_tells_how_far_ahead_it_is() {
        let now = Instant::now();
        let mut delays = Delays::new(now);
        delays.record(SENT + 70 * MS, SENT, now);
        delays.record(SENT + 30 * MS, SENT, now);
        let latency = delays.latency(now).unwrap();
        assert_eq!((latency.max, latency.ahead, latency.count), (Duration::ZERO, 70 * MS, 2));
    }

    #[test]
    fn what_is_older_than_two_minutes_is_forgotten_and_what_is_younger_than_one_is_not() {
        let start = Instant::now();
        let mut delays = Delays::new(start);
        delays.record(SENT + MS, SENT, start);
        for (seconds, count) in [(59, 1), (60, 1), (119, 1), (120, 0)] {
            let latency = delays.latency(start + Duration::from_secs(seconds));
            let ahead = if count > 0 { MS } else { Duration::ZERO };
            let latency = latency.unwrap_or_default();
            assert_eq!((latency.count, latency.ahead), (count, ahead), "after {seconds} s");
        }
        delays.record(SENT, SENT + MS, start + Duration::from_secs(300));
        assert_eq!(delays.latency(start + Duration::from_secs(420)), None);
    }

    #[test]
    fn no_timestamp_is_too_odd() {
        let now = Instant::now();
        let mut delays = Delays::new(now);
        let far = SENT + Duration::from_secs(1 << 40);
        delays.record(SENT, far, now);
        delays.record(far, SENT, now);
        let latency = delays.latency(now).unwrap();
        assert!(about(latency.max, LONGEST), "{latency:?}");
        assert_eq!(latency.min, Duration::ZERO);
    }
}
