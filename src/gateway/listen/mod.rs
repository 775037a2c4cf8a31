//! Serving HTTP to the world.
//!
//! `axum::serve` has no deadline for headers, no limit of connections, and spins where the process is
//! out of descriptors. So this is hyper's HTTP/1 connection with what a socket that anybody may open has
//! to have:
//!
//! | what | default | or else |
//! |---|---|---|
//! | headers come within [`header_timeout`](field@ListenConfig::header_timeout) | 10 s | the connection ends |
//! | that many connections at once, [`connections`](field@ListenConfig::connections) | 10,000 | they wait in the backlog |
//! | `accept` that fails pauses, [`accept_pause`](field@ListenConfig::accept_pause) | 100 ms | |
//! | what is written is taken, [`write_timeout`](field@ListenConfig::write_timeout) | 30 s | the connection ends |
//! | a dead peer is found, [`user_timeout`](field@ListenConfig::user_timeout) | 30 s | the kernel ends the connection |
//! | all ends within [`drain_timeout`](field@ListenConfig::drain_timeout) | 10 s | what is left is aborted |
//!
//! A request without a host, with two, or with one that the target contradicts is refused with 400, and a
//! connection ends with the answer to one that is cut by `Transfer-Encoding`.
//!
//! A connection that is upgraded has left: it goes on in a task of who has upgraded it, and is counted
//! by the gateway's [`Entrance`](super::Entrance).

mod config;
mod deadline;
mod request;
mod socket;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Response;
use http::Request;
use http::header::{CONNECTION, HeaderValue};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::defect::{Defect, seeded};

pub use self::config::ListenConfig;
pub(super) use self::deadline::Deadline;

/// Serves `router` to whoever connects, until `stop` is done: then it accepts nobody any more, lets
/// requests that are under way come to their end, and returns when all have, or
/// [`drain_timeout`](field@ListenConfig::drain_timeout) is over.
///
/// The address of the other end is in the extensions of each request as
/// [`ConnectInfo<SocketAddr>`](ConnectInfo), where the gateway's doors look for it. WebSocket clients are
/// not closed by this: see `Gateway::drain`.
///
/// Cancel safe: when the future is dropped, all connections are that were not upgraded.
pub async fn listen(
    listener: TcpListener,
    router: Router,
    config: ListenConfig,
    stop: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(config.connections.min(Semaphore::MAX_PERMITS)));
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &places, &config) => accepted,
            // What has ended is forgotten.
            Some(_) = connections.join_next() => continue,
        };
        let (socket, peer, place) = accepted;
        socket::prepare(&socket, &config);
        let serving = serve(socket, peer, router.clone(), config.clone(), stopped.clone());
        connections.spawn(async move {
            serving.await;
            drop(place);
        });
    }
    drop(listener);
    let _ = stopping.send(true);
    let all = async { while connections.join_next().await.is_some() {} };
    // What is left then is aborted as the set is dropped.
    let _ = timeout(config.drain_timeout, all).await;
}

type Accepted = (TcpStream, SocketAddr, OwnedSemaphorePermit);

/// The next connection, once there is a place for it. Cancel safe.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    config: &ListenConfig,
) -> Accepted {
    // It is never closed; if it were, nobody would be let in.
    let Ok(place) = Arc::clone(places).acquire_owned().await else {
        return pending().await;
    };
    let (socket, peer) = insisting(|| listener.accept(), config).await;
    (socket, peer, place)
}

/// What `next` gives, however often it fails before. Cancel safe, as `next` is.
async fn insisting<T, F>(next: impl Fn() -> F, config: &ListenConfig) -> T
where
    F: Future<Output = io::Result<T>>,
{
    loop {
        match next().await {
            Ok(accepted) => return accepted,
            Err(e) if is_of_one_connection(&e) || seeded(Defect::AcceptSpins) => {}
            Err(e) => {
                // Out of descriptors or of memory: the backlog waits, and nothing spins.
                tracing::warn!(error = &e as &dyn std::error::Error, "cannot accept connections");
                sleep(config.accept_pause).await;
            }
        }
    }
}

/// Whether only this connection failed, before it was accepted (accept(2): errors to be treated as
/// `EAGAIN`).
fn is_of_one_connection(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    socket: S,
    peer: SocketAddr,
    router: Router,
    config: ListenConfig,
    mut stopped: watch::Receiver<bool>,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request| answer(request, peer, router.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .half_close(seeded(Defect::HalfIsServed))
        .header_read_timeout(config.header_timeout)
        .max_headers(64)
        .max_buf_size(config.header_bytes.max(8 << 10))
        .serve_connection(TokioIo::new(Deadline::new(socket, config.write_timeout)), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let stopping = async {
        // A sender that has gone has stopped, too.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stopping => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        // Anybody can have this happen.
        tracing::debug!(error = &e as &dyn std::error::Error, "a connection ended");
    }
}

/// Has a request answered, if it is one that all who read it understand alike.
async fn answer(
    mut request: Request<Incoming>,
    peer: SocketAddr,
    router: TowerToHyperService<Router>,
) -> Result<Response, Infallible> {
    if let Some(refused) = request::refused(&request) {
        return Ok(refused);
    }
    let is_last = request::is_last(&request);
    request.extensions_mut().insert(ConnectInfo(peer));
    let mut response = router.call(request).await?;
    if is_last {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}
