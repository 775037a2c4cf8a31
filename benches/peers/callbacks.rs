//! Clients that keep a socket open, and call the program with each message: one reader, and no way to
//! have a second one but to write it.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::StreamExt as _;
use nautilus_network::transport::Message as Neutral;
use nautilus_network::websocket::{TransportBackend, WebSocketClient, WebSocketConfig};
use tokio::sync::{Notify, oneshot};

use crate::BYTES;
use crate::common::clock::{Clock, Cost};
use crate::common::server::{Feed, Server};
use crate::common::{run, runtime};
use crate::loops::read_ours;
use crate::turns::{self, Side};

const COUNT: u64 = 500_000;

pub(crate) fn compare(server: &Server) {
    let feed = Feed::Flood { bytes: BYTES, count: COUNT };
    let url = &format!("{}/feed", server.base(feed));
    turns::compare(
        None,
        COUNT,
        || read_ours(server, feed, COUNT),
        &[
            Side::new("nautilus_sockudo", || handler(url, TransportBackend::Sockudo)),
            Side::new("nautilus_tungstenite", || handler(url, TransportBackend::Tungstenite)),
            Side::new("nautilus_stream_sockudo", || stream(url, TransportBackend::Sockudo)),
            Side::new("nautilus_stream_tungstenite", || stream(url, TransportBackend::Tungstenite)),
            Side::new("ezsockets", || event_loop(url)),
        ],
    );
}

fn config(url: &str, backend: TransportBackend) -> WebSocketConfig {
    WebSocketConfig::builder().url(url.to_owned()).backend(backend).build().unwrap()
}

/// nautilus-network in the mode that reconnects.
fn handler(url: &str, backend: TransportBackend) -> Cost {
    let config = config(url, backend);
    run(&runtime(None), async move {
        let all = Arc::new(Notify::new());
        let (done, seen) = (Arc::clone(&all), AtomicU64::new(0));
        let handler = move |message: Neutral| {
            assert!(message.is_text(), "{message:?}");
            assert_eq!(black_box(message).as_bytes().len(), BYTES);
            // One task calls, so that nothing has to be added atomically.
            let seen_now = seen.load(Ordering::Relaxed) + 1;
            seen.store(seen_now, Ordering::Relaxed);
            if seen_now == COUNT {
                done.notify_one();
            }
        };
        let client = WebSocketClient::builder()
            .config(config)
            .message_handler(Arc::new(handler))
            .connect()
            .await
            .unwrap();
        let clock = Clock::start();
        all.notified().await;
        let cost = clock.stop();
        client.disconnect().await;
        cost
    })
}

/// nautilus-network in the mode that does not.
fn stream(url: &str, backend: TransportBackend) -> Cost {
    let config = config(url, backend);
    run(&runtime(None), async move {
        let (mut messages, client) =
            WebSocketClient::stream_builder().config(config).connect().await.unwrap();
        let clock = Clock::start();
        for position in 0..COUNT {
            match messages.next().await {
                Some(Ok(Neutral::Text(text))) => assert_eq!(black_box(text).len(), BYTES),
                other => panic!("at message {position}: {other:?}"),
            }
        }
        let cost = clock.stop();
        client.disconnect().await;
        cost
    })
}

fn event_loop(url: &str) -> Cost {
    let config = ezsockets::ClientConfig::new(url);
    run(&runtime(None), async move {
        let (done, cost) = oneshot::channel();
        let reader = Reader { clock: None, done: Some(done), seen: 0 };
        let (_client, running) = ezsockets::connect(|_| reader, config).await;
        let running = tokio::spawn(running);
        let cost = cost.await.expect("all messages are read");
        running.abort();
        cost
    })
}

/// The program that ezsockets calls.
struct Reader {
    clock: Option<Clock>,
    done: Option<oneshot::Sender<Cost>>,
    seen: u64,
}

#[async_trait]
impl ezsockets::ClientExt for Reader {
    type Call = ();

    async fn on_text(&mut self, text: ezsockets::Utf8Bytes) -> Result<(), ezsockets::Error> {
        assert_eq!(black_box(text).len(), BYTES);
        self.seen += 1;
        if self.seen == COUNT {
            let cost = self.clock.as_ref().map(Clock::stop);
            if let (Some(done), Some(cost)) = (self.done.take(), cost) {
                let _ = done.send(cost);
            }
        }
        Ok(())
    }

    async fn on_binary(&mut self, _: ezsockets::Bytes) -> Result<(), ezsockets::Error> {
        Err("the feed is text".into())
    }

    async fn on_call(&mut self, (): ()) -> Result<(), ezsockets::Error> {
        Ok(())
    }

    async fn on_connect(&mut self) -> Result<(), ezsockets::Error> {
        self.clock = Some(Clock::start());
        Ok(())
    }
}
