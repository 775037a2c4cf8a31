//! The other end of every benchmark: a raw writer of frames that were encoded beforehand, in a
//! process of its own, so that the CPU time of the benchmark is the client's alone.
//!
//! The process is the benchmark's own binary, told by its environment to be the server. It says its
//! port on standard output, and ends when its standard input does: with its parent, whatever befell
//! that one.

use std::env;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::cpus;

const IS_SERVER: &str = "WSMUX_BENCH_SERVER";

/// Bytes handed to the kernel at once: enough that the writer outruns any reader.
const BLOCK: usize = 256 * 1024;

/// Time from the handshake to the first message. What a client finds behind the handshake's answer in
/// the same read may be kept in a buffer of another kind, and servers rarely send that fast.
const BEFORE_DATA: Duration = Duration::from_millis(10);

/// The server's process. Dropping it ends it.
pub(crate) struct Server {
    child: Child,
    port: u16,
}

/// What a connection is sent after its handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Feed {
    /// Bytes of each message.
    pub(crate) bytes: usize,
    /// Number of messages. Zero is a connection that stays idle.
    pub(crate) count: u64,
}

impl Server {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .env(IS_SERVER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().expect("the server says its port") }
    }

    pub(crate) fn address(&self) -> (&'static str, u16) {
        ("127.0.0.1", self.port)
    }

    /// The URL that streams of `feed` are under.
    pub(crate) fn base(&self, feed: Feed) -> String {
        format!("ws://127.0.0.1:{}/{}/{}", self.port, feed.bytes, feed.count)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Becomes the server, if this process was started to be it.
pub(crate) fn serve_if_asked() {
    if env::var_os(IS_SERVER).is_none() {
        return;
    }
    cpus::pin_server();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    thread::spawn(move || {
        for tcp in listener.incoming() {
            thread::Builder::new().stack_size(64 * 1024).spawn(|| serve(tcp?)).unwrap();
        }
    });
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    process::exit(0);
}

#[expect(clippy::disallowed_methods, reason = "no runtime here to be blocked")]
fn serve(mut tcp: TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let feed = shake_hands(&mut tcp)?;
    thread::sleep(BEFORE_DATA);
    send(&mut tcp, feed)?;
    // Pings are answered and a close ends it; nothing else is sent by the clients.
    let mut received = [0; 256];
    loop {
        match tcp.read(&mut received)? {
            0 => return Ok(()),
            _ if received[0] & 0x0f == 8 => return tcp.write_all(&[0x88, 2, 0x03, 0xe8]),
            _ if received[0] & 0x0f == 9 => tcp.write_all(&[0x8a, 0])?,
            _ => {}
        }
    }
}

/// Answers the handshake; its path says what is wanted.
fn shake_hands(tcp: &mut TcpStream) -> io::Result<Feed> {
    let (mut key, mut feed) = (String::new(), None);
    let mut lines = BufReader::new(&mut *tcp).lines();
    while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
        if let Some(target) = line.strip_prefix("GET /") {
            let mut parts = target.split(['/', ' ']);
            let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok());
            feed = number().zip(number());
        } else if let Some((name, value)) = line.split_once(": ") {
            if name.eq_ignore_ascii_case("sec-websocket-key") {
                value.trim().clone_into(&mut key);
            }
        }
    }
    let (bytes, count) = feed.ok_or(io::ErrorKind::InvalidData)?;
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    tcp.write_all(answer.as_bytes())?;
    Ok(Feed { bytes: usize::try_from(bytes).map_err(io::Error::other)?, count })
}

fn send(tcp: &mut TcpStream, Feed { bytes, count }: Feed) -> io::Result<()> {
    let frame = text_frame(bytes);
    let per_block = (BLOCK / frame.len()).max(1);
    let block = frame.repeat(per_block);
    let mut left = usize::try_from(count).map_err(io::Error::other)?;
    while left > 0 {
        let now = left.min(per_block);
        tcp.write_all(&block[..now * frame.len()])?;
        left -= now;
    }
    Ok(())
}

/// An unmasked text frame (RFC 6455 §5.2) with a payload of up to 64 KiB.
fn text_frame(bytes: usize) -> Vec<u8> {
    let len = u16::try_from(bytes).expect("at most 64 KiB");
    let mut frame = vec![0x81];
    match u8::try_from(len) {
        Ok(len @ ..=125) => frame.push(len),
        _ => {
            frame.push(126);
            frame.extend(len.to_be_bytes());
        }
    }
    let text = br#"{"e":"trade","s":"BTCUSDT","p":"64250.10000000","q":"0.00150000","m":true},"#;
    frame.extend(text.iter().cycle().take(bytes));
    frame
}
