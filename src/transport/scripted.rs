//! A byte stream whose other end is a script, for fuzzing. Built only with `--cfg fuzzing`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// What takes the place of the accept key in a script: no fuzzer finds it.
const ACCEPT: &[u8] = b"{accept}";

/// How much of what a client says is kept. It includes its handshake.
const KEPT: usize = 64 << 10;

/// All that a server says on one connection, before it ends it.
#[derive(Clone, Debug, Default)]
pub struct Script {
    bytes: Vec<u8>,
    pieces: Vec<u8>,
}

impl Script {
    /// Says `bytes`, the answer to the handshake among them. `{accept}` stands for the key that
    /// accepts it.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), pieces: Vec::new() }
    }

    /// Accepts the handshake, and says `frames`.
    #[must_use]
    pub fn frames(frames: &[u8]) -> Self {
        let head = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: {accept}\r\n\r\n";
        Self::new(&[head, frames].concat())
    }

    /// Says it in pieces of these lengths, over and over, each a read of its own. A piece of no
    /// length keeps the reader waiting for a moment. Up to the end of the head that accepts the
    /// handshake, a piece has at least 64 bytes: a head in many small ones is taken for an attack.
    #[must_use]
    pub fn pieces(mut self, pieces: &[u8]) -> Self {
        // Something has to come in the end.
        if pieces.iter().any(|piece| *piece > 0) {
            self.pieces = pieces.to_vec();
        }
        self
    }
}

/// The client's end of a connection whose server's end is a script.
#[derive(Debug)]
pub(crate) struct ScriptedStream {
    /// Where the head ends that accepts the handshake, once it was heard.
    accepted: Option<usize>,
    heard: Vec<u8>,
    next_piece: usize,
    read: usize,
    script: Script,
}

impl ScriptedStream {
    pub(crate) fn new(script: Script) -> Self {
        Self { accepted: None, heard: Vec::new(), next_piece: 0, read: 0, script }
    }

    /// Accepts the handshake that was heard, if it was and there is a place for it that is not read
    /// yet.
    fn accept(&mut self) {
        if self.accepted.is_some() || !self.heard.ends_with(b"\r\n\r\n") {
            return;
        }
        let heard = String::from_utf8_lossy(&self.heard);
        let key = heard.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        let rest = &self.script.bytes[self.read..];
        let place = rest.windows(ACCEPT.len()).position(|bytes| bytes == ACCEPT);
        if let (Some(key), Some(at)) = (key, place) {
            let at = at + self.read;
            let accept = derive_accept_key(key.as_bytes()).into_bytes();
            self.script.bytes.splice(at..at + ACCEPT.len(), accept);
            let rest = &self.script.bytes[at..];
            let end = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            self.accepted = Some(at + end.map_or(rest.len(), |end| end + 4));
        }
    }
}

impl AsyncRead for ScriptedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.accept();
        let rest = &this.script.bytes[this.read..];
        let piece = match this.script.pieces.get(this.next_piece) {
            _ if rest.is_empty() => 0,
            Some(0) => {
                this.next_piece = (this.next_piece + 1) % this.script.pieces.len();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(piece) => {
                this.next_piece = (this.next_piece + 1) % this.script.pieces.len();
                let is_head = this.accepted.is_none_or(|end| this.read < end);
                usize::from(*piece).max(if is_head { 64 } else { 1 })
            }
            None => usize::MAX,
        };
        let piece = piece.min(rest.len()).min(buf.remaining());
        buf.put_slice(&rest[..piece]);
        this.read += piece;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ScriptedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let heard = &mut self.get_mut().heard;
        heard.extend_from_slice(&buf[..buf.len().min(KEPT - heard.len())]);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
