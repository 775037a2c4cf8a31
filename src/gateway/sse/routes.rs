//! `GET /sse/{name}` and `GET /sse?names=a,b`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::body::Reader;
use super::cursor::{Cursor, Start};
use crate::gateway::shared::Shared;
use crate::gateway::visitor::Denied;
use crate::name::StreamName;

#[derive(Debug, Deserialize)]
pub(in crate::gateway) struct Names {
    /// Separated by commas.
    names: String,
}

pub(in crate::gateway) async fn one(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    open(&shared, request, &[&*name], false).await.unwrap_or_else(|refused| refused)
}

pub(in crate::gateway) async fn many(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Response {
    let names = match asked(request.uri()) {
        Ok(Names { names }) => names,
        Err(refused) => return refused,
    };
    let names: Vec<&str> = names.split(',').collect();
    open(&shared, request, &names, true).await.unwrap_or_else(|refused| refused)
}

async fn open(
    shared: &Arc<Shared>,
    request: Request,
    names: &[&str],
    is_many: bool,
) -> Result<Response, Response> {
    let valid = distinct(names, shared.config.names_per_client)?;
    let (parts, _) = request.into_parts();
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    let visitor = shared.admit(&parts, peer, &valid).await?;
    if valid.len() > visitor.standing().max_names() {
        return Err(too_many());
    }
    // Looked at before what it stands for is.
    let version = visitor.standing().version();
    let was_at = last_event_id(&parts.headers);
    let mut cursors = Vec::with_capacity(valid.len());
    for name in &valid {
        let held = visitor.standing().hold(name).map_err(denied)?;
        let tail = shared.tail(name, &visitor)?;
        let start = match was_at {
            None => Start::First,
            Some(id) => Start::Again(id.parse().ok()),
        };
        let reading = (held, shared.hub.reads(name));
        cursors.push(Cursor::new(tail, start, reading, version, shared.numbers()));
    }
    let reader = Reader {
        _counted: shared.hub.counts(|hub| &hub.sse),
        cursors,
        draining: shared.draining(),
        is_many,
        keep_alive: shared.config.keep_alive,
        shared: Arc::clone(shared),
        visitor,
    };
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        // nginx holds responses back unless told otherwise.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, reader.into_body()).into_response())
}

/// What a query asks for. What is not UTF-8 is refused: read with something in its place, it would be another name.
#[expect(clippy::result_large_err, reason = "an answer is what it is for")]
fn asked(uri: &Uri) -> Result<Names, Response> {
    let query = uri.query().unwrap_or_default();
    if percent_decode_str(query).decode_utf8().is_err() {
        return Err((StatusCode::BAD_REQUEST, "a name is UTF-8\n").into_response());
    }
    let Query(names) = Query::try_from_uri(uri).map_err(|e| e.into_response())?;
    Ok(names)
}

/// The names that were asked for, each once.
#[expect(clippy::result_large_err, reason = "an answer is what it is for")]
fn distinct(names: &[&str], most: usize) -> Result<Vec<StreamName>, Response> {
    let mut valid = Vec::new();
    for name in names {
        let name = StreamName::try_from(*name)
            .map_err(|_| (StatusCode::NOT_FOUND, "no such name\n").into_response())?;
        if !valid.contains(&name) {
            valid.push(name);
        }
        if valid.len() > most {
            return Err(too_many());
        }
    }
    Ok(valid)
}

/// The names in a query, if they are, for a fuzzer.
#[cfg(fuzzing)]
pub(in crate::gateway) fn names_in(uri: &Uri, most: usize) -> Option<Vec<StreamName>> {
    let Names { names } = asked(uri).ok()?;
    let names: Vec<&str> = names.split(',').collect();
    distinct(&names, most).ok()
}

fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get("last-event-id")?;
    // One that is no text is none of ours: it is a place that cannot be found.
    Some(id.to_str().unwrap_or("?")).filter(|id| !id.is_empty())
}

fn too_many() -> Response {
    denied(Denied::TooMany)
}

fn denied(why: Denied) -> Response {
    (StatusCode::FORBIDDEN, format!("{why}\n")).into_response()
}
