//! A set of public keys, as whoever signs publishes it (RFC 7517).
//!
//! - Which algorithms are good is said by the configuration. A key that names another one, or is of another
//!   kind, is passed over; what a token or a key says of its algorithm makes none good.
//! - A token's `kid` chooses the key. A token without one is good only where the set has a single key: so
//!   nobody has a token tried with all of them.
//! - Secrets have no place in a set that everybody can read: a symmetric key, or one with its private part, is
//!   passed over.
//! - Keys that are not understood are passed over (RFC 7517, 5), and so does a set with one of a new kind still
//!   hold for the others. One without any key that can be used is an error.

#[cfg(test)]
pub(super) mod tests;

use std::collections::HashMap;
use std::error::Error;
use std::fmt;

use jsonwebtoken::jwk::{Jwk, KeyOperations, PublicKeyUse};
use serde::Deserialize;
use serde_json::Value;

use super::key::{JwtAlgorithm, Key};

/// Longest set, in bytes. Issuers have some keys of half a KiB.
const LONGEST: usize = 1 << 20;

/// Most keys of a set.
const MOST: usize = 64;

/// Longest `kid`, in bytes.
const LONGEST_ID: usize = 256;

/// Public keys by which tokens are signed, each with its `kid`.
///
/// ```
/// use wsmux::gateway::auth::{Jwks, Jwt, JwtAlgorithm};
///
/// let json = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"2026-11",
///     "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
/// let keys = Jwks::from_json(json.as_bytes(), &[JwtAlgorithm::EdDsa])?;
/// let jwt = Jwt::new("https://streams.example.com").jwks(keys);
/// # let _ = jwt;
/// # Ok::<(), wsmux::gateway::auth::JwksError>(())
/// ```
#[derive(Clone, Default)]
pub struct Jwks {
    by_id: HashMap<String, Vec<Key>>,
    /// How many keys of the set are of use.
    count: usize,
    /// The key, if it is the only one: once per algorithm.
    only: Vec<Key>,
}

/// A set as it is written. What is in it is looked at key by key.
#[derive(Deserialize)]
pub(super) struct Written {
    keys: Vec<Value>,
}

impl Jwks {
    /// The keys of a set that are of one of these algorithms, all of which have public keys.
    ///
    /// # Errors
    ///
    /// [`JwksError`]: when it is no set, has more than 64 keys or 1 MiB, or none that can be used.
    pub fn from_json(json: &[u8], algorithms: &[JwtAlgorithm]) -> Result<Self, JwksError> {
        if json.len() > LONGEST {
            return Err(JwksError::TooMany);
        }
        let written = serde_json::from_slice(json)
            .map_err(|e| JwksError::Unreadable { line: e.line(), column: e.column() })?;
        Self::of(&written, algorithms)
    }

    pub(super) fn of(written: &Written, algorithms: &[JwtAlgorithm]) -> Result<Self, JwksError> {
        are_public(algorithms)?;
        if written.keys.len() > MOST {
            return Err(JwksError::TooMany);
        }
        let mut set = Self::default();
        for key in &written.keys {
            if key.get("k").is_some() || key.get("d").is_some() {
                tracing::warn!("a key that is published is secret: it is not used");
                continue;
            }
            let Ok(jwk) = Jwk::deserialize(key) else { continue };
            let usable: Vec<_> =
                algorithms.iter().filter_map(|algorithm| usable(&jwk, *algorithm)).collect();
            if usable.is_empty() {
                continue;
            }
            set.count += 1;
            set.only = if set.count == 1 { usable.clone() } else { Vec::new() };
            if let Some(id) = jwk.common.key_id.filter(|id| id.len() <= LONGEST_ID) {
                set.by_id.entry(id).or_default().extend(usable);
            }
        }
        if set.count == 0 { Err(JwksError::NoKey) } else { Ok(set) }
    }

    /// The keys that a token with this `kid` may be signed by.
    pub(super) fn find(&self, id: Option<&str>) -> &[Key] {
        match id {
            Some(id) => self.by_id.get(id).map_or(&[], Vec::as_slice),
            None => &self.only,
        }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Fails where an algorithm has secrets instead of public keys, or where there is none.
pub(super) fn are_public(algorithms: &[JwtAlgorithm]) -> Result<(), JwksError> {
    let is_good = !algorithms.is_empty() && !algorithms.iter().any(|one| one.has_secret());
    if is_good { Ok(()) } else { Err(JwksError::Algorithm) }
}

/// The key as one of this algorithm, if it is made to verify by it.
fn usable(jwk: &Jwk, algorithm: JwtAlgorithm) -> Option<Key> {
    let common = &jwk.common;
    let verifies = common.public_key_use.as_ref().is_none_or(|to| *to == PublicKeyUse::Signature)
        && common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    let is_its = common
        .key_algorithm
        .is_none_or(|named| JwtAlgorithm::from_name(&named.to_string()) == Some(algorithm));
    if verifies && is_its { Key::of_jwk(algorithm, &jwk.algorithm) } else { None }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks").field("keys", &self.count).finish_non_exhaustive()
    }
}

/// Why a set of keys is of no use. It never holds what is in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum JwksError {
    /// No algorithm was given, or one whose keys are secrets.
    Algorithm,
    /// No key of the set is of one of the algorithms, and made to verify.
    NoKey,
    /// It has more than 64 keys, or more than 1 MiB.
    TooMany,
    /// It is no set; not so from this place on, both counted from one.
    Unreadable {
        /// The line.
        line: usize,
        /// The byte in the line.
        column: usize,
    },
}

impl fmt::Display for JwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Algorithm => {
                f.write_str("a set of keys is for algorithms with public keys: name them")
            }
            Self::NoKey => f.write_str("no key of the set is of one of the algorithms"),
            Self::TooMany => {
                write!(f, "the set has more than {MOST} keys, or is longer than {LONGEST} bytes")
            }
            Self::Unreadable { line, column } => {
                write!(f, "this is no set of keys, at line {line}, column {column}")
            }
        }
    }
}

impl Error for JwksError {}
