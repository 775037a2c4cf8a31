//! Replies that are kept.

use futures::future::{join, join_all};
use futures::{FutureExt as _, StreamExt as _};
use tokio::time;
use wsmux::requests::{CacheConfig, CacheStats, Call, PoolConfig, RequestPool};
use wsmux::test_util::{Answers, Mock};
use wsmux::{Limiter, RequestError};

use super::{connection, text};
use crate::asker::{Asker, Desk};
use crate::{MINUTE, SECOND, settle};

fn cached(desk: Desk, cache: CacheConfig) -> (Mock<Desk>, RequestPool) {
    let (mock, transport) = Mock::in_memory(desk);
    let pool = RequestPool::builder(Asker::new("ws://test/ws"), "x")
        .connection(connection())
        .manager(|manager| manager.transport(transport).limiter(Limiter::new()).seed(7))
        .cache(cache)
        .build()
        .unwrap();
    (mock, pool)
}

/// Answers each time with another number.
fn counter() -> Desk {
    let mut count = 0;
    Desk::new(move |asked, out| {
        count += 1;
        out.answer(asked.socket, asked.reply(&format!("{} {count}", asked.body)));
    })
}

fn stats(pool: &RequestPool) -> CacheStats {
    pool.cache_stats().unwrap()
}

fn heard(mock: &Mock<Desk>) -> usize {
    mock.tell(|desk, _| desk.heard.len())
}

fn call(body: &str) -> Call {
    Call::new(body).cached()
}

#[tokio::test(start_paused = true)]
async fn a_reply_is_kept_for_five_minutes_by_what_was_asked() {
    let (mock, pool) = cached(counter(), CacheConfig::default());
    assert_eq!(text(pool.request(call("a")).await), "a 1");
    time::sleep(5 * MINUTE - SECOND).await;
    assert_eq!(text(pool.request(call("a")).await), "a 1");
    assert_eq!(text(pool.request(call("b")).await), "b 2");
    assert_eq!(text(pool.request("a").await), "a 3", "who does not say so asks");
    time::sleep(2 * SECOND).await;
    assert_eq!(text(pool.request(call("a")).await), "a 4");
    assert_eq!(heard(&mock), 4);
    let stats = stats(&pool);
    assert_eq!((stats.hits, stats.misses, stats.entries), (1, 3, 2));
    let by_name = Call::new("c").cached_as("a");
    assert_eq!(text(pool.request(by_name).await), "c 5", "a name is not a body");
    assert_eq!(text(pool.request(Call::new("d").cached_as("a")).await), "c 5");
}

#[tokio::test(start_paused = true)]
async fn all_who_ask_the_same_at_once_share_one_request_and_go_on_without_the_first() {
    let (mock, pool) = cached(counter(), CacheConfig::default());
    mock.answers(Answers::After(SECOND));
    let mut first = Box::pin(pool.request(call("a")));
    assert!(first.as_mut().now_or_never().is_none());
    let others = join_all((0..20).map(|_| pool.request(call("a"))));
    let leaving = async {
        settle().await;
        drop(first);
    };
    let (replies, ()) = join(others, leaving).await;
    assert!(replies.into_iter().all(|reply| text(reply) == "a 1"));
    assert_eq!((heard(&mock), stats(&pool).misses, stats(&pool).joined), (1, 1, 20));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_any_more_is_cancelled_and_asked_anew() {
    let (mock, pool) = cached(counter(), CacheConfig::default());
    mock.answers(Answers::Never);
    let mut first = Box::pin(pool.request(call("a")));
    assert!(first.as_mut().now_or_never().is_none());
    settle().await;
    drop(first);
    settle().await;
    assert_eq!(mock.tell(|desk, _| desk.cancelled.len()), 1);
    mock.answers(Answers::AtOnce);
    assert_eq!(text(pool.request(call("a")).await), "a 2");
}

#[tokio::test(start_paused = true)]
async fn who_joins_a_request_has_a_deadline_of_its_own() {
    let (mock, pool) = cached(counter(), CacheConfig::default());
    mock.answers(Answers::After(10 * SECOND));
    let patient = pool.request(call("a"));
    let hurried = pool.request(call("a").deadline(SECOND));
    let (patient, hurried) = join(patient, hurried).await;
    assert_eq!(text(patient), "a 1");
    assert_eq!(hurried, Err(RequestError::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn an_old_reply_is_better_than_none_unless_the_server_said_no() {
    let mut count = 0;
    let desk = Desk::new(move |asked, out| {
        count += 1;
        match count {
            1 => out.send(asked.socket, asked.reply("good")),
            2 => out.drop_socket(asked.socket),
            3 => out.send(asked.socket, format!("-{} gone", asked.id)),
            _ => {}
        }
    });
    let (_mock, pool) = cached(desk, CacheConfig::default());
    assert_eq!(text(pool.request(call("a")).await), "good");
    time::sleep(10 * MINUTE).await;
    assert_eq!(text(pool.request(call("a")).await), "good", "the connection broke");
    assert_eq!(pool.request(call("a")).await, Err(RequestError::Failed("gone".into())));
    assert_eq!(text(pool.request(call("a")).await), "good", "no reply came");
    assert_eq!((stats(&pool).stale, stats(&pool).hits), (2, 0));
    time::sleep(60 * MINUTE).await;
    assert_eq!(pool.request(call("a")).await, Err(RequestError::TimedOut), "too old");
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_weighs_no_more_than_it_may() {
    let large = "x".repeat(10_000);
    let reply = large.clone();
    let desk = Desk::new(move |asked, out| {
        let words = if asked.body == "huge" { reply.repeat(200) } else { reply.clone() };
        out.send(asked.socket, asked.reply(&words));
    });
    let (mock, pool) = cached(desk, CacheConfig::default());
    for n in 0..500 {
        assert_eq!(text(pool.request(call(&n.to_string())).await), large);
        assert!(stats(&pool).bytes <= 1024 * 1024, "{:?}", stats(&pool));
    }
    let kept = stats(&pool);
    assert!((50..=104).contains(&kept.entries), "{kept:?}");
    assert_eq!(kept.entries + kept.evicted, 500);
    assert_eq!(
        text(pool.request(call("huge")).await).len(),
        2_000_000,
        "it is answered all the same"
    );
    assert_eq!(stats(&pool).evicted, kept.evicted, "and not kept");
    assert_eq!(heard(&mock), 501);
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_keeps_nothing_or_is_not_there_fails_no_request() {
    let (_mock, nothing) = cached(counter(), CacheConfig::default().max_bytes(0));
    assert_eq!(text(nothing.request(call("a")).await), "a 1");
    assert_eq!(text(nothing.request(call("a")).await), "a 2");
    let (_mock, none) = super::pool(counter(), PoolConfig::default());
    assert_eq!(text(none.request(call("a")).await), "a 1");
    assert_eq!(text(none.request(call("a")).await), "a 2");
    assert!(none.cache_stats().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_answered_from_the_cache_where_it_can_be() {
    let (mock, pool) = cached(counter(), CacheConfig::default());
    let calls = || (0..50).map(|n| call(&n.to_string()));
    let first: Vec<_> = pool.batch(calls()).collect().await;
    let second: Vec<_> = pool.batch(calls().chain([call("new")])).in_order().collect().await;
    assert!(first.iter().chain(&second).all(|item| item.outcome.is_ok()));
    assert_eq!((heard(&mock), stats(&pool).hits), (51, 50));
}
