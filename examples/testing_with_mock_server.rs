//! `cargo run --release --example testing_with_mock_server`: a bot of a few lines, and how to test
//! it: over TCP, and with an hour's outage in milliseconds. In your crate, put
//! `wsmux = { version = "0.1", features = ["test-util"] }` among the `[dev-dependencies]`.

use std::time::Duration;

use tokio::time::Instant;
use wsmux::protocol::Direct;
use wsmux::test_util::{Answer, MockServer, memory};
use wsmux::transport::TransportError;
use wsmux::{Config, DisconnectReason, RetryPolicy, StreamError, Subscription, WsManager};

/// The bot: how much the price rises over three messages without a gap between them.
async fn rise(prices: &mut Subscription<f64>) -> f64 {
    let mut window = Vec::new();
    while window.len() < 3 {
        match prices.recv().await {
            Some(Ok(price)) => window.push(price),
            Some(Err(StreamError::Gap(_))) => window.clear(),
            Some(Err(notice)) => println!("the bot is told: {notice}"),
            None => return 0.0,
        }
    }
    window[2] - window[0]
}

// #[tokio::test]
async fn prices_before_a_gap_do_not_count() {
    let server = MockServer::start().await.unwrap();
    server.next_dials([Answer::status(503)]); // only the first one
    let manager = WsManager::connect(&server.url()).unwrap();
    let mut prices = manager.subscribe("x").unwrap();
    let script = async {
        let peer = server.accept().await;
        peer.send_all(["10.0", "20.0"]).await;
        peer.reset();
        let peer = server.accept().await;
        peer.send_all(["1.0", "no price", "3.0", "4.0"]).await;
    };
    let (rise, ()) = tokio::join!(rise(&mut prices), script);
    assert_eq!(rise, 3.0);
    assert_eq!((server.dials(), server.max_sockets_on("/x")), (3, 1));
}

// #[tokio::test(start_paused = true)]
async fn an_outage_of_an_hour_is_outlasted() {
    let (transport, mut server) = memory::pair();
    let manager = WsManager::builder(Direct::new("ws://test").unwrap())
        .config(Config::default().retry(RetryPolicy::forever()))
        .transport(transport)
        .build()
        .unwrap();
    let mut prices = manager.subscribe("x").unwrap();
    let script = async {
        server.accept().await.send("10.0"); // and drops its socket
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3600) {
            server.refuse(TransportError::new(DisconnectReason::Dns)).await;
        }
        let peer = server.accept().await;
        peer.send_all(["1.0", "2.0", "4.0"]);
    };
    let (rise, ()) = tokio::join!(rise(&mut prices), script);
    assert_eq!(rise, 3.0);
}

fn main() {
    // What `#[tokio::test]` does.
    let test = |paused| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(paused).build().unwrap()
    };
    test(false).block_on(prices_before_a_gap_do_not_count());
    let start = Instant::now();
    test(true).block_on(an_outage_of_an_hour_is_outlasted());
    let took = start.elapsed();
    println!("testing_with_mock_server: 2 tests passed, an hour's outage in {took:.1?}");
}
