//! What a socket writes: one thing after the other, delayed, sliced or cut as its script says.

use std::fmt;
use std::future::pending;
use std::io;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::conn::{Conn, Ending};
use super::wire::{Encoded, Kind};

/// Frames to be written. Its drop tells how many were.
pub(super) struct Outgoing {
    frames: Encoded,
    /// One byte per write.
    sliced: bool,
    pub(super) then_fin: bool,
    /// Where to stop, in bytes. Known when writing begins.
    stop: Option<usize>,
    /// Bytes that the kernel took.
    at: usize,
    /// Frames that the kernel took.
    done: usize,
    /// Whether the next frame was delayed enough.
    delayed: bool,
    report: Option<Report>,
}

/// Is told how many frames the kernel took.
type Report = Box<dyn FnOnce(usize) + Send>;

impl Outgoing {
    pub(super) fn new(frames: Encoded, sliced: bool) -> Self {
        Self {
            frames,
            sliced,
            then_fin: false,
            stop: None,
            at: 0,
            done: 0,
            delayed: false,
            report: None,
        }
    }

    /// Has `report` called before the socket ends, or anything else is written.
    pub(super) fn reporting(mut self, report: impl FnOnce(usize) + Send + 'static) -> Self {
        self.report = Some(Box::new(report));
        self
    }

    /// Where to stop, in bytes.
    fn stop(&mut self, conn: &Conn) -> usize {
        if let Some(stop) = self.stop {
            return stop;
        }
        let stop = match self.frames.kind {
            Kind::Close if conn.close_sent.swap(true, Ordering::Relaxed) => 0,
            Kind::Messages => self.spend(conn),
            Kind::Close | Kind::Other => self.frames.bytes.len(),
        };
        self.stop = Some(stop);
        stop
    }

    /// Spends what is left of the socket's messages, and tells where that ends.
    fn spend(&mut self, conn: &Conn) -> usize {
        let count = self.frames.ends.len();
        let left = conn.control.borrow().left;
        if let Some(left) = left {
            conn.control.send_if_modified(|control| {
                control.left = Some(left.saturating_sub(count));
                false
            });
            self.then_fin = left <= count;
        }
        match left.unwrap_or(count).min(count) {
            0 => 0,
            messages => self.frames.ends[messages - 1],
        }
    }

    async fn write(&mut self, io: &mut (impl AsyncWrite + Unpin), conn: &Conn) -> io::Result<()> {
        let stop = self.stop(conn);
        while self.at < stop {
            let frame_end = self.frames.ends.get(self.done).copied().unwrap_or(stop);
            let delay = conn.control.borrow().delay;
            let delays = self.frames.kind == Kind::Messages && !delay.is_zero();
            if delays && !self.delayed {
                sleep(delay).await;
                self.delayed = true;
            }
            let limit = match (self.sliced, delays) {
                (true, _) => self.at + 1,
                (_, true) => frame_end,
                _ => stop,
            };
            let written = io.write(&self.frames.bytes[self.at..limit]).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.wrote(written);
            if self.sliced {
                io.flush().await?;
                // The client gets a chance to read this byte alone.
                tokio::task::yield_now().await;
            }
        }
        io.flush().await
    }

    fn wrote(&mut self, written: usize) {
        self.at += written;
        while self.frames.ends.get(self.done).is_some_and(|end| *end <= self.at) {
            self.done += 1;
            self.delayed = false;
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(report) = self.report.take() {
            report(self.done);
        }
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("kind", &self.frames.kind).field("at", &self.at).finish()
    }
}

/// The writing half.
#[derive(Debug)]
pub(super) struct Outbound {
    current: Option<Outgoing>,
    queue: mpsc::Receiver<Outgoing>,
}

impl Outbound {
    pub(super) fn new(queue: mpsc::Receiver<Outgoing>) -> Self {
        Self { current: None, queue }
    }

    /// Writes until something written is to be the last. May be cancelled and called again.
    pub(super) async fn run(&mut self, io: &mut (impl AsyncWrite + Unpin), conn: &Conn) -> Ending {
        loop {
            if self.current.is_none() {
                self.current = self.queue.recv().await;
            }
            let Some(current) = &mut self.current else { return pending().await };
            if current.write(io, conn).await.is_err() {
                // Reading tells that the client is gone, after what it said before.
                self.close();
                return pending().await;
            }
            let last = current.then_fin;
            self.current = None;
            if last {
                return Ending::Fin;
            }
        }
    }

    /// Takes no more, and drops what waits.
    pub(super) fn close(&mut self) {
        self.current = None;
        self.queue.close();
        while self.queue.try_recv().is_ok() {}
    }
}
