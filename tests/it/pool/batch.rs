//! Many requests at once: what is in flight, what is told, and in which order.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use tokio::time::{self, Instant};
use wsmux::requests::{BatchItem, Call, PoolConfig};
use wsmux::test_util::{Answers, Mock};
use wsmux::{RequestError, SendError};

use super::{loads, pool};
use crate::asker::Desk;
use crate::{MS, SECOND, settle};

fn calls(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| n.to_string())
}

fn heard(mock: &Mock<Desk>) -> usize {
    mock.tell(|desk, _| desk.heard.len())
}

fn words(item: &BatchItem) -> &str {
    item.outcome.as_ref().unwrap().message().and_then(|message| message.as_text()).unwrap()
}

/// Answers number `n` after `n` times 10 ms, but number 0 after the others.
fn late_first() -> Desk {
    Desk::new(|asked, out| {
        let delay = match asked.body.parse::<u32>().unwrap() {
            0 => 5 * SECOND,
            n => 10 * MS * n,
        };
        out.send_after(delay, asked.socket, asked.reply(asked.body));
    })
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_a_group_in_flight_and_tells_how_far_it_is() {
    let (mock, pool) = pool(Desk::echo(), PoolConfig::default().fixed_batch(18));
    let _warm = pool.keep_warm(10).unwrap();
    settle().await;
    mock.answers(Answers::After(SECOND));
    let start = Instant::now();
    let mut batch = pool.batch(calls(100));
    assert!(batch.next().now_or_never().is_none());
    settle().await;
    assert_eq!((heard(&mock), pool.stats().in_flight), (18, 18));
    let mut seen = Vec::new();
    while let Some(item) = batch.next().await {
        seen.push(item.index);
        assert_eq!(words(&item), item.index.to_string(), "each reply is that of its request");
        assert_eq!((item.progress.done, item.progress.failed), (seen.len(), 0));
        assert_eq!(item.progress.total, 100);
        assert!(pool.stats().in_flight <= 18);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<_>>(), "each once");
    assert!(start.elapsed() < 6 * SECOND + 100 * MS, "{:?}", start.elapsed());
    assert_eq!(loads(&mock).len(), 10, "all connections have a share");
    assert!(futures::stream::FusedStream::is_terminated(&batch));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_held_begins_no_more_and_goes_on_with_what_is_in_flight() {
    let (mock, pool) = pool(Desk::echo(), PoolConfig::default().fixed_batch(3));
    mock.answers(Answers::After(SECOND));
    let mut batch = pool.batch(calls(10));
    assert!(batch.next().now_or_never().is_none());
    batch.hold();
    for done in 1..=3 {
        assert_eq!(batch.next().await.unwrap().progress.done, done);
    }
    assert!(time::timeout(60 * SECOND, batch.next()).await.is_err(), "it is not over");
    assert_eq!((heard(&mock), pool.stats().in_flight), (3, 0), "and no place is kept");
    batch.go_on();
    assert_eq!(batch.by_ref().count().await, 7);
    batch.hold();
    assert!(batch.next().await.is_none(), "one that is over is over");
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_its_own_affair_and_is_counted() {
    let desk = Desk::new(|asked, out| match asked.body.parse::<u32>().unwrap() % 10 {
        3 => out.send(asked.socket, format!("-{} bad", asked.id)),
        7 => {} // Never.
        _ => out.send(asked.socket, asked.reply("ok")),
    });
    let (_mock, pool) = pool(desk, PoolConfig::default());
    let calls = calls(50).map(|body| Call::new(body).deadline(SECOND));
    let items: Vec<_> = pool.batch(calls).collect().await;
    assert_eq!(items.last().unwrap().progress, {
        let mut progress = items[0].progress;
        (progress.done, progress.failed, progress.total) = (50, 10, 50);
        progress
    });
    for item in &items {
        match item.index % 10 {
            3 => assert_eq!(item.outcome, Err(RequestError::Failed("bad".into()))),
            7 => assert_eq!(item.outcome, Err(RequestError::TimedOut)),
            _ => assert_eq!(words(item), "ok"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_costs_the_batch_only_what_may_not_be_made_again() {
    let breaks = || {
        let mut count = 0;
        Desk::new(move |asked, out| {
            count += 1;
            match count {
                20 => out.drop_socket(asked.socket),
                _ => out.send_after(SECOND, asked.socket, asked.reply("ok")),
            }
        })
    };
    let (_mock, careful) = pool(breaks(), PoolConfig::default());
    let items: Vec<_> = careful.batch(calls(60)).collect().await;
    let failed = items.iter().filter(|item| item.outcome.is_err()).count();
    assert!((1..=10).contains(&failed), "{failed}: those of one connection");
    assert!(items.iter().all(|item| match &item.outcome {
        Ok(_) => true,
        Err(e) => *e == RequestError::Unknown,
    }));
    let (_mock, again) = pool(breaks(), PoolConfig::default());
    let items: Vec<_> = again.batch(calls(60).map(|b| Call::new(b).idempotent())).collect().await;
    assert!(items.iter().all(|item| item.outcome.is_ok()));
    assert!(again.stats().resent > 0);
}

#[tokio::test(start_paused = true)]
async fn results_come_as_they_end_or_in_the_order_of_the_requests() {
    let (_mock, pool) = pool(late_first(), PoolConfig::default());
    let indices = |items: Vec<BatchItem>| items.iter().map(|item| item.index).collect::<Vec<_>>();
    let as_they_end = indices(pool.batch(calls(6)).collect().await);
    assert_eq!(as_they_end, [1, 2, 3, 4, 5, 0]);
    let in_order = indices(pool.batch(calls(6)).in_order().collect().await);
    assert_eq!(in_order, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn in_order_no_more_is_begun_than_may_wait_for_the_one_that_is_late() {
    let (mock, pool) = pool(late_first(), PoolConfig::default().fixed_batch(5));
    let mut batch = pool.batch(calls(100)).in_order();
    assert!(time::timeout(4 * SECOND, batch.next()).await.is_err());
    assert!((20..=25).contains(&heard(&mock)), "{}", heard(&mock));
    let indices: Vec<_> = batch.map(|item| item.index).collect().await;
    assert_eq!(indices, (0..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_dropped_cancels_what_is_in_flight_and_begins_no_more() {
    let (mock, pool) = pool(Desk::echo(), PoolConfig::default().fixed_batch(5));
    mock.answers(Answers::Never);
    let mut batch = pool.batch(calls(100));
    assert!(time::timeout(SECOND, batch.next()).await.is_err());
    drop(batch);
    time::sleep(SECOND).await;
    assert_eq!(mock.tell(|desk, _| (desk.heard.len(), desk.cancelled.len())), (5, 5));
    assert_eq!((pool.stats().in_flight, pool.stats().waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_empty_batch_ends_at_once_and_one_without_a_server_ends_too() {
    let (_mock, empty) = pool(Desk::echo(), PoolConfig::default());
    assert!(empty.batch(calls(0)).next().await.is_none());
    let (transport, _server) = wsmux::test_util::memory::pair();
    let pool = super::pool_of(transport, PoolConfig::default(), super::connection());
    let calls = calls(40).map(|body| Call::new(body).deadline(SECOND));
    let items: Vec<_> = pool.batch(calls).collect().await;
    assert_eq!(items.len(), 40);
    let expired = Err(RequestError::NotSent(SendError::Expired));
    assert!(items.iter().all(|item| item.outcome == expired));
}

#[tokio::test(start_paused = true)]
async fn requests_beside_a_batch_have_their_turn() {
    let (mock, pool) = pool(Desk::echo(), PoolConfig::default().connections(2).in_flight(9));
    mock.answers(Answers::After(SECOND));
    let batch = pool.batch(calls(90)).collect::<Vec<_>>();
    let beside = async {
        settle().await;
        let start = Instant::now();
        pool.request("beside").await.unwrap();
        start.elapsed()
    };
    let (items, waited) = futures::future::join(batch, beside).await;
    assert_eq!(items.len(), 90);
    assert!(waited < Duration::from_millis(2100), "behind one group, not behind all: {waited:?}");
}
