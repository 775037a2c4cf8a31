//! Wall time until many streams are open, and until they are back after all sockets were cut at once,
//! each with a first message; against bare sockets that are opened as many at a time.
//!
//! ```text
//! cargo bench --bench open
//! ```
//!
//! Over TLS the bare side makes full handshakes. Retries are set to be immediate, or nearly so, and
//! the rate of dials is not bounded: how long a program wants to wait is not measured here.

mod common;

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::{self, Message as Wire};
use wsmux::{Config, FirstRetry, Message, RetryPolicy, Subscription, WsManager};

use self::common::bare::{Bare, HANDSHAKES};
use self::common::clock::Clock;
use self::common::cpus::pinned;
use self::common::rounds::{take_turns, tell};
use self::common::server::{Feed, Server, serve_if_asked};
use self::common::{ours, raise_file_limit, runtime};

const STREAMS: usize = 1000;
const FEED: Feed = Feed::Crowd { first: 1 };

/// Milliseconds until all were open, and until all were back.
type Times = (f64, f64);

fn main() {
    raise_file_limit();
    serve_if_asked();
    let server = &Server::start();
    pinned(|| {
        let times = take_turns(
            &["open_1000", "reopen_1000"],
            || measure_ours(server, &ours::manager_with(server, FEED, config())),
            || measure_bare(server, |bare: Arc<Bare>| async move { bare.connect().await }),
        );
        tell("open_1000", "ms", &times.iter().map(|(o, b)| (o.0, b.0)).collect::<Vec<_>>());
        tell("reopen_1000", "ms", &times.iter().map(|(o, b)| (o.1, b.1)).collect::<Vec<_>>());
        let times = take_turns(
            &["reopen_1000_tls"],
            || measure_ours(server, &ours::manager_tls(server, FEED, config())),
            || measure_bare(server, |bare: Arc<Bare>| async move { bare.connect_tls().await }),
        );
        tell("reopen_1000_tls", "ms", &times.iter().map(|(o, b)| (o.1, b.1)).collect::<Vec<_>>());
    });
}

fn config() -> Config {
    let (first, soon) = (FirstRetry::Immediate, Duration::from_nanos(1));
    Config::default().retry(RetryPolicy {
        base_delay: soon,
        first,
        min_delay: soon,
        reset_after: soon,
        ..RetryPolicy::default()
    })
}

fn measure_ours(server: &Server, manager: &WsManager) -> Times {
    let times = runtime(None).block_on(async {
        let clock = Clock::start();
        let subscribe = |n| manager.subscribe(format!("stream{n}")).unwrap();
        let readers: Vec<_> = (0..STREAMS).map(subscribe).collect();
        let readers = all_have_one(readers).await;
        let opened = clock.stop().wall;
        server.until_crowd(STREAMS);
        let clock = Clock::start();
        server.cut_crowd();
        let readers = all_have_one(readers).await;
        let back = clock.stop().wall;
        drop(readers);
        manager.shutdown().await;
        (millis(opened), millis(back))
    });
    // Without a runtime nothing is open.
    server.until_crowd(0);
    times
}

/// Waits for a message on each.
async fn all_have_one(readers: Vec<Subscription<Message>>) -> Vec<Subscription<Message>> {
    let one = async |mut reader: Subscription<Message>| {
        // What comes before it is the gap.
        while reader.next().await.expect("it goes on").is_err() {}
        reader
    };
    readers.into_iter().map(one).collect::<JoinSet<_>>().join_all().await
}

fn measure_bare<F, S>(server: &Server, open: impl Fn(Arc<Bare>) -> F + Copy) -> Times
where
    F: Future<Output = S> + Send + 'static,
    S: Stream<Item = tungstenite::Result<Wire>> + Unpin + Send + 'static,
{
    let bare = Arc::new(Bare::new(server, FEED));
    let times = runtime(None).block_on(async {
        let turns = Arc::new(Semaphore::new(HANDSHAKES));
        let clock = Clock::start();
        let sockets = open_all(&bare, &turns, open).await;
        let opened = clock.stop().wall;
        server.until_crowd(STREAMS);
        let clock = Clock::start();
        server.cut_crowd();
        let again = |mut socket: S| {
            let (opened, turns) = (open(Arc::clone(&bare)), Arc::clone(&turns));
            async move {
                while !matches!(socket.next().await, None | Some(Err(_))) {}
                first(opened, &turns).await
            }
        };
        let sockets = sockets.into_iter().map(again).collect::<JoinSet<_>>().join_all().await;
        let back = clock.stop().wall;
        drop(sockets);
        (millis(opened), millis(back))
    });
    // Without a runtime nothing is open.
    server.until_crowd(0);
    times
}

async fn open_all<F, S>(
    bare: &Arc<Bare>,
    turns: &Arc<Semaphore>,
    open: impl Fn(Arc<Bare>) -> F,
) -> Vec<S>
where
    F: Future<Output = S> + Send + 'static,
    S: Stream<Item = tungstenite::Result<Wire>> + Unpin + Send + 'static,
{
    let one = |_| {
        let (opened, turns) = (open(Arc::clone(bare)), Arc::clone(turns));
        async move { first(opened, &turns).await }
    };
    (0..STREAMS).map(one).collect::<JoinSet<_>>().join_all().await
}

/// Opens a socket when it is its turn, and reads a message.
async fn first<S>(open: impl Future<Output = S>, turns: &Semaphore) -> S
where
    S: Stream<Item = tungstenite::Result<Wire>> + Unpin,
{
    let turn = turns.acquire().await.unwrap();
    let mut socket = open.await;
    drop(turn);
    socket.next().await.unwrap().unwrap();
    socket
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
