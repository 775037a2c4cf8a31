//! Requests whose connection fails before they were written.

use futures::future::join;
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::{self, Instant};
use wsmux::requests::{Call, PoolConfig, RequestPool};
use wsmux::test_util::{Answers, Mock};
use wsmux::{RequestError, RetryPolicy};

use super::{connection, pool_of, text};
use crate::asker::Desk;
use crate::{MS, SECOND, settle};

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
