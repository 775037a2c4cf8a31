//! The opening handshake of a WebSocket, as a server (RFC 6455, section 4.2).

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::gateway::defect::{Defect, seeded};

/// The length of a key: 16 bytes as base64.
const KEY: usize = 24;

/// What to answer the request of a client that may come in: 101, or why it is no handshake.
#[expect(clippy::result_large_err, reason = "an answer is what it is for")]
pub(super) fn accept<B>(request: &Request<B>) -> Result<Response, Response> {
    let (method, headers) = (request.method(), request.headers());
    let has = |name: HeaderName, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    // Before 1.1 there are no upgrades (section 4.1).
    let is_older = request.version() < Version::HTTP_11;
    let is_asked_for = !is_older
        && method == Method::GET
        && has(CONNECTION, "upgrade")
        && has(UPGRADE, "websocket");
    if !is_asked_for && !seeded(Defect::UpgradeIsNotJudged) {
        let upgrade = [(UPGRADE, "websocket"), (CONNECTION, "upgrade")];
        let text = "open this as a WebSocket\n";
        return Err((StatusCode::UPGRADE_REQUIRED, upgrade, text).into_response());
    }
    if has_body(headers) && !seeded(Defect::HandshakeHasBody) {
        let text = "a handshake has no body\n";
        return Err((StatusCode::BAD_REQUEST, text).into_response());
    }
    let is_ours = headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    if !is_ours && !seeded(Defect::VersionIsNotJudged) {
        let version = [(SEC_WEBSOCKET_VERSION, "13")];
        return Err((StatusCode::UPGRADE_REQUIRED, version, "version 13, please\n").into_response());
    }
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key.as_bytes()) => key.as_bytes(),
        (key, _) if seeded(Defect::KeyIsNotJudged) => key.map_or(&[][..], HeaderValue::as_bytes),
        _ => {
            let text = "Sec-WebSocket-Key is no key\n";
            return Err((StatusCode::BAD_REQUEST, text).into_response());
        }
    };
    let headers = [
        (UPGRADE, "websocket".to_owned()),
        (CONNECTION, "upgrade".to_owned()),
        (SEC_WEBSOCKET_ACCEPT, derive_accept_key(key)),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response())
}

/// Whether something comes between the head and the first frame, which would be read as a frame.
fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get_all(CONTENT_LENGTH).iter().any(|length| length != "0")
}

fn is_key(key: &[u8]) -> bool {
    key.len() == KEY && data_encoding::BASE64.decode(key).is_ok_and(|key| key.len() == 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::defect::are_found;

    fn headers(of: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    fn good() -> HeaderMap {
        headers(&[
            (CONNECTION, "keep-alive, Upgrade"),
            (UPGRADE, "WebSocket"),
            (SEC_WEBSOCKET_VERSION, "13"),
            (SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        ])
    }

    fn request(method: &Method, headers: &HeaderMap) -> Request<()> {
        let mut request = Request::new(());
        (*request.method_mut(), *request.headers_mut()) = (method.clone(), headers.clone());
        request
    }

    fn status(method: &Method, headers: &HeaderMap) -> u16 {
        accept(&request(method, headers)).unwrap_or_else(|refused| refused).status().as_u16()
    }

    #[test]
    fn a_handshake_is_answered_as_in_the_standard() {
        let response = accept(&request(&Method::GET, &good())).unwrap();
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        assert_eq!(status(&Method::POST, &good()), 426);
        for (name, value, expected) in [
            (CONNECTION, "keep-alive", 426),
            (UPGRADE, "h2c", 426),
            (SEC_WEBSOCKET_VERSION, "8", 426),
            (SEC_WEBSOCKET_KEY, "short", 400),
            (SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=!", 400),
        ] {
            let mut headers = good();
            headers.insert(&name, value.parse().unwrap());
            assert_eq!(status(&Method::GET, &headers), expected, "{name}: {value}");
            headers.remove(&name);
            assert_ne!(status(&Method::GET, &headers), 101, "without {name}");
        }
        for (name, value) in [(CONTENT_LENGTH, "5"), (TRANSFER_ENCODING, "chunked")] {
            let mut headers = good();
            headers.insert(&name, value.parse().unwrap());
            assert_eq!(status(&Method::GET, &headers), 400, "{name}");
        }
        let mut older = request(&Method::GET, &good());
        *older.version_mut() = Version::HTTP_10;
        assert_eq!(accept(&older).unwrap_err().status(), 426);
        let mut twice = good();
        twice.append(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap());
        assert_eq!(status(&Method::GET, &twice), 400);
    }

    #[test]
    fn one_that_does_not_look_at_a_part_of_it_is_found_out() {
        let parts = [
            Defect::HandshakeHasBody,
            Defect::KeyIsNotJudged,
            Defect::UpgradeIsNotJudged,
            Defect::VersionIsNotJudged,
        ];
        are_found(&parts.map(|part| (part, what_is_no_handshake_is_refused as fn())));
    }
}
