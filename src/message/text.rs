//! Text that is shared.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::Arc;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::pack::{Pack, Place, Run};

/// UTF-8 text with a shared backing buffer. Cloning is cheap.
///
/// A text of up to 1 KiB that came with others shares its memory with them, which lives as long as one
/// of them does: to keep one for long, copy it.
// A newtype keeps tungstenite's 0.x version out of our public API.
#[derive(Clone, Default)]
pub struct Text(Repr);

#[derive(Clone)]
enum Repr {
    /// One of a pack, whose references its reader counts.
    Among(Arc<Run>, Place),
    /// One of a pack.
    Held(Arc<Pack>, Place),
    Own(Utf8Bytes),
}

impl Text {
    /// Text that lives as long as the program.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self(Repr::Own(Utf8Bytes::from_static(text)))
    }

    #[inline]
    pub(super) fn own(text: Utf8Bytes) -> Self {
        Self(Repr::Own(text))
    }

    /// The same in memory of its own: a copy, if it is one of a pack.
    pub(super) fn into_own(self) -> Utf8Bytes {
        match self.0 {
            Repr::Own(text) => text,
            Repr::Among(..) | Repr::Held(..) => self.as_str().into(),
        }
    }

    #[inline]
    pub(super) fn among(run: Arc<Run>, place: Place) -> Self {
        Self(Repr::Among(run, place))
    }

    #[inline]
    pub(super) fn held(pack: Arc<Pack>, place: Place) -> Self {
        Self(Repr::Held(pack, place))
    }

    /// The text as a string slice.
    #[inline]
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Among(run, place) => run.pack().text(*place),
            Repr::Held(pack, place) => pack.text(*place),
            Repr::Own(text) => text.as_str(),
        }
    }

    /// The text as bytes. Cheaper than by way of the string slice, which looks where letters end.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Among(run, place) => run.pack().text_bytes(*place),
            Repr::Held(pack, place) => pack.text_bytes(*place),
            Repr::Own(text) => text.as_str().as_bytes(),
        }
    }

    /// Length of the text in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the text is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those bytes of it, in the same memory; `None` if that is no text.
    pub(super) fn part(&self, part: Range<usize>) -> Option<Self> {
        self.as_str().get(part.clone())?;
        Some(match &self.0 {
            Repr::Among(run, whole) => Self::among(Arc::clone(run), whole.part(part)?),
            Repr::Held(pack, whole) => Self::held(Arc::clone(pack), whole.part(part)?),
            Repr::Own(text) => Self::try_from(Bytes::from(text.clone()).slice(part)).ok()?,
        })
    }

    /// The bytes of the text: a copy of a small text that came with others, else the same memory.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Repr::Own(text) => text.into(),
            Repr::Among(..) | Repr::Held(..) => Bytes::copy_from_slice(self.as_bytes()),
        }
    }
}

impl Deref for Text {
    type Target = str;

    #[inline]
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
