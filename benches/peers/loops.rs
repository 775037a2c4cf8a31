//! Libraries of frames: one socket that is read in a loop by the task that opened it.

use std::hint::black_box;

use fastwebsockets::{OpCode, Role, WebSocket};
use futures::StreamExt as _;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Wire;

use crate::BYTES;
use crate::common::bare::Bare;
use crate::common::clock::{Clock, Cost};
use crate::common::server::{Feed, Server};
use crate::common::{ours, pipeline, run, runtime};
use crate::turns::{self, Side};

const COUNT: u64 = 1_000_000;

pub(crate) fn compare(server: &Server) {
    let feed = Feed::Flood { bytes: BYTES, count: COUNT };
    let bare = Bare::new(server, feed);
    turns::compare(
        Some("receive_170B_fastest_peer"),
        COUNT,
        || read_ours(server, feed, COUNT),
        &[
            Side::new("fastwebsockets", || measure(fast_websockets(bare.clone()))),
            Side::new("sockudo_ws", || measure(sockudo(bare.clone()))),
            Side::new("tokio_tungstenite", || measure(tungstenite(bare.clone()))),
            Side::new("tokio_websockets", || measure(tokio_websockets(bare.clone()))),
        ],
    );
}

fn measure(side: impl Future<Output = Cost> + Send + 'static) -> Cost {
    run(&runtime(None), side)
}

/// One reader of `count` messages with the default settings.
pub(crate) fn read_ours(server: &Server, feed: Feed, count: u64) -> Cost {
    let look = |message: wsmux::Message| assert_eq!(message.len(), BYTES);
    let outcome =
        run(&runtime(None), pipeline::ours(ours::manager(server, feed), (1, count), look));
    assert_eq!(outcome.missed, 0, "messages were lost");
    outcome.cost
}

/// A socket that has been upgraded, and of which nothing more was read.
async fn upgraded(bare: &Bare) -> TcpStream {
    bare.by_hand(bare.tcp()).await
}

/// Without its `FragmentCollector`: the feed has no fragments, and that is the faster way.
async fn fast_websockets(bare: Bare) -> Cost {
    let mut socket = WebSocket::after_handshake(upgraded(&bare).await, Role::Client);
    let clock = Clock::start();
    for position in 0..COUNT {
        match socket.read_frame().await {
            Ok(frame) if frame.opcode == OpCode::Text => {
                assert_eq!(black_box(frame).payload.len(), BYTES);
            }
            Ok(frame) => panic!("at message {position}: {:?}", frame.opcode),
            Err(e) => panic!("at message {position}: {e}"),
        }
    }
    clock.stop()
}

async fn sockudo(bare: Bare) -> Cost {
    let config = sockudo_ws::Config::default();
    let mut socket = sockudo_ws::WebSocketStream::client(upgraded(&bare).await, config);
    let clock = Clock::start();
    for position in 0..COUNT {
        match socket.next().await {
            Some(Ok(sockudo_ws::Message::Text(text))) => assert_eq!(black_box(text).len(), BYTES),
            other => panic!("at message {position}: {other:?}"),
        }
    }
    clock.stop()
}

/// tokio-tungstenite, on which our handshake and our writing are built.
async fn tungstenite(bare: Bare) -> Cost {
    let mut socket = bare.connect().await;
    let clock = Clock::start();
    for position in 0..COUNT {
        match socket.next().await {
            Some(Ok(Wire::Text(text))) => assert_eq!(black_box(text).len(), BYTES),
            other => panic!("at message {position}: {other:?}"),
        }
    }
    clock.stop()
}

async fn tokio_websockets(bare: Bare) -> Cost {
    let builder = tokio_websockets::ClientBuilder::new();
    let mut socket = builder.take_over(upgraded(&bare).await);
    let clock = Clock::start();
    for position in 0..COUNT {
        match socket.next().await {
            Some(Ok(message)) if message.is_text() => {
                assert_eq!(black_box(message).as_payload().len(), BYTES);
            }
            other => panic!("at message {position}: {other:?}"),
        }
    }
    clock.stop()
}
