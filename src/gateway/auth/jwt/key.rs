//! One key and its one algorithm.

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve};
use jsonwebtoken::{Algorithm, DecodingKey};
use ring::hmac;
use ring::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

use crate::gateway::auth::error::KeyError;
use crate::gateway::defect::{Defect, seeded};

/// How a token is signed (RFC 7518, 3.1; RFC 8037).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum JwtAlgorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSA (PKCS #1) with SHA-256; 2,048 to 8,192 bits.
    Rs256,
    /// RSA (PKCS #1) with SHA-512; 2,048 to 8,192 bits.
    Rs512,
}

impl JwtAlgorithm {
    /// The one of that name, as it stands in a token's header.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok().and_then(Self::of)
    }

    pub(super) fn of(algorithm: Algorithm) -> Option<Self> {
        Some(match algorithm {
            Algorithm::EdDSA => Self::EdDsa,
            Algorithm::ES256 => Self::Es256,
            Algorithm::ES384 => Self::Es384,
            Algorithm::HS256 => Self::Hs256,
            Algorithm::HS384 => Self::Hs384,
            Algorithm::HS512 => Self::Hs512,
            Algorithm::RS256 => Self::Rs256,
            Algorithm::RS512 => Self::Rs512,
            _ => return None,
        })
    }

    /// Whether its keys are secrets, and not pairs.
    #[must_use]
    pub fn has_secret(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}

/// What says whether something was signed by its owner.
#[derive(Clone)]
pub(super) struct Key {
    algorithm: JwtAlgorithm,
    verifier: Verifier,
}

#[derive(Clone)]
enum Verifier {
    Public(UnparsedPublicKey<Vec<u8>>),
    Rsa(&'static RsaParameters, RsaPublicKeyComponents<Vec<u8>>),
    Secret(hmac::Key),
}

impl Key {
    pub(super) fn secret(algorithm: JwtAlgorithm, secret: &[u8]) -> Result<Self, KeyError> {
        let (hash, shortest) = match algorithm {
            JwtAlgorithm::Hs256 => (hmac::HMAC_SHA256, 32),
            JwtAlgorithm::Hs384 => (hmac::HMAC_SHA384, 48),
            JwtAlgorithm::Hs512 => (hmac::HMAC_SHA512, 64),
            _ => return Err(KeyError::Unreadable),
        };
        if secret.len() < shortest {
            return Err(KeyError::Short);
        }
        Ok(Self { algorithm, verifier: Verifier::Secret(hmac::Key::new(hash, secret)) })
    }

    pub(super) fn public(algorithm: JwtAlgorithm, pem: &[u8]) -> Result<Self, KeyError> {
        type Read = fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>;
        let (read, by): (Read, &'static dyn VerificationAlgorithm) = match algorithm {
            JwtAlgorithm::EdDsa => (DecodingKey::from_ed_pem, &signature::ED25519),
            JwtAlgorithm::Es256 => (DecodingKey::from_ec_pem, &signature::ECDSA_P256_SHA256_FIXED),
            JwtAlgorithm::Es384 => (DecodingKey::from_ec_pem, &signature::ECDSA_P384_SHA384_FIXED),
            JwtAlgorithm::Rs256 => {
                (DecodingKey::from_rsa_pem, &signature::RSA_PKCS1_2048_8192_SHA256)
            }
            JwtAlgorithm::Rs512 => {
                (DecodingKey::from_rsa_pem, &signature::RSA_PKCS1_2048_8192_SHA512)
            }
            _ => return Err(KeyError::Unreadable),
        };
        if pem.windows(11).any(|part| part == b"PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        let key = read(pem).map_err(|_| KeyError::Unreadable)?;
        let verifier = UnparsedPublicKey::new(by, key.as_bytes().to_vec());
        Ok(Self { algorithm, verifier: Verifier::Public(verifier) })
    }

    /// A key as JSON (RFC 7518, 6; RFC 8037, 2), if it is one of this algorithm.
    pub(super) fn of_jwk(algorithm: JwtAlgorithm, written: &AlgorithmParameters) -> Option<Self> {
        let verifier = match (algorithm, written) {
            (JwtAlgorithm::EdDsa, AlgorithmParameters::OctetKeyPair(key))
                if key.curve == EllipticCurve::Ed25519 =>
            {
                Verifier::public(&signature::ED25519, coordinate(&key.x, 32)?)
            }
            (JwtAlgorithm::Es256, AlgorithmParameters::EllipticCurve(key))
                if key.curve == EllipticCurve::P256 =>
            {
                let point = point(&key.x, &key.y, 32)?;
                Verifier::public(&signature::ECDSA_P256_SHA256_FIXED, point)
            }
            (JwtAlgorithm::Es384, AlgorithmParameters::EllipticCurve(key))
                if key.curve == EllipticCurve::P384 =>
            {
                let point = point(&key.x, &key.y, 48)?;
                Verifier::public(&signature::ECDSA_P384_SHA384_FIXED, point)
            }
            (JwtAlgorithm::Rs256, AlgorithmParameters::RSA(key)) => {
                Verifier::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256, components(&key.n, &key.e)?)
            }
            (JwtAlgorithm::Rs512, AlgorithmParameters::RSA(key)) => {
                Verifier::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512, components(&key.n, &key.e)?)
            }
            _ => return None,
        };
        Some(Self { algorithm, verifier })
    }

    pub(super) fn algorithm(&self) -> JwtAlgorithm {
        self.algorithm
    }

    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.verifier {
            Verifier::Public(key) if seeded(Defect::PublicKeyIsSecret) => {
                let secret = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
                hmac::verify(&secret, message, signature).is_ok()
            }
            Verifier::Public(key) => key.verify(message, signature).is_ok(),
            Verifier::Rsa(by, key) => key.verify(by, message, signature).is_ok(),
            // In constant time.
            Verifier::Secret(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }
}

impl Verifier {
    fn public(by: &'static dyn VerificationAlgorithm, key: Vec<u8>) -> Self {
        Self::Public(UnparsedPublicKey::new(by, key))
    }
}

/// A coordinate of a curve: always of the same length.
fn coordinate(text: &str, bytes: usize) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(text.as_bytes()).ok().filter(|all| all.len() == bytes)
}

/// A point of a curve, as both of its coordinates (SEC 1, 2.3.3).
fn point(x: &str, y: &str, bytes: usize) -> Option<Vec<u8>> {
    Some([vec![4], coordinate(x, bytes)?, coordinate(y, bytes)?].concat())
}

/// The numbers of a key of RSA, without zeros in front; the modulus has 2,048 to 8,192 bits.
fn components(n: &str, e: &str) -> Option<RsaPublicKeyComponents<Vec<u8>>> {
    let number = |text: &str| {
        let all = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let begin = all.iter().position(|byte| *byte != 0)?;
        Some(all[begin..].to_vec())
    };
    let (n, e) = (number(n)?, number(e)?);
    (256..=1024).contains(&n.len()).then_some(RsaPublicKeyComponents { n, e })
}
