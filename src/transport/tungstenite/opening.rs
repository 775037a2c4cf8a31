//! The opening handshake (RFC 6455 §4.1 and §4.2), without a word of it in a log.
//!
//! tungstenite writes the request that it sends into the `log` crate, tokens and all. So request and
//! answer are written and read here, and tungstenite is given what is a WebSocket by then.

use std::io;

use http::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::uri::PathAndQuery;
use httparse::{EMPTY_HEADER, Status};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::failure;
use crate::protocol::{Request, Response};
use crate::transport::TransportError;

/// Bytes of an answer's head, and lines of it.
const MAX_HEAD: usize = 65_536;
const MAX_HEADERS: usize = 124;

/// Reads that may bring less than [`SMALL`] bytes each on average: each has the head parsed anew.
const SMALL_READS: usize = 64;
const SMALL: usize = 128;

/// Headers whose names some servers read by letter case, as the RFC writes them.
const NAMED: [(HeaderName, &str); 7] = [
    (HOST, "Host"),
    (CONNECTION, "Connection"),
    (UPGRADE, "Upgrade"),
    (SEC_WEBSOCKET_VERSION, "Sec-WebSocket-Version"),
    (SEC_WEBSOCKET_KEY, "Sec-WebSocket-Key"),
    (SEC_WEBSOCKET_PROTOCOL, "Sec-WebSocket-Protocol"),
    (ORIGIN, "Origin"),
];

/// A handshake to be made.
pub(crate) struct Opening {
    /// What the server's answer has to show.
    accept: String,
    headers: HeaderMap,
    subprotocols: Vec<String>,
    target: PathAndQuery,
}

impl Opening {
    pub(crate) fn of(request: &Request) -> Result<Self, TransportError> {
        let target = PathAndQuery::try_from(request.url().target()).map_err(failure::handshake)?;
        let key = generate_key();
        let headers = headers(request, &key).map_err(failure::handshake)?;
        let subprotocols = headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(|list| list.to_str().ok());
        let subprotocols = subprotocols.map(|list| list.split(',').map(|name| name.trim().into()));
        Ok(Self {
            accept: derive_accept_key(key.as_bytes()),
            subprotocols: subprotocols.into_iter().flatten().collect(),
            headers,
            target,
        })
    }

    /// Says it on `stream`, and reads the answer; and what comes behind it, as frames may come in the
    /// same segment.
    pub(super) async fn perform<S>(
        &self,
        stream: &mut S,
    ) -> Result<(Response, Vec<u8>), TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        stream.write_all(&self.request()).await.map_err(failure::of_io)?;
        stream.flush().await.map_err(failure::of_io)?;
        let (response, rest) = answer(stream).await?;
        if response.status() != 101 {
            return Err(TransportError::refused(response));
        }
        self.verify(response.headers()).map_err(failure::handshake)?;
        Ok((response, rest))
    }

    fn request(&self) -> Vec<u8> {
        let mut request = format!("GET {} HTTP/1.1\r\n", self.target).into_bytes();
        let mut line = |name: &str, value: &HeaderValue| {
            request.extend([name.as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        };
        for (name, written) in NAMED {
            self.headers.get_all(name).iter().for_each(|value| line(written, value));
        }
        for (name, value) in &self.headers {
            if !NAMED.iter().any(|(named, _)| named == name) {
                line(name.as_str(), value);
            }
        }
        request.extend(b"\r\n");
        request
    }

    /// Whether an answer of 101 opens the WebSocket that was asked for (RFC 6455 §4.1).
    fn verify(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        if !lists(headers, &UPGRADE, "websocket") {
            return Err("the answer has no `Upgrade: websocket`");
        }
        if !lists(headers, &CONNECTION, "upgrade") {
            return Err("the answer has no `Connection: Upgrade`");
        }
        if headers.get(SEC_WEBSOCKET_ACCEPT).is_none_or(|accept| accept != &*self.accept) {
            return Err(
                "the answer is not one to this request: its `Sec-WebSocket-Accept` differs",
            );
        }
        if headers.get(SEC_WEBSOCKET_EXTENSIONS).is_some_and(|value| !value.is_empty()) {
            return Err("the server uses an extension that was not asked for");
        }
        match headers.get(SEC_WEBSOCKET_PROTOCOL).map(HeaderValue::to_str) {
            None if self.subprotocols.is_empty() => Ok(()),
            None => Err("the server grants none of the subprotocols that were asked for"),
            Some(Err(_)) => Err("a header is not text"),
            Some(Ok(granted)) if self.subprotocols.iter().any(|name| name == granted) => Ok(()),
            Some(Ok(_)) => Err("the server grants a subprotocol that was not asked for"),
        }
    }
}

/// The request's own headers, and those of the handshake in their place where both have one.
fn headers(request: &Request, key: &str) -> Result<HeaderMap, http::Error> {
    let mut headers = request.headers().clone();
    // Whatever extension was asked for there, nobody here would speak it.
    headers.remove(SEC_WEBSOCKET_EXTENSIONS);
    if !request.subprotocols().is_empty() {
        let subprotocols = HeaderValue::try_from(request.subprotocols().join(", "))?;
        headers.insert(SEC_WEBSOCKET_PROTOCOL, subprotocols);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(HOST, HeaderValue::try_from(request.url().host_header())?);
    headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::try_from(key)?);
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    Ok(headers)
}

/// Whether a header, which is a list, has `word` in it.
fn lists(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|list| list.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
}

/// Reads the server's answer, and what comes behind it.
async fn answer(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<(Response, Vec<u8>), TransportError> {
    let mut head = Vec::with_capacity(1024);
    for reads in 1.. {
        if stream.read_buf(&mut head).await.map_err(failure::of_io)? == 0 {
            break;
        }
        if let Some((response, len)) = parsed(&head)? {
            return Ok((response, head.split_off(len)));
        }
        if head.len() > MAX_HEAD || (reads > SMALL_READS && head.len() < reads * SMALL) {
            return Err(failure::violation("the answer's head has no end"));
        }
    }
    Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
}

/// The answer and the length of its head, once that is whole.
fn parsed(head: &[u8]) -> Result<Option<(Response, usize)>, TransportError> {
    let mut lines = [EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut lines);
    let Status::Complete(len) = response.parse(head).map_err(failure::violation)? else {
        return Ok(None);
    };
    let (Some(status), Some(1)) = (response.code, response.version) else {
        // Proxies answer so when what is behind them is down: that can pass, unlike what a
        // WebSocket server says.
        return Err(failure::violation(
            "the answer is HTTP/1.0, as old web servers and proxies give",
        ));
    };
    let mut headers = HeaderMap::new();
    for line in response.headers {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(failure::violation)?;
        let value = HeaderValue::from_bytes(line.value).map_err(failure::violation)?;
        headers.append(name, value);
    }
    Ok(Some((Response::new(status, headers), len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified(answer: &[(HeaderName, &str)], asked: &[&str]) -> Result<(), &'static str> {
        let request = Request::new("ws://host/").unwrap();
        let request = asked.iter().fold(request, |request, name| request.subprotocol(*name));
        let opening = Opening::of(&request).unwrap();
        let value = |value: &str| HeaderValue::from_str(value).unwrap();
        let mut headers: HeaderMap = [
            (UPGRADE, value("WebSocket")),
            (CONNECTION, value("keep-alive, Upgrade")),
            (SEC_WEBSOCKET_ACCEPT, value(&opening.accept)),
        ]
        .into_iter()
        .collect();
        for (name, text) in answer {
            headers.insert(name, value(text));
        }
        opening.verify(&headers)
    }

    #[test]
    fn an_answer_opens_what_was_asked_for_and_nothing_else() {
        assert_eq!(verified(&[], &[]), Ok(()));
        assert_eq!(verified(&[(SEC_WEBSOCKET_PROTOCOL, "v2")], &["v1", "v2"]), Ok(()));
        assert_eq!(verified(&[(SEC_WEBSOCKET_EXTENSIONS, "")], &[]), Ok(()));
        for (header, value, asked) in [
            (UPGRADE, "h2c", &[][..]),
            (CONNECTION, "close", &[]),
            (SEC_WEBSOCKET_ACCEPT, "another", &[]),
            (SEC_WEBSOCKET_EXTENSIONS, "permessage-deflate", &[]),
            (SEC_WEBSOCKET_PROTOCOL, "v1", &[]),
            (SEC_WEBSOCKET_PROTOCOL, "v3", &["v1", "v2"]),
        ] {
            assert!(verified(&[(header.clone(), value)], asked).is_err(), "{header}: {value}");
        }
        assert!(verified(&[], &["v1"]).is_err());
    }

    #[test]
    fn each_request_has_a_key_of_its_own() {
        let request = Request::new("ws://ann:pass@host/?a=b").unwrap();
        let openings = [(); 2].map(|()| Opening::of(&request).unwrap());
        assert_ne!(openings[0].accept, openings[1].accept);
        let text = String::from_utf8(openings[0].request()).unwrap();
        assert!(text.starts_with("GET /?a=b HTTP/1.1\r\nHost: host\r\n"), "{text}");
        assert!(text.ends_with("\r\nauthorization: Basic YW5uOnBhc3M=\r\n\r\n"), "{text}");
    }

    #[tokio::test]
    async fn a_head_that_drips_or_has_no_end_is_left_in_time() {
        let flood = [b"HTTP/1.1 101 x\r\n".to_vec(), b"x: y\r\n".repeat(20_000)].concat();
        for piece in [1, 5000] {
            let (mut server, mut client) = tokio::io::duplex(piece);
            let flood = flood.clone();
            let sending = tokio::spawn(async move { server.write_all(&flood).await });
            assert!(answer(&mut client).await.is_err());
            drop(client);
            assert!(sending.await.unwrap().is_err(), "it was not read to its end");
        }
    }
}
