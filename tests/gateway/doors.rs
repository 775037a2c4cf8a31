//! What the gateway asks of its doors, and what it does with visitors.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use futures::future::BoxFuture;
use http::StatusCode;
use http::request::Parts;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;
use wsmux::StreamName;
use wsmux::gateway::{Denied, Doors, GatewayConfig, Standing, Visitor};

use crate::client::{Client, TEXT};
use crate::{Stage, soon};

/// Doors of a test.
#[derive(Clone, Default)]
struct Test {
    /// How many visitors are refused.
    closed: Arc<AtomicU64>,
    /// How long visitors may stay, in milliseconds; 0 is for ever.
    lasts: Arc<AtomicU64>,
    /// One more for each visitor.
    places: Arc<()>,
    standing: TestStanding,
}

#[derive(Clone, Default)]
struct TestStanding {
    asked: Arc<AtomicU64>,
    delay: Duration,
    /// What may still be said.
    quota: Option<Arc<AtomicU64>>,
    version: Arc<AtomicU64>,
}

impl Standing for TestStanding {
    fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// From version 1 on, only what begins with "free".
    fn may_read(&self, name: &StreamName) -> Result<(), Denied> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.version() == 0 || name.as_str().starts_with("free") {
            Ok(())
        } else {
            Err(Denied::Name)
        }
    }

    fn delay(&self) -> Duration {
        self.delay
    }

    fn may_say(&self) -> bool {
        let less = |quota: &Arc<AtomicU64>| {
            let less = |quota: u64| quota.checked_sub(1);
            quota.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
        };
        self.quota.as_ref().is_none_or(less)
    }
}

impl Doors for Test {
    fn admit<'a>(
        &'a self,
        _parts: &'a Parts,
        peer: Option<SocketAddr>,
    ) -> BoxFuture<'a, Result<Visitor, Response>> {
        Box::pin(async move {
            assert!(peer.is_some_and(|peer| peer.ip().is_loopback()));
            if self.closed.load(Ordering::SeqCst) > 0 {
                return Err(StatusCode::TOO_MANY_REQUESTS.into_response());
            }
            let places = Arc::clone(&self.places);
            let visitor = Visitor::with_places("ann", self.standing.clone(), places);
            let lasts = self.lasts.load(Ordering::SeqCst);
            visitor.renew((lasts > 0).then(|| Instant::now() + Duration::from_millis(lasts)));
            Ok(visitor)
        })
    }

    fn renew<'a>(
        &'a self,
        visitor: &'a Visitor,
        token: &'a str,
    ) -> BoxFuture<'a, Result<(), Denied>> {
        Box::pin(async move {
            if token != "fresh" {
                return Err(Denied::Proof);
            }
            visitor.renew(None);
            Ok(())
        })
    }
}

impl Test {
    async fn stage(&self) -> Stage {
        let config = GatewayConfig::default().shards(2);
        Stage::built(|builder| builder.config(config).doors(self.clone())).await
    }

    async fn until_places_are_free(&self) {
        let places = Arc::clone(&self.places);
        // One here, one in the stage's, one in this test's.
        soon(async {
            while Arc::strong_count(&places) > 3 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_let_in_is_answered_before_an_upgrade() {
    let doors = Test::default();
    let stage = doors.stage().await;
    doors.closed.store(1, Ordering::SeqCst);
    assert_eq!(Client::open(stage.tcp().await, "/ws").await.err(), Some(429));
    assert_eq!(Client::open(stage.tcp().await, "/ws/a").await.err(), Some(429));
    doors.closed.store(0, Ordering::SeqCst);
    doors.standing.version.store(1, Ordering::SeqCst);
    assert_eq!(Client::open(stage.tcp().await, "/ws/a").await.err(), Some(403));
    doors.until_places_are_free().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_aborted_upgrades_give_their_places_back() {
    let doors = Test::default();
    let stage = doors.stage().await;
    // In rounds, as what is not closed yet at the other end takes descriptors of this process, too.
    for _ in 0..40 {
        for at in 0..250 {
            abort_an_upgrade(stage.tcp().await, at).await;
        }
        // Whoever was there before it has been accepted before it.
        drop(stage.client().await);
        doors.until_places_are_free().await;
    }
    stage.until_clients(0).await;
}

/// Of six of them each is another: with the whole request or without its end, closed or reset.
async fn abort_an_upgrade(mut socket: TcpStream, at: usize) {
    let request = "GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: \
                   websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \
                   dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let end = if at % 2 == 0 { request.len() } else { request.len() - 1 };
    socket.write_all(&request.as_bytes()[..end]).await.unwrap();
    if at % 3 == 0 {
        // Reset, not ended.
        socket.set_zero_linger().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_downgrade_takes_effect_with_the_next_message_on_the_open_connection() {
    let doors = Test::default();
    let stage = doors.stage().await;
    let paid = stage.gateway.publisher("paid".try_into().unwrap());
    let free = stage.gateway.publisher("free".try_into().unwrap());
    let mut client = stage.client().await;
    client.subscribe("paid").await;
    client.subscribe("free").await;
    for number in 0..100 {
        paid.publish(number.to_string());
        assert_eq!(client.data().await, number);
    }
    assert_eq!(doors.standing.asked.load(Ordering::SeqCst), 2, "once per name, not per message");
    doors.standing.version.store(1, Ordering::SeqCst);
    paid.publish("secret");
    let refused = client.word_of("error").await;
    assert_eq!((&refused["code"], &refused["name"]), (&"denied".into(), &"paid".into()));
    paid.publish("secret");
    free.publish("1");
    assert_eq!(client.word_of("data").await["name"], "free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_expires_is_closed_with_4401_unless_renewed_on_the_open_connection() {
    let doors = Test::default();
    let stage = doors.stage().await;
    doors.lasts.store(300, Ordering::SeqCst);
    let (mut one, mut other) = (stage.client().await, stage.client().await);
    other.say(r#"{"type":"auth","id":1,"token":"stale"}"#).await;
    assert_eq!(other.word_of("error").await["code"], "unauthorized");
    other.say(r#"{"type":"auth","id":2,"token":"fresh"}"#).await;
    assert_eq!(other.word_of("ack").await["id"], 2);
    assert_eq!(one.closed().await, Some(4401));
    other.say(r#"{"type":"ping","id":3}"#).await;
    assert_eq!(other.word_of("pong").await["id"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_more_than_it_may_is_closed() {
    let mut doors = Test::default();
    doors.standing.quota = Some(Arc::new(AtomicU64::new(2)));
    let stage = doors.stage().await;
    let mut client = stage.client().await;
    for _ in 0..3 {
        client.send(TEXT, br#"{"type":"ping"}"#).await;
    }
    client.word_of("pong").await;
    client.word_of("pong").await;
    assert_eq!(client.closed().await, Some(1008));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_sent_messages_later_gets_all_of_them_later() {
    let mut doors = Test::default();
    doors.standing.delay = Duration::from_millis(200);
    let stage = doors.stage().await;
    let news = stage.gateway.publisher("news".try_into().unwrap());
    let mut client = stage.client().await;
    client.subscribe("news").await;
    let mut events = crate::http::get(stage.addr, "/sse/news", "").await;
    let begun = Instant::now();
    news.publish("1");
    news.publish("2");
    for number in ["1", "2"] {
        assert_eq!(client.data().await.to_string(), number);
        assert!(begun.elapsed() >= doors.standing.delay);
        assert_eq!(events.news().await.data, number);
    }
}
