//! What repeated failures have earned: how long the next attempt has to wait.
//!
//! A stream that ended for good may be subscribed to again at once, and programs do, in a loop. The
//! wait makes such a loop a slow one: it doubles while failures repeat, and is forgotten when none
//! has followed for as long as the longest wait.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// The bounds of a wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) min: Duration,
    pub(super) max: Duration,
}

#[derive(Debug)]
pub(super) struct Penalties<K> {
    bounds: Bounds,
    by_key: HashMap<K, Penalty>,
    /// When each penalty is forgotten.
    forgotten: BTreeSet<(Instant, K)>,
}

#[derive(Debug)]
struct Penalty {
    forgotten: Instant,
    strikes: u32,
    until: Instant,
}

impl<K: Clone + Eq + Hash + Ord> Penalties<K> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, by_key: HashMap::new(), forgotten: BTreeSet::new() }
    }

    /// `key` failed for good; the failure itself asked for a wait of `floor`. What happened before
    /// does not count if `afresh`.
    pub(super) fn strike(&mut self, key: &K, afresh: bool, floor: Duration, now: Instant) {
        let earlier = self.take(key).filter(|_| !afresh).map_or(0, |penalty| penalty.strikes);
        let factor = 1_u32.checked_shl(earlier).unwrap_or(u32::MAX);
        let wait = self.bounds.min.saturating_mul(factor).min(self.bounds.max).max(floor);
        let until = now + wait;
        let forgotten = until + self.bounds.max;
        let strikes = earlier.saturating_add(1);
        self.by_key.insert(key.clone(), Penalty { forgotten, strikes, until });
        self.forgotten.insert((forgotten, key.clone()));
    }

    /// Until when `key` has to wait.
    pub(super) fn until(&self, key: &K, now: Instant) -> Option<Instant> {
        self.by_key.get(key).map(|penalty| penalty.until).filter(|until| *until > now)
    }

    /// Forgets what is old. At most a few at a time, so that nobody waits for it.
    pub(super) fn forget_old(&mut self, now: Instant) {
        for _ in 0..8 {
            match self.forgotten.first() {
                Some((forgotten, _)) if *forgotten <= now => {}
                _ => return,
            }
            if let Some((_, key)) = self.forgotten.pop_first() {
                self.by_key.remove(&key);
            }
        }
    }

    /// When the next penalty is to be forgotten.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.forgotten.first().map(|(forgotten, _)| *forgotten)
    }

    fn take(&mut self, key: &K) -> Option<Penalty> {
        let penalty = self.by_key.remove(key)?;
        self.forgotten.remove(&(penalty.forgotten, key.clone()));
        Some(penalty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const BOUNDS: Bounds = Bounds { min: SECOND, max: Duration::from_secs(4) };

    fn waits(penalties: &Penalties<u8>, now: Instant) -> Option<u64> {
        penalties.until(&1, now).map(|until| (until - now).as_secs())
    }

    #[test]
    fn a_wait_doubles_up_to_its_bound_while_failures_repeat() {
        let mut penalties = Penalties::new(BOUNDS);
        let mut now = Instant::now();
        assert_eq!(waits(&penalties, now), None);
        for expected in [1, 2, 4, 4] {
            penalties.strike(&1, false, Duration::ZERO, now);
            assert_eq!(waits(&penalties, now), Some(expected));
            now += Duration::from_secs(expected);
            assert_eq!(waits(&penalties, now), None, "waited out");
        }
        penalties.strike(&1, true, Duration::ZERO, now);
        assert_eq!(waits(&penalties, now), Some(1), "it was fine in between");
        penalties.strike(&1, false, 60 * SECOND, now);
        assert_eq!(waits(&penalties, now), Some(60), "the server asked for more");
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut penalties = Penalties::new(BOUNDS);
        let now = Instant::now();
        penalties.strike(&1, false, Duration::ZERO, now);
        assert_eq!(penalties.next_due(), Some(now + 5 * SECOND));
        penalties.forget_old(now + 4 * SECOND);
        assert_eq!(penalties.by_key.len(), 1);
        penalties.forget_old(now + 5 * SECOND);
        assert!(penalties.by_key.is_empty() && penalties.forgotten.is_empty());
    }
}
