//! Subscriptions in the hands of the combinators that people use.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::error::Error;
use std::marker::PhantomPinned;
use std::rc::Rc;
use std::time::SystemTime;

use futures::stream::{self, FuturesUnordered, StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;
use tokio_stream::StreamMap;
use wsmux::protocol::{DialError, UrlError};
use wsmux::transport::{Tls, TlsError, TransportError, Tungstenite};
use wsmux::{
    Batches, BuildError, CloseReason, Config, ConfigError, ConnectionId, DecodeError, Diagnosis,
    DisconnectReason, Event, Events, FromMessage, Gap, Health, HealthChange, HealthChanges,
    InvalidName, Items, LatencyBy, Lease, Limiter, ManagerMetrics, Message, MetricsEvery, Overall,
    Shared, Stamped, Status, StatusStream, StreamError, StreamInfo, StreamName, SubscribeError,
    Subscription, Text, Thresholds, Values, WsManager,
};

use crate::{MS, SECOND, manager, settle};

/// A manager with a subscription per name, and the end of whatever its server sends on it.
async fn streams(names: &[&str]) -> (WsManager, Vec<Subscription<u64>>) {
    let (manager, mut server) = manager();
    let streams = names.iter().map(|name| manager.subscribe(name).unwrap()).collect();
    for name in names {
        let peer = server.accept().await;
        assert_eq!(peer.request().url().path(), format!("/{name}"));
        peer.send_all(["1", "2", "3"]);
        tokio::spawn(async move {
            let mut peer = peer;
            peer.closed().await;
        });
    }
    settle().await;
    (manager, streams)
}

async fn shut<T>((manager, rest): (WsManager, T)) -> T {
    manager.shutdown().await;
    rest
}

#[tokio::test(start_paused = true)]
async fn with_the_combinators_of_futures() {
    let mut streams = shut(streams(&["x", "y"]).await).await.into_iter();
    let even = streams.next().unwrap().filter_map(async |item| item.ok().filter(|n| n % 2 == 0));
    assert_eq!(even.collect::<Vec<_>>().await, [2]);

    let mut taken = Vec::new();
    let ended = streams.next().unwrap().try_for_each(|n| {
        taken.push(n);
        async { Ok(()) }
    });
    let e = ended.await.unwrap_err();
    assert!(matches!(e, StreamError::Closed(CloseReason::Shutdown)));
    assert_eq!(taken, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn in_a_select_all() {
    let streams = shut(streams(&["x", "y", "z"]).await).await;
    let items: Vec<_> = stream::select_all(streams).collect().await;
    assert_eq!(items.iter().filter(|item| item.is_ok()).count(), 9);
    assert_eq!(items.iter().filter(|item| item.is_err()).count(), 3, "the end of each");
}

#[tokio::test(start_paused = true)]
async fn in_a_stream_map() {
    let streams = shut(streams(&["x", "y"]).await).await;
    let mut map: StreamMap<_, _> =
        streams.into_iter().map(|stream| (stream.name().clone(), stream.values())).collect();
    let mut sums = BTreeMap::new();
    while let Some((name, n)) = map.next().await {
        *sums.entry(name.to_string()).or_insert(0) += n;
    }
    assert_eq!(sums.into_iter().collect::<Vec<_>>(), [("x".into(), 6), ("y".into(), 6)]);
    assert!(map.is_empty(), "streams that end are taken out");
}

#[tokio::test(start_paused = true)]
async fn in_futures_unordered() {
    let mut streams = shut(streams(&["x", "y"]).await).await;
    let mut firsts: FuturesUnordered<_> = streams.iter_mut().map(Subscription::recv).collect();
    while let Some(first) = firsts.next().await {
        assert_eq!(first.unwrap().unwrap(), 1);
    }
    drop(firsts);
    for stream in &mut streams {
        assert_eq!(stream.recv().await.unwrap().unwrap(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_select() {
    let mut streams = shut(streams(&["x", "y"]).await).await;
    let [x, y] = &mut streams[..] else { panic!() };
    let (mut seen, mut ended) = (0, 0);
    while ended < 2 {
        let item = tokio::select! {
            Some(item) = x.recv() => item,
            Some(item) = y.next() => item,
        };
        match item {
            Ok(n) => seen += n,
            Err(_) => ended += 1,
        }
    }
    assert_eq!(seen, 12);

    let mut streams = shut(self::streams(&["x", "y"]).await).await;
    let [x, y] = &mut streams[..] else { panic!() };
    let mut items = 0;
    loop {
        // The macro of `futures` asks for `FusedStream`.
        futures::select! {
            _ = x.select_next_some() => items += 1,
            _ = y.select_next_some() => items += 1,
            complete => break,
        }
    }
    assert_eq!(items, 8);
}

#[tokio::test(start_paused = true)]
async fn on_a_task_of_its_own_and_boxed() {
    let (manager, mut streams) = streams(&["x", "y"]).await;
    let spawned = tokio::spawn(streams.remove(0).values().collect::<Vec<_>>());
    let boxed: stream::BoxStream<'static, u64> = streams.remove(0).values().boxed();
    manager.shutdown().await;
    assert_eq!(spawned.await.unwrap(), [1, 2, 3]);
    assert_eq!(boxed.collect::<Vec<_>>().await, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn throttled_and_merged_by_tokio_stream() {
    let mut streams = shut(streams(&["x", "y"]).await).await.into_iter();
    let (x, y) = (streams.next().unwrap().values(), streams.next().unwrap().values());
    let start = Instant::now();
    let slow = tokio_stream::StreamExt::throttle(x, SECOND);
    let merged: Vec<_> = tokio_stream::StreamExt::merge(slow, y).collect().await;
    assert_eq!(merged.len(), 6);
    assert!(start.elapsed() >= 2 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn in_chunks_and_behind_a_timeout() {
    let (_manager, mut streams) = streams(&["x"]).await;
    let values = streams.remove(0).values();
    let mut chunks = std::pin::pin!(tokio_stream::StreamExt::chunks_timeout(values, 2, MS));
    assert_eq!(chunks.next().await, Some(vec![1, 2]));
    assert_eq!(chunks.next().await, Some(vec![3]));
}

#[tokio::test(start_paused = true)]
async fn a_name_may_come_as_anything_that_is_a_string() {
    let (manager, mut server) = manager();
    let owned = String::from("x");
    let borrowed: &&str = &"x";
    let name = StreamName::try_from("x").unwrap();
    let _streams: [Subscription<Message>; 8] = [
        manager.subscribe("x").unwrap(),
        manager.subscribe(borrowed).unwrap(),
        manager.subscribe(&owned).unwrap(),
        manager.subscribe(Cow::Borrowed("x")).unwrap(),
        manager.subscribe(Cow::<str>::Owned(owned.clone())).unwrap(),
        manager.subscribe(&name).unwrap(),
        manager.subscribe(name).unwrap(),
        manager.subscribe(owned).unwrap(),
    ];
    let _lease = manager.keep_warm(String::from("x")).unwrap();
    let _peer = server.accept().await;
    settle().await;
    assert_eq!(manager.stream_count(), 1);
    assert_eq!(manager.streams()[0].readers, 8);
}

#[tokio::test(start_paused = true)]
async fn errors_travel_by_question_mark() {
    async fn first(manager: &WsManager) -> Result<u64, Box<dyn Error + Send + Sync>> {
        let mut stream = manager.subscribe::<u64>("x")?;
        stream.ready().await?;
        Ok(stream.recv().await.ok_or("over")??)
    }
    let (manager, mut server) = manager();
    let serving = tokio::spawn(async move {
        server.accept().await.send("7");
        server
    });
    assert_eq!(first(&manager).await.unwrap(), 7);
    drop(serving);
    manager.shutdown().await;
    let e = first(&manager).await.unwrap_err();
    assert!(e.downcast_ref::<SubscribeError>().is_some());
}

#[test]
fn handles_and_values_go_anywhere() {
    fn anywhere<T: Send + Sync + Unpin + 'static>() {}
    anywhere::<WsManager>();
    anywhere::<Config>();
    anywhere::<Limiter>();
    anywhere::<Lease>();
    anywhere::<Events>();
    anywhere::<StatusStream>();
    anywhere::<StatusStream<Overall>>();
    anywhere::<Subscription<Message>>();
    anywhere::<Values<Message>>();
    anywhere::<(Message, Text, StreamName, Shared<Text>, Stamped<Text>)>();
    anywhere::<(Gap, CloseReason, DisconnectReason, ConnectionId)>();
    anywhere::<(Event, Status, Overall, StreamInfo, ManagerMetrics, MetricsEvery)>();
    anywhere::<(Health, Diagnosis, HealthChange, Thresholds)>();
    anywhere::<(HealthChanges, LatencyBy<Message, fn(&Message) -> Option<SystemTime>>)>();
    anywhere::<(Tls, Tungstenite)>();
}

#[tokio::test(start_paused = true)]
async fn futures_go_to_other_threads() {
    fn check(_: impl Send) {}
    let (manager, _server) = manager();
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    check(stream.recv());
    check(stream.ready());
    check(stream.next());
    check(manager.diagnose_every(SECOND).run());
    check(manager.shutdown());
}

#[test]
fn a_subscription_is_send_and_unpin_whatever_it_reads() {
    struct Awkward(Rc<Cell<u8>>, PhantomPinned);
    impl FromMessage for Awkward {
        fn from_message(message: Message) -> Result<Self, DecodeError> {
            Ok(Self(Rc::new(Cell::new(message.len() as u8)), PhantomPinned))
        }
    }
    fn check<T: Send + Sync + Unpin + 'static>() {}
    check::<Subscription<Awkward>>();
    check::<Values<Awkward>>();
    check::<Batches<Awkward>>();
    check::<Items<Awkward>>();
    let awkward = Awkward::from_message("abc".into()).unwrap();
    assert_eq!(awkward.0.get(), 3);
    let _ = awkward.1;
}

#[test]
fn errors_are_errors_that_go_anywhere() {
    fn check<E: Error + Send + Sync + 'static>() {}
    check::<BuildError>();
    check::<CloseReason>();
    check::<ConfigError>();
    check::<DecodeError>();
    check::<DialError>();
    check::<InvalidName>();
    check::<StreamError>();
    check::<SubscribeError>();
    check::<TlsError>();
    check::<TransportError>();
    check::<UrlError>();
}
