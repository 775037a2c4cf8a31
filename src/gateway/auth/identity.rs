//! Who somebody is, once it is proved.

use std::sync::Arc;

use tokio::time::Instant;

/// Longest name of a user, in bytes. It is kept for each, and shown to operators.
const LONGEST: usize = 256;

/// Who somebody is, and until when that holds.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Identity {
    /// Until when it holds; `None` is for ever.
    pub expires_at: Option<Instant>,
    /// The tier that the proof itself names, if any.
    pub tier: Option<Arc<str>>,
    /// The same on all connections of one user. Shown to operators, so it is no secret.
    pub user: Arc<str>,
}

impl Identity {
    /// Somebody, for ever; `None` where `user` cannot be a name: it has 1 to 256 bytes, none of which
    /// is a control character.
    #[must_use]
    pub fn new(user: &str) -> Option<Self> {
        let is_name = (1..=LONGEST).contains(&user.len()) && !user.chars().any(char::is_control);
        is_name.then(|| Self { expires_at: None, tier: None, user: user.into() })
    }

    /// The same, until `at`.
    #[must_use]
    pub fn until(mut self, at: Option<Instant>) -> Self {
        self.expires_at = at;
        self
    }

    /// The same, of a tier.
    #[must_use]
    pub fn of_tier(mut self, tier: Option<&str>) -> Self {
        self.tier = tier.map(Into::into);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_short_name_without_control_characters() {
        for good in ["a", "ann@example.com", "Zoë", &"x".repeat(256)] {
            assert!(Identity::new(good).is_some(), "{good}");
        }
        for bad in ["", "a\nb", "\0", &"x".repeat(257)] {
            assert!(Identity::new(bad).is_none(), "{bad}");
        }
    }
}
