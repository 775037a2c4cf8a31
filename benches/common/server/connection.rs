//! One connection: its handshake, and what it is sent.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::crowd::Crowd;
use super::feed::Feed;
use super::frames::{Frame, spin_until};
use crate::common::clock::monotonic;

/// Bytes handed to the kernel at once: enough that the writer outruns any reader.
const BLOCK: usize = 256 * 1024;

/// Time from the handshake to the first message, for clients to get ready. What a client finds behind
/// the handshake's answer in the same read may be kept in a buffer of another kind, and servers rarely
/// send that fast.
const BEFORE_DATA: Duration = Duration::from_millis(10);

/// The server's end of a socket.
pub(super) enum Connection {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Connection {
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref(),
        }
    }

    /// Answers what clients send: pings, and a close. An error once it is over.
    pub(super) fn answer(&mut self) -> io::Result<()> {
        let mut received = [0; 256];
        match self.read(&mut received)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ if received[0] & 0x0f == 8 => {
                self.write_all(&[0x88, 2, 0x03, 0xe8])?;
                self.flush()?;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            _ if received[0] & 0x0f == 9 => {
                self.write_all(&[0x8a, 0])?;
                self.flush()
            }
            _ => Ok(()),
        }
    }

    /// Writes `count` times `frame`, in large blocks. Over TLS each is a record of its own, and all
    /// are encrypted before the first is sent, lest the client waits for the cipher.
    fn flood(&mut self, frame: &[u8], count: u64) -> io::Result<()> {
        let count = usize::try_from(count).map_err(io::Error::other)?;
        match self {
            Self::Plain(tcp) => {
                let per_block = (BLOCK / frame.len()).max(1);
                let block = frame.repeat(per_block);
                let mut left = count;
                while left > 0 {
                    let now = left.min(per_block);
                    tcp.write_all(&block[..now * frame.len()])?;
                    left -= now;
                }
                Ok(())
            }
            Self::Tls(tls) => {
                let mut records = Vec::new();
                tls.conn.set_buffer_limit(None);
                for _ in 0..count {
                    tls.conn.writer().write_all(frame)?;
                    while tls.conn.wants_write() {
                        tls.conn.write_tls(&mut records)?;
                    }
                }
                records.chunks(BLOCK).try_for_each(|block| tls.sock.write_all(block))
            }
        }
    }
}

impl Read for Connection {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(into),
            Self::Tls(tls) => tls.read(into),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

/// Makes the handshake, and leaves the rest to others.
pub(super) fn serve(
    tcp: TcpStream,
    tls: Option<&Arc<ServerConfig>>,
    crowd: &Crowd,
) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let mut connection = match tls {
        None => Connection::Plain(tcp),
        Some(config) => {
            let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
            Connection::Tls(Box::new(StreamOwned::new(session, tcp)))
        }
    };
    match shake_hands(&mut connection)? {
        Feed::Crowd { first } => {
            let frame = Frame::new(170);
            for _ in 0..first {
                connection.write_all(frame.as_bytes())?;
            }
            connection.flush()?;
            crowd.add(connection);
        }
        feed => {
            thread::spawn(move || -> io::Result<()> {
                feed_alone(&mut connection, feed)?;
                loop {
                    connection.answer()?;
                }
            });
        }
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "no runtime here to be blocked")]
fn feed_alone(connection: &mut Connection, feed: Feed) -> io::Result<()> {
    thread::sleep(BEFORE_DATA);
    match feed {
        Feed::Crowd { .. } => Ok(()),
        Feed::Flood { bytes, count } => connection.flood(Frame::new(bytes).as_bytes(), count),
        Feed::Paced { bytes, count, hertz, symbols } => {
            let mut frame = Frame::new(bytes);
            let started = monotonic();
            for position in 0..count {
                let due = started + Duration::from_nanos(position * 1_000_000_000 / hertz);
                frame.set_time(due);
                frame.set_symbol(position.wrapping_mul(7919) % symbols);
                spin_until(due);
                connection.write_all(frame.as_bytes())?;
            }
            Ok(())
        }
    }
}

/// Answers the handshake; its path says what is wanted.
fn shake_hands(connection: &mut Connection) -> io::Result<Feed> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut part = [0; 1024];
        let read = connection.read(&mut part)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend(&part[..read]);
    }
    let head = String::from_utf8_lossy(&head);
    let target = head.split(' ').nth(1).unwrap_or_default();
    let feed = Feed::of(target).ok_or(io::ErrorKind::InvalidData)?;
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    });
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.unwrap_or_default().as_bytes())
    );
    connection.write_all(answer.as_bytes())?;
    connection.flush()?;
    Ok(feed)
}
