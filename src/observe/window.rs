//! Counts over sliding windows: the last minute, the last five, the last hour.
//!
//! A [`Window`] is a ring of 60 buckets, each of a fixed slice of time. It needs no timer and no
//! lock: who counts adds to the bucket of the time it has, and who reads adds up the buckets that
//! are young enough.
//!
//! # Invariants
//!
//! 1. A sum holds everything counted in the last 59 buckets of time and in the present one, and
//!    nothing older: it covers the window but for at most one bucket, a sixtieth of it.
//! 2. A bucket carries the number of its slice of time, so a count that nobody has looked at for
//!    days is not mistaken for a new one.
//! 3. A count stops at the largest that a bucket can hold, `u32::MAX`; it never wraps.
//! 4. What has never happened has no buckets: most of what is counted should be rare.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

const BUCKETS: u64 = 60;

/// How often something happened lately.
///
/// Each count is exact, but that the window may be short of its length by a sixtieth.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Lately {
    /// In the last minute.
    pub minute: u64,
    /// In the last five minutes.
    pub five_minutes: u64,
    /// In the last hour.
    pub hour: u64,
}

impl Lately {
    /// The last minute's count per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        float(self.minute) / 60.0
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of events are far below 2^53")]
pub(super) fn float(n: u64) -> f64 {
    n as f64
}

/// What behind [`Lately`] counts.
#[derive(Debug)]
pub(crate) struct Windows {
    minute: Window,
    five_minutes: Window,
    hour: Window,
}

impl Windows {
    pub(crate) fn new(origin: Instant) -> Self {
        Self {
            minute: Window::new(origin, MINUTE),
            five_minutes: Window::new(origin, 5 * MINUTE),
            hour: Window::new(origin, 60 * MINUTE),
        }
    }

    pub(crate) fn add(&self, n: u64, now: Instant) {
        self.minute.add(n, now);
        self.five_minutes.add(n, now);
        self.hour.add(n, now);
    }

    pub(crate) fn lately(&self, now: Instant) -> Lately {
        Lately {
            minute: self.minute.sum(now),
            five_minutes: self.five_minutes.sum(now),
            hour: self.hour.sum(now),
        }
    }
}

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// A count over the last `length`.
#[derive(Debug)]
pub(crate) struct Window {
    /// In the upper half the number of the slice, from 1; in the lower half its count.
    buckets: OnceLock<Box<[AtomicU64]>>,
    origin: Instant,
    slice: Duration,
}

impl Window {
    pub(crate) fn new(origin: Instant, length: Duration) -> Self {
        Self { buckets: OnceLock::new(), origin, slice: length / BUCKETS as u32 }
    }

    /// Counts `n` at `now`. What comes later than a whole window is left out.
    pub(crate) fn add(&self, n: u64, now: Instant) {
        let slice = self.number(now);
        let buckets = self.buckets.get_or_init(|| (0..BUCKETS).map(|_| 0.into()).collect());
        let bucket = &buckets[(slice % BUCKETS) as usize];
        let added = |old: u64| {
            let (of, count) = unpack(old);
            match of.cmp(&slice) {
                std::cmp::Ordering::Less => Some(pack(slice, n)),
                std::cmp::Ordering::Equal => Some(pack(slice, count.saturating_add(n))),
                std::cmp::Ordering::Greater => None,
            }
        };
        let _ = bucket.fetch_update(Relaxed, Relaxed, added);
    }

    /// What was counted in the window that ends at `now`.
    pub(crate) fn sum(&self, now: Instant) -> u64 {
        let last = self.number(now);
        let buckets = self.buckets.get().into_iter().flatten();
        let buckets = buckets.map(|bucket| unpack(bucket.load(Relaxed)));
        // What was counted by a clock ahead of ours is no older than the window.
        buckets.filter(|(slice, _)| slice + BUCKETS > last).map(|(_, count)| count).sum()
    }

    /// The number of the slice that `now` is in. Zero is of none.
    fn number(&self, now: Instant) -> u64 {
        let slice = nanos(now.saturating_duration_since(self.origin)) / nanos(self.slice).max(1);
        slice.min(LAST - 1) + 1
    }
}

/// The largest count of a bucket, and the number of the last slice.
const LAST: u64 = u32::MAX as u64;

/// Up to 584 years, in nanoseconds.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into())
}

fn pack(slice: u64, count: u64) -> u64 {
    slice << 32 | count.min(LAST)
}

fn unpack(bucket: u64) -> (u64, u64) {
    (bucket >> 32, bucket & LAST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Everything that was counted, and when.
    #[derive(Default)]
    struct Naive(Vec<(Duration, u64)>);

    impl Naive {
        /// What the window may say at `now`: what is surely in it, and what is at most.
        fn bounds(&self, length: Duration, now: Duration) -> (u64, u64) {
            let younger_than = |age: Duration| {
                let young = self.0.iter().filter(|(at, _)| *at + age > now);
                young.map(|(_, n)| n).sum::<u64>()
            };
            (younger_than(length - length / 60), younger_than(length))
        }
    }

    /// Whether a window that is told and asked by `add` and `sum` says what the naive one does.
    fn agrees(
        steps: &[(u64, u64)],
        window: &Window,
        sum: impl Fn(&Window, Instant) -> u64,
    ) -> Result<(), String> {
        let length = window.slice * BUCKETS as u32;
        let mut naive = Naive::default();
        let mut now = Duration::ZERO;
        for &(millis, n) in steps {
            now += Duration::from_millis(millis);
            window.add(n, window.origin + now);
            naive.0.push((now, n));
            let (least, most) = naive.bounds(length, now);
            let said = sum(window, window.origin + now);
            if !(least..=most).contains(&said) {
                return Err(format!("{said} at {now:?} is not within {least}..={most}"));
            }
        }
        Ok(())
    }

    fn steps() -> impl Strategy<Value = Vec<(u64, u64)>> {
        let millis = prop_oneof![0..2_000_u64, 0..70_000_u64, Just(0), Just(59_000), Just(60_000)];
        proptest::collection::vec((millis, 0..5_u64), 1..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_window_counts_what_a_naive_one_does(steps in steps()) {
            let window = Window::new(Instant::now(), MINUTE);
            prop_assert_eq!(agrees(&steps, &window, Window::sum), Ok(()));
        }
    }

    #[test]
    fn windows_that_count_wrongly_are_noticed() {
        let steps: Vec<_> = (0..200).map(|i| (997 + i % 7, 1)).collect();
        let window = || Window::new(Instant::now(), MINUTE);
        assert_eq!(agrees(&steps, &window(), Window::sum), Ok(()));
        let never_forgets = |window: &Window, _| {
            let buckets = window.buckets.get().into_iter().flatten();
            buckets.map(|bucket| unpack(bucket.load(Relaxed)).1).sum()
        };
        let sparse: Vec<_> = (0..9).map(|_| (61_000, 1)).collect();
        assert!(agrees(&sparse, &window(), never_forgets).is_err());
        let forgets_early = |window: &Window, now| window.sum(now + 3 * SECOND);
        assert!(agrees(&steps, &window(), forgets_early).is_err());
        assert!(agrees(&steps, &window(), |_, _| 0).is_err());
    }

    #[test]
    fn each_length_forgets_at_its_own_time() {
        let start = Instant::now();
        let windows = Windows::new(start);
        windows.add(30, start);
        let at = |seconds| windows.lately(start + seconds * SECOND);
        assert_eq!(at(0), Lately { minute: 30, five_minutes: 30, hour: 30 });
        assert!((at(0).per_second() - 0.5).abs() < 1e-9);
        assert_eq!(at(60), Lately { minute: 0, five_minutes: 30, hour: 30 });
        assert_eq!(at(300), Lately { minute: 0, five_minutes: 0, hour: 30 });
        assert_eq!(at(3600), Lately::default());
        assert_eq!(at(1 << 30), Lately::default());
    }

    #[test]
    fn a_count_stops_at_the_largest_and_a_clock_that_ran_ahead_breaks_nothing() {
        let start = Instant::now();
        let window = Window::new(start + SECOND, MINUTE);
        window.add(u64::MAX, start);
        window.add(1, start);
        assert_eq!(window.sum(start), LAST);
        let far = start + Duration::from_secs(200 * 365 * 86_400);
        window.add(1, far);
        assert_eq!(window.sum(far), 1);
    }

    #[test]
    fn tasks_that_count_at_once_lose_nothing() {
        let now = Instant::now();
        let window = Window::new(now, MINUTE);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| window.add(1, now)));
            }
        });
        assert_eq!(window.sum(now), 40_000);
    }
}
