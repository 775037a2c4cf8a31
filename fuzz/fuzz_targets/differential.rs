//! Frames, as a server sends them after a good handshake, read by the transport and by tungstenite: of
//! the same bytes, however they are cut, both make the same frames, and end for the same reason.

#![no_main]

use std::io::{self, Cursor, Read, Write};

use libfuzzer_sys::fuzz_target;
use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};
use wsmux::DisconnectReason::{self, Ended, Flood, MessageTooLarge, ProtocolViolation};
use wsmux::transport::{Frame, Script};
use wsmux_fuzz::{MAX_MESSAGE, parts, read, run};

fuzz_target!(|input: &[u8]| {
    let Some((pieces, bytes)) = parts(input) else { return };
    let (ours, reason) = run(read(Script::frames(bytes).pieces(pieces)));
    let (theirs, end) = of_tungstenite(bytes);
    if reason == Flood {
        // Of which tungstenite knows nothing.
        assert!(theirs.starts_with(&ours), "{ours:?}\n{theirs:?}");
        return;
    }
    assert_eq!(ours, theirs, "{reason:?}, and theirs {end:?}");
    // A frame that is not whole may be refused by its head, which tungstenite looks at later.
    let is_early = end == Ended && matches!(reason, MessageTooLarge | ProtocolViolation);
    assert!(reason == end || is_early, "{reason:?}, and theirs {end:?}");
});

/// Bytes to the last, and then the end.
struct Bytes<'a>(Cursor<&'a [u8]>);

impl Read for Bytes<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Bytes<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn of_tungstenite(bytes: &[u8]) -> (Vec<Frame>, DisconnectReason) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let mut context = WebSocketContext::new(Role::Client, Some(config));
    let (mut stream, mut frames) = (Bytes(Cursor::new(bytes)), Vec::new());
    loop {
        let end = match context.read(&mut stream) {
            Ok(message) => {
                frames.push(frame(message));
                continue;
            }
            Err(
                Error::ConnectionClosed
                | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
            ) => Ended,
            Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => MessageTooLarge,
            Err(Error::Protocol(_) | Error::Utf8(_)) => ProtocolViolation,
            Err(e) => panic!("{e}"),
        };
        return (frames, end);
    }
}

fn frame(message: Message) -> Frame {
    match message {
        Message::Text(text) => Frame::Data(text.as_str().into()),
        Message::Binary(bytes) => Frame::Data(bytes.into()),
        Message::Ping(payload) => Frame::Ping(payload),
        Message::Pong(payload) => Frame::Pong(payload),
        Message::Close(close) => {
            Frame::Close(close.map(|close| (close.code.into(), close.reason.as_str().into())))
        }
        Message::Frame(_) => unreachable!("never read"),
    }
}
