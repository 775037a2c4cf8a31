//! `POST /ticket`.
//!
//! A page of another origin has to be allowed to ask (the fetch standard's CORS protocol): it is told
//! that it may by its own origin, never by `*`.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, CACHE_CONTROL, ORIGIN, REFERRER_POLICY, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use tokio::time::Instant;

use super::Entrance;
use super::refusal::Refusal;
use crate::gateway::auth::AuthError;

impl Entrance {
    /// `POST /ticket`: exchanges what is shown in `Authorization: Bearer` for a ticket, as
    /// `{"ticket":"…","expires_in":30}`; for pages of the [origins](super::EntranceBuilder::origins).
    pub fn router(&self) -> Router {
        Router::new().route("/ticket", post(issue).options(preflight)).with_state(self.clone())
    }
}

async fn issue(State(entrance): State<Entrance>, parts: Parts) -> Response {
    let headers = cors(&entrance, &parts);
    match ticket(&entrance, &parts).await {
        Ok(ticket) => (headers, ticket).into_response(),
        Err(refusal) => (headers, refusal.answer(entrance.settings().retry_after)).into_response(),
    }
}

async fn ticket(entrance: &Entrance, parts: &Parts) -> Result<Json<serde_json::Value>, Refusal> {
    let settings = entrance.settings();
    if !settings.origins.admit(parts) {
        return Err(Refusal::Origin);
    }
    // A ticket is not exchanged for a ticket: that would make it last for ever.
    if !parts.headers.contains_key(AUTHORIZATION) {
        return Err(Refusal::Auth(AuthError::Missing));
    }
    settings.auth.prepare_request(parts).await;
    let identity = settings.auth.request(parts).map_err(Refusal::Auth)?;
    let left = identity.expires_at.map_or(Duration::MAX, |at| at - Instant::now());
    let expires_in = left.min(settings.auth.ticket_ttl()).as_secs();
    let ticket = settings.auth.ticket(identity).map_err(Refusal::Auth)?;
    Ok(Json(json!({ "ticket": ticket.expose(), "expires_in": expires_in })))
}

async fn preflight(State(entrance): State<Entrance>, parts: Parts) -> Response {
    let mut headers = cors(&entrance, &parts);
    if headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization"));
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// What every answer bears.
fn cors(entrance: &Entrance, parts: &Parts) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(VARY, HeaderValue::from_static("origin"));
    if let Some(origin) =
        parts.headers.get(ORIGIN).filter(|_| entrance.settings().origins.admit(parts))
    {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    headers
}
