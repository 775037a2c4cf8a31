//! Snapshots of a true book, as a venue's REST interface has them, and the book itself.

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
    /// [`DepthFaults`](super::DepthFaults) have it.
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
    /// 262,144 changes are known, or as many as were [asked for](super::MockExchangeBuilder::known_changes))
    /// or yet to come. At once, and without faults: the truth to compare with.
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
