//! CPU time per message of one reader, against a bare tokio-tungstenite socket that is read in a
//! loop.
//!
//! ```text
//! cargo bench --bench receive
//! cargo bench --bench receive -- ours receive_170B    # one side, for a profiler
//! ```

mod common;

use std::hint::black_box;

use futures::{Stream, StreamExt as _};
use tokio_tungstenite::tungstenite::{self, Message as Wire};
use wsmux::{Config, Message, WsManager};

use self::common::bare::Bare;
use self::common::clock::{Clock, Cost};
use self::common::cpus::pinned;
use self::common::ours;
use self::common::rounds::compare;
use self::common::server::{Feed, Server, serve_if_asked};
use self::common::{run, runtime};

/// Two workers and the server are more threads than a small machine has CPUs. A worker that the
/// kernel sets aside for some milliseconds meets more than the usual buffer, and nothing may be lost.
const DEEP: usize = 1 << 17;

fn main() {
    serve_if_asked();
    let server = Server::start();
    pinned(|| plain("receive_170B", &server, (170, 1_000_000), None));
    plain("receive_170B_mt", &server, (170, 1_000_000), Some(2));
    pinned(|| plain("receive_4KB", &server, (4096, 100_000), None));
    pinned(|| tls("receive_170B_tls", &server, (170, 200_000)));
}

fn plain(name: &str, server: &Server, (bytes, count): (usize, u64), workers: Option<usize>) {
    let feed = Feed::Flood { bytes, count };
    let config = match workers {
        None => Config::default(),
        Some(_) => Config::default().buffer(DEEP).buffer_bytes(DEEP * bytes),
    };
    let ours = || {
        let manager = ours::manager_with(server, feed, config.clone());
        run(&runtime(workers), read_ours(manager, bytes, count))
    };
    let bare = || {
        let bare = Bare::new(server, feed);
        run(&runtime(workers), async move { read_bare(bare.connect().await, bytes, count).await })
    };
    compare(name, count, ours, bare);
}

/// Each message is a TLS record of its own, as servers that send one at a time make it.
fn tls(name: &str, server: &Server, (bytes, count): (usize, u64)) {
    let feed = Feed::Flood { bytes, count };
    let ours = || {
        let manager = ours::manager_tls(server, feed, Config::default());
        run(&runtime(None), read_ours(manager, bytes, count))
    };
    let bare = || {
        let bare = Bare::new(server, feed);
        run(&runtime(None), async move { read_bare(bare.connect_tls().await, bytes, count).await })
    };
    compare(name, count, ours, bare);
}

async fn read_ours(manager: WsManager, bytes: usize, count: u64) -> Cost {
    let mut messages = manager.subscribe::<Message>("feed").unwrap();
    messages.ready().await.unwrap();
    let clock = Clock::start();
    for position in 0..count {
        match messages.next().await {
            Some(Ok(message)) => assert_eq!(black_box(message).len(), bytes),
            other => panic!("at message {position}: {other:?}"),
        }
    }
    let cost = clock.stop();
    manager.shutdown().await;
    cost
}

async fn read_bare<S>(mut messages: S, bytes: usize, count: u64) -> Cost
where
    S: Stream<Item = tungstenite::Result<Wire>> + Unpin,
{
    let clock = Clock::start();
    for position in 0..count {
        match messages.next().await {
            Some(Ok(Wire::Text(text))) => assert_eq!(black_box(text).len(), bytes),
            other => panic!("at message {position}: {other:?}"),
        }
    }
    clock.stop()
}
