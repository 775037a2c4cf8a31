//! What one user may have on all of its connections, and one address of whoever is anonymous: names, and batches.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::ConnectInfo;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use wsmux::gateway::auth::{ApiKeys, Auth};
use wsmux::gateway::tiers::{Tier, Tiers};
use wsmux::gateway::{Entrance, Gateway};
use wsmux::requests::PoolConfig;
use wsmux::test_util::Mock;

use crate::asker::{Asker, Desk};
use crate::batch::{config, gateway, pool_of, posted};
use crate::client::Client;
use crate::{Stage, http, soon};

const ANN: &str = "the-key-of-ann-0123456789";
const BOB: &str = "the-key-of-bob-0123456789";

/// Lets in ann and bob by their keys, and anybody else as nobody.
fn entrance(tiers: Tiers) -> Entrance {
    let mut keys = ApiKeys::new();
    keys.add("ann", ANN).unwrap();
    keys.add("bob", BOB).unwrap();
    Entrance::builder().auth(Auth::new().api_keys(keys)).anonymous(true).tiers(tiers).build()
}

fn two_names() -> Tier {
    Tier { names_per_user: 2, ..Tier::new("two") }
}

fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\n")
}

/// A gateway at whose doors these tiers are, with names that are there.
async fn stage(tiers: &Tiers) -> (Stage, Vec<wsmux::gateway::Publisher>) {
    let entrance = entrance(tiers.clone());
    let stage = Stage::built(|builder| builder.config(config()).doors(entrance)).await;
    let publish = |name: &str| stage.gateway.publisher(name.try_into().unwrap());
    let publishers = ["a", "b", "c", "d"].map(publish).into();
    (stage, publishers)
}

/// Whether a client may read one more name.
async fn may_read(client: &mut Client, name: &str) -> bool {
    client.say(&format!(r#"{{"type":"subscribe","id":"s","names":["{name}"]}}"#)).await;
    let ack = client.word_of("ack").await;
    let is_taken = ack["names"].as_array().is_some_and(|names| !names.is_empty());
    if !is_taken {
        let error = client.word_of("error").await;
        assert_eq!((&error["code"], &error["name"]), (&"too_many".into(), &name.into()));
    }
    is_taken
}

async fn leave(client: &mut Client, name: &str) {
    client.say(&format!(r#"{{"type":"unsubscribe","id":"u","names":["{name}"]}}"#)).await;
    client.word_of("ack").await;
}

/// Waits until a name is read by so many.
async fn until_read(stage: &Stage, name: &str, count: usize) {
    soon(async {
        let readers = || {
            let names = stage.gateway.stats().names;
            names.iter().find(|one| one.name.as_str() == name).map_or(0, |one| one.readers)
        };
        while readers() != count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_reads_so_many_distinct_names_on_all_connections_and_gets_one_back() {
    let (stage, _publishers) = stage(&Tiers::one(two_names())).await;
    let (mut one, mut other) = (stage.client().await, stage.client().await);
    assert!(may_read(&mut one, "a").await && may_read(&mut one, "b").await);
    assert!(may_read(&mut other, "a").await, "a name that is read already is no other one");
    assert!(!may_read(&mut other, "c").await);
    let refused = http::get(stage.addr, "/sse/c", "").await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.text().await, "you have as many as you may\n");
    let mut relay = Client::open(stage.tcp().await, "/ws/c").await.unwrap();
    assert_eq!(relay.closed().await, Some(1008));

    leave(&mut one, "a").await;
    assert!(!may_read(&mut one, "c").await, "it is read on the other connection");
    leave(&mut other, "a").await;
    assert!(may_read(&mut other, "c").await);
    // What a connection had is free when it has gone, however it goes.
    drop(other);
    until_read(&stage, "c", 0).await;
    let events = http::get(stage.addr, "/sse/d", "").await;
    assert_eq!(events.status, 200);
    assert!(!may_read(&mut one, "c").await);
    drop(events);
    until_read(&stage, "d", 0).await;
    assert!(may_read(&mut one, "c").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_user_has_names_of_its_own_and_where_there_is_no_limit_there_is_none() {
    let tiers = Tiers::one(two_names());
    let (stage, _publishers) = stage(&tiers).await;
    let path = "/sse?names=a,b";
    let _anns = http::get(stage.addr, path, &bearer(ANN)).await;
    until_read(&stage, "a", 1).await;
    assert_eq!(http::get(stage.addr, "/sse/c", &bearer(ANN)).await.status, 403);
    let bobs = http::get(stage.addr, path, &bearer(BOB)).await;
    assert_eq!(bobs.status, 200);
    // What would not be told from a limit that is off.
    tiers.replace(Tier::new("all"), []);
    assert_eq!(http::get(stage.addr, "/sse/c", &bearer(ANN)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_becomes_less_leaves_what_is_read_and_takes_nothing_more() {
    let tiers = Tiers::one(Tier::new("all"));
    let (stage, publishers) = stage(&tiers).await;
    let mut client = stage.client().await;
    for name in ["a", "b", "c"] {
        assert!(may_read(&mut client, name).await);
    }
    tiers.replace(two_names(), []);
    publishers[2].publish("3");
    assert_eq!(client.data().await, 3, "as with `names`");
    assert!(!may_read(&mut client, "d").await);
    leave(&mut client, "a").await;
    assert!(!may_read(&mut client, "d").await);
    leave(&mut client, "b").await;
    assert!(may_read(&mut client, "d").await);
}

/// The status of a batch, with its `Retry-After` and its code where it is refused.
async fn post(gateway: &Gateway, key: Option<&str>, from: &str) -> (u16, Option<String>, String) {
    use http_body_util::BodyExt as _;

    let peer: SocketAddr = format!("{from}:4711").parse().unwrap();
    let mut request = ::http::Request::post("/batch").header("content-type", "application/json");
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let request = request.header("host", "test").extension(ConnectInfo(peer));
    let body = axum::body::Body::from(posted(2));
    let service = TowerToHyperService::new(gateway.router());
    let answer = service.call(request.body(body).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let retry = answer.headers().get("retry-after").map(|after| after.to_str().unwrap().to_owned());
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    (status, retry, body["error"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(start_paused = true)]
async fn each_batch_takes_from_the_messages_of_its_user_or_address() {
    let (_mock, transport) = Mock::in_memory(Desk::echo());
    let set = |manager: wsmux::WsManagerBuilder| manager.transport(transport);
    let pool = pool_of(Asker::new("ws://test/ws"), PoolConfig::default(), set);
    let tiers = Tiers::one(Tier { messages_per_second: 2, ..Tier::new("quiet") });
    let gateway = gateway(&pool, config(), entrance(tiers.clone()));
    let (home, office) = ("192.0.2.1", "192.0.2.2");
    let refused = (429, Some("1".to_owned()), "too_many_messages".to_owned());
    // Each comes by a connection of its own, and none is left of the one before.
    for (key, from) in [(Some(ANN), home), (Some(BOB), home), (None, home), (None, office)] {
        for _ in 0..2 {
            assert_eq!(post(&gateway, key, from).await.0, 200, "{key:?} {from}");
        }
        assert_eq!(post(&gateway, key, from).await, refused);
    }
    assert_eq!(post(&gateway, Some(ANN), office).await, refused, "wherever the user is");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(post(&gateway, Some(ANN), home).await.0, 200, "as soon as it was told");
    // Without the limit the same are not held up, so it is the limit that does it.
    tiers.replace(Tier { messages_per_second: u32::MAX, ..Tier::new("loud") }, []);
    for _ in 0..10 {
        assert_eq!(post(&gateway, Some(ANN), home).await.0, 200);
    }
    tiers.replace(Tier { messages_per_second: 0, ..Tier::new("mute") }, []);
    assert_eq!(post(&gateway, Some(ANN), home).await.1.as_deref(), Some("60"));
}
