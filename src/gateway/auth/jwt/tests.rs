use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use serde_json::{Value, json};

use super::*;
use crate::gateway::defect::are_found;

const SECRET: &[u8] = b"canary-secret-canary-secret-32-b";

/// A key of RSA that was made for this test, and what `openssl dgst -sha256 -sign` made with it.
const RSA: &[u8] = b"-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxgb/Os7OPfkw2qLW96N3
0tByaRVZp6TUf5R511o1bzMasTqzGGD0xjeidFeld6Gu2u7pQ7Q2UdpDYE42ZrSL
MlyivIy0GuVx3a0npF4smjUeiBK9fPFnOMQU5DxwEc5y+o8IVpoyIS2CQm2295yb
Vna1sSSvKvDPiv/UvxYB4kXTwPuDdKdSDx2RgxPB4ed0VYlTuRHBbAHIwi6zaDMF
fZwhO4gutkAuF8is2xkvS0tZySUfxnB+BcMT9GgUOfMkuBBtLwwRqLI7DLrB7RtB
Y/OmxdkHimkBRtmno30BPJxBAOQ7iwL8rRiSAANaMqk/Vqik97HveQ15hYW0zmdD
9QIDAQAB
-----END PUBLIC KEY-----
";
pub(super) const RSA_TOKEN: &str = concat!(
    "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm4iLCJhdWQiOiJnYXRld2F5IiwiZXhwIjo0MTA",
    "yNDQ0ODAwfQ.GYmtdkccIzmdD9wyjYOvxN6ExGTo3FY8SQFNPHhW5ouifj0CaDnvO5kONVNUlzuk66osB0Naujkh",
    "4LmgcF7x42e4xC5g0C3WdENvRzfjUWi8YXOaljXiyh1q9CWPE3issCns2xdHT4LYbx_CMtBn3y5cMdnj8YZ1YsyG",
    "I0dOavEfEUi4kjkmJlHGLDDnEm3I6YeI0rAU_KouLg3DRj18HlUtc9ADtCcXAHTvvpp8MYjVX1vh1MLLY_Xk0TAc",
    "z5rSXW_fHzNzNrpfchwTxqjeNblh4gtVsywHQSw_fVl1g2jwethjc_KHPJPEYXbqO9-gn7ttfI901_vxaIfeaTMt",
    "Cg",
);

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(super) fn claims() -> Value {
    json!({ "sub": "ann", "aud": "gateway", "exp": now() + 600 })
}

/// The first two parts of a token.
pub(super) fn body(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

pub(super) fn with(body: &str, signature: &[u8]) -> String {
    format!("{body}.{}", BASE64URL_NOPAD.encode(signature))
}

fn hs256(header: &Value, claims: &Value) -> String {
    let body = body(header, claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), body.as_bytes());
    with(&body, tag.as_ref())
}

fn signed(claims: &Value) -> String {
    hs256(&json!({ "alg": "HS256", "typ": "JWT" }), claims)
}

fn jwt() -> Jwt {
    let mut jwt = Jwt::new("gateway");
    jwt.add_secret(JwtAlgorithm::Hs256, SECRET).unwrap();
    jwt
}

fn pair(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_good_token_says_who_it_is_until_when_and_of_which_tier() {
    let mut claims = claims();
    claims["tier"] = "gold".into();
    let identity = jwt().check(&signed(&claims)).unwrap();
    assert_eq!(&*identity.user, "ann");
    assert_eq!(identity.tier.as_deref(), Some("gold"));
    let left = identity.expires_at.unwrap() - Instant::now();
    let with_skew = Duration::from_secs(630);
    assert!(left <= with_skew && left > with_skew - Duration::from_secs(60), "{left:?}");
}

#[test]
fn a_token_with_anything_wrong_is_refused() {
    let without = |name: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    let but = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        claims
    };
    for claims in [
        without("sub"),
        without("aud"),
        without("exp"),
        but("aud", "other".into()),
        but("aud", json!([])),
        but("exp", "soon".into()),
        but("nbf", (now() + 100).into()),
        but("sub", "".into()),
        but("sub", "a\nb".into()),
    ] {
        assert_eq!(jwt().check(&signed(&claims)), Err(AuthError::Invalid), "{claims}");
    }
    let past = but("exp", (now() - 31).into());
    assert_eq!(jwt().check(&signed(&past)), Err(AuthError::Expired));
    for good in [
        but("aud", json!(["other", "gateway"])),
        but("nbf", (now() + 20).into()),
        but("exp", (now() - 20).into()),
        but("exp", 1e300.into()),
    ] {
        assert!(jwt().check(&signed(&good)).is_ok(), "{good}");
    }
}

#[test]
fn an_issuer_is_demanded_where_one_is_set() {
    let jwt = jwt().issuer("https://id.example.com");
    let mut claims = claims();
    assert_eq!(jwt.check(&signed(&claims)), Err(AuthError::Invalid));
    claims["iss"] = "https://id.example.com".into();
    assert!(jwt.check(&signed(&claims)).is_ok());
}

#[test]
fn a_token_cannot_choose_how_it_is_verified() {
    let none = body(&json!({ "alg": "none" }), &claims()) + ".";
    assert_eq!(jwt().check(&none), Err(AuthError::Invalid));
    // By who has the secret, and not as that is to be used.
    for other in ["HS384", "ES256"] {
        let token = hs256(&json!({ "alg": other }), &claims());
        assert_eq!(jwt().check(&token), Err(AuthError::Invalid), "{other}");
    }

    // The public key, taken for a secret: the classic.
    let pair = pair(&PKCS_ECDSA_P256_SHA256);
    let pem = pair.public_key_pem();
    let mut jwt = Jwt::new("gateway");
    jwt.add_public_key(JwtAlgorithm::Es256, pem.as_bytes()).unwrap();
    let body = body(&json!({ "alg": "HS256" }), &claims());
    for key in [pem.as_bytes(), pair.public_key_raw()] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), body.as_bytes());
        assert_eq!(jwt.check(&with(&body, tag.as_ref())), Err(AuthError::Invalid));
    }
}

#[test]
fn a_token_that_demands_what_is_not_understood_is_refused() {
    for header in [
        json!({ "alg": "HS256", "crit": ["b64"], "b64": false }),
        json!({ "alg": "HS256", "crit": ["x"], "x": "as it was never heard of" }),
        json!({ "alg": "HS256", "crit": [] }),
    ] {
        let token = hs256(&header, &claims());
        assert_eq!(jwt().check(&token), Err(AuthError::Invalid), "{header}");
    }
}

#[test]
fn what_is_no_token_or_was_changed_is_refused() {
    let good = signed(&claims());
    assert!(jwt().check(&good).is_ok());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let other = signed(&json!({ "sub": "eve", "aud": "gateway", "exp": now() + 600 }));
    let mixed = format!("{}.{signature}", other.rsplit_once('.').unwrap().0);
    let long = format!("{message}.{}", "A".repeat(LONGEST));
    let padded = format!("{good}=");
    let none = format!("{message}.");
    for bad in ["", ".", "..", "a.b.c", message, &none, &mixed, &long, &padded] {
        assert_eq!(jwt().check(bad), Err(AuthError::Invalid), "{bad}");
    }
    assert_eq!(Jwt::new("gateway").check(&good), Err(AuthError::Invalid), "without a key");
}

#[test]
fn a_verification_with_a_step_left_out_is_found_out() {
    are_found(&[
        (Defect::AlgorithmIsNotCompared, a_token_cannot_choose_how_it_is_verified),
        (Defect::PublicKeyIsSecret, a_token_cannot_choose_how_it_is_verified),
        (Defect::CriticalIsPassedOver, a_token_that_demands_what_is_not_understood_is_refused),
        (Defect::SignatureIsNotJudged, what_is_no_token_or_was_changed_is_refused),
    ]);
}

#[test]
fn public_keys_verify_what_their_owners_have_signed() {
    let mut jwt = Jwt::new("gateway");
    let (ec, ed) = (pair(&PKCS_ECDSA_P256_SHA256), pair(&PKCS_ED25519));
    jwt.add_public_key(JwtAlgorithm::Es256, ec.public_key_pem().as_bytes()).unwrap();
    jwt.add_public_key(JwtAlgorithm::EdDsa, ed.public_key_pem().as_bytes()).unwrap();
    jwt.add_public_key(JwtAlgorithm::Rs256, RSA).unwrap();

    let random = SystemRandom::new();
    let der = ec.serialize_der();
    let signer = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random);
    let message = body(&json!({ "alg": "ES256" }), &claims());
    let signature = signer.unwrap().sign(&random, message.as_bytes()).unwrap();
    assert!(jwt.check(&with(&message, signature.as_ref())).is_ok());
    let stranger = pair(&PKCS_ECDSA_P256_SHA256).serialize_der();
    let signer = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &stranger, &random);
    let signature = signer.unwrap().sign(&random, message.as_bytes()).unwrap();
    assert_eq!(jwt.check(&with(&message, signature.as_ref())), Err(AuthError::Invalid));

    let signer = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&ed.serialize_der()).unwrap();
    let message = body(&json!({ "alg": "EdDSA" }), &claims());
    assert!(jwt.check(&with(&message, signer.sign(message.as_bytes()).as_ref())).is_ok());

    assert!(jwt.check(RSA_TOKEN).is_ok());
    assert_eq!(jwt.check(&RSA_TOKEN.replace("GYmt", "GYmu")), Err(AuthError::Invalid));
}

#[test]
fn keys_are_changed_without_a_break() {
    let mut jwt = Jwt::new("gateway");
    jwt.add_secret(JwtAlgorithm::Hs256, &[7; 32]).unwrap();
    assert!(jwt.check(&signed(&claims())).is_err());
    jwt.add_secret(JwtAlgorithm::Hs256, SECRET).unwrap();
    assert!(jwt.check(&signed(&claims())).is_ok());
}

#[test]
fn a_key_that_is_of_no_use_is_refused() {
    let mut jwt = Jwt::new("gateway");
    assert_eq!(jwt.add_secret(JwtAlgorithm::Hs256, &[7; 31]), Err(KeyError::Short));
    assert_eq!(jwt.add_secret(JwtAlgorithm::Hs512, &[7; 63]), Err(KeyError::Short));
    assert_eq!(jwt.add_secret(JwtAlgorithm::Es256, &[7; 99]), Err(KeyError::Unreadable));
    let ec = pair(&PKCS_ECDSA_P256_SHA256);
    for (algorithm, pem, why) in [
        (JwtAlgorithm::Es256, ec.serialize_pem(), KeyError::Private),
        (JwtAlgorithm::EdDsa, ec.public_key_pem(), KeyError::Unreadable),
        (JwtAlgorithm::Rs256, ec.public_key_pem(), KeyError::Unreadable),
        (JwtAlgorithm::Rs256, String::new(), KeyError::Unreadable),
        (JwtAlgorithm::Hs256, ec.public_key_pem(), KeyError::Unreadable),
    ] {
        assert_eq!(jwt.add_public_key(algorithm, pem.as_bytes()), Err(why), "{algorithm:?}");
    }
}

#[test]
fn a_secret_is_not_printed() {
    let text = format!("{:?}", jwt());
    assert!(!text.contains("canary") && text.contains("keys: 1"), "{text}");
}
