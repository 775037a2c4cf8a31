//! A connection that was upgraded, in two halves: the reading task's and the shard's.
//!
//! The framework's stack hands out what it was given: most often a TCP socket, which is taken as it is.
//! Whatever else it was (TLS, a pipe in a test) is kept in a box.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::listen::Deadline;

/// What is read at once. It is on the stack, so an idle client holds none.
const READ: usize = 4096;

type Other = TokioIo<Upgraded>;

/// What a client sends.
#[derive(Debug)]
pub(super) enum Input {
    Other(ReadHalf<Other>),
    Tcp(OwnedReadHalf),
}

/// What a client is sent. Ends the connection's direction when it is dropped.
pub(super) enum Output {
    /// `None` once it is being shut down.
    Other(Option<WriteHalf<Other>>),
    Tcp(OwnedWriteHalf),
}

/// Takes a connection apart, with what came behind the handshake.
pub(super) fn split(upgraded: Upgraded) -> (Input, Output, Bytes) {
    // From this crate's `listen`, from hyper's own connections, and from the one that finds out about the
    // version first, which `axum::serve` uses.
    let upgraded = match upgraded.downcast::<TokioIo<Deadline<TcpStream>>>() {
        Ok(parts) => return of_tcp(parts.io.into_inner().into_inner(), parts.read_buf),
        Err(upgraded) => upgraded,
    };
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => of_tcp(parts.io.into_inner(), parts.read_buf),
        Err(upgraded) => match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
            Ok(parts) => of_tcp(parts.io.into_inner(), parts.read_buf),
            Err(upgraded) => {
                let (read, write) = tokio::io::split(TokioIo::new(upgraded));
                (Input::Other(read), Output::Other(Some(write)), Bytes::new())
            }
        },
    }
}

fn of_tcp(tcp: TcpStream, early: Bytes) -> (Input, Output, Bytes) {
    // Rounds are joined here, and nothing is gained by waiting for more.
    let _ = tcp.set_nodelay(true);
    let (read, write) = tcp.into_split();
    (Input::Tcp(read), Output::Tcp(write), early)
}

impl Input {
    /// Gives what came to `take`. 0 bytes are the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<usize>> {
        let mut space = [0; READ];
        let mut buf = ReadBuf::new(&mut space);
        ready!(match self {
            Self::Other(io) => Pin::new(io).poll_read(cx, &mut buf),
            Self::Tcp(io) => Pin::new(io).poll_read(cx, &mut buf),
        })?;
        take(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }
}

impl Output {
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match self {
            Self::Other(Some(io)) => ready!(Pin::new(io).poll_write_vectored(cx, slices))?,
            Self::Other(None) => 0,
            Self::Tcp(io) => match slices {
                [one] => ready!(Pin::new(io).poll_write(cx, one))?,
                _ => ready!(Pin::new(io).poll_write_vectored(cx, slices))?,
            },
        };
        match written {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => Poll::Ready(Ok(written)),
        }
    }

    /// Hands what was written on to the network, where something lies between.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Other(Some(io)) => Pin::new(io).poll_flush(cx),
            Self::Other(None) | Self::Tcp(_) => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let Self::Other(io) = self else { return };
        // A TCP socket's half says its end by itself.
        let (Some(mut io), Ok(runtime)) = (io.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        runtime.spawn(async move { io.shutdown().await });
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Other(_) => "Other",
            Self::Tcp(_) => "Tcp",
        })
    }
}
