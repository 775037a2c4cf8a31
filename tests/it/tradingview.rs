//! TradingView: the whole client against the chart socket's mock, with paused time.

use futures::future::{join, join_all};
use futures::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{self, Instant};
use wsmux::protocol::TradingView;
use wsmux::requests::{Call, PoolConfig, Pooled, RequestPool, RequestPoolBuilder};
use wsmux::test_util::{Answers, Mock, MockTradingView};
use wsmux::{
    CloseReason, DisconnectReason, Gap, Limiter, Message, RequestError, SendError, Subscription,
    WsManager,
};

use crate::{DAY, MS, SECOND, config, end, gap, message, settle};

fn venue() -> TradingView {
    TradingView::new("wss://mock/socket.io/websocket").unwrap()
}

fn built() -> (Mock<MockTradingView>, WsManager) {
    let (mock, transport) = Mock::in_memory(MockTradingView::default());
    let builder = WsManager::builder(venue()).config(config()).transport(transport).seed(7);
    (mock, builder.limiter(Limiter::new()).build().unwrap())
}

/// A pool that asks for nothing but histories.
fn pool(config: PoolConfig) -> (Mock<MockTradingView>, RequestPool) {
    let (mock, transport) = Mock::in_memory(MockTradingView::default());
    let mut connection = PoolConfig::connection();
    connection.heartbeat.interval = DAY;
    let pool = RequestPoolBuilder::of(Pooled::new(venue()).unjoined(), "charts")
        .config(config)
        .connection(connection)
        .manager(|manager| manager.transport(transport).limiter(Limiter::new()).seed(7))
        .build()
        .unwrap();
    (mock, pool)
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

/// The values of a stream's next quote.
async fn values(stream: &mut Subscription<Message>) -> Value {
    let quote: Value = serde_json::from_str(&message(stream).await).unwrap();
    assert_eq!((&quote["n"], &quote["s"]), (&json!(stream.name().as_str()), &json!("ok")));
    quote["v"].clone()
}

fn publish(mock: &Mock<MockTradingView>, symbol: &str, price: u32) -> usize {
    mock.tell(|venue, out| venue.publish(symbol, &json!({"lp": price}), out))
}

fn ask(symbol: &str, count: u32) -> String {
    json!({"symbol": symbol, "resolution": "1", "count": count}).to_string()
}

/// The numbers of a history's bars, part by part.
fn bars(parts: &[Message]) -> Vec<Vec<u64>> {
    let numbers = |part: &Message| {
        let part: Value = serde_json::from_str(part.as_text().unwrap()).unwrap();
        part["s"].as_array().unwrap().iter().map(|bar| bar["i"].as_u64().unwrap()).collect()
    };
    parts.iter().map(numbers).collect()
}

fn no_faults(mock: &Mock<MockTradingView>) {
    assert_eq!(mock.faults(), []);
}

#[tokio::test(start_paused = true)]
async fn symbols_share_a_socket_and_each_reader_gets_its_own() {
    let (mock, manager) = built();
    let [mut a, mut b] = joined(&manager, ["NASDAQ:AAPL", "é 🚀 ~m~3~m~"]).await;
    for stream in [&mut a, &mut b] {
        assert_eq!(values(stream).await["lp"], 1.5, "all of it at first");
    }
    assert_eq!((publish(&mock, "NASDAQ:AAPL", 7), publish(&mock, "é 🚀 ~m~3~m~", 8)), (1, 1));
    assert_eq!((values(&mut a).await, values(&mut b).await), (json!({"lp": 7}), json!({"lp": 8})));
    assert_eq!((mock.opened(), manager.metrics().unroutable), (1, 0));
    drop((a, b));
    mock.until_sockets(0).await;
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn more_symbols_than_a_socket_has_room_for_get_further_ones() {
    let (mock, manager) = built();
    let names: Vec<_> = (0..250).map(|n| format!("X:S{n}")).collect();
    let manager = &manager;
    let streams = join_all(names.iter().map(|name| async move {
        let mut stream = manager.subscribe::<Message>(name).unwrap();
        stream.ready().await.unwrap();
        stream
    }));
    let _streams = streams.await;
    assert_eq!((mock.opened(), mock.tell(|venue, _| venue.sessions())), (3, (0, 3)));
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_symbol_that_there_is_not_leaves_its_neighbours_undisturbed() {
    let (mock, manager) = built();
    mock.tell(|venue, _| {
        venue.unknown("NOPE");
        venue.quoteless("QUIET");
    });
    let mut nope = manager.subscribe::<Message>("NOPE").unwrap();
    let [mut quiet, mut a] = joined(&manager, ["QUIET", "A"]).await;
    assert!(matches!(end(&mut nope).await, CloseReason::Rejected { .. }));
    assert!(quiet.next().now_or_never().is_none(), "joined, without a quote");
    publish(&mock, "QUIET", 2);
    assert_eq!(values(&mut quiet).await["lp"], 2);
    assert_eq!(values(&mut a).await["lp"], 1.5);
    mock.tell(|venue, out| venue.end("A", out));
    let Gap::Reconnected { reason, .. } = gap(&mut a).await else { panic!() };
    assert_eq!(reason, DisconnectReason::StreamEnded);
    assert_eq!(values(&mut a).await["lp"], 1.5, "all of it again");
    assert!(quiet.next().now_or_never().is_none());
    assert_eq!(mock.opened(), 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn symbols_that_come_and_go_hear_only_what_is_theirs() {
    let (mock, manager) = built();
    let [mut a] = joined(&manager, ["A"]).await;
    assert_eq!(values(&mut a).await["lp"], 1.5);
    for n in 0..20 {
        let [mut b] = joined(&manager, ["B"]).await;
        assert_eq!(values(&mut b).await["lp"], 1.5);
        publish(&mock, "B", n);
        drop(b);
        publish(&mock, "A", n);
        assert_eq!(values(&mut a).await["lp"], n);
        if n % 2 == 0 {
            settle().await;
        }
    }
    assert_eq!(mock.opened(), 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_lost_socket_or_session_is_a_gap_and_then_a_whole_quote() {
    let (mock, manager) = built();
    let [mut a] = joined(&manager, ["A"]).await;
    values(&mut a).await;
    for turn in 0..2 {
        match turn {
            0 => mock.drop_all(),
            _ => mock.tell(|venue, out| venue.break_sessions("invalid parameters", out)),
        }
        assert!(matches!(gap(&mut a).await, Gap::Reconnected { .. }));
        assert_eq!(values(&mut a).await["lp"], 1.5);
    }
    assert_eq!(mock.opened(), 2);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_answered() {
    let (mock, manager) = built();
    let [_a] = joined(&manager, ["A"]).await;
    for _ in 0..5 {
        mock.tell(|venue, out| venue.beat(out));
        time::sleep(20 * SECOND).await;
    }
    assert_eq!(mock.opened(), 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_history_comes_in_parts_beside_the_quotes() {
    let (mock, manager) = built();
    let [mut a] = joined(&manager, ["A"]).await;
    values(&mut a).await;
    mock.tell(|venue, _| venue.parts(3));
    let parts: Vec<_> = manager.request_parts("A", ask("B", 5)).collect().await;
    let parts: Vec<_> = parts.into_iter().map(Result::unwrap).collect();
    assert_eq!(bars(&parts), [vec![0, 1], vec![2, 3], vec![4]]);
    let range = r#"{"symbol":{"symbol":"B"},"resolution":"1","count":9,"from":600,"to":720}"#;
    let reply = manager.request("A", range).await.unwrap();
    assert_eq!(bars(reply.parts()).concat(), [0, 1, 2]);
    assert_eq!(manager.request("A", "{}").await, Err(RequestError::NotSent(SendError::Refused)));
    publish(&mock, "A", 4);
    assert_eq!(values(&mut a).await["lp"], 4);
    assert_eq!(mock.tell(|venue, _| venue.sessions()), (0, 1), "each was given back");
    assert_eq!(manager.metrics().unroutable, 0);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_pool_gets_each_history_right_whose_answers_come_out_of_order_late_and_twice() {
    for twice in [false, true] {
        let (mock, pool) = pool(PoolConfig::default().connections(2).in_flight(8));
        mock.answers(Answers::After(SECOND));
        mock.tell(|venue, _| {
            venue.reverse(4);
            venue.twice(twice);
        });
        let asked = (1..=32).map(|n| pool.request(ask("A", n)));
        for (reply, n) in join_all(asked).await.into_iter().zip(1..) {
            let numbers = bars(reply.unwrap().parts()).concat();
            assert_eq!(numbers, (0..n).collect::<Vec<_>>());
        }
        settle().await;
        let facts = mock.tell(|venue, _| venue.sessions());
        assert_eq!((facts, mock.opened()), ((0, 0), 2), "no quotes, and all given back");
        assert_eq!(pool.manager().metrics().unroutable, 0);
        no_faults(&mock);
    }
}

#[tokio::test(start_paused = true)]
async fn one_history_that_fails_is_no_other_ones_failure() {
    let (mock, pool) = pool(PoolConfig::default().connections(1));
    mock.tell(|venue, _| {
        venue.fail("NOPE", "symbol_error", "invalid symbol");
        venue.fail("ODD", "series_error", "custom_resolution");
        venue.fail("BAD", "critical_error", "invalid parameters");
    });
    let symbols = ["A", "NOPE", "B", "ODD", "C", "BAD", "D"];
    let replies = join_all(symbols.map(|symbol| pool.request(ask(symbol, 2)))).await;
    for (reply, (symbol, words)) in replies.into_iter().zip(symbols.into_iter().zip([
        "",
        "invalid symbol",
        "",
        "custom_resolution",
        "",
        "invalid parameters",
        "",
    ])) {
        match reply {
            Ok(reply) => assert_eq!((bars(reply.parts()).concat(), words), (vec![0, 1], "")),
            Err(RequestError::Failed(said)) => {
                assert!(!words.is_empty() && said.as_text().unwrap().contains(words), "{symbol}");
            }
            Err(e) => panic!("{symbol}: {e}"),
        }
    }
    assert_eq!((mock.tell(|venue, _| venue.sessions()), mock.opened()), ((0, 0), 1));
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_history_that_never_comes_times_out_and_one_that_is_dropped_is_given_back() {
    let (mock, pool) = pool(PoolConfig::default().connections(1));
    pool.request(ask("A", 1)).await.unwrap();
    mock.answers(Answers::Never);
    let start = Instant::now();
    let never = pool.request(Call::new(ask("A", 1)).deadline(10 * SECOND)).await;
    assert_eq!((never, start.elapsed()), (Err(RequestError::TimedOut), 10 * SECOND));
    mock.answers(Answers::After(SECOND));
    assert!(time::timeout(100 * MS, pool.request(ask("A", 1))).await.is_err());
    time::sleep(2 * SECOND).await;
    assert_eq!(
        mock.tell(|venue, _| venue.sessions()),
        (1, 0),
        "but for that which nothing came of"
    );
    assert_eq!(bars(pool.request(ask("A", 1)).await.unwrap().parts()), [[0]]);
    assert_eq!((mock.opened(), pool.manager().metrics().unroutable), (1, 0));
    no_faults(&mock);
}

/// What a lie costs: a gap for the stream, and an outcome for the request.
async fn costs(lie: impl FnOnce(&Mock<MockTradingView>)) -> (Gap, Result<(), RequestError>) {
    let (mock, manager) = built();
    let [mut a] = joined(&manager, ["A"]).await;
    values(&mut a).await;
    mock.answers(Answers::After(SECOND));
    let lying = async {
        settle().await;
        lie(&mock);
        gap(&mut a).await
    };
    let (reply, gap) = join(manager.request("A", ask("B", 2)), lying).await;
    assert_eq!(values(&mut a).await["lp"], 1.5, "and it goes on");
    assert_eq!(mock.opened(), 2);
    (gap, reply.map(drop))
}

#[tokio::test(start_paused = true)]
async fn a_lie_costs_the_socket_by_name_and_what_was_asked_there_is_unknown() {
    let deep = format!("{}1{}", "[".repeat(500_000), "]".repeat(500_000));
    let packet = |text: &str| format!("~m~{}~m~{text}", text.encode_utf16().count());
    let lies = [
        "~m~4~m~🚀".to_owned(),
        "~m~1~m~🚀".into(),
        "~m~1~m~ab".into(),
        "~m~4000000000~m~".into(),
        "{}".into(),
        packet("no JSON"),
        packet(&deep),
        packet(&format!(r#"{{"m":"qsd","p":[{deep}]}}"#)),
        packet(r#"{"m":"qsd","p":["qs_somebodyelse",{"n":"A","s":"ok","v":{}}]}"#),
        packet(r#"{"session_id":"another"}"#),
        packet(r#"{"m":"protocol_error","p":["unknown session"]}"#),
    ];
    for lie in lies {
        let (gap, reply) = costs(|mock| mock.send_all(&*lie)).await;
        let shown = &lie[..lie.len().min(60)];
        let Gap::Reconnected { reason, .. } = gap else { panic!("{shown}: {gap:?}") };
        assert_eq!(reason, DisconnectReason::Protocol, "{shown}");
        assert_eq!(reply, Err(RequestError::Unknown), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_lengths_lie_is_tried_again_until_they_do_not() {
    for lie in [-1, 1, 1000] {
        let (mock, pool) = pool(PoolConfig::default().connections(1));
        mock.tell(|venue, _| venue.lie(lie));
        assert_eq!(pool.request(ask("A", 3)).await, Err(RequestError::Unknown), "{lie}");
        mock.tell(|venue, _| venue.lie(0));
        assert_eq!(bars(pool.request(ask("A", 3)).await.unwrap().parts()).concat(), [0, 1, 2]);
        assert_eq!(mock.opened(), 2);
        no_faults(&mock);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_say_its_session_is_given_up_in_time() {
    let (mock, manager) = built();
    mock.tell(|venue, _| venue.greet(false));
    let mut events = manager.events();
    let mut a = manager.subscribe::<Message>("A").unwrap();
    let start = Instant::now();
    let reason = loop {
        if let wsmux::Event::Retrying { error, .. } = events.next().await.unwrap() {
            break error.reason().clone();
        }
    };
    assert_eq!((reason, start.elapsed()), (DisconnectReason::JoinTimeout, 10 * SECOND));
    mock.tell(|venue, _| venue.greet(true));
    assert_eq!(values(&mut a).await["lp"], 1.5);
    no_faults(&mock);
}
