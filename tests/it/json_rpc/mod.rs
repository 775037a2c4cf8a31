//! JSON-RPC: the whole client against the mock of a node, with paused time.

mod deribit;

use futures::future::join_all;
use futures::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{self, Instant};
use wsmux::protocol::{Direct, JsonRpc, Protocol};
use wsmux::test_util::{Answers, Mock, MockJsonRpc, Service};
use wsmux::{
    CloseReason, DisconnectReason, Gap, Limiter, Message, RequestError, SendError, Subscription,
    WsManager, WsManagerBuilder,
};

use crate::{MINUTE, MS, SECOND, config, end, gap, message, settle};

fn builder<S: Service + Default>(protocol: impl Protocol) -> (Mock<S>, WsManagerBuilder) {
    let (mock, transport) = Mock::in_memory(S::default());
    let builder = WsManager::builder(protocol).config(config()).transport(transport).seed(7);
    (mock, builder.limiter(Limiter::new()))
}

fn node() -> (Mock<MockJsonRpc>, WsManager) {
    let (mock, builder) = builder(JsonRpc::new("ws://mock").unwrap());
    (mock, builder.build().unwrap())
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

fn publish(mock: &Mock<MockJsonRpc>, kind: &str, result: &Value) -> usize {
    mock.tell(|node, out| node.publish(kind, result, out))
}

fn no_faults<S: Service>(mock: &Mock<S>) {
    assert_eq!(mock.faults(), []);
}

#[tokio::test(start_paused = true)]
async fn names_share_a_socket_and_each_gets_what_comes_under_its_id() {
    let (mock, manager) = node();
    let logs = JsonRpc::logs(r#"{"address":"0xa"}"#).unwrap();
    let [mut heads, mut logged] = joined(&manager, [JsonRpc::NEW_HEADS, &logs]).await;
    let mut asked = mock.tell(|node, _| node.subscriptions());
    asked.sort_by_key(Value::to_string);
    assert_eq!(asked, [json!(["logs", {"address": "0xa"}]), json!(["newHeads"])]);
    assert_eq!(publish(&mock, "logs", &json!({"data": "0x"})), 1);
    publish(&mock, "newHeads", &json!({"number": "0x1"}));
    assert_eq!(message(&mut heads).await, r#"{"number":"0x1"}"#);
    assert_eq!(message(&mut logged).await, r#"{"data":"0x"}"#);
    mock.tell(|node, out| node.publish_all("newHeads", &[json!(1), json!(2)], out));
    assert_eq!((message(&mut heads).await, message(&mut heads).await), ("1".into(), "2".into()));
    assert_eq!(mock.opened(), 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn what_overtakes_the_answer_is_not_lost() {
    let (mock, manager) = node();
    mock.answers(Answers::After(SECOND));
    mock.tell(|node, _| node.early(Some(json!("early"))));
    let mut heads = manager.subscribe::<Message>("newHeads").unwrap();
    mock.until(|node| (!node.subscriptions().is_empty()).then_some(())).await;
    publish(&mock, "newHeads", &json!("second"));
    assert_eq!(message(&mut heads).await, r#""early""#);
    assert_eq!(message(&mut heads).await, r#""second""#);
    publish(&mock, "newHeads", &json!("third"));
    assert_eq!(message(&mut heads).await, r#""third""#);
    assert_eq!(manager.metrics().unroutable, 0);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_name_leaves_its_neighbours_undisturbed() {
    let (mock, manager) = node();
    mock.tell(|node, _| node.refuse("foo", -32601, "no \"foo\" subscription in eth namespace"));
    let mut foo = manager.subscribe::<Message>("foo").unwrap();
    let [mut heads] = joined(&manager, ["newHeads"]).await;
    let CloseReason::Rejected { reason } = end(&mut foo).await else { panic!() };
    assert_eq!(reason.as_str(), "no \"foo\" subscription in eth namespace (-32601)");
    publish(&mock, "newHeads", &json!(1));
    assert_eq!(message(&mut heads).await, "1");
    assert_eq!(mock.opened(), 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_name_over_a_limit_that_passes_is_asked_for_again() {
    let (mock, manager) = node();
    mock.tell(|node, _| node.refuse("newHeads", -32005, "limit exceeded"));
    let [_other] = joined(&manager, ["syncing"]).await;
    let mut heads = manager.subscribe::<Message>("newHeads").unwrap();
    settle().await;
    assert!(!heads.status().is_open());
    mock.tell(|node, _| node.grant("newHeads"));
    heads.ready().await.unwrap();
    assert_eq!(mock.opened(), 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_lost_socket_costs_each_name_one_gap_and_new_ids() {
    let (mock, manager) = node();
    let [mut heads, mut logs] = joined(&manager, ["newHeads", "logs {}"]).await;
    mock.drop_all();
    for stream in [&mut heads, &mut logs] {
        assert!(matches!(gap(stream).await, Gap::Reconnected { .. }));
    }
    publish(&mock, "newHeads", &json!(1));
    publish(&mock, "logs", &json!(2));
    assert_eq!((message(&mut heads).await, message(&mut logs).await), ("1".into(), "2".into()));
    assert!(heads.next().now_or_never().is_none());
    assert_eq!(mock.opened(), 2);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_left_is_given_back_and_the_last_closes_the_socket() {
    let (mock, manager) = node();
    let [heads, mut logs] = joined(&manager, ["newHeads", "logs {}"]).await;
    drop(heads);
    settle().await;
    assert_eq!(mock.tell(|node, _| node.subscriptions()), [json!(["logs", {}])]);
    let [mut again] = joined(&manager, ["newHeads"]).await;
    publish(&mock, "newHeads", &json!(1));
    publish(&mock, "logs", &json!(2));
    assert_eq!((message(&mut again).await, message(&mut logs).await), ("1".into(), "2".into()));
    assert_eq!(mock.opened(), 1);
    drop((again, logs));
    mock.until_sockets(0).await;
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_name_without_an_answer_loses_its_socket() {
    let (mock, manager) = node();
    mock.answers(Answers::Never);
    let mut events = manager.events();
    let _heads = manager.subscribe::<Message>("newHeads").unwrap();
    let reason = loop {
        if let wsmux::Event::Disconnected { reason, .. } = events.next().await.unwrap() {
            break reason;
        }
    };
    assert_eq!(reason, DisconnectReason::JoinTimeout);
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_out_of_order_twice_late_and_with_errors() {
    let (mock, manager) = node();
    let [_heads] = joined(&manager, ["newHeads"]).await;
    mock.tell(|node, _| {
        (0..3).for_each(|n| node.answer(&format!("m{n}"), json!({"is": n})));
        node.reverse(3);
        node.twice(true);
    });
    let asked = join_all((0..3).map(|n| {
        let body = format!(r#"{{"method":"m{n}","params":[{n}]}}"#);
        manager.request("newHeads", body)
    }));
    for (n, reply) in asked.await.into_iter().enumerate() {
        let reply = reply.unwrap();
        assert_eq!(reply.parts(), [Message::from(format!(r#"{{"is":{n}}}"#))]);
    }
    mock.tell(|node, _| node.reverse(0));
    let failed = manager.request("newHeads", r#"{"method":"nope"}"#).await;
    let Err(RequestError::Failed(words)) = failed else { panic!("{failed:?}") };
    let words: Value = serde_json::from_str(words.as_text().unwrap()).unwrap();
    assert_eq!(words["code"], -32601);
    let refused = manager.request("newHeads", "nonsense").await;
    assert_eq!(refused, Err(RequestError::NotSent(SendError::Refused)));
    assert_eq!(manager.metrics().unroutable, 0, "what comes twice is late, and no more");
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_times_out_and_a_late_one_is_ignored() {
    let (mock, manager) = node();
    let [mut heads] = joined(&manager, ["newHeads"]).await;
    mock.tell(|node, _| {
        node.silence("never");
        node.answer("late", json!(1));
    });
    let start = Instant::now();
    let never = manager.request("newHeads", r#"{"method":"never"}"#).await;
    assert_eq!((never, start.elapsed()), (Err(RequestError::TimedOut), 30 * SECOND));
    mock.answers(Answers::After(MINUTE));
    let late = manager.request("newHeads", r#"{"method":"late"}"#).await;
    assert_eq!(late, Err(RequestError::TimedOut));
    time::sleep(MINUTE).await;
    publish(&mock, "newHeads", &json!(1));
    assert_eq!(message(&mut heads).await, "1");
    assert_eq!(manager.metrics().unroutable, 0);
    mock.answers(Answers::AtOnce);
    let lost = async {
        settle().await;
        mock.drop_all();
    };
    mock.tell(|node, _| node.silence("lost"));
    let (lost, ()) = futures::join!(manager.request("newHeads", r#"{"method":"lost"}"#), lost);
    assert_eq!(lost, Err(RequestError::Unknown));
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn what_is_for_nobody_is_counted_and_disturbs_nobody() {
    let (mock, manager) = node();
    let [mut heads] = joined(&manager, ["newHeads"]).await;
    let deep = format!("{}1{}", "[".repeat(500_000), "]".repeat(500_000));
    let nested = format!(
        r#"{{"jsonrpc":"2.0","method":"eth_subscription","params":{{"subscription":"0x1","result":{deep}}}}}"#
    );
    let lies = [
        r#"{"jsonrpc":"2.0","id":99,"result":true}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error"}}"#,
        r#"{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x9","result":1}}"#,
        r#"{"jsonrpc":"2.0","method":"eth_subscription","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"a call of the server's"}"#,
        "[]]",
        "no JSON",
        &deep,
        &nested,
    ];
    lies.iter().for_each(|lie| mock.send_all(*lie));
    publish(&mock, "newHeads", &json!(1));
    assert_eq!(message(&mut heads).await, "1");
    assert_eq!(manager.metrics().unroutable, lies.len() as u64);
    assert_eq!(mock.opened(), 1);
}

/// The mock is honest about what it finds: clients that do wrong are noted.
#[tokio::test(start_paused = true)]
async fn the_mock_notes_what_a_client_does_wrong() {
    let (mock, transport) = Mock::in_memory(MockJsonRpc::default());
    let builder = WsManager::builder(Direct::new("ws://mock").unwrap()).config(config());
    let manager = builder.transport(transport).limiter(Limiter::new()).build().unwrap();
    let [mut all] = joined(&manager, ["x"]).await;
    for said in [
        "no JSON",
        "[]",
        r#"{"id":1,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"eth_unsubscribe","params":["0x1"]}"#,
    ] {
        manager.send("x", said).await.unwrap();
    }
    time::sleep(MS).await;
    let what: Vec<_> = mock.faults().into_iter().map(|fault| fault.what).collect();
    let expected = ["no call", "no call", "no call", "a number used twice", "0x1 is given back"];
    assert_eq!(what.len(), expected.len(), "{what:?}");
    assert!(what.iter().zip(expected).all(|(what, e)| what.starts_with(e)), "{what:?}");
    while all.next().now_or_never().flatten().is_some() {}
    let batch = r#"[{"jsonrpc":"2.0","id":3,"method":"a"},{"jsonrpc":"2.0","method":"b"},{"jsonrpc":"2.0","id":4,"method":"c"}]"#;
    manager.send("x", batch).await.unwrap();
    let answers: Value = serde_json::from_str(&message(&mut all).await).unwrap();
    let numbers: Vec<_> = answers.as_array().unwrap().iter().map(|a| a["id"].clone()).collect();
    assert_eq!(
        numbers,
        [json!(4), json!(3)],
        "a batch is answered by one, and nothing for a notice"
    );
}
