//! Who may do something here, and what.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{AUTHORIZATION, CACHE_CONTROL, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use super::handle::{Ops, hash};
use crate::gateway::defect::{Defect, seeded};

/// Lets through who shows the token. Without one, whoever only looks.
pub(super) async fn guard(State(ops): State<Ops>, request: Request, next: Next) -> Response {
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    let Some(token) = &ops.token else {
        if looks {
            return answered(next.run(request).await);
        }
        let body = json!({ "error": "no_token", "message": "set a token to allow this" });
        return answered((StatusCode::FORBIDDEN, Json(body)).into_response());
    };
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.split_once(' '));
    let is_shown = shown.is_some_and(|(scheme, shown)| {
        scheme.eq_ignore_ascii_case("bearer") && bool::from(hash(shown.trim()).ct_eq(token))
    });
    if is_shown || seeded(Defect::GuardSleeps) {
        return answered(next.run(request).await);
    }
    let body = json!({ "error": "unauthorized", "message": "show the operator's token" });
    let headers = [(WWW_AUTHENTICATE, "Bearer")];
    answered((StatusCode::UNAUTHORIZED, headers, Json(body)).into_response())
}

/// Nothing of this is kept by anybody between.
fn answered(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `POST /admin/sweep`: closes at once what lingers, and tells how many streams that were.
pub(super) async fn sweep(State(ops): State<Ops>) -> Json<Value> {
    let closed = ops.gateway.manager().sweep_idle(Duration::ZERO);
    tracing::info!(closed, "swept, as an operator has asked");
    Json(json!({ "closed": closed }))
}

/// `POST /admin/reconnect/{name}`: 202, or 404 where the name has no socket now.
pub(super) async fn reconnect(State(ops): State<Ops>, Path(name): Path<String>) -> Response {
    let begun = ops.gateway.manager().reconnect(&name);
    tracing::info!(stream = ?name, begun, "to be reconnected, as an operator has asked");
    let status = if begun { StatusCode::ACCEPTED } else { StatusCode::NOT_FOUND };
    (status, Json(json!({ "reconnecting": begun }))).into_response()
}

/// `POST /admin/rotate`: 202. Returns before the provider was asked.
pub(super) async fn rotate(State(ops): State<Ops>) -> (StatusCode, Json<Value>) {
    ops.gateway.manager().rotate_credentials();
    tracing::info!("credentials are rotated, as an operator has asked");
    (StatusCode::ACCEPTED, Json(json!({ "rotating": true })))
}
