//! Order books kept from the mock exchange, held against its own.

use std::collections::BTreeMap;
use std::io;

use futures::future::join_all;
use serde::Deserialize;
use wsmux::protocol::Direct;
use wsmux::test_util::{DepthFaults, MockBook, MockExchange};
use wsmux::{Resync, ResyncPolicy, Resynced, RetryPolicy, Subscription};

use crate::{MS, builder, config, within};

const NAME: &str = "btcusdt@depth";

/// A snapshot, or what has changed.
#[derive(Debug, Deserialize)]
struct Depth {
    #[serde(rename = "U", default)]
    first: u64,
    #[serde(alias = "lastUpdateId", alias = "u")]
    last: u64,
    #[serde(alias = "b")]
    bids: Vec<(String, String)>,
    #[serde(alias = "a")]
    asks: Vec<(String, String)>,
}

/// A reader's book, compared with the exchange's after each update.
struct Kept {
    book: Option<[BTreeMap<String, String>; 2]>,
    compared: usize,
    different: usize,
    gaps: usize,
    truth: MockBook,
}

impl Kept {
    fn new(truth: MockBook) -> Self {
        Self { book: None, compared: 0, different: 0, gaps: 0, truth }
    }

    fn snapshot(&mut self, depth: Depth) {
        self.book = Some(<[_; 2]>::default());
        self.update(depth);
    }

    fn update(&mut self, depth: Depth) {
        let last = depth.last;
        let book = self.book.as_mut().expect("a snapshot first");
        apply(book, depth);
        let own = self.truth.at(last).expect("it was not long ago");
        let mut expected = <[_; 2]>::default();
        apply(&mut expected, serde_json::from_str(&own).unwrap());
        self.compared += 1;
        self.different += usize::from(*book != expected);
    }
}

fn apply(book: &mut [BTreeMap<String, String>; 2], depth: Depth) {
    for (side, levels) in book.iter_mut().zip([depth.bids, depth.asks]) {
        side.extend(levels);
        side.retain(|_, quantity| quantity != "0.00000000");
    }
}

/// Does things to the exchange and its readers, by the count of books compared.
async fn mishap(exchange: &MockExchange, compared: usize) {
    match compared % 200 {
        80 => exchange.drop_sockets(),
        160 => {
            // Until the reader has lagged.
            let sent = exchange.sent(NAME);
            while exchange.sent(NAME) < sent + 150 {
                tokio::task::yield_now().await;
            }
        }
        _ => {}
    }
}

async fn exchange(seed: u64, faults: DepthFaults) -> MockExchange {
    MockExchange::builder().rate(1000).seed(seed).depth_faults(faults).start().await.unwrap()
}

fn subscribe(exchange: &MockExchange, buffer: usize) -> Subscription<Depth> {
    let mut config = config().buffer(buffer);
    config.retry.max_attempts = None;
    let manager = builder(Direct::new(&exchange.url()).unwrap(), config).build().unwrap();
    manager.subscribe(NAME).unwrap()
}

fn resync(exchange: &MockExchange, buffer: usize) -> Resync<Depth, Depth> {
    let rest = exchange.book("btcusdt");
    let fetch = move || {
        let body = rest.snapshot();
        async move { serde_json::from_str(&body.await?).map_err(io::Error::from) }
    };
    let retry = RetryPolicy { base_delay: 10 * MS, min_delay: 2 * MS, ..RetryPolicy::forever() };
    let policy = ResyncPolicy::numbered(|s: &Depth| s.last, |u: &Depth| u.first..=u.last);
    subscribe(exchange, buffer).resync(fetch, policy.retry(retry))
}

#[tokio::test]
async fn a_book_is_the_exchanges_after_each_update_whatever_goes_wrong() {
    let runs = (0..4).map(|seed| async move {
        let exchange = exchange(seed, DepthFaults::rough()).await;
        let mut items = resync(&exchange, 100);
        let mut kept = Kept::new(exchange.book("btcusdt"));
        // How many gaps the mishaps make is a matter of time: one may fall into another's.
        while kept.compared < 600 || kept.gaps < 4 {
            assert!(kept.compared < 6000, "only {} gaps with seed {seed}", kept.gaps);
            match within(items.recv()).await.expect("no end") {
                Ok(Resynced::Snapshot(depth)) => kept.snapshot(depth),
                Ok(Resynced::Update(depth)) => {
                    kept.update(depth);
                    mishap(&exchange, kept.compared).await;
                }
                Err(_) => {
                    kept.gaps += 1;
                    kept.book = None;
                }
            }
        }
        assert_eq!(kept.different, 0, "seed {seed}");
    });
    join_all(runs).await;
}

#[tokio::test]
async fn a_book_that_misses_updates_is_found_to_differ() {
    let exchange = exchange(1, DepthFaults { dropped: 0.02, ..DepthFaults::default() }).await;
    let mut kept = Kept::new(exchange.book("btcusdt"));
    let mut updates = subscribe(&exchange, 1 << 16);
    within(updates.ready()).await.unwrap();
    let body = exchange.book("btcusdt").snapshot().await.unwrap();
    kept.snapshot(serde_json::from_str(&body).unwrap());
    assert_eq!(kept.different, 0);
    while kept.compared < 600 {
        if let Some(Ok(depth)) = within(updates.recv()).await {
            kept.update(depth);
        }
    }
    assert!(kept.different > 60, "{} of {} differ", kept.different, kept.compared);
}

#[tokio::test]
async fn without_faults_a_book_needs_one_snapshot() {
    let exchange = exchange(2, DepthFaults::default()).await;
    let mut items = resync(&exchange, 1 << 16);
    let mut kept = Kept::new(exchange.book("btcusdt"));
    while kept.compared < 300 {
        match within(items.recv()).await.expect("no end").expect("no gap") {
            Resynced::Snapshot(depth) => kept.snapshot(depth),
            Resynced::Update(depth) => kept.update(depth),
        }
    }
    assert_eq!((kept.different, items.fetches()), (0, 1));
}
