//! What may be wrong with a `@depth` stream, and the snapshots that go with it.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::sleep;

use super::Venue;
use super::book::History;
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

/// The true book of a symbol; from [`MockExchange::book`](super::MockExchange::book). Clones are the
/// same book.
#[derive(Clone)]
pub struct MockBook {
    name: String,
    rng: Arc<Mutex<StdRng>>,
    venue: Arc<Venue>,
}

impl MockBook {
    pub(super) fn new(symbol: &str, venue: Arc<Venue>) -> Self {
        let rng = Arc::new(Mutex::new(StdRng::seed_from_u64(venue.seed)));
        Self { name: format!("{symbol}@depth"), rng, venue }
    }

    /// A snapshot, as a GET of `/api/v3/depth` gives it: `{"lastUpdateId":160,"bids":[["0.0024",
    /// "10"]],"asks":[…]}`. It takes its time, and may be old or fail, as the exchange's
    /// [`DepthFaults`] have it.
    ///
    /// The future is `'static`, so that `move || book.snapshot()` is what
    /// [`Subscription::resync`](crate::Subscription::resync) wants.
    ///
    /// # Errors
    ///
    /// Where a fault says so, and where the symbol is none.
    pub fn snapshot(&self) -> impl Future<Output = io::Result<String>> + Send + 'static + use<> {
        let book = self.clone();
        async move {
            let faults = book.venue.faults;
            let (before, after, fails, back) = {
                let mut rng = book.rng.lock().unwrap_or_else(PoisonError::into_inner);
                let all = rng.random_range(Duration::ZERO..=faults.snapshot_latency);
                let before = rng.random_range(Duration::ZERO..=all);
                let [fails, old] = [faults.failed_snapshots, faults.old_snapshots]
                    .map(|likely| rng.random::<f64>() < likely);
                let back = rng.random_range(1..=100);
                (before, all - before, fails, if old { back } else { 0 })
            };
            sleep(before).await;
            let snapshot =
                book.look(|history| history.number().saturating_sub(back).max(history.oldest()));
            sleep(after).await;
            if fails {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            snapshot.ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }

    /// The book as of an update id, in the same form; `None` where it is too long ago (the last
    /// 262,144 changes are known) or yet to come. At once, and without faults: the truth to compare
    /// with.
    #[must_use]
    pub fn at(&self, id: u64) -> Option<String> {
        self.look(|_| id)
    }

    /// The book at a number chosen.
    fn look(&self, choose: impl FnOnce(&History) -> u64) -> Option<String> {
        self.venue.open(&self.name)?.book(|history| {
            let number = choose(history);
            Some(history.at(number)?.json(number))
        })?
    }
}

impl fmt::Debug for MockBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockBook").field("name", &self.name).finish_non_exhaustive()
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
