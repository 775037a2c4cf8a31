//! When to try again: exponential backoff with full jitter and a floor.
//!
//! Full jitter draws each delay uniformly from zero to the exponential ceiling, which spreads a
//! crowd of clients better than a little noise on a fixed delay does: see [Exponential Backoff And
//! Jitter][aws]. The floor keeps a lucky draw from being a hot loop.
//!
//! [`RetryPolicy`] is the plain data a user sets; `Backoff` is its running state.
//!
//! [aws]: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::ConfigError;

/// How a lost connection is retried.
///
/// The delay before retry `n`, counted from 0, is
/// `max(min_delay, uniform(0 ..= min(max_delay, base_delay · 2ⁿ)))`, after what the server asks us to
/// wait, if it does. `n` falls back to 0 after a connection on which names were joined for
/// `reset_after`, and never just because one opened. Waiting for a turn at the host is no attempt.
///
/// ```
/// use std::time::Duration;
/// use wsmux::{Config, RetryPolicy};
///
/// let retry = RetryPolicy { max_delay: Duration::from_secs(60), ..RetryPolicy::forever() };
/// let config = Config::default().retry(retry);
/// # let _ = config;
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Ceiling of the first delay; each further ceiling is twice the one before. Default 1 s; above
    /// zero, and at most `max_delay`.
    pub base_delay: Duration,
    /// When the first retry after a stable connection is made. Default [`FirstRetry::Jittered`].
    pub first: FirstRetry,
    /// Retries after which the stream is closed for good; `None` never gives up. Default 10, which
    /// are spent in about 90 s: a bot that is to outlast a venue's maintenance wants
    /// [`forever`](Self::forever).
    pub max_attempts: Option<u32>,
    /// Highest ceiling. Default 30 s.
    pub max_delay: Duration,
    /// Shortest delay. Default 100 ms; above zero, and at most `max_delay`.
    pub min_delay: Duration,
    /// A connection on which names were joined for this long has earned a fresh start. Default
    /// 10 s.
    ///
    /// Without it, a server that accepts and at once drops its clients, or never confirms a name,
    /// would be dialled without backoff.
    pub reset_after: Duration,
}

/// When the first retry after a stable connection is made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum FirstRetry {
    /// At once. A crowd of clients that loses one server comes back as a crowd.
    Immediate,
    /// After a jittered delay, as all others.
    #[default]
    Jittered,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            base_delay: Duration::from_secs(1),
            first: FirstRetry::Jittered,
            max_attempts: Some(10),
            max_delay: Duration::from_secs(30),
            min_delay: Duration::from_millis(100),
            reset_after: Duration::from_secs(10),
        }
    }
}

impl RetryPolicy {
    /// The default policy without an end: the choice for bots.
    #[must_use]
    pub fn forever() -> Self {
        Self { max_attempts: None, ..Self::default() }
    }

    /// No retries: the first loss or failed dial closes the stream.
    #[must_use]
    pub fn never() -> Self {
        Self { max_attempts: Some(0), ..Self::default() }
    }

    /// The ceilings of the first `n` delays, or of all if the policy gives up earlier. Each delay
    /// is drawn between [`min_delay`](Self::min_delay) and its ceiling.
    ///
    /// ```
    /// use wsmux::RetryPolicy;
    ///
    /// let seconds: Vec<_> = RetryPolicy::forever().preview(7).iter().map(|d| d.as_secs()).collect();
    /// assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
    /// assert_eq!(RetryPolicy::default().preview(99).len(), 10);
    /// ```
    #[must_use]
    pub fn preview(&self, n: u32) -> Vec<Duration> {
        let n = self.max_attempts.map_or(n, |max| max.min(n));
        (0..n).map(|n| self.ceiling(n).max(self.min_delay)).collect()
    }

    fn ceiling(&self, n: u32) -> Duration {
        let factor = 1_u32.checked_shl(n).unwrap_or(u32::MAX);
        self.base_delay.saturating_mul(factor).min(self.max_delay)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let order = |low, high, holds: bool| {
            if holds { Ok(()) } else { Err(ConfigError::OutOfOrder { low, high }) }
        };
        super::positive("base_delay", self.base_delay)?;
        super::positive("min_delay", self.min_delay)?;
        order("base_delay", "max_delay", self.base_delay <= self.max_delay)?;
        order("min_delay", "max_delay", self.min_delay <= self.max_delay)
    }
}

/// The delays of one connection's current run of failures.
#[derive(Debug)]
pub(crate) struct Backoff {
    policy: Arc<RetryPolicy>,
    failures: u32,
    /// Whether the next delay is the first after a connection that was open for long enough.
    fresh: bool,
    /// Of the generator that draws the next delay, which is used for nothing else.
    seed: u64,
    /// Whether the last connection was open for long enough.
    stable: bool,
}

impl Backoff {
    pub(crate) fn new(policy: impl Into<Arc<RetryPolicy>>, seed: u64) -> Self {
        let policy = policy.into();
        Self { policy, failures: 0, fresh: false, seed, stable: false }
    }

    /// The number of the attempt that is due, from 1; it is the dial after `attempt() - 1` failures.
    pub(crate) fn attempt(&self) -> u32 {
        self.failures.saturating_add(1)
    }

    /// Records that a connection was open for `uptime` before it was lost, and says whether that
    /// was long enough for a fresh start.
    pub(crate) fn record_uptime(&mut self, uptime: Duration) -> bool {
        self.stable = uptime >= self.policy.reset_after;
        self.fresh = self.stable;
        if self.stable {
            self.failures = 0;
        }
        self.stable
    }

    /// Whether the last connection was open for long enough.
    pub(crate) fn was_stable(&self) -> bool {
        self.stable
    }

    /// The longest delay that the policy knows.
    pub(crate) fn max_delay(&self) -> Duration {
        self.policy.max_delay
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    /// The delay before the next attempt; `None` once the policy gives up.
    fn next(&mut self) -> Option<Duration> {
        if self.policy.max_attempts.is_some_and(|max| self.failures >= max) {
            return None;
        }
        let immediate = self.fresh && self.policy.first == FirstRetry::Immediate;
        let delay = if immediate {
            Duration::ZERO
        } else {
            let ceiling = self.policy.ceiling(self.failures);
            let mut random = SmallRng::seed_from_u64(self.seed);
            self.seed = random.random();
            random.random_range(Duration::ZERO..=ceiling).max(self.policy.min_delay)
        };
        self.fresh = false;
        self.failures = self.failures.saturating_add(1);
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        base_delay: Duration::from_secs(1),
        first: FirstRetry::Jittered,
        max_attempts: None,
        max_delay: Duration::from_secs(8),
        min_delay: Duration::from_millis(100),
        reset_after: Duration::from_secs(60),
    };

    #[test]
    fn delays_lie_between_the_floor_and_a_doubling_ceiling() {
        for seed in 0..200 {
            let delays = Backoff::new(POLICY, seed).take(6);
            for (delay, ceiling) in delays.zip([1, 2, 4, 8, 8, 8].map(Duration::from_secs)) {
                assert!((POLICY.min_delay..=ceiling).contains(&delay), "{delay:?} > {ceiling:?}");
            }
        }
    }

    #[test]
    fn the_jitter_is_full() {
        // Uniform over 0 ..= 8 s: a quarter of the delays in each quarter of the range.
        let mut quarters = [0_u32; 4];
        for seed in 0..4000 {
            let delay = Backoff::new(POLICY, seed).nth(3).unwrap();
            quarters[(delay.as_millis() * 4 / 8001) as usize] += 1;
        }
        assert!(quarters.iter().all(|n| (850..1150).contains(n)), "{quarters:?}");
    }

    #[test]
    fn different_seeds_draw_different_delays() {
        let draws: Vec<_> = (0..50).map(|seed| Backoff::new(POLICY, seed).nth(3)).collect();
        let distinct: std::collections::HashSet<_> = draws.iter().collect();
        assert!(distinct.len() > 45);
    }

    #[test]
    fn a_preview_shows_each_ceiling_until_the_policy_gives_up() {
        let policy = RetryPolicy { max_attempts: Some(5), ..POLICY };
        assert_eq!(policy.preview(3), [1, 2, 4].map(Duration::from_secs));
        assert_eq!(policy.preview(99), [1, 2, 4, 8, 8].map(Duration::from_secs));
        let slow = RetryPolicy { min_delay: Duration::from_secs(3), ..POLICY };
        assert_eq!(slow.preview(3), [3, 3, 4].map(Duration::from_secs), "no delay is shorter");
    }

    #[test]
    fn gives_up_after_max_attempts() {
        let retries = |policy| Backoff::new(policy, 0).take(1000).count();
        assert_eq!(retries(RetryPolicy::default()), 10);
        assert_eq!(retries(RetryPolicy::never()), 0);
        assert_eq!(retries(RetryPolicy::forever()), 1000);
    }

    #[test]
    fn only_a_stable_connection_resets() {
        let mut backoff = Backoff::new(POLICY, 0);
        assert_eq!(backoff.by_ref().take(3).count(), 3);
        assert!(!backoff.record_uptime(Duration::from_secs(59)));
        assert_eq!(backoff.attempt(), 4);
        assert!(backoff.record_uptime(Duration::from_secs(60)));
        assert_eq!(backoff.attempt(), 1);
    }

    #[test]
    fn only_the_first_retry_after_a_stable_connection_is_immediate() {
        let policy = RetryPolicy { first: FirstRetry::Immediate, ..POLICY };
        let mut backoff = Backoff::new(policy, 0);
        assert!(backoff.next().unwrap() >= POLICY.min_delay, "no connection was stable yet");
        backoff.record_uptime(Duration::from_secs(60));
        assert_eq!(backoff.next(), Some(Duration::ZERO));
        assert!(backoff.next().unwrap() >= POLICY.min_delay);
        backoff.record_uptime(Duration::ZERO);
        assert!(backoff.next().unwrap() >= POLICY.min_delay, "a flap is no stable connection");
    }
}
