//! Coinbase Advanced Trade: the whole client against the venue's mock, with paused time.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures::{FutureExt as _, StreamExt as _};
use serde_json::Value;
use tokio::time::{self, Instant};
use wsmux::protocol::{CoinbaseAdvanced, Direct};
use wsmux::test_util::{Answers, Mock, MockCoinbase};
use wsmux::{
    CloseReason, Credentials, DisconnectReason, Gap, Message, SubscribeError, Subscription, Token,
    WsManager, WsManagerBuilder,
};

use crate::venue::{self, deep, joined, no_faults};
use crate::{MINUTE, MS, SECOND, end, gap, settle};

const BOOK: &str = "level2:BTC-USD";
const TICKER: &str = "ticker:BTC-USD";

fn coinbase() -> CoinbaseAdvanced {
    CoinbaseAdvanced::new("wss://mock").unwrap().user("wss://mock/user").unwrap()
}

fn built() -> (Mock<MockCoinbase>, WsManager) {
    venue::built(coinbase())
}

fn publish(mock: &Mock<MockCoinbase>, name: &str, number: u32) -> usize {
    let (channel, product) = name.split_once(':').unwrap_or((name, "BTC-USD"));
    mock.tell(|coinbase, out| coinbase.publish(channel, &[(product, number)], out))
}

/// The number of the next event of a stream.
async fn number(stream: &mut Subscription<Message>) -> Value {
    let event = venue::json(stream).await["events"][0].clone();
    let rows = ["tickers", "trades", "orders"].map(|rows| event[rows][0]["n"].clone());
    rows.into_iter().find(|n| !n.is_null()).unwrap_or_else(|| event["n"].clone())
}

#[tokio::test(start_paused = true)]
async fn names_share_a_socket_and_rows_of_several_products_come_to_each_of_them() {
    let (mock, manager) = built();
    let names = [TICKER, "ticker:ETH-USD", "market_trades:BTC-USD", BOOK];
    let [mut btc, mut eth, mut trades, mut book] = joined(&manager, names).await;
    mock.tell(|coinbase, out| {
        coinbase.publish("ticker", &[("BTC-USD", 1), ("ETH-USD", 2)], out);
    });
    assert_eq!(publish(&mock, "market_trades:BTC-USD", 3), 1);
    let message = venue::json(&mut btc).await;
    assert_eq!(message["events"][0]["tickers"][1]["n"], 2, "as it came");
    assert_eq!(venue::json(&mut eth).await, message);
    assert_eq!((number(&mut trades).await, number(&mut book).await), (3.into(), 0.into()));
    assert_eq!((mock.opened(), manager.metrics().unroutable), (1, 0));
    for name in ["level2", "heartbeats", "ticker:BTC-USDC", "what:A"] {
        let refused = manager.subscribe::<Message>(name).unwrap_err();
        assert!(matches!(refused, SubscribeError::InvalidName(_)), "{name}: {refused}");
    }
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_name_leaves_its_neighbours_undisturbed_in_both_ways_of_refusing() {
    for by_errors in [false, true] {
        let (mock, manager) = built();
        mock.tell(|coinbase, _| {
            coinbase.by_errors(by_errors);
            coinbase.unknown("NOPE");
        });
        let mut nope = manager.subscribe::<Message>("ticker:NOPE").unwrap();
        let names = [TICKER, "ticker:A-USD", "ticker:B-USD", "ticker:C-USD"];
        let mut streams = joined(&manager, names).await;
        assert!(matches!(end(&mut nope).await, CloseReason::Rejected { .. }));
        for (stream, name) in streams.iter_mut().zip(names) {
            publish(&mock, name, 1);
            assert_eq!(number(stream).await, 1);
            assert!(stream.next().now_or_never().is_none());
        }
        assert_eq!((mock.opened(), manager.metrics().unroutable), (1, 0));
        no_faults(&mock);
    }
}

#[tokio::test(start_paused = true)]
async fn a_book_begins_with_its_snapshot_also_where_that_overtakes_the_list() {
    for early in [false, true] {
        let (mock, manager) = built();
        mock.answers(Answers::After(500 * MS));
        mock.tell(|coinbase, _| coinbase.early(early));
        let [mut book] = joined(&manager, [BOOK]).await;
        assert_eq!(number(&mut book).await, 0);
        publish(&mock, BOOK, 1);
        assert_eq!(number(&mut book).await, 1);
        assert_eq!(manager.metrics().unroutable, 0);
        no_faults(&mock);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_missing_is_a_gap_in_its_place_for_all_names_of_the_socket() {
    let (mock, manager) = built();
    let [mut book, mut ticker] = joined(&manager, [BOOK, TICKER]).await;
    assert_eq!(number(&mut book).await, 0);
    publish(&mock, TICKER, 1);
    mock.tell(|coinbase, _| coinbase.lose());
    publish(&mock, BOOK, 2);
    assert_eq!(gap(&mut book).await, Gap::Sequence { missed: Some(1) });
    assert_eq!(number(&mut book).await, 2);
    assert_eq!(number(&mut ticker).await, 1);
    assert_eq!(gap(&mut ticker).await, Gap::Sequence { missed: Some(1) });
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn another_socket_takes_over_with_its_snapshot_and_without_a_gap() {
    let (mock, manager) = built();
    let [mut book] = joined(&manager, [BOOK]).await;
    assert_eq!(number(&mut book).await, 0);
    assert!(manager.reconnect(BOOK));
    time::sleep(30 * SECOND).await;
    assert_eq!((mock.opened(), mock.sockets().len()), (2, 1));
    assert_eq!(number(&mut book).await, 0, "the new socket's own snapshot");
    publish(&mock, BOOK, 1);
    assert_eq!(number(&mut book).await, 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_lost_socket_costs_each_name_one_gap() {
    let (mock, manager) = built();
    let [mut book, mut ticker] = joined(&manager, [BOOK, TICKER]).await;
    assert_eq!(number(&mut book).await, 0);
    mock.drop_all();
    for stream in [&mut book, &mut ticker] {
        assert!(matches!(gap(stream).await, Gap::Reconnected { .. }));
    }
    assert_eq!(number(&mut book).await, 0);
    publish(&mock, TICKER, 1);
    assert_eq!(number(&mut ticker).await, 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_dropped_is_left_and_can_be_had_again() {
    let (mock, manager) = built();
    mock.answers(Answers::After(10 * MS));
    let [book, mut ticker] = joined(&manager, [BOOK, TICKER]).await;
    drop(book);
    settle().await;
    let mut book = manager.subscribe::<Message>(BOOK).unwrap();
    assert_eq!(number(&mut book).await, 0, "from its snapshot on");
    drop(book);
    time::sleep(2 * SECOND).await;
    assert_eq!(mock.tell(|coinbase, _| coinbase.names()), [TICKER]);
    publish(&mock, TICKER, 1);
    assert_eq!(number(&mut ticker).await, 1);
    assert_eq!((mock.opened(), manager.metrics().unroutable), (1, 0));
    drop(ticker);
    mock.until_sockets(0).await;
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_call_too_many_is_made_again_later_and_a_burst_keeps_to_the_pace() {
    let (mock, manager) = built();
    mock.tell(|coinbase, _| coinbase.refuse_next("rate limit exceeded"));
    let start = Instant::now();
    let [_ticker] = joined(&manager, [TICKER]).await;
    assert!(start.elapsed() >= 100 * MS, "{:?}", start.elapsed());
    for n in 0..40 {
        let name = format!("candles:{n}");
        drop(joined(&manager, [&*name]).await);
    }
    settle().await;
    assert_eq!(mock.opened(), 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_a_quiet_socket_and_a_server_without_them_is_given_up() {
    let (mock, manager) = built();
    let [mut ticker] = joined(&manager, [TICKER]).await;
    time::sleep(60 * MINUTE).await;
    assert_eq!((mock.opened(), manager.metrics().unroutable), (1, 0));
    mock.tell(|coinbase, _| coinbase.deaf(true));
    let start = Instant::now();
    let Gap::Reconnected { reason, .. } = gap(&mut ticker).await else { panic!() };
    assert_eq!(reason, DisconnectReason::Protocol);
    assert!(start.elapsed() < 15 * SECOND, "{:?}", start.elapsed());
    no_faults(&mock);
}

/// A client whose tokens are what `tokens` says at each call.
fn with_tokens(
    tokens: &'static [&'static str],
) -> (Mock<MockCoinbase>, WsManager, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let credentials = Credentials::new(move |_| {
        let token = tokens[count.fetch_add(1, Relaxed).min(tokens.len() - 1)];
        async move { Ok::<_, std::io::Error>(Token::new(token)) }
    });
    let (mock, builder): (Mock<MockCoinbase>, WsManagerBuilder) = venue::builder(coinbase());
    let manager = builder.credentials(credentials.in_band()).build().unwrap();
    (mock, manager, asked)
}

#[tokio::test(start_paused = true)]
async fn private_names_say_the_token_of_the_moment_and_a_refused_one_is_asked_for_anew() {
    let (mock, manager, asked) = with_tokens(&["old", "token", "fresh"]);
    let [mut user] = joined(&manager, ["user"]).await;
    assert_eq!((mock.opened(), asked.load(Relaxed)), (2, 2));
    mock.tell(|coinbase, _| coinbase.token("fresh"));
    manager.rotate_credentials();
    time::sleep(MINUTE).await;
    let [_balance] = joined(&manager, ["futures_balance_summary"]).await;
    publish(&mock, "user", 1);
    assert_eq!(number(&mut user).await, 1, "it lives on");
    assert_eq!((mock.opened(), asked.load(Relaxed)), (2, 3));
    no_faults(&mock);

    let (_mock, manager, _) = with_tokens(&["s3cr3t"]);
    let mut user = manager.subscribe::<Message>("user").unwrap();
    let reason = end(&mut user).await;
    assert!(matches!(reason, CloseReason::Unauthorized { .. }), "{reason:?}");
    assert!(!format!("{reason:?} {reason}").contains("s3cr3t"));
}

#[tokio::test(start_paused = true)]
async fn what_is_for_nobody_is_counted_and_disturbs_nobody() {
    let (mock, manager) = built();
    let [mut ticker] = joined(&manager, [TICKER]).await;
    let nested = format!(r#"{{"channel":"ticker","events":{}}}"#, deep());
    let lies = [
        r#"{"channel":"ticker","events":[{"type":"update","tickers":[{"product_id":"X"}]}]}"#,
        r#"{"channel":"ticker","events":[7]}"#,
        r#"{"channel":"what","events":[]}"#,
        r#"{"channel":"subscriptions","events":[{"subscriptions":7}]}"#,
        r#"{"channel":7}"#,
        "no JSON",
        &deep(),
        &nested,
    ];
    lies.iter().for_each(|lie| mock.send_all(*lie));
    publish(&mock, TICKER, 1);
    assert_eq!(number(&mut ticker).await, 1);
    assert_eq!((manager.metrics().unroutable, mock.opened()), (lies.len() as u64, 1));
}

/// The mock is honest about what it finds: clients that do wrong are noted.
#[tokio::test(start_paused = true)]
async fn the_mock_notes_what_a_client_does_wrong() {
    let (mock, manager) = venue::built::<MockCoinbase>(Direct::new("ws://mock").unwrap());
    let [_market, _idle] = joined(&manager, ["market", "idle"]).await;
    for said in [
        "no JSON",
        r#"{"type":"what"}"#,
        r#"{"type":"unsubscribe","channel":"ticker","product_ids":["A"]}"#,
        r#"{"type":"subscribe","channel":"ticker","product_ids":["A"]}"#,
        r#"{"type":"subscribe","channel":"ticker","product_ids":["A"]}"#,
        r#"{"type":"subscribe","channel":"candles","product_ids":["A"],"jwt":"token"}"#,
    ] {
        manager.send("market", said).await.unwrap();
    }
    for n in 0..3 {
        let call = format!(r#"{{"type":"subscribe","channel":"status","product_ids":["{n}"]}}"#);
        manager.send("market", call).await.unwrap();
    }
    time::sleep(5100 * MS).await;
    let what: HashSet<_> = mock.faults().into_iter().map(|fault| fault.what).collect();
    for expected in [
        "no call",
        r#"ticker ["A"] is joined or left once more"#,
        "a token on a market socket",
        "more than eight messages in a second",
        "without heartbeats",
        "no call came within 5 s",
    ] {
        assert!(what.iter().any(|what| what.starts_with(expected)), "{expected}: {what:?}");
    }
    assert_eq!(what.len(), 7, "{what:?}");
}
