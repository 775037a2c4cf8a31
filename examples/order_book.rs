//! `cargo run --release --example order_book`: keeps a book right on an exchange that drops, repeats
//! and mixes up updates, loses sockets, and has slow, old and failing snapshots, and lags now and then
//! itself; compares it with the exchange's own. Takes `WSMUX_DEMO_SECONDS` and `WSMUX_DEMO_SEED`.

use std::{collections::BTreeMap, env, error::Error, io, process::ExitCode, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use wsmux::test_util::{DepthFaults, MockExchange};
use wsmux::{Config, ResyncPolicy, Resynced, RetryPolicy, WsManager, protocol::Direct};

type Book = [BTreeMap<String, String>; 2]; // quantities by price, of bids and asks
type Levels = Vec<(String, String)>;

/// A snapshot, or what has changed.
#[derive(serde::Deserialize)]
struct Depth {
    #[serde(rename = "U", default)]
    first: u64,
    #[serde(alias = "lastUpdateId", alias = "u")]
    last: u64,
    #[serde(alias = "b")]
    bids: Levels,
    #[serde(alias = "a")]
    asks: Levels,
}

fn apply(mut book: Book, depth: Depth) -> Book {
    for (side, levels) in book.iter_mut().zip([depth.bids, depth.asks]) {
        side.extend(levels);
        side.retain(|_, quantity| quantity != "0.00000000");
    }
    book
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let var = |name, default| env::var(name).map_or(Ok(default), |value| value.parse::<u64>());
    let end = Instant::now() + Duration::from_secs(var("WSMUX_DEMO_SECONDS", 3)?);
    let exchange = MockExchange::builder().rate(500).seed(var("WSMUX_DEMO_SEED", 0)?);
    let exchange = exchange.depth_faults(DepthFaults::rough()).start().await?;
    let ms = Duration::from_millis;
    let retry = RetryPolicy { base_delay: ms(20), min_delay: ms(5), ..RetryPolicy::forever() };
    let config = Config::default().retry(retry.clone()).buffer(100);
    let manager = WsManager::builder(Direct::new(&exchange.url())?).config(config).build()?;
    let [rest, truth] = [(); 2].map(|()| exchange.book("btcusdt")); // elsewhere, an HTTP client
    let fetch = move || {
        let body = rest.snapshot();
        async move { serde_json::from_str::<Depth>(&body.await?).map_err(io::Error::from) }
    };
    let policy = ResyncPolicy::numbered(|s: &Depth| s.last, |u: &Depth| u.first..=u.last);
    let mut items = manager.subscribe("btcusdt@depth")?.resync(fetch, policy.retry(retry));
    let mut book = Book::default();
    let [mut snapshots, mut updates, mut compared, mut differences] = [0; 4];
    while let Ok(Some(item)) = timeout_at(end, items.recv()).await {
        match item {
            Ok(Resynced::Snapshot(depth)) => {
                (book, snapshots) = (apply(Book::default(), depth), snapshots + 1);
            }
            Ok(Resynced::Update(depth)) => {
                let last = depth.last;
                (book, updates) = (apply(book, depth), updates + 1);
                if updates % 10 == 0 {
                    let own = serde_json::from_str(&truth.at(last).ok_or("too long ago")?)?;
                    differences += u32::from(book != apply(Book::default(), own));
                    compared += 1;
                }
                match updates % 500 {
                    200 => exchange.drop_sockets(),
                    400 => sleep(ms(400)).await, // to lag
                    _ => {}
                }
            }
            Err(notice) => println!("{notice}: the book is out of date until the next snapshot"),
        }
    }
    let resyncs = snapshots - 1;
    print!("order_book: {updates} updates, {resyncs} resyncs, {compared} books compared, ");
    println!("{differences} differences");
    Ok(if compared > 0 && differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
