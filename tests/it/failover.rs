//! A server in several places: which of them is dialled, and when the first one is come back to.

use std::io;

use futures::future::join_all;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use tokio::time::{self, Instant};
use wsmux::protocol::{Direct, Failover};
use wsmux::requests::{PoolConfig, RequestPool};
use wsmux::test_util::memory::{self, MemoryServer, Peer};
use wsmux::{
    CloseReason, Config, Figure, FindingKind, Limiter, Message, RetryPolicy, Subscription,
    WsManager,
};

use crate::asker::Asker;
use crate::{MINUTE, MS, SECOND, config, end, gap, message, settle};

pub(crate) fn regions() -> Failover<Direct> {
    let at = |host: &str| Direct::new(&format!("ws://{host}/ws")).unwrap();
    Failover::new(at("tokyo")).or(at("london")).or(at("oregon"))
}

fn patient() -> Config {
    let mut config = config();
    config.retry = RetryPolicy::forever();
    config
}

fn built_with(config: Config) -> (WsManager, MemoryServer) {
    let (transport, server) = memory::pair();
    let builder = WsManager::builder(regions()).config(config).transport(transport).seed(7);
    (builder.limiter(Limiter::new()).build().unwrap(), server)
}

fn built() -> (WsManager, MemoryServer) {
    built_with(patient())
}

/// Refuses the next dial, and tells where it went.
pub(crate) async fn refused(server: &mut MemoryServer) -> String {
    let request = server.refuse(io::Error::from(io::ErrorKind::ConnectionRefused)).await;
    request.url().host().to_owned()
}

async fn answered(server: &mut MemoryServer, status: u16, retry_after: Option<u64>) -> String {
    let header = retry_after.map(|seconds| (RETRY_AFTER, HeaderValue::from(seconds)));
    let headers: HeaderMap = header.into_iter().collect();
    server.answer(status, headers).await.url().host().to_owned()
}

/// Accepts the next dial, and tells where it went.
pub(crate) async fn accepted(server: &mut MemoryServer) -> (Peer, String) {
    let peer = server.accept().await;
    let host = peer.request().url().host().to_owned();
    (peer, host)
}

async fn subscribed(manager: &WsManager, name: &str) -> Subscription<Message> {
    manager.subscribe(name).unwrap()
}

pub(crate) fn base(stream: &Subscription<Message>) -> usize {
    stream.info().unwrap().base
}

#[tokio::test(start_paused = true)]
async fn the_next_base_is_dialled_while_those_before_it_fail_and_the_first_is_come_back_to() {
    let (manager, mut server) = built();
    let mut stream = subscribed(&manager, "a").await;
    assert_eq!(base(&stream), 0);
    let start = Instant::now();
    assert_eq!(refused(&mut server).await, "tokyo");
    assert_eq!(refused(&mut server).await, "london");
    let (peer, host) = accepted(&mut server).await;
    stream.ready().await.unwrap();
    assert_eq!((&*host, base(&stream)), ("oregon", 2));
    assert!(start.elapsed() < 10 * SECOND, "as the backoff has it: {:?}", start.elapsed());
    peer.send("one");
    assert_eq!(message(&mut stream).await, "one");

    time::sleep_until(start + MINUTE).await;
    drop(peer); // What was lost was stable, and the primary's time is over.
    let (peer, host) = accepted(&mut server).await;
    gap(&mut stream).await;
    stream.ready().await.unwrap();
    assert_eq!((&*host, base(&stream)), ("tokyo", 0));
    drop((peer, stream));
}

#[tokio::test(start_paused = true)]
async fn what_one_connection_finds_out_the_others_know_and_one_tries_what_failed() {
    let (manager, mut server) = built();
    let first = subscribed(&manager, "a").await;
    assert_eq!(refused(&mut server).await, "tokyo");
    let failed_at = Instant::now();
    let mut peers = vec![accepted(&mut server).await];
    let names = ["b", "c", "d"];
    let streams = join_all(names.map(|name| subscribed(&manager, name))).await;
    for _ in names {
        peers.push(accepted(&mut server).await);
    }
    assert!(peers.iter().all(|(_, host)| host == "london"), "nobody learns it anew");
    time::sleep_until(failed_at + 31 * SECOND).await;
    peers.clear();
    // All four have lost their sockets.
    let (held, mut hosts) = (server.dial().await, Vec::new());
    for _ in 0..3 {
        let (peer, host) = accepted(&mut server).await;
        hosts.push(host);
        peers.push((peer, String::new()));
    }
    assert_eq!(held.request().url().host(), "tokyo", "one tries it");
    assert_eq!(hosts, ["london"; 3], "and the others do not wait for that");
    drop((held, first, streams, peers));
}

#[tokio::test(start_paused = true)]
async fn a_base_that_accepts_and_then_closes_is_none_that_works() {
    let (manager, mut server) = built();
    let mut stream = subscribed(&manager, "a").await;
    let (peer, host) = accepted(&mut server).await;
    assert_eq!(host, "tokyo");
    time::sleep(SECOND).await;
    drop(peer);
    let (_peer, host) = accepted(&mut server).await;
    assert_eq!(host, "london");
    gap(&mut stream).await;
}

#[tokio::test(start_paused = true)]
async fn a_stable_socket_that_is_lost_says_nothing_of_its_base() {
    let (manager, mut server) = built();
    let mut stream = subscribed(&manager, "a").await;
    for turn in 0..3 {
        let (peer, host) = accepted(&mut server).await;
        assert_eq!(host, "tokyo");
        if turn > 0 {
            gap(&mut stream).await;
        }
        time::sleep(MINUTE).await;
        drop(peer);
    }
}

#[tokio::test(start_paused = true)]
async fn what_would_end_the_streams_does_so_only_where_no_other_base_is_left() {
    let (manager, mut server) = built();
    let mut stream = subscribed(&manager, "a").await;
    let hosts = [answered(&mut server, 404, None).await, answered(&mut server, 404, None).await];
    assert_eq!(hosts, ["tokyo", "london"]);
    assert_eq!(answered(&mut server, 404, None).await, "oregon");
    assert!(matches!(end(&mut stream).await, CloseReason::Fatal { .. }));

    let (manager, mut server) = built();
    let mut stream = subscribed(&manager, "a").await;
    assert_eq!(answered(&mut server, 401, None).await, "tokyo");
    let reason = end(&mut stream).await;
    assert!(matches!(reason, CloseReason::Unauthorized { .. }), "by all: {reason:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_time_gets_it_and_keeps_nobody_from_the_next_one() {
    let (manager, mut server) = built();
    let (a, b) = (subscribed(&manager, "a").await, subscribed(&manager, "b").await);
    let start = Instant::now();
    let held = server.dial().await; // Of the other name.
    assert_eq!(held.request().url().host(), "tokyo");
    assert_eq!(answered(&mut server, 429, Some(400)).await, "tokyo");
    let (peer, host) = accepted(&mut server).await;
    assert_eq!(host, "london");
    assert!(start.elapsed() < 5 * SECOND, "{:?}", start.elapsed());
    let other = held.accept();
    settle().await;
    time::sleep(6 * MINUTE).await;
    drop(peer);
    let (peer, host) = accepted(&mut server).await;
    assert_eq!(host, "tokyo", "a socket there opened since: it works");
    drop((a, b, other, peer));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_its_turn_at_a_server_that_failed_goes_to_the_next() {
    let (manager, mut server) = built();
    let limits = 16;
    let names: Vec<_> = (0..=limits).map(|n| format!("n{n}")).collect();
    let streams = join_all(names.iter().map(|name| subscribed(&manager, name))).await;
    let mut held = Vec::new();
    for _ in 0..limits {
        held.push(server.dial().await);
    }
    settle().await;
    assert!(!server.has_dial(), "the last one waits for its turn at the host");
    let first = held.remove(0);
    let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from(400))]);
    let response = wsmux::protocol::Response::new(429, headers);
    first.refuse(wsmux::transport::TransportError::refused(response));
    let mut hosts = [accepted(&mut server).await, accepted(&mut server).await];
    hosts.sort_by(|a, b| a.1.cmp(&b.1));
    assert!(hosts.iter().all(|(_, host)| host == "london"), "not after 400 s");
    drop((streams, held));
}

#[tokio::test(start_paused = true)]
async fn who_is_away_goes_home_without_a_gap_and_stays_where_there_is_no_home() {
    let (manager, mut server) = built();
    let mut stream = subscribed(&manager, "a").await;
    assert_eq!(refused(&mut server).await, "tokyo");
    let (london, host) = accepted(&mut server).await;
    assert_eq!(host, "london");
    stream.ready().await.unwrap();
    assert_eq!(refused(&mut server).await, "tokyo", "tried, and not to be had");
    settle().await;
    london.send("here");
    assert_eq!(message(&mut stream).await, "here");
    assert_eq!(base(&stream), 1);

    let (tokyo, host) = accepted(&mut server).await;
    assert_eq!(host, "tokyo");
    settle().await;
    for n in 0..40 {
        for peer in [&london, &tokyo] {
            peer.send(format!("{n}"));
        }
        assert_eq!(message(&mut stream).await, n.to_string(), "no gap, and nothing twice");
    }
    time::sleep(15 * SECOND).await;
    assert_eq!(base(&stream), 0);
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_not_at_home_are_a_finding_until_they_are() {
    let (manager, mut server) = built();
    let away = |manager: &WsManager| {
        let found = manager.health().findings.into_iter();
        let found = found.filter(|finding| finding.kind == FindingKind::FailedOver);
        found.map(|finding| finding.figure).collect::<Vec<_>>()
    };
    let mut stream = subscribed(&manager, "a").await;
    assert_eq!(refused(&mut server).await, "tokyo");
    assert_eq!(away(&manager), [], "it is nowhere yet");
    let (_london, host) = accepted(&mut server).await;
    assert_eq!(host, "london");
    stream.ready().await.unwrap();
    assert_eq!(away(&manager), [Figure::Count(1)]);
    time::sleep(MINUTE).await;
    assert!(manager.reconnect("a"));
    let (_tokyo, host) = accepted(&mut server).await;
    assert_eq!(host, "tokyo");
    time::sleep(MINUTE).await;
    assert_eq!((base(&stream), away(&manager)), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_token_goes_to_the_bases_that_are_listed_and_what_a_url_has_to_its_own() {
    let (transport, mut server) = memory::pair();
    let at = |base: &str| Direct::new(base).unwrap();
    let failover = Failover::new(at("wss://ann:canary@tokyo/ws")).or(at("wss://london/ws"));
    let builder = WsManager::builder(failover).config(patient()).transport(transport).seed(7);
    let manager = builder.limiter(Limiter::new()).build().unwrap();
    let _stream = subscribed(&manager, "a").await;
    let first = server.refuse(io::Error::from(io::ErrorKind::ConnectionRefused)).await;
    assert!(first.headers().contains_key(AUTHORIZATION));
    let second = server.accept().await;
    assert!(second.request().headers().is_empty());
    assert!(!second.request().url().target().contains("canary"));
}

#[tokio::test(start_paused = true)]
async fn requests_of_a_pool_fail_over_as_streams_do() {
    let (transport, mut server) = memory::pair();
    let protocol = Failover::new(Asker::new("ws://tokyo")).or(Asker::new("ws://london"));
    let pool = RequestPool::builder(protocol, "x")
        .config(PoolConfig::default())
        .manager(|manager| manager.transport(transport).limiter(Limiter::new()).seed(7))
        .build()
        .unwrap();
    let (reply, host) = futures::future::join(pool.request("what"), async {
        assert_eq!(refused(&mut server).await, "tokyo");
        let (mut peer, host) = accepted(&mut server).await;
        settle().await;
        let asked = crate::lines::heard(&mut peer).pop().unwrap();
        let number = asked.strip_prefix('?').unwrap().split(' ').next().unwrap().to_owned();
        peer.send(format!("={number} that"));
        time::sleep(10 * MS).await;
        (host, peer)
    })
    .await;
    assert_eq!((reply.unwrap().message(), &*host.0), (Some(&"that".into()), "london"));
}

#[tokio::test(start_paused = true)]
async fn where_all_bases_fail_the_policy_says_how_often() {
    let mut config = config();
    config.retry = RetryPolicy { max_attempts: Some(5), ..RetryPolicy::forever() };
    let (manager, mut server) = built_with(config);
    let mut stream = subscribed(&manager, "a").await;
    let mut hosts = Vec::new();
    for _ in 0..6 {
        hosts.push(refused(&mut server).await);
    }
    assert_eq!(hosts[..3], ["tokyo", "london", "oregon"]);
    assert!(matches!(end(&mut stream).await, CloseReason::RetriesExhausted { attempts: 6, .. }));
}
