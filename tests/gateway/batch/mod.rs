//! `POST /batch`: results as they come, who may ask what, and what becomes of who goes away.
//!
//! In virtual time, where the router is called without a socket; over sockets in real time.

mod judge;
mod limits;
mod progress;
mod sockets;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use futures::StreamExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::time::Instant;
use wsmux::gateway::{Denied, Doors, Gateway, GatewayConfig, Standing, Visitor};
use wsmux::requests::{Call, PoolConfig, RequestPool};
use wsmux::test_util::Mock;
use wsmux::{Limiter, StreamName, WsManager};

use crate::asker::{Asker, Desk};
use crate::schema;

const SECOND: Duration = Duration::from_secs(1);

/// Lets everybody in as one user, who reads what begins with `may` and has expired some time.
#[derive(Clone, Default)]
struct Guests {
    expires_in: Option<Duration>,
    rights: Arc<Rights>,
}

#[derive(Default)]
struct Rights {
    /// Whatever is not zero means that nothing may be read.
    revoked: AtomicU64,
}

/// As they are when they are asked for.
struct Current(Arc<Rights>);

impl Standing for Current {
    fn version(&self) -> u64 {
        self.0.revoked.load(Ordering::Relaxed)
    }

    fn may_read(&self, name: &StreamName) -> Result<(), Denied> {
        if self.version() == 0 && name.as_str().starts_with("may") {
            Ok(())
        } else {
            Err(Denied::Name)
        }
    }

    fn max_names(&self) -> usize {
        50
    }
}

impl Doors for Guests {
    fn admit<'a>(
        &'a self,
        _: &'a http::request::Parts,
        _: Option<std::net::SocketAddr>,
    ) -> futures::future::BoxFuture<'a, Result<Visitor, axum::response::Response>> {
        Box::pin(async {
            let visitor = Visitor::new("guest", Current(Arc::clone(&self.rights)));
            visitor.renew(self.expires_in.map(|time| Instant::now() + time));
            Ok(visitor)
        })
    }
}

/// A gateway before a backend in memory.
struct Counter {
    gateway: Gateway,
    mock: Mock<Desk>,
    pool: RequestPool,
}

pub(crate) fn config() -> GatewayConfig {
    GatewayConfig::default().shards(1)
}

/// `may/x` is asked as `x`, with the number that goes with it; `may/not` is not asked.
pub(crate) fn gateway(pool: &RequestPool, config: GatewayConfig, doors: impl Doors) -> Gateway {
    let manager = WsManager::connect("ws://upstream/ws").unwrap();
    let map = |asked: &wsmux::gateway::BatchRequest<'_>| {
        let what = asked.name().as_str().strip_prefix("may/").filter(|what| *what != "not")?;
        let number = asked.params::<u32>().map(|number| format!(" {number}")).unwrap_or_default();
        Some(Call::new(format!("{what}{number}")))
    };
    Gateway::builder(manager).config(config).doors(doors).batch(pool.clone(), map).build()
}

pub(crate) fn pool_of(
    asker: Asker,
    config: PoolConfig,
    set: impl FnOnce(wsmux::WsManagerBuilder) -> wsmux::WsManagerBuilder,
) -> RequestPool {
    RequestPool::builder(asker, "x")
        .config(config)
        .manager(|manager| set(manager.limiter(Limiter::new()).seed(7)))
        .build()
        .unwrap()
}

impl Counter {
    fn new(desk: Desk) -> Self {
        Self::with(desk, PoolConfig::default(), config(), Guests::default())
    }

    fn with(desk: Desk, pool: PoolConfig, config: GatewayConfig, doors: Guests) -> Self {
        let (mock, transport) = Mock::in_memory(desk);
        let pool =
            pool_of(Asker::new("ws://test/ws"), pool, |manager| manager.transport(transport));
        Self { gateway: gateway(&pool, config, doors), mock, pool }
    }

    async fn post(&self, body: impl Into<Body>) -> Answer {
        self.post_as("application/json", body).await
    }

    async fn post_as(&self, kind: &str, body: impl Into<Body>) -> Answer {
        let request = http::Request::post("/batch").header("content-type", kind);
        let service = TowerToHyperService::new(self.gateway.router());
        let asked_at = Instant::now();
        let response = service.call(request.body(body.into()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        Answer { asked_at, body: response.into_body().into_data_stream(), status }
    }

    fn heard(&self) -> Vec<String> {
        self.mock.tell(|desk, _| desk.heard.iter().map(|(_, body)| body.clone()).collect())
    }

    fn cancelled(&self) -> usize {
        self.mock.tell(|desk, _| desk.cancelled.len())
    }
}

/// An answer, as it comes.
struct Answer {
    asked_at: Instant,
    body: BodyDataStream,
    status: u16,
}

impl Answer {
    /// The next event and when it came; `None` at the end. Signs of life are passed over.
    async fn event(&mut self) -> Option<(Duration, Value)> {
        loop {
            let chunk = self.body.next().await?.unwrap();
            let text = std::str::from_utf8(&chunk).unwrap();
            let Some(rest) = text.strip_prefix("event: ") else {
                assert!(text.starts_with(": "), "neither an event nor a comment: {text}");
                continue;
            };
            let (kind, data) = rest.split_once('\n').unwrap();
            let data: String =
                data.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
            let event: Value = serde_json::from_str(&data).unwrap();
            assert_eq!(event["type"], kind);
            assert!(schema::is_of_batch(&event), "the schema does not know {event}");
            return Some((self.asked_at.elapsed(), event));
        }
    }

    /// All there is, to the end.
    async fn events(mut self) -> Vec<(Duration, Value)> {
        let mut events = Vec::new();
        while let Some(event) = self.event().await {
            events.push(event);
        }
        events
    }

    async fn refusal(self) -> (u16, String) {
        let body: Vec<_> = self.body.collect().await;
        let body: Vec<u8> = body.into_iter().flat_map(|chunk| chunk.unwrap().to_vec()).collect();
        let body: Value = serde_json::from_slice(&body).unwrap();
        (self.status, body["error"].as_str().unwrap().to_owned())
    }
}

/// `may/0` to `may/count`.
pub(crate) fn posted(count: usize) -> String {
    let names: Vec<String> = (0..count).map(|n| format!("may/{n}")).collect();
    serde_json::json!({ "requests": names }).to_string()
}

/// Takes so long for each answer.
fn slow(takes: Duration) -> Desk {
    Desk::new(move |asked, out| out.send_after(takes, asked.socket, asked.reply(asked.body)))
}

/// Lets everything happen that needs no time.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
