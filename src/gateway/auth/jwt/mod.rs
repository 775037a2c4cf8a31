//! JSON Web Tokens (RFC 7519), signed by whoever knows the users.
//!
//! - A key has one algorithm, fixed by the configuration. What a token says of its own algorithm only
//!   selects among the keys, so a public key is never taken for a secret, and `none` is nothing.
//! - The signature is verified before anything of the claims is looked at.
//! - Keys that are published as a [set](Jwks) are chosen by the token's `kid`, among those of the algorithms
//!   that the configuration names.
//! - `sub`, `aud` and `exp` have to be there. A clock may be off by the skew, and no more.
//! - `jsonwebtoken` reads keys and tokens, and `ring` verifies, which TLS has brought along. The
//!   verification of `jsonwebtoken` itself goes by a provider that is one for the whole process: a
//!   library must not choose that for the program it is a part of.

mod jwks;
mod key;
#[cfg(feature = "gateway-http")]
mod server;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use tokio::time::Instant;

use self::key::Key;
use super::error::{AuthError, KeyError};
use super::identity::Identity;
use crate::gateway::defect::{Defect, seeded};

pub use self::jwks::{Jwks, JwksError};
pub use self::key::JwtAlgorithm;
#[cfg(feature = "gateway-http")]
pub use self::server::{JwksServer, JwksServerBuilder};

/// Longest token that is looked at, in bytes. Headers of servers end there, too.
const LONGEST: usize = 8 << 10;

/// Which tokens are good.
///
/// ```
/// use wsmux::gateway::auth::{Jwt, JwtAlgorithm};
///
/// let mut jwt = Jwt::new("https://streams.example.com");
/// jwt.add_secret(JwtAlgorithm::Hs256, b"at least as long as the hash: 32 bytes")?;
/// # Ok::<(), wsmux::gateway::auth::KeyError>(())
/// ```
#[derive(Clone)]
pub struct Jwt {
    audience: String,
    issuer: Option<String>,
    jwks: Jwks,
    keys: Vec<Key>,
    #[cfg(feature = "gateway-http")]
    server: Option<JwksServer>,
    skew: Duration,
}

#[derive(Deserialize)]
struct Claims {
    aud: Audience,
    exp: f64,
    iss: Option<String>,
    nbf: Option<f64>,
    sub: String,
    tier: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    Many(Vec<String>),
    One(String),
}

impl Jwt {
    /// Tokens for `audience`, which their `aud` has to name: those for other services are none of
    /// ours. Without a key, none is good.
    #[must_use]
    pub fn new(audience: impl Into<String>) -> Self {
        Self {
            audience: audience.into(),
            issuer: None,
            jwks: Jwks::default(),
            keys: Vec::new(),
            #[cfg(feature = "gateway-http")]
            server: None,
            skew: Duration::from_secs(30),
        }
    }

    /// Demands that `iss` is this. Default: whoever has a key.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Sets which published keys are good beside the others, chosen by the token's `kid`.
    #[must_use]
    pub fn jwks(mut self, keys: Jwks) -> Self {
        self.jwks = keys;
        self
    }

    /// Sets who publishes keys that are good beside the others, chosen by the token's `kid`.
    #[cfg(feature = "gateway-http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "gateway-http")))]
    #[must_use]
    pub fn jwks_server(mut self, server: JwksServer) -> Self {
        self.server = Some(server);
        self
    }

    /// How far clocks may be apart. Default 30 s: those that are kept by NTP are within one, and a
    /// token lives on for as long. Five minutes at most.
    #[must_use]
    pub fn skew(mut self, skew: Duration) -> Self {
        self.skew = skew.min(Duration::from_secs(300));
        self
    }

    /// Adds a secret that is shared with whoever signs. With several keys, each may have signed: so
    /// they are changed without a break.
    ///
    /// # Errors
    ///
    /// When the algorithm has no secrets, or the secret is shorter than its hash.
    pub fn add_secret(&mut self, algorithm: JwtAlgorithm, secret: &[u8]) -> Result<(), KeyError> {
        self.keys.push(Key::secret(algorithm, secret)?);
        Ok(())
    }

    /// Adds the public key of whoever signs, as PEM (`-----BEGIN PUBLIC KEY-----`).
    ///
    /// # Errors
    ///
    /// When it is no public key of that algorithm.
    pub fn add_public_key(&mut self, algorithm: JwtAlgorithm, pem: &[u8]) -> Result<(), KeyError> {
        self.keys.push(Key::public(algorithm, pem)?);
        Ok(())
    }

    /// Whose token this is.
    pub(super) fn check(&self, token: &str) -> Result<Identity, AuthError> {
        let claims: Claims = self.verified(token).ok_or(AuthError::Invalid)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.judge(&claims, now)
    }

    /// Waits for the key of a token, where that may be had by fetching: see [`JwksServer`].
    #[cfg(feature = "gateway-http")]
    pub(super) async fn prepare(&self, token: &str) {
        let Some(server) = &self.server else { return };
        if let Some((header, algorithm)) = head(token) {
            if self.jwks.find(header.kid.as_deref()).is_empty() {
                server.prepare(header.kid.as_deref(), algorithm).await;
            }
        }
    }

    /// Takes over what another one has fetched of the same server.
    #[cfg(feature = "gateway-http")]
    pub(super) fn inherit(&self, other: &Self) {
        if let (Some(new), Some(old)) = (&self.server, &other.server) {
            new.inherit(old);
        }
    }

    /// Whether one of the keys is that of whoever has signed.
    fn is_signed(&self, by: &dyn Fn(&Key) -> bool, id: Option<&str>) -> bool {
        #[cfg(feature = "gateway-http")]
        let is_fetched = || {
            let server = self.server.as_ref();
            server.is_some_and(|server| server.keys().find(id).iter().any(by))
        };
        #[cfg(not(feature = "gateway-http"))]
        let is_fetched = || false;
        self.keys.iter().any(by) || self.jwks.find(id).iter().any(by) || is_fetched()
    }

    /// The claims, once it is sure who has made them.
    fn verified(&self, token: &str) -> Option<Claims> {
        let (header, algorithm) = head(token)?;
        let (message, signature) = token.rsplit_once('.')?;
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok()?;
        let by = |key: &Key| {
            let is_its_own = key.algorithm() == algorithm || seeded(Defect::AlgorithmIsNotCompared);
            let is_its_own = is_its_own || seeded(Defect::PublicKeyIsSecret);
            is_its_own && key.has_signed(message.as_bytes(), &signature)
        };
        let is_signed = self.is_signed(&by, header.kid.as_deref());
        if !is_signed && !seeded(Defect::SignatureIsNotJudged) {
            return None;
        }
        // Insecure by itself: the line above is what makes it secure.
        jsonwebtoken::dangerous::insecure_decode(token).ok().map(|token| token.claims)
    }

    fn judge(&self, claims: &Claims, now: Duration) -> Result<Identity, AuthError> {
        let (now, skew) = (now.as_secs_f64(), self.skew.as_secs_f64());
        let is_for_us = match &claims.aud {
            Audience::Many(all) => all.contains(&self.audience),
            Audience::One(one) => *one == self.audience,
        };
        let is_from = self.issuer.is_none() || claims.iss == self.issuer;
        let has_begun = claims.nbf.is_none_or(|nbf| nbf <= now + skew);
        if !(is_for_us && is_from && has_begun) {
            return Err(AuthError::Invalid);
        }
        let left = claims.exp + skew - now;
        if left <= 0.0 {
            return Err(AuthError::Expired);
        }
        // A time that is too far to be one is never.
        let left = Duration::try_from_secs_f64(left).ok();
        let until = left.and_then(|left| Instant::now().checked_add(left));
        let identity = Identity::new(&claims.sub).ok_or(AuthError::Invalid)?;
        Ok(identity.until(until).of_tier(claims.tier.as_deref()))
    }
}

/// What a token says of itself before anything is verified, if it can be one of ours.
fn head(token: &str) -> Option<(jsonwebtoken::Header, JwtAlgorithm)> {
    if token.len() > LONGEST {
        return None;
    }
    let header = jsonwebtoken::decode_header(token).ok()?;
    if header.crit.is_some() && !seeded(Defect::CriticalIsPassedOver) {
        return None; // It asks for what is not understood (RFC 7515, 4.1.11).
    }
    let algorithm = JwtAlgorithm::of(header.alg)?;
    Some((header, algorithm))
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt")
            .field("audience", &self.audience)
            .field("issuer", &self.issuer)
            .field("keys", &(self.keys.len() + self.jwks.len()))
            .field("skew", &self.skew)
            .finish()
    }
}
