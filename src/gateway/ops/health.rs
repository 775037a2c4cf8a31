//! The three answers to "are you well?".

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::json;

use super::handle::Ops;
use crate::gateway::defect::{Defect, seeded};
use crate::observe::HealthStatus;

/// It answers, so it lives.
pub(super) async fn live() -> Response {
    probe(StatusCode::OK, "live")
}

pub(super) async fn ready(State(ops): State<Ops>) -> Response {
    if ops.is_ready() {
        probe(StatusCode::OK, "ready")
    } else {
        probe(StatusCode::SERVICE_UNAVAILABLE, "not_ready")
    }
}

fn probe(code: StatusCode, status: &'static str) -> Response {
    (code, [(CACHE_CONTROL, "no-store")], Json(json!({ "status": status }))).into_response()
}

/// The status alone: a health check of a load balancer needs no more, and strangers get no more.
pub(super) async fn status(State(ops): State<Ops>) -> Response {
    if seeded(Defect::HealthTellsAll) {
        return findings(State(ops)).await;
    }
    let status = ops.gateway.manager().health().status;
    answer(status, json!({ "status": status.label() }).to_string())
}

pub(super) async fn findings(State(ops): State<Ops>) -> Response {
    let health = ops.gateway.manager().health();
    answer(health.status, health.to_json())
}

fn answer(status: HealthStatus, body: String) -> Response {
    let code = match status {
        HealthStatus::Fail => StatusCode::SERVICE_UNAVAILABLE,
        HealthStatus::Pass | HealthStatus::Warn => StatusCode::OK,
    };
    let headers = [(CONTENT_TYPE, "application/health+json"), (CACHE_CONTROL, "no-store")];
    (code, headers, body).into_response()
}
