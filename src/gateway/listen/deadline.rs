//! A socket that gives a write up which makes no progress.
//!
//! A client that reads nothing answers the system's probes all the same, so no clock of TCP's ends it. What was
//! upgraded has the gateway's own deadline, and is taken out of this.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

#[derive(Debug)]
pub(in crate::gateway) struct Deadline<S> {
    inner: S,
    /// Until when what waits has to be taken on; there is one while something waits.
    until: Option<Pin<Box<Sleep>>>,
    within: Duration,
}

impl<S> Deadline<S> {
    pub(super) fn new(inner: S, within: Duration) -> Self {
        Self { inner, until: None, within }
    }

    pub(in crate::gateway) fn into_inner(self) -> S {
        self.inner
    }

    /// What came of a write, or that it has waited too long.
    fn judge<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.until = None;
            return written;
        }
        let within = self.within;
        let until = self.until.get_or_insert_with(|| Box::pin(sleep(within)));
        until.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Deadline<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Deadline<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::Instant;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_write_that_makes_no_progress_is_given_up_in_time() {
        let (socket, _never_read) = duplex(16);
        let mut socket = Deadline::new(socket, WITHIN);
        tokio::time::advance(10 * WITHIN).await;
        let begun = Instant::now();
        let failed = socket.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!((failed.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, WITHIN));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_is_slow_and_reads_is_waited_for() {
        let (socket, mut reader) = duplex(16);
        let mut socket = Deadline::new(socket, WITHIN);
        let writing = tokio::spawn(async move { socket.write_all(&[0; 160]).await });
        for _ in 0..10 {
            sleep(WITHIN - Duration::from_millis(1)).await;
            reader.read_exact(&mut [0; 16]).await.unwrap();
        }
        writing.await.unwrap().unwrap();
    }
}
