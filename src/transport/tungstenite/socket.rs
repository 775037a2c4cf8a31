//! An open socket.
//!
//! Bytes are read by [`Intake`], become frames in [`Decoder`], and leave by [`Writer`], which is
//! tungstenite's masking and framing. While frames are being read nothing is written: all pongs of a
//! batch go together, after it.

use std::fmt;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{
    CloseCode, Control as ControlCode, OpCode,
};

use super::super::stream::Stream;
use super::super::{Control, Frame, Frames, Part, Socket, TransportError};
use super::MAX_SEND;
use super::assembly::Assembly;
use super::decoder::Decoder;
use super::failure;
use super::fault::Fault;
use super::intake::Intake;
use super::writer::{Writer, data};
use crate::protocol::DisconnectReason;

/// The longest reason of a close frame, in bytes (RFC 6455 §5.5).
const MAX_REASON: usize = 123;

/// What may wait to be written, in bytes, when a frame is added. Answers count: without a bound, a
/// server that never reads could have it grow without end.
const MAX_BACKLOG: usize = MAX_SEND + (4 << 10);

/// The [`Socket`] of a [`Tungstenite`](super::Tungstenite).
pub struct TungsteniteSocket {
    /// How long a message may take.
    assembly: Assembly,
    /// A close frame was sent or received: nothing can be sent any more.
    closing: bool,
    decoder: Decoder,
    /// What ended the reading, while frames read before it are handed out.
    failed: Option<Box<TransportError>>,
    intake: Intake,
    stream: Stream,
    writer: Writer,
}

impl TungsteniteSocket {
    /// A socket on `stream`, of which `rest` was read already.
    pub(super) fn new(stream: Stream, rest: &[u8], max_message: usize, assembly: Assembly) -> Self {
        Self {
            assembly,
            closing: false,
            decoder: Decoder::new(max_message),
            failed: None,
            intake: Intake::new(rest),
            stream,
            writer: Writer::default(),
        }
    }

    /// Reads what is there into `frames` until it is full. Pending once there is nothing more.
    fn poll_frames(
        &mut self,
        cx: &mut Context<'_>,
        frames: &mut Frames,
    ) -> Poll<Result<(), TransportError>> {
        loop {
            let before = frames.parts().len();
            let decoded = self.decode(frames);
            self.answer(frames, before)?;
            if let Err(fault) = decoded {
                self.tell(cx, fault.code());
                return Poll::Ready(Err(fault.into()));
            }
            if frames.is_full() {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.intake.poll_fill(&mut self.stream, cx)) {
                Ok(0) => return Poll::Ready(Err(failure::ended())),
                Ok(_) => {}
                // What the peer's system says of a socket that the peer is done with.
                Err(e) if self.closing && e.kind() == io::ErrorKind::ConnectionReset => {
                    return Poll::Ready(Err(failure::ended()));
                }
                Err(e) => return Poll::Ready(Err(failure::of_stream(e))),
            }
        }
    }

    /// Decodes what has come.
    fn decode(&mut self, frames: &mut Frames) -> Result<(), Fault> {
        while !frames.is_full() {
            let texts = self.decoder.texts(self.intake.bytes_mut(), frames)?;
            if texts > 0 {
                self.intake.consume(texts);
                continue;
            }
            let (room, payload) = frames.room();
            match Decoder::whole(self.intake.bytes(), room, payload) {
                (_, 0) => break,
                (count, len) => self.decoder.decode(self.intake.split(len), count, frames)?,
            }
        }
        if !frames.is_full() && !self.intake.bytes().is_empty() {
            let wanted = self.decoder.await_frame(self.intake.bytes())?;
            self.intake.want(wanted.unwrap_or_default());
        }
        Ok(())
    }

    /// Answers pings and a close frame among what was read after the first `before` parts.
    fn answer(&mut self, frames: &Frames, before: usize) -> Result<(), TransportError> {
        for part in &frames.parts()[before..] {
            match part {
                Part::Control(Control::Ping(payload)) if !self.closing => {
                    self.writer.pong(payload.clone());
                }
                Part::Control(Control::Close(close)) if !self.closing => {
                    self.push_close(close.as_ref().map(|(code, reason)| (*code, &**reason)))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Tells the peer what it did wrong, as far as that can be done at once: the socket is lost.
    fn tell(&mut self, cx: &mut Context<'_>, code: CloseCode) {
        if !self.closing {
            let _ = self.push_close(Some((code.into(), "")));
        }
        let _ = self.poll_flush(cx);
    }

    fn push_close(&mut self, close: Option<(u16, &str)>) -> Result<(), TransportError> {
        let mut payload = BytesMut::new();
        if let Some((code, reason)) = close {
            payload.put_u16(code);
            payload.put_slice(shortened(reason).as_bytes());
        }
        self.push(OpCode::Control(ControlCode::Close), payload.freeze())?;
        self.closing = true;
        Ok(())
    }

    fn push(&mut self, opcode: OpCode, payload: Bytes) -> Result<(), TransportError> {
        if self.closing {
            return Err(failure::ended()); // Nothing is sent after a close frame.
        }
        if self.writer.len().saturating_add(payload.len()) > MAX_BACKLOG {
            return Err(failure::too_large().with_source("too much is waiting to be written"));
        }
        self.writer.push(opcode, payload).map_err(failure::of_stream)
    }
}

impl Socket for TungsteniteSocket {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        frames: &mut Frames,
    ) -> Poll<Result<(), TransportError>> {
        if let Some(e) = self.failed.take() {
            return Poll::Ready(Err(*e));
        }
        let before = frames.len();
        let polled = self.poll_frames(cx, frames);
        if self.writer.is_waiting() {
            // What fails here fails again where somebody asks for it.
            let _ = self.poll_flush(cx);
        }
        match polled {
            Poll::Ready(Err(e)) if frames.len() > before => {
                self.failed = Some(Box::new(e));
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(polled) => return Poll::Ready(polled),
            Poll::Pending => {}
        }
        let unfinished = self.decoder.unfinished(!self.intake.bytes().is_empty());
        let overdue = self.assembly.poll_overdue(cx, unfinished);
        if frames.len() > before {
            frames.set_drained(overdue.is_pending());
            return Poll::Ready(Ok(()));
        }
        ready!(overdue);
        self.tell(cx, CloseCode::Policy);
        Poll::Ready(Err(TransportError::new(DisconnectReason::AssemblyTimeout)))
    }

    fn max_send(&self) -> usize {
        MAX_SEND
    }

    fn start_send(&mut self, frame: Frame) -> Result<(), TransportError> {
        match frame {
            Frame::Close(close) => {
                self.push_close(close.as_ref().map(|(code, reason)| (*code, &**reason)))
            }
            Frame::Data(message) => {
                self.push(data(message.as_text().is_some()), message.into_bytes())
            }
            Frame::Ping(payload) => self.push(OpCode::Control(ControlCode::Ping), payload),
            Frame::Pong(payload) => self.push(OpCode::Control(ControlCode::Pong), payload),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.writer.poll_flush(&mut self.stream, cx).map_err(failure::of_stream)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        if let Some(e) = self.failed.take() {
            return Poll::Ready(closed(*e));
        }
        if !self.closing {
            if let Err(e) = self.push_close(Some((CloseCode::Normal.into(), ""))) {
                return Poll::Ready(closed(e));
            }
        }
        // Reading goes on beside it: the peer may take the rest only once we took what it sends.
        if let Poll::Ready(Err(e)) = self.poll_flush(cx) {
            return Poll::Ready(closed(e));
        }
        let mut dropped = Frames::with_budget(usize::MAX, 64 << 10);
        loop {
            if let Err(e) = ready!(self.poll_frames(cx, &mut dropped)) {
                return Poll::Ready(closed(e));
            }
            dropped.drain().for_each(drop);
        }
    }
}

impl fmt::Debug for TungsteniteSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TungsteniteSocket").field("closing", &self.closing).finish_non_exhaustive()
    }
}

/// The end of the stream is what closing waits for.
fn closed(e: TransportError) -> Result<(), TransportError> {
    if *e.reason() == DisconnectReason::Ended { Ok(()) } else { Err(e) }
}

/// A close frame's reason, cut to what fits.
fn shortened(reason: &str) -> &str {
    let end = reason.len().min(MAX_REASON);
    let end = (0..=end).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::{SinkExt as _, StreamExt as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_tungstenite::accept_async;
    use tokio_tungstenite::tungstenite::Message as Wire;

    use super::super::Tungstenite;
    use super::super::testing::{Server, frame, opened, read, sent};
    use super::*;
    use crate::transport::Transport as _;

    const EIGHT_MIB: usize = 8 << 20;

    async fn flush(socket: &mut TungsteniteSocket) {
        poll_fn(|cx| socket.poll_flush(cx)).await.unwrap();
    }

    /// How a socket fails whose server sent `bytes`, and the close code it tells the server.
    async fn failed(bytes: &[u8]) -> (DisconnectReason, u16) {
        let (mut socket, mut tcp) = opened(&Tungstenite::new().max_message(100), bytes).await;
        let e = read(&mut socket, 9).await.unwrap_err();
        let (first, payload) = sent(&mut tcp).await.unwrap();
        assert_eq!(first, 0x88, "a close frame");
        (e.reason().clone(), u16::from_be_bytes([payload[0], payload[1]]))
    }

    #[tokio::test]
    async fn a_read_takes_all_that_is_there_up_to_the_budget() {
        let ten = frame(0x81, b"tick").repeat(10);
        let (mut socket, _tcp) = opened(&Tungstenite::new(), &ten).await;
        for expected in [4, 4, 2] {
            assert_eq!(read(&mut socket, 4).await.unwrap().len(), expected);
        }
    }

    #[tokio::test]
    async fn frames_before_an_error_are_read_before_it() {
        let bytes = [frame(0x81, b"tick"), frame(0xc1, b"")].concat();
        let (mut socket, _tcp) = opened(&Tungstenite::new(), &bytes).await;
        assert_eq!(read(&mut socket, 9).await.unwrap(), [Frame::Data("tick".into())]);
        let e = read(&mut socket, 9).await.unwrap_err();
        assert_eq!(*e.reason(), DisconnectReason::ProtocolViolation);
    }

    #[tokio::test]
    async fn a_message_above_the_limit_is_too_large_in_one_frame_or_in_many() {
        let expected = (DisconnectReason::MessageTooLarge, 1009);
        assert_eq!(failed(&frame(0x82, &[0; 101])).await, expected);
        let fragments = [frame(0x02, &[0; 60]), frame(0x80, &[0; 60])].concat();
        assert_eq!(failed(&fragments).await, expected);
    }

    #[tokio::test]
    async fn what_is_no_websocket_frame_is_a_violation() {
        let violation = DisconnectReason::ProtocolViolation;
        assert_eq!(failed(&frame(0xc1, b"rsv1")).await, (violation.clone(), 1002));
        assert_eq!(failed(&[0x81, 0x81, 0, 0, 0, 0, b'x']).await, (violation.clone(), 1002));
        assert_eq!(failed(&frame(0x83, b"")).await, (violation.clone(), 1002));
        assert_eq!(failed(&frame(0x81, b"canary\xff")).await, (violation, 1007));
    }

    #[tokio::test]
    async fn a_stream_without_a_close_frame_just_ended() {
        let (mut socket, tcp) = opened(&Tungstenite::new(), b"").await;
        drop(tcp);
        let e = read(&mut socket, 9).await.unwrap_err();
        assert_eq!(*e.reason(), DisconnectReason::Ended);
    }

    #[tokio::test]
    async fn a_close_frame_is_handed_out_and_answered_and_then_the_stream_ends() {
        let bytes = frame(0x88, b"\x03\xf4bye");
        let (mut socket, mut tcp) = opened(&Tungstenite::new(), &bytes).await;
        let close = Frame::Close(Some((1012, "bye".into())));
        let server = async {
            let answer = sent(&mut tcp).await.unwrap();
            drop(tcp);
            answer
        };
        let client = async {
            let frames = read(&mut socket, 9).await.unwrap();
            (frames, read(&mut socket, 9).await.unwrap_err())
        };
        let ((frames, e), answer) = tokio::join!(client, server);
        assert_eq!(frames, [close]);
        assert_eq!(*e.reason(), DisconnectReason::Ended);
        assert_eq!(answer, (0x88, b"\x03\xf4bye".to_vec()));
    }

    #[tokio::test]
    async fn a_close_frame_may_be_empty() {
        let (mut socket, _tcp) = opened(&Tungstenite::new(), &frame(0x88, b"")).await;
        assert_eq!(read(&mut socket, 9).await.unwrap(), [Frame::Close(None)]);
        let e = socket.start_send(Frame::Ping("".into())).unwrap_err();
        assert_eq!(*e.reason(), DisconnectReason::Ended, "nothing is sent after a close");
    }

    #[tokio::test]
    async fn closing_says_1000_and_waits_for_the_peer() {
        let (mut socket, mut tcp) = opened(&Tungstenite::new(), &frame(0x81, b"late")).await;
        let server = async {
            assert_eq!(sent(&mut tcp).await.unwrap(), (0x88, vec![3, 0xe8]));
            tcp.write_all(&frame(0x88, &[3, 0xe8])).await.unwrap();
            drop(tcp);
        };
        let (closed, ()) = tokio::join!(poll_fn(|cx| socket.poll_close(cx)), server);
        closed.unwrap();
    }

    #[tokio::test]
    async fn closing_sends_no_second_close_frame() {
        let (mut socket, mut tcp) = opened(&Tungstenite::new(), b"").await;
        let reason = "é".repeat(100);
        socket.start_send(Frame::Close(Some((4000, reason.as_str().into())))).unwrap();
        let server = async {
            let (first, payload) = sent(&mut tcp).await.unwrap();
            assert_eq!((first, payload.len()), (0x88, 2 + 122), "cut between two letters");
            tcp.shutdown().await.unwrap();
            assert_eq!(tcp.read(&mut [0]).await.unwrap(), 0);
        };
        let client = async {
            poll_fn(|cx| socket.poll_close(cx)).await.unwrap();
            drop(socket);
        };
        tokio::join!(client, server);
    }

    #[tokio::test]
    async fn closing_reads_while_writing_is_blocked() {
        let (mut socket, mut tcp) = opened(&Tungstenite::new(), b"").await;
        socket.start_send(Frame::Data(vec![0; EIGHT_MIB].into())).unwrap();
        let server = async {
            // It reads nothing before all of this is taken.
            let len = u64::try_from(EIGHT_MIB).unwrap().to_be_bytes();
            let head = [&[0x82, 127], len.as_slice()].concat();
            tcp.write_all(&head).await.unwrap();
            tcp.write_all(&vec![0; EIGHT_MIB]).await.unwrap();
            let mut data = vec![0; 14 + EIGHT_MIB];
            tcp.read_exact(&mut data).await.unwrap();
            assert_eq!(sent(&mut tcp).await.unwrap().0, 0x88);
            drop(tcp);
        };
        let (closed, ()) = tokio::join!(poll_fn(|cx| socket.poll_close(cx)), server);
        closed.unwrap();
    }

    #[tokio::test]
    async fn a_frame_above_the_backlog_is_too_large_to_send() {
        let (mut socket, _tcp) = opened(&Tungstenite::new(), b"").await;
        let e = socket.start_send(Frame::Data(vec![0; 17 << 20].into())).unwrap_err();
        assert_eq!(*e.reason(), DisconnectReason::MessageTooLarge);
    }

    #[tokio::test]
    async fn a_frame_of_16_mib_can_be_sent_though_a_pong_waits() {
        let (mut socket, mut tcp) = opened(&Tungstenite::new(), &frame(0x89, &[b'p'; 125])).await;
        assert_eq!(read(&mut socket, 1).await.unwrap().len(), 1);
        socket.start_send(Frame::Data(vec![0; socket.max_send()].into())).unwrap();
        let server = async {
            assert_eq!(sent(&mut tcp).await.unwrap().0, 0x8a);
            let mut data = vec![0; 14 + (16 << 20)];
            tcp.read_exact(&mut data).await.unwrap();
        };
        tokio::join!(flush(&mut socket), server);
    }

    #[tokio::test]
    async fn pings_are_handed_out_and_answered() {
        let (mut socket, mut tcp) = opened(&Tungstenite::new(), &frame(0x89, b"1")).await;
        assert_eq!(read(&mut socket, 1).await.unwrap(), [Frame::Ping("1".into())]);
        flush(&mut socket).await;
        assert_eq!(sent(&mut tcp).await.unwrap(), (0x8a, b"1".to_vec()));
    }

    #[tokio::test]
    async fn frames_are_exchanged_with_another_implementation() {
        let server = Server::start().await;
        let (request, transport) = (server.request(), Tungstenite::new());
        let (client, peer) = tokio::join!(transport.connect(&request), async {
            accept_async(server.tcp().await).await.unwrap()
        });
        let (mut socket, mut peer) = (client.unwrap().0, peer);
        for frame in [
            Frame::Data("text".into()),
            Frame::Data(vec![7; 70_000].into()),
            Frame::Ping("p".into()),
        ] {
            socket.start_send(frame).unwrap();
            flush(&mut socket).await;
        }
        assert_eq!(peer.next().await.unwrap().unwrap(), Wire::text("text"));
        assert_eq!(peer.next().await.unwrap().unwrap(), Wire::binary(vec![7; 70_000]));
        assert_eq!(peer.next().await.unwrap().unwrap(), Wire::Ping("p".into()));
        peer.flush().await.unwrap();
        assert_eq!(read(&mut socket, 9).await.unwrap(), [Frame::Pong("p".into())]);
    }
}
