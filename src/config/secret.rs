//! Text that is never printed.

use std::fmt;
use std::sync::Arc;

/// A token, a key or a password: text that nothing prints.
///
/// A debugging print shows `***`; there is neither `Display` nor `Serialize`. Clones share the text.
/// It is not wiped from memory when it is dropped: a handshake, the kernel's buffers and TLS have
/// copies of it that nobody can reach.
///
/// ```
/// use wsmux::Secret;
///
/// let secret = Secret::new("s3cr3t");
/// assert_eq!(format!("{secret:?}"), "***");
/// assert_eq!(secret.expose(), "s3cr3t");
/// ```
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Keeps `text` from being printed.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself: for what is sent, not for what is shown.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}
