//! OKX: the whole client against the venue's mock, with paused time.

use futures::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{self, Instant};
use wsmux::protocol::Okx;
use wsmux::test_util::{Answers, Mock, MockOkx};
use wsmux::{
    CloseReason, DisconnectReason, Gap, Limiter, Message, SubscribeError, Subscription, WsManager,
};

use crate::{MINUTE, MS, SECOND, config, end, gap, message, settle};

const BOOK: &str = "books:BTC-USDT";
const TRADES: &str = "trades:BTC-USDT";

fn built() -> (Mock<MockOkx>, WsManager) {
    let (mock, transport) = Mock::in_memory(MockOkx::default());
    let okx = Okx::new("wss://mock/ws/v5").unwrap();
    let builder = WsManager::builder(okx).config(config()).transport(transport).seed(7);
    (mock, builder.limiter(Limiter::new()).build().unwrap())
}

async fn joined<const N: usize>(
    manager: &WsManager,
    names: [&str; N],
) -> [Subscription<Message>; N] {
    let mut streams = names.map(|name| manager.subscribe(name).unwrap());
    for stream in &mut streams {
        stream.ready().await.unwrap();
    }
    streams
}

fn arg(name: &str) -> Value {
    let (channel, instrument) = name.split_once(':').unwrap();
    json!({"channel": channel, "instId": instrument})
}

fn publish(mock: &Mock<MockOkx>, name: &str, number: u32) -> usize {
    mock.tell(|okx, out| okx.publish(&arg(name), &json!(number), out))
}

/// The next number of a stream.
async fn number(stream: &mut Subscription<Message>) -> Value {
    let message: Value = serde_json::from_str(&message(stream).await).unwrap();
    message["data"][0].clone()
}

async fn change(stream: &mut Subscription<Message>) -> i64 {
    number(stream).await["seqId"].as_i64().unwrap()
}

fn no_faults(mock: &Mock<MockOkx>) {
    assert_eq!(mock.faults(), []);
}

#[tokio::test(start_paused = true)]
async fn names_of_one_path_share_a_socket_and_each_gets_its_own() {
    let (mock, manager) = built();
    let names = [TRADES, "trades:ETH-USDT", "candle1m:BTC-USDT"];
    let [mut btc, mut eth, mut candles] = joined(&manager, names).await;
    for (name, n) in names.iter().zip(1..) {
        assert_eq!(publish(&mock, name, n), 1);
    }
    assert_eq!((number(&mut btc).await, number(&mut eth).await), (json!(1), json!(2)));
    assert_eq!(number(&mut candles).await, 3);
    assert_eq!(mock.opened(), 2, "one for /public and one for /business");
    let login = manager.subscribe::<Message>("orders,instType=ANY").unwrap_err();
    assert!(matches!(login, SubscribeError::InvalidName(_)), "{login}");
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_name_leaves_its_neighbours_undisturbed_also_where_nobody_says_which_it_is() {
    for nameless in [false, true] {
        let (mock, manager) = built();
        mock.tell(|okx, _| {
            okx.nameless(nameless);
            okx.unknown(&arg("trades:NOPE"));
        });
        let mut nope = manager.subscribe::<Message>("trades:NOPE").unwrap();
        let names = [TRADES, "trades:A", "trades:B", "trades:C", "trades:D"];
        let mut streams = joined(&manager, names).await;
        let CloseReason::Rejected { reason } = end(&mut nope).await else { panic!() };
        assert!(reason.starts_with("Wrong URL or channel doesn't exist (600"), "{reason}");
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
async fn a_book_begins_with_its_snapshot_also_where_that_overtakes_the_confirmation() {
    for early in [false, true] {
        let (mock, manager) = built();
        mock.answers(Answers::After(SECOND));
        mock.tell(|okx, _| okx.early(early));
        let [mut book] = joined(&manager, [BOOK]).await;
        assert_eq!(change(&mut book).await, 1000);
        mock.tell(|okx, out| okx.update(&arg(BOOK), out));
        assert_eq!(change(&mut book).await, 1003);
        assert_eq!(manager.metrics().unroutable, 0);
        no_faults(&mock);
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_that_is_missing_is_a_gap_in_its_place() {
    let (mock, manager) = built();
    let [mut book] = joined(&manager, [BOOK]).await;
    assert_eq!(change(&mut book).await, 1000);
    mock.tell(|okx, out| {
        okx.update(&arg(BOOK), out);
        okx.lose_update(&arg(BOOK));
        okx.update(&arg(BOOK), out);
    });
    assert_eq!(change(&mut book).await, 1003);
    assert_eq!(gap(&mut book).await, Gap::Sequence { missed: None });
    assert_eq!(change(&mut book).await, 1009);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_moves_names_to_a_new_socket_without_a_gap() {
    let (mock, manager) = built();
    let [mut book] = joined(&manager, [BOOK]).await;
    assert_eq!(change(&mut book).await, 1000);
    mock.tell(|okx, out| okx.upgrade(out));
    time::sleep(30 * SECOND).await;
    assert_eq!((mock.opened(), mock.sockets().len()), (2, 1));
    assert_eq!(change(&mut book).await, 1000, "the new socket's own snapshot");
    mock.tell(|okx, out| okx.update(&arg(BOOK), out));
    assert_eq!(change(&mut book).await, 1003);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_lost_socket_costs_each_name_one_gap() {
    let (mock, manager) = built();
    let [mut book, mut trades] = joined(&manager, [BOOK, TRADES]).await;
    assert_eq!(change(&mut book).await, 1000);
    mock.drop_all();
    for stream in [&mut book, &mut trades] {
        assert!(matches!(gap(stream).await, Gap::Reconnected { .. }));
    }
    assert_eq!(change(&mut book).await, 1000);
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
    assert_eq!(change(&mut book).await, 1000, "from its snapshot on");
    drop(book);
    time::sleep(SECOND).await;
    assert_eq!(mock.tell(|okx, _| okx.args()), [arg(TRADES)]);
    publish(&mock, TRADES, 1);
    assert_eq!(number(&mut trades).await, 1);
    assert_eq!((mock.opened(), manager.metrics().unroutable), (1, 0));
    drop(trades);
    mock.until_sockets(0).await;
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn too_many_calls_are_asked_again_later() {
    let (mock, manager) = built();
    mock.tell(|okx, _| okx.refuse_next("60014"));
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
    assert_eq!(mock.opened(), 1);
    mock.tell(|okx, _| okx.deaf(true));
    let start = Instant::now();
    let Gap::Reconnected { reason, .. } = gap(&mut trades).await else { panic!() };
    assert_eq!(reason, DisconnectReason::Protocol);
    assert!(start.elapsed() < MINUTE, "{:?}", start.elapsed());
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_480_calls_are_made_in_an_hour() {
    let (mock, manager) = built();
    let [_trades] = joined(&manager, [TRADES]).await;
    for n in 0..300 {
        drop(joined(&manager, [&*format!("trades:{n}")]).await);
        settle().await;
        if mock.tell(|okx, _| okx.calls()) >= 480 {
            break;
        }
    }
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn what_is_for_nobody_is_counted_and_disturbs_nobody() {
    let (mock, manager) = built();
    let [mut trades] = joined(&manager, [TRADES]).await;
    let deep = format!("{}1{}", "[".repeat(500_000), "]".repeat(500_000));
    let nested = format!(r#"{{"arg":{},"data":{deep}}}"#, arg(TRADES));
    let lies = [
        r#"{"arg":{"channel":"trades","instId":"other"},"data":[1]}"#,
        r#"{"arg":{"channel":"trades","instId":"BTC-USDT"}}"#,
        r#"{"arg":7,"data":[1]}"#,
        r#"{"event":"error","code":"60012","msg":"Invalid request"}"#,
        r#"{"event":"what"}"#,
        "no JSON",
        &deep,
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
    let (mock, transport) = Mock::in_memory(MockOkx::default());
    let direct = wsmux::protocol::Direct::new("ws://mock").unwrap();
    let builder = WsManager::builder(direct).config(config()).transport(transport);
    let manager = builder.limiter(Limiter::new()).build().unwrap();
    let [_public] = joined(&manager, ["public"]).await;
    let long = format!(r#"{{"op":"subscribe","args":[],"x":"{}"}}"#, "a".repeat(65_536));
    for said in [
        "no JSON",
        r#"{"op":"what","args":[]}"#,
        r#"{"op":"unsubscribe","args":[{"channel":"a"}]}"#,
        r#"{"op":"subscribe","args":[{"channel":"candle1m"}]}"#,
        &long,
    ] {
        manager.send("public", said).await.unwrap();
    }
    time::sleep(31 * SECOND).await;
    let what: Vec<_> = mock.faults().into_iter().map(|fault| fault.what).collect();
    let expected = [
        "no call",
        "no call",
        r#"{"channel":"a"} is left"#,
        "candle1m on the wrong path",
        "a call of 65",
        "nothing was said",
    ];
    assert_eq!(what.len(), expected.len(), "{what:?}");
    assert!(what.iter().zip(expected).all(|(what, e)| what.starts_with(e)), "{what:?}");
    let [_again] = joined(&manager, ["public"]).await;
    for _ in 0..481 {
        manager.send("public", r#"{"op":"subscribe","args":[]}"#).await.unwrap();
    }
    settle().await;
    assert_eq!(mock.faults().last().unwrap().what, "more than 480 calls in an hour");
}
