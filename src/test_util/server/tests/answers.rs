//! Answers other than a WebSocket.

use std::io::ErrorKind;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::error::ProtocolError;

use super::*;
use crate::test_util::Answer;

async fn answered(answer: Answer) -> (MockServer, Result<Client, Error>) {
    let server = MockServer::start().await.unwrap();
    server.next_dials([answer]);
    let client = within(dial(&server, "/")).await;
    assert_eq!((server.dials(), server.sockets()), (1, usize::from(client.is_ok())));
    (server, client)
}

#[tokio::test]
async fn a_status_is_given_with_its_headers() {
    let answer = Answer::status(429).with_header("Retry-After", "7");
    let (_, Err(Error::Http(response))) = answered(answer).await else { panic!("accepted") };
    assert_eq!(
        (response.status().as_u16(), response.headers()["retry-after"].as_bytes()),
        (429, &b"7"[..])
    );
}

#[tokio::test]
async fn a_refused_dial_is_reset() {
    let (_, Err(Error::Io(e))) = answered(Answer::Refuse).await else { panic!("accepted") };
    assert!(matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{e:?}");
}

#[tokio::test]
async fn a_hanging_dial_is_never_answered() {
    let server = MockServer::builder().answer("/mute", Answer::Hang).start().await.unwrap();
    let mut tcp = TcpStream::connect(server.addr()).await.unwrap();
    tcp.write_all(b"GET /mute HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    // Others are answered meanwhile, and the request was read.
    connect(&server, "/").await;
    assert_eq!(server.dialled(), ["/mute", "/"]);
    let nothing = tcp.try_read(&mut [0]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    drop(server);
    assert_eq!(within(tcp.read(&mut [0])).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_dripping_response_is_whole_in_the_end() {
    let drip = Answer::Drip { every: Duration::from_millis(1) };
    let server = MockServer::builder().answer("/", drip).start().await.unwrap();
    // By hand, as the plain client takes so many small reads for an attack.
    let mut tcp = TcpStream::connect(server.addr()).await.unwrap();
    let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{upgrade}{key}\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let (mut response, mut reads) = (Vec::new(), 0);
    while !response.ends_with(b"\r\n\r\n") {
        within(tcp.read_buf(&mut response)).await.unwrap();
        reads += 1;
    }
    let response = String::from_utf8(response).unwrap().to_lowercase();
    assert!(response.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{response}");
    assert!(reads > 10, "{reads} reads");
    assert!(within(server.accept()).await.send("at last").await);
    let mut frame = [0; 9];
    within(tcp.read_exact(&mut frame)).await.unwrap();
    assert_eq!(&frame, b"\x81\x07at last");
}

#[tokio::test]
async fn a_wrong_key_is_accepted() {
    let (_, refused) = answered(Answer::WrongAccept).await;
    let mismatch = ProtocolError::SecWebSocketAcceptKeyMismatch;
    assert!(matches!(refused, Err(Error::Protocol(e)) if e == mismatch));
}

#[tokio::test]
async fn a_response_ends_in_its_midst() {
    let (_, refused) = answered(Answer::EndOfFile).await;
    assert!(matches!(refused, Err(Error::Protocol(ProtocolError::HandshakeIncomplete))));
}

#[tokio::test]
async fn headers_do_not_end() {
    let (_, refused) = answered(Answer::HeaderFlood).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn raw_bytes_are_sent_as_they_are() {
    let (_, refused) = answered(Answer::Raw(Bytes::from("SSH-2.0-mock\r\n"))).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn headers_are_added_to_what_is_accepted() {
    let server = MockServer::start().await.unwrap();
    server.set_answer("/", Answer::Accept.with_header("x-limit", "5"));
    let tcp = TcpStream::connect(server.addr()).await.unwrap();
    let (_, response) = within(client_async(server.url(), tcp)).await.unwrap();
    assert_eq!(response.headers()["x-limit"], "5");
}

#[tokio::test]
async fn answers_to_the_next_dials_come_in_order_and_before_those_of_paths() {
    let server = MockServer::builder().answer("/down/", Answer::status(503)).start().await.unwrap();
    server.next_dials([Answer::status(418), Answer::Accept]);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(match within(dial(&server, "/down/now")).await {
            Err(Error::Http(response)) => response.status().as_u16(),
            other => other.map(|_| 101).unwrap(),
        });
    }
    assert_eq!(statuses, [418, 101, 503]);
}

#[tokio::test]
async fn what_is_no_handshake_is_a_bad_request() {
    let server = MockServer::start().await.unwrap();
    let mut tcp = TcpStream::connect(server.addr()).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut response = String::new();
    within(tcp.read_to_string(&mut response)).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{response:?}");
}
