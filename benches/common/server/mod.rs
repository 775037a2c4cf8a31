//! The other end of every benchmark: a raw writer of frames that were encoded beforehand, in a
//! process of its own, so that the CPU time of the benchmark is the client's alone.
//!
//! The process is the benchmark's own binary, told by its environment to be the server. It says its
//! ports and its certificate on standard output, takes orders on standard input, and ends when that
//! ends: with its parent, whatever befell that one.

mod connection;
mod crowd;
mod feed;
mod frames;
mod tls;

use std::env;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{self, Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use data_encoding::HEXLOWER;

use self::crowd::Crowd;
pub(crate) use self::feed::Feed;
#[allow(unused_imports, reason = "each benchmark uses a part of it")]
pub(crate) use self::frames::{Trade, sent_at, symbol};
use super::cpus;

const IS_SERVER: &str = "WSMUX_BENCH_SERVER";

/// Handshakes at once, with and without TLS each.
const ACCEPTORS: usize = 32;

/// The server's process. Dropping it ends it.
pub(crate) struct Server {
    child: Child,
    orders: Option<ChildStdin>,
    port: u16,
    replies: Mutex<BufReader<ChildStdout>>,
    root: Vec<u8>,
    tls_port: u16,
}

impl Server {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .env(IS_SERVER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut replies = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        replies.read_line(&mut line).unwrap();
        let mut words = line.split_whitespace();
        let mut word = || words.next().expect("the server says where it is");
        Self {
            port: word().parse().unwrap(),
            tls_port: word().parse().unwrap(),
            root: HEXLOWER.decode(word().as_bytes()).unwrap(),
            orders: child.stdin.take(),
            replies: Mutex::new(replies),
            child,
        }
    }

    pub(crate) fn address(&self) -> (&'static str, u16) {
        ("127.0.0.1", self.port)
    }

    pub(crate) fn tls_address(&self) -> (&'static str, u16) {
        ("127.0.0.1", self.tls_port)
    }

    /// The URL that streams of `feed` are under.
    pub(crate) fn base(&self, feed: Feed) -> String {
        format!("ws://127.0.0.1:{}/{feed}", self.port)
    }

    /// The same over TLS.
    pub(crate) fn tls_base(&self, feed: Feed) -> String {
        format!("wss://127.0.0.1:{}/{feed}", self.tls_port)
    }

    /// The certificate to be trusted.
    pub(crate) fn root(&self) -> &[u8] {
        &self.root
    }

    /// Waits until exactly `count` sockets are in the crowd.
    pub(crate) fn until_crowd(&self, count: usize) {
        self.order(&format!("until {count}"));
    }

    /// Has `count` messages sent to the sockets of the crowd, one at a time and `hertz` a second in
    /// all, in an order that no cache likes; as many to each if `count` is a multiple of their number.
    pub(crate) fn pump(&self, hertz: u64, count: u64) {
        self.order(&format!("pump {hertz} {count}"));
    }

    /// Cuts the sockets of the crowd off, all at once.
    pub(crate) fn cut_crowd(&self) {
        self.order("cut");
    }

    /// Returns when the server has begun to do it.
    fn order(&self, order: &str) {
        writeln!(self.orders.as_ref().unwrap(), "{order}").unwrap();
        self.replies.lock().unwrap().read_line(&mut String::new()).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

/// Becomes the server, if this process was started to be it.
pub(crate) fn serve_if_asked() {
    if env::var_os(IS_SERVER).is_none() {
        return;
    }
    cpus::pin_server();
    let (certificate, config) = tls::server_config();
    let crowd = Arc::new(Crowd::default());
    let ports = [None, Some(config)].map(|tls| {
        let listener = Arc::new(TcpListener::bind(("127.0.0.1", 0)).unwrap());
        for _ in 0..ACCEPTORS {
            let (listener, tls, crowd) = (Arc::clone(&listener), tls.clone(), Arc::clone(&crowd));
            thread::spawn(move || {
                for tcp in listener.incoming() {
                    // A client that leaves in midst of a handshake is no reason to end.
                    let _ = tcp.and_then(|tcp| connection::serve(tcp, tls.as_ref(), &crowd));
                }
            });
        }
        listener.local_addr().unwrap().port()
    });
    println!("{} {} {}", ports[0], ports[1], HEXLOWER.encode(&certificate));
    let keeper = Arc::clone(&crowd);
    thread::spawn(move || keeper.keep());
    for order in io::stdin().lines() {
        obey(&order.unwrap(), &crowd);
    }
    process::exit(0);
}

fn obey(order: &str, crowd: &Arc<Crowd>) {
    let mut words = order.split(' ');
    let what = words.next();
    let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    match what {
        Some("until") => {
            crowd.until(number());
            println!("done");
        }
        Some("cut") => {
            println!("begun");
            crowd.cut();
        }
        Some("pump") => {
            let (hertz, count, crowd) = (number(), number(), Arc::clone(crowd));
            println!("begun");
            thread::spawn(move || crowd.pump(hertz as u64, count as u64));
        }
        _ => println!("unknown"),
    }
}
