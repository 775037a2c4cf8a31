//! Servers written out by hand, for the tests of this transport.

use std::future::poll_fn;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Tungstenite, TungsteniteSocket};
use crate::protocol::{Request, Response};
use crate::transport::{Frame, Frames, Socket, Transport as _, TransportError};

/// A server that takes connections and says nothing.
pub(super) struct Server(TcpListener);

impl Server {
    pub(super) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(super) fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// A request to it, with secrets.
    pub(super) fn request(&self) -> Request {
        Request::new(&format!("ws://ann:canary@127.0.0.1:{}/ws?token=canary", self.port())).unwrap()
    }

    pub(super) async fn tcp(&self) -> TcpStream {
        self.0.accept().await.unwrap().0
    }

    /// Takes a connection and the handshake on it.
    pub(super) async fn accept(&self) -> (TcpStream, String) {
        let mut tcp = self.tcp().await;
        let head = head(&mut tcp).await;
        (tcp, head)
    }
}

/// Reads the client's handshake.
pub(super) async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// The answer that opens the WebSocket, with `more` headers.
pub(super) fn switching(head: &str, more: &str) -> String {
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
    )
}

/// What comes of a handshake that is answered by `answer` and the end of the stream.
pub(super) async fn answered(
    request: impl FnOnce(Request) -> Request,
    answer: impl FnOnce(&str) -> String,
) -> Result<(TungsteniteSocket, Response), TransportError> {
    let server = Server::start().await;
    let request = request(server.request());
    let transport = Tungstenite::new();
    let (result, ()) = tokio::join!(transport.connect(&request), async {
        let (mut tcp, head) = server.accept().await;
        tcp.write_all(answer(&head).as_bytes()).await.unwrap();
    });
    result
}

/// An open socket and its server's end, which sent `bytes` right behind the handshake.
pub(super) async fn opened(
    transport: &Tungstenite,
    bytes: &[u8],
) -> (TungsteniteSocket, TcpStream) {
    let server = Server::start().await;
    let request = server.request();
    let (socket, tcp) = tokio::join!(transport.connect(&request), async {
        let (mut tcp, head) = server.accept().await;
        let answer = [switching(&head, "").as_bytes(), bytes].concat();
        tcp.write_all(&answer).await.unwrap();
        tcp
    });
    (socket.unwrap().0, tcp)
}

/// A server's frame with a payload of less than 126 bytes.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len();
    let head = match u8::try_from(len) {
        Ok(len @ 0..126) => vec![first, len],
        _ => [&[first, 126][..], &u16::try_from(len).unwrap().to_be_bytes()].concat(),
    };
    [&head, payload].concat()
}

/// Reads once.
pub(super) async fn read(
    socket: &mut TungsteniteSocket,
    max_frames: usize,
) -> Result<Vec<Frame>, TransportError> {
    let mut frames = Frames::with_budget(max_frames, usize::MAX);
    poll_fn(|cx| socket.poll_read(cx, &mut frames)).await?;
    Ok(frames.drain().collect())
}

/// Reads a client's frame of less than 126 bytes: its first byte, and the payload unmasked.
pub(super) async fn sent(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let (first, len) = (stream.read_u8().await?, stream.read_u8().await?);
    assert!((128..128 + 126).contains(&len), "a short masked frame");
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).await?;
    let mut payload = vec![0; usize::from(len - 128)];
    stream.read_exact(&mut payload).await?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok((first, payload))
}
