use data_encoding::BASE64URL_NOPAD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
};
use serde_json::json;

use super::*;
use crate::gateway::auth::error::AuthError;
use crate::gateway::auth::jwt::Jwt;
use crate::gateway::auth::jwt::tests::{RSA_TOKEN, body, claims, with};

/// A pair of keys that signs tokens.
pub(in crate::gateway) struct Signer {
    algorithm: JwtAlgorithm,
    pair: KeyPair,
}

impl Signer {
    pub(in crate::gateway) fn new(algorithm: JwtAlgorithm) -> Self {
        let kind = match algorithm {
            JwtAlgorithm::EdDsa => &PKCS_ED25519,
            JwtAlgorithm::Es384 => &PKCS_ECDSA_P384_SHA384,
            _ => &PKCS_ECDSA_P256_SHA256,
        };
        Self { algorithm, pair: KeyPair::generate_for(kind).unwrap() }
    }

    fn name(&self) -> &'static str {
        match self.algorithm {
            JwtAlgorithm::EdDsa => "EdDSA",
            JwtAlgorithm::Es384 => "ES384",
            _ => "ES256",
        }
    }

    /// The public key, with an id where there is one.
    pub(in crate::gateway) fn jwk(&self, id: &str) -> Value {
        let raw = self.pair.public_key_raw();
        let part = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let mut jwk = match self.algorithm {
            JwtAlgorithm::EdDsa => json!({ "kty": "OKP", "crv": "Ed25519", "x": part(raw) }),
            algorithm => {
                let crv = if algorithm == JwtAlgorithm::Es384 { "P-384" } else { "P-256" };
                let (x, y) = raw[1..].split_at((raw.len() - 1) / 2);
                json!({ "kty": "EC", "crv": crv, "x": part(x), "y": part(y) })
            }
        };
        if !id.is_empty() {
            jwk["kid"] = id.into();
        }
        jwk
    }

    /// A token of `ann`, with an id where there is one.
    pub(in crate::gateway) fn token(&self, id: &str) -> String {
        self.token_that_says(self.name(), id)
    }

    fn token_that_says(&self, algorithm: &str, id: &str) -> String {
        let mut header = json!({ "alg": algorithm });
        if !id.is_empty() {
            header["kid"] = id.into();
        }
        let body = body(&header, &claims());
        let (der, random) = (self.pair.serialize_der(), SystemRandom::new());
        let kind = match self.algorithm {
            JwtAlgorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).unwrap();
                return with(&body, pair.sign(body.as_bytes()).as_ref());
            }
            JwtAlgorithm::Es384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            _ => &ECDSA_P256_SHA256_FIXED_SIGNING,
        };
        let pair = EcdsaKeyPair::from_pkcs8(kind, &der, &random).unwrap();
        with(&body, pair.sign(&random, body.as_bytes()).unwrap().as_ref())
    }
}

const ALL: [JwtAlgorithm; 5] = [
    JwtAlgorithm::EdDsa,
    JwtAlgorithm::Es256,
    JwtAlgorithm::Es384,
    JwtAlgorithm::Rs256,
    JwtAlgorithm::Rs512,
];

fn set(keys: &[Value], algorithms: &[JwtAlgorithm]) -> Result<Jwks, JwksError> {
    Jwks::from_json(json!({ "keys": keys }).to_string().as_bytes(), algorithms)
}

/// Whose token it is by a set with these keys.
fn whose(token: &str, keys: &[Value], algorithms: &[JwtAlgorithm]) -> Result<String, AuthError> {
    let jwt = Jwt::new("gateway").jwks(set(keys, algorithms).unwrap());
    jwt.check(token).map(|identity| identity.user.to_string())
}

/// The key of `RSA_TOKEN`, as `openssl rsa -pubin -modulus` shows it.
fn rsa(id: &str) -> Value {
    let n = "xgb_Os7OPfkw2qLW96N30tByaRVZp6TUf5R511o1bzMasTqzGGD0xjeidFeld6Gu2u7pQ7Q2UdpDYE42ZrSLMlyivIy0\
             GuVx3a0npF4smjUeiBK9fPFnOMQU5DxwEc5y-o8IVpoyIS2CQm2295ybVna1sSSvKvDPiv_UvxYB4kXTwPuDdKdSDx2R\
             gxPB4ed0VYlTuRHBbAHIwi6zaDMFfZwhO4gutkAuF8is2xkvS0tZySUfxnB-BcMT9GgUOfMkuBBtLwwRqLI7DLrB7RtB\
             Y_OmxdkHimkBRtmno30BPJxBAOQ7iwL8rRiSAANaMqk_Vqik97HveQ15hYW0zmdD9Q";
    let mut jwk = json!({ "kty": "RSA", "e": "AQAB", "n": n });
    if !id.is_empty() {
        jwk["kid"] = id.into();
    }
    jwk
}

const RSA: JwtAlgorithm = JwtAlgorithm::Rs256;

#[test]
fn the_id_of_a_token_chooses_the_key() {
    for algorithm in [JwtAlgorithm::EdDsa, JwtAlgorithm::Es256, JwtAlgorithm::Es384] {
        let (old, new) = (Signer::new(algorithm), Signer::new(algorithm));
        let keys = [old.jwk("old"), new.jwk("new")];
        for (token, is_good) in [
            (old.token("old"), true),
            (new.token("new"), true),
            (old.token("new"), false),
            (new.token("other"), false),
            (new.token(""), false),
        ] {
            let whose = whose(&token, &keys, &ALL);
            let expected = if is_good { Ok("ann".to_owned()) } else { Err(AuthError::Invalid) };
            assert_eq!(whose, expected, "{algorithm:?}");
        }
    }
    assert_eq!(whose(RSA_TOKEN, &[rsa("")], &ALL), Ok("ann".to_owned()));
}

#[test]
fn a_token_without_an_id_is_good_where_there_is_a_single_key() {
    let (one, other) = (Signer::new(JwtAlgorithm::Es256), Signer::new(JwtAlgorithm::EdDsa));
    let token = one.token("");
    for (keys, is_good) in [
        (vec![one.jwk("")], true),
        (vec![one.jwk("named")], true),
        (vec![one.jwk(""), json!({ "kty": "new" })], true),
        (vec![other.jwk("")], false),
        (vec![one.jwk(""), other.jwk("")], false),
        (vec![other.jwk(""), one.jwk("named")], false),
    ] {
        assert_eq!(whose(&token, &keys, &ALL).is_ok(), is_good, "{keys:?}");
    }
}

#[test]
fn what_algorithms_are_good_is_said_by_the_configuration_alone() {
    let signer = Signer::new(JwtAlgorithm::Es256);
    let token = signer.token("a");
    let keys = [signer.jwk("a"), rsa("rsa")];
    assert!(whose(&token, &keys, &[JwtAlgorithm::Es256]).is_ok());
    assert!(whose(&token, &keys, &[RSA]).is_err(), "the key is there, the algorithm is not");
    for named in ["HS256", "none", "RS256", "ES384"] {
        let token = signer.token_that_says(named, "a");
        assert!(whose(&token, &keys, &ALL).is_err(), "{named}");
    }
    // What a key says of itself takes away, and never adds.
    let mut key = signer.jwk("a");
    for (named, is_good) in [("ES256", true), ("ES384", false), ("HS256", false), ("new", false)] {
        key["alg"] = named.into();
        let keys = [key.clone(), rsa("rsa")];
        assert_eq!(whose(&token, &keys, &ALL).is_ok(), is_good, "{named}");
    }
    for none in [&[][..], &[JwtAlgorithm::Hs256], &[JwtAlgorithm::Es256, JwtAlgorithm::Hs512]] {
        assert_eq!(set(&keys, none).unwrap_err(), JwksError::Algorithm, "{none:?}");
    }
}

#[test]
fn a_public_key_is_no_secret_to_sign_by() {
    // The classic: HMAC with the public key, which everybody has, as its secret.
    let signer = Signer::new(JwtAlgorithm::Es256);
    let body = body(&json!({ "alg": "HS256", "kid": "a" }), &claims());
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, signer.pair.public_key_raw());
    let token = with(&body, ring::hmac::sign(&secret, body.as_bytes()).as_ref());
    assert_eq!(whose(&token, &[signer.jwk("a")], &ALL), Err(AuthError::Invalid));
}

#[test]
fn a_key_that_is_secret_or_not_made_to_verify_is_passed_over() {
    let signer = Signer::new(JwtAlgorithm::Es256);
    let token = signer.token("a");
    let but = |field: &str, value: Value| {
        let mut key = signer.jwk("a");
        key[field] = value;
        key
    };
    for (key, is_good) in [
        (but("use", "sig".into()), true),
        (but("key_ops", json!(["verify"])), true),
        (but("x5c", json!(["MIIB"])), true),
        (but("d", "AAAA".into()), false),
        (but("k", "AAAA".into()), false),
        (but("use", "enc".into()), false),
        (but("key_ops", json!(["sign"])), false),
        (but("crv", "P-384".into()), false),
        (but("crv", "secp256k1".into()), false),
        (but("kty", "oct".into()), false),
        (but("x", "AAAA".into()), false),
        (but("y", "*".into()), false),
        (but("kid", 7.into()), false),
        (json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "a", "alg": "HS256" }), false),
        (json!(null), false),
    ] {
        assert_eq!(whose(&token, &[key.clone(), rsa("rsa")], &ALL).is_ok(), is_good, "{key}");
    }
}

#[test]
fn keys_of_rsa_have_2048_to_8192_bits() {
    for (bytes, is_good) in [(128, false), (255, false), (256, true), (1024, true), (1025, false)] {
        // Zeros in front are none of its bits.
        let n = [vec![0; 3], vec![0xff; bytes]].concat();
        let jwk = json!({ "kty": "RSA", "e": "AQAB", "n": BASE64URL_NOPAD.encode(&n) });
        assert_eq!(set(&[jwk], &[RSA]).is_ok(), is_good, "{bytes}");
    }
}

#[test]
fn a_set_is_bounded_and_has_a_key() {
    let keys: Vec<_> = (0..65).map(|n| rsa(&n.to_string())).collect();
    assert_eq!(set(&keys[..64], &[RSA]).unwrap().len(), 64);
    assert_eq!(set(&keys, &[RSA]).unwrap_err(), JwksError::TooMany);
    let long = " ".repeat(2 << 20);
    assert_eq!(Jwks::from_json(long.as_bytes(), &[RSA]).unwrap_err(), JwksError::TooMany);
    assert_eq!(set(&[], &[RSA]).unwrap_err(), JwksError::NoKey);
    assert_eq!(set(&keys[..1], &[JwtAlgorithm::Es256]).unwrap_err(), JwksError::NoKey);
    for wrong in ["", "[]", "{}", "null", r#"{"keys":{}}"#, r#"{"keys":"canary"}"#] {
        let e = Jwks::from_json(wrong.as_bytes(), &[RSA]).unwrap_err();
        assert!(matches!(e, JwksError::Unreadable { .. }), "{wrong}: {e:?}");
        assert!(!format!("{e} {e:?}").contains("canary"));
    }
    let long_id = rsa(&"x".repeat(257));
    assert!(set(&[long_id], &[RSA]).unwrap().find(Some(&"x".repeat(257))).is_empty());
}

#[test]
fn no_bytes_make_it_panic() {
    proptest::proptest!(|(key: String, n: Vec<u8>, text: String)| {
        let _ = Jwks::from_json(text.as_bytes(), &ALL);
        let part = BASE64URL_NOPAD.encode(&n);
        for kty in ["RSA", "EC", "OKP"] {
            for crv in ["P-256", "P-384", "Ed25519"] {
                let jwk = json!({ "kty": kty, "crv": crv, "kid": key, "n": part, "e": part, "x": part, "y": part });
                if let Ok(set) = set(&[jwk], &ALL) {
                    for key in set.find(None) {
                        assert!(!key.has_signed(b"message", &n));
                    }
                }
            }
        }
    });
}
