//! What tells the managers of one process apart.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// A manager's label, valid by construction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Label(Arc<str>);

impl Label {
    /// The longest label accepted, in bytes.
    const MAX_LEN: usize = 64;

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl Default for Label {
    fn default() -> Self {
        Self("default".into())
    }
}

impl TryFrom<&str> for Label {
    type Error = InvalidLabel;

    fn try_from(label: &str) -> Result<Self, InvalidLabel> {
        if label.is_empty() {
            Err(InvalidLabel::Empty)
        } else if label.len() > Self::MAX_LEN {
            Err(InvalidLabel::TooLong { len: label.len() })
        } else if let Some(at) = label.find(char::is_control) {
            Err(InvalidLabel::ControlCharacter { at })
        } else {
            Ok(Self(label.into()))
        }
    }
}

/// Why a string cannot label a manager.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum InvalidLabel {
    /// The label has a control character at byte `at`.
    ControlCharacter {
        /// Byte offset of the character.
        at: usize,
    },
    /// The label is empty.
    Empty,
    /// The label has `len` bytes, more than 64.
    TooLong {
        /// Length of the label in bytes.
        len: usize,
    },
}

impl fmt::Display for InvalidLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlCharacter { at } => {
                write!(f, "control character at byte {at}: remove it")
            }
            Self::Empty => f.write_str("the label is empty: give a word, or none for `default`"),
            Self::TooLong { len } => {
                write!(f, "the label has {len} bytes, at most {} are allowed", Label::MAX_LEN)
            }
        }
    }
}

impl StdError for InvalidLabel {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_one_byte_to_64_without_control_characters() {
        let label = |text: &str| Label::try_from(text).map(|label| label.as_str().to_owned());
        assert_eq!(label(""), Err(InvalidLabel::Empty));
        assert_eq!(label("a\nb"), Err(InvalidLabel::ControlCharacter { at: 1 }));
        assert_eq!(label(&"x".repeat(65)), Err(InvalidLabel::TooLong { len: 65 }));
        assert_eq!(label(&"x".repeat(64)).unwrap().len(), 64);
        assert_eq!(label("Börse \"1\"").unwrap(), "Börse \"1\"");
        assert_eq!(Label::default().as_str(), "default");
    }
}
