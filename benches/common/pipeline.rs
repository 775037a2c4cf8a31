//! One stream to many readers, from the socket on: ours, and a bare tokio-tungstenite socket whose
//! messages go through `tokio::sync::broadcast`.

use std::hint::black_box;

use futures::StreamExt as _;
use tokio::sync::broadcast;
use tokio::task::{self, JoinSet};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_tungstenite::tungstenite::Message as Wire;
use wsmux::{FromMessage, Gap, Message, MessageRef, StreamError, Subscription, WsManager};

use super::bare::Bare;
use super::clock::{Clock, Cost};

/// Messages kept for slow readers, on both sides: our default.
const BUFFER: usize = 1024;

/// Messages after which the bare loop lets its readers run, as our connections do.
const TURN: u64 = 128;

/// What a run took, and how many messages the readers missed together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) cost: Cost,
    pub(crate) missed: u64,
}

/// `readers` readers of `count` messages, each of which is given to `look`.
pub(crate) async fn ours<T>(
    manager: WsManager,
    (readers, count): (u64, u64),
    look: fn(T),
) -> Outcome
where
    T: FromMessage + Send + 'static,
{
    measure(manager, readers, move |messages| read_ours(messages, count, look)).await
}

/// The same, whose readers take batches, and look at the messages in them.
pub(crate) async fn ours_in_batches(
    manager: WsManager,
    (readers, count): (u64, u64),
    look: fn(MessageRef<'_>),
) -> Outcome {
    measure(manager, readers, move |messages| read_batches(messages, count, look)).await
}

/// `readers` readers, which say how many messages they missed.
async fn measure<T, F>(
    manager: WsManager,
    readers: u64,
    read: impl Fn(Subscription<T>) -> F,
) -> Outcome
where
    T: FromMessage,
    F: Future<Output = u64> + Send + 'static,
{
    let mut subscriptions: Vec<Subscription<T>> =
        (0..readers).map(|_| manager.subscribe("feed").unwrap()).collect();
    subscriptions[0].ready().await.unwrap();
    let clock = Clock::start();
    let tasks: JoinSet<_> = subscriptions.into_iter().map(read).collect();
    let missed = tasks.join_all().await.into_iter().sum();
    let cost = clock.stop();
    manager.shutdown().await;
    Outcome { cost, missed }
}

async fn read_batches(
    messages: Subscription<Message>,
    count: u64,
    look: fn(MessageRef<'_>),
) -> u64 {
    let mut batches = messages.batches();
    let (mut read, mut missed) = (0, 0);
    while read + missed < count {
        let items = batches.next().await.expect("it goes on");
        for item in items.messages() {
            match item {
                Ok(message) => {
                    look(black_box(message));
                    read += 1;
                }
                Err(StreamError::Gap(Gap::Lagged { missed: more })) => missed += more,
                Err(e) => panic!("after {read} messages: {e}"),
            }
        }
    }
    missed
}

async fn read_ours<T: FromMessage>(mut messages: Subscription<T>, count: u64, look: fn(T)) -> u64 {
    let (mut read, mut missed) = (0, 0);
    while read + missed < count {
        match messages.next().await {
            Some(Ok(message)) => {
                look(black_box(message));
                read += 1;
            }
            Some(Err(StreamError::Gap(Gap::Lagged { missed: more }))) => missed += more,
            Some(Err(e)) => panic!("after {read} messages: {e}"),
            None => panic!("after {read} messages: the end"),
        }
    }
    missed
}

/// The same without this crate.
pub(crate) async fn bare(bare: Bare, (readers, count): (u64, u64), look: fn(Wire)) -> Outcome {
    let (sender, _) = broadcast::channel(BUFFER);
    let receivers: Vec<_> =
        (0..readers).map(|_| BroadcastStream::new(sender.subscribe())).collect();
    let mut socket = bare.connect().await;
    let clock = Clock::start();
    let tasks: JoinSet<_> =
        receivers.into_iter().map(|messages| read_bare(messages, count, look)).collect();
    for position in 1..=count {
        let message = socket.next().await.unwrap().unwrap();
        assert!(sender.send(message).is_ok(), "nobody reads");
        if position % TURN == 0 {
            task::yield_now().await;
        }
    }
    let missed = tasks.join_all().await.into_iter().sum();
    Outcome { cost: clock.stop(), missed }
}

async fn read_bare(mut messages: BroadcastStream<Wire>, count: u64, look: fn(Wire)) -> u64 {
    let (mut read, mut missed) = (0, 0);
    while read + missed < count {
        match messages.next().await {
            Some(Ok(message)) => {
                look(black_box(message));
                read += 1;
            }
            Some(Err(BroadcastStreamRecvError::Lagged(more))) => missed += more,
            None => panic!("after {read} messages: the end"),
        }
    }
    missed
}
