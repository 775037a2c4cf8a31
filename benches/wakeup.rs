//! CPU time per delivery where each message finds its readers asleep: ours over a transport in memory,
//! against `tokio::sync::broadcast` and its `BroadcastStream`.
//!
//! ```text
//! cargo bench --bench wakeup
//! ```
//!
//! On one thread the next message is sent once all readers have the last one. On two workers that count
//! would be dearer than what it counts, so messages are sent at a fixed rate that leaves the readers
//! time to go to sleep.

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::BroadcastStream;
use tokio_tungstenite::tungstenite::Message as Wire;
use wsmux::protocol::Direct;
use wsmux::test_util::memory;
use wsmux::{Message, WsManager};

use self::common::clock::{Clock, Cost};
use self::common::cpus::pinned;
use self::common::rounds::compare;
use self::common::{run, runtime};

const TEXT: &str = r#"{"e":"trade","s":"BTCUSDT","p":"67012.01000000","q":"0.00123000","m":true}"#;

/// When the next message is sent.
#[derive(Clone, Copy)]
enum Pace {
    /// When all have had the last one.
    Counted,
    /// After this time.
    Timed(Duration),
}

/// Readers and messages.
type Size = (u64, u64);

fn main() {
    pinned(|| wake_up("single_wakeup_100", (100, 4_000), None, Pace::Counted));
    let pace = Pace::Timed(Duration::from_millis(1));
    wake_up("single_wakeup_1000_mt", (1000, 400), Some(2), pace);
}

fn wake_up(name: &str, size: Size, workers: Option<usize>, pace: Pace) {
    let ours = || run(&runtime(workers), ours(size, pace));
    let bare = || run(&runtime(workers), bare(size, pace));
    compare(name, size.0 * size.1, ours, bare);
}

async fn ours((readers, count): Size, pace: Pace) -> Cost {
    let (transport, mut server) = memory::pair();
    let direct = Direct::new("ws://bench/ws").unwrap();
    let manager = WsManager::builder(direct).transport(transport).build().unwrap();
    let mut subscriptions: Vec<_> =
        (0..readers).map(|_| manager.subscribe::<Message>("name").unwrap()).collect();
    let peer = server.accept().await;
    subscriptions[0].ready().await.unwrap();
    let message = Message::text(TEXT);
    measure(subscriptions, count, pace, || peer.send(message.clone())).await
}

async fn bare((readers, count): Size, pace: Pace) -> Cost {
    let (sender, _) = broadcast::channel(1024);
    let subscriptions = (0..readers).map(|_| BroadcastStream::new(sender.subscribe())).collect();
    let message = Wire::text(TEXT);
    measure(subscriptions, count, pace, || drop(sender.send(message.clone()))).await
}

async fn measure<S>(readers: Vec<S>, count: u64, pace: Pace, send: impl Fn()) -> Cost
where
    S: Stream<Item: Send> + Send + Unpin + 'static,
{
    let everyone = readers.len() as u64;
    let done = Arc::new((AtomicU64::new(0), Notify::new()));
    let is_counted = matches!(pace, Pace::Counted);
    let tasks = readers.into_iter().map(|mut messages| {
        let done = Arc::clone(&done);
        async move {
            for _ in 0..=count {
                drop(black_box(messages.next().await.expect("it goes on")));
                if is_counted && done.0.fetch_add(1, Relaxed) + 1 == everyone {
                    done.0.store(0, Relaxed);
                    done.1.notify_one();
                }
            }
        }
    });
    let tasks: JoinSet<_> = tasks.collect();
    // The first is not measured: it finds readers that were never polled.
    send();
    let mut ticks = interval(match pace {
        Pace::Counted => Duration::from_millis(1),
        Pace::Timed(period) => period,
    });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    if is_counted {
        done.1.notified().await;
    } else {
        ticks.tick().await;
    }
    let clock = Clock::start();
    for _ in 0..count {
        send();
        if is_counted {
            done.1.notified().await;
        } else {
            ticks.tick().await;
        }
    }
    tasks.join_all().await;
    clock.stop()
}
