//! What may be wrong with a `@depth` stream and its snapshots.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::market::Event;

/// What goes wrong with `@depth` streams and their snapshots. Probabilities are from 0 to 1, and all
/// is well by default. The same seed of the exchange makes the same updates go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DepthFaults {
    /// How likely an update comes after the next one.
    pub delayed: f64,
    /// How likely an update is never sent.
    pub dropped: f64,
    /// How likely a snapshot fails.
    pub failed_snapshots: f64,
    /// How likely a snapshot is older than its request: by up to a hundred numbers.
    pub old_snapshots: f64,
    /// How likely an update is sent twice.
    pub repeated: f64,
    /// Longest time that a snapshot takes. The book is that of some moment within.
    pub snapshot_latency: Duration,
}

impl DepthFaults {
    /// Some of everything: of a thousand updates two are dropped, two delayed and ten repeated; of
    /// ten snapshots two fail and three are old, and they take up to 60 ms.
    #[must_use]
    pub fn rough() -> Self {
        Self {
            delayed: 0.002,
            dropped: 0.002,
            failed_snapshots: 0.2,
            old_snapshots: 0.3,
            repeated: 0.01,
            snapshot_latency: Duration::from_millis(60),
        }
    }
}

/// Makes the updates of one stream go wrong.
#[derive(Debug)]
pub(super) struct Mishaps {
    delayed: Option<Event>,
    faults: DepthFaults,
    rng: StdRng,
}

impl Mishaps {
    pub(super) fn new(faults: DepthFaults, seed: u64) -> Self {
        Self { delayed: None, faults, rng: StdRng::seed_from_u64(!seed) }
    }

    /// What is sent of `events`.
    pub(super) fn befall(&mut self, events: Vec<Event>) -> Vec<Event> {
        let mut sent = Vec::with_capacity(events.len());
        for event in events {
            // Always as many draws, so that what goes wrong with one changes no other.
            let [dropped, delayed, repeated] =
                [self.faults.dropped, self.faults.delayed, self.faults.repeated]
                    .map(|likely| self.rng.random::<f64>() < likely);
            if dropped {
                continue;
            }
            if delayed && self.delayed.is_none() {
                self.delayed = Some(event);
                continue;
            }
            if repeated {
                sent.push(event.clone());
            }
            sent.push(event);
            sent.extend(self.delayed.take());
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::exchange::market::Market;

    /// The first numbers of the updates that are sent, `at_once` at a time.
    fn sent(faults: DepthFaults, at_once: usize) -> Vec<u64> {
        let mut market = Market::new("btcusdt@depth", 1).unwrap();
        let mut mishaps = Mishaps::new(faults, 1);
        let events: Vec<_> = (0..1000).map(|_| market.next(0)).collect();
        let batches = events.chunks(at_once).map(<[Event]>::to_vec);
        batches.flat_map(|batch| mishaps.befall(batch)).map(|event| event.first).collect()
    }

    #[test]
    fn updates_are_dropped_repeated_and_delayed_as_likely_as_was_said() {
        let all = sent(DepthFaults::default(), 7);
        assert!(all.len() == 1000 && all.is_sorted());
        let one = |change: fn(&mut DepthFaults)| {
            let mut faults = DepthFaults::default();
            change(&mut faults);
            sent(faults, 7)
        };
        let dropped = one(|faults| faults.dropped = 0.1);
        assert!((850..950).contains(&dropped.len()) && dropped.is_sorted());
        let repeated = one(|faults| faults.repeated = 0.1);
        assert!((1050..1150).contains(&repeated.len()) && repeated.is_sorted());
        let mut delayed = one(|faults| faults.delayed = 0.1);
        let late = delayed.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!((50..150).contains(&late), "{late}");
        delayed.sort_unstable();
        assert!(delayed.len() >= 999 && delayed == all[..delayed.len()]);
    }

    #[test]
    fn what_goes_wrong_does_not_hang_on_when_it_is_sent() {
        let dropped = 0.1;
        let faults = DepthFaults { dropped, repeated: 0.1, delayed: 0.1, ..DepthFaults::default() };
        assert_eq!(sent(faults, 1), sent(faults, 1000));
    }
}
