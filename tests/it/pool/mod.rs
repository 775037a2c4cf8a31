//! Requests over a pool of connections.

mod adaptive;
mod batch;
#[cfg(feature = "cache")]
mod cache;
#[cfg(all(feature = "cache", feature = "prometheus"))]
mod metrics;
mod stray;

use std::collections::BTreeMap;

use futures::future::{join, join_all};
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::{self, Instant};
use wsmux::requests::{Call, PoolConfig, RequestPool};
use wsmux::test_util::memory::MemoryTransport;
use wsmux::test_util::{Answers, Mock, SocketId};
use wsmux::{CloseReason, Config, Limiter, RequestError, SendError};

use crate::asker::{Asker, Desk};
use crate::{DAY, MINUTE, MS, SECOND, alive_tasks, settle};

/// What the tests of pools set: heartbeats are out of the way.
fn connection() -> Config {
    let mut config = PoolConfig::connection();
    config.heartbeat.interval = DAY;
    config
}

fn pool_of(transport: MemoryTransport, config: PoolConfig, connection: Config) -> RequestPool {
    RequestPool::builder(Asker::new("ws://test/ws"), "x")
        .config(config)
        .connection(connection)
        .manager(|manager| manager.transport(transport).limiter(Limiter::new()).seed(7))
        .build()
        .unwrap()
}

fn pool(desk: Desk, config: PoolConfig) -> (Mock<Desk>, RequestPool) {
    let (mock, transport) = Mock::in_memory(desk);
    (mock, pool_of(transport, config, connection()))
}

fn text(reply: Result<wsmux::Reply, RequestError>) -> String {
    reply.unwrap().message().and_then(|message| message.as_text()).unwrap().to_owned()
}

/// How many requests each socket was asked.
fn loads(mock: &Mock<Desk>) -> BTreeMap<SocketId, usize> {
    mock.tell(|desk, _| {
        let mut loads = BTreeMap::new();
        desk.heard.iter().for_each(|(socket, _)| *loads.entry(*socket).or_default() += 1);
        loads
    })
}

#[tokio::test(start_paused = true)]
async fn a_pool_opens_nothing_until_it_is_asked_and_uses_what_is_open() {
    let (mock, pool) = pool(Desk::echo(), PoolConfig::default());
    settle().await;
    assert_eq!(mock.opened(), 0);
    for n in 0..20 {
        let asked = format!("{n}");
        assert_eq!(text(pool.request(&*asked).await), asked);
    }
    assert_eq!(mock.opened(), 1, "one after the other: one connection is enough");
    let stats = pool.stats();
    assert_eq!((stats.answered, stats.open, stats.in_flight), (20, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn requests_at_once_are_spread_over_connections_and_the_least_loaded_goes_first() {
    let (mock, pool) = pool(Desk::echo(), PoolConfig::default().connections(3).in_flight(4));
    mock.answers(Answers::After(SECOND));
    let asked: Vec<_> = (0..12).map(|n| pool.request(format!("{n}"))).collect();
    let start = Instant::now();
    let (replies, ()) = join(join_all(asked), async {
        settle().await;
        let stats = pool.stats();
        assert_eq!((stats.in_flight, stats.open, stats.waiting), (12, 3, 0));
    })
    .await;
    assert!(replies.into_iter().enumerate().all(|(n, reply)| text(reply) == n.to_string()));
    assert!(start.elapsed() < SECOND + 10 * MS, "{:?}", start.elapsed());
    assert_eq!(loads(&mock).into_values().collect::<Vec<_>>(), [4, 4, 4]);
}

#[tokio::test(start_paused = true)]
async fn no_connection_has_more_in_flight_than_it_may_and_who_waits_longest_goes_first() {
    let (mock, pool) = pool(Desk::echo(), PoolConfig::default().connections(2).in_flight(1));
    mock.answers(Answers::After(SECOND));
    let asked: Vec<_> = (0..6).map(|n| pool.request(format!("{n}"))).collect();
    let (_, ()) = join(join_all(asked), async {
        time::sleep(1500 * MS).await;
        assert_eq!(mock.tell(|desk, _| desk.heard.len()), 4, "two at a time");
        assert_eq!((pool.stats().in_flight, pool.stats().waiting), (2, 2));
    })
    .await;
    let bodies = mock.tell(|desk, _| desk.heard.iter().map(|(_, b)| b.clone()).collect::<Vec<_>>());
    assert_eq!(bodies, ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_filled_before_the_next_where_the_server_answers_all_at_once() {
    let config = PoolConfig::default().connections(3).in_flight(4).fill(4);
    let (mock, pool) = pool(Desk::echo(), config);
    mock.answers(Answers::After(SECOND));
    join_all((0..5).map(|n| pool.request(format!("{n}")))).await;
    assert_eq!(mock.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_five_minutes_and_a_used_one_stays() {
    let (mock, pool) = pool(Desk::echo(), PoolConfig::default());
    for _ in 0..10 {
        pool.request("a").await.unwrap();
        time::sleep(4 * MINUTE).await;
    }
    assert_eq!((mock.opened(), mock.sockets().len()), (1, 1));
    time::sleep(2 * MINUTE).await;
    assert_eq!(mock.sockets().len(), 0);
    pool.request("a").await.unwrap();
    assert_eq!(mock.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_pinged_after_thirty_seconds_and_given_up_after_two_minutes() {
    let (transport, mut server) = wsmux::test_util::memory::pair();
    let pool = pool_of(transport, PoolConfig::default(), PoolConfig::connection());
    let warm = pool.keep_warm(1).unwrap();
    let mut peer = server.accept().await;
    let start = Instant::now();
    assert!(matches!(peer.recv().await, Some(wsmux::transport::Frame::Ping(_))));
    assert_eq!(start.elapsed().as_secs(), 30);
    peer.closed().await;
    assert_eq!(start.elapsed().as_secs(), 120);
    drop(warm);
}

#[tokio::test(start_paused = true)]
async fn connections_that_are_kept_warm_are_open_before_the_first_request_and_stay() {
    let (mock, pool) = pool(Desk::echo(), PoolConfig::default());
    let warm = pool.keep_warm(3).unwrap();
    settle().await;
    assert!(warm.is_ready());
    time::sleep(60 * MINUTE).await;
    assert_eq!(mock.sockets().len(), 3);
    mock.answers(Answers::After(SECOND));
    join_all((0..3).map(|_| pool.request("a"))).await;
    assert_eq!(mock.opened(), 3);
    drop(warm);
    time::sleep(6 * MINUTE).await;
    assert_eq!(mock.sockets().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_ends_at_its_deadline_and_says_whether_it_was_written() {
    let (mock, pool) = pool(Desk::echo(), PoolConfig::default().connections(1).in_flight(1));
    mock.answers(Answers::Never);
    let start = Instant::now();
    let asked = Call::new("a").deadline(2 * SECOND);
    let waits = Call::new("b").deadline(SECOND);
    let (asked, waited) = join(pool.request(asked), pool.request(waits)).await;
    assert_eq!(asked, Err(RequestError::TimedOut));
    assert_eq!(waited, Err(RequestError::NotSent(SendError::Expired)), "it had no place");
    assert_eq!(start.elapsed(), 2 * SECOND);
    settle().await;
    assert_eq!(mock.tell(|desk, _| desk.cancelled.len()), 1);
    let stats = pool.stats();
    assert_eq!((stats.timed_out, stats.unsent, stats.in_flight, stats.waiting), (1, 1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_could_not_be_written_by_its_deadline_is_not_written_later() {
    let (transport, mut server) = wsmux::test_util::memory::pair();
    let pool = pool_of(transport, PoolConfig::default(), connection());
    let asked = Call::new("a").deadline(SECOND);
    assert_eq!(pool.request(asked).await, Err(RequestError::NotSent(SendError::Expired)));
    let mut peer = server.accept().await;
    settle().await;
    assert!(crate::lines::heard(&mut peer).is_empty());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_request_cancels_it_and_gives_its_place_to_who_waits() {
    let (mock, pool) = pool(Desk::echo(), PoolConfig::default().connections(1).in_flight(1));
    mock.answers(Answers::Never);
    let mut first = Box::pin(pool.request("a"));
    assert!(first.as_mut().now_or_never().is_none());
    let mut second = Box::pin(pool.request("b"));
    assert!(second.as_mut().now_or_never().is_none());
    settle().await;
    assert_eq!(mock.tell(|desk, _| desk.heard.len()), 1);
    mock.answers(Answers::AtOnce);
    drop(first);
    assert_eq!(text(second.await), "b");
    assert_eq!(mock.tell(|desk, _| desk.cancelled.clone()), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_unknown_unless_the_call_may_be_made_again() {
    let breaks_first = || {
        let mut broken = false;
        Desk::new(move |asked, out| match std::mem::replace(&mut broken, true) {
            false => out.drop_socket(asked.socket),
            true => out.answer(asked.socket, asked.reply(asked.body)),
        })
    };
    let (mock, careful) = pool(breaks_first(), PoolConfig::default());
    assert_eq!(careful.request("a").await, Err(RequestError::Unknown));
    time::sleep(MINUTE).await;
    assert_eq!(mock.tell(|desk, _| desk.heard.len()), 1, "never by itself");
    let (mock, pool) = pool(breaks_first(), PoolConfig::default());
    assert_eq!(text(pool.request(Call::new("a").idempotent()).await), "a");
    assert_eq!(mock.tell(|desk, _| desk.heard.len()), 2);
    assert_eq!((pool.stats().resent, pool.stats().answered, pool.stats().unknown), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_breaks_every_connection_is_made_three_times_at_most() {
    let (mock, pool) =
        pool(Desk::new(|asked, out| out.drop_socket(asked.socket)), PoolConfig::default());
    let outcome = pool.request(Call::new("a").idempotent()).await;
    assert_eq!(outcome, Err(RequestError::Unknown));
    assert_eq!(mock.tell(|desk, _| desk.heard.len()), 3);
}

#[tokio::test(start_paused = true)]
async fn a_request_made_again_goes_to_a_connection_that_is_open() {
    let mut calls = 0;
    let (mock, pool) = pool(
        Desk::new(move |asked, out| {
            calls += 1;
            match calls {
                3 => out.drop_socket(asked.socket),
                _ => out.answer(asked.socket, asked.reply(asked.body)),
            }
        }),
        PoolConfig::default(),
    );
    let _warm = pool.keep_warm(2).unwrap();
    settle().await;
    join_all([pool.request("a"), pool.request("b")]).await;
    let start = Instant::now();
    assert_eq!(text(pool.request(Call::new("c").idempotent()).await), "c");
    assert!(start.elapsed() < 10 * MS, "it waits for no reconnect: {:?}", start.elapsed());
    assert_eq!(mock.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_reached_is_tried_four_times_and_named() {
    let (transport, mut server) = wsmux::test_util::memory::pair();
    let pool = pool_of(transport, PoolConfig::default(), connection());
    let refusing = async {
        for _ in 0..4 {
            server.refuse(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)).await;
        }
    };
    let (outcome, ()) = join(pool.request("a"), refusing).await;
    let error = outcome.unwrap_err();
    assert!(error.is_unsent());
    let RequestError::NotConnected(reason) = &error else { panic!("{error:?}") };
    assert!(matches!(**reason, CloseReason::RetriesExhausted { attempts: 4, .. }), "{reason}");
    assert!(error.to_string().contains("refused"), "{error}");
    // And it is not given up for ever.
    let (reply, _peer) = join(pool.request("b"), async {
        let mut peer = server.accept().await;
        settle().await;
        assert_eq!(crate::lines::heard(&mut peer), ["?2 b"]);
        peer.send("=2 b");
        peer
    })
    .await;
    assert_eq!(text(reply), "b");
}

#[tokio::test(start_paused = true)]
async fn the_server_s_refusal_is_the_request_s_and_nobody_else_s() {
    let desk = Desk::new(|asked, out| match asked.body {
        "bad" => out.send(asked.socket, format!("-{} no such symbol", asked.id)),
        _ => out.send(asked.socket, asked.reply("ok")),
    });
    let (_mock, pool) = pool(desk, PoolConfig::default());
    let (bad, good) = join(pool.request("bad"), pool.request("good")).await;
    assert_eq!(bad, Err(RequestError::Failed("no such symbol".into())));
    assert_eq!(text(good), "ok");
    assert_eq!((pool.stats().failed, pool.stats().answered), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn parts_come_as_they_are_sent_and_are_not_asked_for_twice_once_one_was_there() {
    let mut calls = 0;
    let (mock, pool) = pool(
        Desk::new(move |asked, out| {
            calls += 1;
            match calls {
                1 => out.drop_socket(asked.socket),
                2 => {
                    out.send(asked.socket, format!("+{} one", asked.id));
                    out.send_after(SECOND, asked.socket, asked.reply("two"));
                }
                _ => {
                    out.send(asked.socket, format!("+{} one", asked.id));
                    out.drop_socket(asked.socket);
                }
            }
        }),
        PoolConfig::default(),
    );
    let mut parts = pool.request_parts(Call::new("a").idempotent());
    assert_eq!(parts.next().await, Some(Ok("one".into())), "nothing was there when it broke");
    assert_eq!(pool.stats().in_flight, 1, "it keeps its place");
    assert_eq!(parts.next().await, Some(Ok("two".into())));
    assert_eq!(parts.next().await, None);
    let items: Vec<_> = pool.request_parts(Call::new("a").idempotent()).collect().await;
    assert_eq!(items, [Ok("one".into()), Err(RequestError::Unknown)]);
    assert_eq!(mock.tell(|desk, _| desk.heard.len()), 3);
    assert_eq!((pool.stats().answered, pool.stats().unknown, pool.stats().in_flight), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_parts_cancels_the_request_and_gives_its_place_back() {
    let desk = Desk::new(|asked, out| out.send(asked.socket, format!("+{} one", asked.id)));
    let (mock, pool) = pool(desk, PoolConfig::default());
    let mut parts = pool.request_parts("a");
    assert!(parts.next().await.is_some());
    drop(parts);
    settle().await;
    assert_eq!(mock.tell(|desk, _| desk.cancelled.clone()), [1]);
    assert_eq!(pool.stats().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_finish_on_the_old_socket_when_the_token_is_replaced() {
    let (mock, pool) = pool(Desk::echo(), PoolConfig::default().connections(1));
    mock.answers(Answers::After(20 * SECOND));
    let (old, new) = join(pool.request("old"), async {
        settle().await;
        pool.manager().rotate_credentials();
        time::sleep(15 * SECOND).await;
        pool.request("new").await
    })
    .await;
    assert_eq!((text(old), text(new)), ("old".into(), "new".into()));
    assert_eq!(mock.opened(), 2);
    let sockets: Vec<_> = loads(&mock).into_keys().collect();
    assert_eq!(sockets.len(), 2, "what is asked now is asked on the new one");
    assert_eq!(mock.sockets(), [sockets[1]]);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_shut_down_ends_what_is_in_flight_and_refuses_the_rest() {
    let (mock, pool) = pool(Desk::echo(), PoolConfig::default());
    mock.answers(Answers::Never);
    let (outcome, ()) = join(pool.request("a"), async {
        settle().await;
        pool.manager().shutdown().await;
    })
    .await;
    assert_eq!(outcome, Err(RequestError::Unknown));
    let refused = pool.request("b").await;
    assert_eq!(refused, Err(RequestError::NotOpened(wsmux::SubscribeError::Shutdown)));
    assert_eq!(pool.stats().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_that_is_dropped_leaves_nothing_behind() {
    let before = alive_tasks();
    let (transport, _server) = wsmux::test_util::memory::pair();
    let pool =
        pool_of(transport, PoolConfig::default(), connection().linger(std::time::Duration::ZERO));
    assert!(pool.request(Call::new("a").deadline(SECOND)).await.is_err());
    drop(pool);
    time::sleep(MINUTE).await;
    assert_eq!(alive_tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_work_is_refused_when_the_pool_is_built() {
    let build = |config, name: &str| {
        RequestPool::builder(Asker::new("ws://test"), name).config(config).build().map(drop)
    };
    assert!(build(PoolConfig::default(), "x").is_ok());
    assert!(build(PoolConfig::default(), "").is_err());
    let e = build(PoolConfig::default().connections(0), "x").unwrap_err();
    assert!(e.to_string().contains("`connections` is zero"), "{e}");
    assert!(build(PoolConfig::default().in_flight(0), "x").is_err());
    assert!(build(PoolConfig::default().deadline(std::time::Duration::ZERO), "x").is_err());
    assert!(build(PoolConfig::default().deadline(std::time::Duration::MAX), "x").is_ok());
}
