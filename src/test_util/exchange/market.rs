//! What happens on the market: messages in Binance's form, the same ones for the same seed.

use std::fmt::{self, Write as _};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::book::{Change, History, Side};
use super::decimal::{Decimal, UNIT};
use crate::message::Message;

/// The least step of a price.
const TICK: u64 = UNIT / 100;
/// Prices on each side of a book, about.
const DEPTH: usize = 500;

/// The kind of a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    BookTicker,
    Depth,
    Trade,
}

/// A message and the numbers it stands for.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) message: Message,
}

/// A random walk, and the numbers of one stream.
#[derive(Debug)]
pub(super) struct Market {
    /// Where there is one.
    book: Option<History>,
    kind: Kind,
    symbol: String,
    rng: StdRng,
    /// Of the last message.
    number: u64,
    price: u64,
    bounds: (u64, u64),
}

impl Market {
    /// The market of a stream, or `None` for a name that has none.
    pub(super) fn new(name: &str, seed: u64) -> Option<Self> {
        let (symbol, kind) = parse(name)?;
        let mut rng = StdRng::seed_from_u64(seed ^ fnv(name));
        let price = rng.random_range(10..70_000) * UNIT;
        let number = rng.random_range(1_000_000..1_000_000_000);
        Some(Self {
            book: (kind == Kind::Depth).then(|| History::new(number)),
            kind,
            symbol: symbol.to_uppercase(),
            number,
            rng,
            price,
            bounds: (price / 2, price * 2),
        })
    }

    /// The same, with a book that is known so many changes back.
    pub(super) fn keeping(mut self, changes: usize) -> Self {
        if let Some(book) = &mut self.book {
            book.keep(changes);
        }
        self
    }

    /// What happens next, at `now` in milliseconds since 1970.
    pub(super) fn next(&mut self, now: u64) -> Event {
        let step = self.rng.random_range(0..=10) * TICK;
        let (low, high) = self.bounds;
        self.price = (self.price + step).saturating_sub(5 * TICK).clamp(low, high);
        let first = self.number + 1;
        let mut text = String::with_capacity(160);
        // Writing into a string does not fail.
        let _ = match self.kind {
            Kind::BookTicker => self.book_ticker(&mut text),
            Kind::Depth => self.depth(&mut text, now),
            Kind::Trade => self.trade(&mut text, now),
        };
        Event { first, last: self.number, message: text.into() }
    }

    fn trade(&mut self, out: &mut String, now: u64) -> fmt::Result {
        self.number += 1;
        let (price, quantity) = (Decimal(self.price), self.quantity());
        let maker = self.rng.random_bool(0.5);
        write!(
            out,
            r#"{{"e":"trade","E":{now},"s":"{}","t":{},"p":"{price}","q":"{quantity}","T":{now},"m":{maker},"M":true}}"#,
            self.symbol, self.number,
        )
    }

    fn book_ticker(&mut self, out: &mut String) -> fmt::Result {
        self.number += self.rng.random_range(1..=20);
        let (bid, ask) = (Decimal(self.price), Decimal(self.price + TICK));
        let (bids, asks) = (self.quantity(), self.quantity());
        write!(
            out,
            r#"{{"u":{},"s":"{}","b":"{bid}","B":"{bids}","a":"{ask}","A":"{asks}"}}"#,
            self.number, self.symbol,
        )
    }

    fn depth(&mut self, out: &mut String, now: u64) -> fmt::Result {
        let first = self.number + 1;
        self.number += self.rng.random_range(1..=5);
        write!(
            out,
            r#"{{"e":"depthUpdate","E":{now},"s":"{}","U":{first},"u":{},"b":["#,
            self.symbol, self.number,
        )?;
        let bids = self.changes(Side::Bid);
        write_levels(out, &bids)?;
        out.push_str(r#"],"a":["#);
        let asks = self.changes(Side::Ask);
        write_levels(out, &asks)?;
        out.push_str("]}");
        if let Some(book) = &mut self.book {
            book.advance(&[bids, asks].concat(), self.number);
        }
        Ok(())
    }

    /// Takes out what the price has passed and what is too much, and sets some prices close by.
    fn changes(&mut self, side: Side) -> Vec<Change> {
        let mut gone = Vec::new();
        if let Some(book) = &self.book {
            let now = book.now();
            match side {
                Side::Ask => {
                    gone.extend(now.asks.range(..=self.price).map(|level| *level.0));
                    gone.extend(now.asks.keys().copied().skip(DEPTH));
                }
                Side::Bid => {
                    gone.extend(now.bids.range(self.price..).map(|level| *level.0));
                    gone.extend(now.bids.keys().rev().copied().skip(DEPTH));
                }
            }
        }
        let change = |price, quantity| Change { price, quantity, side };
        let mut changes: Vec<_> = gone.into_iter().map(|price| change(price, 0)).collect();
        let mut away = 0;
        for _ in 0..self.rng.random_range(0..=3) {
            away += self.rng.random_range(1..=10) * TICK;
            let removed = self.rng.random_bool(0.2);
            let Decimal(quantity) = if removed { Decimal(0) } else { self.quantity() };
            let price = match side {
                Side::Ask => self.price + away,
                Side::Bid => self.price - away,
            };
            changes.push(change(price, quantity));
        }
        changes
    }

    pub(super) fn book(&self) -> Option<&History> {
        self.book.as_ref()
    }

    fn quantity(&mut self) -> Decimal {
        Decimal(self.rng.random_range(1..=100_000) * (UNIT / 100_000))
    }
}

fn write_levels(out: &mut String, changes: &[Change]) -> fmt::Result {
    for (place, change) in changes.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        write!(out, r#"{comma}["{}","{}"]"#, Decimal(change.price), Decimal(change.quantity))?;
    }
    Ok(())
}

fn parse(name: &str) -> Option<(&str, Kind)> {
    let (symbol, kind) = name.split_once('@')?;
    let kind = match kind {
        "bookTicker" => Kind::BookTicker,
        "depth" => Kind::Depth,
        "trade" => Kind::Trade,
        _ => return None,
    };
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (!symbol.is_empty() && symbol.len() <= 32 && symbol.chars().all(lower))
        .then_some((symbol, kind))
}

/// FNV-1a: a hash that is the same in every build.
pub(super) fn fnv(name: &str) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    name.bytes().fold(0xCBF2_9CE4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::book::Levels;
    use super::*;

    fn events(name: &str, seed: u64) -> Vec<(Event, Value)> {
        let mut market = Market::new(name, seed).unwrap();
        let next = || {
            let event = market.next(1_672_515_782_136);
            let json = serde_json::from_slice(event.message.as_bytes()).unwrap();
            (event, json)
        };
        std::iter::repeat_with(next).take(1000).collect()
    }

    #[test]
    fn numbers_follow_on_each_other() {
        let trades = events("btcusdt@trade", 1);
        for pair in trades.windows(2) {
            assert_eq!(pair[1].1["t"], pair[0].1["t"].as_u64().unwrap() + 1);
        }
        let depth = events("btcusdt@depth", 1);
        for pair in depth.windows(2) {
            assert_eq!(pair[1].1["U"], pair[0].1["u"].as_u64().unwrap() + 1);
        }
        let ticker = events("btcusdt@bookTicker", 1);
        assert!(ticker.windows(2).all(|pair| pair[1].0.first == pair[0].0.last + 1));
        assert!(ticker.iter().all(|(event, json)| json["u"] == event.last));
    }

    #[test]
    fn a_bid_is_below_the_ask_and_prices_stay_in_bounds() {
        let mut market = Market::new("btcusdt@bookTicker", 7).unwrap();
        for _ in 0..100_000 {
            let json: Value = serde_json::from_slice(market.next(0).message.as_bytes()).unwrap();
            let price = |key: &str| json[key].as_str().unwrap().parse::<f64>().unwrap();
            assert!(0.0 < price("b") && price("b") < price("a"), "{json}");
        }
    }

    #[test]
    fn some_levels_are_removed() {
        let depth = events("btcusdt@depth", 1);
        let removes = |json: &Value| json.to_string().contains(r#""0.00000000""#);
        assert!(depth.iter().any(|(_, json)| removes(json)));
        assert!(!depth.iter().all(|(_, json)| removes(json)));
    }

    #[test]
    fn updates_applied_are_the_book_and_bids_stay_below_asks() {
        let mut market = Market::new("btcusdt@depth", 3).unwrap();
        let mut book = [Levels::new(), Levels::new()];
        for _ in 0..5000 {
            let json: Value = serde_json::from_slice(market.next(0).message.as_bytes()).unwrap();
            for (side, key) in book.iter_mut().zip(["b", "a"]) {
                for level in json[key].as_array().unwrap() {
                    let [price, quantity] = [0, 1].map(|at| {
                        let text = level[at].as_str().unwrap().replace('.', "");
                        text.parse::<u64>().unwrap()
                    });
                    side.insert(price, quantity);
                    side.retain(|_, quantity| *quantity > 0);
                }
            }
            let now = market.book().unwrap().now();
            assert_eq!(book, [now.bids.clone(), now.asks.clone()]);
            let best = [book[0].keys().next_back(), book[1].keys().next()];
            assert!(best[0].is_none_or(|bid| best[1].is_none_or(|ask| bid < ask)), "{best:?}");
            assert!(book.iter().all(|side| side.len() <= DEPTH + 3));
        }
        assert!(book.iter().all(|side| !side.is_empty()));
    }

    #[test]
    fn a_seed_decides_all_and_each_name_has_a_walk_of_its_own() {
        let text = |name, seed| {
            let events = events(name, seed);
            events.into_iter().map(|(event, _)| event.message).collect::<Vec<_>>()
        };
        assert_eq!(text("btcusdt@trade", 1), text("btcusdt@trade", 1));
        assert_ne!(text("btcusdt@trade", 1), text("btcusdt@trade", 2));
        let price = |name: &str| Market::new(name, 1).unwrap().price;
        assert_ne!(price("btcusdt@trade"), price("ethusdt@trade"));
    }

    #[test]
    fn other_names_have_no_market() {
        for name in ["BTCUSDT@trade", "btcusdt", "@trade", "btcusdt@Trade", "btc/usdt@trade", ""] {
            assert!(Market::new(name, 1).is_none(), "{name:?}");
        }
    }
}
