//! Telling a live socket from a dead one, and a quiet stream from a silent one.

use std::io::ErrorKind;

use futures::{FutureExt as _, StreamExt as _};
use tokio::time::{self, Duration, Instant};
use wsmux::protocol::Direct;
use wsmux::test_util::memory::{self, MemoryServer, Peer};
use wsmux::transport::Frame;
use wsmux::{
    Config, DisconnectReason, Event, Events, Gap, Limiter, Message, Subscription, WsManager,
};

use crate::lines::{Lines, accept, heard, next_line};
use crate::{
    DAY, MINUTE, MS, SECOND, config, gap, manager, manager_of, manager_with, message, settle,
};

/// A stream with a socket that has just opened.
async fn opened(config: Config) -> (WsManager, MemoryServer, Subscription<Message>, Peer) {
    let (manager, mut server) = manager_with(config);
    let stream = manager.subscribe("x").unwrap();
    let peer = server.accept().await;
    (manager, server, stream, peer)
}

/// The reason that the stream's next gap, its info and the latest loss among the events agree on.
async fn reason(stream: &mut Subscription<Message>, events: &mut Events) -> DisconnectReason {
    let Gap::Reconnected { reason, .. } = gap(stream).await else { panic!() };
    assert_eq!(*stream.info().unwrap().last_error.unwrap().reason(), reason);
    let mut lost = None;
    while let Some(Some(event)) = events.next().now_or_never() {
        match event {
            Event::Disconnected { reason, .. } => lost = Some(reason),
            Event::Retrying { error, .. } => assert_eq!(Some(error.reason()), lost.as_ref()),
            _ => {}
        }
    }
    assert_eq!(lost.as_ref(), Some(&reason));
    reason
}

#[tokio::test(start_paused = true)]
async fn a_silent_socket_is_pinged_after_20_s_and_dead_10_s_later() {
    let (manager, mut server, mut stream, mut peer) = opened(Config::default()).await;
    let events = manager.events();
    let open = Instant::now();
    assert!(matches!(peer.recv().await, Some(Frame::Ping(_))));
    assert_eq!(open.elapsed(), 20 * SECOND);
    assert!(peer.recv().await.is_none(), "no close frame: nobody would answer it");
    assert_eq!(open.elapsed(), 30 * SECOND);

    let _peer = server.accept().await;
    let down = open.elapsed();
    let Gap::Reconnected { down_for, .. } = gap(&mut stream).await else { panic!() };
    assert_eq!(down_for, down, "counted from the last sign of life");
    let lost = events.filter_map(async |event| match event {
        Event::Disconnected { reason, uptime, .. } => Some((reason, uptime)),
        _ => None,
    });
    let lost = std::pin::pin!(lost).next().await;
    assert_eq!(lost, Some((DisconnectReason::HeartbeatTimeout, 30 * SECOND)));
}

#[tokio::test(start_paused = true)]
async fn any_frame_is_a_sign_of_life() {
    let signs: [fn(&Peer); 3] = [|peer| peer.send("x"), Peer::ping, Peer::pong];
    for sign in signs {
        let (_manager, mut server, stream, mut peer) = opened(Config::default()).await;
        for _ in 0..100 {
            let heard = Instant::now();
            while !matches!(peer.recv().await, Some(Frame::Ping(_))) {}
            assert_eq!(heard.elapsed(), 20 * SECOND, "the silence counts anew");
            time::sleep(10 * SECOND - MS).await;
            sign(&peer);
            settle().await;
            time::sleep(15 * SECOND).await;
            sign(&peer); // No ping was due.
        }
        assert!(stream.status().is_open() && !server.has_dial());
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_talks_is_not_pinged() {
    let (_manager, _server, _stream, mut peer) = opened(Config::default()).await;
    for _ in 0..1000 {
        time::sleep(20 * SECOND - 2 * MS).await;
        peer.send("x");
        settle().await;
    }
    assert!(heard(&mut peer).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_has_arrived_counts_even_if_nobody_had_the_time_to_read_it() {
    let (_manager, mut server, stream, mut peer) =
        opened(Config::default().data_timeout(Some(40 * SECOND))).await;
    assert!(matches!(peer.recv().await, Some(Frame::Ping(_))));
    peer.send("x");
    time::advance(10 * MINUTE).await; // A runtime that stood still, or a suspended machine.
    settle().await;
    assert!(stream.status().is_open() && !server.has_dial());
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_quiet_after_two_minutes_without_data_and_loud_with_the_next() {
    let (_manager, mut server, stream, peer) = opened(config()).await;
    let quiet = || stream.info().unwrap().quiet;
    settle().await;
    for _ in 0..2 {
        time::sleep(119 * SECOND).await;
        peer.pong();
        assert!(!quiet());
        time::sleep(SECOND).await;
        assert!(quiet());
        peer.send("x");
        settle().await;
        assert!(!quiet());
    }
    time::sleep(3 * MINUTE).await;
    drop(peer);
    settle().await;
    assert!(!quiet(), "a stream that is down is not quiet");
    let _peer = server.accept().await;
    settle().await;
    assert!(!quiet(), "the silence counts from the join");
    time::sleep(2 * MINUTE).await;
    assert!(quiet());
}

#[tokio::test(start_paused = true)]
async fn without_a_data_timeout_a_quiet_stream_stays() {
    let (_manager, mut server, stream, _peer) = opened(config()).await;
    time::sleep(DAY - SECOND).await;
    assert!(stream.status().is_open() && !server.has_dial());
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_data_for_its_timeout_is_reconnected_whatever_else_comes() {
    let (manager, mut server, mut stream, peer) =
        opened(config().data_timeout(Some(30 * SECOND))).await;
    let mut events = manager.events();
    time::sleep(20 * SECOND).await;
    peer.send("x");
    assert_eq!(message(&mut stream).await, "x");
    let silent = Instant::now();
    let closed = tokio::spawn(async move {
        let mut peer = peer;
        loop {
            match time::timeout(7 * SECOND, peer.recv()).await {
                Ok(Some(Frame::Close(Some((1000, _))))) => return silent.elapsed(),
                Ok(other) => panic!("{other:?}"),
                Err(_) => peer.pong(),
            }
        }
    });
    assert_eq!(closed.await.unwrap(), 30 * SECOND);
    let _peer = server.accept().await;
    assert_eq!(reason(&mut stream, &mut events).await, DisconnectReason::DataTimeout);
}

#[tokio::test(start_paused = true)]
async fn a_data_timeout_may_be_one_names_own() {
    let (transport, mut server) = memory::pair();
    crate::status::care_for_lines();
    let manager = WsManager::builder(Direct::new("ws://test/").unwrap())
        .config(config().data_timeout(Some(MINUTE)))
        .stream("fast", |stream| stream.data_timeout = Some(SECOND))
        .stream("never", |stream| stream.data_timeout = None)
        .transport(transport)
        .limiter(Limiter::new())
        .build()
        .unwrap();
    for (name, timeout) in [("fast", SECOND), ("other", MINUTE)] {
        let _stream = manager.subscribe::<Message>(name).unwrap();
        let mut peer = server.accept().await;
        let open = Instant::now();
        peer.closed().await;
        assert_eq!(open.elapsed(), timeout, "{name}");
    }
    let stream = manager.subscribe::<Message>("never").unwrap();
    let _peer = server.accept().await;
    time::sleep(DAY - SECOND).await;
    assert!(stream.status().is_open());
}

#[tokio::test(start_paused = true)]
async fn a_name_without_data_is_joined_again_alone_where_others_share_its_socket() {
    let (transport, mut server) = memory::pair();
    crate::status::care_for_lines();
    let manager = WsManager::builder(Lines::default())
        .config(config())
        .stream("a1", |stream| stream.data_timeout = Some(30 * SECOND))
        .transport(transport)
        .limiter(Limiter::new())
        .build()
        .unwrap();
    let mut a1 = manager.subscribe::<Message>("a1").unwrap();
    let a2 = manager.subscribe::<Message>("a2").unwrap();
    let mut peer = accept(&mut server).await;
    let joined = Instant::now();
    peer.send("a2:x");
    assert_eq!(next_line(&mut peer).await.unwrap(), "-a1");
    assert_eq!(joined.elapsed(), 30 * SECOND - MS);
    assert_eq!(next_line(&mut peer).await.unwrap(), "+a1");
    peer.send_all(["=a1", "a1:y"]);
    let Gap::Reconnected { reason, .. } = gap(&mut a1).await else { panic!() };
    assert_eq!(reason, DisconnectReason::DataTimeout);
    assert_eq!(message(&mut a1).await, "y");
    assert!(a2.status().is_open() && a2.info().unwrap().gaps == 0);
    assert!(!server.has_dial());
}

/// A stream whose socket takes nothing that the client writes, with something to be written.
async fn stalled(config: Config) -> (WsManager, MemoryServer, [Subscription<Message>; 2], Peer) {
    let (manager, mut server) = manager_of(Lines::default(), config);
    let a1 = manager.subscribe("a1").unwrap();
    let peer = accept(&mut server).await;
    peer.stall(true);
    let a2 = manager.subscribe("a2").unwrap();
    settle().await;
    (manager, server, [a1, a2], peer)
}

#[tokio::test(start_paused = true)]
async fn a_stalled_write_stops_no_reading_and_ends_the_socket_at_its_timeout() {
    let (manager, mut server, [mut a1, _a2], mut peer) = stalled(Config::default()).await;
    let mut events = manager.events();
    let stalled = Instant::now();
    for i in 0..9 {
        time::sleep(SECOND).await;
        peer.send(format!("a1:{i}"));
        assert_eq!(message(&mut a1).await, i.to_string());
    }
    peer.closed().await;
    assert_eq!(stalled.elapsed(), 10 * SECOND - MS);
    let _peer = accept(&mut server).await;
    assert_eq!(reason(&mut a1, &mut events).await, DisconnectReason::WriteTimeout);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_goes_on_in_time_costs_nothing() {
    let (manager, mut server, [a1, a2], mut peer) = stalled(config()).await;
    drop(a2);
    for _ in 0..3 {
        time::sleep(9 * SECOND).await;
        peer.stall(false);
        settle().await;
        peer.stall(true);
        let other = manager.subscribe::<Message>("a9").unwrap();
        settle().await;
        drop(other);
        settle().await;
    }
    peer.stall(false);
    time::advance(MINUTE).await; // Late, but it was not the peer that was.
    settle().await;
    assert_eq!(heard(&mut peer).iter().filter(|line| *line == "+a9").count(), 3);
    assert!(a1.status().is_open() && !server.has_dial());
}

#[tokio::test(start_paused = true)]
async fn a_stalled_write_stops_no_heartbeat() {
    let config = Config::default().write_timeout(DAY).join_timeout(DAY);
    let (manager, mut server, [mut a1, _a2], mut peer) = stalled(config).await;
    let mut events = manager.events();
    let stalled = Instant::now();
    peer.closed().await;
    assert_eq!(stalled.elapsed(), 30 * SECOND - 2 * MS);
    let _peer = accept(&mut server).await;
    assert_eq!(reason(&mut a1, &mut events).await, DisconnectReason::HeartbeatTimeout);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_write_stops_no_shutdown() {
    let (manager, _server, _streams, mut peer) = stalled(config()).await;
    let start = Instant::now();
    manager.shutdown().await;
    peer.closed().await;
    assert!(start.elapsed() <= 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn every_loss_has_a_reason_and_the_same_one_wherever_it_is_told() {
    type Lose = fn(Peer) -> Option<Peer>;
    let closed = DisconnectReason::closed(Some(1001), "going away");
    let reset = DisconnectReason::Io(ErrorKind::ConnectionReset);
    let ways: [(DisconnectReason, Lose); 5] = [
        (DisconnectReason::Ended, |_| None),
        (closed, |peer| {
            peer.close(1001, "going away");
            None
        }),
        (reset, |peer| {
            peer.fail(std::io::Error::from(ErrorKind::ConnectionReset).into());
            None
        }),
        (DisconnectReason::HeartbeatTimeout, |peer| {
            peer.stall(true);
            Some(peer)
        }),
        (DisconnectReason::DataTimeout, |peer| {
            peer.ping();
            Some(peer)
        }),
    ];
    for (expected, lose) in ways {
        let timeout = (expected == DisconnectReason::DataTimeout).then_some(25 * SECOND);
        let config = Config::default().data_timeout(timeout).write_timeout(MINUTE);
        let (manager, mut server, mut stream, peer) = opened(config).await;
        let mut events = manager.events();
        settle().await;
        let _lost = lose(peer);
        let _peer = server.accept().await;
        assert_eq!(reason(&mut stream, &mut events).await, expected);
        assert_eq!(manager.metrics().disconnects, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_dial_has_a_reason_too() {
    let (manager, mut server) = manager();
    let events = manager.events();
    let stream = manager.subscribe::<Message>("x").unwrap();
    server.refuse(std::io::Error::from(ErrorKind::ConnectionRefused)).await;
    let _peer = server.accept().await;
    let expected = DisconnectReason::Io(ErrorKind::ConnectionRefused);
    assert_eq!(*stream.info().unwrap().last_error.unwrap().reason(), expected);
    let retrying = events.any(|event| {
        let is_it = matches!(&event, Event::Retrying { error, .. } if *error.reason() == expected);
        std::future::ready(is_it)
    });
    assert!(time::timeout(Duration::from_secs(1), retrying).await.unwrap());
}
