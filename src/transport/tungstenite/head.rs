//! A byte stream whose first read ends where the HTTP head does.
//!
//! What follows the head stays behind until the socket has a buffer of its own to read it into: frames
//! may come in the same segment.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const END: &[u8] = b"\r\n\r\n";

#[derive(Debug)]
pub(super) struct Head<S> {
    /// What was read after the head.
    kept: Bytes,
    /// How much of [`END`] the last bytes were; all of it once the head is over.
    matched: usize,
    stream: S,
}

impl<S> Head<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { kept: Bytes::new(), matched: 0, stream }
    }

    /// How much of `bytes` belongs to the head.
    fn head_of(&mut self, bytes: &[u8]) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            if END.get(self.matched) == Some(byte) {
                self.matched += 1;
            } else {
                self.matched = usize::from(*byte == END[0]);
            }
            if self.matched == END.len() {
                return at + 1;
            }
        }
        bytes.len()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Head<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.kept.is_empty() {
            let some = this.kept.len().min(buf.remaining());
            buf.put_slice(&this.kept[..some]);
            this.kept.advance(some);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if this.matched < END.len() {
            let end = before + this.head_of(&buf.filled()[before..]);
            this.kept = Bytes::copy_from_slice(&buf.filled()[end..]);
            buf.set_filled(end);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Head<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What each read of `sent` gives, where it arrives in pieces of `piece` bytes.
    async fn reads(sent: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let (mut server, client) = tokio::io::duplex(piece);
        let sent = sent.to_vec();
        let sending = tokio::spawn(async move { server.write_all(&sent).await });
        let mut head = Head::new(client);
        let (mut reads, mut buf) = (Vec::new(), [0; 64]);
        loop {
            match head.read(&mut buf).await.unwrap() {
                0 => break,
                n => reads.push(buf[..n].to_vec()),
            }
        }
        sending.await.unwrap().unwrap();
        reads
    }

    #[tokio::test]
    async fn no_read_goes_beyond_the_head_and_nothing_after_it_is_lost() {
        let head = b"HTTP/1.1 101 x\r\nA: \r\r\n b\r\n\r\n";
        let sent = [&head[..], b"frames\r\n\r\nand more"].concat();
        for piece in 1..=sent.len() {
            let reads = reads(&sent, piece).await;
            assert_eq!(reads.concat(), sent, "in pieces of {piece}");
            let mut ends = reads.iter().scan(0, |end, read| {
                *end += read.len();
                Some(*end)
            });
            assert!(ends.any(|end| end == head.len()), "in pieces of {piece}");
        }
    }
}
