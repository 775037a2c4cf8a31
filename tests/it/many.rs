//! Several names read as one stream.

use futures::stream::FusedStream as _;
use futures::{FutureExt as _, StreamExt as _};
use wsmux::{CloseReason, Gap, Limits, Message, StreamError, Streams, SubscribeError, Text};

use crate::lines::{Lines, accept};
use crate::{config, manager, manager_of, manager_with, settle};

/// The items that are there, as `name:text`.
fn there(streams: &mut Streams<Message>) -> Vec<String> {
    std::iter::from_fn(|| streams.recv().now_or_never().flatten())
        .map(|(name, item)| match item {
            Ok(message) => format!("{name}:{}", message.as_text().unwrap()),
            Err(StreamError::Gap(Gap::Reconnected { .. })) => format!("{name} reconnected"),
            Err(StreamError::Gap(Gap::Lagged { missed })) => format!("{name} missed {missed}"),
            Err(StreamError::Closed(reason)) => format!("{name} {}", reason.label()),
            Err(other) => panic!("{other}"),
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn items_and_notices_come_with_the_name_of_their_stream() {
    let (manager, mut server) = manager_with(config().buffer(2));
    let mut streams = manager.subscribe_all::<Message>(["x", "y", "x"]).unwrap();
    assert_eq!((streams.len(), manager.stream_count()), (2, 2), "a name given twice is one member");
    assert_eq!(manager.metrics().readers, 2);
    let [x, y] = [server.accept().await, server.accept().await];
    settle().await;
    assert_eq!(there(&mut streams), [""; 0]);
    y.send("1");
    x.send_all(["1", "2"]);
    settle().await;
    let mut seen = there(&mut streams);
    seen.sort();
    assert_eq!(seen, ["x:1", "x:2", "y:1"]);
    drop(y);
    let y = server.accept().await;
    settle().await;
    assert_eq!(there(&mut streams), ["y reconnected"]);
    for n in 0..4 {
        x.send(n.to_string());
        settle().await;
    }
    assert_eq!(there(&mut streams), ["x missed 2", "x:2", "x:3"]);
    assert_eq!(streams.get("x").unwrap().latest().unwrap().unwrap(), "3".into());
    drop(y);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_has_ended_is_taken_out_and_may_come_again() {
    let (manager, mut server) = manager_of(Lines::default(), config());
    let mut streams = manager.subscribe_all::<Message>(["a1", "a2"]).unwrap();
    let peer = accept(&mut server).await;
    peer.send_all(["a1:last", "!a1 no more"]);
    settle().await;
    assert!(streams.contains("a1"), "it has not said so yet");
    assert_eq!(streams.insert("a1"), Ok(false));
    assert_eq!(there(&mut streams), ["a1:last", "a1 rejected"]);
    assert!(!streams.contains("a1") && streams.get("a1").is_none());
    assert_eq!(streams.names().map(|name| name.as_str()).collect::<Vec<_>>(), ["a2"]);
    assert_eq!(streams.insert("a1"), Ok(true));
    assert_eq!(streams.insert("a1"), Ok(false));
    assert_eq!(streams.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_stream_ends_when_it_is_empty_and_goes_on_after_an_insert() {
    let (manager, mut server) = manager();
    let mut streams = manager.subscribe_all::<Message>([""; 0]).unwrap();
    assert!(streams.is_terminated() && streams.is_empty());
    assert!(streams.next().await.is_none());
    assert_eq!(streams.recv_many(&mut Vec::new(), 9).await, 0);
    streams.insert("x").unwrap();
    assert!(!streams.is_terminated());
    server.accept().await.send("1");
    settle().await;
    assert_eq!(there(&mut streams), ["x:1"]);
    assert!(streams.remove("x").is_some() && streams.remove("x").is_none());
    assert!(streams.next().await.is_none() && streams.is_terminated());
    settle().await;
    assert_eq!(manager.stream_count(), 0, "the one that was taken out was dropped");
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_woken_by_what_is_added_in_another_arm() {
    let (manager, mut server) = manager();
    let mut streams = manager.subscribe_all::<Message>(["x"]).unwrap();
    assert!(streams.recv().now_or_never().is_none());
    let mut y = manager.subscribe::<Message>("y").unwrap();
    let (_x, peer) = (server.accept().await, server.accept().await);
    peer.send_all(["1", "2"]);
    assert_eq!(y.recv().await.unwrap().unwrap(), "1".into());
    assert!(streams.add(y).is_none());
    assert_eq!(there(&mut streams), ["y:2"], "with what it has not read");
    peer.send_all(["3", "4"]);
    settle().await;
    let mut y = streams.remove("y").unwrap();
    assert_eq!(y.recv().await.unwrap().unwrap(), "3".into());
    streams.extend([y]);
    assert_eq!(there(&mut streams), ["y:4"]);
}

#[tokio::test(start_paused = true)]
async fn subscriptions_of_several_managers_are_read_together() {
    let (one, mut server) = manager();
    let (other, mut other_server) = manager();
    let mut streams = one.subscribe_all::<Message>(["x"]).unwrap();
    assert!(streams.add(other.subscribe("y").unwrap()).is_none());
    let replaced = streams.add(other.subscribe("x").unwrap());
    assert_eq!(replaced.unwrap().name().as_str(), "x", "a name is one member");
    assert_eq!(streams.insert("y"), Ok(false), "of whatever manager");
    let peers = [other_server.accept().await, other_server.accept().await];
    peers.iter().for_each(|peer| peer.send("1"));
    settle().await;
    let mut seen = there(&mut streams);
    seen.sort();
    assert_eq!(seen, ["x:1", "y:1"]);
    assert!(!server.has_dial(), "nobody wants it any more");
}

#[tokio::test(start_paused = true)]
async fn all_names_are_subscribed_to_or_none() {
    let limits = Limits { max_connections: 2, ..Limits::default() };
    let (manager, mut server) = manager_with(config().limits(limits));
    let refused = manager.subscribe_all::<Text>(["x", "y", "z"]).unwrap_err();
    assert_eq!(refused, SubscribeError::ConnectionLimit { max: 2 });
    assert_eq!((manager.stream_count(), manager.metrics().readers), (0, 0));
    let refused = manager.subscribe_all::<Text>(["x", ""]).unwrap_err();
    assert!(matches!(refused, SubscribeError::InvalidName(_)));
    assert_eq!(manager.metrics().stream_creations, 2, "names are looked at before");
    settle().await;
    assert!(!server.has_dial());
    let mut streams = manager.subscribe_all::<Text>(["x", "y"]).unwrap();
    assert_eq!(streams.insert("z"), Err(SubscribeError::ConnectionLimit { max: 2 }));
    assert_eq!(streams.len(), 2);
    manager.shutdown().await;
    assert_eq!(streams.insert("z"), Err(SubscribeError::Shutdown));
}

#[tokio::test(start_paused = true)]
async fn many_come_at_once_of_all_members_and_the_ends_too() {
    let (manager, mut server) = manager_of(Lines::default(), config());
    let mut streams = manager.subscribe_all::<Message>(["a1", "a2", "a3"]).unwrap();
    let peer = accept(&mut server).await;
    peer.send_all(["a1:1", "a2:1", "a3:1", "a1:2"]);
    settle().await;
    let mut items = Vec::with_capacity(8);
    assert_eq!(streams.recv_many(&mut items, 3).await, 3);
    assert_eq!(streams.recv_many(&mut items, 3).await, 1);
    assert!(streams.recv_many(&mut items, 3).now_or_never().is_none());
    let mut names: Vec<_> = items.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a1", "a1", "a2", "a3"]);
    manager.shutdown().await;
    assert_eq!(streams.recv_many(&mut items, 9).await, 3);
    for (_, item) in &items[4..] {
        assert!(matches!(item, Err(StreamError::Closed(CloseReason::Shutdown))));
    }
    assert_eq!((streams.recv_many(&mut items, 9).await, items.capacity()), (0, 8));
}
