//! Bybit: the whole client against the venue's mock, with paused time.

use futures::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{self, Instant};
use wsmux::protocol::{Bybit, Direct};
use wsmux::test_util::{Answers, Mock, MockBybit};
use wsmux::{
    CloseReason, Credentials, DisconnectReason, Gap, Message, SubscribeError, Subscription, Token,
    WsManager, WsManagerBuilder,
};

use crate::venue::{self, deep, joined, no_faults};
use crate::{MINUTE, MS, SECOND, end, gap, settle};

const BOOK: &str = "linear:orderbook.50.BTCUSDT";
const TRADES: &str = "linear:publicTrade.BTCUSDT";

fn bybit() -> Bybit {
    Bybit::new("wss://mock/v5").unwrap()
}

fn built() -> (Mock<MockBybit>, WsManager) {
    venue::built(bybit())
}

fn topic(name: &str) -> &str {
    name.split_once(':').unwrap().1
}

fn publish(mock: &Mock<MockBybit>, name: &str, number: u32) -> usize {
    mock.tell(|bybit, out| bybit.publish(topic(name), &json!([number]), out))
}

fn change(mock: &Mock<MockBybit>) -> u64 {
    mock.tell(|bybit, out| bybit.update(topic(BOOK), out))
}

/// The next number of a stream.
async fn number(stream: &mut Subscription<Message>) -> Value {
    venue::json(stream).await["data"][0].clone()
}

/// The number of a book's next message.
async fn u(stream: &mut Subscription<Message>) -> u64 {
    venue::json(stream).await["data"]["u"].as_u64().unwrap()
}

#[tokio::test(start_paused = true)]
async fn names_of_one_category_share_a_socket_and_each_gets_its_own() {
    let (mock, manager) = built();
    let names = [TRADES, "linear:publicTrade.ETHUSDT", "spot:publicTrade.BTCUSDC"];
    let [mut btc, mut eth, mut spot] = joined(&manager, names).await;
    for (name, n) in names.iter().zip(1..) {
        assert_eq!(publish(&mock, name, n), 1);
    }
    assert_eq!((number(&mut btc).await, number(&mut eth).await), (json!(1), json!(2)));
    assert_eq!(number(&mut spot).await, 3);
    assert_eq!(mock.opened(), 2, "one for each path");
    let refused = manager.subscribe::<Message>("publicTrade.BTCUSDT").unwrap_err();
    assert!(matches!(refused, SubscribeError::InvalidName(_)), "{refused}");
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_name_leaves_its_neighbours_undisturbed_in_all_ways_of_refusing() {
    for (category, nameless) in
        [("linear", false), ("linear", true), ("spot", true), ("option", false)]
    {
        let (mock, manager) = built();
        mock.tell(|bybit, _| {
            bybit.nameless(nameless);
            bybit.unknown("publicTrade.NOPE");
        });
        let name = |symbol: &str| format!("{category}:publicTrade.{symbol}");
        let mut nope = manager.subscribe::<Message>(name("NOPE")).unwrap();
        let names = ["A", "B", "C", "D"].map(name);
        let mut streams = joined(&manager, names.each_ref().map(String::as_str)).await;
        assert!(matches!(end(&mut nope).await, CloseReason::Rejected { .. }));
        for (stream, name) in streams.iter_mut().zip(&names) {
            publish(&mock, name, 1);
            assert_eq!(number(stream).await, 1);
            assert!(stream.next().now_or_never().is_none());
        }
        assert_eq!((mock.opened(), manager.metrics().unroutable), (1, 0));
        no_faults(&mock);
    }
}

#[tokio::test(start_paused = true)]
async fn a_book_begins_with_its_snapshot_also_where_that_overtakes_the_confirmation() {
    for early in [false, true] {
        let (mock, manager) = built();
        mock.answers(Answers::After(SECOND));
        mock.tell(|bybit, _| bybit.early(early));
        let [mut book] = joined(&manager, [BOOK]).await;
        assert_eq!(u(&mut book).await, 1000);
        assert_eq!((change(&mock), u(&mut book).await), (1001, 1001));
        assert_eq!(manager.metrics().unroutable, 0);
        no_faults(&mock);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_missing_is_a_gap_in_its_place_and_a_restart_is_none() {
    let (mock, manager) = built();
    let [mut book] = joined(&manager, [BOOK]).await;
    assert_eq!(u(&mut book).await, 1000);
    mock.tell(|bybit, _| bybit.lose_update(topic(BOOK)));
    change(&mock);
    assert_eq!(gap(&mut book).await, Gap::Sequence { missed: Some(1) });
    assert_eq!(u(&mut book).await, 1002);
    mock.tell(|bybit, out| bybit.restart(out));
    change(&mock);
    assert_eq!((u(&mut book).await, u(&mut book).await), (1, 2));
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn another_socket_takes_over_with_its_snapshot_and_without_a_gap() {
    let (mock, manager) = built();
    let [mut book] = joined(&manager, [BOOK]).await;
    assert_eq!(u(&mut book).await, 1000);
    assert!(manager.reconnect(BOOK));
    time::sleep(30 * SECOND).await;
    assert_eq!((mock.opened(), mock.sockets().len()), (2, 1));
    assert_eq!(u(&mut book).await, 1000, "the new socket's own snapshot");
    assert_eq!((change(&mock), u(&mut book).await), (1001, 1001));
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_lost_socket_costs_each_name_one_gap() {
    let (mock, manager) = built();
    let [mut book, mut trades] = joined(&manager, [BOOK, TRADES]).await;
    assert_eq!(u(&mut book).await, 1000);
    mock.drop_all();
    for stream in [&mut book, &mut trades] {
        assert!(matches!(gap(stream).await, Gap::Reconnected { .. }));
    }
    assert_eq!(u(&mut book).await, 1000);
    publish(&mock, TRADES, 1);
    assert_eq!(number(&mut trades).await, 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_dropped_is_left_and_can_be_had_again() {
    for category in ["linear", "option"] {
        let (mock, manager) = built();
        mock.answers(Answers::After(10 * MS));
        let names = ["orderbook.25.X", "publicTrade.X"].map(|topic| format!("{category}:{topic}"));
        let [book, mut trades] = joined(&manager, names.each_ref().map(String::as_str)).await;
        drop(book);
        settle().await;
        let mut book = manager.subscribe::<Message>(&names[0]).unwrap();
        assert_eq!(u(&mut book).await, 1000, "from its snapshot on");
        drop(book);
        time::sleep(SECOND).await;
        assert_eq!(mock.tell(|bybit, _| bybit.topics()), ["publicTrade.X"]);
        publish(&mock, &names[1], 1);
        assert_eq!(number(&mut trades).await, 1);
        assert_eq!((mock.opened(), manager.metrics().unroutable), (1, 0));
        drop(trades);
        mock.until_sockets(0).await;
        no_faults(&mock);
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_calls_are_made_again_later() {
    let (mock, manager) = built();
    mock.tell(|bybit, _| bybit.refuse_next("Too many visits!"));
    let start = Instant::now();
    let [_trades] = joined(&manager, [TRADES]).await;
    assert!(start.elapsed() >= 100 * MS, "{:?}", start.elapsed());
    assert_eq!(mock.opened(), 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_socket_is_kept_by_pings_and_a_deaf_server_is_given_up() {
    for name in [TRADES, "option:publicTrade.BTC"] {
        let (mock, manager) = built();
        let [mut trades] = joined(&manager, [name]).await;
        time::sleep(60 * MINUTE).await;
        assert_eq!((mock.opened(), manager.metrics().unroutable), (1, 0));
        mock.tell(|bybit, _| bybit.deaf(true));
        let start = Instant::now();
        let Gap::Reconnected { reason, .. } = gap(&mut trades).await else { panic!() };
        assert_eq!(reason, DisconnectReason::Protocol);
        assert!(start.elapsed() < MINUTE, "{:?}", start.elapsed());
        no_faults(&mock);
    }
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_long_names_keep_to_what_calls_and_sockets_may_carry() {
    let (mock, manager) = built();
    let names: Vec<_> = (0..450).map(|n| format!("spot:{n:0>100}")).collect();
    let mut streams: Vec<_> =
        names.iter().map(|name| manager.subscribe::<Message>(name).unwrap()).collect();
    for stream in &mut streams {
        stream.ready().await.unwrap();
    }
    assert_eq!(mock.opened(), 3);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn private_names_log_in_and_a_refused_token_is_asked_for_anew() {
    let tokens = |tokens: &'static [&'static str]| {
        let mut tokens = tokens.iter().cycle();
        let tokens = std::sync::Mutex::new(move || *tokens.next().unwrap());
        let credentials = Credentials::new(move |_| {
            let token = (tokens.lock().unwrap())();
            async move { Ok::<_, std::io::Error>(Token::new(token)) }
        });
        let (mock, builder): (Mock<MockBybit>, WsManagerBuilder) = venue::builder(bybit());
        (mock, builder.credentials(credentials.in_band()).build().unwrap())
    };
    let (mock, manager) = tokens(&[r#"["old",1,"s3cr3t"]"#, r#"["key",2,"s3cr3t"]"#]);
    let [mut orders] = joined(&manager, ["private:order"]).await;
    assert_eq!(mock.opened(), 2);
    publish(&mock, "private:order", 1);
    assert_eq!(number(&mut orders).await, 1);
    manager.rotate_credentials();
    time::sleep(MINUTE).await;
    assert_eq!(mock.opened(), 2, "a socket that is authenticated stays so");
    no_faults(&mock);

    let (_mock, manager) = tokens(&[r#"["old",1,"s3cr3t"]"#]);
    let mut orders = manager.subscribe::<Message>("private:order").unwrap();
    let reason = end(&mut orders).await;
    assert!(matches!(reason, CloseReason::Unauthorized { .. }), "{reason:?}");
    assert!(!format!("{reason:?} {reason}").contains("s3cr3t"));
}

#[tokio::test(start_paused = true)]
async fn what_is_for_nobody_is_counted_and_disturbs_nobody() {
    let (mock, manager) = built();
    let [mut trades] = joined(&manager, [TRADES]).await;
    let nested = format!(r#"{{"topic":"publicTrade.BTCUSDT","data":{}}}"#, deep());
    let lies = [
        r#"{"topic":"other","type":"snapshot","data":[1]}"#,
        r#"{"topic":7,"data":[1]}"#,
        r#"{"success":true,"req_id":"99","op":"subscribe"}"#,
        r#"{"success":false,"ret_msg":"no","op":"subscribe"}"#,
        r#"{"success":true,"data":{"failTopics":["x"],"successTopics":[7]},"type":"COMMAND_RESP"}"#,
        r#"{"success":true,"op":"auth"}"#,
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
    let (mock, manager) = venue::built::<MockBybit>(Direct::new("ws://mock").unwrap());
    let [_spot, _private, _odd] = joined(&manager, ["spot", "private", "odd"]).await;
    let many: Vec<_> = (0..211).map(|n| format!("{n:0>100}")).collect();
    let many = json!({"op": "subscribe", "args": many}).to_string();
    for said in [
        "no JSON",
        r#"{"op":"what"}"#,
        r#"{"op":"unsubscribe","args":["a"]}"#,
        r#"{"op":"subscribe","args":["a","a"]}"#,
        &many,
    ] {
        manager.send("spot", said).await.unwrap();
    }
    manager.send("private", r#"{"op":"subscribe","args":["order"]}"#).await.unwrap();
    time::sleep(26 * SECOND).await;
    let what: Vec<_> = mock.faults().into_iter().map(|fault| fault.what).collect();
    let expected = [
        "there is no path /odd",
        "no call",
        "no call",
        "unsubscribe of a once more",
        "subscribe of a once more",
        "211 arguments in a call",
        "21737 characters",
        "a private topic without a login",
        "no ping came",
        "no ping came",
        "no ping came",
    ];
    assert_eq!(what.len(), expected.len(), "{what:?}");
    assert!(what.iter().zip(expected).all(|(what, e)| what.starts_with(e)), "{what:?}");
}
