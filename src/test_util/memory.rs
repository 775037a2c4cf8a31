//! A transport in memory, driven by the test.
//!
//! No sockets and no real time: under `#[tokio::test(start_paused = true)]` a test of hours of
//! backoff runs in microseconds and never flakes. (Never mix paused time with real sockets: the
//! clock jumps over what they are waiting for.)
//!
//! ```
//! use wsmux::WsManager;
//! use wsmux::protocol::Direct;
//! use wsmux::test_util::memory;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (transport, mut server) = memory::pair();
//! let manager = WsManager::builder(Direct::new("ws://test/ws")?).transport(transport).build()?;
//! let mut prices = manager.subscribe::<f64>("btcusdt@price")?;
//!
//! let peer = server.accept().await;
//! assert_eq!(peer.request().url().path(), "/ws/btcusdt@price");
//! peer.send("67012.5");
//! assert_eq!(prices.recv().await.unwrap()?, 67012.5);
//! # Ok(())
//! # }
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::channel::{mpsc, oneshot};
use http::header::HeaderMap;

use crate::message::Message;
use crate::protocol::{DisconnectReason, Request, Response};
use crate::transport::{Frame, Frames, Socket, Transport, TransportError};

/// A connected transport and server.
#[must_use]
pub fn pair() -> (MemoryTransport, MemoryServer) {
    let (dials, incoming) = mpsc::unbounded();
    (MemoryTransport { dials, max_send: usize::MAX }, MemoryServer { incoming, next: None })
}

#[derive(Debug)]
struct Dialled {
    answer: oneshot::Sender<Result<(MemorySocket, Response), TransportError>>,
    max_send: usize,
    request: Request,
}

/// Dials a [`MemoryServer`].
#[derive(Clone, Debug)]
pub struct MemoryTransport {
    dials: mpsc::UnboundedSender<Dialled>,
    max_send: usize,
}

impl MemoryTransport {
    /// Sets the largest message that its sockets take, in bytes: [`Socket::max_send`]. Default: no
    /// bound.
    #[must_use]
    pub fn max_send(mut self, bytes: usize) -> Self {
        self.max_send = bytes;
        self
    }
}

impl Transport for MemoryTransport {
    type Socket = MemorySocket;

    async fn connect(&self, request: &Request) -> Result<(MemorySocket, Response), TransportError> {
        let (answer, answered) = oneshot::channel();
        let dialled = Dialled { answer, max_send: self.max_send, request: request.clone() };
        self.dials.unbounded_send(dialled).map_err(|_| {
            TransportError::new(DisconnectReason::Handshake).with_source("no server")
        })?;
        answered.await.unwrap_or_else(|_| Err(TransportError::new(DisconnectReason::Ended)))
    }
}

/// Answers dials as the test says. A dial that was given up before its answer is passed over.
#[derive(Debug)]
pub struct MemoryServer {
    incoming: mpsc::UnboundedReceiver<Dialled>,
    next: Option<Dialled>,
}

impl MemoryServer {
    /// Accepts the next dial, and waits for it if there is none. Pends for ever once the transport
    /// is gone.
    pub async fn accept(&mut self) -> Peer {
        self.dial().await.accept()
    }

    /// Refuses the next dial with `error`, such as an [`std::io::Error`] or a
    /// [`TransportError`], and says what was asked for.
    pub async fn refuse(&mut self, error: impl Into<TransportError>) -> Request {
        self.dial().await.refuse(error)
    }

    /// Answers the next dial with an HTTP status and headers.
    pub async fn answer(&mut self, status: u16, headers: HeaderMap) -> Request {
        self.refuse(TransportError::refused(Response::new(status, headers))).await
    }

    /// The next dial, to be answered later.
    pub async fn dial(&mut self) -> Dial {
        loop {
            let dialled = match self.next.take() {
                Some(dialled) => dialled,
                None => match self.incoming.next().await {
                    Some(dialled) => dialled,
                    None => std::future::pending().await,
                },
            };
            if !dialled.answer.is_canceled() {
                return Dial(dialled);
            }
        }
    }

    /// Whether somebody is dialling and waiting for an answer.
    pub fn has_dial(&mut self) -> bool {
        if self.next.as_ref().is_some_and(|dialled| !dialled.answer.is_canceled()) {
            return true;
        }
        while let Ok(dialled) = self.incoming.try_recv() {
            if !dialled.answer.is_canceled() {
                self.next = Some(dialled);
                return true;
            }
        }
        false
    }
}

/// Somebody is dialling. Dropping it ends the attempt.
#[derive(Debug)]
pub struct Dial(Dialled);

impl Dial {
    /// What is asked for.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.0.request
    }

    /// Accepts.
    #[must_use]
    pub fn accept(self) -> Peer {
        let link = Arc::new(Mutex::new(Link::default()));
        let socket = MemorySocket { link: Arc::clone(&link), max_send: self.0.max_send };
        let response = Response::new(101, HeaderMap::new());
        let _ = self.0.answer.send(Ok((socket, response)));
        Peer { link, request: self.0.request }
    }

    /// Refuses with `error`.
    pub fn refuse(self, error: impl Into<TransportError>) -> Request {
        let _ = self.0.answer.send(Err(error.into()));
        self.0.request
    }

    /// Resolves when the client gives the attempt up.
    pub async fn given_up(&mut self) {
        self.0.answer.cancellation().await;
    }
}

/// What is on its way between the two ends of a socket.
#[derive(Debug, Default)]
struct Link {
    client_gone: bool,
    client_waker: Option<Waker>,
    /// Written by the client and not flushed.
    buffered: VecDeque<Frame>,
    fault: Option<TransportError>,
    flush_waker: Option<Waker>,
    server_gone: bool,
    server_waker: Option<Waker>,
    stalled: bool,
    to_client: VecDeque<Frame>,
    to_server: VecDeque<Frame>,
}

fn lock(link: &Mutex<Link>) -> MutexGuard<'_, Link> {
    link.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The server's end of one socket. Dropping it ends the connection without a close frame.
#[derive(Debug)]
pub struct Peer {
    link: Arc<Mutex<Link>>,
    request: Request,
}

impl Peer {
    /// What was asked for.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Sends a message.
    pub fn send(&self, message: impl Into<Message>) {
        self.frame(Frame::Data(message.into()));
    }

    /// Sends several messages that arrive in one read.
    pub fn send_all(&self, messages: impl IntoIterator<Item = impl Into<Message>>) {
        self.change(|link| {
            link.to_client.extend(messages.into_iter().map(|message| Frame::Data(message.into())));
        });
    }

    /// Sends a ping.
    pub fn ping(&self) {
        self.frame(Frame::Ping(Bytes::new()));
    }

    /// Sends a ping of this payload.
    pub fn ping_with(&self, payload: impl Into<Bytes>) {
        self.frame(Frame::Ping(payload.into()));
    }

    /// Sends a pong, asked for or not.
    pub fn pong(&self) {
        self.frame(Frame::Pong(Bytes::new()));
    }

    /// Answers a ping of this payload.
    pub fn answer(&self, ping: impl Into<Bytes>) {
        self.frame(Frame::Pong(ping.into()));
    }

    /// Sends a close frame; the connection ends when the peer is dropped.
    pub fn close(&self, code: u16, reason: &str) {
        self.frame(Frame::Close(Some((code, reason.into()))));
    }

    /// Ends the connection with `error`, after what was sent before.
    pub fn fail(self, error: TransportError) {
        self.change(|link| link.fault = Some(error));
    }

    /// Takes up to `frames` of what a [stalled](Self::stall) client has written, and returns how many
    /// there were. The client is not told: to it, a part of its write has gone and a part has not.
    pub fn take(&self, frames: usize) -> usize {
        let (taken, waker) = {
            let mut guard = lock(&self.link);
            let link = &mut *guard;
            let taken = frames.min(link.buffered.len());
            link.to_server.extend(link.buffered.drain(..taken));
            (taken, link.server_waker.take())
        };
        wake(waker);
        taken
    }

    /// What the client has written and a [stalled](Self::stall) server has not taken.
    #[must_use]
    pub fn untaken(&self) -> Vec<Frame> {
        lock(&self.link).buffered.iter().cloned().collect()
    }

    /// Takes nothing that the client writes, or goes on to.
    pub fn stall(&self, stalled: bool) {
        let waker = {
            let mut link = lock(&self.link);
            link.stalled = stalled;
            link.flush_waker.take()
        };
        wake(waker);
    }

    /// The next frame from the client; `None` once it has closed the connection.
    pub async fn recv(&mut self) -> Option<Frame> {
        std::future::poll_fn(|cx| {
            let mut link = lock(&self.link);
            match link.to_server.pop_front() {
                Some(frame) => Poll::Ready(Some(frame)),
                None if link.client_gone => Poll::Ready(None),
                None => {
                    link.server_waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Waits until the client has closed the connection, and drops what it still said.
    pub async fn closed(&mut self) {
        while self.recv().await.is_some() {}
    }

    fn frame(&self, frame: Frame) {
        self.change(|link| link.to_client.push_back(frame));
    }

    fn change(&self, change: impl FnOnce(&mut Link)) {
        let waker = {
            let mut link = lock(&self.link);
            change(&mut link);
            link.client_waker.take()
        };
        wake(waker);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let flush_waker = lock(&self.link).flush_waker.take();
        self.change(|link| link.server_gone = true);
        wake(flush_waker);
    }
}

/// The client's end of one socket.
#[derive(Debug)]
pub struct MemorySocket {
    link: Arc<Mutex<Link>>,
    max_send: usize,
}

impl Socket for MemorySocket {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        frames: &mut Frames,
    ) -> Poll<Result<(), TransportError>> {
        let mut link = lock(&self.link);
        let before = frames.len();
        while !frames.is_full() {
            let Some(frame) = link.to_client.pop_front() else { break };
            if let Frame::Ping(payload) = &frame {
                link.buffered.push_back(Frame::Pong(payload.clone()));
            }
            frames.push(frame);
        }
        if frames.len() > before {
            return Poll::Ready(Ok(()));
        }
        if let Some(fault) = link.fault.take() {
            return Poll::Ready(Err(fault));
        }
        if link.server_gone {
            return Poll::Ready(Err(TransportError::new(DisconnectReason::Ended)));
        }
        link.client_waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn max_send(&self) -> usize {
        self.max_send
    }

    fn start_send(&mut self, frame: Frame) -> Result<(), TransportError> {
        if let Frame::Data(message) = &frame {
            if message.len() > self.max_send {
                return Err(TransportError::new(DisconnectReason::MessageTooLarge));
            }
        }
        lock(&self.link).buffered.push_back(frame);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let waker = {
            let mut link = lock(&self.link);
            if link.server_gone {
                return Poll::Ready(Err(TransportError::new(DisconnectReason::Ended)));
            }
            if link.stalled && !link.buffered.is_empty() {
                link.flush_waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let link = &mut *link;
            link.to_server.append(&mut link.buffered);
            link.server_waker.take()
        };
        wake(waker);
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        {
            let mut link = lock(&self.link);
            let is_close = |frame: &Frame| matches!(frame, Frame::Close(_));
            if !link.client_gone && !link.buffered.iter().any(is_close) {
                link.buffered.push_back(Frame::Close(Some((1000, "".into()))));
            }
        }
        std::task::ready!(self.poll_flush(cx))?;
        let waker = {
            let mut link = lock(&self.link);
            link.client_gone = true;
            link.server_waker.take()
        };
        wake(waker);
        Poll::Ready(Ok(()))
    }
}

impl Drop for MemorySocket {
    fn drop(&mut self) {
        let waker = {
            let mut link = lock(&self.link);
            link.client_gone = true;
            link.server_waker.take()
        };
        wake(waker);
    }
}
