//! What the receive and the fan-out path execute: to be run under callgrind, which counts instructions.
//!
//! ```text
//! scripts/instructions
//! ```
//!
//! Arguments: `READERS BLOCKS`, and `slower` for one more copy per message, which the guard must notice.
//! Both ends are on one thread, and take turns: the server writes a block that fits one read, and waits
//! until all readers have it. So what is read at once does not depend on the machine's mood.

use std::env;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use wsmux::protocol::Direct;
use wsmux::{Message, Subscription, WsManager};

/// Messages that are written at once.
const BLOCK: usize = 32;
const BYTES: usize = 170;

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|n| n.parse::<u64>().ok());
    let (Some(readers), Some(blocks)) = (number(0), number(1)) else {
        println!("# instructions are counted by scripts/instructions");
        return;
    };
    let is_slower = arguments.iter().any(|argument| argument == "slower");
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure(readers, blocks, is_slower));
}

async fn measure(readers: u64, blocks: u64, is_slower: bool) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let base = format!("ws://{}/ws", listener.local_addr().unwrap());
    let manager = WsManager::builder(Direct::new(&base).unwrap()).seed(1).build().unwrap();
    let mut subscriptions: Vec<_> =
        (0..readers).map(|_| manager.subscribe::<Message>("feed").unwrap()).collect();
    let mut server = accept(&listener).await;
    subscriptions[0].ready().await.unwrap();
    let left = Arc::new((AtomicU64::new(0), Notify::new()));
    let tasks: JoinSet<_> = subscriptions
        .into_iter()
        .map(|messages| read(messages, blocks, Arc::clone(&left), is_slower))
        .collect();
    let block = frame().repeat(BLOCK);
    for _ in 0..blocks {
        left.0.store(readers, Relaxed);
        server.write_all(&block).await.unwrap();
        left.1.notified().await;
    }
    tasks.join_all().await;
}

async fn read(
    mut messages: Subscription<Message>,
    blocks: u64,
    left: Arc<(AtomicU64, Notify)>,
    is_slower: bool,
) {
    for _ in 0..blocks {
        for _ in 0..BLOCK {
            let message = black_box(messages.next().await.unwrap().unwrap());
            assert_eq!(message.len(), BYTES);
            if is_slower {
                black_box(message.as_bytes().to_vec());
            }
        }
        if left.0.fetch_sub(1, Relaxed) == 1 {
            left.1.notify_one();
        }
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let (mut tcp, _) = listener.accept().await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    });
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.unwrap().as_bytes())
    );
    tcp.write_all(answer.as_bytes()).await.unwrap();
    tcp
}

/// An unmasked text frame (RFC 6455 §5.2).
fn frame() -> Vec<u8> {
    let len = u8::try_from(BYTES).unwrap();
    let mut frame = vec![0x81, 126, 0, len];
    frame.extend(std::iter::repeat_n(b'a', BYTES));
    frame
}
