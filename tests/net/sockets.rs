//! Tasks that come and go at random: one socket for each name at most, and none in the end.

use std::time::Duration;

use futures::future::join_all;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use wsmux::test_util::{MockServer, Peer};
use wsmux::{Message, WsManager};

use crate::{MS, Net, builder, config, direct, message, within};

const NAMES: [&str; 3] = ["a", "b", "c"];
const ROUNDS: usize = 60;
const TASKS: u64 = 8;

async fn beat(peer: Peer) {
    peer.delay(MS);
    while peer.send("beat").await {}
}

async fn come_and_go(manager: WsManager, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut lease = None;
    for _ in 0..ROUNDS {
        let name = NAMES[rng.random_range(0..NAMES.len())];
        let mut stream = manager.subscribe::<Message>(name).unwrap();
        match rng.random_range(0..6) {
            0 => {}
            1 => tokio::task::yield_now().await,
            2 => within(stream.ready()).await.unwrap(),
            3 => lease = Some(manager.keep_warm(name).unwrap()),
            4 => lease = None,
            _ => assert_eq!(message(&mut stream).await, "beat".into()),
        }
    }
    drop(lease);
}

async fn churn(linger: Duration) {
    let server = MockServer::builder().route("/ws/", beat).start().await.unwrap();
    let builder = builder(direct(&server), config().linger(linger));
    let net = Net::of(server, builder);
    let tasks = (0..TASKS).map(|seed| tokio::spawn(come_and_go(net.manager.clone(), seed)));
    for task in join_all(tasks).await {
        task.unwrap();
    }
    within(net.server.until_sockets(0)).await;
    for name in NAMES {
        assert_eq!(net.server.max_sockets_on(&format!("/ws/{name}")), 1, "{name}");
    }
    let counts = net.manager.metrics();
    assert_eq!((counts.readers, counts.disconnects, counts.lagged), (0, 0, 0));
    assert_eq!(counts.stream_creations, counts.stream_cleanups);
    net.leaves_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_name_that_comes_and_goes_has_one_socket_at_most() {
    churn(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_name_that_lingers_has_one_socket_at_most() {
    churn(3 * MS).await;
}

#[tokio::test]
async fn on_one_thread_too() {
    churn(Duration::ZERO).await;
    churn(3 * MS).await;
}
