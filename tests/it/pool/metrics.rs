//! What a pool has counted, as text for Prometheus.

use tokio::time;
use wsmux::requests::{CacheConfig, Call, RequestPool};
use wsmux::test_util::{Answers, Mock};
use wsmux::{Limiter, RequestError};

use super::connection;
use crate::asker::{Asker, Desk};
use crate::{MINUTE, SECOND};

fn labelled(desk: Desk, label: &str) -> (Mock<Desk>, RequestPool) {
    let (mock, transport) = Mock::in_memory(desk);
    let label = label.to_owned();
    let pool = RequestPool::builder(Asker::new("ws://test/ws"), "x")
        .connection(connection())
        .manager(|manager| manager.transport(transport).limiter(Limiter::new()).label(label))
        .cache(CacheConfig::default())
        .build()
        .unwrap();
    (mock, pool)
}

/// The value of a series; `None` unless it is there once.
fn value(text: &str, series: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    lines.next().filter(|_| lines.next().is_none())
}

#[tokio::test(start_paused = true)]
async fn the_text_of_a_pool_has_what_its_cache_and_its_requests_came_to() {
    let (mock, pool) = labelled(Desk::echo(), "charts");
    assert_eq!(
        value(&pool.prometheus(), r#"ws_request_cache_hits_total{manager="charts"}"#),
        Some(0)
    );
    let call = || Call::new("a").cached().deadline(SECOND);
    for _ in 0..3 {
        pool.request(call()).await.unwrap();
    }
    time::sleep(10 * MINUTE).await;
    mock.answers(Answers::Never);
    pool.request(call()).await.unwrap(); // An old reply is better than none.
    assert_eq!(pool.request(Call::new("b").deadline(SECOND)).await, Err(RequestError::TimedOut));
    let (text, stats) = (pool.prometheus(), pool.cache_stats().unwrap());
    for (series, count) in [
        ("ws_request_cache_hits_total{manager=\"charts\"}", 2),
        ("ws_request_cache_misses_total{manager=\"charts\"}", 2),
        ("ws_request_cache_stale_total{manager=\"charts\"}", 1),
        ("ws_request_cache_evictions_total{manager=\"charts\"}", 0),
        ("ws_request_cache_entries{manager=\"charts\"}", 1),
        ("ws_request_cache_bytes{manager=\"charts\"}", stats.bytes),
        ("ws_request_pool_requests_total{manager=\"charts\",outcome=\"answered\"}", 1),
        ("ws_request_pool_requests_total{manager=\"charts\",outcome=\"timed_out\"}", 2),
        ("ws_request_pool_connections{manager=\"charts\",state=\"open\"}", 1),
        ("ws_manager_active_connections{manager=\"charts\"}", 1),
    ] {
        assert_eq!(value(&text, series), Some(count), "{series}\n{text}");
    }
    assert!(stats.bytes > 0);
    let own = text.lines().filter(|line| line.starts_with("ws_request_")).count();
    assert_eq!(own, 19, "a fixed number\n{text}");
}

#[tokio::test(start_paused = true)]
async fn pools_of_one_label_are_added_up_and_clones_are_that_pool() {
    let ((_a_mock, a), (_b_mock, b)) = (labelled(Desk::echo(), "x"), labelled(Desk::echo(), "x"));
    for pool in [&a, &b] {
        pool.request(Call::new("a").cached()).await.unwrap();
    }
    let text = wsmux::requests::prometheus([a.manager()], [&a, &b, &a.clone()]);
    for (series, count) in [
        ("ws_request_cache_misses_total{manager=\"x\"}", 2),
        ("ws_request_pool_requests_total{manager=\"x\",outcome=\"answered\"}", 2),
        ("ws_manager_active_connections{manager=\"x\"}", 2),
    ] {
        assert_eq!(value(&text, series), Some(count), "{series}\n{text}");
    }
    // One text behind the other would have each of them twice.
    let twice = a.prometheus() + &b.prometheus();
    assert_eq!(value(&twice, "ws_request_cache_misses_total{manager=\"x\"}"), None);
}

#[tokio::test(start_paused = true)]
async fn a_pool_without_a_cache_shows_none() {
    let (_mock, pool) = super::pool(Desk::echo(), wsmux::requests::PoolConfig::default());
    let text = pool.prometheus();
    assert!(text.contains("ws_request_pool_in_flight{manager=\"default\"} 0"), "{text}");
    assert!(!text.contains("ws_request_cache"), "{text}");
}
