//! Many tasks come and go on a few names, on several threads and in real time; and many names come
//! and go, in a process of their own whose memory is looked at.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use futures::future::{FutureExt as _, join_all};
use tokio::runtime::Handle;
use tokio::time;
use wsmux::protocol::Direct;
use wsmux::test_util::memory::{self, MemoryServer, Peer};
use wsmux::{Config, Limiter, Limits, Message, WsManager};

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

/// Says to the process that it is the one whose memory is looked at.
const CHURN: &str = "WSMUX_TEST_CHURN";

/// Names that are there at a time.
const AT_A_TIME: usize = 500;

/// KiB of this process that are in memory, where the system tells.
fn resident_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// Names that were never there come, are read from, and go; `rounds` times.
async fn come_and_go_once(manager: &WsManager, server: &mut MemoryServer, rounds: &[usize]) {
    for round in rounds {
        let names = (0..AT_A_TIME).map(|n| format!("{round}-{n}"));
        let streams = names.map(|name| manager.subscribe::<Message>(name).unwrap());
        let mut streams: Vec<_> = streams.collect();
        let mut peers = Vec::new();
        for _ in 0..AT_A_TIME {
            peers.push(server.accept().await);
        }
        peers.iter().for_each(|peer| peer.send("here"));
        for stream in &mut streams {
            assert_eq!(stream.recv().await.unwrap().unwrap(), "here".into());
        }
        drop(streams);
        for mut peer in peers {
            peer.closed().await;
        }
        time::sleep(Duration::from_secs(1)).await;
        assert_eq!(manager.stream_count(), 0);
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }
}

#[test]
fn twenty_thousand_names_come_and_go_and_leave_no_memory_behind() {
    let name = "twenty_thousand_names_come_and_go_and_leave_no_memory_behind";
    if env::var(CHURN).is_err() {
        let mut again = Command::new(env::current_exe().unwrap());
        let output = again.args(["--exact", name, "--nocapture"]).env(CHURN, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
        return;
    }
    let builder =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    builder.unwrap().block_on(async {
        let (transport, mut server) = memory::pair();
        let limits = Limits { max_connections: 2 * AT_A_TIME, ..Limits::default() };
        let builder = WsManager::builder(Direct::new("ws://test/{name}").unwrap());
        let builder = builder.config(Config::default().limits(limits)).transport(transport);
        let manager = builder.limiter(Limiter::new()).build().unwrap();
        let rounds: Vec<_> = (0..40).collect();
        come_and_go_once(&manager, &mut server, &rounds[..10]).await;
        let before = resident_kib().unwrap_or_default();
        come_and_go_once(&manager, &mut server, &rounds[10..]).await;
        let after = resident_kib().unwrap_or_default();
        println!("{before} KiB, and {after} KiB after 15,000 names more");
        // 70 bytes for each name: less than its name and an entry that holds it.
        assert!(after.saturating_sub(before) < 1024, "{before} KiB became {after} KiB");
    });
}
