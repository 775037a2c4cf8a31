//! `wsmux bench`, against `wsmux mock` and scripted servers. Figures that depend on the machine's speed are
//! only held to what they cannot be.

use serde_json::Value;
use wsmux::test_util::{Answer, MockServer};

use super::mock::Exchange;
use super::*;

async fn measured(arguments: &[&str]) -> (Option<i32>, Value) {
    let ran = run(&[&["bench", "--json"], arguments].concat()).await;
    let json = serde_json::from_slice(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    (ran.code, json)
}

#[tokio::test]
async fn what_came_is_counted_and_bounded_by_seconds() {
    let exchange = Exchange::start(&["--rate", "200"]).await;
    let names = ["btcusdt@trade", "ethusdt@trade", "btcusdt@trade"];
    let arguments = [&["--seconds", "1", "--timestamp", "E", &exchange.url][..], &names].concat();
    let (code, json) = measured(&arguments).await;
    assert_eq!(code, Some(0), "{json}");
    assert_eq!((&json["streams"], &json["streams_opened"]), (&2.into(), &2.into()), "{json}");
    let messages = json["messages"].as_u64().unwrap();
    // A machine that stands still loses time, and none makes any.
    assert!((2..=2 * 300).contains(&messages), "{json}");
    assert!(json["bytes"].as_u64().unwrap() >= 100 * messages, "{json}");
    assert!(json["seconds"].as_f64().unwrap() <= 60.0, "{json}");
    assert!(json["messages_in_busiest_second"].as_u64().unwrap() <= messages, "{json}");
    assert_eq!((&json["gaps"], &json["reconnects"]), (&0.into(), &0.into()), "{json}");
    let latency = &json["latency_us"];
    assert_eq!(latency["messages"], messages, "{json}");
    // One clock: the mock cuts its time down to a millisecond.
    assert!(latency["least"].as_i64().unwrap() >= -1000, "{json}");
    assert!(latency["over_least_p50"].as_i64() <= latency["over_least_p99"].as_i64(), "{json}");
    assert!(latency["p50"].as_i64() <= latency["p99"].as_i64(), "{json}");
}

#[tokio::test]
async fn each_connection_is_a_socket_of_its_own_and_all_are_closed() {
    let server = serving(|peer| async move {
        peer.send("tick").await;
        peer.closed().await;
    })
    .await;
    let arguments = ["bench", "--json", "--connections", "3", &server.url(), "a", "b"];
    let program = Running::start(&arguments);
    within(server.until_sockets(6)).await;
    assert_eq!((server.sockets_on("/a"), server.sockets_on("/b")), (3, 3));
    // It has seen all that there is when it is asked to end: else it would be asked too early.
    for peer in server.peers() {
        peer.ping("seen").await;
        while !matches!(within(peer.recv()).await, Some(wsmux::transport::Frame::Pong(_))) {}
    }
    program.signal(Signal::INT);
    let ran = program.end().await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let json: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((&json["streams"], &json["streams_opened"]), (&6.into(), &6.into()), "{json}");
    within(server.until_sockets(0)).await;
}

#[tokio::test]
async fn a_feed_that_breaks_has_its_gaps_counted() {
    let exchange = Exchange::start(&["--rate", "500", "--drop-after", "20"]).await;
    let (code, json) = measured(&["--seconds", "3", &exchange.url, "btcusdt@trade"]).await;
    assert_eq!(code, Some(0), "{json}");
    let reconnects = json["reconnects"].as_u64().unwrap();
    assert!(reconnects >= 1 && json["gaps"].as_u64() >= Some(reconnects), "{json}");
    // Each of its sockets had at most 20.
    assert!(json["messages"].as_u64().unwrap() <= 20 * (reconnects + 1), "{json}");
    assert!(json["latency_us"].is_null(), "{json}");
}

#[tokio::test]
async fn it_is_an_error_if_nothing_was_open_and_if_what_was_open_is_lost() {
    let server = MockServer::builder().answer("/", Answer::status(503)).start().await.unwrap();
    let (code, json) = measured(&["--seconds", "1", &server.url(), "x"]).await;
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
    let exchange = Exchange::start(&["--rate", "200"]).await;
    let arguments = ["bench", "--seconds", "1", "--timestamp", "E", &exchange.url];
    let ran = run(&[&arguments[..], &["btcusdt@trade"]].concat()).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let text = ran.text();
    for part in
        ["messages ", "bytes ", "gaps       0: 0 reconnects", "apart ", "latency ", "over least"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("right as far as the two clocks agree"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
}
