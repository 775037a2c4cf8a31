//! Heap bytes of managers and of idle streams, and those of an idle tokio-tungstenite socket that a
//! task reads.
//!
//! ```text
//! cargo bench --bench memory
//! ```
//!
//! Counted in the allocator: as much as was asked for, without what the allocator adds.

mod common;

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, Stream};
use peak_alloc::PeakAlloc;
use tokio::task::JoinHandle;
use tokio::time;
use wsmux::{Config, Message, Subscription, WsManager};

use self::common::bare::{Bare, HANDSHAKES};
use self::common::rounds::{is_wanted, repeat, tell_absolute};
use self::common::server::{Feed, Server, serve_if_asked};
use self::common::stats::median;
use self::common::{ours, raise_file_limit, runtime};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const STREAMS: usize = 1000;
const MANAGERS: usize = 100;

/// Tickets that ours keeps of a host.
const TICKETS: usize = 1024;

/// How long what was opened is left alone before it is measured.
const SETTLE: Duration = Duration::from_millis(100);

/// Nothing comes on it.
const IDLE: Feed = Feed::Crowd { first: 0 };

fn main() {
    raise_file_limit();
    serve_if_asked();
    let server = Server::start();
    let per_manager = repeat("heap_per_manager", || {
        heap_per(MANAGERS, async { [(); MANAGERS].map(|()| ours::manager(&server, IDLE)) })
    });
    tell_absolute("heap_per_manager", "bytes", &per_manager);
    plain(&server);
    tls(&server);
}

fn plain(server: &Server) {
    let name = "heap_per_idle_stream";
    let bytes = repeat(name, || heap_per(STREAMS, open_ours(ours::manager(server, IDLE))));
    tell_absolute(name, "bytes", &bytes);
    for (name, read_buffer) in
        [("heap_per_idle_socket_bare", 128 * 1024), ("heap_per_idle_socket_bare_4KB", 4096)]
    {
        let bare = Bare::new(server, IDLE).read_buffer(read_buffer);
        let bytes = repeat(name, || heap_per(STREAMS, open_bare(&bare)));
        tell_absolute(name, "bytes", &bytes);
    }
}

/// What a stream over TLS holds, less what the TLS library holds for a connection of its own and for
/// coming back to it, which is a ticket.
fn tls(server: &Server) {
    let name = "heap_per_idle_stream_tls";
    if !is_wanted(name) {
        return;
    }
    // Each round begins without tickets, as ours do.
    let bare = || Bare::new(server, IDLE).keep_tickets(TICKETS);
    let tcp = repeat(name, || {
        let bare = bare();
        heap_per(STREAMS, collect(|| bare.by_hand(bare.tcp())))
    });
    let library = repeat(name, || {
        let bare = bare();
        heap_per(STREAMS, collect(|| bare.by_hand(bare.tls())))
    });
    let library = median(&library) - median(&tcp);
    println!("# {name}: the TLS library holds {library:.0} bytes");
    let ours = repeat(name, || {
        let manager = ours::manager_tls(server, IDLE, Config::default());
        heap_per(STREAMS, open_ours(manager)) - library
    });
    tell_absolute(name, "bytes", &ours);
}

/// Heap bytes that each of `count` holds once `open` has opened them.
#[expect(clippy::cast_precision_loss, reason = "bytes are far below 2^53")]
fn heap_per<T>(count: usize, open: impl Future<Output = T>) -> f64 {
    let runtime = runtime(None);
    let before = HEAP.current_usage();
    let (_held, after) = runtime.block_on(async {
        let held = open.await;
        time::sleep(SETTLE).await;
        (held, HEAP.current_usage())
    });
    after.saturating_sub(before) as f64 / count as f64
}

/// Streams that nothing comes on, each with one subscription.
async fn open_ours(manager: WsManager) -> (WsManager, Vec<Subscription<Message>>) {
    let subscriptions = ours::subscribe_many(&manager, STREAMS).await;
    (manager, subscriptions)
}

/// Sockets that nothing comes on, each read by a task.
async fn open_bare(bare: &Bare) -> Vec<JoinHandle<()>> {
    let sockets = bare.connect_many(STREAMS).await;
    sockets.into_iter().map(|socket| tokio::spawn(drain(socket))).collect()
}

async fn drain(mut socket: impl Stream + Unpin) {
    while socket.next().await.is_some() {}
}

async fn collect<F: Future>(open: impl Fn() -> F) -> Vec<F::Output> {
    stream::iter(0..STREAMS).map(|_| open()).buffer_unordered(HANDSHAKES).collect().await
}
