//! Heap bytes per idle stream, and per idle tokio-tungstenite socket that a task reads.
//!
//! ```text
//! cargo bench --bench memory
//! ```
//!
//! Counted in the allocator: as much as was asked for, without what the allocator adds.

mod common;

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use peak_alloc::PeakAlloc;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinHandle;
use tokio::time;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use wsmux::protocol::Direct;
use wsmux::{Config, Limits, Message, Subscription, WsManager};

use self::common::server::{Feed, Server, serve_if_asked};
use self::common::{Bare, median, runtime, spread};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const ROUNDS: usize = 5;
const STREAMS: usize = 1000;

/// Handshakes at once: what the default limiter allows.
const HANDSHAKES: usize = 16;

/// How long what was opened is left alone before it is measured.
const SETTLE: Duration = Duration::from_millis(200);

/// A bare socket's buffer, where it is to be like ours.
const OUR_READ_BUFFER: usize = 16 * 1024;

fn main() {
    raise_file_limit();
    serve_if_asked();
    let server = Server::start();
    let feed = Feed { bytes: 0, count: 0 };
    let bare = |config| heap_per(open_bare(Bare::new(&server, feed), config));
    let small = WebSocketConfig::default().read_buffer_size(OUR_READ_BUFFER);
    let mut sides = [Vec::new(), Vec::new(), Vec::new()];
    // The first round does not count: it pays for everything that is made once.
    for round in 0..=ROUNDS {
        let bytes =
            [heap_per(open_ours(server.base(feed))), bare(WebSocketConfig::default()), bare(small)];
        if round > 0 {
            sides.iter_mut().zip(bytes).for_each(|(side, bytes)| side.push(bytes));
        }
    }
    let [ours, bare, small] = sides.map(Vec::into_iter);
    println!("# bytes per bare socket that reads {OUR_READ_BUFFER} at once: {}", spread(small));
    println!(
        "# bytes per stream: {}; per bare socket: {}",
        spread(ours.clone()),
        spread(bare.clone())
    );
    println!("ratio heap_per_idle_stream {:.0}", median(ours));
    println!("ratio heap_per_idle_socket_bare {:.0}", median(bare));
}

/// Heap bytes that each of the streams holds once `open` has opened them.
#[expect(clippy::cast_precision_loss, reason = "bytes are far below 2^53")]
fn heap_per<T>(open: impl Future<Output = T>) -> f64 {
    let runtime = runtime(None);
    let before = HEAP.current_usage();
    let (_held, after) = runtime.block_on(async {
        let held = open.await;
        time::sleep(SETTLE).await;
        (held, HEAP.current_usage())
    });
    after.saturating_sub(before) as f64 / STREAMS as f64
}

/// Streams that nothing comes on, each with one subscription.
async fn open_ours(base: String) -> (WsManager, Vec<Subscription<Message>>) {
    let limits = Limits { max_connections: STREAMS, ..Limits::default() };
    let config = Config::default().limits(limits);
    let manager = WsManager::builder(Direct::new(&base).unwrap()).config(config).build().unwrap();
    let subscribe = |n| manager.subscribe(format!("stream{n}")).unwrap();
    let mut subscriptions: Vec<_> = (0..STREAMS).map(subscribe).collect();
    for subscription in &mut subscriptions {
        subscription.ready().await.unwrap();
    }
    (manager, subscriptions)
}

/// Sockets that nothing comes on, each read by a task.
async fn open_bare(bare: Bare, config: WebSocketConfig) -> Vec<JoinHandle<()>> {
    stream::iter(0..STREAMS)
        .map(|_| bare.connect(config))
        .buffer_unordered(HANDSHAKES)
        .map(|mut socket| tokio::spawn(async move { while socket.next().await.is_some() {} }))
        .collect()
        .await
}

/// Both processes need a file descriptor for each socket.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(65_536, |maximum| maximum.min(65_536));
    let current = limit.current.map_or(wanted, |current| current.max(wanted));
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit });
}
