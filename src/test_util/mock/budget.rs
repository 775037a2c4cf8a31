//! How much a client may say.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// So many in any window of such a length: what a venue's rate limit says.
#[derive(Clone, Debug)]
pub struct Budget {
    count: usize,
    spent: VecDeque<Instant>,
    window: Duration,
}

impl Budget {
    /// `count` in any `window`.
    #[must_use]
    pub fn new(count: usize, window: Duration) -> Self {
        Self { count, spent: VecDeque::new(), window }
    }

    /// Counts one more at `now`, and tells whether it was within the budget.
    pub fn spend(&mut self, now: Instant) -> bool {
        while self.spent.front().is_some_and(|at| now.duration_since(*at) >= self.window) {
            self.spent.pop_front();
        }
        if self.spent.len() >= self.count {
            return false;
        }
        self.spent.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_counts_in_any_window_and_not_in_those_of_the_clock() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let at = |millis| start + Duration::from_millis(millis);
        let mut budget = Budget::new(2, second);
        let spent = [0, 900, 999, 1000, 1001, 1899, 1900].map(|millis| budget.spend(at(millis)));
        assert_eq!(spent, [true, true, false, true, false, false, true]);
    }
}
