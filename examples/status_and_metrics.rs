//! `cargo run --release --example status_and_metrics`: what an operator sees of three streams, one of
//! which the server refuses: status, events, rates, what to do about it, and text for Prometheus
//! (feature `prometheus`). Needs no network, and takes `WSMUX_DEMO_SECONDS`.

use std::{env, error::Error, pin::pin, time::Duration, time::SystemTime};

use futures::StreamExt as _;
use tokio::{select, time::sleep};
use wsmux::test_util::{Answer, MockExchange};
use wsmux::{Config, Event, ManagerMetrics, Shared, Thresholds, WsManager, protocol::Direct};

#[derive(serde::Deserialize)]
struct Trade {
    #[serde(rename = "E")]
    millis: u64, // when it happened, by the venue's clock
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let exchange = MockExchange::builder().rate(500).start().await?;
    let refused = MockExchange::path("xrpusdt@trade");
    exchange.server().set_answer(refused, Answer::status(503));

    let manager = WsManager::builder(Direct::new(&exchange.url())?)
        .config(Config::default().quiet_after(Duration::from_secs(30)))
        .label("spot") // tells managers of one process apart
        .build()?;
    let mut status = manager.status();
    let mut events = manager.events();
    let mut rates = manager.metrics_every(Duration::from_secs(1));

    let names = ["btcusdt@trade", "ethusdt@trade", "xrpusdt@trade"];
    let mut trades = manager.subscribe_all::<Shared<Trade>>(names)?;
    let happened = |t: &Trade| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(t.millis));
    let mut aged = manager.subscribe::<Trade>(names[0])?.latency_by(happened);

    let seconds = env::var("WSMUX_DEMO_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(4);
    let mut end = pin!(sleep(Duration::from_secs(seconds)));
    let mut before = ManagerMetrics::default();
    loop {
        select! {
            Some(overall) = status.next() => println!("the manager is {overall}"),
            Some(event) = events.next() => match event {
                Event::Connected { lane, handshake, .. } => {
                    println!("{lane:?} is open, after {handshake:.1?}");
                }
                Event::Retrying { lane, attempt, delay, error, .. } => {
                    println!("{lane:?}: attempt {attempt} follows in {delay:.1?}: {error}");
                }
                _ => {}
            },
            Some(now) = rates.next() => {
                let new = now.since(&before);
                let per_second = new.per_second(new.messages);
                println!("{per_second:.0} messages/s, {} retries, lag {}", new.retries, now.lag);
                before = now;
            }
            Some((name, item)) = trades.next() => if let Err(notice) = item {
                println!("{name}: {notice}");
            },
            Some(item) = aged.recv() => if let Err(notice) = item {
                println!("{notice}");
            },
            () = &mut end => break,
        }
    }
    println!("{}: {:?}", names[0], aged.latency());
    // By default, a stream that is down for so short a time is no finding.
    let strict = Thresholds::default().down_warn(Duration::from_secs(1));
    println!("{}", manager.diagnose_with(&strict));
    let health = manager.health_with(&strict);
    let text = manager.prometheus();
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    manager.shutdown().await;
    let ManagerMetrics { messages, retries, .. } = before;
    print!("status_and_metrics: {messages} messages, {retries} retries, ");
    println!("{} findings, {series} series", health.findings.len());
    Ok(())
}
