//! `cargo run --release --example polling_fallback`: trades keep coming while the exchange is down, by
//! polling. Counts those that came live, those that were polled, and those that came twice, or never
//! without a notice. Takes `WSMUX_DEMO_SECONDS` (8); in each four the exchange is down for two.

use std::{collections::HashSet, env, error::Error, process::ExitCode, sync::Arc};

use tokio::time::{Duration, Instant, sleep, timeout_at};
use wsmux::test_util::MockExchange;
use wsmux::{Config, FallbackPolicy, RetryPolicy, WsManager, protocol::Direct};

const NAME: &str = "btcusdt@trade";

#[derive(serde::Deserialize)]
struct Trade {
    t: u64,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let seconds = env::var("WSMUX_DEMO_SECONDS").map_or(Ok(8), |seconds| seconds.parse())?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let ms = Duration::from_millis;
    let exchange = Arc::new(MockExchange::builder().rate(200).start().await?);
    let retry = RetryPolicy { base_delay: ms(50), max_delay: ms(100), ..RetryPolicy::forever() };
    let config = Config::default().retry(retry);
    let manager = WsManager::builder(Direct::new(&exchange.url())?).config(config).build()?;

    let rest = Arc::clone(&exchange); // elsewhere, an HTTP client
    let poll = move || {
        let recent = rest.recent(NAME);
        let read = |message: &wsmux::Message| serde_json::from_slice::<Trade>(message.as_bytes());
        async move { recent.iter().map(read).collect::<Result<Vec<_>, _>>() }
    };
    let (grace, first_interval) = (ms(200), ms(100));
    let policy = FallbackPolicy { grace, first_interval, ..FallbackPolicy::default() };
    let trades = manager.subscribe::<Trade>(NAME)?;
    let mut trades = trades.with_fallback(poll, |trade| trade.t, policy);

    let outages = tokio::spawn(async move {
        while exchange.server().resume().await.is_ok() {
            sleep(ms(2000)).await;
            exchange.server().stop_listening().await;
            exchange.drop_sockets();
            println!("the exchange is down");
            sleep(ms(2000)).await;
        }
    });
    let (mut seen, mut next, mut told) = (HashSet::new(), u64::MAX, false);
    let [mut live, mut polled, mut repeated, mut lost] = [0; 4];
    while let Ok(Some(item)) = timeout_at(end, trades.recv()).await {
        match item {
            Ok(trade) => {
                *(if trade.is_live() { &mut live } else { &mut polled }) += 1;
                let number = trade.into_inner().t;
                repeated += u64::from(!seen.insert(number));
                // Trades from an earlier outage may come late.
                if !std::mem::take(&mut told) {
                    lost += number.saturating_sub(next);
                }
                next = if next == u64::MAX { number + 1 } else { next.max(number + 1) };
            }
            Err(notice) => {
                println!("{notice}, after {} polls", trades.polls());
                told = true;
            }
        }
    }
    outages.abort();
    println!("polling_fallback: {live} live, {polled} polled, {repeated} repeated, {lost} lost");
    let expected = live > 0 && polled > 0 && repeated == 0 && lost == 0;
    Ok(if expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
