//! CPU time per message of one reader, against a bare tokio-tungstenite socket that is read in a
//! loop.
//!
//! ```text
//! cargo bench --bench receive
//! cargo bench --bench receive -- ours receive_170B    # one side, for a profiler
//! ```

mod common;

use std::hint::black_box;

use futures::StreamExt as _;
use tokio_tungstenite::tungstenite::Message as Wire;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use wsmux::protocol::Direct;
use wsmux::{Config, Message, WsManager};

use self::common::cpus::pinned;
use self::common::server::{Feed, Server, serve_if_asked};
use self::common::{Bare, Clock, Cost, compare, run, runtime};

/// Two workers and the server are more threads than a small machine has CPUs. A worker that the
/// kernel sets aside for some milliseconds meets more than the usual buffer, and nothing may be lost.
const DEEP: usize = 1 << 17;

fn main() {
    serve_if_asked();
    let server = Server::start();
    let small = Feed { bytes: 170, count: 1_000_000 };
    pinned(|| receive("receive_170B", &server, small, None));
    receive("receive_170B_mt", &server, small, Some(2));
    pinned(|| receive("receive_4KB", &server, Feed { bytes: 4096, count: 100_000 }, None));
}

fn receive(name: &str, server: &Server, feed: Feed, workers: Option<usize>) {
    let ours = || {
        let base = server.base(feed);
        let manager = match workers {
            None => WsManager::connect(&base).unwrap(),
            Some(_) => {
                let config = Config::default().buffer(DEEP).buffer_bytes(DEEP * feed.bytes);
                WsManager::builder(Direct::new(&base).unwrap()).config(config).build().unwrap()
            }
        };
        run(&runtime(workers), ours(manager, feed))
    };
    let bare = || run(&runtime(workers), bare(Bare::new(server, feed), feed));
    compare(name, feed.count, ours, bare);
}

async fn ours(manager: WsManager, feed: Feed) -> Cost {
    let clock = Clock::start();
    let mut messages = manager.subscribe::<Message>("feed").unwrap();
    for position in 0..feed.count {
        match messages.next().await {
            Some(Ok(message)) => assert_eq!(black_box(message).len(), feed.bytes),
            other => panic!("at message {position}: {other:?}"),
        }
    }
    let cost = clock.stop();
    manager.shutdown().await;
    cost
}

async fn bare(bare: Bare, feed: Feed) -> Cost {
    let clock = Clock::start();
    let mut messages = bare.connect(WebSocketConfig::default()).await;
    for position in 0..feed.count {
        match messages.next().await {
            Some(Ok(Wire::Text(text))) => assert_eq!(black_box(text).len(), feed.bytes),
            other => panic!("at message {position}: {other:?}"),
        }
    }
    clock.stop()
}
