//! Kraken: the whole client against the venue's mock, with paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{self, Instant};
use wsmux::protocol::{Direct, KrakenV2};
use wsmux::test_util::{Answers, Mock, MockKraken};
use wsmux::{
    CloseReason, Credentials, DisconnectReason, Gap, Message, SubscribeError, Subscription, Token,
    WsManager, WsManagerBuilder,
};

use crate::venue::{self, deep, joined, no_faults};
use crate::{MINUTE, MS, SECOND, end, gap, settle};

const BOOK: &str = "book:BTC/USD";
const TRADES: &str = "trade:BTC/USD";

fn kraken() -> KrakenV2 {
    KrakenV2::new("wss://mock/v2").unwrap().private("wss://mock/auth/v2").unwrap()
}

fn built() -> (Mock<MockKraken>, WsManager) {
    venue::built(kraken())
}

fn publish(mock: &Mock<MockKraken>, name: &str, number: u32) -> usize {
    mock.tell(|kraken, out| kraken.publish(name, &json!({"n": number}), out))
}

/// The number of the next row of a stream.
async fn number(stream: &mut Subscription<Message>) -> Value {
    venue::json(stream).await["data"][0]["n"].clone()
}

#[tokio::test(start_paused = true)]
async fn names_without_options_share_a_socket_and_those_with_options_are_among_themselves() {
    let (mock, manager) = built();
    let names =
        [TRADES, BOOK, "ticker:ETH/USD", "book:BTC/USD,depth=100", "book:ETH/USD,depth=100"];
    let [mut trades, mut book, _ticker, mut deep, _other] = joined(&manager, names).await;
    assert_eq!(mock.opened(), 2);
    assert_eq!(publish(&mock, TRADES, 1), 1);
    assert_eq!((number(&mut trades).await, number(&mut book).await), (json!(1), json!(0)));
    assert_eq!(number(&mut deep).await, 0, "a snapshot each");
    assert_eq!(publish(&mock, BOOK, 2), 2, "which no message tells apart");
    assert_eq!((number(&mut book).await, number(&mut deep).await), (json!(2), json!(2)));
    for name in ["status", "trade", "level3:BTC/USD"] {
        let refused = manager.subscribe::<Message>(name).unwrap_err();
        assert!(matches!(refused, SubscribeError::InvalidName(_)), "{name}: {refused}");
    }
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn rows_of_several_symbols_come_to_each_of_their_names() {
    let (mock, manager) = built();
    let [mut btc, mut eth, mut xrp] =
        joined(&manager, [TRADES, "trade:ETH/USD", "trade:XRP/USD"]).await;
    mock.tell(|kraken, out| {
        let rows = [("BTC/USD", json!({"n": 1})), ("ETH/USD", json!({"n": 2}))];
        kraken.publish_rows("trade", &rows, out);
    });
    publish(&mock, "trade:XRP/USD", 3);
    let message = venue::json(&mut btc).await;
    assert_eq!(message["data"][1]["n"], 2, "as it came");
    assert_eq!(venue::json(&mut eth).await, message);
    assert_eq!((number(&mut xrp).await, manager.metrics().unroutable), (json!(3), 0));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_name_leaves_its_neighbours_undisturbed_also_where_nobody_says_which_it_is() {
    for nameless in [false, true] {
        let (mock, manager) = built();
        mock.tell(|kraken, _| {
            kraken.nameless(nameless);
            kraken.unknown("trade:NOPE");
        });
        let mut nope = manager.subscribe::<Message>("trade:NOPE").unwrap();
        let names = [TRADES, "trade:A/B", "trade:C/D", "trade:E/F"];
        let mut streams = joined(&manager, names).await;
        let CloseReason::Rejected { reason } = end(&mut nope).await else { panic!() };
        assert_eq!(reason.as_str(), "Currency pair not supported NOPE");
        for (stream, name) in streams.iter_mut().zip(names) {
            publish(&mock, name, 1);
            assert_eq!(number(stream).await, 1);
            assert!(stream.next().now_or_never().is_none());
        }
        assert_eq!(mock.opened(), 1);
        no_faults(&mock);
    }
}

#[tokio::test(start_paused = true)]
async fn a_book_begins_with_its_snapshot_also_where_that_overtakes_the_confirmation() {
    for early in [false, true] {
        let (mock, manager) = built();
        mock.answers(Answers::After(SECOND));
        mock.tell(|kraken, _| kraken.early(early));
        let [mut book] = joined(&manager, [BOOK]).await;
        assert_eq!(venue::json(&mut book).await["type"], "snapshot");
        publish(&mock, BOOK, 1);
        assert_eq!(number(&mut book).await, 1);
        assert_eq!(manager.metrics().unroutable, 0);
        no_faults(&mock);
    }
}

#[tokio::test(start_paused = true)]
async fn another_socket_takes_over_with_its_snapshot_and_without_a_gap() {
    let (mock, manager) = built();
    let [mut book] = joined(&manager, [BOOK]).await;
    assert_eq!(venue::json(&mut book).await["type"], "snapshot");
    assert!(manager.reconnect(BOOK));
    time::sleep(30 * SECOND).await;
    assert_eq!((mock.opened(), mock.sockets().len()), (2, 1));
    assert_eq!(venue::json(&mut book).await["type"], "snapshot");
    publish(&mock, BOOK, 1);
    assert_eq!(number(&mut book).await, 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_lost_socket_costs_each_name_one_gap() {
    let (mock, manager) = built();
    let [mut book, mut trades] = joined(&manager, [BOOK, TRADES]).await;
    assert_eq!(number(&mut book).await, 0);
    mock.drop_all();
    for stream in [&mut book, &mut trades] {
        assert!(matches!(gap(stream).await, Gap::Reconnected { .. }));
    }
    assert_eq!(number(&mut book).await, 0);
    publish(&mock, TRADES, 1);
    assert_eq!(number(&mut trades).await, 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_dropped_is_left_and_can_be_had_again() {
    let (mock, manager) = built();
    mock.answers(Answers::After(10 * MS));
    let [book, mut trades] = joined(&manager, [BOOK, TRADES]).await;
    drop(book);
    settle().await;
    let mut book = manager.subscribe::<Message>(BOOK).unwrap();
    assert_eq!(number(&mut book).await, 0, "from its snapshot on");
    drop(book);
    time::sleep(SECOND).await;
    assert_eq!(mock.tell(|kraken, _| kraken.names()), [TRADES]);
    publish(&mock, TRADES, 1);
    assert_eq!(number(&mut trades).await, 1);
    assert_eq!((mock.opened(), manager.metrics().unroutable), (1, 0));
    drop(trades);
    mock.until_sockets(0).await;
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_call_too_many_is_made_again_later_and_a_leave_too() {
    let (mock, manager) = built();
    mock.tell(|kraken, _| kraken.refuse_next());
    let start = Instant::now();
    let [_trades, book] = joined(&manager, [TRADES, BOOK]).await;
    assert!(start.elapsed() >= 100 * MS, "{:?}", start.elapsed());
    mock.tell(|kraken, _| kraken.refuse_next());
    drop(book);
    time::sleep(2 * SECOND).await;
    assert_eq!(mock.tell(|kraken, _| kraken.names()), [TRADES]);
    assert_eq!(mock.opened(), 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_a_quiet_socket_and_a_deaf_server_is_given_up() {
    let (mock, manager) = built();
    let [mut trades] = joined(&manager, [TRADES]).await;
    time::sleep(60 * MINUTE).await;
    assert_eq!((mock.opened(), manager.metrics().unroutable), (1, 0));
    mock.tell(|kraken, _| kraken.deaf(true));
    let start = Instant::now();
    let Gap::Reconnected { reason, .. } = gap(&mut trades).await else { panic!() };
    assert_eq!(reason, DisconnectReason::Protocol);
    assert!(start.elapsed() < 15 * SECOND, "{:?}", start.elapsed());
    no_faults(&mock);
}

/// A client whose tokens are what `tokens` says at each call, for as long as tokens of the venue.
fn with_tokens(tokens: &'static [&'static str]) -> (Mock<MockKraken>, WsManager, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let credentials = Credentials::new(move |_| {
        let token = tokens[count.fetch_add(1, Relaxed).min(tokens.len() - 1)];
        async move { Ok::<_, std::io::Error>(Token::new(token)) }
    });
    let (mock, builder): (Mock<MockKraken>, WsManagerBuilder) = venue::builder(kraken());
    let manager = builder.credentials(credentials.in_band()).build().unwrap();
    (mock, manager, asked)
}

#[tokio::test(start_paused = true)]
async fn private_names_say_their_token_and_miss_no_number_unseen() {
    let (mock, manager, _) = with_tokens(&["token"]);
    let [mut executions, _balances, _trades] =
        joined(&manager, ["executions", "balances", TRADES]).await;
    assert_eq!(mock.opened(), 2);
    assert_eq!(number(&mut executions).await, 0);
    mock.tell(|kraken, _| kraken.lose("executions"));
    publish(&mock, "executions", 1);
    assert_eq!(gap(&mut executions).await, Gap::Sequence { missed: Some(1) });
    assert_eq!(number(&mut executions).await, 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_asked_for_anew_and_refused_again_ends_the_names() {
    let (mock, manager, asked) = with_tokens(&["old", "token"]);
    let [_executions] = joined(&manager, ["executions"]).await;
    assert_eq!((mock.opened(), asked.load(Relaxed)), (2, 2));
    no_faults(&mock);

    let (_mock, manager, _) = with_tokens(&["s3cr3t"]);
    let mut executions = manager.subscribe::<Message>("executions").unwrap();
    let reason = end(&mut executions).await;
    assert!(matches!(reason, CloseReason::Unauthorized { .. }), "{reason:?}");
    assert!(!format!("{reason:?} {reason}").contains("s3cr3t"));
    let (_mock, manager) = built();
    let mut executions = manager.subscribe::<Message>("executions").unwrap();
    let reason = end(&mut executions).await;
    assert!(matches!(reason, CloseReason::Unauthorized { .. }), "without any: {reason:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_is_used_on_the_open_socket() {
    let (mock, manager, asked) = with_tokens(&["token", "fresh"]);
    let [mut executions] = joined(&manager, ["executions"]).await;
    mock.tell(|kraken, _| kraken.token("fresh"));
    manager.rotate_credentials();
    time::sleep(MINUTE).await;
    assert_eq!((mock.opened(), asked.load(Relaxed)), (1, 2));
    let [_balances] = joined(&manager, ["balances"]).await;
    assert_eq!(number(&mut executions).await, 0);
    assert!(executions.next().now_or_never().is_none(), "it lives on");
    assert_eq!(mock.opened(), 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn what_is_for_nobody_is_counted_and_disturbs_nobody() {
    let (mock, manager) = built();
    let [mut trades] = joined(&manager, [TRADES]).await;
    let nested = format!(r#"{{"channel":"trade","type":"update","data":{}}}"#, deep());
    let lies = [
        r#"{"channel":"trade","type":"update","data":[{"symbol":"other"}]}"#,
        r#"{"channel":"trade","type":"update","data":[]}"#,
        r#"{"channel":7,"data":[{"symbol":"BTC/USD"}]}"#,
        r#"{"method":"subscribe","success":true,"req_id":1}"#,
        r#"{"method":"subscribe","success":false,"error":"no","req_id":99}"#,
        r#"{"error":"Malformed request","method":"error","success":false}"#,
        "no JSON",
        &deep(),
        &nested,
    ];
    lies.iter().for_each(|lie| mock.send_all(*lie));
    publish(&mock, TRADES, 1);
    assert_eq!(number(&mut trades).await, 1);
    assert_eq!((manager.metrics().unroutable, mock.opened()), (lies.len() as u64, 1));
}

/// The mock is honest about what it finds: clients that do wrong are noted.
#[tokio::test(start_paused = true)]
async fn the_mock_notes_what_a_client_does_wrong() {
    let (mock, manager) = venue::built::<MockKraken>(Direct::new("ws://mock").unwrap());
    let [_socket] = joined(&manager, ["v2"]).await;
    for said in [
        "no JSON",
        r#"{"method":"what","params":{}}"#,
        r#"{"method":"unsubscribe","params":{"channel":"trade","symbol":["A"]}}"#,
        r#"{"method":"subscribe","params":{"channel":"trade","symbol":["A","A"]}}"#,
        r#"{"method":"subscribe","params":{"channel":"balances","token":"token"}}"#,
        r#"{"method":"subscribe","params":{"channel":"trade","symbol":["B"],"token":"token"}}"#,
    ] {
        manager.send("v2", said).await.unwrap();
    }
    settle().await;
    let what: Vec<_> = mock.faults().into_iter().map(|fault| fault.what).collect();
    let expected = [
        "no call",
        "no call",
        "trade:A is left, and is not there",
        "trade:A is asked for twice",
        "balances on the wrong host",
        "a token on a public socket",
    ];
    assert_eq!(what.len(), expected.len(), "{what:?}");
    assert!(what.iter().zip(expected).all(|(what, e)| what.starts_with(e)), "{what:?}");
}
