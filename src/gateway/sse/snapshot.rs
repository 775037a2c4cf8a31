//! `GET /snapshot/{name}`: the latest message, for who asks now and then.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::gateway::shared::Shared;
use crate::gateway::tail::Tail;
use crate::gateway::words;
use crate::message::Message;
use crate::name::StreamName;

/// What the stream is doing: whether what is shown is kept up to date.
const STATUS: HeaderName = HeaderName::from_static("stream-status");

pub(in crate::gateway) async fn snapshot(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    look(&shared, &name, request).await.unwrap_or_else(|refused| refused)
}

async fn look(shared: &Arc<Shared>, name: &str, request: Request) -> Result<Response, Response> {
    let name = StreamName::try_from(name)
        .map_err(|_| (StatusCode::NOT_FOUND, "no such name\n").into_response())?;
    let (parts, _) = request.into_parts();
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    // Holds its places until there is an answer.
    let visitor = shared.admit(&parts, peer, std::slice::from_ref(&name)).await?;
    let (tail, mut changes) = shared.tail(&name, &visitor)?;
    let first = first(&tail, &mut changes);
    let _ = timeout(shared.config.snapshot_timeout, first).await;
    let (latest, status) = tail.latest();
    let Some((place, message)) = latest else {
        let later = [(RETRY_AFTER, "1")];
        return Err((StatusCode::SERVICE_UNAVAILABLE, later, "no message yet\n").into_response());
    };
    let etag = format!("\"{place}\"");
    let headers = [
        (ETAG, etag.clone()),
        // To be kept, and asked about each time.
        (CACHE_CONTROL, "no-cache".to_owned()),
        (STATUS, if status.is_empty() { "connecting" } else { status }.to_owned()),
    ];
    if is_known(&parts.headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    Ok((headers, [(CONTENT_TYPE, content_type(&message))], message.into_bytes()).into_response())
}

/// Until there is a message, or will be none.
async fn first(tail: &Tail, changes: &mut watch::Receiver<()>) {
    while tail.latest().0.is_none() && !tail.is_ended() {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// RFC 9110, section 13.1.2: any of a list, compared weakly.
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value
            .split(',')
            .map(str::trim)
            .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag)
    })
}

fn content_type(message: &Message) -> &'static str {
    match message.as_text() {
        Some(text) if words::is_json(text) => "application/json",
        Some(_) => "text/plain; charset=utf-8",
        None => "application/octet-stream",
    }
}
