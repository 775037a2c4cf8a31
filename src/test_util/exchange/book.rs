//! The true book behind a `@depth` stream, as of each of its numbers.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use super::decimal::Decimal;

/// How many changes back the book is known, unless told otherwise.
pub(super) const KEPT: usize = 1 << 18;

/// Quantities by price, both in units of 10^-8.
pub(super) type Levels = BTreeMap<u64, u64>;

/// One side of the book.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    Ask,
    Bid,
}

/// A new quantity at a price; zero takes the price out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) price: u64,
    pub(super) quantity: u64,
    pub(super) side: Side,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    pub(super) asks: Levels,
    pub(super) bids: Levels,
}

impl Book {
    fn apply(&mut self, change: Change) {
        let side = match change.side {
            Side::Ask => &mut self.asks,
            Side::Bid => &mut self.bids,
        };
        if change.quantity == 0 {
            side.remove(&change.price);
        } else {
            side.insert(change.price, change.quantity);
        }
    }

    /// As Binance's `/api/v3/depth` says it.
    pub(super) fn json(&self, number: u64) -> String {
        let mut out = format!(r#"{{"lastUpdateId":{number},"bids":["#);
        levels(&mut out, self.bids.iter().rev());
        out.push_str(r#"],"asks":["#);
        levels(&mut out, self.asks.iter());
        out.push_str("]}");
        out
    }
}

fn levels<'a>(out: &mut String, levels: impl Iterator<Item = (&'a u64, &'a u64)>) {
    for (place, (price, quantity)) in levels.enumerate() {
        let comma = if place == 0 { "" } else { "," };
        // Writing into a string does not fail.
        let _ = write!(out, r#"{comma}["{}","{}"]"#, Decimal(*price), Decimal(*quantity));
    }
}

/// The book now, and how it came to be.
#[derive(Debug)]
pub(super) struct History {
    /// The book before the first of `changes`, as of number `since`.
    base: Book,
    changes: VecDeque<(u64, Change)>,
    /// How many of `changes` there may be.
    kept: usize,
    now: Book,
    number: u64,
    since: u64,
}

impl History {
    /// An empty book, as of `number`.
    pub(super) fn new(number: u64) -> Self {
        let (base, now) = (Book::default(), Book::default());
        Self { base, changes: VecDeque::new(), kept: KEPT, now, number, since: number }
    }

    /// From now on, the book is known that many changes back.
    pub(super) fn keep(&mut self, changes: usize) {
        self.kept = changes;
    }

    pub(super) fn now(&self) -> &Book {
        &self.now
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The next changes. The numbers up to `last` are spread over them.
    pub(super) fn advance(&mut self, changes: &[Change], last: u64) {
        let numbers = (self.number + 1..last).chain(std::iter::repeat(last));
        for (number, change) in numbers.zip(changes) {
            self.now.apply(*change);
            self.changes.push_back((number, *change));
        }
        self.number = last;
        while self.changes.len() > self.kept {
            if let Some((number, change)) = self.changes.pop_front() {
                self.base.apply(change);
                // In the midst of a number, the book is that of no number.
                self.since = number;
            }
        }
    }

    /// How many changes are known.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.changes.len()
    }

    /// The first number whose book is known.
    pub(super) fn oldest(&self) -> u64 {
        let split = self.changes.front().is_some_and(|(next, _)| *next == self.since);
        self.since + u64::from(split)
    }

    /// The book as of `number`: `None` where it is too long ago, or yet to come.
    pub(super) fn at(&self, number: u64) -> Option<Book> {
        if number < self.oldest() || number > self.number {
            return None;
        }
        let mut book = self.base.clone();
        for (_, change) in self.changes.iter().take_while(|(at, _)| *at <= number) {
            book.apply(*change);
        }
        Some(book)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bid(price: u64, quantity: u64) -> Change {
        Change { price, quantity, side: Side::Bid }
    }

    #[test]
    fn each_number_has_its_book() {
        let mut history = History::new(10);
        history.advance(&[bid(1, 5), bid(2, 6), bid(3, 7)], 12);
        history.advance(&[bid(1, 0)], 15);
        history.advance(&[], 16);
        let bids = |number| history.at(number).map(|book| book.bids.into_iter().collect());
        assert_eq!(bids(9), None);
        assert_eq!(bids(10), Some(vec![]));
        assert_eq!(bids(11), Some(vec![(1, 5)]));
        assert_eq!(
            bids(12),
            Some(vec![(1, 5), (2, 6), (3, 7)]),
            "what is left has the last number"
        );
        assert_eq!(bids(13), Some(vec![(2, 6), (3, 7)]));
        assert_eq!(bids(16), bids(13));
        assert_eq!(bids(17), None);
    }

    #[test]
    fn what_is_long_ago_is_forgotten_and_nothing_else() {
        let mut history = History::new(0);
        for number in 1..=KEPT as u64 {
            history.advance(&[bid(number % 7, number), bid(number % 7, number + 1)], number);
        }
        let oldest = (KEPT / 2) as u64;
        assert!(history.at(oldest - 1).is_none());
        for number in [oldest, oldest + 1, oldest + 2, KEPT as u64] {
            let book = history.at(number).unwrap();
            assert_eq!(book.bids.len(), 7);
            assert_eq!(book.bids[&(number % 7)], number + 1, "{number}");
        }
    }

    #[test]
    fn what_is_kept_is_as_much_as_it_is_told_and_the_book_now_is_known_in_any_case() {
        for kept in [0, 1, 5] {
            let mut history = History::new(0);
            history.keep(kept);
            for number in 1..=1000 {
                history.advance(&[bid(number % 7, number)], number);
                assert!(history.changes.len() <= kept);
                let book = history.at(number).unwrap();
                assert_eq!(book.bids, history.now().bids, "{kept}");
            }
            assert_eq!(history.oldest(), 1000 - kept as u64);
            assert!(history.at(999 - kept as u64).is_none());
        }
    }

    #[test]
    fn a_book_is_said_from_the_best_price_on() {
        let mut book = Book::default();
        let ask = |price| Change { price, quantity: 150_000_000, side: Side::Ask };
        [bid(100_000_000, 1), bid(200_000_000, 2), ask(400_000_000), ask(300_000_000)]
            .into_iter()
            .for_each(|change| book.apply(change));
        assert_eq!(
            book.json(7),
            r#"{"lastUpdateId":7,"bids":[["2.00000000","0.00000002"],["1.00000000","0.00000001"]],"asks":[["3.00000000","1.50000000"],["4.00000000","1.50000000"]]}"#
        );
    }
}
