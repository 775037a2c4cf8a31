//! Keys that programs show: long-lived, one per program.
//!
//! Only their SHA-256 is kept. A key has to be long enough that nobody guesses it, so a slow hash, which
//! would be paid for each connection, adds nothing. What is shown is compared with all that are known,
//! each to its last byte: how long that takes tells nothing about any of them.

use std::fmt;

use data_encoding::HEXLOWER_PERMISSIVE;
use ring::digest::{SHA256, digest};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use super::error::KeyError;
use super::identity::Identity;

/// Shortest key, in bytes.
const SHORTEST: usize = 20;

pub(super) type Hash = [u8; 32];

pub(super) fn hash(text: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text).as_ref());
    hash
}

/// Which API keys are good, and whose they are.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<(Hash, Identity)>);

impl ApiKeys {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the key of a user, who may have several. It is not kept, its hash is.
    ///
    /// # Errors
    ///
    /// When the key has fewer than 20 bytes, or the user has no name.
    pub fn add(&mut self, user: &str, key: &str) -> Result<(), KeyError> {
        if key.len() < SHORTEST {
            return Err(KeyError::Short);
        }
        self.0.push((hash(key.as_bytes()), Identity::new(user).ok_or(KeyError::User)?));
        Ok(())
    }

    /// Adds the key of a user by its SHA-256 in hexadecimal, as `sha256sum` prints it.
    ///
    /// # Errors
    ///
    /// When that is no such hash, or the user has no name.
    pub fn add_hashed(&mut self, user: &str, sha256: &str) -> Result<(), KeyError> {
        let bytes = HEXLOWER_PERMISSIVE
            .decode(sha256.trim().as_bytes())
            .map_err(|_| KeyError::Unreadable)?;
        let hash = bytes.try_into().map_err(|_| KeyError::Unreadable)?;
        self.0.push((hash, Identity::new(user).ok_or(KeyError::User)?));
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose key this is.
    pub(super) fn check(&self, key: &str) -> Option<Identity> {
        let shown = hash(key.as_bytes());
        let mut found = 0_u64;
        for (place, (hash, _)) in (1..).zip(&self.0) {
            found.conditional_assign(&place, hash.ct_eq(&shown));
        }
        let index = usize::try_from(found.checked_sub(1)?).ok()?;
        self.0.get(index).map(|(_, identity)| identity.clone())
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_hash_and_whose_it_is() {
        let mut keys = ApiKeys::new();
        keys.add("ann", "0123456789abcdefghij").unwrap();
        // printf %s another-key-of-length-24 | sha256sum
        let other = "another-key-of-length-24";
        let hex = data_encoding::HEXLOWER.encode(&hash(other.as_bytes()));
        keys.add_hashed("bob", &format!("{}\n", hex.to_uppercase())).unwrap();
        assert_eq!(&*keys.check("0123456789abcdefghij").unwrap().user, "ann");
        assert_eq!(&*keys.check(other).unwrap().user, "bob");
        for wrong in ["", "0123456789abcdefghi", "0123456789abcdefghijk", &hex] {
            assert!(keys.check(wrong).is_none(), "{wrong}");
        }
        assert!(ApiKeys::new().check("0123456789abcdefghij").is_none());
    }

    #[test]
    fn a_key_that_could_be_guessed_and_a_hash_that_is_none_are_refused() {
        let mut keys = ApiKeys::new();
        assert_eq!(keys.add("ann", "0123456789abcdefghi"), Err(KeyError::Short));
        assert_eq!(keys.add("", "0123456789abcdefghij"), Err(KeyError::User));
        for wrong in ["", "00", "zz", &"0".repeat(63), &"0".repeat(66)] {
            assert_eq!(keys.add_hashed("ann", wrong), Err(KeyError::Unreadable), "{wrong}");
        }
        assert!(keys.is_empty());
    }

    #[test]
    fn keys_are_not_printed_and_not_kept() {
        let mut keys = ApiKeys::new();
        keys.add("ann", "canary-canary-canary-canary").unwrap();
        assert_eq!(format!("{keys:?}"), "ApiKeys(1)");
    }
}
