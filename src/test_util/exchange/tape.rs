//! A stream of the exchange without the exchange.

use super::market::Market;
use crate::message::Message;

/// The messages of one stream, as [`MockExchange`](super::MockExchange) says them: for a server of one's
/// own.
///
/// Prices, quantities and numbers follow from the name and the seed; each message has the time that it is
/// given. What it was is not remembered: it takes no more room however long it goes on.
///
/// ```
/// use wsmux::test_util::Tape;
///
/// let mut tape = Tape::new("btcusdt@trade", 7).expect("the exchange has such streams");
/// let mut again = Tape::new("btcusdt@trade", 7).expect("the exchange has such streams");
/// assert_eq!(tape.next(1_700_000_000_000), again.next(1_700_000_000_000));
/// assert!(Tape::new("weather", 7).is_none());
/// ```
#[derive(Debug)]
pub struct Tape(Market);

impl Tape {
    /// The stream of a name from its beginning, or `None` where the exchange has no such stream.
    #[must_use]
    pub fn new(name: &str, seed: u64) -> Option<Self> {
        Market::new(name, seed).map(|market| Self(market.keeping(0)))
    }

    /// What happens next, at `now` in milliseconds since 1970.
    pub fn next(&mut self, now: u64) -> Message {
        self.0.next(now).message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tape_of_a_book_is_no_longer_the_longer_it_runs() {
        let mut tape = Tape::new("btcusdt@depth", 7).unwrap();
        for now in 0..10_000 {
            tape.next(now);
            assert_eq!(tape.0.book().unwrap().remembered(), 0);
        }
    }
}
