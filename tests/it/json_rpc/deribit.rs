//! Deribit: channels, books, heartbeats and tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde_json::json;
use tokio::time::{self, Instant};
use wsmux::protocol::Deribit;
use wsmux::test_util::{Answers, Mock, MockDeribit};
use wsmux::{
    CloseReason, Credentials, DisconnectReason, Gap, Message, Token, WsManager, WsManagerBuilder,
};

use super::{builder, joined, no_faults};
use crate::{MINUTE, MS, SECOND, end, gap, message, settle};

const BOOK: &str = "book.BTC-PERPETUAL.100ms";
const TRADES: &str = "trades.BTC-PERPETUAL.100ms";

fn deribit() -> (Mock<MockDeribit>, WsManagerBuilder) {
    builder(Deribit::new("wss://mock/ws/api/v2").unwrap().client_id("me"))
}

fn built() -> (Mock<MockDeribit>, WsManager) {
    let (mock, builder) = deribit();
    (mock, builder.build().unwrap())
}

fn publish(mock: &Mock<MockDeribit>, channel: &str, number: u32) -> usize {
    mock.tell(|deribit, out| deribit.publish(channel, &json!([number]), out))
}

fn change_id(text: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    value["change_id"].as_u64().unwrap()
}

#[tokio::test(start_paused = true)]
async fn channels_share_a_socket_and_one_call_and_an_unknown_one_is_refused_alone() {
    let (mock, manager) = built();
    mock.tell(|deribit, _| deribit.unknown("trades.NOPE.100ms"));
    let mut nope = manager.subscribe::<Message>("trades.NOPE.100ms").unwrap();
    let [mut trades, mut ticker] = joined(&manager, [TRADES, "ticker.BTC-PERPETUAL.100ms"]).await;
    let CloseReason::Rejected { reason } = end(&mut nope).await else { panic!() };
    assert_eq!(reason.as_str(), "the server does not list it among what it accepts");
    publish(&mock, "ticker.BTC-PERPETUAL.100ms", 1);
    publish(&mock, TRADES, 2);
    assert_eq!(
        (message(&mut trades).await, message(&mut ticker).await),
        ("[2]".into(), "[1]".into())
    );
    assert_eq!(mock.opened(), 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_book_begins_with_its_snapshot_also_where_that_overtakes_the_answer() {
    for early in [false, true] {
        let (mock, manager) = built();
        mock.answers(Answers::After(SECOND));
        mock.tell(|deribit, _| deribit.early(early));
        let [mut book] = joined(&manager, [BOOK]).await;
        assert_eq!(change_id(&message(&mut book).await), 1000);
        mock.tell(|deribit, out| deribit.change(BOOK, out));
        assert_eq!(change_id(&message(&mut book).await), 1003);
        assert_eq!(manager.metrics().unroutable, 0);
        no_faults(&mock);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_missing_is_a_gap_in_its_place() {
    let (mock, manager) = built();
    let [mut book, mut trades] = joined(&manager, [BOOK, TRADES]).await;
    message(&mut book).await;
    mock.tell(|deribit, out| {
        deribit.change(BOOK, out);
        deribit.lose_change(BOOK);
        deribit.change(BOOK, out);
    });
    assert_eq!(change_id(&message(&mut book).await), 1003);
    assert_eq!(gap(&mut book).await, Gap::Sequence { missed: None });
    assert_eq!(change_id(&message(&mut book).await), 1009);
    publish(&mock, TRADES, 1);
    assert_eq!(message(&mut trades).await, "[1]");
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_book_goes_over_to_a_new_socket_without_a_gap() {
    let (mock, manager) = built();
    let [mut book] = joined(&manager, [BOOK]).await;
    message(&mut book).await;
    mock.tell(|deribit, out| deribit.change(BOOK, out));
    assert_eq!(change_id(&message(&mut book).await), 1003);
    assert!(manager.reconnect(BOOK));
    time::sleep(SECOND).await;
    assert_eq!((mock.opened(), mock.sockets().len()), (2, 1));
    assert_eq!(change_id(&message(&mut book).await), 1003, "the new socket's own snapshot");
    for expected in [1006, 1009] {
        mock.tell(|deribit, out| deribit.change(BOOK, out));
        assert_eq!(change_id(&message(&mut book).await), expected);
    }
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_lost_socket_costs_each_channel_one_gap() {
    let (mock, manager) = built();
    let [mut book, mut trades] = joined(&manager, [BOOK, TRADES]).await;
    message(&mut book).await;
    mock.tell(|deribit, _| deribit.lose_change(BOOK));
    mock.drop_all();
    for stream in [&mut book, &mut trades] {
        assert!(matches!(gap(stream).await, Gap::Reconnected { .. }));
    }
    assert_eq!(change_id(&message(&mut book).await), 1003, "a snapshot, and no second gap");
    publish(&mock, TRADES, 1);
    assert_eq!(message(&mut trades).await, "[1]");
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_dropped_is_left_and_can_be_had_again() {
    let (mock, manager) = built();
    mock.answers(Answers::After(10 * MS));
    let [book, mut trades] = joined(&manager, [BOOK, TRADES]).await;
    drop(book);
    settle().await;
    let mut book = manager.subscribe::<Message>(BOOK).unwrap();
    assert_eq!(change_id(&message(&mut book).await), 1000, "from its snapshot on");
    assert_eq!(mock.tell(|deribit, _| deribit.channels()), [BOOK, TRADES]);
    drop(book);
    time::sleep(SECOND).await;
    assert_eq!(mock.tell(|deribit, _| deribit.channels()), [TRADES]);
    publish(&mock, TRADES, 1);
    assert_eq!(message(&mut trades).await, "[1]");
    assert_eq!((mock.opened(), manager.metrics().unroutable), (1, 0));
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_are_asked_again_later() {
    let (mock, manager) = built();
    mock.tell(|deribit, _| deribit.refuse_next(10028, "too_many_requests"));
    let start = Instant::now();
    let [_trades] = joined(&manager, [TRADES]).await;
    assert!(start.elapsed() >= 100 * MS, "{:?}", start.elapsed());
    assert_eq!(mock.opened(), 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_answered_for_hours_and_a_server_without_them_is_given_up() {
    let (mock, manager) = built();
    let [mut trades] = joined(&manager, [TRADES]).await;
    time::sleep(120 * MINUTE).await;
    assert_eq!(mock.opened(), 1);
    mock.tell(|deribit, _| deribit.deaf(true));
    let start = Instant::now();
    assert!(matches!(
        gap(&mut trades).await,
        Gap::Reconnected { reason: DisconnectReason::Protocol, .. }
    ));
    assert!(start.elapsed() <= 62 * SECOND, "{:?}", start.elapsed());
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn requests_ride_on_the_same_socket() {
    let (mock, manager) = built();
    let [_trades] = joined(&manager, [TRADES]).await;
    let reply = manager.request(TRADES, r#"{"method":"public/get_time","params":{}}"#).await;
    assert_eq!(reply.unwrap().message(), Some(&"1699999999000".into()));
    assert_eq!(mock.opened(), 1);
    no_faults(&mock);
}

/// A provider that counts: `canary-0`, `canary-1`, …
fn counted(builder: WsManagerBuilder) -> (Arc<AtomicUsize>, WsManager) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let credentials = Credentials::new(move |_| {
        let token = format!("canary-{}", count.fetch_add(1, Relaxed));
        async move { Ok::<_, std::io::Error>(Token::new(token)) }
    });
    (asked, builder.credentials(credentials.in_band()).build().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_is_said_on_the_open_socket_and_no_channel_notices() {
    let (mock, builder) = deribit();
    let (_, manager) = counted(builder);
    let [mut orders] = joined(&manager, ["user.orders.any.any.raw"]).await;
    manager.rotate_credentials();
    time::sleep(SECOND).await;
    let auths = mock.tell(|deribit, _| deribit.auths().to_vec());
    let auth = |token| json!({"grant_type": "client_credentials", "client_id": "me", "client_secret": token});
    assert_eq!(auths, [auth("canary-0"), auth("canary-1")]);
    publish(&mock, "user.orders.any.any.raw", 1);
    assert_eq!(message(&mut orders).await, "[1]", "and no gap");
    assert_eq!(mock.opened(), 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_replaced_and_one_that_stays_bad_ends_the_streams() {
    let (mock, builder) = deribit();
    let (asked, manager) = counted(builder);
    let [mut orders] = joined(&manager, ["user.orders.any.any.raw"]).await;
    mock.tell(|deribit, _| deribit.expire());
    let [_late] = joined(&manager, ["user.trades.any.any.raw"]).await;
    assert!(matches!(gap(&mut orders).await, Gap::Reconnected { .. }));
    assert_eq!((asked.load(Relaxed), mock.opened()), (2, 2));
    mock.tell(|deribit, _| deribit.only_token("another"));
    mock.drop_all();
    assert!(matches!(gap_or_end(&mut orders).await, CloseReason::Unauthorized { .. }));
    assert!(asked.load(Relaxed) <= 4);
}

/// The end, with or without a gap before it; nothing in it is a secret.
async fn gap_or_end(stream: &mut wsmux::Subscription<Message>) -> CloseReason {
    let reason = end(stream).await;
    let text = format!("{reason} {reason:?}");
    assert!(!text.contains("canary"), "{text}");
    reason
}
