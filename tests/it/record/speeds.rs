//! How time passes in a replay.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use wsmux::record::{Recorder, RecorderOptions, Replay};
use wsmux::{Message, Stamped, StreamError, Subscription, Text};

use super::{Got, Scratch, all, paused, replaying, subscribed};
use crate::{MS, SECOND, config, manager, settle};

/// A day of two streams: `x` every 2 ms, a burst of 50 `y` every 100 ms. A second of it.
async fn day() -> Scratch {
    let (manager, mut server) = manager();
    let file = Scratch::new();
    let recorder = Recorder::create(file.path(), RecorderOptions::default()).await.unwrap();
    for name in ["x", "y"] {
        recorder.record(subscribed::<Text>(&manager, name)).unwrap();
    }
    let mut peers = [server.accept().await, server.accept().await];
    peers.sort_by_key(|peer| peer.request().url().path().to_owned());
    for n in 0..500 {
        peers[0].send(n.to_string());
        if n % 50 == 0 {
            peers[1].send_all((n..n + 50).map(|n| n.to_string()));
        }
        sleep(2 * MS).await;
    }
    recorder.finish().await.unwrap();
    file
}

fn numbers() -> Vec<Got> {
    let mut all: Vec<_> = (0..500).map(|n| Got::Message(n.to_string().into())).collect();
    all.push(Got::Closed("end".into()));
    all
}

/// When each message came, since the first.
async fn times(mut stream: Subscription<Stamped<Message>>) -> Vec<Duration> {
    let mut times = Vec::new();
    while let Some(Ok(message)) = stream.recv().await {
        times.push(message.received_at);
    }
    times.iter().map(|at| at.duration_since(times[0])).collect()
}

#[tokio::test(start_paused = true)]
async fn messages_come_as_far_apart_as_they_were_recorded_or_n_times_nearer() {
    let file = day().await;
    for (speed, apart) in [(1.0, 2 * MS), (2.0, MS), (0.5, 4 * MS)] {
        let manager = replaying(Replay::open(file.path()).unwrap().speed(speed), config());
        let expected: Vec<_> = (0..500).map(|n| n * apart).collect();
        let times = times(subscribed(&manager, "x")).await;
        assert_eq!(times.len(), 500);
        let off = times.iter().zip(&expected).map(|(at, expected)| at.abs_diff(*expected)).max();
        assert!(off.unwrap() <= MS, "{speed}: {off:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_a_lossless_replay_loses_nothing_whatever_its_buffer() {
    let file = day().await;
    for buffer in [1, 2, 1024] {
        for busy in [Duration::ZERO, MS, 7 * MS] {
            let replay = Replay::open(file.path()).unwrap().lossless();
            let manager = replaying(replay, config().buffer(buffer));
            let quick = ["x", "y"].map(|name| tokio::spawn(all(subscribed(&manager, name))));
            let mut slow = subscribed::<Message>(&manager, "y");
            let mut items = Vec::new();
            while let Some(item) = slow.recv().await {
                items.push(super::got(item));
                for _ in 0..20 {
                    yield_now().await; // It has something to do, which takes no time,
                }
                if !busy.is_zero() {
                    sleep(busy).await; // or which does.
                }
            }
            assert!(items == numbers(), "{buffer} {busy:?}");
            for quick in quick {
                assert!(quick.await.unwrap() == numbers(), "{buffer} {busy:?}");
            }
            assert_eq!(manager.metrics().lagged, 0);
        }
    }
}

/// What the test above must be able to tell.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_any_other_replay_lags_as_it_would_live() {
    let file = day().await;
    let manager = replaying(Replay::open(file.path()).unwrap(), config().buffer(2));
    let mut slow = subscribed::<Message>(&manager, "x");
    let (mut messages, mut missed) = (0, 0);
    while let Some(item) = slow.recv().await {
        match item {
            Ok(_) => messages += 1,
            Err(StreamError::Gap(wsmux::Gap::Lagged { missed: more })) => missed += more,
            Err(_) => {}
        }
        sleep(7 * MS).await;
    }
    assert!(missed > 100, "{missed}");
    assert_eq!(messages + missed, 500);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_keeps_up_does_not_lag_however_fast_it_is_played() {
    let file = day().await;
    // A burst of 50 for 8 places has the grace that a kernel's buffer gives.
    for (speed, buffer) in [(1.0, 8), (10.0, 32), (100.0, 64)] {
        let replay = Replay::open(file.path()).unwrap().speed(speed);
        let manager = replaying(replay, config().buffer(buffer));
        let readers = ["x", "y"].map(|name| all(subscribed(&manager, name)));
        assert!(join_all(readers).await == [numbers(), numbers()], "{speed}");
    }
}

#[test]
fn two_runs_as_fast_as_possible_are_the_same_in_items_order_and_times() {
    let run = |file: &Scratch| {
        paused(async {
            let start = Instant::now();
            let replay = Replay::open(file.path()).unwrap().lossless();
            let manager = replaying(replay, config().buffer(3));
            let log = Arc::new(Mutex::new(Vec::new()));
            let readers = [("x", 0), ("y", 3), ("y", 0), ("x", 5)].map(|(name, busy)| {
                let (log, mut stream) = (Arc::clone(&log), subscribed::<Message>(&manager, name));
                tokio::spawn(async move {
                    while let Some(item) = stream.recv().await {
                        let line = (name, busy, start.elapsed(), super::got(item));
                        log.lock().unwrap().push(line);
                        if busy > 0 {
                            sleep(busy * MS).await;
                        }
                    }
                })
            });
            join_all(readers).await;
            Arc::into_inner(log).unwrap().into_inner().unwrap()
        })
    };
    let file = paused(day());
    let first = run(&file);
    assert_eq!(first.len(), 4 * 501);
    for _ in 0..3 {
        assert!(run(&file) == first);
    }
}

#[tokio::test(start_paused = true)]
async fn an_hour_takes_no_time_and_a_subscription_nobody_reads_stops_nothing() {
    let file = day().await;
    let replay = Replay::open(file.path()).unwrap().lossless();
    let manager = replaying(replay, config().buffer(1));
    let _forgotten = subscribed::<Message>(&manager, "y");
    assert!(all(subscribed(&manager, "x")).await == numbers());
}

#[tokio::test(start_paused = true)]
async fn who_comes_late_gets_what_comes_later_and_what_nobody_reads_passes() {
    let file = day().await;
    let manager = replaying(Replay::open(file.path()).unwrap(), config());
    let mut first = subscribed::<Message>(&manager, "x");
    assert_eq!(crate::message(&mut first).await, "0");
    sleep(350 * MS).await;
    let mut late = subscribed::<Message>(&manager, "y");
    assert_eq!(crate::message(&mut late).await, "200", "the next burst");
    drop((first, late));
    sleep(201 * MS).await;
    let mut again = subscribed::<Message>(&manager, "y");
    assert_eq!(crate::message(&mut again).await, "350");
    sleep(SECOND).await;
    let rest = all(again).await;
    assert_eq!(rest.len(), 150, "{:?}", rest.first());
    // The recording is over, and stays so.
    assert_eq!(all(subscribed(&manager, "x")).await, [Got::Closed("end".into())]);
    settle().await;
}
