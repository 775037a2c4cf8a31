//! The combinators over subscriptions, where gaps come from sockets and from slow readers.

use wsmux::{Gap, StreamError, Text, WsStreamExt as _, WsTryStreamExt as _};

use super::*;
use crate::{DAY, config, manager, manager_with, settle};

fn text(item: Option<Result<Text, StreamError>>) -> String {
    item.unwrap().unwrap().to_string()
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_is_told_in_its_place_and_at_once() {
    let (manager, mut server) = manager();
    let mut stream = manager.subscribe::<Text>("a").unwrap().try_debounce(DAY);
    let first = server.accept().await;
    first.send("1");
    first.send("2");
    assert!(futures::poll!(stream.next()).is_pending());
    settle().await;
    assert!(futures::poll!(stream.next()).is_pending());
    drop(first);
    let item = tokio::spawn(async move { (text(stream.next().await), stream) });
    let second = server.accept().await;
    second.send("3");
    let (before, mut stream) = item.await.unwrap();
    assert_eq!(before, "2");
    let gap = stream.next().await.unwrap();
    assert!(matches!(gap, Err(StreamError::Gap(Gap::Reconnected { .. }))), "{gap:?}");
    manager.shutdown().await;
    assert_eq!(text(stream.next().await), "3");
    let closed = stream.next().await.unwrap();
    assert!(matches!(closed, Err(StreamError::Closed(_))), "{closed:?}");
    assert!(stream.next().await.is_none());
}

/// What the module's header says of a consumer that is busy for too long.
#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_busy_for_too_long_is_told_what_the_buffer_lost() {
    let (manager, mut server) = manager_with(config().buffer(100));
    let mut stream = manager.subscribe::<Text>("a").unwrap().try_conflate();
    let peer = server.accept().await;
    peer.send("0");
    assert_eq!(text(stream.next().await), "0");
    for n in 1..=1000 {
        peer.send(n.to_string());
        settle().await;
    }
    let gap = stream.next().await.unwrap();
    assert!(matches!(gap, Err(StreamError::Gap(Gap::Lagged { missed: 900 }))), "{gap:?}");
    assert_eq!(text(stream.next().await), "1000");
}

/// Each in a batch of its own, so that a task's budget does not last for all of them.
#[tokio::test(start_paused = true)]
async fn a_full_buffer_is_conflated_into_one_value() {
    let (manager, mut server) = manager();
    let mut stream = manager.subscribe::<u32>("a").unwrap().values().conflate();
    let peer = server.accept().await;
    for n in 0..1000 {
        peer.send(n.to_string());
        settle().await;
    }
    assert_eq!(stream.next().await, Some(999));
}
