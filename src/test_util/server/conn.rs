//! One WebSocket of the server: what is wanted of it, and the task that does it.
//!
//! A socket lives until a script, the client or the server's drop ends it; a dropped
//! [`Peer`](super::Peer) does not.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::BytesMut;
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::inbound::Inbound;
use super::outbound::{Outbound, Outgoing};
use super::registry::Registry;
use super::watched::Watched;
use super::wire::Encoded;
use crate::transport::Frame;

/// How many received frames are kept until somebody asks for them.
const INBOX: usize = 1024;
/// How many writes wait their turn.
const QUEUE: usize = 64;
/// How long an orderly end may take before TCP is dropped.
const LINGER: Duration = Duration::from_secs(1);

/// What a socket does, and not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Control {
    pub(super) delay: Duration,
    pub(super) end: Option<Ending>,
    pub(super) reading: Reading,
    /// Messages left until the socket ends.
    pub(super) left: Option<usize>,
}

/// How much a socket listens to its client.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Reading {
    /// Reads, and answers pings and closing.
    #[default]
    Live,
    /// As `Live`, but never answers closing.
    HoldsClose,
    /// Does not read.
    Stalled,
    /// Neither reads nor writes.
    HalfOpen,
}

/// How a socket ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ending {
    /// With TCP's FIN.
    Fin,
    /// With TCP's RST.
    Reset,
}

/// A socket, as scripts hold it.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) id: u64,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) control: watch::Sender<Control>,
    pub(super) close_sent: AtomicBool,
    inbox: Watched<Inbox>,
    queue: mpsc::Sender<Outgoing>,
    probes: mpsc::Sender<oneshot::Sender<()>>,
    /// Weak, as the registry holds us.
    registry: Weak<Registry>,
}

#[derive(Debug, Default)]
struct Inbox {
    frames: VecDeque<Frame>,
    closed: bool,
}

/// What the client asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
}

impl Conn {
    /// A socket, and what moves its bytes.
    pub(super) fn new(
        asked: Asked,
        early: BytesMut,
        registry: &Arc<Registry>,
    ) -> (Arc<Self>, Work) {
        let (queue, outgoing) = mpsc::channel(QUEUE);
        let (probes, probed) = mpsc::channel(1);
        let conn = Arc::new(Self {
            id: registry.next_id(),
            path: asked.path,
            query: asked.query,
            headers: asked.headers,
            control: watch::Sender::new(Control::default()),
            close_sent: AtomicBool::new(false),
            inbox: Watched::new(Inbox::default()),
            queue,
            probes,
            registry: Arc::downgrade(registry),
        });
        let work = Work {
            counted: Counted(Arc::clone(&conn)),
            inbound: Inbound::new(early),
            outbound: Outbound::new(outgoing),
            probes: probed,
        };
        (conn, work)
    }

    /// Writes frames, and tells how many the kernel took as a whole: first `record`, before the
    /// client can see the end of the socket, and then the caller.
    pub(super) async fn write(
        &self,
        frames: Encoded,
        sliced: bool,
        record: impl FnOnce(usize) + Send + 'static,
    ) -> usize {
        let (report, written) = oneshot::channel();
        let outgoing = Outgoing::new(frames, sliced).reporting(move |written| {
            record(written);
            // The caller may have given up.
            let _ = report.send(written);
        });
        let sent = self.queue.send(outgoing).await.is_ok();
        if !sent {
            // A script that sends in a loop must not starve the others.
            tokio::task::yield_now().await;
        }
        written.await.unwrap_or(0)
    }

    /// Writes frames if there is room in the queue.
    pub(super) fn try_write(&self, frames: Encoded, then_fin: bool) -> bool {
        let mut outgoing = Outgoing::new(frames, false);
        outgoing.then_fin = then_fin;
        self.queue.try_send(outgoing).is_ok()
    }

    /// Ends the socket at once. What is queued is lost.
    pub(super) fn end(&self, ending: Ending) {
        self.control.send_modify(|control| {
            control.end.get_or_insert(ending);
        });
        self.gone();
    }

    pub(super) fn deliver(&self, frame: Frame) {
        self.inbox.change(|inbox| {
            if inbox.frames.len() == INBOX {
                inbox.frames.pop_front();
            }
            inbox.frames.push_back(frame);
        });
    }

    /// The next received frame, or `None` once the socket has ended.
    pub(super) async fn recv(&self) -> Option<Frame> {
        self.inbox
            .until(|inbox| match inbox.frames.pop_front() {
                Some(frame) => Some(Some(frame)),
                None => inbox.closed.then_some(None),
            })
            .await
    }

    pub(super) async fn closed(&self) {
        self.inbox.until(|inbox| inbox.closed.then_some(())).await;
    }

    pub(super) fn is_open(&self) -> bool {
        self.inbox.read(|inbox| !inbox.closed)
    }

    /// Waits until the task has seen all that the client did so far.
    pub(super) async fn settle(&self) {
        let (probe, answered) = oneshot::channel();
        if self.probes.send(probe).await.is_ok() {
            // An error means that the task has ended, which settles it too.
            let _ = answered.await;
        }
    }

    fn gone(&self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.ended(self);
        }
        self.inbox.change(|inbox| inbox.closed = true);
    }
}

/// Ends the counting with the task, however that ends.
#[derive(Debug)]
struct Counted(Arc<Conn>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.gone();
    }
}

/// A socket's stream: TCP, or TLS over it.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Io for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Io for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// The work of a socket.
#[derive(Debug)]
pub(super) struct Work {
    counted: Counted,
    inbound: Inbound,
    outbound: Outbound,
    probes: mpsc::Receiver<oneshot::Sender<()>>,
}

/// Why the work is interrupted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    /// Something else is wanted now.
    Changed,
    /// The client has ended the TCP connection.
    Gone,
    /// A script or the closing handshake ends the socket.
    Ending(Ending),
}

impl Work {
    /// Does the work until the socket has ended.
    pub(super) async fn run(mut self, mut io: Box<dyn Io>) {
        let conn = Arc::clone(&self.counted.0);
        let mut control = conn.control.subscribe();
        loop {
            let now = *control.borrow_and_update();
            let stop = match now.end {
                Some(ending) => Stop::Ending(ending),
                None => self.step(&conn, &mut io, now.reading, &mut control).await,
            };
            match stop {
                Stop::Changed => continue,
                Stop::Ending(ending) => break finish(self, io, ending).await,
                Stop::Gone if now.reading == Reading::Live => {
                    break finish(self, io, Ending::Fin).await;
                }
                Stop::Gone => break outlast(self, io, control).await,
            }
        }
    }

    async fn step(
        &mut self,
        conn: &Conn,
        io: &mut Box<dyn Io>,
        reading: Reading,
        control: &mut watch::Receiver<Control>,
    ) -> Stop {
        let reads = matches!(reading, Reading::Live | Reading::HoldsClose);
        let writes = reading != Reading::HalfOpen;
        if !writes {
            self.outbound.close();
        }
        let watched = if reads { None } else { duplicate(io.tcp()).ok() };
        let (mut read, mut write) = tokio::io::split(io);
        tokio::select! {
            biased;
            stop = self.inbound.run(&mut read, conn), if reads => stop,
            () = client_is_gone(watched.as_ref()), if !reads => Stop::Gone,
            _ = control.changed() => Stop::Changed,
            ending = self.outbound.run(&mut write, conn), if writes => Stop::Ending(ending),
            // Last, so that a probe is answered when there is nothing left to see.
            never = answer(&mut self.probes) => match never {},
        }
    }
}

async fn answer(probes: &mut mpsc::Receiver<oneshot::Sender<()>>) -> Infallible {
    while let Some(probe) = probes.recv().await {
        // The one who asked may have given up.
        let _ = probe.send(());
    }
    pending().await
}

/// Waits for the client's FIN or RST without reading what comes before it.
async fn client_is_gone(tcp: Option<&TcpStream>) {
    let Some(tcp) = tcp else { return pending().await };
    while let Ok(ready) = tcp.ready(Interest::READABLE).await {
        if ready.is_read_closed() {
            return;
        }
        // Unread data keeps the stream ready: forget it, to be woken by what comes next.
        let _ = tcp.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}

/// A second handle to the same TCP connection, with a readiness of its own.
fn duplicate(tcp: &TcpStream) -> io::Result<TcpStream> {
    #[cfg(unix)]
    let handle = std::os::fd::AsFd::as_fd(tcp).try_clone_to_owned()?;
    #[cfg(windows)]
    let handle = std::os::windows::io::AsSocket::as_socket(tcp).try_clone_to_owned()?;
    TcpStream::from_std(handle.into())
}

/// Ends a socket.
async fn finish(work: Work, io: Box<dyn Io>, ending: Ending) {
    // What waits for it learns of the end at once.
    drop(work);
    finish_io(io, ending).await;
}

/// Keeps a stream whose client is gone, as was promised.
async fn outlast(work: Work, io: Box<dyn Io>, mut control: watch::Receiver<Control>) {
    drop(work);
    // It fails only where the last peer is gone; then the server's end is what remains.
    if control.wait_for(|control| control.end.is_some()).await.is_err() {
        pending::<()>().await;
    }
    drop(io);
}

/// Ends a stream. What the client still sends after a FIN is read and dropped, as dropping TCP over
/// it would turn the FIN into an RST.
pub(super) async fn finish_io(mut io: Box<dyn Io>, ending: Ending) {
    match ending {
        Ending::Reset => reset(io.tcp()),
        Ending::Fin => {
            if matches!(timeout(LINGER, io.shutdown()).await, Ok(Ok(()))) {
                let _ = tokio::io::copy(&mut io, &mut tokio::io::sink()).await;
            }
        }
    }
}

/// Has the drop of a stream send an RST.
pub(super) fn reset(tcp: &TcpStream) {
    // It fails only where TCP has ended already.
    let _ = tcp.set_zero_linger();
}
