//! Many tasks come and go on a few names, on several threads and in real time.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::{FutureExt as _, join_all};
use tokio::runtime::Handle;
use tokio::time;
use wsmux::protocol::Direct;
use wsmux::test_util::memory::{self, MemoryServer, Peer};
use wsmux::{Limiter, Message, WsManager};

const NAMES: [&str; 3] = ["a", "b", "c"];
const ROUNDS: usize = 100;
const TASKS: usize = 8;

/// Sends a beat on every socket, and sees to it that no name has two.
async fn serve(mut server: MemoryServer) {
    let mut peers: HashMap<String, Peer> = HashMap::new();
    let mut beat = time::interval(Duration::from_millis(1));
    loop {
        tokio::select! {
            dial = server.dial() => {
                let name = dial.request().url().path().to_owned();
                let older = peers.remove(&name);
                assert!(older.is_none_or(|mut peer| is_closed(&mut peer)), "{name} has two");
                peers.insert(name, dial.accept());
            }
            _ = beat.tick() => {
                peers.retain(|_, peer| !is_closed(peer));
                peers.values().for_each(|peer| peer.send("beat"));
            }
        }
    }
}

fn is_closed(peer: &mut Peer) -> bool {
    peer.closed().now_or_never().is_some()
}

/// Subscribes, and leaves at once, soon, or after a message.
async fn come_and_go(manager: WsManager, task: usize) {
    for round in 0..ROUNDS {
        let name = NAMES[(task + round) % NAMES.len()];
        let mut stream = manager.subscribe::<Message>(name).unwrap();
        match (task * 7 + round) % 4 {
            0 => {}
            1 => tokio::task::yield_now().await,
            _ => {
                let item = time::timeout(Duration::from_secs(20), stream.recv()).await;
                let item = item.unwrap_or_else(|_| panic!("no socket: {:?}", stream.info()));
                assert_eq!(item.unwrap().unwrap(), "beat".into());
            }
        }
    }
}

async fn eventually(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            time::sleep(Duration::from_millis(1)).await;
        }
    };
    time::timeout(Duration::from_secs(20), waiting).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn names_that_are_left_and_wanted_all_the_time_have_one_socket_and_nothing_remains() {
    let (transport, server) = memory::pair();
    let builder = WsManager::builder(Direct::new("ws://test/{name}").unwrap());
    let manager = builder.transport(transport).limiter(Limiter::new()).build().unwrap();
    let serving = tokio::spawn(serve(server));
    let tasks = (0..TASKS).map(|task| tokio::spawn(come_and_go(manager.clone(), task)));
    for task in join_all(tasks).await {
        task.unwrap();
    }

    assert_eq!(manager.stream_count(), 0);
    eventually(|| manager.metrics().active_connections == 0).await;
    let counts = manager.metrics();
    assert_eq!((counts.readers, counts.disconnects, counts.lagged), (0, 0, 0));
    assert_eq!(counts.stream_creations, counts.stream_cleanups);
    assert!(counts.active_connections_hwm <= NAMES.len() as u64, "{counts:?}");
    assert!(!serving.is_finished(), "two sockets of one name");
    serving.abort();
    eventually(|| Handle::current().metrics().num_alive_tasks() == 0).await;
}
