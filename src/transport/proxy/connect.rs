//! HTTP's CONNECT (RFC 9110 §9.3.6): a request, and a head that says whether there is a tunnel.

use data_encoding::BASE64;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use httparse::{EMPTY_HEADER, Status};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::Credentials;
use super::failure::Refusal;
use crate::protocol::Response;

/// The longest head that is read, in bytes. Those of real proxies have a few hundred.
const MAX_HEAD: usize = 16 << 10;

const MAX_HEADERS: usize = 64;

/// Asks for a tunnel to `host` and `port`. Reads no byte of what comes through it.
pub(super) async fn open(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    host: &str,
    port: u16,
    credentials: Option<&Credentials>,
) -> Result<(), Refusal> {
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some(Credentials { password, user }) = credentials {
        let encoded = BASE64.encode(format!("{user}:{password}").as_bytes());
        request.push_str(&format!("Proxy-Authorization: Basic {encoded}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let response = parsed(&head(stream).await?)?;
    match response.status() {
        200..=299 => Ok(()),
        // tinyproxy says 401 to a wrong password, and 407 only to none.
        401 | 407 => Err(Refusal::Credentials(Some(response))),
        _ => Err(Refusal::Status(response)),
    }
}

/// Reads up to the empty line. Byte by byte: what follows is not ours, and it is one short head.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Refusal> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
        if head.len() == MAX_HEAD {
            return Err(Refusal::Violation("an answer without an end"));
        }
        head.push(stream.read_u8().await?);
        // What is no HTTP is left before it was read to its end, which may never come.
        if !b"HTTP/1.".starts_with(&head[..head.len().min(7)]) {
            return Err(Refusal::Violation("an answer that is no HTTP"));
        }
    }
    Ok(head)
}

fn parsed(head: &[u8]) -> Result<Response, Refusal> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let (Ok(Status::Complete(_)), Some(status)) = (response.parse(head), response.code) else {
        return Err(Refusal::Violation("an answer that is no HTTP"));
    };
    let headers: HeaderMap = response
        .headers
        .iter()
        .filter_map(|header| {
            let name = HeaderName::try_from(header.name).ok()?;
            Some((name, HeaderValue::from_bytes(header.value).ok()?))
        })
        .collect();
    Ok(Response::new(status, headers))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use http::header::RETRY_AFTER;

    use super::super::testing::{Scripted, pieces};
    use super::*;

    async fn opened(answer: &[u8], piece: usize) -> (Result<(), Refusal>, Scripted) {
        let mut stream = Scripted::new(pieces(answer, piece));
        let result = open(&mut stream, "feed.example", 443, None).await;
        (result, stream)
    }

    #[tokio::test]
    async fn the_request_names_the_target_and_who_asks() {
        let mut stream = Scripted::new(pieces(b"HTTP/1.1 200 OK\r\n\r\n", 1));
        let credentials = Credentials { password: "s@fe:".into(), user: "ann".into() };
        open(&mut stream, "[::1]", 9443, Some(&credentials)).await.unwrap();
        let expected = "CONNECT [::1]:9443 HTTP/1.1\r\nHost: [::1]:9443\r\nProxy-Authorization: \
                        Basic YW5uOnNAZmU6\r\n\r\n";
        assert_eq!(String::from_utf8(stream.written).unwrap(), expected);
    }

    #[tokio::test]
    async fn a_head_opens_the_tunnel_however_it_arrives_and_nothing_behind_it_is_read() {
        for head in [
            "HTTP/1.1 200 Connection established\r\n\r\n",
            "HTTP/1.0 200 OK\r\nProxy-Agent: x\r\n\r\n",
            "HTTP/1.1 204\r\nContent-Length: 7\r\n\r\n",
            "HTTP/1.1 200 OK\nX: y\n\n",
        ] {
            let answer = [head.as_bytes(), b"tunnel\r\n\r\n"].concat();
            for piece in 1..=answer.len() {
                let (result, mut stream) = opened(&answer, piece).await;
                result.unwrap();
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.unwrap();
                assert_eq!(rest, b"tunnel\r\n\r\n", "in pieces of {piece}");
            }
        }
    }

    #[tokio::test]
    async fn a_refusal_is_told_with_its_status_and_headers() {
        let answer = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\n";
        let (Err(Refusal::Status(response)), _) = opened(answer, 5).await else { panic!() };
        assert_eq!(
            (response.status(), &response.headers()[RETRY_AFTER]),
            (503, &"7".parse().unwrap())
        );
        for status in [101, 199, 300, 302, 403, 404, 500] {
            let answer = format!("HTTP/1.1 {status} X\r\n\r\n");
            let (result, _) = opened(answer.as_bytes(), 99).await;
            assert!(matches!(result, Err(Refusal::Status(r)) if r.status() == status));
        }
    }

    #[tokio::test]
    async fn a_proxy_that_wants_other_credentials_says_407_or_401() {
        for status in [401, 407] {
            let answer = format!("HTTP/1.1 {status} Who\r\nProxy-Authenticate: Basic\r\n\r\n");
            let (result, _) = opened(answer.as_bytes(), 1).await;
            assert!(matches!(result, Err(Refusal::Credentials(Some(_)))), "{result:?}");
        }
    }

    #[tokio::test]
    async fn an_end_at_each_byte_is_an_end() {
        let answer = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n";
        for end in 0..answer.len() {
            let (result, _) = opened(&answer[..end], 3).await;
            let Err(Refusal::Io(e)) = result else { panic!("at {end}: {result:?}") };
            assert_eq!(e.kind(), ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_is_left_at_once_and_what_has_no_end_at_its_bound() {
        for answer in
            ["SSH-2.0-x", "\x05\0", "<html>", "HTTP/2 200\r\n\r\n", "HTTP/1.1 xyz\r\n\r\n"]
        {
            let (result, _) = opened(answer.as_bytes(), 1).await;
            assert!(matches!(result, Err(Refusal::Violation(_))), "{answer}: {result:?}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(65));
        assert!(matches!(opened(many.as_bytes(), 99).await.0, Err(Refusal::Violation(_))));
        let flood = [&b"HTTP/1.1 200 OK\r\n"[..], &b"x: y\r\n".repeat(1 << 20)].concat();
        let (result, stream) = opened(&flood, 4096).await;
        assert!(matches!(result, Err(Refusal::Violation(_))));
        assert!(stream.read <= MAX_HEAD, "{} bytes were read", stream.read);
    }
}
