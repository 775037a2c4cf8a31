//! Hyperliquid: the whole client against the venue's mock, with paused time.

use futures::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{self, Instant};
use wsmux::protocol::{Direct, Hyperliquid};
use wsmux::test_util::{Answers, Mock, MockHyperliquid};
use wsmux::{CloseReason, DisconnectReason, Gap, Message, SubscribeError, Subscription, WsManager};

use crate::venue::{self, deep, joined, no_faults};
use crate::{MINUTE, MS, SECOND, end, gap, settle};

const BOOK: &str = "l2Book:BTC";
const TRADES: &str = "trades:BTC";

fn built() -> (Mock<MockHyperliquid>, WsManager) {
    venue::built(Hyperliquid::new("wss://mock/ws").unwrap())
}

/// The subscription of a name without options.
fn of(name: &str) -> Value {
    match name.split_once(':') {
        Some((kind, coin)) => json!({"type": kind, "coin": coin}),
        None => json!({"type": name}),
    }
}

fn publish(mock: &Mock<MockHyperliquid>, subscription: &Value, number: u32) -> usize {
    mock.tell(|venue, out| venue.publish(subscription, number, out))
}

/// The next number of a stream.
async fn number(stream: &mut Subscription<Message>) -> Value {
    let data = venue::json(stream).await["data"].clone();
    if data.is_array() { data[0]["n"].clone() } else { data["n"].clone() }
}

#[tokio::test(start_paused = true)]
async fn names_that_data_tells_apart_share_a_socket_and_the_others_have_their_own() {
    let (mock, manager) = built();
    let names = [
        TRADES,
        "trades:ETH",
        "candle:BTC,interval=1m",
        "candle:BTC,interval=5m",
        "allMids",
        BOOK,
        "l2Book:BTC,nSigFigs=5",
        "userFills,user=0xa",
        "userEvents,user=0xa",
        "userEvents,user=0xb",
    ];
    let mut streams = joined(&manager, names).await;
    assert_eq!(mock.opened(), 4, "public, of the options, and of two users");
    let five = json!({"type": "candle", "coin": "BTC", "interval": "5m"});
    let rough = json!({"type": "l2Book", "coin": "BTC", "nSigFigs": 5});
    let other = json!({"type": "userEvents", "user": "0xb"});
    for (at, subscription) in [(1, of(names[1])), (3, five), (4, of(names[4])), (9, other)] {
        assert_eq!(publish(&mock, &subscription, 7), 1);
        assert_eq!(number(&mut streams[at]).await, 7);
    }
    assert_eq!(
        (number(&mut streams[5]).await, number(&mut streams[6]).await),
        (json!(0), json!(0))
    );
    publish(&mock, &rough, 8);
    assert_eq!(number(&mut streams[6]).await, 8);
    assert!(streams[5].next().now_or_never().is_none(), "no other's variant");
    assert_eq!(number(&mut streams[7]).await, 0);
    assert_eq!(manager.metrics().unroutable, 0);
    for name in ["candle:BTC", "userFills,user=0xA", "user,user=0xa"] {
        let refused = manager.subscribe::<Message>(name).unwrap_err();
        assert!(matches!(refused, SubscribeError::InvalidName(_)), "{name}: {refused}");
    }
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_name_leaves_its_neighbours_undisturbed() {
    let (mock, manager) = built();
    mock.tell(|venue, _| venue.unknown("NOPE"));
    let mut nope = manager.subscribe::<Message>("trades:NOPE").unwrap();
    let names = [TRADES, "trades:A", "trades:B"];
    let mut streams = joined(&manager, names).await;
    let CloseReason::Rejected { reason } = end(&mut nope).await else { panic!() };
    assert!(reason.starts_with("Invalid subscription"), "{reason}");
    for (stream, name) in streams.iter_mut().zip(names) {
        publish(&mock, &of(name), 1);
        assert_eq!(number(stream).await, 1);
        assert!(stream.next().now_or_never().is_none());
    }
    assert_eq!((mock.opened(), manager.metrics().unroutable), (1, 0));
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_book_begins_with_its_state_also_where_that_overtakes_the_confirmation() {
    for early in [false, true] {
        let (mock, manager) = built();
        mock.answers(Answers::After(SECOND));
        mock.tell(|venue, _| venue.early(early));
        let [mut book] = joined(&manager, [BOOK]).await;
        assert_eq!(number(&mut book).await, 0);
        publish(&mock, &of(BOOK), 1);
        assert_eq!(number(&mut book).await, 1);
        assert_eq!(manager.metrics().unroutable, 0);
        no_faults(&mock);
    }
}

#[tokio::test(start_paused = true)]
async fn another_socket_takes_over_without_a_gap() {
    let (mock, manager) = built();
    let [mut book] = joined(&manager, [BOOK]).await;
    assert_eq!(number(&mut book).await, 0);
    assert!(manager.reconnect(BOOK));
    time::sleep(30 * SECOND).await;
    assert_eq!((mock.opened(), mock.sockets().len()), (2, 1));
    assert_eq!(number(&mut book).await, 0, "the new socket's own state");
    publish(&mock, &of(BOOK), 1);
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
    publish(&mock, &of(TRADES), 1);
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
    assert_eq!(number(&mut book).await, 0, "from its state on");
    drop(book);
    time::sleep(SECOND).await;
    assert_eq!(mock.tell(|venue, _| venue.subscriptions()), [of(TRADES)]);
    publish(&mock, &of(TRADES), 1);
    assert_eq!(number(&mut trades).await, 1);
    assert_eq!((mock.opened(), manager.metrics().unroutable), (1, 0));
    drop(trades);
    mock.until_sockets(0).await;
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_is_asked_for_again_later() {
    let (mock, manager) = built();
    mock.tell(|venue, _| venue.refuse_next("Cannot track more than 10 total users."));
    let start = Instant::now();
    let [_trades] = joined(&manager, [TRADES]).await;
    assert!(start.elapsed() >= 100 * MS, "{:?}", start.elapsed());
    assert_eq!(mock.opened(), 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_socket_is_kept_by_pings_and_a_deaf_server_is_given_up() {
    let (mock, manager) = built();
    let [mut trades] = joined(&manager, [TRADES]).await;
    time::sleep(60 * MINUTE).await;
    mock.tell(|venue, out| venue.publish_nothing(out));
    settle().await;
    assert_eq!((mock.opened(), manager.metrics().unroutable), (1, 0));
    mock.tell(|venue, _| venue.deaf(true));
    let start = Instant::now();
    let Gap::Reconnected { reason, .. } = gap(&mut trades).await else { panic!() };
    assert_eq!(reason, DisconnectReason::Protocol);
    assert!(start.elapsed() < MINUTE, "{:?}", start.elapsed());
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_names_are_ten_sockets_and_within_what_an_address_may_say() {
    let (mock, manager) = built();
    let names: Vec<_> = (0..1000).map(|n| format!("trades:{n}")).collect();
    let mut streams: Vec<_> =
        names.iter().map(|name| manager.subscribe::<Message>(name).unwrap()).collect();
    for stream in &mut streams {
        stream.ready().await.unwrap();
    }
    assert_eq!(mock.opened(), 10);
    drop(streams);
    mock.until_sockets(0).await;
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn what_is_for_nobody_is_counted_and_disturbs_nobody() {
    let (mock, manager) = built();
    let [mut trades] = joined(&manager, [TRADES]).await;
    let nested = format!(r#"{{"channel":"trades","data":{}}}"#, deep());
    let lies = [
        r#"{"channel":"trades","data":[{"coin":"X"}]}"#,
        r#"{"channel":"what","data":{}}"#,
        r#"{"channel":"subscriptionResponse","data":{"method":"subscribe"}}"#,
        r#"{"channel":"error","data":"Error parsing JSON into valid websocket request: not json"}"#,
        r#"{"channel":7,"data":[]}"#,
        "no JSON",
        &deep(),
        &nested,
    ];
    lies.iter().for_each(|lie| mock.send_all(*lie));
    publish(&mock, &of(TRADES), 1);
    assert_eq!(number(&mut trades).await, 1);
    assert_eq!((manager.metrics().unroutable, mock.opened()), (lies.len() as u64, 1));
}

/// The mock is honest about what it finds: clients that do wrong are noted.
#[tokio::test(start_paused = true)]
async fn the_mock_notes_what_a_client_does_wrong() {
    let (mock, manager) = venue::built::<MockHyperliquid>(Direct::new("ws://mock").unwrap());
    let [_socket] = joined(&manager, ["ws"]).await;
    for said in [
        "no JSON",
        r#"{"method":"what"}"#,
        r#"{"method":"unsubscribe","subscription":{"type":"trades","coin":"A"}}"#,
        r#"{"method":"subscribe","subscription":{"type":"l2Book","coin":"A"}}"#,
        r#"{"method":"subscribe","subscription":{"type":"l2Book","coin":"A"}}"#,
        r#"{"method":"subscribe","subscription":{"type":"l2Book","coin":"A","nSigFigs":5}}"#,
        r#"{"method":"subscribe","subscription":{"type":"userEvents","user":"0xa"}}"#,
        r#"{"method":"subscribe","subscription":{"type":"userFills","user":"0xb"}}"#,
    ] {
        manager.send("ws", said).await.unwrap();
    }
    settle().await;
    let what: Vec<_> = mock.faults().into_iter().map(|fault| fault.what).collect();
    let expected = [
        "no call",
        "no call",
        r#"{"coin":"A","type":"trades"} is left"#,
        r#"{"coin":"A","type":"l2Book"} once more"#,
        "variants of a feed",
        "users share a socket",
    ];
    assert_eq!(what.len(), expected.len(), "{what:?}");
    assert!(what.iter().zip(expected).all(|(what, e)| what.starts_with(e)), "{what:?}");
    for n in 0..997 {
        let said =
            format!(r#"{{"method":"subscribe","subscription":{{"type":"bbo","coin":"{n}"}}}}"#);
        manager.send("ws", said).await.unwrap();
    }
    for _ in 0..1000 {
        manager.send("ws", r#"{"method":"ping"}"#).await.unwrap();
    }
    settle().await;
    let what: Vec<_> = mock.faults().into_iter().map(|fault| fault.what).collect();
    assert!(what.iter().any(|what| what == "1001 subscriptions"), "{:?}", what.last());
    assert!(what.iter().any(|what| what == "more than 2,000 messages in a minute"));
}
