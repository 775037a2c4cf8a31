//! `GET /ws` and `GET /ws/{name}`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use hyper::upgrade::{OnUpgrade, on};
use tokio::time::timeout;

use super::control::{Arrival, Control, Form};
use super::io;
use super::reader::{Client, Reader};
use super::shared::Shared;
use super::upgrade;
use super::visitor::Visitor;
use crate::name::StreamName;

/// How long the server takes at most to hand a connection over, once it was answered.
const HANDOVER: Duration = Duration::from_secs(10);

/// Many names, as JSON.
pub(super) async fn words(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    open(shared, request, Form::Words, None).await.unwrap_or_else(|refused| refused)
}

/// What a client sends comes back.
#[cfg(feature = "test-util")]
pub(super) async fn echo(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    open(shared, request, Form::Echo, None).await.unwrap_or_else(|refused| refused)
}

/// One name, byte for byte.
pub(super) async fn raw(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    match StreamName::try_from(&*name) {
        Ok(name) => {
            let opened = open(shared, request, Form::Raw, Some(name)).await;
            opened.unwrap_or_else(|refused| refused)
        }
        Err(_) => (StatusCode::NOT_FOUND, "no such name\n").into_response(),
    }
}

/// Answers a request, and leaves a task behind that serves what becomes of it. Whatever goes wrong from
/// here on, the visitor is dropped.
async fn open(
    shared: Arc<Shared>,
    request: Request,
    form: Form,
    name: Option<StreamName>,
) -> Result<Response, Response> {
    let answer = upgrade::accept(&request)?;
    let (mut parts, body) = request.into_parts();
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    let visitor = shared.admit(&parts, peer, name.as_slice()).await?;
    parts.extensions.remove::<ConnectInfo<SocketAddr>>();
    let upgraded = on(Request::from_parts(parts, body));
    tokio::spawn(hand_over(shared, upgraded, visitor, form, name));
    Ok(answer)
}

async fn hand_over(
    shared: Arc<Shared>,
    upgraded: OnUpgrade,
    visitor: Visitor,
    form: Form,
    name: Option<StreamName>,
) {
    let Ok(Ok(upgraded)) = timeout(HANDOVER, upgraded).await else { return };
    let (input, output, early) = io::split(upgraded);
    let arrival = Arrival {
        control: Arc::<Control>::default(),
        counted: shared.hub.counts(|hub| &hub.clients),
        form,
        output,
        visitor,
    };
    let client = Client {
        close_timeout: shared.config.close_timeout,
        doors: Arc::clone(&shared.doors),
        max_message: shared.config.max_message,
        message_timeout: shared.config.message_timeout,
        shard: shared.shard(),
    };
    let Some(mut reader) = Reader::enter(client, arrival).await else { return };
    if let Some(name) = name {
        reader.relay(name).await;
    }
    reader.take_early(&early);
    // A task of its own: this one is as large as an upgrade, and that one stays.
    tokio::spawn(reader.run(input));
}
