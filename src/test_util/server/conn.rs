//! One WebSocket of the server, as scripts hold it: what is wanted of it, and what it heard.
//!
//! A socket lives until a script, the client or the server's drop ends it; a dropped
//! [`Peer`](super::Peer) does not.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::{mpsc, oneshot, watch};

use super::outgoing::Outgoing;
use super::watched::Watched;
use super::wire::Encoded;
use crate::transport::Frame;

/// How many received frames are kept until somebody asks for them.
const INBOX: usize = 1024;
/// How many writes wait their turn.
const QUEUE: usize = 64;

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
    probes: mpsc::Sender<Probe>,
    /// Weak, as the counter holds us.
    counter: Weak<dyn Counter>,
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

/// Why the work of a socket is interrupted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    /// Something else is wanted now.
    Changed,
    /// The client has ended the TCP connection.
    Gone,
    /// A script or the closing handshake ends the socket.
    Ending(Ending),
}

/// Asks whether all was seen that the client did so far.
pub(super) type Probe = oneshot::Sender<()>;

/// What a socket's task is told by its scripts.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) outgoing: mpsc::Receiver<Outgoing>,
    pub(super) probes: mpsc::Receiver<Probe>,
}

/// Counts sockets.
pub(super) trait Counter: std::fmt::Debug + Send + Sync {
    /// A socket has ended. Harmless where it was counted already.
    fn ended(&self, conn: &Conn);
}

impl Conn {
    /// A socket, and what moves its bytes.
    pub(super) fn new(asked: Asked, id: u64, counter: Weak<dyn Counter>) -> (Arc<Self>, Queues) {
        let (queue, outgoing) = mpsc::channel(QUEUE);
        let (probes, probed) = mpsc::channel(1);
        let conn = Arc::new(Self {
            id,
            path: asked.path,
            query: asked.query,
            headers: asked.headers,
            control: watch::Sender::new(Control::default()),
            close_sent: AtomicBool::new(false),
            inbox: Watched::new(Inbox::default()),
            queue,
            probes,
            counter,
        });
        (conn, Queues { outgoing, probes: probed })
    }

    /// Writes frames, and tells how many the kernel took as a whole: first `record`, before the
    /// client can see the end of the socket, and then the caller.
    pub(super) async fn write(
        &self,
        frames: Encoded,
        sliced: bool,
        record: impl FnOnce(usize) + Send + 'static,
    ) -> usize {
        let (report, mut written) = oneshot::channel();
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
        tokio::select! {
            biased;
            written = &mut written => written.unwrap_or(0),
            // What was sent while the queue closed may be left in it for good. It was not written,
            // and what was, is reported before the queue closes.
            () = self.queue.closed() => written.try_recv().unwrap_or(0),
        }
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
            // The end of the task settles it too.
            tokio::select! {
                _ = answered => {}
                () = self.probes.closed() => {}
            }
        }
    }

    pub(super) fn gone(&self) {
        if let Some(counter) = self.counter.upgrade() {
            counter.ended(self);
        }
        self.inbox.change(|inbox| inbox.closed = true);
    }
}
