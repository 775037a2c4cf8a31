//! A histogram of times that may be below zero.
//!
//! A latency is one where two clocks differ. What is below zero is as true as what is above: it says by
//! how much, so it is neither cut off nor made positive.

use hdrhistogram::Histogram;

/// The longest time that is told from longer ones, in microseconds.
pub(super) const DAY: u64 = 86_400_000_000;

/// Times in microseconds, to three digits.
pub(super) struct Signed {
    /// Without its sign.
    below: Histogram<u64>,
    above: Histogram<u64>,
    least: Option<i64>,
}

/// An empty histogram of times up to a day.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, DAY, 3)
        .unwrap_or_else(|_| unreachable!("the bounds and 3 digits are allowed"))
}

impl Signed {
    pub(super) fn new() -> Self {
        Self { below: histogram(), above: histogram(), least: None }
    }

    pub(super) fn record(&mut self, micros: i64) {
        let side = if micros < 0 { &mut self.below } else { &mut self.above };
        side.saturating_record(micros.unsigned_abs());
        self.least = Some(self.least.map_or(micros, |least| least.min(micros)));
    }

    pub(super) fn len(&self) -> u64 {
        self.below.len() + self.above.len()
    }

    /// How many are below zero.
    pub(super) fn below(&self) -> u64 {
        self.below.len()
    }

    /// The least one, exactly.
    pub(super) fn least(&self) -> Option<i64> {
        self.least
    }

    /// The value that so many of a hundred do not exceed.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(super) fn percentile(&self, percent: f64) -> Option<i64> {
        let (below, all) = (self.below.len() as f64, self.len() as f64);
        self.least?;
        let rank = (percent / 100.0 * all).ceil().clamp(1.0, all);
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        Some(if rank <= below {
            // The greatest of them without a sign is the least with one.
            -signed(self.below.value_at_quantile((below - rank + 1.0) / below))
        } else {
            signed(self.above.value_at_quantile((rank - below) / (all - below)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_all_values_in_order() {
        for from in [-1000, -500, -100, 0, 1] {
            let mut times = Signed::new();
            assert_eq!((times.percentile(50.0), times.least()), (None, None));
            let values: Vec<i64> = (from..from + 1000).collect();
            values.iter().for_each(|value| times.record(*value));
            assert_eq!(times.least(), Some(from));
            assert_eq!(times.below(), values.iter().filter(|value| **value < 0).count() as u64);
            for (percent, at) in [(0.1, 0), (10.0, 99), (50.0, 499), (99.0, 989), (100.0, 999)] {
                let found = times.percentile(percent).unwrap();
                assert!((found - values[at]).abs() <= 1, "{from}: {percent}: {found}");
            }
        }
    }
}
