//! What stands between tungstenite and a hostile server: a byte stream that sees frames pass.
//!
//! - Too many fragments, pings or pongs are an error of reading ([`inbound`]); what came before them
//!   is read before it.
//! - Of many pongs that wait to be written, one is ([`pongs`]). While frames are being read none is
//!   written: all pings of a batch wait together.
//! - What has begun and not ended is known, for its deadline.

mod heads;
mod inbound;
mod pongs;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::inbound::Inbound;
use self::pongs::Pongs;

pub(super) use self::inbound::{Flood, Unfinished};

#[derive(Debug)]
pub(super) struct Guard<S> {
    /// Whether flushing waits for the end of a batch.
    corked: bool,
    flood: Option<Flood>,
    inbound: Inbound,
    pongs: Pongs,
    stream: S,
    /// Whether somebody flushed meanwhile.
    unflushed: bool,
}

impl<S> Guard<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            corked: false,
            flood: None,
            inbound: Inbound::new(),
            pongs: Pongs::default(),
            stream,
            unflushed: false,
        }
    }

    /// What the server has begun and not ended.
    pub(super) fn unfinished(&self) -> Option<Unfinished> {
        self.inbound.unfinished()
    }

    /// Lets flushing wait, and pongs with it.
    pub(super) fn cork(&mut self) {
        self.corked = true;
    }
}

impl<S: AsyncWrite + Unpin> Guard<S> {
    /// Flushes what has waited, as far as that can be done at once.
    pub(super) fn uncork(&mut self, cx: &mut Context<'_>) {
        self.corked = false;
        if self.unflushed || self.pongs.are_waiting() {
            // What fails here fails again where somebody asks for it.
            let _ = Pin::new(self).poll_flush(cx);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(flood) = this.flood.take() {
            return Poll::Ready(Err(flood.into()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        match this.inbound.watch(&buf.filled()[before..]) {
            Ok(()) => Poll::Ready(Ok(())),
            Err((0, flood)) => Poll::Ready(Err(flood.into())),
            Err((passed, flood)) => {
                buf.set_filled(before + passed);
                this.flood = Some(flood);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.pongs.poll_write(&mut this.stream, cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.unflushed = true;
        if this.corked {
            return Poll::Ready(Ok(()));
        }
        ready!(this.pongs.poll_send(&mut this.stream, cx))?;
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        this.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
