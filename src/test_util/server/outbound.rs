//! What a socket writes: one thing after the other, delayed, sliced or cut as its script says.

use std::future::pending;
use std::io;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::conn::{Conn, Ending};
use super::outgoing::Outgoing;
use super::wire::Kind;

impl Outgoing {
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
