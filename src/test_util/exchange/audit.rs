//! What a reader was given, against what its sockets were served.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::Venue;
use crate::error::{Gap, StreamError};

/// Finds out what one reader of a stream lost, and was not told of; from
/// [`MockExchange::audit`](super::MockExchange::audit).
///
/// Show it every item that the reader yields, in order: for a message the numbers it stands for,
/// which are `t..=t` for a trade and `U..=u` for a change of the book. (A `@bookTicker` has no
/// numbers that follow on each other.)
///
/// ```
/// use wsmux::test_util::MockExchange;
/// use wsmux::{StreamError, WsManager};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #[derive(serde::Deserialize)]
/// struct Trade {
///     t: u64,
/// }
///
/// let exchange = MockExchange::start().await?;
/// let manager = WsManager::connect(&exchange.url())?;
/// let mut trades = manager.subscribe::<Trade>("btcusdt@trade")?;
/// let mut audit = exchange.audit("btcusdt@trade");
/// while audit.messages() < 20 {
///     let item = trades.recv().await.unwrap();
///     audit.item(item.as_ref().map(|trade| trade.t..=trade.t));
///     if audit.messages() == 10 && audit.gaps() == 0 {
///         exchange.drop_sockets();
///     }
/// }
/// assert_eq!((audit.gaps(), audit.lost_silently(), audit.repeated()), (1, 0, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Audit {
    gaps: u64,
    lost: u64,
    messages: u64,
    name: String,
    /// The number that comes next, once there was one.
    next: Option<u64>,
    /// For each time the reader was told of a new socket: what was to come next, and what came.
    rejoined: Vec<(u64, u64)>,
    repeated: u64,
    told: Option<Told>,
    venue: Arc<Venue>,
}

/// What the reader was told since its last message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Told {
    /// Of a new socket: what came in between is missing.
    Rejoined,
    /// Of a loss on the socket, too.
    Lost,
}

impl Audit {
    pub(super) fn new(name: &str, venue: Arc<Venue>) -> Self {
        Self {
            gaps: 0,
            lost: 0,
            messages: 0,
            name: name.to_owned(),
            next: None,
            rejoined: Vec::new(),
            repeated: 0,
            told: None,
            venue,
        }
    }

    /// Takes the reader's next item: the numbers of a message, or a notice.
    pub fn item(&mut self, item: Result<RangeInclusive<u64>, &StreamError>) {
        match item {
            Ok(numbers) => self.message(*numbers.start(), *numbers.end()),
            Err(StreamError::Gap(gap)) => {
                self.gaps += 1;
                let rejoined = matches!(gap, Gap::Reconnected { .. });
                if !rejoined || self.told.is_none() {
                    self.told = Some(if rejoined { Told::Rejoined } else { Told::Lost });
                }
            }
            // It came, and cannot tell its number.
            Err(StreamError::Decode(_)) => self.told = Some(Told::Lost),
            Err(StreamError::Closed(_)) => {}
        }
    }

    fn message(&mut self, first: u64, last: u64) {
        self.messages += 1;
        match (self.next, self.told.take()) {
            (Some(next), _) if first < next => {
                self.repeated += 1;
                return;
            }
            (Some(next), None) => self.lost += first - next,
            (Some(next), Some(Told::Rejoined)) => self.rejoined.push((next, first)),
            (Some(_), Some(Told::Lost)) | (None, _) => {}
        }
        self.next = Some(last + 1);
    }

    /// The stream's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many messages there were.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// How many gaps the reader was told of.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    /// How many messages came that were not new, or too late.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// How many numbers are missing that the reader was not told of.
    ///
    /// Missing without a gap in their place are those between two messages, and those between a
    /// [`Gap::Reconnected`] and the message that follows it, where the
    /// [ledger](super::MockExchange::ledger) says that the new socket was served them. What was
    /// written just now may not be in the ledger yet.
    #[must_use]
    pub fn lost_silently(&self) -> u64 {
        let ledger = self.venue.ledger(&self.name);
        let unseen = |&(next, came): &(u64, u64)| {
            let starts = ledger.iter().map(|served| served.first);
            // The socket it came by is the last that could have been.
            came - starts.filter(|start| (next..=came).contains(start)).max().unwrap_or(came)
        };
        self.lost + self.rejoined.iter().map(unseen).sum::<u64>()
    }
}
