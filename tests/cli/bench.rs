//! `wsmux bench`, against `wsmux mock` and scripted servers. Figures that depend on the machine's speed are
//! only held to what they cannot be.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::sync::Semaphore;
use wsmux::test_util::{Answer, MockServer};
use wsmux::transport::Frame;
use wsmux::{Text, WsManager};

use super::mock::Exchange;
use super::*;

async fn measured(arguments: &[&str]) -> (Option<i32>, Value) {
    figures(&run(&[&["bench", "--json"], arguments].concat()).await)
}

fn figures(ran: &Ran) -> (Option<i32>, Value) {
    let json = serde_json::from_slice(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    (ran.code, json)
}

/// A server that says so many messages, each with the time, on every socket.
struct Saying {
    server: MockServer,
    /// A permit for each socket on which all is said.
    said: Arc<Semaphore>,
}

impl Saying {
    async fn start(messages: usize) -> Self {
        let said = Arc::new(Semaphore::new(0));
        let has_said = Arc::clone(&said);
        let server = serving(move |peer| {
            let has_said = Arc::clone(&has_said);
            async move {
                for _ in 0..messages {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                    peer.send(format!("{{\"E\":{}}}", now.as_millis())).await;
                }
                has_said.add_permits(1);
                peer.closed().await;
            }
        })
        .await;
        Self { server, said }
    }

    /// Waits until so many sockets have read all that they are said.
    async fn until_read(&self, sockets: u32) {
        within(self.said.acquire_many(sockets)).await.unwrap().forget();
        for peer in self.server.peers() {
            // What was said before is handed out before its answer is written.
            peer.ping("read").await;
            while !matches!(within(peer.recv()).await, Some(Frame::Pong(_))) {}
        }
    }
}

#[tokio::test]
async fn what_came_is_counted() {
    let saying = Saying::start(50).await;
    let (url, names) = (saying.server.url(), ["a", "b", "a"]);
    let arguments = [&["bench", "--json", "--timestamp", "E", &url][..], &names].concat();
    let program = Running::start(&arguments);
    saying.until_read(2).await;
    program.signal(Signal::INT);
    let (code, json) = figures(&program.end().await);
    assert_eq!(code, Some(0), "{json}");
    assert_eq!((&json["streams"], &json["streams_opened"]), (&2.into(), &2.into()), "{json}");
    assert_eq!((&json["messages"], &json["bytes"]), (&100.into(), &1900.into()), "{json}");
    assert!(json["messages_in_busiest_second"].as_u64().unwrap() <= 100, "{json}");
    assert!(json["all_open_after_ms"].as_f64().unwrap() > 0.0, "{json}");
    assert_eq!((&json["gaps"], &json["reconnects"]), (&0.into(), &0.into()), "{json}");
    let latency = &json["latency_us"];
    assert_eq!(latency["messages"], 100, "{json}");
    assert!(latency["over_least_p50"].as_i64() <= latency["over_least_p99"].as_i64(), "{json}");
    assert!(latency["p50"].as_i64() <= latency["p99"].as_i64(), "{json}");
    within(saying.server.until_sockets(0)).await;
}

#[tokio::test]
async fn it_ends_by_itself_with_what_the_mock_exchange_said() {
    let exchange = Exchange::start(&["--rate", "200"]).await;
    let (code, json) = measured(&["--seconds", "5", &exchange.url, "btcusdt@trade"]).await;
    assert_eq!((code, &json["streams_opened"]), (Some(0), &1.into()), "{json}");
    // A machine that stands still loses time, and none makes any.
    assert!((2..=5 * 300).contains(&json["messages"].as_u64().unwrap()), "{json}");
    assert!(json["seconds"].as_f64().unwrap() <= 60.0, "{json}");
}

#[tokio::test]
async fn names_may_share_a_socket_by_the_protocol_of_the_server() {
    let exchange = Exchange::start(&["--protocol", "binance", "--rate", "200"]).await;
    let names = ["btcusdt@trade", "ethusdt@trade"];
    let arguments =
        [&["--protocol", "binance", "--seconds", "5", &exchange.url][..], &names].concat();
    let (code, json) = measured(&arguments).await;
    assert_eq!((code, &json["streams_opened"]), (Some(0), &2.into()), "{json}");
    assert!(json["messages"].as_u64().unwrap() >= 2, "{json}");

    let server = serving(|peer| async move { peer.closed().await }).await;
    let arguments =
        ["--protocol", "binance", "--seconds", "1", &server.url(), "a@trade", "b@trade"];
    let (_, json) = measured(&arguments).await;
    assert_eq!(server.dials(), 1, "one socket for both: {json}");
    assert_eq!(run(&["bench", "--protocol", "canary", "ws://h", "x"]).await.code, Some(2));
}

#[tokio::test]
async fn what_the_mock_speaks_is_measured_and_served() {
    for (protocol, field, names) in [
        ("graphql", "\"data\"", ["subscription { one }", "subscription { two }"]),
        ("tradingview", "\"n\"", ["NASDAQ:AAPL", "NASDAQ:MSFT"]),
    ] {
        let exchange = Exchange::start(&["--protocol", protocol, "--rate", "200"]).await;
        let (code, json) = measured(
            &[&["--protocol", protocol, "--seconds", "1", &exchange.url][..], &names].concat(),
        )
        .await;
        assert_eq!(code, Some(0), "{protocol}: {json}");
        assert!(json["messages"].as_u64().unwrap() > 20, "{protocol}: {json}");
        let upstream = ["--anonymous", "--protocol", protocol, "--upstream", &exchange.url];
        let gateway = serve::Gateway::start(&upstream).await;
        let manager = WsManager::connect(&format!("ws://{}/ws", gateway.at)).unwrap();
        let mut served = manager.subscribe::<Text>(names[0]).unwrap();
        let first = within(served.recv()).await.unwrap().unwrap();
        assert!(first.contains(field), "{first:?}");
    }
}

#[tokio::test]
async fn each_connection_is_a_socket_of_its_own() {
    let saying = Saying::start(1).await;
    let arguments = ["bench", "--json", "--connections", "3", &saying.server.url(), "a", "b"];
    let program = Running::start(&arguments);
    saying.until_read(6).await;
    assert_eq!((saying.server.sockets_on("/a"), saying.server.sockets_on("/b")), (3, 3));
    program.signal(Signal::TERM);
    let (code, json) = figures(&program.end().await);
    assert_eq!((code, &json["streams"], &json["messages"]), (Some(0), &6.into(), &6.into()));
    assert!(json["latency_us"].is_null(), "nobody asked: {json}");
    within(saying.server.until_sockets(0)).await;
}

#[tokio::test]
async fn a_feed_that_breaks_has_its_gaps_counted() {
    let server = serving(|peer| async move {
        peer.drop_after(20);
        while peer.send("tick").await {}
    })
    .await;
    let program = Running::start(&["bench", "--json", &server.url(), "x"]);
    within(server.until_dials(4)).await;
    program.signal(Signal::INT);
    let (code, json) = figures(&program.end().await);
    assert_eq!(code, Some(0), "{json}");
    let reconnects = json["reconnects"].as_u64().unwrap();
    assert!(reconnects >= 2 && json["gaps"].as_u64() >= Some(reconnects), "{json}");
    // Each of its sockets had 20, and the last one may be under way.
    let messages = json["messages"].as_u64().unwrap();
    assert!((20 * reconnects..=20 * (reconnects + 2)).contains(&messages), "{json}");
}

#[tokio::test]
async fn it_is_an_error_if_nothing_was_open_and_if_what_was_open_is_lost() {
    let server = MockServer::builder().answer("/", Answer::status(503)).start().await.unwrap();
    let (code, json) = measured(&["--seconds", "5", &server.url(), "x"]).await;
    assert_eq!((code, &json["messages"]), (Some(4), &0.into()), "{json}");
    assert!(json["apart_us"].is_null() && json["all_open_after_ms"].is_null(), "{json}");

    let exchange = Exchange::start(&["--rate", "500", "--drop-after", "5"]).await;
    let arguments = ["--retry", "never", "--timestamp", "q", &exchange.url, "btcusdt@trade"];
    let (code, json) = measured(&arguments).await;
    assert_eq!((code, &json["messages"]), (Some(1), &5.into()), "{json}");
    // The field is there, and is no time: a quantity below 1, or seconds of 1970.
    assert_eq!(json["latency_us"]["field"], "q");

    for arguments in [
        &["bench", "ws://h"][..],
        &["bench", "--seconds", "0", "ws://h", "x"],
        &["bench", "--connections", "0", "ws://h", "x"],
        &["bench", "--connections", "1001", "ws://h", "x"],
        &["bench", "--timestamp", "a..b", "ws://h", "x"],
    ] {
        assert_eq!(run(arguments).await.code, Some(2), "{arguments:?}");
    }
}

#[tokio::test]
async fn its_text_says_what_a_latency_is_worth() {
    let saying = Saying::start(10).await;
    let program = Running::start(&["bench", "--timestamp", "E", &saying.server.url(), "x"]);
    saying.until_read(1).await;
    program.signal(Signal::INT);
    let ran = program.end().await;
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    let text = ran.text();
    for part in [
        "messages   10 (",
        "bytes      190 B (",
        "gaps       0: 0 reconnects",
        "apart ",
        "over least ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("right as far as the two clocks agree"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
}
