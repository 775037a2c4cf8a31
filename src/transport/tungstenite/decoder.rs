//! From bytes to frames (RFC 6455 §5), without I/O: the receiving half of a client.
//!
//! Small texts, which are most of what a busy feed sends, are copied into a pack
//! ([`Decoder::texts`]). Any other payload is a slice of the bytes that it was read into, and nothing
//! is copied but fragments, which are put together.
//!
//! # Invariants
//!
//! 1. However the bytes are cut into reads, the same frames come of them, or the same fault after
//!    the same frames.
//! 2. What a head announces costs nothing before it has come: it is judged as soon as it is there.
//! 3. Text is UTF-8: whole, or from fragment to fragment.
//! 4. After a close frame nothing may come.

use std::str::from_utf8;

use bytes::{Buf as _, Bytes};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::super::{Frame, Frames};
use super::fault::Fault;
use super::flood::{Floods, Unfinished};
use super::head::{Extent, Head, Kind};
use super::row::{self, Row};
use crate::message::{Message, SMALL, Text};

#[derive(Debug)]
pub(super) struct Decoder {
    closed: bool,
    floods: Floods,
    /// Whether the head of the frame that is being awaited was judged.
    judged: bool,
    max_message: usize,
    /// The message whose fragments are coming.
    open: Option<Box<Fragments>>,
}

/// A message that comes in fragments.
#[derive(Debug)]
struct Fragments {
    bytes: Vec<u8>,
    is_text: bool,
    /// How much of it is known to be UTF-8.
    valid: usize,
}

impl Decoder {
    pub(super) fn new(max_message: usize) -> Self {
        Self { closed: false, floods: Floods::new(), judged: false, max_message, open: None }
    }

    /// Takes the small texts that `bytes` begin with, each in a frame of its own, up to the budget of
    /// `frames`. Returns how many bytes those frames are: as many as are taken at one go, and what
    /// follows may be texts as well. Their heads are overwritten.
    pub(super) fn texts(&mut self, bytes: &mut [u8], frames: &mut Frames) -> Result<usize, Fault> {
        let longest = SMALL.min(self.max_message);
        if !row::begins(bytes, longest) || self.open.is_some() || self.closed {
            return Ok(0);
        }
        let ((most, room), mut row) = (frames.room(), Row::new());
        row.take(bytes, longest, most, room);
        self.judged = false;
        self.floods.ended();
        let (text, places) = row.text(bytes);
        frames.push_messages(|texts| {
            if texts.is_empty() {
                // As if all that has come were like this: it often is.
                let likely = bytes.len() / row.len().div_ceil(places.len().max(1)).max(1);
                texts.reserve(likely.min(most), bytes.len().min(room.saturating_add(row.len())));
            }
            texts.push_row(text, places);
        });
        if text.len() < row.len() { Err(Fault::NotUtf8) } else { Ok(row.len()) }
    }

    /// How many whole frames `bytes` begin with, and how many bytes they are: no more than `frames`
    /// or, but for the last one, than `payload` bytes of payload. Small texts end them.
    pub(super) fn whole(bytes: &[u8], frames: usize, payload: usize) -> (usize, usize) {
        let (mut at, mut count, mut taken) = (0, 0, 0);
        while count < frames {
            if taken >= payload || (at > 0 && row::begins(&bytes[at..], SMALL)) {
                break;
            }
            let Some(extent) = Extent::of(&bytes[at..]) else { break };
            let len = extent.len();
            if len > bytes.len() - at {
                break;
            }
            (at, count) = (at + len, count + 1);
            taken += len - extent.head;
        }
        (count, at)
    }

    /// Decodes `bytes`, which are `count` whole frames.
    pub(super) fn decode(
        &mut self,
        mut bytes: Bytes,
        count: usize,
        frames: &mut Frames,
    ) -> Result<(), Fault> {
        let mut at = 0;
        while let Some(extent) = Extent::of(&bytes[at..]) {
            let head = self.judge(&bytes[at..], extent)?;
            self.judged = false;
            if at == 0 && count > 1 && !head.kind.is_control() {
                frames.push_messages(|messages| messages.reserve_whole(count));
            }
            let end = at.saturating_add(extent.len());
            if end >= bytes.len() {
                bytes.advance(at + extent.head); // The last one needs no reference of its own.
                return self.take(head, bytes, frames);
            }
            self.take(head, bytes.slice(at + extent.head..end), frames)?;
            at = end;
        }
        Ok(())
    }

    /// Looks at the frame that `bytes` begin with and is not whole yet. Returns its length, if it is
    /// known.
    pub(super) fn await_frame(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let Some(extent) = Extent::of(bytes) else { return Ok(None) };
        if !self.judged {
            self.judge(bytes, extent)?;
            self.judged = true;
        }
        Ok(Some(extent.len()))
    }

    /// What has begun and not ended, where `more` says whether a frame has.
    pub(super) fn unfinished(&self, more: bool) -> Option<Unfinished> {
        (more || self.open.is_some()).then(|| self.floods.current())
    }

    /// Whether the frame may come, as far as its head tells.
    fn judge(&mut self, bytes: &[u8], extent: Extent) -> Result<Head, Fault> {
        let head = Head::of(bytes, extent, self.max_message)?;
        if self.judged {
            return Ok(head);
        }
        if self.closed {
            return Err(Fault::Violation("a frame after the close frame"));
        }
        let is_first = matches!(head.kind, Kind::Binary | Kind::Text);
        if self.open.is_some() && is_first {
            return Err(Fault::Violation("a message begins in the midst of another"));
        }
        if self.open.is_none() && head.kind == Kind::Continuation {
            return Err(Fault::Violation("a fragment of no message"));
        }
        let before = self.open.as_ref().map_or(0, |open| open.bytes.len()) as u64;
        let whole = if head.kind.is_control() { 0 } else { before.saturating_add(extent.payload) };
        if whole > self.max_message as u64 {
            return Err(Fault::TooLarge { bytes: whole, max: self.max_message });
        }
        if head.kind.is_control() {
            self.floods.control()?;
        } else if !(is_first && head.is_final) {
            self.floods.fragment(is_first, whole)?;
        }
        Ok(head)
    }

    fn take(&mut self, head: Head, payload: Bytes, frames: &mut Frames) -> Result<(), Fault> {
        let frame = match head.kind {
            Kind::Text if head.is_final => Frame::Data(Message::Text(text(payload)?)),
            Kind::Binary if head.is_final => Frame::Data(Message::Binary(payload)),
            Kind::Text | Kind::Binary | Kind::Continuation => {
                let Some(message) = self.fragment(head, &payload)? else { return Ok(()) };
                Frame::Data(message)
            }
            Kind::Ping => Frame::Ping(payload),
            Kind::Pong => Frame::Pong(payload),
            Kind::Close => {
                self.closed = true;
                Frame::Close(close(payload)?)
            }
        };
        if self.open.is_none() {
            self.floods.ended();
        }
        frames.push(frame);
        Ok(())
    }

    /// Adds a fragment; the message, if it is the last one.
    fn fragment(&mut self, head: Head, payload: &[u8]) -> Result<Option<Message>, Fault> {
        let open = self.open.get_or_insert_with(|| {
            let is_text = head.kind == Kind::Text;
            Box::new(Fragments { bytes: Vec::new(), is_text, valid: 0 })
        });
        open.bytes.extend_from_slice(payload);
        open.check()?;
        match self.open.take_if(|_| head.is_final) {
            Some(open) => open.into_message().map(Some),
            None => Ok(None),
        }
    }
}

impl Fragments {
    /// Whether what has come may be text, if it is to be.
    fn check(&mut self) -> Result<(), Fault> {
        if !self.is_text {
            return Ok(());
        }
        match from_utf8(&self.bytes[self.valid..]) {
            Ok(_) => self.valid = self.bytes.len(),
            Err(e) if e.error_len().is_some() => return Err(Fault::NotUtf8),
            Err(e) => self.valid += e.valid_up_to(), // A letter goes on in the next fragment.
        }
        Ok(())
    }

    fn into_message(self) -> Result<Message, Fault> {
        if !self.is_text {
            return Ok(Message::Binary(self.bytes.into()));
        }
        text(self.bytes.into()).map(Message::Text)
    }
}

#[inline]
fn text(bytes: Bytes) -> Result<Text, Fault> {
    Text::try_from(bytes).map_err(|_| Fault::NotUtf8)
}

/// The code and the reason in a close frame (RFC 6455 §5.5.1). A code that none may send counts as
/// the violation that it is.
fn close(mut payload: Bytes) -> Result<Option<(u16, Text)>, Fault> {
    match payload.len() {
        0 => return Ok(None),
        1 => return Err(Fault::Violation("a close frame with half a code")),
        _ => {}
    }
    let code = CloseCode::from(payload.get_u16());
    let reason = text(payload)?;
    if !code.is_allowed() {
        return Ok(Some((CloseCode::Protocol.into(), Text::from_static("Protocol violation"))));
    }
    Ok(Some((code.into(), reason)))
}

#[cfg(test)]
mod tests;
