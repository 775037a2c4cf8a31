//! The gateway, as a program holds it.

use std::fmt;
use std::sync::Arc;

use axum::Router;

use super::hub::HubStats;
use super::shared::Shared;
use crate::manager::WsManager;

/// Serves the streams of a [`WsManager`] to clients that are not Rust. Cloning is cheap: all clones are
/// the same gateway.
#[derive(Clone)]
pub struct Gateway(Arc<Shared>);

impl Gateway {
    pub(super) fn of(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    /// The routes, to be served as they are or nested into others.
    pub fn router(&self) -> Router {
        Router::new()
    }

    /// The manager whose streams it serves.
    #[must_use]
    pub fn manager(&self) -> &WsManager {
        &self.0.manager
    }

    /// What it has done so far, and whom it serves.
    #[must_use]
    pub fn stats(&self) -> HubStats {
        self.0.hub.stats()
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("config", &self.0.config)
            .field("manager", &self.0.manager)
            .finish_non_exhaustive()
    }
}
