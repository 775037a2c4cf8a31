//! How long a message takes to its reader at a fixed rate, from the read of its frame (`hop`) and from
//! the time at which the server was to send it (`end_to_end`), so that no message that is late because
//! another one was counts as on time.
//!
//! ```text
//! cargo bench --bench latency
//! ```
//!
//! The hop is compared with a bare loop and `tokio::sync::broadcast`, the whole way with a bare loop
//! alone. Both processes read the same monotonic clock.

mod common;

use futures::StreamExt as _;
use hdrhistogram::Histogram;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_tungstenite::tungstenite::Message as Wire;
use wsmux::{Gap, Message, Stamped, StreamError};

use self::common::bare::Bare;
use self::common::clock::monotonic;
use self::common::cpus::pinned;
use self::common::rounds::{take_turns, tell};
use self::common::server::{Feed, Server, sent_at, serve_if_asked};
use self::common::{ours, run, runtime};

const HERTZ: u64 = 20_000;
const COUNT: u64 = 20_000;

/// Messages at the start that do not count.
const WARM_UP: u64 = 2_000;

const FEED: Feed = Feed::Paced { bytes: 170, count: COUNT, hertz: HERTZ, symbols: 1 };

/// Nanoseconds. Messages that a reader lost, on a machine that had no time for it, are in neither.
struct Times {
    hop: Histogram<u64>,
    whole: Histogram<u64>,
    position: u64,
}

impl Times {
    fn new() -> Self {
        let histogram = || Histogram::new(3).unwrap();
        Self { hop: histogram(), whole: histogram(), position: 0 }
    }

    fn take(&mut self, read_at: Instant, message: &[u8]) {
        let (hop, whole) = (read_at.elapsed(), monotonic().saturating_sub(sent_at(message)));
        self.position += 1;
        if self.position > WARM_UP {
            let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap();
            self.hop.record(nanos(hop)).unwrap();
            self.whole.record(nanos(whole)).unwrap();
        }
    }
}

fn main() {
    serve_if_asked();
    let server = &Server::start();
    pinned(|| {
        let rounds = take_turns(&["hop_p50", "hop_p99"], || ours(server), || shared(server));
        percentiles("hop", &rounds, |times| &times.hop);
        let names = ["end_to_end_p50", "end_to_end_p99"];
        let rounds = take_turns(&names, || ours(server), || alone(server));
        percentiles("end_to_end", &rounds, |times| &times.whole);
    });
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn percentiles(name: &str, rounds: &[(Times, Times)], which: fn(&Times) -> &Histogram<u64>) {
    for (suffix, quantile) in [("p50", 0.50), ("p99", 0.99)] {
        let micros = |times| which(times).value_at_quantile(quantile) as f64 / 1000.0;
        let figures: Vec<_> =
            rounds.iter().map(|(ours, bare)| (micros(ours), micros(bare))).collect();
        tell(&format!("{name}_{suffix}"), "us", &figures);
    }
}

fn ours(server: &Server) -> Times {
    let manager = ours::manager(server, FEED);
    run(&runtime(None), async move {
        let mut times = Times::new();
        let mut messages = manager.subscribe::<Stamped<Message>>("feed").unwrap();
        while times.position < COUNT {
            match messages.next().await {
                Some(Ok(message)) => times.take(message.received_at, message.value.as_bytes()),
                Some(Err(StreamError::Gap(Gap::Lagged { missed }))) => times.position += missed,
                other => panic!("at message {}: {other:?}", times.position),
            }
        }
        manager.shutdown().await;
        times
    })
}

/// A bare loop, and a channel to its reader.
fn shared(server: &Server) -> Times {
    let bare = Bare::new(server, FEED);
    run(&runtime(None), async move {
        let (sender, receiver) = broadcast::channel::<(Instant, Wire)>(1024);
        let reader = tokio::spawn(async move {
            let mut times = Times::new();
            let mut messages = BroadcastStream::new(receiver);
            while times.position < COUNT {
                match messages.next().await.unwrap() {
                    Ok((read_at, message)) => {
                        times.take(read_at, message.to_text().unwrap().as_bytes());
                    }
                    Err(BroadcastStreamRecvError::Lagged(missed)) => times.position += missed,
                }
            }
            times
        });
        let mut socket = bare.connect().await;
        for _ in 0..COUNT {
            let message = socket.next().await.unwrap().unwrap();
            // Who has missed messages may be done before the last one.
            let _ = sender.send((Instant::now(), message));
        }
        reader.await.unwrap()
    })
}

/// A bare loop that is the reader.
fn alone(server: &Server) -> Times {
    let bare = Bare::new(server, FEED);
    run(&runtime(None), async move {
        let mut times = Times::new();
        let mut socket = bare.connect().await;
        for _ in 0..COUNT {
            let message = socket.next().await.unwrap().unwrap();
            times.take(Instant::now(), message.to_text().unwrap().as_bytes());
        }
        times
    })
}
