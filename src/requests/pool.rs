//! The pool's handle.

use std::fmt;
use std::sync::Arc;

use super::batch::Batch;
#[cfg(feature = "cache")]
use super::cache::CacheStats;
use super::call::Call;
use super::counts::PoolStats;
use super::parts::Parts;
use super::shared::Shared;
use crate::error::{RequestError, SubscribeError};
use crate::manager::{Reply, WsManager};
use crate::stream::Lease;

/// Asks a server over a few connections that are kept open between requests.
///
/// A handle: cloning it is cheap, and clones share everything. See the [module](super) for what it
/// does. Its methods want a tokio runtime with timers, of any flavour.
#[derive(Clone)]
pub struct RequestPool {
    pub(super) shared: Arc<Shared>,
}

impl RequestPool {
    pub(super) fn of(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// Asks the server, and resolves with the whole reply.
    ///
    /// The request waits for its place if all connections are full, first come, first served; it goes
    /// to the open connection that has the fewest in flight. What is written is written once, unless
    /// the call is [idempotent](Call::idempotent).
    ///
    /// # Errors
    ///
    /// See [`RequestError`]. [`NotSent(Expired)`](crate::SendError::Expired) and
    /// [`TimedOut`](RequestError::TimedOut) are also those of the call's own deadline, before and after
    /// it was written.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives its place back, and cancels the request as
    /// [`WsManager::request`] does: a reply that still comes is ignored.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers.
    ///
    /// ```no_run
    /// # async fn run(pool: wsmux::requests::RequestPool) -> Result<(), wsmux::RequestError> {
    /// use wsmux::requests::Call;
    ///
    /// let reply = pool.request(Call::new(r#"{"method":"klines"}"#).idempotent()).await?;
    /// println!("{:?}", reply.message());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn request(&self, call: impl Into<Call>) -> Result<Reply, RequestError> {
        self.shared.ask(call.into(), usize::MAX).await.outcome
    }

    /// The same, for replies that come in parts: each is yielded as it comes, and the stream ends after
    /// the last, or after the first error.
    ///
    /// Nothing happens before it is polled, and dropping it cancels the request. The call's deadline
    /// holds for the first part; for each further one,
    /// [`reply_timeout`](field@crate::Config::reply_timeout) does. It is not made again once a part was
    /// there, [idempotent](Call::idempotent) or not: who has parts would get them twice.
    ///
    /// Parts that nobody takes keep the request's place, and are bounded: see
    /// [`request_parts`](WsManager::request_parts).
    pub fn request_parts(&self, call: impl Into<Call>) -> Parts {
        Parts::new(Arc::clone(&self.shared), call.into())
    }

    /// Asks many things, and yields how each ended, as they do; with [`Batch::in_order`], in the order in
    /// which they were asked.
    ///
    /// A group is in flight at once: [`batch_size`](field@super::PoolConfig::batch_size) requests, or as
    /// many as the server bears ([`batch_bounds`](field@super::PoolConfig::batch_bounds)); as one ends, the
    /// next begins. Each has its own deadline, from its beginning on, and one that fails is no concern of
    /// the others. Requests beside the batch share the pool's connections with it.
    ///
    /// Nothing happens while it is not polled: what is in flight then waits to be read. Dropping it
    /// cancels what is in flight and forgets the rest.
    ///
    /// ```no_run
    /// # async fn run(pool: wsmux::requests::RequestPool) {
    /// use futures::StreamExt as _;
    /// use wsmux::requests::Call;
    ///
    /// let symbols = ["BTCUSDT", "ETHUSDT", "SOLUSDT"];
    /// let mut charts = pool.batch(symbols.map(|symbol| Call::new(symbol).idempotent()));
    /// while let Some(chart) = charts.next().await {
    ///     println!("{} of {}", chart.progress.done, chart.progress.total);
    ///     match chart.outcome {
    ///         Ok(reply) => println!("{}: {:?}", symbols[chart.index], reply.message()),
    ///         Err(e) => eprintln!("{}: {e}", symbols[chart.index]),
    ///     }
    /// }
    /// # }
    /// ```
    pub fn batch(&self, calls: impl IntoIterator<Item = impl Into<Call>>) -> Batch {
        let calls = calls.into_iter().map(Into::into).collect();
        Batch::new(Arc::clone(&self.shared), calls)
    }

    /// Opens the first `connections` of the pool, and keeps them open until what is returned is
    /// dropped, so that the first requests need not wait for them.
    ///
    /// # Errors
    ///
    /// Those of [`WsManager::keep_warm`].
    pub fn keep_warm(&self, connections: usize) -> Result<Warm, SubscribeError> {
        self.shared.lanes.keep_warm(connections).map(Warm)
    }

    /// What it has done, and what is now.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.shared.stats()
    }

    /// What its cache has done, and what it keeps now; `None` if it has none. The same counts are told to
    /// the recorder of the crate `metrics` that is installed, as `ws_request_cache_hits_total` and its
    /// like, with the manager's label; and they are in the text for Prometheus, which needs the feature of
    /// that name and no recorder.
    #[cfg(feature = "cache")]
    #[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
    #[must_use]
    pub fn cache_stats(&self) -> Option<CacheStats> {
        self.shared.cache.as_ref().map(|cache| cache.stats())
    }

    /// The manager of its connections: for status, events, metrics, new credentials and
    /// [`shutdown`](WsManager::shutdown). Their streams are called as [`Pooled`](super::Pooled) says.
    #[must_use]
    pub fn manager(&self) -> &WsManager {
        &self.shared.lanes.manager
    }
}

impl fmt::Debug for RequestPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestPool")
            .field("config", &self.shared.config)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Keeps connections of a pool open; created by [`RequestPool::keep_warm`].
#[must_use = "the connections are kept open until it is dropped"]
#[derive(Debug)]
pub struct Warm(Vec<Lease>);

impl Warm {
    /// Whether all of them are open now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.iter().all(|lease| lease.status().is_open())
    }
}
