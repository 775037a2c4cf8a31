//! A WebSocket client made by hand, so that it can do what no library lets it do.

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{schema, soon};

pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

pub(crate) struct Client<S = TcpStream> {
    pub(crate) socket: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Opens a WebSocket, or tells with which status it was refused.
    pub(crate) async fn open(mut socket: S, path: &str) -> Result<Self, u16> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(socket.read_u8()).await.unwrap());
        }
        match std::str::from_utf8(&head[9..12]).unwrap().parse().unwrap() {
            101 => Ok(Self { socket }),
            status => Err(status),
        }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.send_raw(&masked(opcode, payload)).await;
    }

    /// Says something that the schema allows.
    pub(crate) async fn say(&mut self, word: &str) {
        let value = serde_json::from_str(word).expect("JSON");
        assert!(schema::is_clients(&value), "the schema does not allow {word}");
        self.send(TEXT, word.as_bytes()).await;
    }

    /// The next frame; `None` at the end.
    pub(crate) async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        soon(async {
            let first = self.socket.read_u8().await.ok()?;
            let len = match self.socket.read_u8().await.ok()? {
                126 => u64::from(self.socket.read_u16().await.ok()?),
                127 => self.socket.read_u64().await.ok()?,
                len => u64::from(len),
            };
            let mut payload = vec![0; usize::try_from(len).unwrap()];
            self.socket.read_exact(&mut payload).await.ok()?;
            assert_eq!(first & 0xf0, 0x80, "whole frames without extensions");
            Some((first & 0x0f, payload))
        })
        .await
    }

    /// The next message, whatever it is. Pings are answered.
    pub(crate) async fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            match self.frame().await? {
                (PING, payload) => self.send(PONG, &payload).await,
                frame => return Some(frame),
            }
        }
    }

    /// The next word, which is one that the schema knows.
    pub(crate) async fn word(&mut self) -> Value {
        let (opcode, payload) = self.message().await.expect("a word, not the end");
        assert_eq!(opcode, TEXT, "{payload:?}");
        let word = serde_json::from_slice(&payload).expect("JSON");
        assert!(schema::is_servers(&word), "the schema does not know {word}");
        word
    }

    /// The next word of a type; statuses before it are passed over.
    pub(crate) async fn word_of(&mut self, kind: &str) -> Value {
        loop {
            let word = self.word().await;
            if word["type"] == kind {
                return word;
            }
            assert_eq!(word["type"], "status", "instead of {kind}: {word}");
        }
    }

    /// The data of the next message of a name.
    pub(crate) async fn data(&mut self) -> Value {
        self.word_of("data").await["data"].take()
    }

    /// Subscribes, and waits until that is known.
    pub(crate) async fn subscribe(&mut self, name: &str) {
        self.say(&format!(r#"{{"type":"subscribe","id":"s","names":["{name}"]}}"#)).await;
        let ack = self.word_of("ack").await;
        assert_eq!((&ack["id"], &ack["names"][0]), (&"s".into(), &name.into()));
    }

    /// With which code the connection is closed. What comes before is passed over.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        loop {
            if let (CLOSE, payload) = self.message().await? {
                return payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
            }
        }
    }

    /// Waits for the end of the TCP connection. What comes before is passed over.
    pub(crate) async fn ended(&mut self) {
        while self.frame().await.is_some() {}
    }
}

/// A client's frame.
pub(crate) fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | u8::try_from(len).unwrap()),
        len @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    let mask = [7, 77, 177, 17];
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}
