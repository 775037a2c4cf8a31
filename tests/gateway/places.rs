//! Where a reader of events is: ids, however many names there are, and going on after them.
//!
//! The router is called without a socket, and most of it in virtual time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::response::Response;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::time::Instant;
use wsmux::gateway::{Doors, Gateway, GatewayConfig, Publisher, Standing, Visitor};
use wsmux::{StreamName, WsManager};

use crate::client::Client;
use crate::{Stage, soon};

const SECOND: Duration = Duration::from_secs(1);

/// Lets everybody in, with a delay that changes.
#[derive(Clone, Default)]
struct Guests(Arc<AtomicU64>);

struct Current(Guests);

impl Standing for Current {
    fn version(&self) -> u64 {
        self.0.0.load(Ordering::Relaxed)
    }

    fn delay(&self) -> Duration {
        SECOND * u32::try_from(self.version()).unwrap()
    }
}

impl Doors for Guests {
    fn admit<'a>(
        &'a self,
        _: &'a http::request::Parts,
        _: Option<SocketAddr>,
    ) -> BoxFuture<'a, Result<Visitor, Response>> {
        Box::pin(async { Ok(Visitor::new("guest", Current(self.clone()))) })
    }
}

fn gateway(config: GatewayConfig, doors: Guests) -> Gateway {
    let manager = WsManager::connect("ws://upstream/ws").unwrap();
    Gateway::builder(manager).config(config).doors(doors).build()
}

fn publishers(gateway: &Gateway, names: &[String]) -> Vec<Publisher> {
    let publish = |name: &String| gateway.publisher(StreamName::try_from(&**name).unwrap());
    names.iter().map(publish).collect()
}

/// A stream of events, event by event, as a browser keeps it: the last id that it saw stays.
struct Events {
    body: BodyDataStream,
    id: String,
    rest: String,
}

impl Events {
    async fn open(gateway: &Gateway, names: &[String], id: &str) -> Self {
        let uri = format!("/sse?names={}", names.join(","));
        let mut request = http::Request::get(uri);
        if !id.is_empty() {
            request = request.header("last-event-id", id);
        }
        let service = TowerToHyperService::new(gateway.router());
        let answer = service.call(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        let body = answer.into_body().into_data_stream();
        Self { body, id: id.to_owned(), rest: String::new() }
    }

    /// The next event that is no status, and whether it has an id of its own.
    async fn next(&mut self) -> (Value, bool) {
        loop {
            let Some((event, rest)) = self.rest.split_once("\n\n") else {
                let chunk = self.body.next().await.expect("more").unwrap();
                self.rest.push_str(std::str::from_utf8(&chunk).unwrap());
                continue;
            };
            let (event, rest) = (event.to_owned(), rest.to_owned());
            self.rest = rest;
            let field = |name| event.lines().find_map(|line: &str| line.strip_prefix(name));
            if let Some(id) = field("id: ") {
                self.id = id.to_owned();
            }
            let Some(data) = field("data: ") else { continue };
            let data: Value = serde_json::from_str(data).unwrap();
            if data["type"] != "status" {
                return (data, field("id: ").is_some());
            }
        }
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("name-{n}")).collect()
}

#[tokio::test(start_paused = true)]
async fn an_id_is_as_long_for_a_thousand_names_as_for_one() {
    let gateway = gateway(GatewayConfig::default(), Guests::default());
    let names = names(1000);
    let publishers = publishers(&gateway, &names);
    let mut events = Events::open(&gateway, &names, "").await;
    tokio::time::sleep(SECOND).await;
    for (n, publisher) in publishers.iter().enumerate() {
        publisher.publish(n.to_string());
    }
    let mut seen = Vec::new();
    for _ in 0..500 {
        seen.push(events.next().await.0["data"].as_u64().unwrap());
        assert!(events.id.len() <= 40, "{}", events.id);
    }
    let mut again = Events::open(&gateway, &names, &events.id).await;
    for _ in 500..1000 {
        seen.push(again.next().await.0["data"].as_u64().unwrap());
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..1000), "each once, of the names it was at and of the others");
}

/// What is wrong with what a reader was told of each name: numbers from 0 on, with no gap.
fn judge(told: &BTreeMap<String, Vec<u64>>, each: u64, of: usize) -> Result<(), String> {
    let wrong = told.iter().find(|(_, numbers)| !numbers.iter().copied().eq(0..each));
    match wrong {
        Some((name, numbers)) => Err(format!("{name}: {numbers:?}")),
        None if told.len() == of => Ok(()),
        None => Err("names are missing".to_owned()),
    }
}

#[test]
fn a_reader_that_loses_repeats_or_turns_round_is_found_out() {
    let good: BTreeMap<_, _> = names(3).into_iter().map(|name| (name, vec![0, 1, 2])).collect();
    assert_eq!(judge(&good, 3, 3), Ok(()));
    for wrong in [vec![0, 2], vec![0, 1], vec![0, 1, 1, 2], vec![1, 0, 2], vec![]] {
        let mut told = good.clone();
        told.insert("name-1".to_owned(), wrong);
        assert!(judge(&told, 3, 3).is_err());
    }
    assert!(judge(&good, 3, 4).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_comes_back_to_many_names_has_each_message_once_wherever_it_left() {
    const EACH: u64 = 400;
    let config = GatewayConfig::default().replay(10_000);
    let gateway = gateway(config, Guests::default());
    let names = names(4);
    let publishers = publishers(&gateway, &names);
    let mut events = Events::open(&gateway, &names, "").await;
    let is_open = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = publishers
        .into_iter()
        .map(|publisher| {
            let is_open = Arc::clone(&is_open);
            tokio::spawn(async move {
                while !is_open.load(Ordering::Relaxed) {
                    tokio::task::yield_now().await;
                }
                for number in 0..EACH {
                    publisher.publish(number.to_string());
                    tokio::task::yield_now().await;
                }
                publisher // Its name would end with it.
            })
        })
        .collect();
    is_open.store(true, Ordering::Relaxed);
    let (mut told, mut stay) = (BTreeMap::<String, Vec<u64>>::new(), 1);
    for _ in 0..4 * EACH {
        let (event, _) = soon(events.next()).await;
        let name = event["name"].as_str().unwrap().to_owned();
        told.entry(name).or_default().push(event["data"].as_u64().expect("a message, and no gap"));
        stay -= 1;
        if stay == 0 {
            // Whatever was handed over behind that is lost with the connection.
            stay = 1 + told.values().map(Vec::len).sum::<usize>() % 7;
            let id = events.id.clone();
            events = Events::open(&gateway, &names, &id).await;
        }
    }
    assert_eq!(judge(&told, EACH, 4), Ok(()));
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_goes_before_it_was_told_of_every_gap_is_told_of_all_of_them_again() {
    let gateway = gateway(GatewayConfig::default(), Guests::default());
    let names = names(3);
    let publishers = publishers(&gateway, &names);
    let gap = |n| json!({ "type": "gap", "name": format!("name-{n}"), "reason": "replayed" });
    for id in ["1-1", "nonsense", "1-1,2-2,3-3"] {
        let mut events = Events::open(&gateway, &names, id).await;
        for n in 0..2 {
            assert_eq!(events.next().await, (gap(n), false), "no id says that it was told of all");
            assert_eq!(events.id, id);
        }
        // The last of them has one, and there is none of them after it.
        assert_eq!(events.next().await, (gap(2), true));
        let mut again = Events::open(&gateway, &names, &events.id).await;
        publishers[1].publish("7");
        assert_eq!(again.next().await.0["data"], 7);
    }
}

#[tokio::test(start_paused = true)]
async fn of_names_that_were_missed_for_too_long_each_has_its_gap_and_the_others_go_on() {
    let gateway = gateway(GatewayConfig::default().replay(4), Guests::default());
    let names = names(2);
    let publishers = publishers(&gateway, &names);
    let mut events = Events::open(&gateway, &names, "").await;
    tokio::time::sleep(SECOND).await;
    publishers[0].publish("0");
    assert_eq!(events.next().await.0["data"], 0);
    let id = events.id.clone();
    drop(events);
    for number in 1..10 {
        publishers[0].publish(number.to_string());
    }
    publishers[1].publish("20");
    tokio::time::sleep(SECOND).await;
    let mut events = Events::open(&gateway, &names, &id).await;
    assert_eq!(events.next().await.0["data"], 20, "nothing of it was missed");
    let (gap, has_id) = events.next().await;
    assert_eq!((&gap["type"], &gap["name"], has_id), (&json!("gap"), &json!("name-0"), true));
}

#[tokio::test(start_paused = true)]
async fn a_delay_that_changes_holds_on_the_open_stream_behind_a_gap() {
    let doors = Guests::default();
    doors.0.store(10, Ordering::Relaxed);
    let config = GatewayConfig::default().keep_alive(5 * SECOND);
    let gateway = gateway(config, doors.clone());
    let names = names(2);
    let publishers = publishers(&gateway, &names);
    let mut events = Events::open(&gateway, &names, "").await;
    tokio::time::sleep(SECOND).await;
    let published = Instant::now();
    publishers[0].publish("1");
    assert_eq!(events.next().await.0["data"], 1);
    assert!(published.elapsed() >= 10 * SECOND);
    let id = events.id.clone();
    // One message is on its way when the delay ends.
    publishers[0].publish("2");
    tokio::time::sleep(SECOND).await;
    doors.0.store(0, Ordering::Relaxed);
    let changed = Instant::now();
    for n in 0..2 {
        let (gap, has_id) = events.next().await;
        assert_eq!((&gap["type"], &gap["name"]), (&json!("gap"), &json!(format!("name-{n}"))));
        assert_eq!(has_id, n == 1, "no id says that it was told of both before it was");
    }
    assert!(changed.elapsed() <= 5 * SECOND, "no later than the next sign of life");
    let published = Instant::now();
    publishers[1].publish("3");
    assert_eq!(events.next().await.0["data"], 3);
    assert!(published.elapsed() < SECOND);
    // An id of the time before is none of this delay's: what lay between would be lost.
    let mut again = Events::open(&gateway, &names, &id).await;
    assert_eq!(again.next().await.0["type"], "gap");
}

#[tokio::test]
async fn a_delay_that_changes_holds_for_open_sockets_behind_a_gap() {
    let doors = Guests::default();
    let stage = Stage::built(|builder| builder.doors(doors.clone())).await;
    let news = stage.gateway.publisher("news".try_into().unwrap());
    let mut words = stage.client().await;
    words.subscribe("news").await;
    let mut relay = Client::open(stage.tcp().await, "/ws/news").await.unwrap();
    soon(async {
        while stage.gateway.stats().names.first().is_none_or(|name| name.readers < 2) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    news.publish("1");
    assert_eq!(words.data().await, 1);
    assert_eq!(relay.message().await.unwrap().1, b"1");
    doors.0.store(1, Ordering::Relaxed);
    news.publish("2");
    let gap = words.word_of("gap").await;
    assert_eq!(gap, json!({ "type": "gap", "name": "news", "reason": "replayed" }));
    assert_eq!(relay.closed().await, Some(1012), "it cannot tell of a gap");
    let published = Instant::now();
    news.publish("3");
    assert_eq!(words.data().await, 3);
    assert!(published.elapsed() >= SECOND, "{:?}", published.elapsed());
}
