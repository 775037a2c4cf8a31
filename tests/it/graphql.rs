//! GraphQL: the whole client against the server's mock, with paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use serde_json::json;
use tokio::time::{self, Instant};
use wsmux::protocol::{Direct, GraphqlWs, Operation};
use wsmux::test_util::{Answers, Mock, MockGraphql};
use wsmux::{
    CloseReason, Credentials, DisconnectReason, Gap, Limiter, Message, RequestError, SendError,
    SubscribeError, Subscription, Token, WsManager, WsManagerBuilder,
};

use crate::{MINUTE, MS, SECOND, config, end, gap, message, settle};

fn protocol() -> GraphqlWs {
    let operation = |name: &str| Operation::new(format!("subscription {{ {name} }}"));
    let names = ["ticks", "book", "nope"];
    names.into_iter().fold(GraphqlWs::new("wss://mock/graphql").unwrap(), |graphql, name| {
        graphql.define(name, operation(name))
    })
}

fn builder(graphql: GraphqlWs) -> (Mock<MockGraphql>, WsManagerBuilder) {
    let (mock, transport) = Mock::in_memory(MockGraphql::default());
    let builder = WsManager::builder(graphql).config(config()).transport(transport).seed(7);
    (mock, builder.limiter(Limiter::new()))
}

fn built() -> (Mock<MockGraphql>, WsManager) {
    let (mock, builder) = builder(protocol());
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
    settle().await; // Nothing confirms that the server has them.
    streams
}

fn publish(mock: &Mock<MockGraphql>, part: &str, number: u32) -> usize {
    mock.tell(|graphql, out| graphql.publish(part, &json!({"data": number}), out))
}

fn payload(number: u32) -> String {
    format!(r#"{{"data":{number}}}"#)
}

fn no_faults(mock: &Mock<MockGraphql>) {
    assert_eq!(mock.faults(), []);
}

#[tokio::test(start_paused = true)]
async fn names_share_a_socket_and_each_gets_its_own() {
    let (mock, manager) = built();
    let [mut ticks, mut book] = joined(&manager, ["ticks", "book"]).await;
    assert_eq!((publish(&mock, "ticks", 1), publish(&mock, "book", 2)), (1, 1));
    assert_eq!((message(&mut ticks).await, message(&mut book).await), (payload(1), payload(2)));
    assert_eq!((mock.opened(), manager.metrics().unroutable), (1, 0));
    let other = manager.subscribe::<Message>("other").unwrap_err();
    assert!(matches!(other, SubscribeError::InvalidName(_)), "{other}");
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_operation_leaves_its_neighbours_undisturbed() {
    let (mock, manager) = built();
    mock.tell(|graphql, _| graphql.refuse("nope", "Cannot query field \"nope\""));
    let mut nope = manager.subscribe::<Message>("nope").unwrap();
    let [mut ticks] = joined(&manager, ["ticks"]).await;
    let CloseReason::Rejected { reason } = end(&mut nope).await else { panic!() };
    assert_eq!(reason.as_str(), "Cannot query field \"nope\"");
    publish(&mock, "ticks", 1);
    assert_eq!(message(&mut ticks).await, payload(1));
    assert_eq!(mock.opened(), 1);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_the_server_ends_is_asked_for_again_and_the_others_go_on() {
    for end in [
        (|graphql, out| MockGraphql::complete(graphql, "ticks", out))
            as fn(&mut MockGraphql, &mut _),
        |graphql, out| graphql.fail("ticks", "a resolver threw", out),
    ] {
        let (mock, manager) = built();
        let [mut ticks, mut book] = joined(&manager, ["ticks", "book"]).await;
        publish(&mock, "ticks", 1);
        assert_eq!(message(&mut ticks).await, payload(1));
        mock.tell(end);
        let Gap::Reconnected { reason, .. } = gap(&mut ticks).await else { panic!() };
        assert_eq!(reason, DisconnectReason::StreamEnded);
        settle().await;
        publish(&mock, "ticks", 2);
        publish(&mock, "book", 3);
        assert_eq!((message(&mut ticks).await, message(&mut book).await), (payload(2), payload(3)));
        assert_eq!(mock.opened(), 1);
        no_faults(&mock);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_socket_costs_each_name_one_gap() {
    let (mock, manager) = built();
    let [mut ticks, mut book] = joined(&manager, ["ticks", "book"]).await;
    mock.drop_all();
    for stream in [&mut ticks, &mut book] {
        assert!(matches!(gap(stream).await, Gap::Reconnected { .. }));
    }
    settle().await;
    publish(&mock, "ticks", 1);
    publish(&mock, "book", 2);
    assert_eq!((message(&mut ticks).await, message(&mut book).await), (payload(1), payload(2)));
    assert!(ticks.next().now_or_never().is_none());
    assert_eq!(mock.opened(), 2);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_completed_and_what_comes_late_is_for_nobody() {
    let (mock, manager) = built();
    let [ticks, mut book] = joined(&manager, ["ticks", "book"]).await;
    drop(ticks);
    settle().await;
    assert_eq!(mock.tell(|graphql, _| graphql.running()), 1);
    let [mut ticks] = joined(&manager, ["ticks"]).await;
    mock.tell(|graphql, out| graphql.publish_late(&json!("late"), out));
    publish(&mock, "ticks", 1);
    publish(&mock, "book", 2);
    assert_eq!((message(&mut ticks).await, message(&mut book).await), (payload(1), payload(2)));
    assert_eq!((mock.opened(), manager.metrics().unroutable), (1, 0));
    drop((ticks, book));
    mock.until_sockets(0).await;
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn queries_and_mutations_ride_on_the_same_socket_in_parts_where_they_come_so() {
    let (mock, manager) = built();
    let [_ticks] = joined(&manager, ["ticks"]).await;
    mock.tell(|graphql, _| {
        graphql.answer("hello", [json!({"data": {"hello": "x"}})]);
        graphql.answer("defer", [json!(1), json!(2), json!(3)]);
        graphql.refuse("bad", "Syntax Error");
    });
    let reply = manager.request("ticks", r#"{"query":"{ hello }"}"#).await.unwrap();
    assert_eq!(reply.parts(), [Message::from(r#"{"data":{"hello":"x"}}"#)]);
    let parts: Vec<_> = manager.request_parts("ticks", r#"{"query":"{ @defer }"}"#).collect().await;
    assert_eq!(parts, [Ok("1".into()), Ok("2".into()), Ok("3".into())]);
    let bad = manager.request("ticks", r#"{"query":"{ bad"}"#).await;
    assert_eq!(bad, Err(RequestError::Failed(r#"[{"message":"Syntax Error"}]"#.into())));
    let refused = manager.request("ticks", "{}").await;
    assert_eq!(refused, Err(RequestError::NotSent(SendError::Refused)));
    assert_eq!(manager.send("ticks", "{}").await, Err(SendError::Refused));
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_is_completed_and_one_without_an_end_times_out() {
    let (mock, manager) = built();
    let [_ticks] = joined(&manager, ["ticks"]).await;
    let mut asked = manager.request_parts("ticks", r#"{"query":"{ slow }"}"#);
    settle().await;
    publish(&mock, "slow", 1);
    assert_eq!(asked.next().await, Some(Ok(payload(1).into())));
    drop(asked);
    settle().await;
    assert_eq!(mock.tell(|graphql, _| graphql.running()), 1);
    let start = Instant::now();
    let never = manager.request("ticks", r#"{"query":"{ never }"}"#).await;
    assert_eq!((never, start.elapsed()), (Err(RequestError::TimedOut), 30 * SECOND));
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn an_init_that_is_not_acknowledged_loses_the_socket() {
    let (mock, manager) = built();
    mock.answers(Answers::Never);
    let mut events = manager.events();
    let _ticks = manager.subscribe::<Message>("ticks").unwrap();
    let start = Instant::now();
    let reason = loop {
        if let wsmux::Event::Retrying { error, .. } = events.next().await.unwrap() {
            break error.reason().clone();
        }
    };
    assert_eq!((reason, start.elapsed()), (DisconnectReason::JoinTimeout, 10 * SECOND));
    mock.answers(Answers::After(SECOND));
    mock.until(|graphql| (graphql.running() == 1).then_some(())).await;
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn close_codes_end_streams_or_have_them_come_back() {
    for (code, fatal) in [
        (4400, true),
        (4406, true),
        (4409, true),
        (4429, true),
        (4500, true),
        (4408, false),
        (4504, false),
        (1011, false),
        (1012, false),
    ] {
        let (mock, manager) = built();
        let [mut ticks] = joined(&manager, ["ticks"]).await;
        mock.close_all(code, "why");
        if fatal {
            let reason = end(&mut ticks).await;
            assert!(matches!(reason, CloseReason::Fatal { .. }), "{code}: {reason:?}");
        } else {
            assert!(matches!(gap(&mut ticks).await, Gap::Reconnected { .. }), "{code}");
            assert_eq!(mock.opened(), 2, "{code}");
        }
        no_faults(&mock);
    }
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
async fn a_fresh_token_takes_a_new_socket_before_the_old_one_goes() {
    let (mock, builder) = builder(protocol());
    let (_, manager) = counted(builder);
    let [mut ticks] = joined(&manager, ["ticks"]).await;
    manager.rotate_credentials();
    mock.until(|graphql| (graphql.inits().len() == 2).then_some(())).await;
    let mut number = 0;
    while mock.sockets().len() != 1 || number == 0 {
        number += 1;
        publish(&mock, "ticks", number);
        assert_eq!(message(&mut ticks).await, payload(number), "each once, and no gap");
        time::sleep(10 * MS).await;
    }
    let inits = mock.tell(|graphql, _| graphql.inits().to_vec());
    // A token that does not say when it expires is asked for at each dial.
    assert_eq!(inits[0], json!({"Authorization": "Bearer canary-0"}));
    assert_ne!(inits[1], inits[0]);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_is_replaced_once_and_then_ends_the_streams() {
    let (mock, builder) = builder(protocol());
    mock.tell(|graphql, _| graphql.only_token("Bearer canary-1"));
    let (asked, manager) = counted(builder);
    let [mut ticks] = joined(&manager, ["ticks"]).await;
    assert_eq!((asked.load(Relaxed), mock.opened()), (2, 2));
    mock.tell(|graphql, _| graphql.only_token("another"));
    mock.drop_all();
    let reason = end(&mut ticks).await;
    assert!(matches!(reason, CloseReason::Unauthorized { .. }), "{reason:?}");
    assert!(!format!("{reason} {reason:?}").contains("canary"));
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn pings_go_both_ways_and_a_deaf_server_is_given_up() {
    let ping = Duration::from_secs(20);
    let (mock, builder) = builder(protocol().keep_alive(ping, 5 * SECOND));
    let manager = builder.build().unwrap();
    let [mut ticks] = joined(&manager, ["ticks"]).await;
    mock.tell(|graphql, out| graphql.ping(out));
    time::sleep(10 * MINUTE).await;
    assert_eq!((mock.tell(|graphql, _| graphql.pongs()), mock.opened()), (1, 1));
    mock.tell(|graphql, _| graphql.deaf(true));
    let start = Instant::now();
    time::sleep(26 * SECOND).await;
    mock.tell(|graphql, _| graphql.deaf(false));
    let Gap::Reconnected { reason, .. } = gap(&mut ticks).await else { panic!() };
    assert_eq!(reason, DisconnectReason::Protocol);
    assert!(start.elapsed() < MINUTE, "{:?}", start.elapsed());
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn what_is_for_nobody_is_counted_and_disturbs_nobody() {
    let (mock, manager) = built();
    let [mut ticks] = joined(&manager, ["ticks"]).await;
    let deep = format!("{}1{}", "[".repeat(500_000), "]".repeat(500_000));
    let nested = format!(r#"{{"id":"1","type":"next","payload":{deep}}}"#);
    let lies = [
        r#"{"id":"9","type":"next","payload":{}}"#,
        r#"{"id":1,"type":"next","payload":{}}"#,
        r#"{"id":"1","type":"next"}"#,
        r#"{"type":"connection_ack"}"#,
        r#"{"type":"subscribe","id":"1"}"#,
        "no JSON",
        &deep,
        &nested,
    ];
    lies.iter().for_each(|lie| mock.send_all(*lie));
    publish(&mock, "ticks", 1);
    assert_eq!(message(&mut ticks).await, payload(1));
    assert_eq!((manager.metrics().unroutable, mock.opened()), (lies.len() as u64, 1));
}

/// The mock is honest about what it finds: it closes as the protocol says, and notes why.
#[tokio::test(start_paused = true)]
async fn the_mock_closes_on_a_client_that_does_wrong() {
    let init = r#"{"type":"connection_init"}"#;
    let subscribe = r#"{"id":"1","type":"subscribe","payload":{"query":"{ a }"}}"#;
    let nothing = r#"{"id":"1","type":"subscribe","payload":{}}"#;
    for (says, code) in [
        (&["{"][..], 4400),
        (&[init, nothing], 4400),
        (&[subscribe], 4401),
        (&[init, subscribe, subscribe], 4409),
        (&[init, init], 4429),
        (&[], 4408),
    ] {
        let (mock, transport) = Mock::in_memory(MockGraphql::default());
        let builder = WsManager::builder(Subprotocol).config(config()).transport(transport);
        let manager = builder.limiter(Limiter::new()).build().unwrap();
        let mut stream = manager.subscribe::<Message>("x").unwrap();
        stream.ready().await.unwrap();
        for said in says {
            manager.send("x", *said).await.unwrap();
        }
        let reason = loop {
            match stream.next().await.unwrap() {
                Ok(_) => {}
                Err(wsmux::StreamError::Gap(Gap::Reconnected { reason, .. })) => break reason,
                Err(e) => {
                    break match e {
                        wsmux::StreamError::Closed(CloseReason::Fatal(e)) => e.reason().clone(),
                        wsmux::StreamError::Closed(CloseReason::Unauthorized(e)) => {
                            e.reason().clone()
                        }
                        e => panic!("{e:?}"),
                    };
                }
            }
        };
        let DisconnectReason::Closed { code: Some(found), .. } = reason else {
            panic!("{reason:?}")
        };
        assert_eq!(found, code);
        assert!(mock.faults()[0].what.starts_with(&code.to_string()));
    }
    let (mock, transport) = Mock::in_memory(MockGraphql::default());
    let builder = WsManager::builder(Direct::new("ws://mock").unwrap()).config(config());
    let manager = builder.transport(transport).limiter(Limiter::new()).build().unwrap();
    let _stream = manager.subscribe::<Message>("x").unwrap();
    time::sleep(MS).await;
    assert_eq!(mock.faults()[0].what, "4406 Subprotocol not acceptable");
}

/// Says whatever a test says, under the subprotocol.
struct Subprotocol;

impl wsmux::protocol::Protocol for Subprotocol {
    fn lane(&self, _: &wsmux::StreamName) -> Result<wsmux::protocol::Lane, wsmux::InvalidName> {
        Ok(wsmux::protocol::Lane::new("x"))
    }

    fn request(
        &self,
        dial: &wsmux::protocol::Dial<'_>,
    ) -> Result<wsmux::protocol::Request, wsmux::protocol::DialError> {
        let request = wsmux::protocol::Request::new("ws://mock")?;
        Ok(request.subprotocol("graphql-transport-ws").joining(dial.names.iter().cloned()))
    }

    fn session(&self, dial: &wsmux::protocol::Dial<'_>) -> Box<dyn wsmux::protocol::Session> {
        wsmux::protocol::Protocol::session(&Direct::new("ws://mock").unwrap(), dial)
    }
}
