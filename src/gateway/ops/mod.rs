//! What operators see and do.
//!
//! Two sets of routes, for two listeners:
//!
//! | [`Ops::public`] | |
//! |---|---|
//! | `GET /livez` | 200 while the process answers. Not tied to upstream: a restart mends no venue |
//! | `GET /readyz` | 200 while clients may be sent here, 503 before that and while draining |
//! | `GET /health` | 200 or 503, `application/health+json`: the status, and nothing of what is inside |
//!
//! | [`Ops::admin`] adds | |
//! |---|---|
//! | `GET /health` | with all findings, names of streams included |
//! | `GET /metrics` | for Prometheus: the library's and the gateway's |
//! | `GET /stats` | for people: JSON; `?format=prometheus` is `/metrics` |
//! | `POST /admin/sweep` | closes the streams that nobody reads |
//! | `POST /admin/reconnect/{name}` | has another socket take a stream over |
//! | `POST /admin/rotate` | gets fresh credentials for upstream |
//!
//! - What changes something wants the token, and there is none by default: then nobody may.
//! - With a token, what tells names or figures wants it too. Only the health of the process is for
//!   everybody, without names, addresses or reasons.
//! - Labels of metrics are few and fixed; names and users are in `/stats` only, a hundred at most.

mod admin;
mod health;
mod metrics;
mod stats;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::{get, post};
use ring::digest::{SHA256, digest};

use self::stats::Sample;
use super::entrance::Entrance;
use super::handle::Gateway;
use crate::config::Secret;

/// The operators' side of a [`Gateway`]. Cloning is cheap: all clones are the same.
///
/// ```
/// use wsmux::WsManager;
/// use wsmux::gateway::{Gateway, Ops};
///
/// let gateway = Gateway::new(WsManager::connect("wss://stream.example.com/ws")?);
/// let ops = Ops::new(gateway.clone()).token("a token of the operator's");
/// let public = gateway.router().merge(ops.public());
/// let admin = ops.admin(); // for a listener on loopback
/// ops.set_ready(true);
/// # let _ = (public, admin);
/// # Ok::<(), wsmux::BuildError>(())
/// ```
#[derive(Clone)]
pub struct Ops {
    entrance: Option<Entrance>,
    gateway: Gateway,
    /// The hash of the token.
    token: Option<Arc<[u8]>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ready: AtomicBool,
    sample: Mutex<Option<Sample>>,
}

impl Ops {
    /// The operators' side of `gateway`. It is not ready before that is [said](Self::set_ready).
    #[must_use]
    pub fn new(gateway: Gateway) -> Self {
        Self { entrance: None, gateway, token: None, shared: Arc::default() }
    }

    /// Sets who lets clients in, to be told of in metrics.
    #[must_use]
    pub fn entrance(mut self, entrance: Entrance) -> Self {
        self.entrance = Some(entrance);
        self
    }

    /// Sets the token that operators show in `Authorization: Bearer`. Its hash is kept.
    #[must_use]
    pub fn token(mut self, token: impl Into<Secret>) -> Self {
        self.token = Some(hash(token.into().expose()).into());
        self
    }

    /// Sets whether clients may be sent here.
    pub fn set_ready(&self, ready: bool) {
        self.shared.ready.store(ready, Ordering::Release);
    }

    /// Whether clients may be sent here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.ready.load(Ordering::Acquire)
    }

    /// The routes for everybody.
    pub fn public(&self) -> Router {
        Router::new().route("/health", get(health::status)).merge(probes()).with_state(self.clone())
    }

    /// The routes for operators, those for everybody included.
    pub fn admin(&self) -> Router {
        Router::new()
            .route("/admin/reconnect/{*name}", post(admin::reconnect))
            .route("/admin/rotate", post(admin::rotate))
            .route("/admin/sweep", post(admin::sweep))
            .route("/health", get(health::findings))
            .route("/metrics", get(metrics::serve))
            .route("/stats", get(stats::serve))
            .route_layer(axum::middleware::from_fn_with_state(self.clone(), admin::guard))
            .merge(probes())
            .with_state(self.clone())
    }
}

fn probes() -> Router<Ops> {
    Router::new().route("/livez", get(health::live)).route("/readyz", get(health::ready))
}

fn hash(token: &str) -> Vec<u8> {
    digest(&SHA256, token.as_bytes()).as_ref().to_vec()
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ops")
            .field("gateway", &self.gateway)
            .field("ready", &self.is_ready())
            .field("token", &self.token.is_some())
            .finish_non_exhaustive()
    }
}
