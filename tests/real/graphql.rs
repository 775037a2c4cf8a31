//! GraphQL: npm's client `graphql-ws` against the mock, and the client against npm's server.

use std::time::Duration;

use futures::StreamExt as _;
use rustix::process::Signal;
use serde_json::{Value, json};
use wsmux::protocol::{GraphqlWs, Operation};
use wsmux::test_util::{Mock, MockGraphql};
use wsmux::{
    CloseReason, Config, Credentials, Gap, Message, RequestError, StreamError, Subscription, Token,
    WsManager,
};

use crate::node::script;
use crate::program::{Program, free_port};
use crate::{builder, config, within};

#[tokio::test(flavor = "multi_thread")]
async fn graphql_ws_talks_to_the_mock() {
    let mock = Mock::on_port(MockGraphql::default()).await.unwrap();
    mock.tell(|graphql, _| {
        graphql.only_token("Bearer jwt");
        graphql.answer("hello", [json!({"data": {"hello": "wörld"}})]);
        graphql.refuse("nope", "Cannot query field");
    });
    let url = format!("{}/graphql", mock.url());
    let Some(mut client) = script("clients/graphql.mjs", "graphql-ws", &[&url]) else { return };
    assert_eq!(client.says("query {").await, r#"query {"data":{"hello":"wörld"}}"#);
    client.says("nope error Cannot query field").await;
    mock.until(|graphql| (graphql.running() == 1).then_some(())).await;
    mock.tell(|graphql, out| graphql.publish("ticks", &json!({"data": {"ticks": 1}}), out));
    client.says(r#"ticks {"data":{"ticks":1}}"#).await;
    client.says("pong").await;
    mock.tell(|graphql, out| graphql.ping(out));
    client.says("pinged").await;
    mock.until(|graphql| (graphql.pongs() >= 1).then_some(())).await;
    mock.drop_all();
    mock.until(|graphql| (graphql.inits().len() == 2 && graphql.running() == 1).then_some(()))
        .await;
    mock.tell(|graphql, out| graphql.publish("ticks", &json!({"data": {"ticks": 2}}), out));
    client.says(r#"ticks {"data":{"ticks":2}}"#).await;
    client.signal(Signal::USR1);
    mock.until(|graphql| (graphql.running() == 0).then_some(())).await;
    client.signal(Signal::TERM);
    mock.until_sockets(0).await;
    assert_eq!(mock.faults(), []);
}

/// The server, which takes only who has `token`, if that is not empty.
async fn server(port: u16, token: &str) -> Option<Program> {
    let mut server = script("servers/graphql.mjs", "graphql-ws", &[&port.to_string(), token])?;
    server.says("listening").await;
    Some(server)
}

fn protocol(port: u16) -> GraphqlWs {
    let ticks = Operation::new("subscription T($from: Int!) { ticks(from: $from) }");
    let [from_1, from_100] =
        ["1", "100"].map(|from| ticks.clone().variables(format!(r#"{{"from": {from}}}"#)).unwrap());
    let graphql = GraphqlWs::new(&format!("ws://127.0.0.1:{port}/graphql")).unwrap();
    graphql
        .define("low", from_1)
        .define("high", from_100)
        .define("few", Operation::new("subscription { few }"))
        .define("nope", Operation::new("subscription { nope }"))
}

fn manager(port: u16) -> WsManager {
    builder(protocol(port), Config::default().retry(config().retry)).build().unwrap()
}

/// The next number of a stream.
async fn number(stream: &mut Subscription<Message>, key: &str) -> u64 {
    match within(stream.next()).await {
        Some(Ok(message)) => {
            let value: Value = serde_json::from_str(message.as_text().unwrap()).unwrap();
            value["data"][key].as_u64().unwrap()
        }
        other => panic!("not a message: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_and_queries_ride_on_one_socket_to_graphql_ws() {
    let port = free_port();
    let Some(mut server_program) = server(port, "").await else { return };
    let manager = manager(port);
    let [mut low, mut high, mut few, mut nope] =
        ["low", "high", "few", "nope"].map(|name| manager.subscribe::<Message>(name).unwrap());
    for n in 1..4 {
        assert_eq!(number(&mut low, "ticks").await, n);
        assert_eq!(number(&mut high, "ticks").await, 99 + n);
    }
    // What is complete is asked for again.
    assert_eq!((number(&mut few, "few").await, number(&mut few, "few").await), (1, 2));
    let again = within(few.next()).await;
    assert!(matches!(again, Some(Err(StreamError::Gap(Gap::Reconnected { .. })))), "{again:?}");
    assert_eq!(number(&mut few, "few").await, 1);
    drop(few);
    let Some(Err(StreamError::Closed(CloseReason::Rejected { reason }))) =
        within(nope.next()).await
    else {
        panic!("it has no such field")
    };
    assert!(reason.contains("nope"), "{reason}");

    let ask = |body: &'static str| within(manager.request("low", body));
    let reply = ask(r#"{"query":"{ hello }"}"#).await.unwrap();
    assert_eq!(reply.parts(), [Message::from(r#"{"data":{"hello":"wörld"}}"#)]);
    let add = r#"{"query":"mutation A($n: Int!) { add(from: $n) }","variables":{"n":5}}"#;
    assert_eq!(ask(add).await.unwrap().parts(), [Message::from(r#"{"data":{"add":5}}"#)]);
    let bad = ask(r#"{"query":"{ nope }"}"#).await;
    assert!(matches!(bad, Err(RequestError::Failed(_))), "{bad:?}");

    drop(high);
    server_program.says("ended ticks").await;
    let mut last = number(&mut low, "ticks").await;
    assert_eq!((manager.metrics().active_connections, manager.metrics().unroutable), (1, 0));

    server_program.end(Signal::KILL).await;
    let _server = server(port, "").await.unwrap();
    loop {
        match within(low.next()).await {
            Some(Ok(_)) => last += 1,
            Some(Err(StreamError::Gap(Gap::Reconnected { .. }))) => break,
            other => panic!("after {last}: {other:?}"),
        }
    }
    assert_eq!(number(&mut low, "ticks").await, 1, "the server counts anew");
    within(manager.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn graphql_ws_refuses_a_token_and_gets_a_fresh_one() {
    let port = free_port();
    let Some(mut server) = server(port, "good").await else { return };
    let credentials = Credentials::new(|_| async {
        static ASKED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let first = ASKED.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        Ok::<_, std::io::Error>(Token::new(if first { "bad" } else { "good" }))
    });
    let keep_alive = Duration::from_millis(50);
    let graphql = protocol(port).keep_alive(keep_alive, 100 * keep_alive);
    let manager = builder(graphql, Config::default().retry(config().retry));
    let manager = manager.credentials(credentials.in_band()).build().unwrap();
    let mut low = manager.subscribe::<Message>("low").unwrap();
    server.says(r#"connect {"Authorization":"Bearer bad"}"#).await;
    server.says(r#"connect {"Authorization":"Bearer good"}"#).await;
    for n in 1..20 {
        assert_eq!(number(&mut low, "ticks").await, n, "and its pings are answered");
    }
    within(manager.shutdown()).await;
    server.says("disconnect").await;
}
