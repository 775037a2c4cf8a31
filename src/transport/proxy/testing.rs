//! Proxies written out by hand, for the tests of what is said to them.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose peer sends certain pieces, one per read, and then its end. Between two pieces it is
/// pending once.
#[derive(Debug)]
pub(super) struct Scripted {
    pub(super) read: usize,
    pub(super) written: Vec<u8>,
    pause: bool,
    pieces: VecDeque<Vec<u8>>,
}

impl Scripted {
    pub(super) fn new(pieces: VecDeque<Vec<u8>>) -> Self {
        Self { read: 0, written: Vec::new(), pause: true, pieces }
    }
}

/// `bytes` in pieces of `len` bytes.
pub(super) fn pieces(bytes: &[u8], len: usize) -> VecDeque<Vec<u8>> {
    bytes.chunks(len).map(<[u8]>::to_vec).collect()
}

impl AsyncRead for Scripted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.pause) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(mut piece) = self.pieces.pop_front() else { return Poll::Ready(Ok(())) };
        let some = piece.len().min(buf.remaining());
        let rest = piece.split_off(some);
        buf.put_slice(&piece);
        self.read += some;
        self.pause = rest.is_empty();
        if !rest.is_empty() {
            self.pieces.push_front(rest);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
