//! `/ws`: what is said, and what comes of it.

use std::time::Duration;

use serde_json::json;
use wsmux::gateway::GatewayConfig;
use wsmux::protocol::DisconnectReason;
use wsmux::transport::TransportError;
use wsmux::{Message, StreamName};

use crate::client::{CLOSE, Client, PING, PONG, TEXT, masked};
use crate::{Stage, soon};

fn config() -> GatewayConfig {
    GatewayConfig::default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_subscribes_and_is_sent_what_comes() {
    let mut stage = Stage::new().await;
    let mut client = stage.client().await;
    client.subscribe("a").await;
    let peer = stage.peer().await;
    while client.word_of("status").await["status"] != "open" {}
    peer.send_all([r#"{"p": 1.0}"#, "no JSON", "17"]);
    peer.send(Message::binary(vec![255]));
    assert_eq!(client.word().await, json!({"type": "data", "name": "a", "data": {"p": 1.0}}));
    assert_eq!(client.word().await, json!({"type": "data", "name": "a", "text": "no JSON"}));
    assert_eq!(client.word().await, json!({"type": "data", "name": "a", "data": 17}));
    assert_eq!(client.word().await, json!({"type": "data", "name": "a", "base64": "/w=="}));
    assert_eq!(stage.gateway.stats().delivered, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_clients_share_one_socket_upstream() {
    let mut stage = Stage::new().await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = stage.client().await;
        client.subscribe("a").await;
        clients.push(client);
    }
    let peer = stage.peer().await;
    for client in &mut clients {
        while client.word_of("status").await["status"] != "open" {}
    }
    for number in 0..100 {
        peer.send(number.to_string());
    }
    for client in &mut clients {
        for number in 0..100 {
            assert_eq!(client.data().await, number);
        }
    }
    assert!(!stage.upstream.has_dial());
    let stats = stage.gateway.stats();
    assert_eq!((stats.clients, stats.delivered), (20, 2000));
    assert_eq!((stats.names.len(), stats.names[0].readers), (1, 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_nobody_reads_any_more_is_left() {
    let mut stage = Stage::new().await;
    let mut staying = stage.client().await;
    staying.subscribe("a").await;
    staying.subscribe("b").await;
    let mut peers = [stage.peer().await, stage.peer().await];
    peers.sort_by_key(|peer| peer.request().url().to_string());
    let [mut a, mut b] = peers;
    staying.say(r#"{"type":"unsubscribe","id":9,"names":["a"]}"#).await;
    assert_eq!(staying.word_of("ack").await, json!({"type": "ack", "id": 9, "names": ["a"]}));
    soon(a.closed()).await;
    drop(staying);
    soon(b.closed()).await;
    stage.until_clients(0).await;
    assert_eq!(stage.gateway.stats().names, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_is_lost_upstream_costs_each_client_one_gap_and_none_its_connection() {
    let mut stage = Stage::new().await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = stage.client().await;
        client.subscribe("a").await;
        clients.push(client);
    }
    let peer = stage.peer().await;
    for client in &mut clients {
        while client.word_of("status").await["status"] != "open" {}
    }
    peer.send("1");
    peer.fail(TransportError::new(DisconnectReason::Ended));
    let peer = stage.peer().await;
    peer.send("2");
    for client in &mut clients {
        assert_eq!(client.data().await, 1);
        let gap = client.word_of("gap").await;
        assert_eq!((&gap["name"], &gap["reason"]), (&json!("a"), &json!("reconnected")));
        assert!(gap["down_ms"].is_u64());
        assert_eq!(client.data().await, 2);
    }
    assert_eq!(stage.gateway.stats().clients, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_told_by_a_stable_code() {
    let stage = Stage::built(|builder| {
        let names = |name: &StreamName| (name != "secret").then(|| name.clone());
        builder.config(config().names_per_client(2)).names(names)
    })
    .await;
    let mut client = stage.client().await;
    for nonsense in ["", "[]", r#"{"type":"data"}"#, r#"{"type":"ping","id":[]}"#] {
        client.send(TEXT, nonsense.as_bytes()).await;
        assert_eq!(client.word_of("error").await["code"], "bad_frame", "{nonsense}");
    }
    client.send(2, b"binary").await;
    assert_eq!(client.word_of("error").await["code"], "bad_frame");
    client.say(r#"{"type":"subscribe","id":1,"names":["secret","a\n"]}"#).await;
    assert_eq!(client.word_of("error").await["code"], "invalid_name");
    assert_eq!(client.word_of("ack").await, json!({"type": "ack", "id": 1, "names": []}));
    let refused = client.word_of("error").await;
    let told = (&refused["id"], &refused["code"], &refused["name"]);
    assert_eq!(told, (&json!(1), &json!("unknown_name"), &json!("secret")));
    client.say(r#"{"type":"subscribe","names":["a","a","b","c","d"]}"#).await;
    assert_eq!(client.word_of("ack").await["names"], json!(["a", "a", "b"]));
    let refused = client.word_of("error").await;
    assert_eq!((&refused["code"], &refused["name"]), (&json!("too_many"), &json!("c")));
    client.say(r#"{"type":"ping","id":"x"}"#).await;
    assert_eq!(client.word_of("pong").await["id"], "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_may_stand_for_others_upstream() {
    let mut stage = Stage::built(|builder| {
        builder.names(|name| StreamName::try_from(&*format!("{name}@trade")).ok())
    })
    .await;
    let mut client = stage.client().await;
    client.subscribe("btc").await;
    let peer = stage.peer().await;
    assert_eq!(peer.request().url().to_string(), "ws://upstream/btc@trade");
    while client.word_of("status").await["status"] != "open" {}
    peer.send("1");
    assert_eq!(client.word_of("data").await, json!({"type": "data", "name": "btc", "data": 1}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_applications_own_messages_come_as_others_do() {
    let mut stage = Stage::new().await;
    let news = stage.gateway.publisher(StreamName::try_from("news").unwrap());
    news.publish("0");
    let mut client = stage.client().await;
    client.subscribe("news").await;
    assert_eq!(client.word_of("status").await["status"], "open");
    // Many more than are kept: nobody waits, and what is missed is told.
    for number in 1..=5000 {
        news.publish(number.to_string());
    }
    let mut next = 1;
    while next <= 5000 {
        let word = client.word().await;
        if word["type"] == "gap" {
            next += word["missed"].as_u64().unwrap();
        } else {
            assert_eq!(word["data"], next);
            next += 1;
        }
    }
    drop(news);
    assert_eq!(client.word_of("error").await["code"], "ended");
    assert!(!stage.upstream.has_dial());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_breaks_the_rules_is_closed_with_their_code() {
    let stage = Stage::new().await;
    let mut unmasked = masked(TEXT, b"");
    unmasked[1] = 0;
    for (frame, code) in [
        (unmasked, 1002),
        (masked(3, b""), 1002),
        (masked(TEXT, &[0xff]), 1007),
        (masked(TEXT, &vec![b'x'; (64 << 10) + 1]), 1009),
        (masked(CLOSE, &1000_u16.to_be_bytes()), 1000),
    ] {
        let mut client = stage.client().await;
        client.send_raw(&frame).await;
        assert_eq!(client.closed().await, Some(code));
        client.ended().await;
    }
    stage.until_clients(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_is_answered_with_what_it_bears() {
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    client.send(PING, b"17").await;
    let answer = loop {
        match client.frame().await {
            Some((PING, _)) => {}
            answer => break answer,
        }
    };
    assert_eq!(answer, Some((PONG, b"17".to_vec())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_answer_pings_is_cut_off_and_others_stay() {
    // A machine that is busy stands still for longer than one would think.
    let stage = Stage::with(config().ping_interval(Duration::from_secs(2))).await;
    let mut answering = stage.client().await;
    let mut silent = stage.client().await;
    let stays = tokio::spawn(async move {
        for _ in 0..3 {
            let (opcode, payload) = answering.frame().await.expect("it stays");
            assert_eq!(opcode, PING);
            answering.send(PONG, &payload).await;
        }
        answering
    });
    silent.ended().await;
    let _answering = soon(stays).await.unwrap();
    stage.until_clients(1).await;
    assert_eq!(stage.gateway.stats().cut_off, 1);
}

/// A connection in memory.
fn connected(stage: &Stage) -> tokio::io::DuplexStream {
    let (ours, theirs) = tokio::io::duplex(1 << 10);
    let service = hyper_util::service::TowerToHyperService::new(stage.gateway.router());
    let io = hyper_util::rt::TokioIo::new(theirs);
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
    tokio::spawn(connection.with_upgrades());
    ours
}

/// When each of twenty clients is closed by a gateway that goes over a while.
async fn gone(window: Duration) -> Vec<Duration> {
    let stage = Stage::with(config()).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::open(connected(&stage), "/ws").await.unwrap_or_else(|_| panic!()));
    }
    stage.until_clients(20).await;
    let gateway = stage.gateway.clone();
    let begun = tokio::time::Instant::now();
    let drained = tokio::spawn(async move { gateway.drain(window).await });
    let closed = clients.into_iter().map(|mut client| async move {
        assert_eq!(client.closed().await, Some(1001));
        client.send(CLOSE, &1001_u16.to_be_bytes()).await;
        client.ended().await;
        begun.elapsed()
    });
    let closed = futures::future::join_all(closed).await;
    soon(drained).await.unwrap();
    assert_eq!(Client::open(connected(&stage), "/ws").await.err(), Some(503));
    assert_eq!(stage.gateway.stats().clients, 0);
    closed
}

/// How many are closed in the first half of the window, and how many in the second.
fn halves(closed: &[Duration]) -> (usize, usize) {
    let early = closed.iter().filter(|at| **at < WINDOW / 2).count();
    let late = closed.iter().filter(|at| (WINDOW / 2..=WINDOW).contains(*at)).count();
    (early, late)
}

const WINDOW: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn a_gateway_that_goes_closes_all_with_1001_over_a_while_and_lets_nobody_in() {
    let closed = gone(WINDOW).await;
    let (early, late) = halves(&closed);
    assert!(early >= 5 && late >= 5 && early + late == 20, "{closed:?}");
}

/// What the window is for: without it all come back to the others at once.
#[tokio::test(start_paused = true)]
async fn without_a_while_all_are_closed_at_once() {
    assert_eq!(halves(&gone(Duration::ZERO).await), (20, 0));
}
