//! Thousands of clients in one thread, which count what comes and look at its stamp.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::rc::Rc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio::time::{Instant, interval, timeout};

use crate::Server;

/// Length of a message: a trade of Binance's.
const MESSAGE: usize = 174;
const MARK: &[u8] = br#"{"t":""#;
const STAMP: usize = 20;
const LOW: Duration = Duration::from_secs(1);
/// How long a size of burst is tried, at least.
const SATURATED: Duration = Duration::from_millis(500);
/// How many messages come at once, at least and at most. More than the most do not fit into the buffers
/// of all sockets.
const BURSTS: [u64; 2] = [32, 256];
/// By which part a larger burst has to cost less, or it is not what the server is short of.
const WORTH: f64 = 0.95;
/// One in so many messages has its stamp looked at, where bursts come.
const SAMPLE: u64 = 16;
/// A second is that many of the ticks in which the kernel counts CPU time.
const TICKS: f64 = 100.0;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Gateway,
    Nats,
    Node,
    /// Many names on one socket, of which one is read: `/ws` of the gateway.
    Words,
}

#[derive(Debug)]
pub(crate) struct Figures {
    /// CPU time per delivery, in microseconds.
    pub(crate) low_us: f64,
    pub(crate) p99: Duration,
    pub(crate) saturated: Saturated,
}

/// A server that always has something to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saturated {
    pub(crate) p99: Duration,
    /// Deliveries per second.
    pub(crate) rate: f64,
    /// CPU time per delivery, in microseconds.
    pub(crate) us: f64,
}

impl Figures {
    /// How long the writes of one round take, in seconds.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub(crate) fn round(&self, clients: usize) -> f64 {
        self.low_us * clients as f64 / 1e6
    }
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap_or_default()
}

/// The API key of a client.
pub(crate) fn key(client: usize) -> String {
    format!("{client:032}")
}

/// A message with the time in it.
pub(crate) fn payload() -> String {
    format!(r#"{{"t":"{:020}","x":"{}"}}"#, now(), "x".repeat(MESSAGE - 35))
}

struct Seen {
    arrived: Notify,
    count: Cell<u64>,
    expected: Cell<u64>,
    latencies: RefCell<Vec<u64>>,
    /// One in so many messages has its stamp looked at.
    sample: Cell<u64>,
}

impl Seen {
    fn new() -> Self {
        Self {
            arrived: Notify::new(),
            count: Cell::new(0),
            expected: Cell::new(0),
            latencies: RefCell::default(),
            sample: Cell::new(1),
        }
    }

    /// Counts a message.
    fn message(&self, message: &[u8]) {
        let count = self.count.get();
        self.count.set(count + 1);
        if count % self.sample.get() == 0 {
            let stamp = std::str::from_utf8(&message[MARK.len()..MARK.len() + STAMP]).unwrap();
            let sent: u64 = stamp.parse().unwrap();
            self.latencies.borrow_mut().push(now().saturating_sub(sent));
        }
    }

    /// The latency of 99 of 100 messages since this was asked.
    fn p99(&self) -> Duration {
        let mut latencies = std::mem::take(&mut *self.latencies.borrow_mut());
        latencies.sort_unstable();
        Duration::from_nanos(latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default())
    }
}

pub(crate) struct Crowd {
    /// How many messages come at once where the server is saturated; `None` before it is known.
    burst: Option<u64>,
    clients: u64,
    /// Resident memory per client, beside the kernel's.
    pub(crate) idle_kb: f64,
    local: LocalSet,
    /// For nats-server, which is published to.
    publisher: Option<TcpStream>,
    seen: Rc<Seen>,
    /// Clients that never read.
    _stuck: Vec<TcpStream>,
}

impl Crowd {
    pub(crate) async fn gather(count: usize, kind: Kind, server: &Server) -> Self {
        Self::gather_with(count, 0, kind, server).await
    }

    /// Of so many clients, so many never read: they are spread among the others.
    pub(crate) async fn gather_with(
        count: usize,
        stuck: usize,
        kind: Kind,
        server: &Server,
    ) -> Self {
        let (local, seen) = (LocalSet::new(), Rc::new(Seen::new()));
        let before = resident_kb(server);
        let mut sockets = Vec::with_capacity(count);
        let mut never = Vec::new();
        let each = count.checked_div(stuck).unwrap_or(usize::MAX);
        for client in 0..count {
            let is_stuck = client % each == each - 1 && never.len() < stuck;
            let socket = open(kind, server.1, client, is_stuck).await;
            if is_stuck { &mut never } else { &mut sockets }.push(socket);
        }
        let reading = sockets.len() as u64;
        tokio::time::sleep(Duration::from_secs(1)).await;
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let idle_kb = (resident_kb(server) - before) / count as f64;
        for socket in sockets {
            local.spawn_local(read(socket, Rc::clone(&seen)));
        }
        let publisher = if kind == Kind::Nats {
            let mut socket = TcpStream::connect("127.0.0.1:24222").await.unwrap();
            socket.write_all(b"CONNECT {\"verbose\":false}\r\n").await.unwrap();
            Some(socket)
        } else {
            None
        };
        Self { burst: None, clients: reading, idle_kb, local, publisher, seen, _stuck: never }
    }

    pub(crate) async fn measure(&mut self, server: &mut Server) -> Figures {
        // What is made at first is not what is measured.
        for _ in 0..3 {
            self.publish_and_wait(server, 1).await;
        }
        let (low, p99) = self.low(server, LOW).await;
        let saturated = match self.burst {
            Some(burst) => self.bursts(server, burst).await,
            None => self.saturate(server).await,
        };
        Figures { low_us: low, p99, saturated }
    }

    /// 20 messages a second for so long: CPU time per delivery in microseconds, and the p99.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub(crate) async fn low(&mut self, server: &mut Server, long: Duration) -> (f64, Duration) {
        self.seen.latencies.borrow_mut().clear();
        self.seen.sample.set(1);
        let (cpu, begun, before) = (cpu(server), Instant::now(), self.seen.count.get());
        let mut ticks = interval(Duration::from_millis(50));
        while begun.elapsed() < long {
            self.local.run_until(ticks.tick()).await;
            self.publish_and_wait(server, 1).await;
        }
        let us = (self::cpu(server) - cpu) * 1e6 / (self.seen.count.get() - before) as f64;
        (us, self.seen.p99())
    }

    pub(crate) fn burst(&self) -> u64 {
        self.burst.unwrap_or_default()
    }

    /// Has bursts grow for as long as that makes a delivery cheaper: the server is to be what limits the
    /// rate, not the burst. One that writes each message by itself gains nothing by it.
    async fn saturate(&mut self, server: &mut Server) -> Saturated {
        let [mut burst, most] = BURSTS;
        let mut best = self.bursts(server, burst).await;
        self.burst = Some(burst);
        while burst < most {
            burst *= 2;
            let next = self.bursts(server, burst).await;
            if next.us > best.us * WORTH {
                break;
            }
            best = next;
            self.burst = Some(burst);
        }
        best
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    async fn bursts(&mut self, server: &mut Server, burst: u64) -> Saturated {
        self.seen.sample.set(SAMPLE);
        let (cpu, begun, before) = (cpu(server), Instant::now(), self.seen.count.get());
        while begun.elapsed() < SATURATED {
            self.publish_and_wait(server, burst).await;
        }
        let deliveries = (self.seen.count.get() - before) as f64;
        Saturated {
            p99: self.seen.p99(),
            rate: deliveries / begun.elapsed().as_secs_f64(),
            us: (self::cpu(server) - cpu) * 1e6 / deliveries,
        }
    }

    /// Publishes, and waits until all clients have all of it.
    pub(crate) async fn publish_and_wait(&mut self, server: &mut Server, messages: u64) {
        let seen = Rc::clone(&self.seen);
        seen.expected.set(seen.count.get() + messages * self.clients);
        match &mut self.publisher {
            None => {
                let input = server.0.stdin.as_mut().unwrap();
                writeln!(input, "{messages}").unwrap();
            }
            Some(socket) => {
                let mut text = String::new();
                for _ in 0..messages {
                    text += &format!("PUB feed {MESSAGE}\r\n{}\r\n", payload());
                }
                socket.write_all(text.as_bytes()).await.unwrap();
            }
        }
        let all = async {
            while seen.count.get() < seen.expected.get() {
                seen.arrived.notified().await;
            }
        };
        let all = timeout(Duration::from_secs(30), self.local.run_until(all)).await;
        let (count, expected) = (self.seen.count.get(), self.seen.expected.get());
        all.unwrap_or_else(|_| panic!("{count} of {expected} came"));
    }
}

async fn open(kind: Kind, port: u16, client: usize, is_stuck: bool) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    if is_stuck {
        // What the kernel keeps for it is not what is measured.
        socket.set_recv_buffer_size(4096).unwrap();
    }
    let mut socket = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
    // Everybody is somebody there: what a gateway keeps of a user is part of what a client costs.
    let (path, auth) = match kind {
        Kind::Gateway => ("/ws/feed", format!("Authorization: Bearer {}\r\n", key(client))),
        Kind::Words => ("/ws", format!("Authorization: Bearer {}\r\n", key(client))),
        Kind::Nats | Kind::Node => ("/", String::new()),
    };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: bench\r\n{auth}Connection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut end = [0; 4];
    while end != *b"\r\n\r\n" {
        end.rotate_left(1);
        socket.read_exact(&mut end[3..]).await.unwrap();
    }
    match kind {
        Kind::Nats => {
            let words = b"CONNECT {\"verbose\":false}\r\nSUB feed 1\r\nPING\r\n";
            socket.write_all(&frame(0x82, words)).await.unwrap();
        }
        Kind::Words => {
            let words = br#"{"type":"subscribe","names":["feed"]}"#;
            socket.write_all(&frame(0x81, words)).await.unwrap();
            // It has joined when that is acknowledged.
            let mut ack = Vec::new();
            while !ack.ends_with(b"]}") {
                ack.push(socket.read_u8().await.unwrap());
            }
        }
        Kind::Gateway | Kind::Node => {}
    }
    socket
}

/// A short frame of a client.
fn frame(first: u8, words: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | u8::try_from(words.len()).unwrap(), 0, 0, 0, 0];
    frame.extend_from_slice(words);
    frame
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 256 << 10]);
}

async fn read(socket: TcpStream, seen: Rc<Seen>) {
    // The beginning of a message whose rest has yet to come.
    let mut kept = Vec::new();
    while socket.readable().await.is_ok() {
        let is_open = BUFFER.with_borrow_mut(|buffer| {
            buffer[..kept.len()].copy_from_slice(&kept);
            match socket.try_read(&mut buffer[kept.len()..]) {
                Ok(0) => false,
                Ok(read) => {
                    let len = kept.len() + read;
                    let used = count(&buffer[..len], &seen);
                    kept.clear();
                    kept.extend_from_slice(&buffer[used..len]);
                    true
                }
                Err(e) => e.kind() == std::io::ErrorKind::WouldBlock,
            }
        });
        if !is_open {
            return;
        }
        if seen.count.get() >= seen.expected.get() {
            seen.arrived.notify_one();
        }
    }
}

/// Counts the messages in what came. Returns how much of it has been read.
fn count(bytes: &[u8], seen: &Seen) -> usize {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let Some(mark) = rest.windows(MARK.len()).position(|window| window == MARK) else {
            return at + rest.len().saturating_sub(MARK.len() - 1);
        };
        let Some(message) = rest.get(mark..mark + MESSAGE) else { return at + mark };
        seen.message(message);
        at += mark + MESSAGE;
    }
}

/// CPU time of the server so far, in seconds.
fn cpu(server: &Server) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.0.id())).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    let ticks = |at| fields.split_whitespace().nth(at).and_then(|field| field.parse::<f64>().ok());
    (ticks(11).unwrap() + ticks(12).unwrap()) / TICKS
}

pub(crate) fn resident_kb(server: &Server) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.0.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
