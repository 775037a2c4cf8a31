//! What WebSocket frames travel on: TCP, with TLS or without; with both twice, through a proxy that
//! speaks TLS itself.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

#[cfg(feature = "rustls")]
use rustls::ClientConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(feature = "rustls")]
use tokio_rustls::client::TlsStream;

#[cfg(fuzzing)]
use super::scripted::ScriptedStream;

/// A byte stream.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    #[cfg(fuzzing)]
    Scripted(Box<ScriptedStream>),
    /// Boxed for its size: what a plain socket has no use for, it should not carry.
    #[cfg(feature = "rustls")]
    Tls(Box<TlsStream<Self>>),
}

#[cfg(feature = "rustls")]
impl Stream {
    /// What was agreed on with the server, where the stream is TLS.
    pub(crate) fn tls(&self) -> Option<&ClientConnection> {
        match self {
            Self::Plain(_) => None,
            #[cfg(fuzzing)]
            Self::Scripted(_) => None,
            Self::Tls(stream) => Some(stream.get_ref().1),
        }
    }
}

/// Calls a method of whichever stream it is.
macro_rules! delegate {
    ($self:ident.$method:ident($($arg:expr),*)) => {
        match $self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).$method($($arg),*),
            #[cfg(fuzzing)]
            Stream::Scripted(stream) => Pin::new(&mut **stream).$method($($arg),*),
            #[cfg(feature = "rustls")]
            Stream::Tls(stream) => Pin::new(stream).$method($($arg),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            #[cfg(fuzzing)]
            Self::Scripted(_) => false,
            #[cfg(feature = "rustls")]
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.poll_shutdown(cx))
    }
}
