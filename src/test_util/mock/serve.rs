//! From a service to its sockets: in memory, and on a port.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::dial::{Handshake, SocketId};
use super::host::Host;
use super::out::Say;
use super::service::Service;
use crate::protocol::{DisconnectReason, Request, Response};
use crate::test_util::memory::{self, MemoryServer};
use crate::test_util::server::{self, Tasks};
use crate::transport::{Frame, TransportError};

/// Calls a service when it asked for it, and says what was to come later. A service that leaves its
/// deadline where it is, is called again after a millisecond.
pub(super) async fn clock<S: Service>(host: Arc<Host<S>>) {
    let (mut due, mut not_before) = (None, None);
    loop {
        let at: Option<Instant> = due.max(not_before.filter(|_| due.is_some()));
        tokio::select! {
            biased;
            other = host.due_other_than(due) => due = other,
            () = sleep_until(at.unwrap_or_else(Instant::now)), if at.is_some() => {
                host.tick();
                not_before = Some(Instant::now() + Duration::from_millis(1));
            }
        }
    }
}

/// Answers all dials of a transport in memory.
pub(super) async fn in_memory<S: Service>(
    host: Arc<Host<S>>,
    mut dials: MemoryServer,
    tasks: Tasks,
) {
    loop {
        let dial = dials.dial().await;
        if let Some(status) = host.look(|inner| inner.refusals.pop_front()) {
            dial.refuse(TransportError::refused(Response::new(status, HeaderMap::new())));
            continue;
        }
        let (socket, says) = host.open(&Handshake::in_memory(dial.request()));
        tasks.spawn(talk_in_memory(Arc::clone(&host), dial.accept(), socket, says));
    }
}

async fn talk_in_memory<S: Service>(
    host: Arc<Host<S>>,
    mut peer: memory::Peer,
    socket: SocketId,
    mut says: mpsc::Receiver<Say>,
) {
    let mut closing = false;
    loop {
        tokio::select! {
            biased;
            frame = peer.recv() => {
                let Some(frame) = frame else { break };
                if let Frame::Ping(payload) = &frame {
                    peer.answer(payload.clone());
                }
                host.heard(socket, &frame);
            }
            say = says.recv(), if !closing => match say {
                Some(Say::Close(code, reason)) => {
                    peer.close(code, &reason);
                    closing = true;
                }
                Some(Say::Garbage(_)) => {
                    peer.fail(TransportError::new(DisconnectReason::ProtocolViolation));
                    return host.gone(socket);
                }
                Some(Say::Ping(payload)) => peer.ping_with(payload),
                Some(Say::Send(message)) => peer.send(message),
                Some(Say::Drop) | None => break,
            },
        }
    }
    drop(peer);
    host.gone(socket);
}

/// Serves a socket on a port. It counts as open with this call.
pub(super) fn on_port<S: Service>(
    host: Arc<Host<S>>,
    peer: server::Peer,
) -> impl Future<Output = ()> + Send {
    let dial = Handshake {
        headers: peer.headers().clone(),
        path: peer.path().to_owned(),
        query: peer.query().map(Into::into),
    };
    let (socket, says) = host.open(&dial);
    async move {
        talk(&host, &peer, socket, says).await;
        host.gone(socket);
    }
}

async fn talk<S: Service>(
    host: &Host<S>,
    peer: &server::Peer,
    socket: SocketId,
    mut says: mpsc::Receiver<Say>,
) {
    let mut closing = false;
    loop {
        tokio::select! {
            biased;
            frame = peer.recv() => {
                let Some(frame) = frame else { return };
                host.heard(socket, &frame);
            }
            say = says.recv(), if !closing => {
                closing = matches!(say, Some(Say::Close(..)));
                let done = match say {
                    Some(Say::Close(code, reason)) => peer.close(code, &reason).await,
                    Some(Say::Garbage(garbage)) => peer.garbage(garbage).await,
                    Some(Say::Ping(payload)) => peer.ping(payload).await,
                    Some(Say::Send(message)) => peer.send(message).await,
                    Some(Say::Drop) | None => false,
                };
                if !done {
                    return peer.fin();
                }
            }
        }
    }
}

impl Handshake {
    fn in_memory(request: &Request) -> Self {
        let mut headers = request.headers().clone();
        let asked = request.subprotocols().join(", ");
        if let Some(asked) = HeaderValue::from_str(&asked).ok().filter(|asked| !asked.is_empty()) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, asked);
        }
        let url = request.url();
        Self { headers, path: url.path().to_owned(), query: url.query().map(Into::into) }
    }
}
