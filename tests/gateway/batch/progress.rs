//! What is told, when, and what ends a batch.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use wsmux::requests::PoolConfig;

use super::judge::{PROMPT, judge};
use super::{Counter, Guests, SECOND, config, posted, settle, slow};
use crate::asker::Desk;

#[tokio::test(start_paused = true)]
async fn the_list_of_what_is_asked_is_there_before_a_backend_that_takes_five_seconds() {
    let counter = Counter::new(slow(5 * SECOND));
    let answer = counter.post(posted(20)).await;
    assert_eq!(answer.status, 200);
    let events = answer.events().await;
    assert!(events[0].0 <= PROMPT, "{:?}", events[0].0);
    assert!(events[1].0 >= 5 * SECOND && events[1].0 < 6 * SECOND, "{:?}", events[1].0);
    assert_eq!(judge(&events), Ok(()));
    assert_eq!(events[1].1["results"][0]["name"], "may/0");
    assert_eq!(counter.heard().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn results_come_in_groups_as_they_end_and_a_summary_counts_them() {
    // Each takes a second longer than the one before, but 3 and 4 end together.
    let desk = Desk::new(|asked, out| {
        let takes = SECOND * asked.body.parse::<u32>().unwrap().min(3);
        match asked.body {
            "2" => out.send_after(takes, asked.socket, format!("-{} no", asked.id)),
            body => out.send_after(takes, asked.socket, asked.reply(&format!("[{body}]"))),
        }
    });
    let counter = Counter::new(desk);
    let events = counter.post(posted(5)).await.events().await;
    assert_eq!(judge(&events), Ok(()));
    let groups: Vec<usize> = events[1..events.len() - 1]
        .iter()
        .map(|(_, event)| event["results"].as_array().unwrap().len())
        .collect();
    assert_eq!(groups, [1, 1, 1, 2], "{events:?}");
    assert_eq!(events[1].1["results"][0]["data"][0], 0, "JSON is JSON");
    let summary = &events.last().unwrap().1;
    assert_eq!([&summary["done"], &summary["failed"], &summary["total"]], [5, 1, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_has_the_rest_cancelled() {
    let counter = Counter::with(
        slow(5 * SECOND),
        PoolConfig::default().fixed_batch(10),
        config(),
        Guests::default(),
    );
    let mut answer = counter.post(posted(40)).await;
    assert!(answer.event().await.is_some());
    tokio::time::sleep(6 * SECOND).await;
    let heard = counter.heard().len();
    assert_eq!((heard, counter.cancelled()), (20, 0), "who stays is served on, read or not");
    drop(answer);
    settle().await;
    assert_eq!(counter.cancelled(), 10, "what was in flight");
    assert_eq!(counter.gateway.stats().batches, 0);
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(counter.heard().len(), heard, "the rest is never asked");
    assert_eq!(counter.pool.stats().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_silent_is_kept_alive() {
    use futures::StreamExt as _;
    let counter = Counter::with(
        slow(20 * SECOND),
        PoolConfig::default(),
        config().keep_alive(15 * SECOND),
        Guests::default(),
    );
    let mut answer = counter.post(posted(1)).await;
    assert!(answer.event().await.is_some());
    assert_eq!(answer.body.next().await.unwrap().unwrap(), ": keep-alive\n\n");
    assert_eq!(answer.asked_at.elapsed(), 15 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn whoever_expires_is_told_so_and_the_rest_is_cancelled() {
    let doors = Guests { expires_in: Some(7 * SECOND), ..Guests::default() };
    let pool = PoolConfig::default().fixed_batch(2);
    let counter = Counter::with(slow(5 * SECOND), pool, config(), doors);
    let events = counter.post(posted(6)).await.events().await;
    let (at, summary) = events.last().unwrap();
    assert_eq!(summary["reason"], "expired");
    assert_eq!((summary["done"].as_u64(), summary["total"].as_u64()), (Some(2), Some(6)));
    assert!(*at >= 7 * SECOND && *at < 8 * SECOND);
    settle().await;
    assert_eq!((counter.heard().len(), counter.cancelled()), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_goes_ends_batches_and_says_so() {
    let counter = Counter::new(slow(5 * SECOND));
    let mut answer = counter.post(posted(3)).await;
    assert!(answer.event().await.is_some());
    settle().await;
    counter.gateway.drain(Duration::ZERO).await;
    let (_, summary) = answer.event().await.unwrap();
    assert_eq!((&summary["type"], &summary["reason"]), (&"summary".into(), &"draining".into()));
    assert!(answer.event().await.is_none());
    settle().await;
    assert_eq!(counter.cancelled(), 3);
    assert_eq!(counter.post(posted(1)).await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn what_may_be_read_no_more_is_not_told_although_it_was_asked() {
    let doors = Guests::default();
    let counter = Counter::with(slow(5 * SECOND), PoolConfig::default(), config(), doors.clone());
    let mut answer = counter.post(posted(1)).await;
    assert!(answer.event().await.is_some());
    doors.rights.revoked.store(1, Ordering::Relaxed);
    let (_, event) = answer.event().await.unwrap();
    assert_eq!(event["results"][0]["error"]["code"], "denied");
    assert!(event["results"][0].get("text").is_none());
}

/// A pool of two places, and answers that are long.
fn narrow() -> Counter {
    let desk = Desk::new(|asked, out| {
        let long = format!("\"{}\"", asked.body.repeat(3000));
        out.send_after(SECOND, asked.socket, asked.reply(&long));
    });
    let pool = PoolConfig::default().connections(1).in_flight(2).fixed_batch(2);
    Counter::with(
        desk,
        pool,
        config().batch_bytes(4096).write_timeout(30 * SECOND),
        Guests::default(),
    )
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_keeps_no_place_of_the_pool_from_others() {
    let counter = narrow();
    let mut stuck = counter.post(posted(9)).await;
    tokio::time::sleep(5 * SECOND).await;
    let heard = counter.heard().len();
    assert!(heard < 9, "no more is begun while so much waits for it: {heard}");
    let start = Instant::now();
    let events = counter.post(posted(1)).await.events().await;
    assert_eq!(judge(&events), Ok(()));
    assert!(start.elapsed() < 2 * SECOND, "{:?}", start.elapsed());
    // It reads after all, and gets everything.
    stuck.asked_at = Instant::now();
    assert_eq!(judge(&stuck.events().await), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_has_its_batch_ended_in_bounded_time() {
    let counter = narrow();
    let stuck = counter.post(posted(9)).await;
    tokio::time::sleep(29 * SECOND).await;
    let heard = counter.heard().len();
    tokio::time::sleep(2 * SECOND).await;
    let events = stuck.events().await;
    assert_ne!(events.last().unwrap().1["type"], "summary", "it is not told that it is complete");
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(counter.heard().len(), heard, "the rest is never asked");
}
