//! CPU time per message of many sockets on which a message comes now and then, each read by a task of
//! its own, against bare tokio-tungstenite sockets.
//!
//! ```text
//! cargo bench --bench paced
//! ```

mod common;

use futures::StreamExt as _;
use tokio::task::JoinSet;
use wsmux::Message;

use self::common::bare::Bare;
use self::common::clock::{Clock, Cost};
use self::common::cpus::pinned;
use self::common::rounds::compare;
use self::common::server::{Feed, Server, serve_if_asked};
use self::common::{ours, raise_file_limit, runtime};

const SOCKETS: usize = 1000;
const PER_SOCKET: u64 = 20;
const FEED: Feed = Feed::Crowd { first: 0 };

fn main() {
    raise_file_limit();
    serve_if_asked();
    let server = &Server::start();
    let messages = SOCKETS as u64 * PER_SOCKET;
    pinned(|| compare("paced_1000x20", messages, || ours(server), || bare(server)));
}

fn ours(server: &Server) -> Cost {
    let cost = runtime(None).block_on(async {
        let manager = ours::manager(server, FEED);
        let subscriptions = ours::subscribe_many::<Message>(&manager, SOCKETS).await;
        let tasks = subscriptions.into_iter().map(async |mut messages| {
            for _ in 0..PER_SOCKET {
                messages.next().await.unwrap().unwrap();
            }
            messages
        });
        let tasks: JoinSet<_> = tasks.collect();
        let (cost, subscriptions) = pump(server, tasks).await;
        drop(subscriptions);
        manager.shutdown().await;
        cost
    });
    // Without a runtime nothing is open.
    server.until_crowd(0);
    cost
}

fn bare(server: &Server) -> Cost {
    let bare = Bare::new(server, FEED);
    let cost = runtime(None).block_on(async {
        let tasks = bare.connect_many(SOCKETS).await.into_iter().map(async |mut messages| {
            for _ in 0..PER_SOCKET {
                messages.next().await.unwrap().unwrap();
            }
            messages
        });
        let tasks: JoinSet<_> = tasks.collect();
        let (cost, sockets) = pump(server, tasks).await;
        drop(sockets);
        cost
    });
    // Without a runtime nothing is open.
    server.until_crowd(0);
    cost
}

/// As many messages as the tasks want, in a second.
async fn pump<T: 'static>(server: &Server, tasks: JoinSet<T>) -> (Cost, Vec<T>) {
    server.until_crowd(SOCKETS);
    tokio::task::yield_now().await;
    let messages = SOCKETS as u64 * PER_SOCKET;
    let clock = Clock::start();
    server.pump(messages, messages);
    let read = tasks.join_all().await;
    (clock.stop(), read)
}
