//! Binance's WebSocket API: the whole client against the venue's mock, with paused time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use futures::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{self, Instant};
use wsmux::protocol::BinanceApi;
use wsmux::requests::{Call, PoolConfig, RequestPool};
use wsmux::test_util::{Answers, Mock, MockBinanceApi};
use wsmux::{Gap, Lease, Limiter, Message, RequestError, SendError, WsManager};

use crate::{DAY, MINUTE, MS, SECOND, config, gap, message, settle};

const TIME: &str = r#"{"method":"time"}"#;

fn built() -> (Mock<MockBinanceApi>, WsManager) {
    let (mock, transport) = Mock::in_memory(MockBinanceApi::default());
    let builder = WsManager::builder(BinanceApi::spot()).config(config()).transport(transport);
    (mock, builder.seed(7).limiter(Limiter::new()).build().unwrap())
}

/// A manager whose connection `api` is open.
async fn opened() -> (Mock<MockBinanceApi>, WsManager, Lease) {
    let (mock, manager) = built();
    let lease = manager.keep_warm("api").unwrap();
    mock.until_sockets(1).await;
    settle().await;
    (mock, manager, lease)
}

fn pool(config: PoolConfig) -> (Mock<MockBinanceApi>, RequestPool) {
    let (mock, transport) = Mock::in_memory(MockBinanceApi::default());
    let mut connection = PoolConfig::connection();
    connection.heartbeat.interval = DAY;
    let pool = RequestPool::builder(BinanceApi::spot(), "api")
        .config(config)
        .connection(connection)
        .manager(|manager| manager.transport(transport).limiter(Limiter::new()).seed(7))
        .build()
        .unwrap();
    (mock, pool)
}

fn call(n: usize) -> String {
    json!({"method": "echo", "params": {"n": n}}).to_string()
}

fn number(reply: Result<wsmux::Reply, RequestError>) -> usize {
    let reply: Value =
        serde_json::from_str(reply.unwrap().message().unwrap().as_text().unwrap()).unwrap();
    usize::try_from(reply["n"].as_u64().unwrap()).unwrap()
}

fn no_faults(mock: &Mock<MockBinanceApi>) {
    assert_eq!(mock.faults(), []);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_by_its_result_and_fails_by_its_code() {
    let (mock, manager, _lease) = opened().await;
    mock.tell(|api, _| {
        api.answer("time", json!({"serverTime": 1}));
        api.fail("order.place", 400, -2010, "Account has insufficient balance");
        api.fail("slow", 503, -1007, "Timeout waiting for response");
    });
    let reply = manager.request("api", TIME).await.unwrap();
    assert_eq!(reply.parts(), [Message::from(r#"{"serverTime":1}"#)]);
    let Err(RequestError::Failed(words)) =
        manager.request("api", r#"{"method":"order.place","params":{"side":"BUY"}}"#).await
    else {
        panic!()
    };
    let error: Value = serde_json::from_str(words.as_text().unwrap()).unwrap();
    assert_eq!(error["code"], -2010);
    let unknown = manager.request("api", r#"{"method":"slow"}"#).await;
    assert_eq!(unknown, Err(RequestError::Unknown), "the venue does not know");
    let refused = Err(RequestError::NotSent(SendError::Refused));
    assert_eq!(manager.request("api", "{}").await, refused);
    assert_eq!(manager.send("api", TIME).await, Err(SendError::Refused));
    let facts = mock.tell(|api, _| (api.requests().len(), api.queries().to_vec()));
    assert_eq!(facts, (3, vec!["returnRateLimits=false".to_owned()]));
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_pool_gets_each_reply_right_that_comes_out_of_order_late_and_twice() {
    for twice in [false, true] {
        let (mock, pool) = pool(PoolConfig::default().connections(3).in_flight(8));
        mock.answers(Answers::After(SECOND));
        mock.tell(|api, _| {
            api.reverse(8);
            api.twice(twice);
        });
        let replies = join_all((0..48).map(|n| pool.request(call(n)))).await;
        assert!(replies.into_iter().map(number).eq(0..48));
        settle().await;
        assert_eq!((mock.opened(), pool.manager().metrics().unroutable), (3, 0));
        no_faults(&mock);
    }
}

#[tokio::test(start_paused = true)]
async fn one_request_that_fails_or_never_comes_is_no_other_ones_affair() {
    let (mock, pool) = pool(PoolConfig::default().connections(1));
    mock.tell(|api, _| {
        api.silence("never");
        api.fail("bad", 400, -1100, "Illegal characters");
    });
    let never = Call::new(r#"{"method":"never"}"#).deadline(10 * SECOND);
    let start = Instant::now();
    let (never, bad, good) =
        futures::join!(pool.request(never), pool.request(r#"{"method":"bad"}"#), async {
            let good = number(pool.request(call(5)).await);
            (good, start.elapsed())
        });
    assert_eq!((never, start.elapsed()), (Err(RequestError::TimedOut), 10 * SECOND));
    assert!(matches!(bad, Err(RequestError::Failed(_))));
    assert!(good.0 == 5 && good.1 < SECOND, "{good:?}");
    assert_eq!((mock.opened(), pool.stats().in_flight), (1, 0));
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn what_the_venue_does_not_know_is_asked_again_only_where_that_does_no_harm() {
    let (mock, pool) = pool(PoolConfig::default().connections(1));
    mock.tell(|api, _| api.fail("echo", 500, -1000, "An unknown error occurred"));
    assert_eq!(pool.request(call(1)).await, Err(RequestError::Unknown));
    assert_eq!(mock.tell(|api, _| api.requests().len()), 1);
    let again = pool.request(Call::new(call(2)).idempotent()).await;
    assert_eq!(again, Err(RequestError::Unknown));
    assert!(mock.tell(|api, _| api.requests().len()) > 2, "as often as the pool's policy says");
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_before_the_venue_takes_requests_again() {
    for (status, pause) in [(429, 60), (418, 120)] {
        let (mock, manager, _lease) = opened().await;
        let until = Instant::now() + pause * SECOND;
        mock.tell(|api, _| api.limit(status, None, until));
        assert!(matches!(manager.request("api", TIME).await, Err(RequestError::Failed(_))));
        let start = Instant::now();
        let expired = manager.request("api", TIME).await;
        assert_eq!(expired, Err(RequestError::NotSent(SendError::Expired)));
        assert_eq!(start.elapsed(), 5 * SECOND);
        time::sleep_until(until - SECOND).await;
        let reply = manager.request("api", call(3)).await;
        assert_eq!(number(reply), 3, "it waited until it was let go");
        assert!(Instant::now() >= until);
        let facts = mock.tell(|api, _| api.requests().len());
        assert_eq!((facts, mock.opened()), (2, 1), "the socket stays");
        no_faults(&mock);
    }
}

#[tokio::test(start_paused = true)]
async fn the_pause_is_as_long_as_the_venue_says() {
    let (mock, manager, _lease) = opened().await;
    let retry_after = SystemTime::now() + Duration::from_secs(600);
    let retry_after = retry_after.duration_since(UNIX_EPOCH).unwrap().as_millis();
    let start = Instant::now();
    let limit = start + SECOND;
    mock.tell(|api, _| api.limit(429, Some(u64::try_from(retry_after).unwrap()), limit));
    assert!(manager.request("api", TIME).await.is_err());
    time::sleep(8 * MINUTE).await;
    let expired = manager.request("api", TIME).await;
    assert_eq!(expired, Err(RequestError::NotSent(SendError::Expired)));
    time::sleep_until(start + 10 * MINUTE).await;
    assert_eq!(number(manager.request("api", call(1)).await), 1);
    no_faults(&mock);
}

/// The mock notices a client that does not hold back, and one that takes an id twice.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_wrong_is_noticed() {
    use wsmux::test_util::Service as _;
    let (mock, manager, _lease) = opened().await;
    let socket = mock.sockets()[0];
    let said = |text: &str| mock.tell(|api, out| api.receive(socket, &text.into(), out));
    said(r#"{"id":1,"method":"a"}"#);
    mock.tell(|api, _| api.silence("b"));
    said(r#"{"id":2,"method":"b"}"#);
    no_faults(&mock);
    said(r#"{"id":2,"method":"b"}"#);
    assert_eq!(mock.faults().len(), 1, "an id that waits");
    let until = Instant::now() + MINUTE;
    mock.tell(|api, _| api.limit(429, None, until));
    said(r#"{"id":3,"method":"a"}"#);
    assert_eq!(mock.faults().len(), 1);
    said(r#"{"id":4,"method":"a"}"#);
    said("what");
    assert_eq!(mock.faults().len(), 3, "one that was to hold back, and one that is no request");
    drop(manager);
}

#[tokio::test(start_paused = true)]
async fn what_the_server_says_by_itself_comes_to_the_readers_of_the_connection() {
    let (mock, manager) = built();
    let mut user = manager.subscribe::<Message>("user").unwrap();
    user.ready().await.unwrap();
    let (event, asked) = (json!({"e": "executionReport", "s": "BTCUSDT"}), manager.clone());
    let reply = asked.request("user", r#"{"method":"userDataStream.subscribe.signature"}"#);
    mock.tell(|api, out| api.event(0, &event, out));
    reply.await.unwrap();
    let heard: Value = serde_json::from_str(&message(&mut user).await).unwrap();
    assert_eq!(heard, json!({"subscriptionId": 0, "event": event}));
    mock.tell(MockBinanceApi::revoke);
    assert!(message(&mut user).await.contains("-2015"));
    assert!(user.next().now_or_never().is_none());
    mock.drop_all();
    assert!(matches!(gap(&mut user).await, Gap::Reconnected { .. }), "what was asked for is gone");
    assert_eq!(manager.metrics().unroutable, 0);
    no_faults(&mock);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_and_a_socket_that_grows_old_are_replaced_and_in_flight_finishes() {
    for turn in 0..2 {
        let (mock, manager, _lease) = opened().await;
        match turn {
            0 => {
                time::sleep(2 * MINUTE).await;
                mock.answers(Answers::After(20 * SECOND));
                let asked = manager.request("api", call(7));
                let going = async {
                    settle().await;
                    mock.tell(MockBinanceApi::going);
                    mock.until_sockets(2).await;
                };
                let (reply, ()) = futures::future::join(asked, going).await;
                assert_eq!(number(reply), 7, "on the socket that was told to go");
                mock.until_sockets(1).await;
            }
            _ => time::sleep(DAY).await,
        }
        settle().await;
        assert_eq!((mock.opened(), mock.sockets().len()), (2, 1), "turn {turn}");
        mock.answers(Answers::AtOnce);
        assert_eq!(number(manager.request("api", call(8)).await), 8);
        no_faults(&mock);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_socket_is_lost_is_unknown_and_the_next_one_goes() {
    let (mock, manager, _lease) = opened().await;
    mock.answers(Answers::After(SECOND));
    let losing = async {
        time::sleep(500 * MS).await;
        mock.close_all(1008, "Pong timeout");
    };
    let (reply, ()) = futures::future::join(manager.request("api", call(1)), losing).await;
    assert_eq!(reply, Err(RequestError::Unknown));
    mock.until_sockets(1).await;
    assert_eq!(number(manager.request("api", call(2)).await), 2);
    no_faults(&mock);
}
