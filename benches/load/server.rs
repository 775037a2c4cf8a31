//! The gateway, as a process of its own: publishes as many messages as it is told to on its input.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use wsmux::WsManager;
use wsmux::gateway::auth::{ApiKeys, Auth};
use wsmux::gateway::{Entrance, Gateway, GatewayConfig};

use crate::maker::{key, payload};

/// How many may come at most.
const CLIENTS: usize = 100_000;
/// What waits for a client that does not read, in bytes: so little that it is full soon.
const QUEUE: usize = 64 << 10;

/// What becomes of clients that do not read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Slow {
    /// There are none: nothing is dropped.
    Never,
    /// They have a queue, which is full soon, and stay.
    Queued,
    /// Each is waited for a little. A gateway does not do that: see [`waits`].
    WaitedFor,
}

const NAMES: [(Slow, &str); 3] =
    [(Slow::Never, "never"), (Slow::Queued, "queued"), (Slow::WaitedFor, "waited for")];

impl Slow {
    pub(crate) fn name(self) -> &'static str {
        NAMES.iter().find(|(slow, _)| *slow == self).unwrap().1
    }

    pub(crate) fn named(name: &str) -> Self {
        NAMES.iter().find(|(_, own)| *own == name).unwrap().0
    }
}

pub(crate) fn serve(slow: Slow) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if slow == Slow::WaitedFor {
            return waits().await;
        }
        let manager = WsManager::connect("ws://127.0.0.1:1").unwrap();
        // Nobody answers pings, and what waits while a burst is read is not what is measured.
        let config = GatewayConfig::default()
            .shards(1)
            .ping_interval(Duration::from_secs(3600))
            .write_timeout(Duration::from_secs(3600))
            .queue_bytes(if slow == Slow::Queued { QUEUE } else { 64 << 20 });
        let mut keys = ApiKeys::new();
        for client in 0..CLIENTS {
            keys.add(&format!("user {client}"), &key(client)).unwrap();
        }
        let doors =
            Entrance::builder().auth(Auth::new().api_keys(keys)).per_address(CLIENTS).build();
        let gateway = Gateway::builder(manager).config(config).doors(doors).build();
        let feed = gateway.publisher("feed".try_into().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        let service = gateway.router().into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if line == "missed" {
                println!("{}", gateway.stats().missed);
            }
            for _ in 0..line.parse().unwrap_or(0) {
                feed.publish(payload());
            }
        }
    });
}

/// What a gateway is not: writes to one client after the other, and gives each that takes nothing 5 ms.
async fn waits() {
    const PATIENCE: Duration = Duration::from_millis(5);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    let (mut clients, mut missed) = (Vec::new(), 0);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let mut client = accepted.unwrap().0;
                until(&mut client, b"\r\n\r\n").await;
                client.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await.unwrap();
                until(&mut client, b"]}").await;
                client.write_all(b"\x81\x02]}").await.unwrap();
                clients.push(client);
            }
            line = lines.next_line() => {
                let Ok(Some(line)) = line else { return };
                if line == "missed" {
                    println!("{missed}");
                }
                for _ in 0..line.parse().unwrap_or(0) {
                    let frame = [&[0x81, 126, 0, 174], payload().as_bytes()].concat();
                    for client in &mut clients {
                        missed += u64::from(timeout(PATIENCE, client.write_all(&frame)).await.is_err());
                    }
                }
            }
        }
    }
}

async fn until(client: &mut TcpStream, end: &[u8]) {
    let mut came = Vec::new();
    while !came.ends_with(end) {
        came.push(client.read_u8().await.unwrap());
    }
}
