//! The gateway, as a program holds it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::sync::oneshot;
use tokio::time::timeout;

#[cfg(feature = "requests")]
use super::batch;
use super::control::Passage;
use super::hub::HubStats;
use super::own::Publisher;
use super::pages;
use super::positions::Positions;
use super::shared::Shared;
use super::sse;
use super::ws;
use crate::manager::WsManager;
use crate::name::StreamName;

/// Serves the streams of a [`WsManager`] to clients that are not Rust. Cloning is cheap: all clones are
/// the same gateway.
///
/// ```no_run
/// use std::net::SocketAddr;
///
/// use wsmux::WsManager;
/// use wsmux::gateway::Gateway;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = WsManager::connect("wss://stream.binance.com:9443/ws")?;
/// let gateway = Gateway::new(manager);
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
/// // ws://127.0.0.1:8080/ws, ws://127.0.0.1:8080/ws/btcusdt@trade
/// let service = gateway.router().into_make_service_with_connect_info::<SocketAddr>();
/// axum::serve(listener, service).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Gateway(Arc<Shared>);

impl Gateway {
    pub(super) fn of(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    /// The routes, to be served as they are or nested into others.
    ///
    /// Serve them with `into_make_service_with_connect_info::<SocketAddr>()`, so that the
    /// [doors](super::Doors) know who connects.
    pub fn router(&self) -> Router {
        let router = Router::new()
            .route("/client.js", get(pages::client))
            .route("/snapshot/{*name}", get(sse::snapshot))
            .route("/sse", get(sse::many))
            .route("/sse/{*name}", get(sse::one))
            .route("/ws", get(ws::words))
            .route("/ws/{*name}", get(ws::raw));
        #[cfg(feature = "requests")]
        let router = match self.0.batch {
            Some(_) => router.route("/batch", axum::routing::post(batch::serve)),
            None => router,
        };
        router.with_state(Arc::clone(&self.0))
    }

    /// A route `/echo`, which sends back what it is sent: for who examines how the gateway reads and
    /// writes frames.
    #[cfg(feature = "test-util")]
    #[doc(hidden)]
    pub fn echo_router(&self) -> Router {
        Router::new().route("/echo", get(ws::echo)).with_state(Arc::clone(&self.0))
    }

    /// The pages for people: `/` is a dashboard, `/try` shows the messages of a stream, and `/overview` has
    /// the numbers for both, for whom the doors let in. To be merged with the [router](Self::router), or to
    /// be served elsewhere.
    ///
    /// What happens to connections is written down from this call on, in a runtime.
    pub fn pages(&self) -> Router {
        pages::router(&self.0)
    }

    /// A publisher of the application's own messages on `name`, which clients read as they do relayed
    /// names. Publishing is synchronous, never waits and never fails.
    ///
    /// From then on the name is the application's: who subscribes reads what is published, and upstream
    /// is not asked for it, until the last publisher is dropped. Who reads a relayed name already goes on
    /// with that.
    ///
    /// ```
    /// # fn run(gateway: &wsmux::gateway::Gateway) -> Result<(), wsmux::InvalidName> {
    /// use wsmux::StreamName;
    ///
    /// let news = gateway.publisher(StreamName::try_from("news")?);
    /// news.publish(r#"{"headline":"a new listing"}"#);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn publisher(&self, name: StreamName) -> Publisher {
        self.0.source.own.publisher(name)
    }

    /// Lets nobody in any more, and closes all WebSocket clients with 1001, spread over `window`: a herd
    /// that comes back at once is as bad as one that goes. Streams of events end.
    ///
    /// Returns when all are gone, or a little after the window. Dropping the future stops nothing.
    pub async fn drain(&self, window: Duration) {
        self.0.drain();
        let answers = self.0.shards().into_iter().filter_map(|shard| {
            let (answer, drained) = oneshot::channel();
            shard.passages.send(Passage::Drain(window, answer)).is_ok().then_some(drained)
        });
        let all = futures::future::join_all(answers);
        let _ = timeout(window + 2 * self.0.config.close_timeout, all).await;
    }

    /// The manager whose streams it serves.
    #[must_use]
    pub fn manager(&self) -> &WsManager {
        &self.0.source.manager
    }

    /// How far the ids of its events have come: what to keep over a restart for
    /// [`GatewayBuilder::ids_after`](super::GatewayBuilder::ids_after).
    ///
    /// Ids are given all the time. What is written down has to be [later](Positions::later) by as many as may be
    /// given until the next is, and by as many when a gateway begins that goes on after it.
    #[must_use]
    pub fn positions(&self) -> Positions {
        self.0.numbers().positions()
    }

    /// What its manager has counted, and the pool of batches where there is one: one text, as each metric
    /// may be in it once.
    pub(super) fn prometheus(&self) -> String {
        #[cfg(feature = "requests")]
        let text = {
            let pool = self.0.batch.as_ref().map(batch::Desk::pool);
            crate::requests::prometheus([self.manager()], pool)
        };
        #[cfg(not(feature = "requests"))]
        let text = self.manager().prometheus();
        text
    }

    /// What it has done so far, and whom it serves.
    #[must_use]
    pub fn stats(&self) -> HubStats {
        let stats = self.0.hub.stats();
        #[cfg(feature = "requests")]
        let stats =
            HubStats { batches: self.0.batch.as_ref().map_or(0, batch::Desk::running), ..stats };
        stats
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("config", &self.0.config)
            .field("manager", &self.0.source.manager)
            .finish_non_exhaustive()
    }
}
