//! Behaviour of the whole client, with paused time over the in-memory transport.
//!
//! One binary for all of it: it links once.

mod asker;
mod batches;
mod binance;
mod binance_api;
mod bybit;
mod callbacks;
mod channels;
mod coinbase;
mod compose;
mod credentials;
mod dedicated;
mod ext;
mod failover;
mod failures;
mod fallback;
mod first_hour;
mod graphql;
mod handover;
mod health;
mod home;
mod hyperliquid;
mod json_rpc;
mod kraken;
mod leases;
mod lifecycle;
mod limits;
mod lines;
mod liveness;
mod many;
#[cfg(feature = "prometheus")]
mod metrics;
mod multiplex;
mod okx;
mod pace;
mod packing;
mod pool;
mod readers;
mod reconnect;
#[cfg(feature = "record")]
mod record;
mod requests;
mod resync;
mod sending;
mod status;
mod suspend;
mod switch;
mod tradingview;
mod venue;

use std::time::Duration;

use futures::StreamExt as _;
use wsmux::protocol::{Direct, Protocol};
use wsmux::test_util::memory::{self, MemoryServer};
use wsmux::{CloseReason, Config, Gap, Limiter, Message, StreamError, Subscription, WsManager};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// Defaults, but for a heartbeat that is out of the way of tests that are not about it.
fn config() -> Config {
    let mut config = Config::default();
    config.heartbeat.interval = DAY;
    config
}

fn manager() -> (WsManager, MemoryServer) {
    manager_with(config())
}

fn manager_with(config: Config) -> (WsManager, MemoryServer) {
    manager_of(Direct::new("ws://test/{name}").unwrap(), config)
}

fn manager_of(protocol: impl Protocol, config: Config) -> (WsManager, MemoryServer) {
    status::care_for_lines();
    let (transport, server) = memory::pair();
    let builder = WsManager::builder(protocol).config(config).transport(transport).seed(7);
    (builder.limiter(Limiter::new()).build().unwrap(), server)
}

/// Lets all that can happen now happen.
async fn settle() {
    tokio::time::sleep(MS).await;
}

async fn message(stream: &mut Subscription<Message>) -> String {
    match stream.next().await {
        Some(Ok(message)) => message.as_text().expect("text").to_owned(),
        other => panic!("not a message: {other:?}"),
    }
}

async fn gap(stream: &mut Subscription<Message>) -> Gap {
    match stream.next().await {
        Some(Err(StreamError::Gap(gap))) => gap,
        other => panic!("not a gap: {other:?}"),
    }
}

/// The reason that the stream ends for, and that nothing follows.
async fn end(stream: &mut Subscription<Message>) -> CloseReason {
    let reason = match stream.next().await {
        Some(Err(StreamError::Closed(reason))) => reason,
        other => panic!("not the end: {other:?}"),
    };
    assert!(stream.next().await.is_none(), "the end is the last item");
    reason
}

fn alive_tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}
