//! Behaviour of the whole client against a server on loopback sockets, in real time.
//!
//! Nothing sleeps here: every wait is for an event, and what never comes fails its test.

mod doctor;
mod duplicates;
mod exchange;
#[cfg(target_os = "linux")]
mod exhausted;
mod faults;
mod hostile_names;
mod order_book;
mod proxy;
mod secrets;
mod sending;
mod sockets;
mod suspend;
mod tls;
mod tokens;

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Handle;
use wsmux::protocol::{Direct, Protocol};
use wsmux::test_util::{MockServer, Peer};
use wsmux::{
    CloseReason, Config, DisconnectReason, Gap, Heartbeat, Limiter, Message, RetryPolicy,
    StreamError, Subscription, WsManager, WsManagerBuilder,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// The stream of tests that need only one, and its path on the server.
const NAME: &str = "x";
const PATH: &str = "/ws/x";

/// Dials of a stream that never gets anywhere: the first, and its retries.
const DIALS: usize = 4;

/// Short delays, few retries, and a heartbeat that is out of the way of tests not about it.
fn config() -> Config {
    let retry = RetryPolicy {
        base_delay: 2 * MS,
        max_attempts: Some(3),
        max_delay: 10 * MS,
        min_delay: MS,
        ..RetryPolicy::default()
    };
    Config::default().retry(retry).heartbeat(Heartbeat { interval: HOUR, timeout: HOUR })
}

fn direct(server: &MockServer) -> Direct {
    Direct::new(&format!("{}/ws", server.url())).unwrap()
}

fn builder(protocol: impl Protocol, config: Config) -> WsManagerBuilder {
    WsManager::builder(protocol).config(config).limiter(Limiter::new()).seed(7)
}

/// A manager and its server.
struct Net {
    /// Tasks of the server alone.
    baseline: usize,
    manager: WsManager,
    server: MockServer,
}

impl Net {
    async fn start() -> Self {
        Self::with(config()).await
    }

    async fn with(config: Config) -> Self {
        let server = MockServer::start().await.unwrap();
        let builder = builder(direct(&server), config);
        Self::of(server, builder)
    }

    /// To be called before anything is dialled.
    fn of(server: MockServer, builder: WsManagerBuilder) -> Self {
        Self { baseline: alive_tasks(), manager: builder.build().unwrap(), server }
    }

    fn subscribe(&self) -> Subscription<Message> {
        self.manager.subscribe(NAME).unwrap()
    }

    async fn accept(&self) -> Peer {
        within(self.server.accept()).await
    }

    /// Checks that nothing is left when all readers have gone: no stream, no socket, no task.
    async fn leaves_nothing(self) {
        assert_eq!(self.manager.stream_count(), 0);
        within(self.server.until_sockets(0)).await;
        drop(self.manager);
        within(async {
            while alive_tasks() > self.baseline {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

fn alive_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// What never comes fails a test, instead of stopping it.
async fn within<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(30 * SECOND, wait).await.expect("it never came")
}

async fn item(stream: &mut Subscription<Message>) -> Option<Result<Message, StreamError>> {
    within(stream.recv()).await
}

async fn message(stream: &mut Subscription<Message>) -> Message {
    match item(stream).await {
        Some(Ok(message)) => message,
        other => panic!("not a message: {other:?}"),
    }
}

/// The reason of the gap that is next.
async fn gap(stream: &mut Subscription<Message>) -> DisconnectReason {
    match item(stream).await {
        Some(Err(StreamError::Gap(Gap::Reconnected { reason, .. }))) => reason,
        other => panic!("not a gap: {other:?}"),
    }
}

/// The reason that the stream ends for, and that nothing follows.
async fn end(stream: &mut Subscription<Message>) -> CloseReason {
    let reason = match item(stream).await {
        Some(Err(StreamError::Closed(reason))) => reason,
        other => panic!("not the end: {other:?}"),
    };
    assert!(item(stream).await.is_none(), "the end is the last item");
    reason
}

/// The failure that the stream ended for at once.
fn fatal(reason: &CloseReason) -> &DisconnectReason {
    match reason {
        CloseReason::Fatal(e) => e.reason(),
        other => panic!("not fatal: {other:?}"),
    }
}

/// The last failure of a stream that ran out of retries.
fn exhausted(reason: &CloseReason) -> &DisconnectReason {
    match reason {
        CloseReason::RetriesExhausted { attempts, last } if *attempts as usize == DIALS => {
            last.reason()
        }
        other => panic!("not exhausted: {other:?}"),
    }
}
