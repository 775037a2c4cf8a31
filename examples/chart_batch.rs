//! `cargo run --release --example chart_batch --features cache`: 100 symbols in two resolutions from a
//! chart server, first over connections that have yet to open, then over warm ones, then from the cache.
//! Needs no network: the server is a mock on a port, which answers after 20 ms.

use std::{error::Error, time::Duration};

use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::time::Instant;
use wsmux::protocol::JsonRpc;
use wsmux::requests::{CacheConfig, Call, Pooled, RequestPool, RequestPoolBuilder};
use wsmux::test_util::{Answers, Mock, MockJsonRpc};

fn calls() -> Vec<String> {
    let symbols = (0..100).map(|n| format!("SYMBOL{n}"));
    let call = |symbol: &str, resolution| {
        json!({"method": "chart", "params": {"symbol": symbol, "resolution": resolution}})
            .to_string()
    };
    symbols.flat_map(|symbol| ["1m", "1h"].map(|resolution| call(&symbol, resolution))).collect()
}

/// How long it took to get all charts, and how many failed.
async fn fetch(pool: &RequestPool, title: &'static str, cached: bool) -> (Duration, usize) {
    let calls = calls().into_iter().map(|body| {
        let call = Call::new(body).idempotent();
        if cached { call.cached() } else { call }
    });
    let (start, mut batch) = (Instant::now(), pool.batch(calls));
    let bar = ProgressBar::new(batch.progress().total as u64);
    let style = ProgressStyle::with_template("{prefix:>6} {bar:40} {pos}/{len} {msg}");
    bar.set_style(style.expect("a template"));
    bar.set_prefix(title);
    while let Some(chart) = batch.next().await {
        bar.set_position(chart.progress.done as u64);
        bar.set_message(format!("{} failed", chart.progress.failed));
    }
    bar.finish();
    (start.elapsed(), batch.progress().failed)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut server = MockJsonRpc::default();
    server.answer("chart", json!([[1, 2.0], [2, 3.0]]));
    let server = Mock::on_port(server).await?;
    server.answers(Answers::After(Duration::from_millis(20)));

    let protocol = Pooled::new(JsonRpc::new(&server.url())?).unjoined();
    let pool = RequestPoolBuilder::of(protocol, "charts").cache(CacheConfig::default()).build()?;
    let (cold, failed) = fetch(&pool, "cold", false).await;
    let (warm, more) = fetch(&pool, "warm", true).await; // Fills the cache.
    let (cached, last) = fetch(&pool, "cached", true).await;
    let stats = pool.stats();
    println!(
        "{} connections, {} in flight at once, {:?}",
        stats.open,
        stats.batch_size,
        pool.cache_stats()
    );
    pool.manager().shutdown().await;
    println!(
        "chart_batch: {} charts, cold {cold:.0?}, warm {warm:.0?}, cached {cached:.1?}, {} failed",
        calls().len(),
        failed + more + last
    );
    Ok(())
}
