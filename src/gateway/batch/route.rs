//! The request: who asks what, whether it may, and the answer's body.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::json;
use tokio::time::timeout;

use super::desk::{BatchRequest, Desk};
use super::outbox::{Inbox, outbox};
use super::run::Run;
use super::says::{Failure, Far, Group, Posted, Wish};
use crate::gateway::limits::Place;
use crate::gateway::shared::Shared;
use crate::gateway::visitor::Visitor;
use crate::name::StreamName;
use crate::requests::Call;

pub(in crate::gateway) async fn serve(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Response {
    open(&shared, request).await.unwrap_or_else(|refused| refused)
}

async fn open(shared: &Arc<Shared>, request: Request) -> Result<Response, Response> {
    let desk = shared.batch.as_ref().ok_or_else(|| StatusCode::NOT_FOUND.into_response())?;
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    let visitor = shared.admit(&parts, peer, &[]).await?;
    if !is_json(&parts.headers) {
        let text = "say `Content-Type: application/json`";
        return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", text));
    }
    visitor.standing().may_ask().map_err(too_fast)?;
    let place = desk.places.take(&(), shared.config.batches).ok_or_else(busy)?;
    let posted = read(body, shared.config.max_message, shared.config.write_timeout).await?;
    let most = shared.config.batch_requests.min(visitor.standing().max_names());
    if posted.requests.len() > most {
        let text = format!("{most} requests at once, and no more");
        return Err(refused(StatusCode::FORBIDDEN, "too_many", &text));
    }
    let (run, inbox) = begin(shared, desk, &posted.requests, visitor.clone());
    tokio::spawn(run.run());
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        // nginx holds responses back unless told otherwise.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let body =
        Open { inbox, keep_alive: shared.config.keep_alive, _place: place, _visitor: visitor };
    Ok((headers, body.into_body()).into_response())
}

/// So no form of a foreign page is taken: a page has to ask (CORS) before it may send JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// Reads what was posted, in `max` bytes and within `patience`.
async fn read(body: Body, max: usize, patience: Duration) -> Result<Posted, Response> {
    let whole = timeout(patience, Limited::new(body, max).collect());
    let bytes = match whole.await {
        Ok(Ok(whole)) => whole.to_bytes(),
        Ok(Err(e)) if e.is::<LengthLimitError>() => {
            let text = format!("{max} bytes, and no more");
            return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &text));
        }
        Ok(Err(_)) => return Err(bad("the body broke off")),
        Err(_) => {
            let text = "the body did not come in time";
            return Err(refused(StatusCode::REQUEST_TIMEOUT, "too_slow", text));
        }
    };
    serde_json::from_slice(&bytes)
        .map_err(|_| bad(r#"say {"requests":["name",{"name":"…","params":…}]}"#))
}

/// What is asked of the pool, with the list of it said already.
fn begin(shared: &Shared, desk: &Desk, wishes: &[Wish], visitor: Visitor) -> (Run, Inbox) {
    // Looked at before what it stands for is.
    let version = visitor.standing().version();
    let (mut list, mut far) = (Group::default(), Far { total: wishes.len(), ..Far::default() });
    let (mut asked, mut calls) = (Vec::new(), Vec::new());
    for (index, wish) in wishes.iter().enumerate() {
        let name = StreamName::try_from(wish.parts().0).ok();
        match call(desk, name.as_ref(), wish, &visitor) {
            Ok((name, call)) => {
                list.asked(index, name);
                asked.push((index, name.clone()));
                calls.push(call);
            }
            Err(why) => {
                list.failed(index, name.as_ref(), why);
                far.ended(false);
            }
        }
    }
    let (mut outbox, inbox) = outbox();
    outbox.put(list.list(far));
    let run = Run {
        asked,
        batch: desk.pool.batch(calls),
        draining: shared.draining(),
        far,
        most: shared.config.batch_bytes,
        outbox,
        patience: shared.config.write_timeout,
        version,
        visitor,
    };
    (run, inbox)
}

/// What a wish is sent as, if the visitor may have it and the owner says so.
fn call<'a>(
    desk: &Desk,
    name: Option<&'a StreamName>,
    wish: &Wish,
    visitor: &Visitor,
) -> Result<(&'a StreamName, Call), Failure> {
    let name = name.ok_or(Failure::InvalidName)?;
    visitor.may_read(name).map_err(Failure::Denied)?;
    let request = BatchRequest { name, params: wish.parts().1, visitor };
    (desk.map)(&request).map(|call| (name, call)).ok_or(Failure::NotAllowed)
}

/// An answer that is on its way. The batch ends with it, and the visitor's place is given back.
struct Open {
    inbox: Inbox,
    keep_alive: Duration,
    _place: Place<()>,
    _visitor: Visitor,
}

impl Open {
    fn into_body(mut self) -> Body {
        Body::from_stream(stream! {
            while let Some(event) = self.next().await {
                yield Ok::<_, Infallible>(event);
            }
        })
    }

    /// An event, or a sign of life where none comes. Takes all of it, so that the body holds the places.
    async fn next(&mut self) -> Option<Bytes> {
        match timeout(self.keep_alive, self.inbox.next()).await {
            Ok(event) => event,
            Err(_) => Some(Bytes::from_static(b": keep-alive\n\n")),
        }
    }
}

fn busy() -> Response {
    let text = "as many batches run as may: try again later";
    ([(RETRY_AFTER, "1")], refused(StatusCode::SERVICE_UNAVAILABLE, "busy", text)).into_response()
}

fn too_fast(wait: Duration) -> Response {
    // In whole seconds, and never too early.
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let text = "you post more batches than you may: try again later";
    let answer = refused(StatusCode::TOO_MANY_REQUESTS, "too_many_messages", text);
    ([(RETRY_AFTER, seconds.max(1).to_string())], answer).into_response()
}

fn bad(text: &str) -> Response {
    refused(StatusCode::BAD_REQUEST, "bad_request", text)
}

fn refused(status: StatusCode, code: &'static str, text: &str) -> Response {
    let headers = [(CACHE_CONTROL, "no-store")];
    (status, headers, Json(json!({ "error": code, "message": text }))).into_response()
}
