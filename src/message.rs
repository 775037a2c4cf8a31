//! Data messages, as readers see them.
//!
//! Control frames (ping, pong, close) never reach a reader; they are the transport's
//! [`Frame`](crate::transport::Frame).

mod pack;
mod text;

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

pub(crate) use pack::{Pack, Place, Run, SMALL, message_of};
pub use text::Text;

/// One data message. Cloning is cheap: the payload is shared.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// A text message.
    Text(Text),
    /// A binary message.
    Binary(Bytes),
}

impl Message {
    /// A text message.
    pub fn text(text: impl Into<Text>) -> Self {
        Self::Text(text.into())
    }

    /// A binary message.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::Binary(bytes.into())
    }

    /// The payload, whichever kind it is.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The text of a text message.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The payload, whichever kind it is: a copy of a small text that came with others, else the same
    /// memory.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// A part of the payload, in the same memory. What is no part of it is copied.
    pub(crate) fn part(&self, part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(self.as_bytes().as_ptr() as usize);
        let end = start.checked_add(part.len()).filter(|end| *end <= self.len());
        match (self, end) {
            (Self::Text(text), Some(end)) => match text.part(start..end) {
                Some(text) => Self::Text(text),
                None => Self::Binary(Bytes::copy_from_slice(part)),
            },
            (Self::Binary(bytes), Some(end)) => Self::Binary(bytes.slice(start..end)),
            (Self::Text(_), None) => match std::str::from_utf8(part) {
                Ok(text) => Self::text(text),
                Err(_) => Self::Binary(Bytes::copy_from_slice(part)),
            },
            (Self::Binary(_), None) => Self::Binary(Bytes::copy_from_slice(part)),
        }
    }

    /// Length of the payload in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the payload is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One data message that is lent: nothing of it is counted or copied.
#[derive(Clone, Copy)]
pub struct MessageRef<'a>(Lent<'a>);

#[derive(Clone, Copy)]
enum Lent<'a> {
    Binary(&'a [u8]),
    /// A text in a longer one: not looked at before somebody asks for it.
    Packed(&'a str, usize, usize),
    Text(&'a str),
}

impl<'a> MessageRef<'a> {
    /// An empty text.
    pub(crate) const NONE: Self = Self(Lent::Text(""));

    #[inline]
    fn binary(bytes: &'a [u8]) -> Self {
        Self(Lent::Binary(bytes))
    }

    #[inline]
    fn text(text: &'a str) -> Self {
        Self(Lent::Text(text))
    }

    #[inline]
    fn packed(texts: &'a str, range: &Range<usize>) -> Self {
        Self(Lent::Packed(texts, range.start, range.end))
    }

    /// The payload, whichever kind it is.
    #[inline]
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        match self.0 {
            Lent::Binary(bytes) => bytes,
            Lent::Packed(texts, start, end) => texts.as_bytes().get(start..end).unwrap_or_default(),
            Lent::Text(text) => text.as_bytes(),
        }
    }

    /// The text of a text message.
    #[inline]
    #[must_use]
    pub fn as_text(self) -> Option<&'a str> {
        match self.0 {
            Lent::Binary(_) => None,
            Lent::Packed(texts, start, end) => texts.get(start..end),
            Lent::Text(text) => Some(text),
        }
    }

    /// Whether it is a text message.
    #[inline]
    #[must_use]
    pub fn is_text(self) -> bool {
        !matches!(self.0, Lent::Binary(_))
    }

    /// Length of the payload in bytes.
    #[inline]
    #[must_use]
    pub fn len(self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the payload is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// A message of one's own: a copy.
    #[must_use]
    pub fn to_message(self) -> Message {
        match self.as_text() {
            Some(text) => Message::text(text),
            None => Message::Binary(Bytes::copy_from_slice(self.as_bytes())),
        }
    }
}

impl<'a> From<&'a Message> for MessageRef<'a> {
    #[inline]
    fn from(message: &'a Message) -> Self {
        match message {
            Message::Text(text) => Self::text(text),
            Message::Binary(bytes) => Self::binary(bytes),
        }
    }
}

impl Eq for MessageRef<'_> {}

impl PartialEq for MessageRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.is_text() == other.is_text() && self.as_bytes() == other.as_bytes()
    }
}

impl fmt::Debug for MessageRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_text() {
            Some(text) => f.debug_tuple("Text").field(&text).finish(),
            None => f.debug_tuple("Binary").field(&self.as_bytes()).finish(),
        }
    }
}

impl From<Text> for Message {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::binary(bytes)
    }
}
