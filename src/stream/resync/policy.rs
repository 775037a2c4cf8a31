//! How a snapshot and the updates fit together, and how hard to try for one.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::RetryPolicy;

/// How a [`Resync`](crate::Resync) fetches snapshots of `S`, and splices them with updates of `T`.
///
/// Venues number their updates in different ways, and one rule for all of them would be wrong for
/// most:
///
/// | feed | policy |
/// |---|---|
/// | Binance spot: `lastUpdateId`; `U` to `u`, each `U` is the last `u + 1` | [`numbered`](Self::numbered) |
/// | Binance futures: `lastUpdateId`; `pu` is the last `u`, and `U` follows nothing | [`chained`](Self::chained) |
/// | one number per update, as `sequence` | [`numbered`](Self::numbered), `n..=n` |
/// | times only | [`ordered`](Self::ordered): it cannot see a hole |
/// | anything else | [`custom`](Self::custom) |
///
/// Write only what differs: `ResyncPolicy::numbered(…).timeout(…)`. The fields have setters of the
/// same names.
#[must_use]
pub struct ResyncPolicy<S, T> {
    /// Most updates that are held for one fetch. Default 10,000: those of ten seconds, which is a
    /// fetch's timeout, at a thousand a second. At least 1. They are decoded, so what they cost is
    /// what `T` costs.
    pub max_held: usize,
    /// How fetches that fail are retried, and those that bring a snapshot too old to be spliced.
    /// Default [`RetryPolicy::forever`] with a `min_delay` of 1 s. A snapshot that was spliced is a
    /// fresh start; `reset_after` plays no part. No two fetches begin within `min_delay`, whatever
    /// the reason, a feed with hole after hole included: set it by what a venue takes for a snapshot
    /// (Binance counts up to 250 of 6,000 a minute for one).
    pub retry: RetryPolicy,
    /// Longest time that one fetch may take. Default 10 s.
    pub timeout: Duration,
    pub(super) rule: Box<dyn Rule<S, T> + Send>,
}

/// How an update stands to what came before it; for [`ResyncPolicy::custom`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Continuity {
    /// It is the next one.
    Follows,
    /// Updates are missing before it.
    Hole {
        /// How many, if the numbers tell.
        missed: Option<u64>,
    },
    /// All of it is contained in what came before: it is dropped.
    Old,
}

/// Judges updates, one after the other.
pub(super) trait Rule<S, T> {
    /// What follows, follows on this snapshot.
    fn start(&mut self, snapshot: &S);

    /// Judges the next update, and goes on from it if it follows.
    fn step(&mut self, update: &T) -> Continuity;
}

struct Custom<P, A, B> {
    /// `None` before the first snapshot.
    position: Option<P>,
    start: A,
    step: B,
}

impl<S, T, P, A, B> Rule<S, T> for Custom<P, A, B>
where
    A: FnMut(&S) -> P,
    B: FnMut(&mut P, &T) -> Continuity,
{
    fn start(&mut self, snapshot: &S) {
        self.position = Some((self.start)(snapshot));
    }

    fn step(&mut self, update: &T) -> Continuity {
        match &mut self.position {
            Some(position) => (self.step)(position, update),
            None => Continuity::Hole { missed: None },
        }
    }
}

impl<S, T> ResyncPolicy<S, T> {
    /// For updates with numbers that follow on each other: the last number that a snapshot
    /// contains, and the first and the last of an update.
    ///
    /// - An update whose last number is not above what is there already is dropped.
    /// - One that begins more than one above it is a hole.
    /// - Numbers that start over are numbers that were there already: a feed that does so without a
    ///   [`Gap`](crate::Gap) before it wants [`custom`](Self::custom).
    /// - Any other follows. The first one after a snapshot commonly overlaps it, and is yielded
    ///   whole: as with all venues, quantities are new values and no differences.
    pub fn numbered(
        snapshot: impl Fn(&S) -> u64 + Send + 'static,
        update: impl Fn(&T) -> RangeInclusive<u64> + Send + 'static,
    ) -> Self {
        Self::custom(snapshot, move |last, u| {
            let range = update(u);
            let (first, end) = (*range.start(), *range.end());
            if end <= *last {
                return Continuity::Old;
            }
            let next = *last + 1; // `last` is below `end`.
            if first > next {
                return Continuity::Hole { missed: Some(first - next) };
            }
            *last = end;
            Continuity::Follows
        })
    }

    /// For updates that name the number of the one before: the last number that a snapshot
    /// contains, and of an update the number of the one before and its own (`pu` and `u` of Binance
    /// futures; `prevSeqId` and `seqId`; `prev_change_id` and `change_id`).
    ///
    /// - An update that names the last one follows, whatever its own number: a venue may begin anew.
    ///   The first one after a snapshot follows also where the snapshot is in its midst.
    /// - One whose number is not above what is there already is dropped.
    /// - Any other stands after a hole.
    pub fn chained<K: Ord + Send + 'static>(
        snapshot: impl Fn(&S) -> K + Send + 'static,
        previous: impl Fn(&T) -> K + Send + 'static,
        own: impl Fn(&T) -> K + Send + 'static,
    ) -> Self {
        let start = move |s: &S| (snapshot(s), false);
        Self::custom(start, move |(last, spliced), u| {
            let (previous, own) = (previous(u), own(u));
            let overlaps = !*spliced && previous < *last && *last < own;
            if previous == *last || overlaps {
                (*last, *spliced) = (own, true);
                return Continuity::Follows;
            }
            if own <= *last { Continuity::Old } else { Continuity::Hole { missed: None } }
        })
    }

    /// For updates that only have an order, such as the venue's time: the key of a snapshot, and
    /// that of an update. Updates whose key is not above the snapshot's are dropped.
    ///
    /// Keys without numbers show no hole: that nothing is lost is then as good as the venue's word
    /// that a snapshot is not older than the request for it, and that the feed skips nothing.
    pub fn ordered<K: Ord + Send + 'static>(
        snapshot: impl Fn(&S) -> K + Send + 'static,
        update: impl Fn(&T) -> K + Send + 'static,
    ) -> Self {
        Self::custom(snapshot, move |last, u| match update(u) {
            key if key <= *last => Continuity::Old,
            _ => Continuity::Follows,
        })
    }

    /// For everything else: `start` makes a position of a snapshot, and `step` judges the next
    /// update by it, and moves it on. `start` also sees snapshots that turn out too old.
    ///
    /// ```
    /// use wsmux::{Continuity, ResyncPolicy};
    ///
    /// struct Book { epoch: u32, sequence: u64 }
    /// struct Change { epoch: u32, sequence: u64 }
    ///
    /// let policy = ResyncPolicy::custom(
    ///     |book: &Book| (book.epoch, book.sequence),
    ///     |at, change: &Change| {
    ///         let (before, now) = (*at, (change.epoch, change.sequence));
    ///         if now <= before {
    ///             return Continuity::Old;
    ///         }
    ///         if now != (before.0, before.1 + 1) {
    ///             return Continuity::Hole { missed: None };
    ///         }
    ///         *at = now;
    ///         Continuity::Follows
    ///     },
    /// );
    /// # let _ = policy;
    /// ```
    pub fn custom<P: Send + 'static>(
        start: impl FnMut(&S) -> P + Send + 'static,
        step: impl FnMut(&mut P, &T) -> Continuity + Send + 'static,
    ) -> Self {
        Self {
            max_held: 10_000,
            retry: RetryPolicy { min_delay: Duration::from_secs(1), ..RetryPolicy::forever() },
            timeout: Duration::from_secs(10),
            rule: Box::new(Custom { position: None, start, step }),
        }
    }

    /// Sets [`max_held`](field@Self::max_held).
    pub fn max_held(mut self, max_held: usize) -> Self {
        self.max_held = max_held;
        self
    }

    /// Sets [`retry`](field@Self::retry).
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Sets [`timeout`](field@Self::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl<S, T> fmt::Debug for ResyncPolicy<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResyncPolicy")
            .field("max_held", &self.max_held)
            .field("retry", &self.retry)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Continuity::{Follows, Hole, Old};
    use super::*;

    fn steps<T>(policy: ResyncPolicy<u64, T>, snapshot: u64, updates: &[T]) -> Vec<Continuity> {
        let mut rule = policy.rule;
        rule.start(&snapshot);
        updates.iter().map(|update| rule.step(update)).collect()
    }

    #[test]
    fn numbers_follow_overlap_repeat_or_show_a_hole() {
        let numbered = || ResyncPolicy::numbered(|s| *s, |u: &RangeInclusive<u64>| u.clone());
        let missed = |n| Hole { missed: Some(n) };
        assert_eq!(
            steps(numbered(), 10, &[8..=9, 10..=10, 9..=12, 13..=13, 12..=13, 15..=16, 14..=14]),
            [Old, Old, Follows, Follows, Old, missed(1), Follows]
        );
        assert_eq!(steps(numbered(), 10, &[11..=11]), [Follows]);
        assert_eq!(steps(numbered(), 10, &[100..=110]), [missed(89)]);
        let end = u64::MAX;
        assert_eq!(steps(numbered(), end, &[end..=end, 0..=end]), [Old, Old]);
        assert_eq!(steps(numbered(), end - 1, &[end..=end]), [Follows]);
        assert_eq!(steps(numbered(), 0, &[end..=end]), [missed(end - 1)]);
    }

    #[test]
    fn a_chain_follows_by_name_and_the_first_link_may_overlap() {
        let chained = || ResyncPolicy::chained(|s| *s, |u: &(u64, u64)| u.0, |u| u.1);
        let hole = Hole { missed: None };
        // Numbers shared with other symbols: none of them is the last one plus one.
        assert_eq!(
            steps(chained(), 100, &[(60, 80), (80, 90), (90, 120), (120, 150), (150, 190)]),
            [Old, Old, Follows, Follows, Follows]
        );
        assert_eq!(steps(chained(), 100, &[(100, 120)]), [Follows]);
        assert_eq!(steps(chained(), 100, &[(110, 120)]), [hole]);
        assert_eq!(steps(chained(), 100, &[(100, 120), (110, 130)]), [Follows, hole], "no longer");
        assert_eq!(steps(chained(), 100, &[(100, 120), (100, 120)]), [Follows, Old], "a repeat");
        assert_eq!(steps(chained(), 100, &[(100, 120), (120, 3), (3, 4)]), [Follows; 3], "anew");
        assert_eq!(steps(chained(), 100, &[(100, 100), (100, 101)]), [Follows; 2], "no change");
    }

    #[test]
    fn an_order_drops_what_the_snapshot_has_and_nothing_else() {
        let ordered = || ResyncPolicy::ordered(|s| *s, |u: &u64| *u);
        assert_eq!(
            steps(ordered(), 10, &[9, 10, 11, 11, 50, 7]),
            [Old, Old, Follows, Follows, Follows, Old]
        );
    }
}
