//! Data messages, as readers see them.
//!
//! Control frames (ping, pong, close) never reach a reader; they are the transport's
//! [`Frame`](crate::transport::Frame).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

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

    /// The payload without a copy, whichever kind it is.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The same in memory of its own, however large the buffer that it was read into.
    pub(crate) fn detached(&self) -> Self {
        match self {
            Self::Text(text) => Self::text(text.as_str()),
            Self::Binary(bytes) => Self::Binary(Bytes::copy_from_slice(bytes)),
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
        self.as_bytes().is_empty()
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

/// UTF-8 text with a shared backing buffer. Cloning is cheap.
// A newtype keeps tungstenite's 0.x version out of our public API.
#[derive(Clone, Default)]
pub struct Text(Repr);

#[derive(Clone)]
enum Repr {
    Own(Utf8Bytes),
    /// The text of a message among others, which are counted as one.
    Among(Arc<Run>, u32),
}

/// Messages that somebody holds together. What is taken out of them by [`get`](Self::get) counts its
/// references here, and not where every other holder of the same messages counts them as well: a
/// count that only one task changes stays in that task's cache.
#[derive(Debug)]
pub(crate) struct Run(Arc<dyn Messages>);

/// What holds messages.
pub(crate) trait Messages: fmt::Debug + Send + Sync {
    fn messages(&self) -> &[Message];
}

impl Run {
    pub(crate) fn new(messages: Arc<dyn Messages>) -> Arc<Self> {
        Arc::new(Self(messages))
    }

    /// The message at `index`, which there is.
    pub(crate) fn get(self: &Arc<Self>, index: usize) -> Message {
        match (&self.0.messages()[index], u32::try_from(index)) {
            (Message::Text(_), Ok(index)) => {
                Message::Text(Text(Repr::Among(Arc::clone(self), index)))
            }
            (message, _) => message.clone(),
        }
    }

    fn text(&self, index: u32) -> &Text {
        match self.0.messages().get(index as usize) {
            Some(Message::Text(text)) => text,
            _ => &NO_TEXT, // `get` has seen it.
        }
    }
}

static NO_TEXT: Text = Text::from_static("");

impl Text {
    /// Text that lives as long as the program.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self(Repr::Own(Utf8Bytes::from_static(text)))
    }

    /// The text as a string slice.
    #[inline]
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.own().as_str()
    }

    /// The bytes of the text without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Repr::Own(text) => text.into(),
            Repr::Among(..) => self.own().clone().into(),
        }
    }

    #[inline]
    fn own(&self) -> &Utf8Bytes {
        let mut text = self;
        loop {
            match &text.0 {
                Repr::Own(own) => return own,
                Repr::Among(run, index) => text = run.text(*index),
            }
        }
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Repr::Own(text.into()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Repr::Own(text.into()))
    }
}

impl TryFrom<Bytes> for Text {
    type Error = std::str::Utf8Error;

    /// Checks that `bytes` are UTF-8, and shares them.
    fn try_from(bytes: Bytes) -> Result<Self, Self::Error> {
        Utf8Bytes::try_from(bytes).map(|text| Self(Repr::Own(text)))
    }
}

impl Default for Repr {
    fn default() -> Self {
        Self::Own(Utf8Bytes::default())
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}
