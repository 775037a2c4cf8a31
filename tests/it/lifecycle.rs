//! Opening, sharing, lingering, closing.

use futures::StreamExt as _;
use tokio::time::{self, Instant};
use wsmux::transport::Frame;
use wsmux::{CloseReason, Config, Limits, Message, StreamError, SubscribeError, Subscription};

use crate::{MINUTE, MS, SECOND, alive_tasks, config, end, manager, manager_with, message, settle};

#[tokio::test(start_paused = true)]
async fn readers_of_one_name_share_a_socket() {
    let (manager, mut server) = manager();
    let mut a: Subscription<Message> = manager.subscribe("x").unwrap();
    let mut b: Subscription<Message> = manager.subscribe("x").unwrap();

    let peer = server.accept().await;
    time::sleep(SECOND).await;
    assert!(!server.has_dial());
    assert!(a.status().is_open());
    assert_eq!(manager.streams()[0].readers, 2);

    peer.send("hello");
    assert_eq!(message(&mut a).await, "hello");
    assert_eq!(message(&mut b).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn each_name_has_a_socket_of_its_own() {
    let (manager, mut server) = manager();
    let _a = manager.subscribe::<Message>("a").unwrap();
    let _b = manager.subscribe::<Message>("b").unwrap();
    let mut paths = [server.accept().await, server.accept().await]
        .map(|peer| peer.request().url().path().to_owned());
    paths.sort();
    assert_eq!(paths, ["/a", "/b"]);
    assert_eq!(manager.stream_count(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_last_reader_closes_the_socket_at_once_with_a_close_handshake() {
    let (manager, mut server) = manager();
    let a = manager.subscribe::<Message>("x").unwrap();
    let b = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    settle().await;

    drop(a);
    settle().await;
    assert!(b.status().is_open());

    let left = Instant::now();
    drop(b);
    assert_eq!(manager.stream_count(), 0, "known at once, not when the socket is closed");
    assert!(matches!(peer.recv().await, Some(Frame::Close(Some((1000, _))))));
    assert!(peer.recv().await.is_none());
    assert_eq!(left.elapsed(), time::Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_lingering_socket_is_warm_for_the_next_reader_and_closes_to_the_second() {
    let (manager, mut server) = manager_with(config().linger(30 * SECOND));
    let first = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    settle().await;
    drop(first);

    time::sleep(10 * SECOND).await;
    let second = manager.subscribe::<Message>("x").unwrap();
    time::sleep(2 * MINUTE).await;
    assert!(second.status().is_open());
    assert!(!server.has_dial());
    drop(second);

    let left = Instant::now();
    peer.closed().await;
    assert_eq!(left.elapsed(), 30 * SECOND);
    assert!(manager.streams().is_empty());
}

#[tokio::test(start_paused = true)]
async fn sweep_idle_closes_what_was_left_long_enough_ago_and_counts_it() {
    let (manager, mut server) = manager_with(config().linger(time::Duration::MAX));
    let mut peers = Vec::new();
    let mut streams = Vec::new();
    for name in ["a", "b", "c"] {
        streams.push(manager.subscribe::<Message>(name).unwrap());
        peers.push(server.accept().await);
    }
    settle().await;
    drop(streams.remove(0));
    time::sleep(MINUTE).await;
    drop(streams.remove(0));
    time::sleep(MINUTE).await;

    assert_eq!(manager.sweep_idle(3 * MINUTE), 0);
    assert_eq!(manager.sweep_idle(90 * SECOND), 1);
    peers[0].closed().await;
    assert_eq!(manager.sweep_idle(time::Duration::ZERO), 1);
    peers[1].closed().await;
    assert_eq!(manager.sweep_idle(time::Duration::ZERO), 0, "somebody reads the third");
    assert!(streams[0].status().is_open());
}

#[tokio::test(start_paused = true)]
async fn a_persistent_manager_keeps_sockets_for_five_minutes() {
    let (manager, mut server) = manager_with(Config::persistent());
    let stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    settle().await;
    let opened = Instant::now();
    let ping = tokio::spawn(async move {
        let ping = peer.recv().await;
        assert!(matches!(ping, Some(Frame::Ping(_))));
        peer.ping();
        let waited = opened.elapsed();
        (peer, waited)
    });
    let (peer, waited) = ping.await.unwrap();
    assert_eq!(waited, 30 * SECOND - MS);
    let pinging = tokio::spawn(async move {
        let mut peer = peer;
        while let Some(frame) = peer.recv().await {
            if matches!(frame, Frame::Ping(_)) {
                peer.ping();
            }
        }
    });
    let left = Instant::now();
    drop(stream);
    pinging.await.unwrap();
    assert_eq!(left.elapsed(), 300 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_wanted_again_while_its_socket_closes_never_has_two() {
    let (manager, mut server) = manager();
    let first = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    peer.stall(true); // The close handshake takes its time.
    settle().await;
    drop(first);

    let mut second = manager.subscribe::<Message>("x").unwrap();
    time::sleep(SECOND).await;
    assert!(!server.has_dial(), "the old socket is not closed yet");
    peer.stall(false);
    peer.closed().await;
    let peer = server.accept().await;
    peer.send("fresh");
    assert_eq!(message(&mut second).await, "fresh");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_closes_is_dropped_at_the_close_timeout() {
    let (manager, mut server) = manager();
    let first = manager.subscribe::<Message>("x").unwrap();
    let peer = server.accept().await;
    peer.stall(true);
    settle().await;
    drop(first);
    let _second = manager.subscribe::<Message>("x").unwrap();
    let start = Instant::now();
    server.accept().await;
    assert_eq!(start.elapsed(), 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn leaving_while_dialling_or_waiting_leaves_nothing_behind() {
    let (manager, mut server) = manager();
    let stream = manager.subscribe::<Message>("x").unwrap();
    let mut dial = server.dial().await;
    drop(stream);
    dial.given_up().await;
    settle().await;
    assert_eq!(alive_tasks(), 0);

    let stream = manager.subscribe::<Message>("x").unwrap();
    drop(server.dial().await);
    settle().await;
    assert!(matches!(stream.status(), wsmux::Status::BackingOff { .. }));
    drop(stream);
    settle().await;
    assert_eq!(alive_tasks(), 0);
    time::sleep(MINUTE).await;
    assert!(!server.has_dial());
}

#[tokio::test(start_paused = true)]
async fn streams_outlive_the_manager() {
    let (manager, mut server) = manager();
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    drop(manager);
    let peer = server.accept().await;
    peer.send("still here");
    assert_eq!(message(&mut stream).await, "still here");
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_streams_and_waits_for_sockets() {
    let (manager, mut server) = manager();
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    settle().await;

    manager.shutdown().await;
    assert_eq!(alive_tasks(), 0);
    peer.closed().await;
    assert!(matches!(end(&mut stream).await, CloseReason::Shutdown));
    let refused = manager.subscribe::<Message>("x").map(drop);
    assert_eq!(refused, Err(SubscribeError::Shutdown));
}

#[tokio::test(start_paused = true)]
async fn shutdown_is_bounded_by_the_close_timeout_whatever_the_peer_does() {
    let (manager, mut server) = manager();
    let _stream = manager.subscribe::<Message>("x").unwrap();
    let peer = server.accept().await;
    peer.stall(true);
    settle().await;
    let start = Instant::now();
    manager.shutdown().await;
    assert_eq!(start.elapsed(), 2 * SECOND);
    settle().await;
    assert_eq!(alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_once_all_is_dropped() {
    let (manager, mut server) = manager_with(config().linger(MINUTE));
    let stream = manager.subscribe::<Message>("x").unwrap();
    let lease = manager.keep_warm("y").unwrap();
    let _peers = (server.accept().await, server.accept().await);
    settle().await;
    drop((manager, stream));
    time::sleep(SECOND).await;
    assert_ne!(alive_tasks(), 0, "there still is a lease");
    drop(lease);
    settle().await;
    assert_eq!(alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_the_longest_idle_socket_is_given_up_and_without_one_the_caller_is_told() {
    let limits = Limits { max_connections: 2, ..Limits::default() };
    let (manager, mut server) = manager_with(config().linger(10 * MINUTE).limits(limits));
    let a = manager.subscribe::<Message>("a").unwrap();
    let mut peer_a = server.accept().await;
    let b = manager.subscribe::<Message>("b").unwrap();
    let mut peer_b = server.accept().await;
    settle().await;

    let refused = manager.subscribe::<Message>("c").map(drop);
    assert_eq!(refused, Err(SubscribeError::ConnectionLimit { max: 2 }));
    drop(b);
    time::sleep(SECOND).await;
    drop(a);
    peer_b.stall(true);
    let c = manager.subscribe::<Message>("c").unwrap();
    settle().await;
    assert!(!server.has_dial(), "a closing socket counts until it is closed");
    peer_b.stall(false);
    peer_b.closed().await;
    let peer_c = server.accept().await;
    assert_eq!(peer_c.request().url().path(), "/c");
    let _d = manager.subscribe::<Message>("d").unwrap();
    peer_a.closed().await;
    server.accept().await;
    assert_eq!(manager.stream_count(), 2);
    drop(c);
}

#[test]
fn a_subscription_may_be_dropped_outside_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (manager, mut server) = manager_with(config().linger(MINUTE));
    let (stream, _peer) = runtime.block_on(async {
        let stream = manager.subscribe::<Message>("x").unwrap();
        let peer = server.accept().await;
        (stream, peer)
    });
    drop(runtime);
    let last: Vec<_> = futures::executor::block_on_stream(stream).collect();
    assert!(matches!(&last[..], [Err(StreamError::Closed(CloseReason::Aborted))]), "{last:?}");
    let refused = manager.subscribe::<Message>("y").map(drop);
    assert_eq!(refused, Err(SubscribeError::NoRuntime));
}

#[test]
fn the_next_runtime_takes_over_from_one_that_has_gone() {
    let (manager, mut server) = manager_with(config().linger(MINUTE));
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut stream = manager.subscribe::<Message>("x").unwrap();
            let mut peer = server.accept().await;
            peer.send("here");
            assert_eq!(message(&mut stream).await, "here");
            // The sweeper works on each of them.
            let left = Instant::now();
            drop(stream);
            peer.closed().await;
            assert_eq!(left.elapsed(), MINUTE);
            let _abandoned = manager.subscribe::<Message>("y").unwrap();
            server.accept().await;
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_warm_name_can_be_subscribed_to_outside_a_runtime() {
    let (manager, mut server) = manager();
    let _first = manager.subscribe::<Message>("x").unwrap();
    let peer = server.accept().await;
    let other = manager.clone();
    let second = std::thread::spawn(move || other.subscribe::<Message>("x").unwrap());
    let mut second = second.join().unwrap();
    peer.send("hello");
    assert!(second.next().await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_status_ends_when_the_last_owner_of_a_lingering_stream_goes() {
    let (manager, mut server) = manager_with(config().linger(MINUTE));
    let stream = manager.subscribe::<Message>("x").unwrap();
    let _peer = server.accept().await;
    settle().await;
    let status = stream.status_changes();
    let overall = manager.status();
    drop((stream, manager));
    let last = status.collect::<Vec<_>>().await.pop();
    assert!(matches!(last, Some(wsmux::Status::Closed(CloseReason::Unused))), "{last:?}");
    overall.collect::<Vec<_>>().await;
}
