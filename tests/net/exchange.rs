//! Readers of the mock exchange, held against what it knows that it served.

use futures::future::join_all;
use serde::Deserialize;
use wsmux::protocol::Direct;
use wsmux::test_util::MockExchange;
use wsmux::{Gap, StreamError, Subscription, WsManager};

use crate::{builder, config, within};

const NAMES: [&str; 4] = ["btcusdt@trade", "ethusdt@trade", "solusdt@trade", "xrpusdt@trade"];

#[derive(Deserialize)]
struct Trade {
    t: u64,
}

/// A reader, and the ids that it saw, cut where a gap stood.
struct Reader {
    name: &'static str,
    pieces: Vec<Vec<u64>>,
    stream: Subscription<Trade>,
}

impl Reader {
    fn new(manager: &WsManager, name: &'static str) -> Self {
        Self { name, pieces: vec![Vec::new()], stream: manager.subscribe(name).unwrap() }
    }

    /// Reads until there are `count` ids in piece `piece`.
    async fn read(&mut self, piece: usize, count: usize) {
        while self.pieces.len() <= piece || self.pieces[piece].len() < count {
            match within(self.stream.recv()).await.expect("no end") {
                Ok(trade) => self.pieces.last_mut().unwrap().push(trade.t),
                Err(StreamError::Gap(Gap::Reconnected { .. })) => self.pieces.push(Vec::new()),
                Err(other) => panic!("{}: {other}", self.name),
            }
        }
    }

    /// Checks that what it saw is what the exchange served, socket by socket.
    fn check(&self, exchange: &MockExchange) {
        let ledger = exchange.ledger(self.name);
        assert_eq!(ledger.len(), self.pieces.len(), "{}: a gap for each socket lost", self.name);
        for (piece, served) in self.pieces.iter().zip(&ledger) {
            let continuous = (served.first..).zip(piece).all(|(expected, id)| expected == *id);
            assert!(continuous, "{}: a hole without a gap", self.name);
        }
        for (piece, served) in self.pieces.iter().zip(&ledger).rev().skip(1) {
            assert_eq!(piece.last(), Some(&served.last), "{}: lost at the end", self.name);
        }
    }
}

async fn exchange(rate: u32) -> (MockExchange, WsManager) {
    let exchange = MockExchange::builder().rate(rate).seed(7).start().await.unwrap();
    let mut forever = config();
    forever.retry.max_attempts = None;
    let direct = Direct::new(&exchange.url()).unwrap();
    (exchange, builder(direct, forever).build().unwrap())
}

#[tokio::test]
async fn ids_are_continuous_but_where_a_gap_stands_and_a_gap_stands_only_at_a_drop() {
    const ROUNDS: usize = 10;
    let (exchange, manager) = exchange(2000).await;
    let mut readers: Vec<_> =
        NAMES.iter().flat_map(|name| [(); 3].map(|()| Reader::new(&manager, name))).collect();
    for round in 0..ROUNDS {
        join_all(readers.iter_mut().map(|reader| reader.read(round, 100))).await;
        exchange.drop_sockets();
    }
    join_all(readers.iter_mut().map(|reader| reader.read(ROUNDS, 100))).await;
    readers.iter().for_each(|reader| reader.check(&exchange));
    for name in NAMES {
        assert_eq!(exchange.server().max_sockets_on(&MockExchange::path(name)), 1);
    }
    assert_eq!(manager.metrics().lagged, 0);
    drop(readers);
    within(exchange.server().until_sockets(0)).await;
    assert_eq!(manager.stream_count(), 0);
}

#[tokio::test]
async fn seconds_at_full_rate_bring_neither_a_gap_nor_a_lag() {
    const RATE: u32 = 3000;
    let (exchange, manager) = exchange(RATE).await;
    let mut readers = NAMES.map(|name| Reader::new(&manager, name));
    let count = 3 * RATE as usize;
    join_all(readers.iter_mut().map(|reader| reader.read(0, count))).await;
    for reader in &readers {
        reader.check(&exchange);
        assert_eq!(reader.pieces.len(), 1);
    }
    let counts = manager.metrics();
    assert_eq!((counts.gaps, counts.lagged, counts.disconnects), (0, 0, 0));
    assert_eq!(exchange.server().dials(), NAMES.len());
}

#[tokio::test]
async fn a_reader_that_joins_late_begins_where_it_joined_and_misses_nothing_since() {
    let (exchange, manager) = exchange(2000).await;
    let mut first = Reader::new(&manager, NAMES[0]);
    first.read(0, 200).await;
    let mut late = Reader::new(&manager, NAMES[0]);
    late.read(0, 200).await;
    exchange.drop_sockets();
    futures::join!(first.read(1, 200), late.read(1, 200));
    first.check(&exchange);
    let (from, pieces) = (late.pieces[0][0], &first.pieces);
    let seen: Vec<_> = pieces[0].iter().copied().filter(|id| *id >= from).collect();
    assert_eq!(late.pieces[0], seen, "the same from there on");
    assert_eq!(late.pieces[1][..200], first.pieces[1][..200]);
}
