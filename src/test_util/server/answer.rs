//! How a dial is answered.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::handshake::machine::TryParse as _;
use tokio_tungstenite::tungstenite::handshake::server::{Request, create_response, write_response};

use super::conn::Ending;
use super::io::{Io, finish_io, reset};

/// The longest request head that is read.
const MAX_HEAD: usize = 64 << 10;
/// Where a flood of headers ends, should a client swallow it.
const MAX_FLOOD: usize = 64 << 20;

/// The answer to a dial.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Answer {
    /// A WebSocket.
    #[default]
    Accept,
    /// A WebSocket, with more headers in the response.
    AcceptWith {
        /// Names and values.
        headers: Vec<(String, String)>,
    },
    /// A WebSocket; the response comes byte by byte.
    Drip {
        /// The time before each byte.
        every: Duration,
    },
    /// The response ends in the midst of a line.
    EndOfFile,
    /// Nothing: the TCP connection stays open, and silent.
    Hang,
    /// A response whose headers do not end.
    HeaderFlood,
    /// These bytes, and the end.
    Raw(Bytes),
    /// TCP's RST. From [`next_dials`](super::MockServer::next_dials) it comes before TLS, and before
    /// the request is read.
    Refuse,
    /// An HTTP response.
    Status {
        /// The status code.
        status: u16,
        /// Names and values.
        headers: Vec<(String, String)>,
    },
    /// A response that accepts another key than the client's.
    WrongAccept,
}

impl Answer {
    /// An HTTP response without further headers.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Status { status, headers: Vec::new() }
    }

    /// Adds a header to the response, where it is [`Accept`](Self::Accept),
    /// [`AcceptWith`](Self::AcceptWith) or [`Status`](Self::Status).
    #[must_use]
    pub fn with_header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let header = (name.into(), value.into());
        match self {
            Self::Accept => Self::AcceptWith { headers: vec![header] },
            Self::AcceptWith { mut headers } => {
                headers.push(header);
                Self::AcceptWith { headers }
            }
            Self::Status { status, mut headers } => {
                headers.push(header);
                Self::Status { status, headers }
            }
            other => other,
        }
    }

    /// Answers `request`. Where that makes a WebSocket of the stream, it gives the stream back, with
    /// the rest of the response to be written.
    pub(super) async fn give(
        self,
        mut io: Box<dyn Io>,
        request: &Request,
    ) -> io::Result<Option<(Box<dyn Io>, Vec<u8>)>> {
        let asks = create_response(request).is_ok();
        let bytes = match self {
            Self::Accept | Self::AcceptWith { .. } | Self::Drip { .. } if !asks => {
                response(400, &[])
            }
            Self::Accept => return Ok(Some((io, accepting(request, &[])?))),
            Self::AcceptWith { headers } => return Ok(Some((io, accepting(request, &headers)?))),
            Self::Drip { every } => {
                let mut response = accepting(request, &[])?;
                let last = response.split_off(response.len() - 1);
                drip(&mut io, &response, every).await?;
                return Ok(Some((io, last)));
            }
            Self::EndOfFile => b"HTTP/1.1 101 Switching Pro".into(),
            Self::Hang => {
                tokio::io::copy(&mut io, &mut tokio::io::sink()).await?;
                return Ok(None);
            }
            Self::HeaderFlood => return flood(io).await.map(|()| None),
            Self::Raw(bytes) => bytes.into(),
            Self::Refuse => {
                reset(io.tcp());
                return Ok(None);
            }
            Self::Status { status, headers } => response(status, &headers),
            Self::WrongAccept => wrong(&accepting(request, &[])?),
        };
        end(io, &bytes).await.map(|()| None)
    }
}

/// Writes `bytes`, and ends the stream.
async fn end(mut io: Box<dyn Io>, bytes: &[u8]) -> io::Result<()> {
    io.write_all(bytes).await?;
    io.flush().await?;
    finish_io(io, Ending::Fin).await;
    Ok(())
}

/// Reads a request, and what the client sent after it.
pub(super) async fn read_request(io: &mut Box<dyn Io>) -> io::Result<(Request, BytesMut)> {
    let mut head = BytesMut::new();
    loop {
        if io.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some((len, request)) = Request::try_parse(&head).map_err(io::Error::other)? {
            let rest = head.split_off(len);
            return Ok((request, rest));
        }
        if head.len() > MAX_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

fn accepting(request: &Request, headers: &[(String, String)]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let response = create_response(request).map_err(io::Error::other)?;
    write_response(&mut out, &response).map_err(io::Error::other)?;
    // The empty line that ends the head comes after the further headers.
    out.truncate(out.len() - 2);
    put_headers(&mut out, headers);
    Ok(out)
}

fn response(status: u16, headers: &[(String, String)]) -> Vec<u8> {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let mut out = format!("HTTP/1.1 {status} {}\r\n", reason.unwrap_or("Odd")).into_bytes();
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        out.extend(b"content-length: 0\r\n");
    }
    put_headers(&mut out, headers);
    out
}

fn put_headers(out: &mut Vec<u8>, headers: &[(String, String)]) {
    for (name, value) in headers {
        out.extend(format!("{name}: {value}\r\n").bytes());
    }
    out.extend(b"\r\n");
}

/// Accepts a key that no client sent: the one of no bytes.
fn wrong(response: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(response);
    let lines = text.split("\r\n").map(|line| match line.split_once(": ") {
        Some((name, _)) if name.eq_ignore_ascii_case("sec-websocket-accept") => {
            format!("{name}: Kfh9QIsMVZcl6xEPYxPHzW8SZ8w=")
        }
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\r\n").into_bytes()
}

async fn drip(io: &mut Box<dyn Io>, bytes: &[u8], every: Duration) -> io::Result<()> {
    for byte in bytes {
        sleep(every).await;
        io.write_all(&[*byte]).await?;
        io.flush().await?;
    }
    Ok(())
}

async fn flood(mut io: Box<dyn Io>) -> io::Result<()> {
    io.write_all(b"HTTP/1.1 101 Switching Protocols\r\n").await?;
    let lines = "x-flood: and another header, and yet another\r\n".repeat(64);
    for _ in 0..MAX_FLOOD / lines.len() {
        io.write_all(lines.as_bytes()).await?;
        io.flush().await?;
    }
    Ok(())
}
