//! Which request goes where.

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use super::handle::Ops;
use super::{admin, health, metrics, stats};

impl Ops {
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
            .route_layer(from_fn_with_state(self.clone(), admin::guard))
            .merge(probes())
            .with_state(self.clone())
    }
}

fn probes() -> Router<Ops> {
    Router::new().route("/livez", get(health::live)).route("/readyz", get(health::ready))
}
