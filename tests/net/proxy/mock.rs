//! Proxies that do as they are told. Whatever target they are asked for, they lead to one server.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What a proxy speaks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Speaks {
    Http,
    Socks,
}

/// What it does with who asks.
#[derive(Clone, Debug)]
pub(super) enum Does {
    /// Leads to the server. Each byte of its own comes alone.
    Serves,
    /// Leads there whoever gives this user and password.
    Wants(&'static str, &'static str),
    /// Says this in place of its first answer, and ends the connection.
    Says(Vec<u8>),
    /// Says nothing.
    Hangs,
    /// Says this, with a pause before each byte.
    Drips(Vec<u8>, Duration),
}

pub(super) struct MockProxy {
    pub(super) addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    serving: JoinHandle<()>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) connections: usize,
    /// What was asked for, as `host:port`.
    pub(super) targets: Vec<String>,
    /// The first bytes that went through each tunnel.
    pub(super) through: Vec<Vec<u8>>,
}

impl MockProxy {
    pub(super) async fn start(speaks: Speaks, does: Does, server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let one = Served { does, seen: Arc::clone(&seen), server, speaks };
        let serving = tokio::spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                tcp.set_nodelay(true).unwrap();
                one.seen.lock().unwrap().connections += 1;
                let one = one.clone();
                all.spawn(async move { one.run(tcp).await });
            }
        });
        Self { addr, seen, serving }
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for MockProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Clone)]
struct Served {
    does: Does,
    seen: Arc<Mutex<Seen>>,
    server: SocketAddr,
    speaks: Speaks,
}

impl Served {
    async fn run(self, mut tcp: TcpStream) -> Option<()> {
        match self.speaks {
            Speaks::Http => self.connect(&mut tcp).await?,
            Speaks::Socks => self.socks(&mut tcp).await?,
        }
        let mut server = TcpStream::connect(self.server).await.ok()?;
        let mut first = vec![0; 4096];
        let len = tcp.read(&mut first).await.ok()?;
        first.truncate(len);
        server.write_all(&first).await.ok()?;
        self.seen.lock().unwrap().through.push(first);
        copy_bidirectional(&mut tcp, &mut server).await.ok()?;
        Some(())
    }

    /// HTTP's CONNECT.
    async fn connect(&self, tcp: &mut TcpStream) -> Option<()> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(char::from(tcp.read_u8().await.ok()?));
        }
        let target = head.strip_prefix("CONNECT ")?.split(' ').next()?;
        assert!(head.contains(&format!("\r\nHost: {target}\r\n")), "{head}");
        self.asked(target.to_owned());
        self.misbehave(tcp).await?;
        if let Does::Wants(user, password) = self.does {
            let value = data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes());
            if !head.contains(&format!("\r\nProxy-Authorization: Basic {value}\r\n")) {
                let refusal =
                    "HTTP/1.1 407 Canary\r\nProxy-Authenticate: Basic realm=canary\r\n\r\n";
                say(tcp, refusal.as_bytes()).await;
                return None;
            }
        }
        say(tcp, b"HTTP/1.1 200 Connection established\r\nVia: mock\r\n\r\n").await;
        Some(())
    }

    async fn socks(&self, tcp: &mut TcpStream) -> Option<()> {
        let [_, count] = hear(tcp).await?;
        let mut methods = vec![0; usize::from(count)];
        tcp.read_exact(&mut methods).await.ok()?;
        self.misbehave(tcp).await?;
        if let Does::Wants(user, password) = self.does {
            if !methods.contains(&2) {
                say(tcp, b"\x05\xff").await;
                return None;
            }
            say(tcp, b"\x05\x02").await;
            let [_, len] = hear(tcp).await?;
            let given = (text(tcp, len).await?, tcp.read_u8().await.ok()?);
            let given = (given.0, text(tcp, given.1).await?);
            let right = given == (user.to_owned(), password.to_owned());
            say(tcp, &[1, u8::from(!right)]).await;
            right.then_some(())?;
        } else {
            say(tcp, b"\x05\x00").await;
        }
        let [_, _, _, kind] = hear(tcp).await?;
        let host = match kind {
            1 => std::net::Ipv4Addr::from(hear::<4>(tcp).await?).to_string(),
            4 => format!("[{}]", std::net::Ipv6Addr::from(hear::<16>(tcp).await?)),
            _ => {
                let len = tcp.read_u8().await.ok()?;
                text(tcp, len).await?
            }
        };
        let port = u16::from_be_bytes(hear(tcp).await?);
        self.asked(format!("{host}:{port}"));
        say(tcp, b"\x05\x00\x00\x03\x04mock\x00\x01").await;
        Some(())
    }

    fn asked(&self, target: String) {
        self.seen.lock().unwrap().targets.push(target);
    }

    /// `None` where nothing follows.
    async fn misbehave(&self, tcp: &mut TcpStream) -> Option<()> {
        match &self.does {
            Does::Serves | Does::Wants(..) => Some(()),
            Does::Says(bytes) => {
                let _ = tcp.write_all(bytes).await;
                let _ = tcp.shutdown().await;
                // Until the client has gone: an RST would overtake what was said.
                let _ = tokio::io::copy(tcp, &mut tokio::io::sink()).await;
                None
            }
            Does::Hangs => {
                let _ = tokio::io::copy(tcp, &mut tokio::io::sink()).await;
                None
            }
            Does::Drips(bytes, pause) => {
                for byte in bytes {
                    tokio::time::sleep(*pause).await;
                    tcp.write_all(&[*byte]).await.ok()?;
                }
                None
            }
        }
    }
}

/// Byte by byte, each in a segment of its own.
async fn say(tcp: &mut TcpStream, bytes: &[u8]) {
    for byte in bytes {
        let _ = tcp.write_all(&[*byte]).await;
        tokio::task::yield_now().await;
    }
}

async fn hear<const N: usize>(tcp: &mut TcpStream) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    tcp.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}

async fn text(tcp: &mut TcpStream, len: u8) -> Option<String> {
    let mut bytes = vec![0; usize::from(len)];
    tcp.read_exact(&mut bytes).await.ok()?;
    String::from_utf8(bytes).ok()
}
