//! A histogram of durations: fixed buckets, so that it takes the same memory for ever.

use std::time::Duration;

/// How long something took, counted in buckets.
///
/// ```
/// use std::time::Duration;
/// use wsmux::DurationHistogram;
///
/// # fn show(handshake: &DurationHistogram) {
/// if let Some(p99) = handshake.quantile(0.99) {
///     println!("of {} handshakes 99 in 100 took at most {p99:.0?}", handshake.count());
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DurationHistogram {
    buckets: [u64; Self::BOUNDS.len() + 1],
    sum: Duration,
}

impl DurationHistogram {
    /// Upper bounds of the buckets, in seconds. Above the last there is one more, without a bound.
    ///
    /// A program that collects the histograms with an exporter of its own hands it these, so that
    /// the queries in `monitoring/` work.
    pub const BOUNDS: [f64; 15] =
        [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

    pub(super) fn new(buckets: [u64; Self::BOUNDS.len() + 1], sum: Duration) -> Self {
        Self { buckets, sum }
    }

    /// The bucket that a duration falls into.
    pub(super) fn bucket_of(took: Duration) -> usize {
        let seconds = took.as_secs_f64();
        Self::BOUNDS.partition_point(|bound| *bound < seconds)
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// What they took together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// What they took on average; `None` if there were none.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        let count = self.count();
        (count > 0).then(|| self.sum.div_f64(float(count)))
    }

    /// What the fraction `q` of them took at most, from 0 to 1: `0.5` is the median. Exact at the
    /// bounds, and a guess between them, as Prometheus makes it. What is above the last bound counts
    /// as that. `None` if there were none.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * float(count);
        let (mut below, mut lower) = (0, 0.0);
        for (bound, in_bucket) in Self::BOUNDS.iter().zip(&self.buckets) {
            if *in_bucket > 0 && float(below + in_bucket) >= rank {
                let part = (rank - float(below)).max(0.0) / float(*in_bucket);
                return Some(Duration::from_secs_f64(lower + (bound - lower) * part));
            }
            below += in_bucket;
            lower = *bound;
        }
        Some(Duration::from_secs_f64(lower))
    }

    /// How many took at most each of the [`BOUNDS`](Self::BOUNDS), with that bound in seconds.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let counts = self.buckets.iter().scan(0, |sum, n| {
            *sum += n;
            Some(*sum)
        });
        Self::BOUNDS.into_iter().zip(counts)
    }

    pub(super) fn since(&self, earlier: &Self) -> Self {
        let buckets = std::array::from_fn(|i| self.buckets[i].saturating_sub(earlier.buckets[i]));
        Self { buckets, sum: self.sum.saturating_sub(earlier.sum) }
    }

    #[cfg(feature = "prometheus")]
    pub(super) fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(own, more)| *own += more);
        self.sum = self.sum.saturating_add(other.sum);
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^53 of anything are enough")]
fn float(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(seconds: &[f64]) -> DurationHistogram {
        let mut histogram = DurationHistogram::default();
        for took in seconds.iter().map(|s| Duration::from_secs_f64(*s)) {
            histogram.buckets[DurationHistogram::bucket_of(took)] += 1;
            histogram.sum += took;
        }
        histogram
    }

    #[test]
    fn a_bucket_holds_what_took_at_most_its_bound() {
        let histogram = of(&[0.0, 0.005, 0.0051, 1800.0, 1801.0]);
        let cumulative: Vec<_> = histogram.cumulative().map(|(_, count)| count).collect();
        assert_eq!(cumulative, [2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4]);
        assert_eq!((histogram.count(), histogram.sum().as_secs()), (5, 3601));
    }

    #[test]
    fn quantiles_lie_within_the_bucket_that_holds_them() {
        assert_eq!(of(&[]).quantile(0.5), None);
        assert_eq!(of(&[]).mean(), None);
        let histogram = of(&[0.03, 0.03, 0.2, 7.0]);
        let ms = |q| histogram.quantile(q).unwrap().as_millis();
        assert_eq!((ms(0.0), ms(0.25), ms(0.5), ms(0.75)), (25, 37, 50, 250));
        assert_eq!((ms(1.0), ms(f64::MAX)), (10_000, 10_000));
        assert_eq!(of(&[5000.0]).quantile(0.5), Some(Duration::from_secs(1800)));
        assert_eq!(histogram.mean(), Some(Duration::from_millis(1815)));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_list_of_all_durations(
            mut seconds in prop::collection::vec(0.0..4000.0f64, 1..50),
            q in 0.0..=1.0f64,
        ) {
            let histogram = of(&seconds);
            for (bound, count) in histogram.cumulative() {
                let naive = seconds.iter().filter(|took| **took <= bound).count();
                prop_assert_eq!(count, naive as u64);
            }
            prop_assert_eq!(histogram.count(), seconds.len() as u64);
            // What the quantile is of the list itself lies in the same bucket.
            seconds.sort_by(f64::total_cmp);
            let rank = (q * seconds.len() as f64).ceil().max(1.0) as usize;
            let exact = DurationHistogram::bucket_of(Duration::from_secs_f64(seconds[rank - 1]));
            let found = histogram.quantile(q).unwrap().as_secs_f64();
            let bound = |i: usize| DurationHistogram::BOUNDS.get(i).copied().unwrap_or(1800.0);
            let lower = exact.checked_sub(1).map_or(0.0, bound);
            prop_assert!((lower - 1e-6..=bound(exact) + 1e-6).contains(&found), "{found}");
        }
    }

    #[test]
    fn a_nonsensical_quantile_is_no_panic() {
        assert!(of(&[1.0]).quantile(f64::NAN).is_some());
    }

    #[test]
    fn the_difference_of_two_is_what_came_in_between() {
        let (earlier, later) = (of(&[0.1]), of(&[0.1, 2.0]));
        assert_eq!(later.since(&earlier), of(&[2.0]));
        assert_eq!(earlier.since(&later), DurationHistogram::default(), "never below zero");
    }
}
