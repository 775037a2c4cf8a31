//! Stream names, valid by construction.

use std::borrow::Borrow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// The name of a stream: what readers ask for and what they share.
///
/// 1 byte to 4 KiB ([`StreamName::MAX_LEN`]) of UTF-8 without control characters. A protocol may
/// ask for more. Names are compared byte by byte: `BTCUSDT` and `btcusdt` are two streams. Cloning
/// is cheap.
///
/// ```
/// use wsmux::StreamName;
///
/// let name = StreamName::try_from("btcusdt@trade")?;
/// assert_eq!(name.as_str(), "btcusdt@trade");
/// assert!(StreamName::try_from("two\nlines").is_err());
/// # Ok::<(), wsmux::InvalidName>(())
/// ```
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamName(Arc<str>);

impl StreamName {
    /// The longest name accepted, in bytes.
    pub const MAX_LEN: usize = 4096;

    /// The name as a string slice.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for StreamName {
    type Error = InvalidName;

    fn try_from(name: &str) -> Result<Self, InvalidName> {
        if name.is_empty() {
            Err(InvalidName::Empty)
        } else if name.len() > Self::MAX_LEN {
            Err(InvalidName::TooLong { len: name.len() })
        } else if let Some(at) = name.find(char::is_control) {
            Err(InvalidName::ControlCharacter { at })
        } else {
            Ok(Self(name.into()))
        }
    }
}

impl AsRef<str> for StreamName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for StreamName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for StreamName {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for StreamName {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Why a string cannot name a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum InvalidName {
    /// The name has a control character at byte `at`.
    ControlCharacter {
        /// Byte offset of the character.
        at: usize,
    },
    /// The name is `.` or `..`, which a URL's path would resolve.
    DotSegment,
    /// The name is empty.
    Empty,
    /// The name has `len` bytes, more than [`StreamName::MAX_LEN`].
    TooLong {
        /// Length of the name in bytes.
        len: usize,
    },
    /// The protocol has no stream of this name, and says why.
    Unsupported {
        /// What would be right.
        why: &'static str,
    },
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlCharacter { at } => {
                write!(f, "control character at byte {at}: remove it")
            }
            Self::DotSegment => f.write_str("`.` and `..` are steps in a path, not names"),
            Self::Empty => f.write_str("the name is empty: give the name of a stream"),
            Self::TooLong { len } => {
                write!(f, "the name has {len} bytes, at most {} are allowed", StreamName::MAX_LEN)
            }
            Self::Unsupported { why } => f.write_str(why),
        }
    }
}

impl StdError for InvalidName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_byte_to_four_kibibytes() {
        assert_eq!(StreamName::try_from(""), Err(InvalidName::Empty));
        assert!(StreamName::try_from("a").is_ok());
        assert!(StreamName::try_from(&*"a".repeat(4096)).is_ok());
        let long = "a".repeat(4097);
        assert_eq!(StreamName::try_from(&*long), Err(InvalidName::TooLong { len: 4097 }));
    }

    #[test]
    fn control_characters_are_refused_and_other_text_is_not() {
        for bad in ["a\r\nHost: evil", "a\0", "\u{7f}", "\u{85}"] {
            let refused = StreamName::try_from(bad);
            assert!(matches!(refused, Err(InvalidName::ControlCharacter { .. })), "{bad:?}");
        }
        for good in ["btcusdt@trade", "a b", "../x", "#?&=", "ラーメン", r#"{"channel":"book"}"#]
        {
            assert!(StreamName::try_from(good).is_ok(), "{good:?}");
        }
    }
}
