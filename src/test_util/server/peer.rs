//! A client's WebSocket, in the hands of a script.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use super::conn::{Conn, Ending, Reading};
use super::garbage::Garbage;
use super::wire::{Encoded, put};
use crate::message::{Message, Text};
use crate::transport::Frame;

/// The server's end of a WebSocket.
///
/// It answers pings, and a client that closes, by itself; [`recv`](Self::recv) shows both. Clones
/// are the same socket. Dropping all of them does not end it: it lives until a script, its client
/// or the server's drop ends it.
///
/// What sends tells whether the kernel took it all, which is no longer so once the socket has ended:
/// `while peer.send("tick").await {}` ends with the socket.
#[derive(Clone, Debug)]
pub struct Peer(pub(super) Arc<Conn>);

impl Peer {
    /// The path dialled, percent-decoded.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The query dialled, as it was sent.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.0.query.as_deref()
    }

    /// The headers of the handshake.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// Whether the socket has not ended yet.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.is_open()
    }

    /// Waits for the end of the socket.
    pub async fn closed(&self) {
        self.0.closed().await;
    }

    /// Sends a message.
    pub async fn send(&self, message: impl Into<Message>) -> bool {
        self.write(Encoded::messages([&message.into()])).await
    }

    /// Sends messages in as few writes as the kernel allows, and tells how many it took.
    pub async fn send_all(&self, messages: impl IntoIterator<Item = impl Into<Message>>) -> usize {
        let messages: Vec<Message> = messages.into_iter().map(Into::into).collect();
        self.write_counted(Encoded::messages(&messages), |_| ()).await
    }

    /// Sends a message byte by byte, each in a TCP segment of its own.
    pub async fn send_sliced(&self, message: impl Into<Message>) -> bool {
        self.0.write(Encoded::messages([&message.into()]), true, |_| ()).await == 1
    }

    /// Sends a ping.
    pub async fn ping(&self, payload: impl AsRef<[u8]>) -> bool {
        self.write(Encoded::ping(payload.as_ref())).await
    }

    /// Sends `count` pings, as fast as the client takes them.
    pub async fn ping_flood(&self, count: usize) -> bool {
        const CHUNK: usize = 1024;
        let ping = Encoded::ping(b"flood").bytes;
        for start in (0..count).step_by(CHUNK) {
            let chunk = ping.repeat(CHUNK.min(count - start));
            if !self.write(Encoded::raw(chunk)).await {
                return false;
            }
        }
        true
    }

    /// Sends bytes as they are.
    pub async fn raw(&self, bytes: impl Into<Bytes>) -> bool {
        self.write(Encoded::raw(bytes)).await
    }

    /// Breaks the protocol.
    pub async fn garbage(&self, garbage: Garbage) -> bool {
        self.raw(garbage.bytes()).await
    }

    /// Announces a binary message of `len` bytes, and sends nothing of it.
    pub async fn oversize(&self, len: u64) -> bool {
        let mut head = vec![0x82, 127];
        head.extend(len.to_be_bytes());
        self.raw(head).await
    }

    /// Sends the first half of a text message, and never the rest.
    pub async fn half_message(&self, message: &str) -> bool {
        let mut bytes = Vec::new();
        put(&mut bytes, 0x81, message.as_bytes());
        bytes.truncate(bytes.len() / 2);
        self.raw(bytes).await
    }

    /// Begins to close. The socket ends when the client answers. A reason is cut to 123 bytes.
    pub async fn close(&self, code: u16, reason: &str) -> bool {
        self.write(Encoded::close(Some((code, reason)))).await
    }

    /// The client's next frame, or `None` once the socket has ended and all was seen.
    ///
    /// The last 1024 frames wait to be received; older ones are dropped.
    pub async fn recv(&self) -> Option<Frame> {
        self.0.recv().await
    }

    /// The client's next message, or `None` once there is none to come. Control frames are skipped.
    pub async fn recv_message(&self) -> Option<Message> {
        loop {
            match self.recv().await? {
                Frame::Data(message) => return Some(message),
                _ => continue,
            }
        }
    }

    /// Waits for the client's next message, which must be this text.
    ///
    /// # Panics
    ///
    /// When it is not, or the socket ends. In a handler, that ends the handler; a test fails by it
    /// only where it runs the script itself, on a peer from
    /// [`accept`](super::MockServer::accept).
    pub async fn expect_text(&self, expected: &str) {
        let message = self.recv_message().await;
        let text = message.as_ref().and_then(Message::as_text);
        assert_eq!(text, Some(expected), "what the client sent: {message:?}");
    }

    /// Waits for the client's close frame, and gives its code and reason. `None` where the socket
    /// ends without one.
    pub async fn recv_close(&self) -> Option<Option<(u16, Text)>> {
        loop {
            match self.recv().await? {
                Frame::Close(close) => return Some(close),
                _ => continue,
            }
        }
    }

    /// Ends the socket without a close frame, by TCP's FIN.
    pub fn fin(&self) {
        self.0.end(Ending::Fin);
    }

    /// Ends the socket by TCP's RST.
    pub fn reset(&self) {
        self.0.end(Ending::Reset);
    }

    /// Neither reads nor writes any more, and keeps the TCP connection, even when the client is
    /// gone, until the server ends. As a cable that was pulled.
    pub fn half_open(&self) {
        self.read_as(Reading::HalfOpen);
    }

    /// Reads no more, but still writes. The client's sends get stuck when the kernel's buffers are
    /// full; its pings stay without an answer. That a client is gone is not noticed while bytes of
    /// its own are stuck on the way.
    pub fn stall(&self) {
        self.read_as(Reading::Stalled);
    }

    /// Never answers the client's closing, and keeps the TCP connection, even when the client is
    /// gone, until the server ends.
    pub fn hold_close(&self) {
        self.read_as(Reading::HoldsClose);
    }

    /// Ends the socket without a close frame after `count` more messages.
    pub fn drop_after(&self, count: usize) {
        if count == 0 {
            return self.fin();
        }
        self.0.control.send_modify(|control| control.left = Some(count));
    }

    /// Waits before each message from now on.
    pub fn delay(&self, delay: Duration) {
        self.0.control.send_modify(|control| control.delay = delay);
    }

    /// Writes prepared frames, and tells how many the kernel took as a whole: first `record`, before
    /// the client can see the end of the socket.
    pub(crate) async fn write_counted(
        &self,
        frames: Encoded,
        record: impl FnOnce(usize) + Send + 'static,
    ) -> usize {
        self.0.write(frames, false, record).await
    }

    async fn write(&self, frames: Encoded) -> bool {
        let count = frames.ends.len();
        self.write_counted(frames, |_| ()).await == count
    }

    fn read_as(&self, reading: Reading) {
        self.0.control.send_modify(|control| control.reading = reading);
    }
}
