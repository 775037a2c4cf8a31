//! Frames as bytes: writing the server's, reading the client's.

use std::io::{Cursor, Error, ErrorKind};
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::message::{Message, Text};
use crate::transport::Frame;

const FIN: u8 = 0x80;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The longest reason that fits into a close frame.
const MAX_REASON: usize = 123;

/// The longest message taken from a client.
const MAX_MESSAGE: u64 = 64 << 20;

/// Consecutive frames, ready to be written to any number of sockets.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    pub(super) bytes: Bytes,
    /// Where each frame ends.
    pub(super) ends: Arc<[usize]>,
    pub(super) kind: Kind,
}

/// What frames are, as far as writing them is concerned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A close frame: only one is written.
    Close,
    /// Messages, to be counted and delayed.
    Messages,
    /// Anything else.
    Other,
}

impl Encoded {
    pub(crate) fn messages<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for message in messages {
            let opcode = if message.as_text().is_some() { TEXT } else { BINARY };
            put(&mut bytes, FIN | opcode, message.as_bytes());
            ends.push(bytes.len());
        }
        Self { bytes: bytes.into(), ends: ends.into(), kind: Kind::Messages }
    }

    pub(super) fn ping(payload: &[u8]) -> Self {
        Self::control(PING, payload)
    }

    pub(super) fn pong(payload: &[u8]) -> Self {
        Self::control(PONG, payload)
    }

    /// A close frame; its reason is cut to what fits.
    pub(super) fn close(close: Option<(u16, &str)>) -> Self {
        let close = close.map_or_else(Vec::new, |(code, reason)| {
            let fits = reason.len().min(MAX_REASON);
            let cut = (0..=fits).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
            [&code.to_be_bytes(), &reason.as_bytes()[..cut]].concat()
        });
        Self { kind: Kind::Close, ..Self::control(CLOSE, &close) }
    }

    pub(super) fn raw(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { ends: [bytes.len()].into(), bytes, kind: Kind::Other }
    }

    fn control(opcode: u8, payload: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(payload.len() + 2);
        put(&mut bytes, FIN | opcode, payload);
        Self::raw(bytes)
    }
}

/// Writes a frame that begins with `first` and is not masked.
pub(super) fn put(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    out.push(first);
    let len = payload.len();
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ 0..=125), _) => out.push(len),
        (_, Ok(len)) => {
            out.push(126);
            out.extend(len.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// Reads a client's frames, and puts fragments together.
#[derive(Debug)]
pub(super) struct Decoder {
    pub(super) bytes: BytesMut,
    /// Whether it is text, and what came of it.
    partial: Option<(bool, Vec<u8>)>,
}

impl Decoder {
    pub(super) fn new(bytes: BytesMut) -> Self {
        Self { bytes, partial: None }
    }

    /// The next frame, if it is complete.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Error> {
        while let Some((head, payload)) = self.split()? {
            if let Some(frame) = self.assemble(&head, payload)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    fn split(&mut self) -> Result<Option<(FrameHeader, Vec<u8>)>, Error> {
        let mut cursor = Cursor::new(&self.bytes);
        let Some((head, len)) = FrameHeader::parse(&mut cursor).map_err(Error::other)? else {
            return Ok(None);
        };
        let Some(mask) = head.mask else { return Err(odd("a client's frame without a mask")) };
        if len > MAX_MESSAGE || head.rsv1 || head.rsv2 || head.rsv3 {
            return Err(odd("a frame that is too long or has a reserved bit"));
        }
        // Both are small: the header has up to 14 bytes, and `len` was checked.
        let (start, len) = (cursor.position() as usize, len as usize);
        if self.bytes.len() < start + len {
            return Ok(None);
        }
        self.bytes.advance(start);
        let mut payload = self.bytes.split_to(len).to_vec();
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        Ok(Some((head, payload)))
    }

    fn assemble(&mut self, head: &FrameHeader, payload: Vec<u8>) -> Result<Option<Frame>, Error> {
        let data = match head.opcode {
            OpCode::Control(control) => return control_frame(control, payload).map(Some),
            OpCode::Data(data) => data,
        };
        let (text, bytes) = match (data, self.partial.take()) {
            (Data::Continue, Some((text, mut bytes))) => {
                bytes.extend_from_slice(&payload);
                (text, bytes)
            }
            (Data::Text | Data::Binary, None) => (data == Data::Text, payload),
            _ => return Err(odd("a fragment out of order")),
        };
        if bytes.len() as u64 > MAX_MESSAGE {
            return Err(odd("a message that is too long"));
        }
        if !head.is_final {
            self.partial = Some((text, bytes));
            return Ok(None);
        }
        let message = if text {
            Message::text(Text::try_from(Bytes::from(bytes)).map_err(Error::other)?)
        } else {
            bytes.into()
        };
        Ok(Some(Frame::Data(message)))
    }
}

fn control_frame(control: Control, payload: Vec<u8>) -> Result<Frame, Error> {
    let payload = Bytes::from(payload);
    match control {
        Control::Ping => Ok(Frame::Ping(payload)),
        Control::Pong => Ok(Frame::Pong(payload)),
        Control::Close if payload.is_empty() => Ok(Frame::Close(None)),
        Control::Close if payload.len() == 1 => Err(odd("a close frame with half a code")),
        Control::Close => {
            let code = u16::from_be_bytes([payload[0], payload[1]]);
            let reason = Text::try_from(payload.slice(2..)).map_err(Error::other)?;
            Ok(Frame::Close(Some((code, reason))))
        }
        Control::Reserved(_) => Err(odd("a reserved kind of frame")),
    }
}

fn odd(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first, FIN | payload.len() as u8, 1, 2, 3, 4];
        out.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(b, m)| b ^ m));
        out
    }

    #[test]
    fn fragments_become_one_message_and_control_frames_may_come_between() {
        let bytes = [masked(TEXT, b"he"), masked(FIN | PING, b"!"), masked(FIN, b"llo")].concat();
        let mut decoder = Decoder::new(BytesMut::new());
        let mut frames = Vec::new();
        for byte in bytes {
            decoder.bytes.extend([byte]);
            frames.extend(decoder.next().unwrap());
        }
        let expected = [Frame::Ping("!".into()), Frame::Data("hello".into())];
        assert_eq!(frames, expected);
    }

    #[test]
    fn odd_frames_of_a_client_are_errors() {
        for bytes in [
            vec![FIN | TEXT, 0],
            masked(FIN | TEXT, b"\xff"),
            masked(FIN | CLOSE, b"1"),
            masked(FIN, b"continues nothing"),
            masked(FIN | 0x40 | TEXT, b""),
            masked(FIN | 3, b""),
        ] {
            assert!(Decoder::new(BytesMut::from(&*bytes)).next().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_reason_is_cut_at_a_character() {
        let close = Encoded::close(Some((1000, &"é".repeat(100))));
        assert_eq!(close.bytes.len(), 2 + 2 + 122);
    }
}
