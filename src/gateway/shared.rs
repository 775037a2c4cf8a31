//! What all parts of a gateway have.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::request::Parts;
use tokio::sync::watch;

#[cfg(feature = "requests")]
use super::batch::Desk;
use super::config::GatewayConfig;
use super::control::ShardHandle;
use super::doors::Doors;
use super::feed::Source;
use super::hub::Hub;
use super::numbers::Numbers;
use super::shard::Shard;
use super::tail::{Tail, Tails};
use super::visitor::Visitor;
use crate::name::StreamName;

pub(super) struct Shared {
    #[cfg(feature = "requests")]
    pub(super) batch: Option<Desk>,
    pub(super) config: GatewayConfig,
    pub(super) doors: Arc<dyn Doors>,
    pub(super) hub: Arc<Hub>,
    draining: watch::Sender<bool>,
    /// Which shard is next.
    next: AtomicUsize,
    shards: Mutex<Vec<ShardHandle>>,
    pub(super) source: Source,
    tails: Arc<Tails>,
}

impl Shared {
    pub(super) fn new(
        config: GatewayConfig,
        doors: Arc<dyn Doors>,
        source: Source,
        numbers: Numbers,
    ) -> Self {
        Self {
            #[cfg(feature = "requests")]
            batch: None,
            config,
            doors,
            hub: Arc::default(),
            draining: watch::Sender::new(false),
            next: AtomicUsize::new(0),
            shards: Mutex::default(),
            source,
            tails: Arc::new(Tails::new(numbers)),
        }
    }

    #[cfg(feature = "requests")]
    pub(super) fn with_batch(self, batch: Option<Desk>) -> Self {
        Self { batch, ..self }
    }

    /// Lets a request in, to read `names`.
    pub(super) async fn admit(
        &self,
        parts: &Parts,
        peer: Option<SocketAddr>,
        names: &[StreamName],
    ) -> Result<Visitor, Response> {
        if *self.draining.borrow() {
            return Err((StatusCode::SERVICE_UNAVAILABLE, "the server goes\n").into_response());
        }
        let visitor = self.doors.admit(parts, peer).await?;
        for name in names {
            if let Err(why) = visitor.may_read(name) {
                return Err((StatusCode::FORBIDDEN, format!("{why}\n")).into_response());
            }
            if !self.source.has(name) {
                return Err((StatusCode::NOT_FOUND, "no such name\n").into_response());
            }
        }
        Ok(visitor)
    }

    /// The shard for one more client. Started for the first one, in whose runtime it stays; and again
    /// where that runtime has gone.
    pub(super) fn shard(&self) -> ShardHandle {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.config.shards;
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let start =
            || Shard::start(self.config.clone(), Arc::clone(&self.hub), self.source.clone());
        while shards.len() <= at {
            shards.push(start());
        }
        if shards[at].passages.is_closed() {
            shards[at] = start();
        }
        shards[at].clone()
    }

    /// All shards there are.
    pub(super) fn shards(&self) -> Vec<ShardHandle> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The tail of a name for a visitor, and what tells of changes; or why there is none.
    #[expect(clippy::result_large_err, reason = "an answer is what it is for")]
    pub(super) fn tail(
        &self,
        name: &StreamName,
        visitor: &Visitor,
    ) -> Result<(Arc<Tail>, watch::Receiver<()>), Response> {
        let key = (name, visitor.standing().delay());
        self.tails.open(key, &self.config, &self.source).map_err(|why| {
            let status = if why.is_lasting() {
                StatusCode::NOT_FOUND
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            (status, format!("{why}\n")).into_response()
        })
    }

    /// The order of all events.
    pub(super) fn numbers(&self) -> &Numbers {
        self.tails.numbers()
    }

    /// Tells when nobody is let in any more.
    pub(super) fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Lets nobody in any more, and ends streams of events.
    pub(super) fn drain(&self) {
        self.draining.send_replace(true);
    }
}
