//! How large a group is, against servers that bear more and servers that bear less.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;
use wsmux::requests::{PoolConfig, PoolStats};
use wsmux::test_util::Out;

use super::pool;
use crate::asker::{Asked, Desk};
use crate::{MS, SECOND};

/// What a server makes of being asked by `count` at once: how long it takes, and the share that it
/// refuses.
type Load = fn(usize) -> (Duration, f64);

/// The best it can is with six at once.
fn rises(count: usize) -> (Duration, f64) {
    let load = f64::from(u32::try_from(count).unwrap()) / 6.0;
    ((100 * MS).mul_f64(1.0 + load * load), (load / 10.0).min(0.9))
}

fn bears_all(_: usize) -> (Duration, f64) {
    (200 * MS, 0.0)
}

/// A third of what it is asked is nonsense to it, whenever it comes.
fn refuses_some(_: usize) -> (Duration, f64) {
    (200 * MS, 0.33)
}

/// Takes by each request's arrival as long as it takes with so many; `noise` of it is chance.
fn server(load: Load, noise: f64) -> Desk {
    let (mut ends, mut chance): (Vec<Instant>, u64) = (Vec::new(), 1);
    let mut random = move || {
        chance =
            chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(chance >> 32).unwrap()) / f64::from(u32::MAX)
    };
    Desk::new(move |asked: &Asked<'_>, out: &mut Out| {
        let now = out.now();
        ends.retain(|end| *end > now);
        let (takes, refused) = load(ends.len() + 1);
        let takes = takes.mul_f64(1.0 + noise * (2.0 * random() - 1.0));
        ends.push(now + takes);
        let answer = match random() < refused {
            true => format!("-{} busy", asked.id),
            false => asked.reply("ok"),
        };
        out.send_after(takes, asked.socket, answer);
    })
}

/// Good replies per second of `batches` batches of `count` requests, and what the pool says afterwards.
async fn throughput(
    desk: Desk,
    config: PoolConfig,
    batches: usize,
    count: usize,
) -> (f64, PoolStats) {
    let (_mock, pool) = pool(desk, config);
    let _warm = pool.keep_warm(10).unwrap();
    crate::settle().await;
    let start = Instant::now();
    let mut good = 0_u32;
    for _ in 0..batches {
        let mut batch = pool.batch((0..count).map(|n| n.to_string()));
        while let Some(item) = batch.next().await {
            good += u32::from(item.outcome.is_ok());
        }
    }
    (f64::from(good) / start.elapsed().as_secs_f64(), pool.stats())
}

/// Adaptive throughput over that of groups of 18.
async fn gain(
    load: Load,
    noise: f64,
    config: PoolConfig,
    batches: usize,
    count: usize,
) -> (f64, PoolStats) {
    let fixed = config.clone().fixed_batch(18);
    let (fixed, _) = throughput(server(load, noise), fixed, batches, count).await;
    let (adaptive, stats) = throughput(server(load, noise), config, batches, count).await;
    let figure = adaptive / fixed;
    println!(
        "{batches} × {count}, noise {noise}: {adaptive:.1} against {fixed:.1} a second, × {figure:.2}"
    );
    (figure, stats)
}

#[tokio::test(start_paused = true)]
async fn where_more_at_once_brings_less_a_batch_is_faster_with_smaller_groups() {
    for noise in [0.0, 0.2] {
        for (batches, count) in [(1, 200), (3, 200)] {
            let (gain, stats) = gain(rises, noise, PoolConfig::default(), batches, count).await;
            assert!(gain >= 1.3, "× {gain:.2}");
            assert!(stats.batch_size <= 12, "{stats:?}");
            assert!(stats.batch_connections <= 10 && stats.open <= 10, "{stats:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_more_at_once_costs_nothing_a_batch_is_never_a_tenth_slower() {
    for load in [bears_all as Load, refuses_some] {
        for noise in [0.0, 0.9] {
            for most in [18, 36] {
                for (batches, count) in [(1, 36), (1, 200), (3, 200)] {
                    let config = PoolConfig::default().batch_bounds((1, most));
                    let (gain, _) = gain(load, noise, config, batches, count).await;
                    assert!(gain >= 0.9, "× {gain:.3}, noise {noise}, up to {most}, {count}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_bears_more_is_asked_more_within_the_bounds() {
    let (gain, stats) = gain(bears_all, 0.0, PoolConfig::default(), 1, 1000).await;
    assert!(gain > 1.5, "× {gain:.2}");
    assert_eq!(stats.batch_size, 36);
    let small = PoolConfig::default().connections(2).in_flight(3);
    let (_, stats) = throughput(server(bears_all, 0.0), small, 1, 500).await;
    assert!(stats.batch_size <= 6, "no more than there are places: {stats:?}");
}

/// The check has to notice a pool that does not adapt.
#[tokio::test(start_paused = true)]
async fn groups_that_stay_as_they_are_gain_nothing() {
    let fixed = PoolConfig::default().fixed_batch(18);
    let (gain, stats) = gain(rises, 0.0, fixed, 1, 200).await;
    assert!((0.99..1.01).contains(&gain), "× {gain:.2}");
    assert_eq!(stats.batch_size, 18);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_recovers_is_asked_more_again() {
    let start = Instant::now();
    let mut crowded = 0;
    let desk = Desk::new(move |asked: &Asked<'_>, out: &mut Out| {
        // For the first minute, as one that rises; then it bears all.
        crowded += 1;
        let is_bad = start.elapsed() < 60 * SECOND;
        let takes = if is_bad { (50 * MS) * (crowded % 40) } else { 200 * MS };
        out.send_after(takes, asked.socket, asked.reply("ok"));
    });
    let (_mock, pool) = pool(desk, PoolConfig::default());
    while start.elapsed() < 120 * SECOND {
        pool.batch((0..200).map(|n| n.to_string())).collect::<Vec<_>>().await;
    }
    assert!(pool.stats().batch_size >= 18, "{:?}", pool.stats());
}
