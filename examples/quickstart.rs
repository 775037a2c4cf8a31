//! `cargo run --release --example quickstart`: four readers share two sockets, lose both, and are
//! told. Needs no network: the exchange is wsmux's own. With arguments, a real venue until Ctrl-C:
//! `cargo run --release --example quickstart -- wss://stream.binance.com:9443/ws/ btcusdt@trade`

use std::{collections::BTreeSet, error::Error, pin::pin, process::ExitCode, time::Duration};

use futures::{StreamExt as _, stream::select_all};
use tokio::time::{Instant, sleep, timeout};
use wsmux::test_util::{Audit, MockExchange};
use wsmux::{Text, WsManager};

#[derive(Debug, serde::Deserialize)]
#[serde(tag = "e", rename_all = "camelCase")]
#[expect(dead_code, non_snake_case, reason = "the exchange's names; the price is printed only")]
enum Update {
    Trade { t: u64, p: String },
    DepthUpdate { U: u64, u: u64 },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if let [base, names @ ..] = &*args {
        return read_venue(base, names).await;
    }
    let start = Instant::now();
    let exchange = MockExchange::builder().rate(1000).start().await?;
    let manager = WsManager::connect(&exchange.url())?;
    let names = ["btcusdt@trade", "btcusdt@trade", "btcusdt@trade", "btcusdt@depth"];
    let mut readers = Vec::new();
    for (id, name) in names.into_iter().enumerate() {
        readers.push(manager.subscribe::<Update>(name)?.map(move |item| (id, item)));
        println!("reader {id}: subscribed to {name}");
    }
    let script = async {
        exchange.server().until_sockets(2).await;
        sleep(Duration::from_secs(1)).await;
        println!("exchange: drops all of its {} sockets", exchange.sockets());
        exchange.drop_sockets();
        exchange.server().until_sockets(2).await;
        sleep(Duration::from_secs(1)).await;
    };
    let mut items = pin!(select_all(readers).take_until(timeout(Duration::from_secs(8), script)));
    let mut audits = names.map(|name| exchange.audit(name)); // knows what the exchange sent
    let mut news = [Some("first message"); 4];
    while let Some((id, item)) = items.next().await {
        audits[id].item(item.as_ref().map(|update| match *update {
            Update::Trade { t, .. } => t..=t,
            Update::DepthUpdate { U, u } => U..=u,
        }));
        let ms = start.elapsed().as_secs_f64() * 1e3;
        match (std::mem::replace(&mut news[id], item.is_err().then_some("back")), item) {
            (_, Err(notice)) => println!("reader {id}: {notice}"),
            (Some(what), Ok(item)) => println!("reader {id}: {what} after {ms:.1} ms: {item:?}"),
            (None, Ok(_)) => {}
        }
    }
    let most = |name| exchange.server().max_sockets_on(&MockExchange::path(name));
    let (readers, sockets) = (manager.metrics().readers, most(names[0]) + most(names[3]));
    let sum = |count: fn(&Audit) -> u64| audits.iter().map(count).sum::<u64>();
    let (messages, lost) = (sum(Audit::messages), sum(Audit::lost_silently));
    let gaps: BTreeSet<_> = audits.iter().map(Audit::gaps).collect();
    let gaps = if gaps == [1].into() { "1 gap".to_owned() } else { format!("{gaps:?} gaps") };
    print!("quickstart: {readers} readers, {sockets} sockets, {messages} messages, ");
    println!("{gaps} each, {lost} lost silently");
    let expected = (readers, sockets, &*gaps, lost) == (4, 2, "1 gap", 0) && messages > 0;
    Ok(if expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn read_venue(base: &str, names: &[String]) -> Result<ExitCode, Box<dyn Error>> {
    tracing_subscriber::fmt().init(); // says why a venue cannot be reached
    let manager = WsManager::connect(base)?;
    let readers: Result<Vec<_>, _> = names.iter().map(|n| manager.subscribe::<Text>(n)).collect();
    let mut items = pin!(select_all(readers?).take_until(tokio::signal::ctrl_c()));
    while let Some(item) = items.next().await {
        println!("{}", item.unwrap_or_else(|notice| Text::from(notice.to_string())));
    }
    manager.shutdown().await;
    Ok(ExitCode::SUCCESS)
}
