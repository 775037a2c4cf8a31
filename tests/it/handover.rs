//! Make before break: another socket takes over, and readers see one stream.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use tokio::time::{self, Instant};
use wsmux::protocol::{Cx, Dial, Direct, Mark, Protocol, Request, Session, To};
use wsmux::test_util::memory::{MemoryServer, Peer};
use wsmux::transport::Frame;
use wsmux::{
    CloseReason, DisconnectReason, Event, Gap, Limits, Message, StreamError, StreamName,
    Subscription, WsManager,
};

use crate::lines::{Lines, accept, confirm, heard};
use crate::{
    DAY, MINUTE, SECOND, alive_tasks, config, end, manager, manager_of, manager_with, settle,
};

/// The values that a reader got, and how many gaps before which of them.
async fn read_to(stream: &mut Subscription<Message>, last: u64) -> (Vec<u64>, Vec<(u64, Gap)>) {
    let (mut values, mut gaps) = (Vec::new(), Vec::new());
    while values.last() != Some(&last) {
        match stream.recv().await {
            Some(Ok(message)) => values.push(message.as_text().unwrap().parse().unwrap()),
            Some(Err(StreamError::Gap(gap))) => gaps.push((values.len() as u64, gap)),
            other => panic!("{other:?}"),
        }
    }
    (values, gaps)
}

fn send(peer: &Peer, numbers: std::ops::Range<u64>) {
    peer.send_all(numbers.map(|n| n.to_string()));
}

fn range(numbers: std::ops::Range<u64>) -> Vec<u64> {
    numbers.collect()
}

/// A stream that has read up to 100, and the two sockets to hand it over between.
async fn between(
    manager: &WsManager,
    server: &mut MemoryServer,
) -> (Subscription<Message>, Peer, Peer) {
    let mut stream = manager.subscribe("x").unwrap();
    let old = server.accept().await;
    send(&old, 0..100);
    assert_eq!(read_to(&mut stream, 99).await.0, range(0..100));
    assert!(manager.reconnect("x"));
    let new = server.accept().await;
    settle().await;
    (stream, old, new)
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_loses_nothing_repeats_nothing_and_tells_nothing() {
    let (manager, mut server) = manager();
    let (mut stream, mut old, new) = between(&manager, &mut server).await;
    let before = stream.info().unwrap().connection;
    send(&old, 100..150);
    send(&new, 110..160);
    let (values, gaps) = read_to(&mut stream, 159).await;
    assert_eq!((values, gaps), (range(100..160), vec![]));
    settle().await;
    old.closed().await;
    assert!(stream.status().is_open());
    assert_ne!(stream.info().unwrap().connection, before);
    assert_eq!(stream.info().unwrap().gaps, 0);
    send(&new, 160..170);
    assert_eq!(read_to(&mut stream, 169).await.1, []);
    drop(stream);
    settle().await;
    assert_eq!(manager.stream_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_rotations_under_load_bring_every_number_once_and_no_gap() {
    let (manager, mut server) = manager();
    let mut stream = manager.subscribe("x").unwrap();
    let mut peers = vec![server.accept().await];
    let (mut sent, mut expected, mut dials) = (0_u64, 0, 0);
    while dials < 1000 {
        settle().await;
        if peers.len() == 1 {
            assert!(manager.reconnect("x"));
            peers.push(server.accept().await);
            dials += 1;
        }
        for _ in 0..3 {
            let batch = sent..sent + 20;
            peers.iter().for_each(|peer| send(peer, batch.clone()));
            sent = batch.end;
            let (values, gaps) = read_to(&mut stream, sent - 1).await;
            assert_eq!((values, gaps), (range(expected..sent), vec![]));
            expected = sent;
        }
        settle().await;
        if peers.len() > 1 && closed(&mut peers[0]) {
            peers.remove(0);
        }
    }
}

/// Whether the client has closed this socket.
fn closed(peer: &mut Peer) -> bool {
    loop {
        match peer.recv().now_or_never() {
            Some(Some(_)) => {}
            Some(None) => return true,
            None => return false,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_is_replaced_in_the_last_fifth_of_its_age() {
    for seed_name in ["x", "y", "z"] {
        let (manager, mut server) = manager_with(config().max_age(Some(DAY)));
        let _stream = manager.subscribe::<Message>(seed_name).unwrap();
        let _old = server.accept().await;
        let start = Instant::now();
        let _new = server.accept().await;
        let age = start.elapsed();
        assert!(age >= DAY * 4 / 5 && age <= DAY, "{age:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_socket_stays_if_the_new_one_is_refused_and_it_is_tried_again() {
    let (manager, mut server) = manager();
    let mut stream = manager.subscribe("x").unwrap();
    let old = server.accept().await;
    settle().await;
    assert!(manager.reconnect("x"));
    server.refuse(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)).await;
    settle().await;
    assert!(stream.status().is_open());
    assert_eq!(stream.info().unwrap().last_error.map(|_| ()), None, "it has lost nothing");
    send(&old, 0..10);
    assert_eq!(read_to(&mut stream, 9).await, (range(0..10), vec![]));
    let new = server.accept().await;
    settle().await;
    send(&old, 10..60);
    send(&new, 10..60);
    assert_eq!(read_to(&mut stream, 59).await, (range(10..60), vec![]));
}

#[tokio::test(start_paused = true)]
async fn an_old_socket_that_is_lost_meanwhile_leaves_the_stream_to_the_new_one() {
    let (manager, mut server) = manager();
    let (mut stream, old, new) = between(&manager, &mut server).await;
    send(&new, 105..120);
    settle().await;
    drop(old);
    let (values, gaps) = read_to(&mut stream, 119).await;
    assert_eq!(values, range(105..120));
    let reason = DisconnectReason::Ended;
    assert_eq!(gaps, [(0, Gap::Reconnected { down_for: Duration::ZERO, reason })]);
    settle().await;
    assert!(!server.has_dial(), "nobody dials for a stream that has a socket");
    assert!(stream.status().is_open());
}

#[tokio::test(start_paused = true)]
async fn a_new_socket_that_is_lost_meanwhile_costs_nothing() {
    let (manager, mut server) = manager();
    let (mut stream, old, new) = between(&manager, &mut server).await;
    send(&new, 100..110);
    settle().await;
    drop(new);
    send(&old, 100..130);
    assert_eq!(read_to(&mut stream, 129).await, (range(100..130), vec![]));
    assert!(stream.status().is_open());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_aligned_in_time_comes_after_a_gap() {
    let (manager, mut server) = manager();
    let (mut stream, _old, new) = between(&manager, &mut server).await;
    let start = Instant::now();
    send(&new, 500..510);
    let (values, gaps) = read_to(&mut stream, 509).await;
    assert_eq!(values, range(500..510));
    let reason = DisconnectReason::Rotated;
    assert_eq!(gaps, [(0, Gap::Reconnected { down_for: Duration::ZERO, reason })]);
    assert!(start.elapsed() <= config().handover_timeout);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_goes_over_without_a_word() {
    let (manager, mut server) = manager();
    let (mut stream, mut old, new) = between(&manager, &mut server).await;
    let start = Instant::now();
    let pings = answers(&mut old).await;
    assert!(start.elapsed() <= config().handover_timeout);
    assert_eq!(pings, 1, "one answer is enough where nothing comes");
    send(&new, 100..101);
    assert_eq!(read_to(&mut stream, 100).await, (vec![100], vec![]));
}

/// Answers each ping until the client closes the socket, and says how many there were.
async fn answers(peer: &mut Peer) -> usize {
    let mut pings = 0;
    while let Some(frame) = peer.recv().await {
        if let Frame::Ping(payload) = frame {
            peer.answer(payload);
            pings += 1;
        }
    }
    pings
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_whose_old_socket_may_be_dead_goes_over_with_a_gap() {
    let (manager, mut server) = manager();
    let (mut stream, mut old, new) = between(&manager, &mut server).await;
    let mut pings = 0;
    while let Some(frame) = old.recv().await {
        if matches!(frame, Frame::Ping(_)) {
            old.pong(); // It lives, but this answers none of those.
            pings += 1;
        }
    }
    assert!(pings > 10, "{pings}");
    send(&new, 101..102);
    let reason = DisconnectReason::Rotated;
    let told = vec![(0, Gap::Reconnected { down_for: Duration::ZERO, reason })];
    assert_eq!(read_to(&mut stream, 101).await, (vec![101], told));
}

#[tokio::test(start_paused = true)]
async fn a_busy_handover_pings_nobody() {
    let (manager, mut server) = manager();
    let (mut stream, mut old, new) = between(&manager, &mut server).await;
    time::sleep(SECOND / 4).await;
    send(&old, 100..150);
    send(&new, 110..160);
    assert_eq!(read_to(&mut stream, 159).await.1, []);
    while let Some(frame) = old.recv().await {
        assert!(!matches!(frame, Frame::Ping(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_socket_needs_no_place_below_the_limit() {
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let (manager, mut server) = manager_with(config().limits(limits));
    for _ in 0..3 {
        let (stream, mut old, new) = between(&manager, &mut server).await;
        old.closed().await;
        assert!(manager.subscribe::<Message>("y").is_err(), "the limit holds");
        drop((stream, new));
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_left_meanwhile_leaves_no_socket_and_no_task() {
    let before = alive_tasks();
    let (manager, mut server) = manager();
    let (stream, mut old, mut new) = between(&manager, &mut server).await;
    drop(stream);
    old.closed().await;
    new.closed().await;
    drop(manager);
    settle().await;
    assert_eq!(alive_tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_meanwhile_closes_both() {
    let (manager, mut server) = manager();
    let (mut stream, mut old, mut new) = between(&manager, &mut server).await;
    let (_, (), ()) = tokio::join!(manager.shutdown(), old.closed(), new.closed());
    assert!(matches!(end(&mut stream).await, CloseReason::Shutdown));
    assert!(!manager.reconnect("x"));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_handed_over_too_and_a_reader_that_joins_meanwhile_misses_nothing() {
    let (manager, mut server) = manager();
    let _lease = manager.keep_warm("x").unwrap();
    let old = server.accept().await;
    settle().await;
    assert!(manager.reconnect("x"));
    let new = server.accept().await;
    settle().await;
    send(&old, 0..20);
    send(&new, 0..10);
    settle().await;
    let mut stream = manager.subscribe("x").unwrap();
    send(&old, 20..60);
    send(&new, 10..70);
    assert_eq!(read_to(&mut stream, 69).await, (range(20..70), vec![]));
}

#[tokio::test(start_paused = true)]
async fn what_a_program_sends_goes_to_the_socket_that_has_the_stream() {
    let (manager, mut server) = manager();
    let (mut stream, mut old, mut new) = between(&manager, &mut server).await;
    send(&new, 100..110);
    manager.send("x", "one").await.unwrap();
    assert_eq!(old.recv().await, Some(Frame::Data("one".into())));
    send(&old, 100..140);
    send(&new, 110..140);
    assert_eq!(read_to(&mut stream, 139).await.1, []);
    settle().await;
    manager.send("x", "two").await.unwrap();
    assert_eq!(new.recv().await, Some(Frame::Data("two".into())));
}

#[tokio::test(start_paused = true)]
async fn all_names_of_a_socket_go_over_and_each_by_itself() {
    let (manager, mut server) = manager_of(Lines::default(), config());
    let names = ["a1", "a2", "a3"];
    let mut streams = names.map(|name| manager.subscribe::<Message>(name).unwrap());
    let mut old = accept(&mut server).await;
    assert!(manager.reconnect("a2"));
    let mut new = accept(&mut server).await;
    for name in names {
        for n in 0..50 {
            old.send(format!("{name}:{n}"));
        }
    }
    for name in ["a1", "a3"] {
        for n in 5..60 {
            new.send(format!("{name}:{n}"));
        }
    }
    settle().await;
    assert_eq!(heard(&mut old), ["-a1", "-a3"], "two have gone over");
    let connections = streams.iter().map(|stream| stream.info().unwrap().connection);
    let connections: Vec<_> = connections.collect();
    assert!(connections[0] == connections[2] && connections[0] != connections[1]);
    for n in 5..60 {
        new.send(format!("a2:{n}"));
    }
    for stream in &mut streams {
        assert_eq!(read_to(stream, 59).await, (range(0..60), vec![]));
    }
    settle().await;
    assert!(closed(&mut old));
    assert!(heard(&mut new).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_name_that_the_new_socket_refuses_stays_on_the_old_one() {
    let (manager, mut server) = manager_of(Lines::default(), config());
    let mut streams = ["a1", "a2"].map(|name| manager.subscribe::<Message>(name).unwrap());
    let old = accept(&mut server).await;
    assert!(manager.reconnect("a1"));
    let mut new = server.accept().await;
    settle().await;
    assert_eq!(heard(&mut new), ["+a1 a2"]);
    new.send_all(["=a1", "!a2 no"]);
    settle().await;
    for n in 0..50 {
        old.send(format!("a1:{n}"));
        old.send(format!("a2:{n}"));
        new.send(format!("a1:{n}"));
    }
    for stream in &mut streams {
        assert_eq!(read_to(stream, 49).await, (range(0..50), vec![]));
    }
    assert!(streams.iter().all(|stream| stream.status().is_open()));
}

#[tokio::test(start_paused = true)]
async fn a_new_name_goes_to_the_new_socket() {
    let (manager, mut server) = manager_of(Lines::default(), config());
    let _first = manager.subscribe::<Message>("a1").unwrap();
    let mut old = accept(&mut server).await;
    assert!(manager.reconnect("a1"));
    let mut new = accept(&mut server).await;
    let _second = manager.subscribe::<Message>("a2").unwrap();
    assert_eq!(confirm(&mut new).await, ["+a2"]);
    assert!(heard(&mut old).is_empty());
}

/// One socket for all names; messages are numbers, and `bye` says that the server goes in a minute.
struct Numbered;

struct NumberedSession;

impl Protocol for Numbered {
    fn lane(&self, name: &StreamName) -> Result<wsmux::protocol::Lane, wsmux::InvalidName> {
        Direct::new("ws://test").unwrap().lane(name)
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, wsmux::protocol::DialError> {
        Direct::new("ws://test").unwrap().request(dial)
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        Box::new(NumberedSession)
    }
}

impl Session for NumberedSession {
    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        names.iter().for_each(|name| cx.joined(name.as_str()));
    }

    fn leave(&mut self, _: &[StreamName], _: &mut Cx<'_>) {}

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        match message.as_text() {
            Some("bye") => cx.reconnect(MINUTE),
            Some(text) => {
                let seq = text.parse().unwrap();
                cx.data_marked(To::All, message.clone(), Mark::default().seq(seq));
            }
            None => cx.unroutable(message),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_it_goes_is_left_in_time_and_numbers_align_at_once() {
    let (manager, mut server) = manager_of(Numbered, config());
    let mut events = manager.events();
    let mut stream = manager.subscribe("x").unwrap();
    let mut old = server.accept().await;
    send(&old, 0..5);
    old.send("bye");
    let start = Instant::now();
    let new = server.accept().await;
    assert!(start.elapsed() <= MINUTE / 2);
    settle().await;
    send(&old, 5..8);
    send(&new, 7..9);
    assert_eq!(read_to(&mut stream, 8).await, (range(0..9), vec![]));
    old.closed().await;
    let moved = events.by_ref().filter(|event| {
        let moved = matches!(event, Event::StreamMoved { aligned: true, .. });
        std::future::ready(moved)
    });
    assert!(time::timeout(SECOND, std::pin::pin!(moved).next()).await.unwrap().is_some());
}
