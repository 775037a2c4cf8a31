//! Several names on a socket: sharing, joining, leaving, and failing alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures::{FutureExt as _, StreamExt as _};
use tokio::time::{self, Instant};
use wsmux::test_util::memory::{MemoryServer, Peer};
use wsmux::{
    CloseReason, Config, DisconnectReason, Gap, Limits, Message, RetryPolicy, Status, StreamError,
    SubscribeError, Subscription, WsManager,
};

use crate::lines::{Lines, accept, confirm, heard, next_line};
use crate::{MINUTE, MS, SECOND, config, end, gap, manager_of, message, settle};

const HOUR: time::Duration = time::Duration::from_secs(3600);

fn lines() -> (WsManager, MemoryServer) {
    manager_of(Lines::default(), config())
}

fn lines_with(config: Config) -> (WsManager, MemoryServer) {
    manager_of(Lines::default(), config)
}

fn subscribe(manager: &WsManager, name: &str) -> Subscription<Message> {
    manager.subscribe(name).unwrap()
}

/// Streams of these names, all of them joined on one socket.
async fn joined<const N: usize>(
    manager: &WsManager,
    server: &mut MemoryServer,
    names: [&str; N],
) -> ([Subscription<Message>; N], Peer) {
    let streams = names.map(|name| subscribe(manager, name));
    let peer = accept(server).await;
    assert!(streams.iter().all(|stream| stream.status().is_open()));
    (streams, peer)
}

/// What has come for this reader and was not read.
fn items(stream: &mut Subscription<Message>) -> Vec<String> {
    let items = std::iter::from_fn(|| stream.next().now_or_never().flatten());
    let text = |item| match item {
        Ok(Message::Text(text)) => text.as_str().to_owned(),
        Err(StreamError::Gap(Gap::Reconnected { .. })) => "(reconnected)".to_owned(),
        Err(StreamError::Gap(Gap::Sequence { missed })) => format!("({missed:?} missed)"),
        other => panic!("{other:?}"),
    };
    items.map(text).collect()
}

fn last_error(stream: &Subscription<Message>) -> DisconnectReason {
    stream.info().unwrap().last_error.unwrap().reason().clone()
}

#[tokio::test(start_paused = true)]
async fn names_of_one_lane_share_a_socket_and_each_gets_its_own_messages() {
    let (manager, mut server) = lines();
    let [mut a1, mut a2] = ["a1", "a2"].map(|name| subscribe(&manager, name));
    let mut peer = server.accept().await;
    settle().await;
    assert_eq!(heard(&mut peer), ["+a1 a2"]);
    assert!(matches!(a1.status(), Status::Joining));
    peer.send_all(["=a1", "a1:one"]);
    settle().await;
    assert!(a1.status().is_open());
    assert!(matches!(a2.status(), Status::Joining), "each is confirmed by itself");
    peer.send_all(["=a2", "a2:two", "*:both"]);
    settle().await;
    assert_eq!(items(&mut a1), ["one", "both"]);
    assert_eq!(items(&mut a2), ["two", "both"]);
    assert!(!server.has_dial());
    assert_eq!(manager.metrics().unroutable, 0);
    let connections: BTreeSet<_> = manager.streams().iter().map(|info| info.connection).collect();
    assert_eq!(connections.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_socket_is_followed_by_another_and_a_name_given_up_makes_room() {
    let (manager, mut server) = lines();
    let ([_a1, a2, _a3], mut first) = joined(&manager, &mut server, ["a1", "a2", "a3"]).await;
    let _a4 = subscribe(&manager, "a4");
    let mut second = server.accept().await;
    assert_eq!(confirm(&mut second).await, ["+a4"]);
    assert!(heard(&mut first).is_empty());

    drop(a2);
    settle().await;
    assert_eq!(heard(&mut first), ["-a2"]);
    let _a5 = subscribe(&manager, "a5");
    assert_eq!(confirm(&mut first).await, ["+a5"]);
    assert!(!server.has_dial() && heard(&mut second).is_empty());
}

#[tokio::test(start_paused = true)]
async fn lanes_never_share_a_socket() {
    let (manager, mut server) = lines();
    let _streams = ["a1", "b1", "a2", "b2"].map(|name| subscribe(&manager, name));
    let mut said = BTreeSet::new();
    for _ in 0..2 {
        let mut peer = server.accept().await;
        let path = peer.request().url().path().to_owned();
        said.insert((path, confirm(&mut peer).await.join(" ")));
        std::mem::forget(peer);
    }
    let expected = [("/a", "+a1 a2"), ("/b", "+b1 b2")];
    assert_eq!(said, expected.map(|(path, line)| (path.to_owned(), line.to_owned())).into());
    assert!(!server.has_dial());
}

#[tokio::test(start_paused = true)]
async fn a_socket_closes_with_its_last_name_and_the_others_live() {
    let (manager, mut server) = lines();
    let ([a1, a2, _a3], mut first) = joined(&manager, &mut server, ["a1", "a2", "a3"]).await;
    let ([a4], mut second) = joined(&manager, &mut server, ["a4"]).await;
    let left = Instant::now();
    drop(a4);
    second.closed().await;
    assert_eq!(left.elapsed(), std::time::Duration::ZERO);
    drop((a1, a2));
    time::sleep(MINUTE).await;
    let said = heard(&mut first).join("");
    assert!(["-a1 a2", "-a1-a2", "-a2-a1"].contains(&&*said), "it has a name left: {said}");
    assert_eq!(manager.stream_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_names_take_as_few_sockets_as_can_be() {
    let (manager, mut server) = lines();
    let streams: Vec<_> = (0..1000).map(|i| subscribe(&manager, &format!("a{i}"))).collect();
    let mut peers = Vec::new();
    for _ in 0..334 {
        peers.push(server.accept().await);
    }
    settle().await;
    assert!(!server.has_dial());
    let asked: Vec<_> = peers.iter_mut().flat_map(heard).collect();
    let names: BTreeSet<_> = asked.iter().flat_map(|line| line[1..].split(' ')).collect();
    assert_eq!((asked.len(), names.len()), (334, 1000));
    drop(streams);
    for mut peer in peers {
        peer.closed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn joins_and_leaves_are_said_in_batches() {
    let (manager, mut server) = manager_of(Lines { batch: Some(2), ..Lines::default() }, config());
    let ([a1, a2, a3], mut peer) = {
        let streams = ["a1", "a2", "a3"].map(|name| subscribe(&manager, name));
        let mut peer = server.accept().await;
        let said = confirm(&mut peer).await;
        assert_eq!(said.iter().map(String::len).collect::<Vec<_>>(), [6, 3], "{said:?}");
        (streams, peer)
    };
    let _b1 = subscribe(&manager, "a4"); // Elsewhere: this socket is full.
    drop((a1, a2));
    let a5 = subscribe(&manager, "a5");
    settle().await;
    let mut said = heard(&mut peer);
    said.sort();
    assert_eq!(said, ["+a5", "-a1 a2"]);
    drop((a3, a5));
    peer.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_is_left_before_another_takes_its_place() {
    let (manager, mut server) = lines();
    let ([a1, _a2, _a3], mut peer) = joined(&manager, &mut server, ["a1", "a2", "a3"]).await;
    drop(a1);
    let _a4 = subscribe(&manager, "a4");
    settle().await;
    assert_eq!(heard(&mut peer), ["-a1", "+a4"], "the socket never carries four");
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_asks_for_exactly_what_is_wanted_by_then() {
    let (manager, mut server) = lines();
    let ([a1, mut a2], peer) = joined(&manager, &mut server, ["a1", "a2"]).await;
    drop(peer);
    settle().await;
    drop(a1);
    let mut a3 = subscribe(&manager, "a3");
    let a4 = subscribe(&manager, "a4");
    drop(a4);
    let mut peer = server.accept().await;
    assert_eq!(confirm(&mut peer).await, ["+a2 a3"]);
    peer.send("*:x");
    settle().await;
    assert_eq!(items(&mut a2), ["(reconnected)", "x"]);
    assert_eq!(items(&mut a3), ["x"], "it was not there before");
    assert_eq!(last_error(&a2), DisconnectReason::Ended);
    assert_eq!(a2.info().unwrap().gaps, 1);
}

#[tokio::test(start_paused = true)]
async fn names_left_and_wanted_while_the_dial_is_under_way_are_asked_for_once() {
    let (manager, mut server) = lines();
    let a1 = subscribe(&manager, "a1");
    let dial = server.dial().await;
    let _a2 = subscribe(&manager, "a2");
    settle().await;
    drop(a1);
    let mut peer = dial.accept();
    assert_eq!(confirm(&mut peer).await, ["+a2"]);
}

#[tokio::test(start_paused = true)]
async fn names_that_the_url_joins_are_not_asked_for_and_left_if_not_wanted_any_more() {
    let protocol = Lines { joining: true, ..Lines::default() };
    let (manager, mut server) = manager_of(protocol, config());
    let a1 = subscribe(&manager, "a1");
    let mut a2 = subscribe(&manager, "a2");
    settle().await;
    let dial = server.dial().await;
    assert_eq!(dial.request().joins().len(), 2);
    drop(a1);
    let a3 = subscribe(&manager, "a3");
    settle().await;
    let mut peer = dial.accept();
    settle().await;
    assert_eq!(heard(&mut peer), ["-a1", "+a3"]);
    peer.send_all(["a1:nobody", "a2:x"]);
    assert_eq!(message(&mut a2).await, "x");
    assert!(matches!(a3.status(), Status::Joining));
    assert_eq!(manager.metrics().unroutable, 1);
}

#[tokio::test(start_paused = true)]
async fn a_name_left_and_wanted_again_before_the_server_heard_of_it_goes_on() {
    let (manager, mut server) = lines();
    let ([a1, _a2], mut peer) = joined(&manager, &mut server, ["a1", "a2"]).await;
    peer.send("a1:old");
    settle().await;
    drop(a1);
    let mut again = subscribe(&manager, "a1");
    settle().await;
    assert!(heard(&mut peer).is_empty());
    assert!(again.status().is_open());
    peer.send("a1:new");
    settle().await;
    assert_eq!(items(&mut again), ["new"]);
    drop(peer);
    let peer = accept(&mut server).await;
    peer.send("a1:newer");
    settle().await;
    assert_eq!(items(&mut again), ["(reconnected)", "newer"]);
}

#[tokio::test(start_paused = true)]
async fn a_name_left_and_wanted_again_before_it_is_confirmed_is_asked_for_once() {
    let (manager, mut server) = lines();
    let a1 = subscribe(&manager, "a1");
    let _a2 = subscribe(&manager, "a2");
    let mut peer = server.accept().await;
    settle().await;
    drop(a1);
    let mut again = subscribe(&manager, "a1");
    settle().await;
    assert_eq!(heard(&mut peer), ["+a1 a2"]);
    peer.send_all(["=a1", "a1:x"]);
    assert_eq!(message(&mut again).await, "x");
}

#[tokio::test(start_paused = true)]
async fn a_name_left_and_wanted_again_later_is_joined_anew() {
    let (manager, mut server) = lines();
    let ([a1, _a2], mut peer) = joined(&manager, &mut server, ["a1", "a2"]).await;
    drop(a1);
    settle().await;
    peer.send("a1:late");
    let mut again = subscribe(&manager, "a1");
    settle().await;
    assert_eq!(heard(&mut peer), ["-a1", "+a1"]);
    peer.send_all(["a1:early", "=a1", "a1:x"]);
    settle().await;
    assert_eq!(items(&mut again), ["x"]);
    assert_eq!(manager.metrics().unroutable, 2);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_name_ends_alone_and_may_be_asked_for_again() {
    let (manager, mut server) = lines();
    let mut bad = subscribe(&manager, "a1");
    let mut good = subscribe(&manager, "a2");
    let mut peer = server.accept().await;
    settle().await;
    heard(&mut peer);
    peer.send_all(["=a2", "!a1 no such thing", "a2:x"]);
    let CloseReason::Rejected { reason } = end(&mut bad).await else { panic!() };
    assert_eq!(reason.as_str(), "no such thing");
    assert_eq!(message(&mut good).await, "x");
    assert_eq!(manager.stream_count(), 1);

    let asked = Instant::now();
    let mut again = subscribe(&manager, "a1");
    assert_eq!(next_line(&mut peer).await.unwrap(), "+a1");
    assert!(asked.elapsed() >= 99 * MS, "not at once: {:?}", asked.elapsed());
    peer.send_all(["=a1", "a1:y"]);
    assert_eq!(message(&mut again).await, "y");
    settle().await;
    assert!(items(&mut good).is_empty() && heard(&mut peer).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_joined_name_can_be_rejected_after_its_last_message() {
    let (manager, mut server) = lines();
    let ([mut a1, _a2], mut peer) = joined(&manager, &mut server, ["a1", "a2"]).await;
    peer.send_all(["a1:last", "!a1 delisted", "a1:lost"]);
    assert_eq!(message(&mut a1).await, "last");
    assert!(matches!(end(&mut a1).await, CloseReason::Rejected { .. }));
    assert!(heard(&mut peer).is_empty(), "the server knows");
    assert_eq!(manager.metrics().unroutable, 1);
}

/// How often a program that subscribes to `a1` again and again has it joined in ten minutes, where
/// the server answers each join with `answer`.
async fn joins_in_ten_minutes(config: Config, neighbour: bool, answer: &'static str) -> usize {
    let (manager, mut server) = lines_with(config);
    let neighbour = neighbour.then(|| subscribe(&manager, "a2"));
    let joins = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&joins);
    let serving = tokio::spawn(async move {
        loop {
            let mut peer = server.accept().await;
            while let Some(line) = next_line(&mut peer).await {
                if line.starts_with('+') && line.contains("a2") {
                    peer.send("=a2");
                }
                if line.starts_with('+') && line.contains("a1") {
                    peer.send(answer);
                    counted.fetch_add(1, Relaxed);
                }
            }
        }
    });
    let looping = async {
        // Bounded, as a hot loop would stop the clock.
        while joins.load(Relaxed) < 1000 {
            let mut stream = subscribe(&manager, "a1");
            while let Some(item) = stream.next().await {
                assert!(item.is_err());
            }
        }
    };
    let _ = time::timeout(10 * MINUTE, looping).await;
    assert!(neighbour.is_none_or(|neighbour| neighbour.status().is_open()));
    serving.abort();
    joins.load(Relaxed)
}

#[tokio::test(start_paused = true)]
async fn a_loop_over_a_rejected_name_asks_at_a_bounded_rate() {
    for neighbour in [true, false] {
        let joins = joins_in_ten_minutes(config(), neighbour, "!a1 no").await;
        assert!((20..40).contains(&joins), "{joins} joins, neighbour: {neighbour}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_loop_over_a_name_that_is_given_up_asks_at_a_bounded_rate() {
    for neighbour in [true, false] {
        let config = config().retry(RetryPolicy::never());
        let joins = joins_in_ten_minutes(config, neighbour, "#a1").await;
        assert!((20..40).contains(&joins), "{joins} joins, neighbour: {neighbour}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejected_name_waits_out_its_penalty_over_a_reconnect() {
    let (manager, mut server) = lines();
    let ([_a2], mut peer) = joined(&manager, &mut server, ["a2"]).await;
    let mut wait = std::time::Duration::ZERO;
    for _ in 0..9 {
        let mut a1 = subscribe(&manager, "a1");
        let asked = Instant::now();
        while !heard(&mut peer).iter().any(|line| line == "+a1") {
            time::sleep(10 * MS).await;
        }
        wait = asked.elapsed();
        peer.send("!a1 no");
        end(&mut a1).await;
    }
    assert!(wait > 10 * SECOND, "{wait:?}");
    let _a1 = subscribe(&manager, "a1");
    let wanted = Instant::now();
    settle().await;
    drop(peer);
    let mut peer = server.accept().await;
    assert_eq!(confirm(&mut peer).await, ["+a2"]);
    assert_eq!(next_line(&mut peer).await.unwrap(), "+a1");
    assert!(wanted.elapsed() > 20 * SECOND, "{:?}", wanted.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_name_that_the_server_ends_is_joined_again_with_a_gap_for_it_alone() {
    let (manager, mut server) = lines();
    let ([mut a1, mut a2], mut peer) = joined(&manager, &mut server, ["a1", "a2"]).await;
    peer.send_all(["*:1", "#a1", "*:2"]);
    settle().await;
    let Status::BackingOff { delay, error, .. } = a1.status() else { panic!() };
    assert_eq!(*error.reason(), DisconnectReason::StreamEnded);
    assert!(delay >= 100 * MS);
    assert!(heard(&mut peer).is_empty(), "not at once");
    time::sleep(delay).await;
    assert_eq!(confirm(&mut peer).await, ["+a1"]);
    peer.send("*:3");
    assert_eq!(message(&mut a1).await, "1");
    let Gap::Reconnected { down_for, reason } = gap(&mut a1).await else { panic!() };
    assert_eq!(reason, DisconnectReason::StreamEnded);
    assert!(down_for >= delay && down_for < delay + 5 * MS, "{down_for:?}, {delay:?}");
    assert_eq!(message(&mut a1).await, "3");
    assert_eq!(items(&mut a2), ["1", "2", "3"]);
    assert_eq!(last_error(&a1), DisconnectReason::StreamEnded);
    assert!(a2.info().unwrap().last_error.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_name_that_the_server_ends_again_and_again_is_given_up_alone() {
    let (manager, mut server) = lines();
    let ([mut a1, a2], mut peer) = joined(&manager, &mut server, ["a1", "a2"]).await;
    peer.send("#a1");
    for _ in 0..10 {
        assert_eq!(next_line(&mut peer).await.unwrap(), "+a1");
        peer.send_all(["=a1", "#a1"]);
    }
    let reason = loop {
        match a1.next().await.unwrap().unwrap_err() {
            StreamError::Closed(reason) => break reason,
            notice => assert!(matches!(notice, StreamError::Gap(_))),
        }
    };
    assert!(matches!(reason, CloseReason::RetriesExhausted { attempts: 11, .. }), "{reason:?}");
    assert!(a2.status().is_open());
    assert_eq!(manager.stream_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_the_server_ends_once_an_hour_is_never_given_up() {
    let (manager, mut server) = lines();
    let ([mut a1, _a2], mut peer) = joined(&manager, &mut server, ["a1", "a2"]).await;
    for turn in 0..30 {
        time::sleep(HOUR).await;
        peer.send_all(["a1:x", "#a1"]);
        settle().await;
        let Status::BackingOff { delay, .. } = a1.status() else { panic!("turn {turn}") };
        assert!(delay <= SECOND, "it was fine for an hour: {delay:?}");
        time::sleep(delay).await;
        assert_eq!(confirm(&mut peer).await, ["+a1"]);
        assert_eq!(items(&mut a1), ["x", "(reconnected)"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_never_confirmed_is_tried_again_alone() {
    let (manager, mut server) = lines();
    let ([mut a2], mut peer) = joined(&manager, &mut server, ["a2"]).await;
    let mut a1 = subscribe(&manager, "a1");
    settle().await;
    assert_eq!(heard(&mut peer), ["+a1"]);
    time::sleep(10 * SECOND - 2 * MS).await;
    assert!(heard(&mut peer).is_empty());
    peer.send("*:1");
    time::sleep(2 * MS).await;
    assert_eq!(heard(&mut peer), ["-a1"]);
    assert_eq!(last_error(&a1), DisconnectReason::JoinTimeout);
    let Status::BackingOff { delay, attempt: 2, .. } = a1.status() else { panic!() };
    time::sleep(delay).await;
    assert_eq!(confirm(&mut peer).await, ["+a1"]);
    peer.send("*:2");
    settle().await;
    assert_eq!(items(&mut a1), ["2"], "it never was joined, so nothing is missing");
    assert_eq!(items(&mut a2), ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_confirmation_that_comes_after_the_join_was_taken_back_is_not_one() {
    let (manager, mut server) = lines();
    let ([_a2], mut peer) = joined(&manager, &mut server, ["a2"]).await;
    let a1 = subscribe(&manager, "a1");
    settle().await;
    while heard(&mut peer).last().is_none_or(|line| line != "-a1") {
        time::sleep(MS).await;
    }
    peer.send("=a1"); // It crosses the leave.
    settle().await;
    assert!(!a1.status().is_open(), "the server is about to stop it");
    time::sleep(2 * SECOND).await;
    assert_eq!(confirm(&mut peer).await, ["+a1"]);
    assert!(a1.status().is_open());
}

#[tokio::test(start_paused = true)]
async fn a_confirmation_that_comes_after_the_name_was_left_is_not_one() {
    let (manager, mut server) = lines();
    let ([_a2], mut peer) = joined(&manager, &mut server, ["a2"]).await;
    let a1 = subscribe(&manager, "a1");
    settle().await;
    drop(a1);
    settle().await;
    assert_eq!(heard(&mut peer), ["+a1", "-a1"]);
    peer.send_all(["=a1", "a1:x"]);
    settle().await;
    assert_eq!(manager.stream_count(), 1);
    assert_eq!(manager.metrics().unroutable, 1);
}

#[tokio::test(start_paused = true)]
async fn a_socket_on_which_nothing_is_confirmed_is_replaced() {
    let (manager, mut server) = lines();
    let streams = ["a1", "a2"].map(|name| subscribe(&manager, name));
    let mut peer = server.accept().await;
    let opened = Instant::now();
    peer.closed().await;
    assert_eq!(opened.elapsed(), 10 * SECOND);
    settle().await;
    for stream in &streams {
        assert_eq!(last_error(stream), DisconnectReason::JoinTimeout);
    }
    let _peer = accept(&mut server).await;
    assert!(streams.iter().all(|stream| stream.status().is_open()));
}

#[tokio::test(start_paused = true)]
async fn joins_wait_until_the_session_is_ready() {
    let (manager, mut server) = manager_of(Lines { greeting: true, ..Lines::default() }, config());
    let a1 = subscribe(&manager, "a1");
    let mut peer = server.accept().await;
    time::sleep(5 * SECOND).await;
    let _a2 = subscribe(&manager, "a2");
    settle().await;
    assert_eq!(heard(&mut peer), ["hello"]);
    assert!(matches!(a1.status(), Status::Joining));
    peer.send("ready");
    assert_eq!(confirm(&mut peer).await, ["+a1 a2"]);
    assert!(a1.status().is_open());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_never_ready_loses_its_socket_at_the_join_deadline() {
    let (manager, mut server) = manager_of(Lines { greeting: true, ..Lines::default() }, config());
    let a1 = subscribe(&manager, "a1");
    let mut peer = server.accept().await;
    let opened = Instant::now();
    peer.send("=a1"); // Speaking is not being ready.
    settle().await;
    peer.closed().await;
    assert_eq!(opened.elapsed(), 10 * SECOND);
    settle().await;
    assert_eq!(last_error(&a1), DisconnectReason::JoinTimeout);
}

#[tokio::test(start_paused = true)]
async fn data_for_a_name_that_is_not_joined_reaches_nobody_and_is_counted() {
    let (manager, mut server) = lines();
    let mut a1 = subscribe(&manager, "a1");
    let peer = server.accept().await;
    peer.send_all(["a1:early", "*:early", "a9:unknown", "nonsense"]);
    settle().await;
    assert_eq!(manager.metrics().unroutable, 4);
    peer.send_all(["=a1", "a1:x"]);
    settle().await;
    assert_eq!(items(&mut a1), ["x"]);
    let metrics = manager.metrics();
    assert_eq!((metrics.unroutable, metrics.messages), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_one_read_keeps_its_order() {
    let (manager, mut server) = lines();
    let ([mut a1, mut a2], peer) = joined(&manager, &mut server, ["a1", "a2"]).await;
    drop(peer);
    let peer = server.accept().await;
    settle().await;
    peer.send_all(["a1:0", "=a1", "a1:1", "~a1 3", "a1:2", "=a2", "*:3", "~* ?", "*:4"]);
    settle().await;
    let after = ["3", "(None missed)", "4"];
    let before = ["(reconnected)", "1", "(Some(3) missed)", "2"];
    assert_eq!(items(&mut a1), [&before[..], &after[..]].concat());
    assert_eq!(items(&mut a2), [&before[..1], &after[..]].concat());
    assert_eq!(manager.metrics().unroutable, 1);
}

#[tokio::test(start_paused = true)]
async fn a_gap_of_the_feed_is_for_readers_that_were_there() {
    let (manager, mut server) = lines();
    let ([mut a1, mut a2], peer) = joined(&manager, &mut server, ["a1", "a2"]).await;
    let mut other = subscribe(&manager, "a1");
    peer.send_all(["~a1 1", "~a9 1", "~a2 2"]);
    settle().await;
    let mut late = subscribe(&manager, "a1");
    peer.send("*:x");
    settle().await;
    assert_eq!(items(&mut a1), ["(Some(1) missed)", "x"]);
    assert_eq!(items(&mut other), ["(Some(1) missed)", "x"]);
    assert_eq!(items(&mut a2), ["(Some(2) missed)", "x"]);
    assert_eq!(items(&mut late), ["x"]);
    assert_eq!(manager.metrics().gaps, 2);
}

#[tokio::test(start_paused = true)]
async fn a_sessions_deadline_comes_to_the_millisecond() {
    let (manager, mut server) = lines();
    let (_streams, mut peer) = joined(&manager, &mut server, ["a1"]).await;
    for wait in [500, 20] {
        peer.send("@90000");
        settle().await;
        let asked = Instant::now();
        peer.send(format!("@{wait}")); // Earlier than the one before.
        assert_eq!(next_line(&mut peer).await.unwrap(), "tick");
        assert_eq!(asked.elapsed(), wait * MS);
    }
    time::sleep(5 * MINUTE).await;
    assert!(heard(&mut peer).is_empty(), "once each");
}

#[tokio::test(start_paused = true)]
async fn a_session_gives_its_socket_up_and_says_what_follows() {
    for (said, wait) in [("%retry enough", 100 * MS), ("%after enough", 7 * SECOND)] {
        let (manager, mut server) = lines();
        let ([mut a1], mut peer) = joined(&manager, &mut server, ["a1"]).await;
        peer.send_all(["a1:1", said, "a1:lost"]);
        let lost = Instant::now();
        peer.closed().await;
        assert_eq!(lost.elapsed(), std::time::Duration::ZERO);
        let peer = accept(&mut server).await;
        assert!(lost.elapsed() >= wait, "{said}: {:?}", lost.elapsed());
        peer.send("a1:2");
        settle().await;
        assert_eq!(items(&mut a1), ["1", "(reconnected)", "2"]);
        let error = a1.info().unwrap().last_error.unwrap();
        assert_eq!(*error.reason(), DisconnectReason::Protocol);
        assert!(format!("{error:?}").contains("enough"), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_its_streams_for_good() {
    for said in ["%fatal enough", "%token enough"] {
        let (manager, mut server) = lines();
        let ([mut a1, mut a2], peer) = joined(&manager, &mut server, ["a1", "a2"]).await;
        peer.send_all(["a1:1", said]);
        assert_eq!(message(&mut a1).await, "1");
        for stream in [&mut a1, &mut a2] {
            let error = match end(stream).await {
                CloseReason::Fatal(error) if said.starts_with("%fatal") => error,
                CloseReason::Unauthorized(error) if said.starts_with("%token") => error,
                other => panic!("{said}: {other:?}"),
            };
            assert_eq!(*error.reason(), DisconnectReason::Protocol);
        }
        time::sleep(MINUTE).await;
        assert!(!server.has_dial());
    }
}

#[tokio::test(start_paused = true)]
async fn a_loop_over_a_name_that_is_rejected_on_each_dial_dials_at_a_bounded_rate() {
    let (manager, mut server) = manager_of(Lines { joining: true, ..Lines::default() }, config());
    let dials = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&dials);
    let serving = tokio::spawn(async move {
        loop {
            let mut peer = server.accept().await;
            counted.fetch_add(1, Relaxed);
            peer.send("!a1 no");
            peer.closed().await;
        }
    });
    let looping = async {
        while dials.load(Relaxed) < 1000 {
            let mut stream = subscribe(&manager, "a1");
            while stream.next().await.is_some() {}
        }
    };
    let _ = time::timeout(10 * MINUTE, looping).await;
    serving.abort();
    let dials = dials.load(Relaxed);
    assert!((20..40).contains(&dials), "{dials} dials");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_accepts_and_never_confirms_is_given_up() {
    let (manager, mut server) = lines();
    let mut stream = subscribe(&manager, "a1");
    let serving = tokio::spawn(async move {
        let mut peers = Vec::new();
        loop {
            peers.push(server.accept().await);
        }
    });
    let reason = end(&mut stream).await;
    serving.abort();
    assert!(matches!(reason, CloseReason::RetriesExhausted { attempts: 11, .. }), "{reason:?}");
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_a_socket_whose_names_are_all_idle_is_given_up_with_all_of_them() {
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let (manager, mut server) = lines_with(config().linger(10 * MINUTE).limits(limits));
    let (a1, a2) = (subscribe(&manager, "a1"), subscribe(&manager, "a2"));
    let mut peer = server.accept().await;
    drop(a1);
    let refused = manager.subscribe::<Message>("b1").map(drop);
    assert_eq!(refused, Err(SubscribeError::ConnectionLimit { max: 1 }), "a2 is read");
    drop(a2);
    let _b1 = subscribe(&manager, "b1");
    peer.closed().await;
    server.accept().await;
    assert_eq!(manager.stream_count(), 1);
}
