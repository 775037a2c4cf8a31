//! Requests whose connection fails before they were written.

use futures::future::join;
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::{self, Instant};
use wsmux::requests::{Call, PoolConfig, RequestPool};
use wsmux::test_util::{Answers, Mock};
use wsmux::{RequestError, RetryPolicy};

use super::{connection, pool_of, text};
use crate::asker::Desk;
use crate::{MINUTE, MS, SECOND, settle};

/// A pool whose connections never give up.
fn pool(desk: Desk, config: PoolConfig) -> (Mock<Desk>, RequestPool) {
    let (mock, transport) = Mock::in_memory(desk);
    (mock, pool_of(transport, config, connection().retry(RetryPolicy::forever())))
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_connection_fails_goes_to_another_that_has_room() {
    let (mock, pool) = pool(Desk::echo(), PoolConfig::default().connections(2).in_flight(1));
    mock.answers(Answers::After(3 * SECOND));
    pool.request("open").await.unwrap();
    mock.refuse_next([503; 1000]);
    let start = Instant::now();
    let (first, second) = join(pool.request("a"), pool.request("b")).await;
    assert_eq!((text(first), text(second)), ("a".into(), "b".into()));
    // `b` began as soon as `a` had ended, however long its own connection still had to wait.
    assert!(start.elapsed() < 6 * SECOND + 10 * MS, "{:?}", start.elapsed());
    let stats = pool.stats();
    assert_eq!((stats.moved, stats.answered, stats.in_flight), (1, 3, 0));
    assert_eq!(mock.opened(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_asks_for_parts_goes_elsewhere_too() {
    let (mock, pool) = pool(Desk::echo(), PoolConfig::default().connections(2).in_flight(1));
    pool.request("open").await.unwrap();
    mock.answers(Answers::Never);
    mock.refuse_next([503; 1000]);
    let mut holds = Box::pin(pool.request("a"));
    assert!(holds.as_mut().now_or_never().is_none());
    settle().await;
    mock.answers(Answers::AtOnce);
    let mut parts = pool.request_parts("b");
    assert!(time::timeout(SECOND, parts.next()).await.is_err(), "no connection has room");
    drop(holds);
    assert_eq!(time::timeout(10 * MS, parts.next()).await, Ok(Some(Ok("b".into()))));
    assert_eq!(parts.next().await, None);
    assert_eq!(mock.tell(|desk, _| desk.heard.len()), 3);
}

#[tokio::test(start_paused = true)]
async fn several_that_have_to_move_take_the_room_that_there_is_and_no_more() {
    let config = PoolConfig::default().connections(2).in_flight(3).fill(3);
    let (mock, pool) = pool(Desk::echo(), config);
    pool.request("open").await.unwrap();
    mock.answers(Answers::After(SECOND));
    mock.refuse_next([503; 1000]);
    let asked = (0..6).map(|n| pool.request(Call::new(format!("{n}")).deadline(10 * SECOND)));
    let start = Instant::now();
    let (replies, ()) = join(futures::future::join_all(asked), async {
        time::sleep(500 * MS).await;
        assert_eq!(mock.tell(|desk, _| desk.heard.len()), 4, "one before, and three at a time");
        assert_eq!(pool.stats().in_flight, 6);
    })
    .await;
    assert!(replies.into_iter().all(|reply| reply.is_ok()));
    assert!(start.elapsed() < 2 * SECOND + 10 * MS, "{:?}", start.elapsed());
    assert_eq!(pool.stats().moved, 3);
}

#[tokio::test(start_paused = true)]
async fn where_no_other_is_open_it_waits_for_its_own() {
    let (mock, pool) = pool(Desk::echo(), PoolConfig::default().connections(2));
    mock.refuse_next([503; 2]);
    assert_eq!(text(pool.request("a").await), "a");
    assert_eq!((pool.stats().moved, mock.opened()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_connection_has_given_up_waits_for_room_on_another_until_its_deadline() {
    let (mock, transport) = Mock::in_memory(Desk::echo());
    let config = PoolConfig::default().connections(2).in_flight(1);
    let pool = pool_of(transport, config, connection());
    pool.request("open").await.unwrap();
    mock.answers(Answers::After(20 * SECOND));
    mock.refuse_next([503; 1000]);
    let long = |body: &'static str| pool.request(Call::new(body).deadline(MINUTE));
    let start = Instant::now();
    let (first, second) = join(long("a"), long("b")).await;
    assert_eq!((text(first), text(second)), ("a".into(), "b".into()));
    // Its own connection had given up long before `a` had ended.
    assert!(start.elapsed() < 40 * SECOND + 10 * MS, "{:?}", start.elapsed());
    let mut parts = pool.request_parts(Call::new("d").deadline(MINUTE));
    let (held, part) = join(long("c"), parts.next()).await;
    assert_eq!((text(held), part), ("c".into(), Some(Ok("d".into()))));
    let stats = pool.stats();
    assert_eq!((stats.moved, stats.answered, stats.in_flight, mock.opened()), (2, 4, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn one_that_finds_no_room_by_its_deadline_says_why_it_had_no_connection() {
    let (mock, transport) = Mock::in_memory(Desk::echo());
    let config = PoolConfig::default().connections(2).in_flight(1);
    let pool = pool_of(transport, config, connection());
    pool.request("open").await.unwrap();
    mock.answers(Answers::Never);
    mock.refuse_next([503; 1000]);
    let holds = pool.request(Call::new("a").deadline(MINUTE));
    let start = Instant::now();
    let (_, ended) = join(holds, async {
        settle().await;
        let outcome = pool.request(Call::new("b").deadline(20 * SECOND)).await;
        (outcome, start.elapsed())
    })
    .await;
    let (outcome, took) = ended;
    assert!(matches!(outcome, Err(RequestError::NotConnected(_))), "{outcome:?}");
    assert!((20 * SECOND..=21 * SECOND).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_open_a_request_ends_with_its_connection() {
    let (mock, transport) = Mock::in_memory(Desk::echo());
    let pool = pool_of(transport, PoolConfig::default().connections(2), connection());
    mock.refuse_next([503; 1000]);
    let start = Instant::now();
    let outcome = pool.request(Call::new("a").deadline(MINUTE)).await;
    assert!(matches!(outcome, Err(RequestError::NotConnected(_))), "{outcome:?}");
    assert!(start.elapsed() < 15 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_lost_and_then_not_written_is_not_said_to_be_unsent() {
    let desk = Desk::new(|asked, out| out.drop_socket(asked.socket));
    let (mock, pool) = pool(desk, PoolConfig::default().connections(1));
    let asked = pool.request(Call::new("a").idempotent());
    let (outcome, ()) = join(asked, async {
        settle().await;
        mock.refuse_next([503; 1000]);
    })
    .await;
    assert_eq!(outcome, Err(RequestError::Unknown), "the server had it once");
    assert_eq!(pool.stats().unsent, 0);
}
