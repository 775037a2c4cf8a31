//! Frames, as a client sends them to a gateway, read by its decoder and by tungstenite: of the same
//! bytes, however they are cut, both make the same messages, and what tungstenite refuses is refused.
//!
//! The decoder is the stricter one: it also refuses a length that is longer than it needs to be. It holds
//! no more than two messages, whatever comes.

#![no_main]

use std::io::{self, Cursor, Read, Write};

use libfuzzer_sys::fuzz_target;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};
use wsmux::gateway::{Said, read_frames};
use wsmux_fuzz::{MAX_MESSAGE, parts};

/// The longest head of a frame.
const HEAD: usize = 14;

fuzz_target!(|input: &[u8]| {
    let Some((cuts, bytes)) = parts(input) else { return };
    let (whole, end, held) = read_frames([bytes], MAX_MESSAGE);
    assert!(held <= 2 * MAX_MESSAGE + HEAD, "{held} bytes are held");
    let (cut, cut_end, held) = read_frames(pieces(bytes, cuts), MAX_MESSAGE);
    assert!(held <= 2 * MAX_MESSAGE + HEAD, "{held} bytes are held");
    assert_eq!((&whole, end), (&cut, cut_end), "in pieces");
    assert!(matches!(end, None | Some(1002 | 1007 | 1009)), "{end:?}");
    for said in &whole {
        match said {
            Said::Binary(bytes) => assert!(bytes.len() <= MAX_MESSAGE),
            Said::Text(text) => assert!(text.len() <= MAX_MESSAGE),
            Said::Ping(payload) => assert!(payload.len() <= 125),
            Said::Close(_) | Said::Pong => {}
        }
    }
    let (theirs, refused) = of_tungstenite(bytes);
    if end.is_some() {
        assert!(theirs.starts_with(&whole), "{whole:?}\n{theirs:?}");
    } else {
        assert_eq!(as_tungstenite(whole), theirs);
        assert!(!refused, "tungstenite refuses what is taken");
    }
});

/// IANA has 1014 in its registry of close codes, of which tungstenite does not know.
fn as_tungstenite(mut said: Vec<Said>) -> Vec<Said> {
    if let Some(Said::Close(code @ Some(1014))) = said.last_mut() {
        *code = Some(1002);
    }
    said
}

/// `bytes` in pieces of these lengths, again and again.
fn pieces<'a>(mut bytes: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for cut in cuts.iter().cycle() {
        let (piece, rest) = bytes.split_at(usize::from((*cut).max(1)).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
        if bytes.is_empty() {
            break;
        }
    }
    pieces.push(bytes);
    pieces
}

/// Bytes to the last, and then the end. What is written goes nowhere.
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

/// What tungstenite reads as a server, and whether it refuses something.
fn of_tungstenite(bytes: &[u8]) -> (Vec<Said>, bool) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let mut context = WebSocketContext::new(Role::Server, Some(config));
    let (mut stream, mut all) = (Bytes(Cursor::new(bytes)), Vec::new());
    loop {
        all.push(match context.read(&mut stream) {
            Ok(Message::Text(text)) => Said::Text(text.as_str().to_owned()),
            Ok(Message::Binary(bytes)) => Said::Binary(bytes.to_vec()),
            Ok(Message::Ping(payload)) => Said::Ping(payload.to_vec()),
            Ok(Message::Pong(_)) => Said::Pong,
            Ok(Message::Close(close)) => {
                all.push(Said::Close(close.map(|close| close.code.into())));
                return (all, false);
            }
            Ok(Message::Frame(_)) => unreachable!("never read"),
            Err(Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => return (all, false),
            Err(Error::Capacity(_) | Error::Protocol(_) | Error::Utf8(_)) => return (all, true),
            Err(_) => return (all, false),
        });
    }
}
