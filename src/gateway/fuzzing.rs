//! What clients of a gateway can say, and what they are told, for a fuzzer. Built only with
//! `--cfg fuzzing`.

use super::event::{Event, Place};
use super::frame::{Decoder, Incoming};
use super::sse;
use super::words::{self, Word};
use crate::message::Message;

/// What a client said in frames.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Said {
    /// A binary message.
    Binary(Vec<u8>),
    /// That it closes, and with which code.
    Close(Option<u16>),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// A text message.
    Text(String),
}

/// What comes of a client's bytes, piece by piece, up to its close frame; the code with which it is
/// closed where it breaks the rules; and the most that was ever held of it, in bytes, beside the piece
/// that was read last.
pub fn read_frames<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    max_message: usize,
) -> (Vec<Said>, Option<u16>, usize) {
    let (mut decoder, mut all, mut most) = (Decoder::new(max_message), Vec::new(), 0);
    for piece in pieces {
        decoder.feed(piece);
        loop {
            let said = match decoder.next() {
                Ok(None) => break,
                Err(violation) => return (all, Some(violation.code), most),
                Ok(Some(Incoming::Binary(bytes))) => Said::Binary(bytes),
                Ok(Some(Incoming::Close(code))) => {
                    all.push(Said::Close(code));
                    return (all, None, most);
                }
                Ok(Some(Incoming::Ping(payload))) => Said::Ping(payload),
                Ok(Some(Incoming::Pong)) => Said::Pong,
                Ok(Some(Incoming::Text(text))) => Said::Text(text),
            };
            all.push(said);
        }
        most = most.max(decoder.held());
    }
    (all, None, most)
}

/// The names in a client's word, and the frame that tells that it was heard; `None` where it is no word.
#[must_use]
pub fn answer_word(text: &str) -> Option<(Vec<String>, Vec<u8>)> {
    Some(match Word::read(text)? {
        Word::Auth { id, token } => {
            (Vec::new(), words::error(&id, "x", Some(&token), &token).into())
        }
        Word::Ping { id } => (Vec::new(), words::pong(&id).into()),
        Word::Subscribe { id, names } | Word::Unsubscribe { id, names } => {
            let answer = words::ack(&id, names.iter().map(|name| &**name)).into();
            (names, answer)
        }
    })
}

/// Where a reader was by its `Last-Event-ID`, as it would be written.
#[must_use]
pub fn read_place(id: &str) -> Option<String> {
    id.parse().ok().map(|place: Place| place.to_string())
}

/// The names that a request to `/sse` asks for, of which there may be `most`.
#[must_use]
pub fn read_names(uri: &http::Uri, most: usize) -> Option<Vec<String>> {
    let names = sse::names_in(uri, most)?;
    Some(names.into_iter().map(|name| name.to_string()).collect())
}

/// A message as an event, for a reader of its name alone and for one of several, and as a data frame of
/// `/ws`.
#[must_use]
pub fn write_event(name: &str, message: Message) -> [Vec<u8>; 3] {
    let prefix = words::data_prefix(name);
    let mut frame = bytes::BytesMut::new();
    words::put_data(&mut frame, &prefix, &message);
    let event = Event::message(message);
    [event.alone().to_vec(), event.among(&prefix).to_vec(), frame.to_vec()]
}
