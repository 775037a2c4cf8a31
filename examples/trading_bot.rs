//! `cargo run --release --example trading_bot`: buys when the mean of the last 50 prices rises over
//! that of the last 200, and sells when it falls below. Prices from before a gap do not count. Runs
//! on wsmux's own exchange until Ctrl-C or `WSMUX_DEMO_SECONDS`; with arguments, on a real venue:
//! `cargo run --release --example trading_bot -- wss://stream.binance.com:9443/ws btcusdt@trade`

use std::{collections::HashMap, collections::VecDeque, env, error::Error, pin::pin};

use futures::{FutureExt as _, StreamExt as _};
use tokio::signal::ctrl_c;
use tokio::time::{Duration, sleep, timeout};
use tokio_stream::StreamMap;
use wsmux::test_util::MockExchange;
use wsmux::{Config, RetryPolicy, StreamError, WsManager, protocol::Direct};

#[derive(serde::Deserialize)]
struct Trade {
    p: String, // Binance's name for the price
}

/// What the bot knows of one name.
#[derive(Default)]
struct Market {
    prices: VecDeque<f64>,
    rising: Option<bool>,
}

impl Market {
    /// Takes a price, and says so when the trend turns.
    fn turn(&mut self, price: f64) -> Option<&'static str> {
        self.prices.push_front(price);
        self.prices.truncate(200);
        let mean = |last: usize| self.prices.iter().take(last).sum::<f64>() / last as f64;
        let rising = (self.prices.len() == 200).then(|| mean(50) > mean(200))?;
        let before = self.rising.replace(rising)?;
        (before != rising).then_some(if rising { "buy" } else { "sell" })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let exchange = MockExchange::builder().rate(500).start().await?;
    let mut args: Vec<_> = env::args().skip(1).collect();
    if args.is_empty() {
        args = [&*exchange.url(), "btcusdt@trade", "ethusdt@trade"].map(String::from).into();
    }
    let (base, names) = (&args[0], &args[1..]);
    let config = Config::default().retry(RetryPolicy::forever()); // outlasts a venue's maintenance
    let manager = WsManager::builder(Direct::new(base)?).config(config).build()?;
    let mut markets = HashMap::<_, Market>::new();
    let mut streams = StreamMap::new();
    for name in names {
        streams.insert(name, manager.subscribe::<Trade>(name)?);
    }
    let outage = sleep(Duration::from_secs(1)).then(|()| async { exchange.drop_sockets() });
    let seconds = env::var("WSMUX_DEMO_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let limit = seconds.map_or(Duration::MAX, Duration::from_secs);
    let stop = timeout(limit, async { tokio::join!(ctrl_c(), outage) });
    let mut trades = pin!(streams.take_until(stop));
    let mut signals = 0;
    while let Some((name, item)) = trades.next().await {
        let market = markets.entry(name).or_default();
        match item {
            Ok(Trade { p: price }) => {
                if let Some(signal) = market.turn(price.parse()?) {
                    signals += 1;
                    println!("{name}: {signal} at {price}");
                }
            }
            Err(StreamError::Gap(gap)) => {
                *market = Market::default();
                println!("{name}: {gap}");
            }
            Err(notice) => println!("{name}: {notice}"),
        }
    }
    manager.shutdown().await;
    let (messages, gaps) = (manager.metrics().messages, manager.metrics().gaps);
    println!("trading_bot: {messages} messages, {signals} signals, {gaps} gaps");
    Ok(())
}
