//! A snapshot and the updates that follow on it.

mod model;

use std::io;
use std::ops::RangeInclusive;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use futures::channel::{mpsc, oneshot};
use futures::stream::FusedStream as _;
use tokio::time::{self, Instant};
use wsmux::test_util::memory::Peer;
use wsmux::{
    CloseReason, Gap, Resync, ResyncPolicy, Resynced, RetryPolicy, SnapshotError, StreamError,
};

use crate::{MS, SECOND, alive_tasks, config, manager, manager_with, settle};

/// A snapshot is the last number that it contains, and an update a pair of numbers.
type Items = Resync<u64, (u64, u64)>;
type Answer = oneshot::Sender<Result<u64, io::Error>>;

fn numbered() -> ResyncPolicy<u64, (u64, u64)> {
    ResyncPolicy::numbered(|s| *s, |u: &(u64, u64)| u.0..=u.1)
}

/// Where the test sees fetches, and answers them.
struct Rest(mpsc::UnboundedReceiver<Answer>);

impl Rest {
    /// A fetch that waits for an answer. One that was given up is passed over.
    fn asked(&mut self) -> Option<Answer> {
        std::iter::from_fn(|| self.0.try_recv().ok()).find(|answer| !answer.is_canceled())
    }
}

type Fetch = futures::future::BoxFuture<'static, Result<u64, io::Error>>;

fn rest() -> (Rest, impl FnMut() -> Fetch + Send + 'static) {
    let (asks, asked) = mpsc::unbounded();
    let fetch = move || {
        let (answer, answered) = oneshot::channel();
        asks.unbounded_send(answer).expect("the test is there");
        answered.map(|answer| answer.expect("an answer")).boxed()
    };
    (Rest(asked), fetch)
}

fn update(numbers: RangeInclusive<u64>) -> String {
    format!("[{},{}]", numbers.start(), numbers.end())
}

fn send(peer: &Peer, updates: impl IntoIterator<Item = RangeInclusive<u64>>) {
    peer.send_all(updates.into_iter().map(update));
}

/// All that there is to read now, in words.
async fn items(stream: &mut Items) -> Vec<String> {
    let mut items = Vec::new();
    while let Ok(Some(item)) = time::timeout(MS, stream.recv()).await {
        items.push(match item {
            Ok(Resynced::Snapshot(last)) => format!("snapshot {last}"),
            Ok(Resynced::Update((first, last))) => format!("{first}-{last}"),
            Err(StreamError::Gap(Gap::Lagged { missed })) => format!("lagged {missed}"),
            Err(StreamError::Gap(Gap::Reconnected { .. })) => "reconnected".to_owned(),
            Err(StreamError::Gap(Gap::Sequence { missed })) => format!("skipped {missed:?}"),
            Err(StreamError::Closed(reason)) => reason.label().to_owned(),
            Err(StreamError::Decode(_)) => "decode".to_owned(),
            Err(other) => panic!("{other:?}"),
        });
    }
    items
}

/// A stream that is joined, with its first fetch under way.
async fn started(
    policy: ResyncPolicy<u64, (u64, u64)>,
) -> (Items, Rest, Peer, wsmux::test_util::memory::MemoryServer) {
    let (manager, mut server) = manager();
    let (rest, fetch) = rest();
    let mut stream = manager.subscribe("x").unwrap().resync(fetch, policy);
    let peer = server.accept().await;
    assert_eq!(items(&mut stream).await, [""; 0]);
    (stream, rest, peer, server)
}

/// The same, with snapshot 10 taken.
async fn synced() -> (Items, Rest, Peer, wsmux::test_util::memory::MemoryServer) {
    let (mut stream, mut rest, peer, server) = started(numbered()).await;
    rest.asked().expect("a fetch").send(Ok(10)).unwrap();
    assert_eq!(items(&mut stream).await, ["snapshot 10"]);
    // Not within the shortest time between two fetches.
    time::advance(SECOND).await;
    (stream, rest, peer, server)
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_is_asked_for_when_the_stream_is_joined_and_not_before() {
    let (manager, mut server) = manager();
    let (mut rest, fetch) = rest();
    let mut stream = manager.subscribe("x").unwrap().resync(fetch, numbered());
    let dial = server.dial().await;
    assert_eq!(items(&mut stream).await, [""; 0]);
    assert!(rest.asked().is_none(), "nothing comes in yet");
    let _peer = dial.accept();
    assert_eq!(items(&mut stream).await, [""; 0]);
    assert!(rest.asked().is_some());
    assert_eq!((stream.fetches(), stream.is_synced()), (1, false));
}

#[tokio::test(start_paused = true)]
async fn what_comes_during_the_fetch_is_spliced_without_hole_or_repeat() {
    let (mut stream, mut rest, peer, _server) = started(numbered()).await;
    let answer = rest.asked().unwrap();
    send(&peer, [5..=6, 7..=9, 10..=12, 13..=13]);
    assert_eq!(items(&mut stream).await, [""; 0], "nothing before the snapshot");
    answer.send(Ok(10)).unwrap();
    send(&peer, [14..=15]);
    // 10-12 overlaps the snapshot.
    assert_eq!(items(&mut stream).await, ["snapshot 10", "10-12", "13-13", "14-15"]);
    send(&peer, [16..=16]);
    assert_eq!(items(&mut stream).await, ["16-16"]);
    assert!(stream.is_synced() && rest.asked().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_contains_all_that_came_is_followed_by_what_comes() {
    let (mut stream, mut rest, peer, _server) = started(numbered()).await;
    send(&peer, [5..=6, 7..=9]);
    settle().await;
    rest.asked().unwrap().send(Ok(20)).unwrap();
    assert_eq!(items(&mut stream).await, ["snapshot 20"]);
    send(&peer, [10..=18, 19..=20, 21..=22]);
    assert_eq!(items(&mut stream).await, ["21-22"]);
}

#[tokio::test(start_paused = true)]
async fn a_gap_passes_at_once_and_a_new_snapshot_follows() {
    let (mut stream, mut rest, peer, mut server) = synced().await;
    send(&peer, [11..=11]);
    assert_eq!(items(&mut stream).await, ["11-11"]);
    drop(peer);
    settle().await;
    assert_eq!(items(&mut stream).await, [""; 0]);
    assert!(rest.asked().is_none(), "not while the stream is down");
    let peer = server.accept().await;
    assert_eq!(items(&mut stream).await, ["reconnected"]);
    assert!(!stream.is_synced());
    send(&peer, [30..=30]);
    rest.asked().unwrap().send(Ok(29)).unwrap();
    assert_eq!(items(&mut stream).await, ["snapshot 29", "30-30"]);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_a_gap_falls_into_is_void() {
    let (mut stream, mut rest, peer, mut server) = started(numbered()).await;
    let mut answer = rest.asked().unwrap();
    send(&peer, [5..=5]);
    settle().await;
    drop(peer);
    let peer = server.accept().await;
    time::advance(SECOND).await;
    assert_eq!(items(&mut stream).await, ["reconnected"]);
    assert!(answer.is_canceled());
    answer.cancellation().await;
    send(&peer, [9..=9]);
    assert_eq!(items(&mut stream).await, [""; 0]);
    rest.asked().unwrap().send(Ok(4)).unwrap();
    assert_eq!(items(&mut stream).await, [""; 0], "too old, as 5 is forgotten");
    time::advance(SECOND).await;
    assert_eq!(items(&mut stream).await, [""; 0]);
    rest.asked().unwrap().send(Ok(8)).unwrap();
    assert_eq!(items(&mut stream).await, ["snapshot 8", "9-9"]);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_older_than_the_updates_is_fetched_again_and_they_are_kept() {
    let (mut stream, mut rest, peer, _server) = started(numbered()).await;
    send(&peer, [20..=20, 21..=21]);
    settle().await;
    assert_eq!(items(&mut stream).await, [""; 0]);
    rest.asked().unwrap().send(Ok(18)).unwrap();
    assert_eq!(items(&mut stream).await, [""; 0]);
    assert!(matches!(stream.last_error(), Some(SnapshotError::TooOld)));
    assert!(rest.asked().is_none(), "not at once");
    time::advance(SECOND).await;
    assert_eq!(items(&mut stream).await, [""; 0]);
    rest.asked().unwrap().send(Ok(19)).unwrap();
    assert_eq!(items(&mut stream).await, ["snapshot 19", "20-20", "21-21"]);
    assert!(stream.last_error().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_hole_in_the_numbers_is_told_with_its_size_and_mended() {
    let (mut stream, mut rest, peer, _server) = synced().await;
    send(&peer, [11..=12, 15..=16, 17..=17]);
    assert_eq!(items(&mut stream).await, ["11-12", "skipped Some(2)"]);
    let answer = rest.asked().unwrap();
    send(&peer, [18..=18]);
    // Not what was lost, but late.
    send(&peer, [13..=14]);
    assert_eq!(items(&mut stream).await, [""; 0]);
    answer.send(Ok(16)).unwrap();
    let spliced = ["snapshot 16", "17-17", "18-18"];
    assert_eq!(items(&mut stream).await, spliced, "and what came late is old");
}

#[tokio::test(start_paused = true)]
async fn the_update_behind_a_hole_is_needed_where_the_snapshot_ends_before_it() {
    let (mut stream, mut rest, peer, _server) = synced().await;
    send(&peer, [12..=12]);
    assert_eq!(items(&mut stream).await, ["skipped Some(1)"]);
    rest.asked().unwrap().send(Ok(11)).unwrap();
    assert_eq!(items(&mut stream).await, ["snapshot 11", "12-12"]);
}

#[tokio::test(start_paused = true)]
async fn repeats_are_dropped_silently() {
    let (mut stream, mut rest, peer, _server) = synced().await;
    send(&peer, [11..=11, 11..=11, 12..=13, 9..=10, 11..=13, 14..=14]);
    assert_eq!(items(&mut stream).await, ["11-11", "12-13", "14-14"]);
    assert!(rest.asked().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_update_that_cannot_be_read_is_a_hole() {
    let (mut stream, mut rest, peer, _server) = synced().await;
    peer.send("{}");
    send(&peer, [12..=12]);
    assert_eq!(items(&mut stream).await, ["decode"]);
    rest.asked().unwrap().send(Ok(11)).unwrap();
    assert_eq!(items(&mut stream).await, ["snapshot 11", "12-12"]);
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_is_told_and_fetched_anew() {
    let (mut stream, mut rest, peer, _server) = started(numbered().max_held(3)).await;
    let answer = rest.asked().unwrap();
    send(&peer, [1..=1, 2..=2, 3..=3]);
    assert_eq!(items(&mut stream).await, [""; 0]);
    send(&peer, [4..=4]);
    assert_eq!(items(&mut stream).await, ["lagged 4"]);
    assert!(answer.is_canceled());
    assert!(matches!(stream.last_error(), Some(SnapshotError::Overflow { max_held: 3 })));
    assert!(stream.last_error().unwrap().to_string().contains("raise"));
    // Before the next fetch there is no need for more.
    send(&peer, (5..=15).map(|n| n..=n));
    assert_eq!(items(&mut stream).await, [""; 0]);
    time::advance(SECOND).await;
    assert_eq!(items(&mut stream).await, [""; 0]);
    send(&peer, [16..=16]);
    rest.asked().unwrap().send(Ok(14)).unwrap();
    assert_eq!(items(&mut stream).await, ["snapshot 14", "15-15", "16-16"]);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_fails_is_tried_again_with_backoff_and_is_no_item() {
    let (mut stream, mut rest, _peer, _server) = started(numbered()).await;
    let mut answer = rest.asked().expect("a fetch");
    for ceiling in [1, 2, 4, 8, 16, 30, 30].map(Duration::from_secs) {
        let error = io::Error::from(io::ErrorKind::ConnectionRefused);
        answer.send(Err(error)).unwrap();
        let failed = Instant::now();
        answer = loop {
            assert_eq!(items(&mut stream).await, [""; 0]);
            assert_eq!(stream.last_error().unwrap().to_string(), "connection refused");
            if let Some(answer) = rest.asked() {
                break answer;
            }
        };
        let waited = failed.elapsed();
        assert!(waited >= 100 * MS && waited <= ceiling + 3 * MS, "{waited:?} of {ceiling:?}");
    }
    answer.send(Ok(1)).unwrap();
    assert_eq!(items(&mut stream).await, ["snapshot 1"]);
    assert!(stream.last_error().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_hangs_is_given_up_at_its_timeout() {
    let (mut stream, mut rest, _peer, _server) = started(numbered().timeout(3 * SECOND)).await;
    let mut answer = rest.asked().unwrap();
    let begun = Instant::now();
    tokio::select! {
        () = answer.cancellation() => {}
        _ = stream.recv() => panic!("no item"),
    }
    assert!(begun.elapsed() <= 3 * SECOND, "{:?}", begun.elapsed());
    assert!(matches!(stream.last_error(), Some(SnapshotError::TimedOut { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_panics_is_over_and_the_next_one_comes() {
    let (manager, mut server) = manager();
    let mut panics = true;
    let fetch = move || {
        let panics = std::mem::take(&mut panics);
        async move {
            assert!(!panics, "a fetch");
            Ok::<_, io::Error>(10)
        }
    };
    let mut stream = manager.subscribe("x").unwrap().resync(fetch, numbered());
    let peer = server.accept().await;
    assert!(AssertUnwindSafe(items(&mut stream)).catch_unwind().await.is_err());
    send(&peer, [10..=11]);
    settle().await;
    assert_eq!(stream.recv().await.unwrap().unwrap(), Resynced::Snapshot(10));
    assert_eq!(items(&mut stream).await, ["10-11"]);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_gives_up_ends_it_and_says_why() {
    let retry = RetryPolicy { max_attempts: Some(2), ..RetryPolicy::default() };
    let (mut stream, mut rest, _peer, _server) = started(numbered().retry(retry)).await;
    for attempt in 1..=3 {
        rest.asked().expect("a fetch").send(Err(io::Error::other("no"))).unwrap();
        if attempt < 3 {
            assert_eq!(items(&mut stream).await, [""; 0]);
            time::advance(2 * SECOND).await;
            assert_eq!(items(&mut stream).await, [""; 0]);
        }
    }
    let item = stream.recv().await.unwrap().unwrap_err();
    assert!(item.is_terminal());
    assert_eq!(
        item.to_string(),
        "stream closed: no snapshot after 3 failed attempts, the last: no"
    );
    let StreamError::Closed(CloseReason::NoSnapshot { attempts: 3, last }) = item else {
        panic!("{item:?}")
    };
    assert!(matches!(last, SnapshotError::Failed(_)));
    assert!(stream.is_terminated() && stream.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_overflow_that_exhausts_the_policy_is_told_before_the_end() {
    let policy = numbered().max_held(1).retry(RetryPolicy::never());
    let (mut stream, _rest, peer, _server) = started(policy).await;
    send(&peer, [1..=1, 2..=2]);
    assert_eq!(items(&mut stream).await, ["lagged 2", "no_snapshot"]);
    assert!(stream.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_stream_ends_it_also_during_a_fetch() {
    let (manager, mut server) = manager();
    let (mut rest, fetch) = rest();
    let mut stream = manager.subscribe("x").unwrap().resync(fetch, numbered());
    let peer = server.accept().await;
    assert_eq!(items(&mut stream).await, [""; 0]);
    send(&peer, [1..=1]);
    let answer = rest.asked().unwrap();
    settle().await;
    manager.shutdown().await;
    assert_eq!(items(&mut stream).await, ["shutdown"]);
    assert!(answer.is_canceled() && stream.is_terminated());
    assert!(stream.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_lags_is_told_and_gets_a_new_snapshot() {
    let (manager, mut server) = manager_with(config().buffer(2));
    let (mut rest, fetch) = rest();
    let mut stream = manager.subscribe("x").unwrap().resync(fetch, numbered());
    let peer = server.accept().await;
    assert_eq!(items(&mut stream).await, [""; 0]);
    let void = rest.asked().unwrap();
    send(&peer, (1..=5).map(|n| n..=n));
    settle().await;
    time::advance(SECOND).await;
    assert_eq!(items(&mut stream).await, ["lagged 3"]);
    assert!(void.is_canceled());
    rest.asked().unwrap().send(Ok(4)).unwrap();
    assert_eq!(items(&mut stream).await, ["snapshot 4", "5-5"]);
}

#[tokio::test(start_paused = true)]
async fn a_recv_that_is_dropped_loses_neither_the_fetch_nor_an_update() {
    let (mut stream, mut rest, peer, _server) = started(numbered()).await;
    let answer = rest.asked().unwrap();
    for n in 1..=20 {
        send(&peer, [n..=n]);
        let cancelled = time::timeout(MS, stream.recv()).await;
        assert!(cancelled.is_err());
    }
    answer.send(Ok(18)).unwrap();
    assert_eq!(items(&mut stream).await, ["snapshot 18", "19-19", "20-20"]);
    assert_eq!(stream.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn holes_without_end_make_no_hot_loop_of_fetches() {
    let (mut stream, mut rest, peer, _server) = started(numbered()).await;
    let begun = Instant::now();
    let mut number = 10;
    while begun.elapsed() < 10 * SECOND {
        if let Some(answer) = rest.asked() {
            answer.send(Ok(number)).unwrap();
        }
        number += 2;
        send(&peer, [number..=number]);
        while time::timeout(MS, stream.recv()).await.is_ok() {}
    }
    // The shortest time between two fetches is 1 s.
    assert!((9..=11).contains(&stream.fetches()), "{}", stream.fetches());
}

#[tokio::test(start_paused = true)]
async fn a_program_that_finds_its_state_wrong_asks_for_a_new_one() {
    let (mut stream, mut rest, peer, _server) = synced().await;
    send(&peer, [11..=11]);
    settle().await;
    stream.restart();
    assert!(!stream.is_synced());
    assert_eq!(items(&mut stream).await, [""; 0]);
    rest.asked().unwrap().send(Ok(10)).unwrap();
    assert_eq!(items(&mut stream).await, ["snapshot 10", "11-11"]);
}

#[tokio::test(start_paused = true)]
async fn binance_futures_are_chained_by_the_number_of_the_update_before() {
    // The numbers of a recording: `U` never is the last `u` plus one.
    let chain = [
        (600_859_598_061_u64, 600_859_600_917_u64),
        (600_859_600_917, 600_859_602_861),
        (600_859_602_861, 600_859_604_000),
        (600_859_609_000, 600_859_610_000),
    ];
    let policy = ResyncPolicy::chained(|s| *s, |u: &(u64, u64)| u.0, |u: &(u64, u64)| u.1);
    let (mut stream, mut rest, peer, _server) = started(policy).await;
    send(&peer, chain[..3].iter().map(|(pu, u)| *pu..=*u));
    settle().await;
    assert_eq!(items(&mut stream).await, [""; 0]);
    rest.asked().unwrap().send(Ok(600_859_601_000)).unwrap();
    let word = |at: usize| format!("{}-{}", chain[at].0, chain[at].1);
    let spliced = ["snapshot 600859601000".to_owned(), word(1), word(2)];
    assert_eq!(items(&mut stream).await, spliced);
    send(&peer, [chain[3].0..=chain[3].1]);
    assert_eq!(items(&mut stream).await, ["skipped None"]);
}

#[tokio::test(start_paused = true)]
async fn times_only_tell_what_the_snapshot_has() {
    let policy = ResyncPolicy::ordered(|s| *s, |u: &(u64, u64)| u.1);
    let (mut stream, mut rest, peer, _server) = started(policy).await;
    send(&peer, [0..=99, 0..=100, 0..=101, 0..=101]);
    settle().await;
    assert_eq!(items(&mut stream).await, [""; 0]);
    rest.asked().unwrap().send(Ok(100)).unwrap();
    assert_eq!(items(&mut stream).await, ["snapshot 100", "0-101", "0-101"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_beside_the_reader_and_dropping_it_drops_the_fetch() {
    let before = alive_tasks();
    let (stream, mut rest, peer, server) = started(numbered()).await;
    assert_eq!(alive_tasks(), before + 1, "the connection's");
    let answer = rest.asked().unwrap();
    drop(stream);
    assert!(answer.is_canceled());
    drop((peer, server));
    settle().await;
    assert_eq!(alive_tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn gaps_found_by_numbers_are_counted() {
    let (manager, mut server) = manager();
    let (mut rest, fetch) = rest();
    let mut stream = manager.subscribe("x").unwrap().resync(fetch, numbered());
    let peer = server.accept().await;
    assert_eq!(items(&mut stream).await, [""; 0]);
    rest.asked().unwrap().send(Ok(1)).unwrap();
    send(&peer, [3..=3]);
    assert_eq!(items(&mut stream).await, ["snapshot 1", "skipped Some(1)"]);
    assert_eq!(manager.metrics().gaps, 1);
}

#[test]
fn a_resync_is_send_and_unpin_and_can_be_named() {
    fn held<T: Send + Unpin + std::fmt::Debug + 'static>() {}
    held::<Resync<String, (u64, u64)>>();
    // Also of a snapshot that is neither.
    fn unpin<T: Unpin>() {}
    unpin::<Resync<std::marker::PhantomPinned, std::rc::Rc<u8>>>();
}
