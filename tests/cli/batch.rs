//! `wsmux serve` with `[batch]`: what clients may ask, and what comes of it.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use wsmux::test_util::{Mock, MockServer, MockTradingView};

use super::serve::{Gateway, Temporary};
use super::*;

/// A backend that answers each request with its method and parameters, in the form of both protocols, and
/// writes down what it is asked.
async fn backend() -> (MockServer, Arc<Mutex<Vec<Value>>>) {
    let heard = Arc::<Mutex<Vec<Value>>>::default();
    let log = Arc::clone(&heard);
    let server = serving(move |peer| {
        let log = Arc::clone(&log);
        async move {
            while let Some(message) = peer.recv_message().await {
                let asked: Value = serde_json::from_str(message.as_text().unwrap()).unwrap();
                let result = json!({ "method": asked["method"], "params": asked["params"] });
                let answer =
                    json!({ "jsonrpc": "2.0", "id": asked["id"], "status": 200, "result": result });
                log.lock().unwrap().push(asked);
                peer.send(answer.to_string()).await;
            }
        }
    });
    (server.await, heard)
}

fn config(protocol: &str, url: &str, methods: &str) -> String {
    format!(
        "[auth]\nanonymous = true\n[batch]\nprotocol = \"{protocol}\"\nurl = \"{url}\"\n\
         methods = {methods}\nrequests = 5\n"
    )
}

/// The status, and what the events say, each result under its index.
async fn post(at: &str, requests: &Value) -> (u16, Vec<Value>) {
    let body = json!({ "requests": requests }).to_string();
    let request = format!(
        "POST /batch HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut socket = TcpStream::connect(at).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(socket.read_to_string(&mut answer)).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let events = answer.lines().filter_map(|line| line.strip_prefix("data: "));
    (status, events.map(|event| serde_json::from_str(event).unwrap()).collect())
}

/// What became of each request, by its index: its data, or the code of its failure.
fn outcomes(events: &[Value], count: usize) -> Vec<Value> {
    let mut outcomes = vec![Value::Null; count];
    for one in events.iter().flat_map(|event| {
        let listed = event["requests"].as_array().into_iter().flatten();
        listed.chain(event["results"].as_array().into_iter().flatten())
    }) {
        let index = usize::try_from(one["index"].as_u64().unwrap()).unwrap();
        if !one["data"].is_null() {
            outcomes[index] = one["data"].clone();
        } else if !one["error"].is_null() {
            outcomes[index] = one["error"]["code"].clone();
        }
    }
    outcomes
}

#[tokio::test]
async fn a_batch_asks_what_the_configuration_names_and_nothing_else() {
    for protocol in ["json-rpc", "binance-api"] {
        let (server, heard) = backend().await;
        let text = config(protocol, &server.url().to_string(), r#"["klines", "time"]"#);
        let file = Temporary::new("batch", &text);
        let gateway = Gateway::start(&["--demo", "--config", file.path()]).await;
        let klines = json!({ "symbol": "BTCUSDT", "interval": "1m" });
        let wishes = json!([
            { "name": "klines", "params": klines },
            "time",
            "order.place",
            { "name": "KLINES", "params": { "method": "order.place", "id": 7 } },
        ]);
        let (status, events) = post(&gateway.at, &wishes).await;
        assert_eq!(status, 200, "{events:?}");
        let expected = [
            json!({ "method": "klines", "params": klines }),
            json!({ "method": "time", "params": null }),
            json!("unknown_name"),
            json!("unknown_name"),
        ];
        let outcomes = outcomes(&events, 4);
        // A protocol may give a method without parameters an empty list of them.
        assert_eq!(outcomes[0], expected[0], "{protocol}");
        assert_eq!(outcomes[1]["method"], "time", "{protocol}: {events:?}");
        assert_eq!(outcomes[2..], expected[2..], "{protocol}");
        let mut asked: Vec<_> =
            heard.lock().unwrap().iter().map(|one| one["method"].clone()).collect();
        asked.sort_by_key(Value::to_string);
        assert_eq!(asked, ["klines", "time"], "{protocol}");

        let (status, _) = post(&gateway.at, &json!(vec!["time"; 6])).await;
        assert_eq!(status, 403, "{protocol}: more than a batch may have");
    }
}

#[tokio::test]
async fn histories_of_tradingview_are_asked_by_their_parameters_alone() {
    let mock = Mock::on_port(MockTradingView::default()).await.unwrap();
    let text = config("tradingview", &mock.url(), r#"["history"]"#);
    let file = Temporary::new("batch-charts", &text);
    let gateway = Gateway::start(&["--demo", "--config", file.path()]).await;
    let history = json!({ "symbol": "NASDAQ:AAPL", "resolution": "1", "count": 3 });
    let command = json!({ "m": "quote_create_session", "p": ["qs_1"] });
    let wishes = json!([
        { "name": "history", "params": history },
        { "name": "history", "params": command },
        "history",
        { "name": "create_series", "params": history },
    ]);
    let (status, events) = post(&gateway.at, &wishes).await;
    assert_eq!(status, 200, "{events:?}");
    let results = events.iter().flat_map(|event| event["results"].as_array().into_iter().flatten());
    let parts: Vec<_> = results.filter_map(|result| result["parts"].as_array()).collect();
    let [parts] = parts[..] else { panic!("one history: {events:?}") };
    let bars: usize = parts.iter().map(|part| part["data"]["s"].as_array().unwrap().len()).sum();
    assert_eq!((parts.len(), bars), (2, 3), "{events:?}");
    let outcomes = outcomes(&events, 4);
    assert!(outcomes[1].is_string() && outcomes[2].is_string(), "{events:?}");
    assert_eq!(outcomes[3], "unknown_name", "{events:?}");
    mock.tell(|charts, _| {
        let said: Vec<_> = charts.commands().iter().map(|(method, _)| &**method).collect();
        assert!(!said.contains(&"quote_create_session"), "{said:?}");
        assert_eq!(said.iter().filter(|method| **method == "create_series").count(), 1, "{said:?}");
    });
    assert_eq!(mock.faults(), []);
}

#[tokio::test]
async fn there_are_no_batches_unless_they_are_configured() {
    let gateway = Gateway::start(&["--demo"]).await;
    assert_eq!(post(&gateway.at, &json!(["time"])).await.0, 404);
}

#[tokio::test]
async fn other_methods_may_be_asked_after_sighup_and_a_bad_list_changes_nothing() {
    let (server, _) = backend().await;
    let url = server.url().to_string();
    let file = Temporary::new("batch-reload", &config("json-rpc", &url, r#"["old"]"#));
    let mut gateway = Gateway::start(&["--demo", "--config", file.path()]).await;
    let mut stderr = BufReader::new(gateway.program.child.stderr.take().unwrap());
    for (text, end, allowed) in [
        (config("json-rpc", &url, "[]"), "the configuration stays what it was\n", "old"),
        ("[auth]\nanonymous = true".to_owned(), "the configuration stays what it was\n", "old"),
        (config("json-rpc", &url, r#"["new"]"#), "the configuration was read again\n", "new"),
    ] {
        std::fs::write(file.path(), &text).unwrap();
        gateway.program.signal(Signal::HUP);
        let mut said = String::new();
        while !said.ends_with(end) {
            assert_ne!(within(stderr.read_line(&mut said)).await.unwrap(), 0, "{said}");
        }
        let (_, events) = post(&gateway.at, &json!(["old", "new"])).await;
        let outcomes = outcomes(&events, 2);
        let of = |method: &str| &outcomes[usize::from(method == "new")];
        let other = if allowed == "old" { "new" } else { "old" };
        assert_eq!(of(allowed)["method"], allowed, "{text}: {events:?}");
        assert_eq!(*of(other), "unknown_name", "{text}: {events:?}");
    }
}

#[tokio::test]
async fn batches_that_make_no_sense_are_refused_at_the_start() {
    for (text, why) in [
        (config("json-rpc", "ws://a/", "[]"), "[batch] has no methods"),
        (config("json-rpc", "ws://a/", r#"[""]"#), "is no method"),
        (config("tradingview", "ws://a/", r#"["history", "a"]"#), "is none of TradingView's"),
        (config("json-rpc", "http://a/", r#"["a"]"#), "[batch]"),
        (config("direct", "ws://a/", r#"["a"]"#), "unknown variant"),
        (format!("{}in_flight = 0\n", config("json-rpc", "ws://a/", r#"["a"]"#)), "in_flight"),
    ] {
        let file = Temporary::new("bad-batch", &text);
        let ran =
            run(&["serve", "--demo", "--listen", "127.0.0.1:0", "--config", file.path()]).await;
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains(why), "{why}: {}", ran.stderr);
    }
}
