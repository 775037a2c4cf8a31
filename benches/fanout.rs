//! CPU time per delivery of one stream to many readers, from the socket on, against a bare
//! tokio-tungstenite socket whose messages go through `tokio::sync::broadcast`.
//!
//! ```text
//! cargo bench --bench fanout
//! cargo bench --bench fanout -- ours fanout_100    # one side, for a profiler
//! ```

mod common;

use std::cell::Cell;
use std::hint::black_box;

use futures::StreamExt as _;
use tokio::sync::broadcast;
use tokio::task::{self, JoinSet};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_tungstenite::tungstenite::Message as Wire;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use wsmux::{Gap, Message, StreamError, Subscription, WsManager};

use self::common::cpus::pinned;
use self::common::server::{Feed, Server, serve_if_asked};
use self::common::{Bare, Clock, Cost, compare, run, runtime};

/// Messages kept for slow readers, on both sides: our default.
const BUFFER: usize = 1024;

/// Messages after which the bare loop lets its readers run, as our connections do.
const TURN: u64 = 128;

fn main() {
    serve_if_asked();
    let server = Server::start();
    let (lost, bare_lost) = (Cell::new(0), Cell::new(0));
    for (readers, count) in [(10, 400_000), (100, 40_000), (1000, 8_000)] {
        let feed = Feed { bytes: 170, count };
        let ours = || {
            let (cost, missed) = run(&runtime(None), ours(server.base(feed), feed, readers));
            lost.set(lost.get() + missed);
            cost
        };
        let bare = || {
            let bare = bare(Bare::new(&server, feed), feed, readers);
            let (cost, missed) = run(&runtime(None), bare);
            bare_lost.set(bare_lost.get() + missed);
            cost
        };
        let name = format!("fanout_{readers}");
        pinned(|| compare(&name, count * readers, ours, bare));
    }
    println!("# lost_at_saturation: ours {} messages, bare {}", lost.get(), bare_lost.get());
    println!("ratio lost_at_saturation {}", lost.get());
    assert_eq!(lost.get(), 0, "messages were lost");
}

/// The cost, and how many messages the readers missed together.
async fn ours(base: String, feed: Feed, readers: u64) -> (Cost, u64) {
    let manager = WsManager::connect(&base).unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..readers {
        let messages = manager.subscribe::<Message>("feed").unwrap();
        tasks.spawn(read_ours(messages, feed));
    }
    let clock = Clock::start();
    let missed = tasks.join_all().await.into_iter().sum();
    let cost = clock.stop();
    manager.shutdown().await;
    (cost, missed)
}

async fn read_ours(mut messages: Subscription<Message>, feed: Feed) -> u64 {
    let (mut read, mut missed) = (0, 0);
    while read + missed < feed.count {
        match messages.next().await {
            Some(Ok(message)) => {
                assert_eq!(black_box(message).len(), feed.bytes);
                read += 1;
            }
            Some(Err(StreamError::Gap(Gap::Lagged { missed: more }))) => missed += more,
            other => panic!("after {read} messages: {other:?}"),
        }
    }
    missed
}

async fn bare(bare: Bare, feed: Feed, readers: u64) -> (Cost, u64) {
    let (sender, _) = broadcast::channel(BUFFER);
    let mut tasks = JoinSet::new();
    for _ in 0..readers {
        tasks.spawn(read_bare(BroadcastStream::new(sender.subscribe()), feed));
    }
    let clock = Clock::start();
    let mut socket = bare.connect(WebSocketConfig::default()).await;
    for position in 1..=feed.count {
        let message = socket.next().await.unwrap().unwrap();
        assert!(sender.send(message).is_ok(), "nobody reads");
        if position % TURN == 0 {
            task::yield_now().await;
        }
    }
    let missed = tasks.join_all().await.into_iter().sum();
    (clock.stop(), missed)
}

async fn read_bare(mut messages: BroadcastStream<Wire>, feed: Feed) -> u64 {
    let (mut read, mut missed) = (0, 0);
    while read + missed < feed.count {
        match messages.next().await {
            Some(Ok(message)) => {
                assert_eq!(black_box(message).len(), feed.bytes);
                read += 1;
            }
            Some(Err(BroadcastStreamRecvError::Lagged(more))) => missed += more,
            None => panic!("after {read} messages: the end"),
        }
    }
    missed
}
