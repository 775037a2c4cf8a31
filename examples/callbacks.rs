//! `cargo run --release --example callbacks`: a program with callbacks, and one that moves from its
//! old client to wsmux and back while it reads, without a gap. Needs no network: the exchange is
//! wsmux's own, and the old client is a plain WebSocket.

use std::{error::Error, process::ExitCode, time::Duration};

use futures::stream::{BoxStream, StreamExt as _, once};
use tokio::{net::TcpStream, time::sleep};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite};
use wsmux::compat::Switch;
use wsmux::test_util::MockExchange;
use wsmux::{Message, StreamError, WsManager};

#[derive(serde::Deserialize)]
struct Trade {
    t: u64,
}

/// The old client: a socket per call, and no word when it is lost.
fn old_client(url: String) -> BoxStream<'static, Result<Message, StreamError>> {
    let messages = once(open(url)).filter_map(std::future::ready).flatten();
    let texts = messages.filter_map(|message| async {
        let tungstenite::Message::Text(text) = message.ok()? else { return None };
        Some(Ok(Message::from(text.as_str())))
    });
    texts.boxed()
}

async fn open(url: String) -> Option<WebSocketStream<TcpStream>> {
    let socket = TcpStream::connect(url.split('/').nth(2)?).await.ok()?;
    Some(client_async(url, socket).await.ok()?.0)
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    std::panic::set_hook(Box::new(|panic| println!("callback: {panic}")));
    let exchange = MockExchange::builder().rate(500).start().await?;
    let (name, base) = ("btcusdt@trade", exchange.url());
    let manager = WsManager::connect(&base)?;

    // A callback: one call at a time, on a thread of its own, and a panic costs one item.
    let mut calls = 0;
    let guard = manager.subscribe_with::<Trade>(name, move |item| match item {
        Ok(trade) => {
            calls += 1;
            assert!(calls % 200 != 0, "trade {} costs itself, and no other", trade.t);
        }
        Err(notice) => println!("callback: {notice}"),
    })?;

    // A stream that moves: it joins the one client before it leaves the other.
    let switch = Switch::new(move |name: &str| old_client(format!("{base}/{name}")), manager);
    let mut stream = switch.subscribe(name);
    let mut audit = exchange.audit(name); // knows what the exchange sent
    let script = async {
        sleep(Duration::from_millis(700)).await;
        switch.use_new_for_all();
        sleep(Duration::from_millis(700)).await;
        println!("switch: {}", switch.report());
        switch.use_old(name);
        sleep(Duration::from_millis(700)).await;
        println!("switch: {}", switch.report());
    };
    let read = async {
        while let Some(item) = stream.recv().await {
            let number = |m: &Message| serde_json::from_slice::<Trade>(m.as_bytes()).unwrap().t;
            audit.item(item.as_ref().map(number).map(|t| t..=t));
        }
    };
    tokio::select! { () = script => {}, () = read => {} }

    let panics = guard.panics();
    guard.stop().await;
    let (moves, messages, repeated) = (switch.report().moved, audit.messages(), audit.repeated());
    let (gaps, lost) = (audit.gaps(), audit.lost_silently());
    print!("callbacks: {panics} panics contained, {messages} messages over {moves} moves, ");
    println!("{gaps} gaps, {repeated} repeated, {lost} lost silently");
    let is_right = panics > 0 && messages > 0 && (moves, gaps, repeated, lost) == (2, 0, 0, 0);
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
