//! What a request shows of who makes it: a header, a query, a token, a ticket. Nobody comes in without a key,
//! its signature, or a ticket that is out; whoever does is somebody.

#![no_main]

use std::sync::LazyLock;

use data_encoding::BASE64URL_NOPAD;
use http::Request;
use libfuzzer_sys::fuzz_target;
use ring::hmac;
use wsmux::gateway::auth::{ApiKeys, Auth, AuthError, Jwt, JwtAlgorithm};

const KEY: &str = "canary-key-that-nobody-guesses-0123456789";
const SECRET: &[u8] = b"canary-secret-that-nobody-guesses-0123456789";

static AUTH: LazyLock<Auth> = LazyLock::new(|| {
    let mut keys = ApiKeys::new();
    keys.add("ann", KEY).unwrap();
    let mut jwt = Jwt::new("us");
    jwt.add_secret(JwtAlgorithm::Hs256, SECRET).unwrap();
    Auth::new().api_keys(keys).jwt(jwt)
});

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    // As it comes: nobody is let in.
    for proof in [&*text, text.trim()] {
        let is_key = proof == KEY;
        assert_eq!(AUTH.bearer(proof).is_ok(), is_key);
        assert_eq!(AUTH.in_band(proof).is_ok(), is_key);
    }
    request(&text);
    ticket(input);
    // As a header and claims that are signed: what is in them is read.
    let (header, claims) = text.split_once('\n').unwrap_or((r#"{"alg":"HS256"}"#, &text));
    for header in [header, r#"{"alg":"HS256"}"#] {
        token(header, claims);
    }
});

fn token(header: &str, claims: &str) {
    let token = signed(header, claims);
    match AUTH.bearer(&token) {
        Ok(identity) => {
            let said: serde_json::Value = serde_json::from_str(claims).expect("claims are JSON");
            assert_eq!(said["sub"], *identity.user, "it is who the claims say");
            assert!(!identity.user.is_empty());
        }
        Err(e) => assert!(!e.to_string().is_empty() && !e.code().is_empty()),
    }
    // With another signature it is worth nothing.
    let (message, _) = token.rsplit_once('.').unwrap();
    for signature in ["", "AAAA", &BASE64URL_NOPAD.encode(&[0; 32])] {
        assert!(AUTH.bearer(&format!("{message}.{signature}")).is_err());
    }
}

/// The first line as headers, the second as the query.
fn request(text: &str) {
    let (header, query) = text.split_once('\n').unwrap_or((text, text));
    let Ok(uri) = format!("/ws?{query}").parse::<http::Uri>() else { return };
    let mut request = Request::builder().uri(uri);
    for line in header.split('\r').take(3) {
        request = request.header("authorization", line);
    }
    let Ok(request) = request.body(()) else { return };
    let (parts, ()) = request.into_parts();
    let is_let_in = AUTH.request(&parts).is_ok();
    assert!(!is_let_in || header.contains(KEY));
}

/// A ticket that is spoiled somewhere is none, and the whole one is good once.
fn ticket(input: &[u8]) {
    let [at, with, ..] = input else { return };
    let ticket = AUTH.ticket(AUTH.bearer(KEY).unwrap()).unwrap();
    let mut spoiled = ticket.expose().to_owned().into_bytes();
    let at = usize::from(*at) % spoiled.len();
    spoiled[at] = *with;
    if let Ok(spoiled) = String::from_utf8(spoiled)
        && spoiled != ticket.expose()
    {
        assert_eq!(AUTH.in_band(&spoiled), Err(AuthError::Invalid));
    }
    assert!(AUTH.in_band(ticket.expose()).is_ok());
    assert_eq!(AUTH.in_band(ticket.expose()), Err(AuthError::Invalid));
}

fn signed(header: &str, claims: &str) -> String {
    let message = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.as_bytes())).join(".");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let signature = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
}
