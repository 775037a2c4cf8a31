//! How often a server is answered that asks for signs of life in messages: a server that floods a
//! client with them, and takes no answers, would have them pile up.

use std::time::Duration;

use tokio::time::Instant;

/// So many within [`WINDOW`], where servers ask once in some seconds.
const MOST: u32 = 100;
const WINDOW: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct Courtesy {
    answered: u32,
    since: Option<Instant>,
}

impl Courtesy {
    /// Whether one more may be answered at `now`.
    pub(crate) fn may_answer(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            (self.answered, self.since) = (0, Some(now));
        }
        self.answered = self.answered.saturating_add(1);
        self.answered <= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_too_often_is_not_answered_until_the_window_is_over() {
        let (mut courtesy, now) = (Courtesy::default(), Instant::now());
        assert!((0..MOST).all(|_| courtesy.may_answer(now)));
        assert!(!courtesy.may_answer(now + WINDOW / 2));
        assert!(courtesy.may_answer(now + WINDOW));
    }
}
