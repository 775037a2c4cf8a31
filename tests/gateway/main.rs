//! The gateway over real sockets on the loopback, with clients made by hand and this crate's own.
//! Upstream is in memory.
//!
//! Time is real: everything waits for events, within [`soon`]. But where no socket is, it is paused.

mod accounts;
#[path = "../it/asker.rs"]
mod asker;
mod autobahn;
mod batch;
mod client;
mod doors;
mod enemy;
mod http;
mod places;
mod raw;
mod schema;
mod slow;
mod sse;
mod words;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wsmux::gateway::{Gateway, GatewayBuilder, GatewayConfig};
use wsmux::protocol::Direct;
use wsmux::test_util::memory::{self, MemoryServer, Peer};
use wsmux::{FirstRetry, Limiter, RetryPolicy, WsManager};

use client::Client;

/// What never takes that long.
const LONGEST: Duration = Duration::from_secs(20);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(LONGEST, what).await.expect("it comes soon")
}

/// A gateway that is served on a port, and what is upstream of it.
struct Stage {
    addr: SocketAddr,
    gateway: Gateway,
    server: JoinHandle<()>,
    upstream: MemoryServer,
}

impl Stage {
    async fn new() -> Self {
        Self::with(GatewayConfig::default()).await
    }

    async fn with(config: GatewayConfig) -> Self {
        Self::built(|builder| builder.config(config.shards(2))).await
    }

    async fn built(build: impl FnOnce(GatewayBuilder) -> GatewayBuilder) -> Self {
        let (transport, upstream) = memory::pair();
        let mut retry = RetryPolicy::forever();
        retry.first = FirstRetry::Immediate;
        retry.reset_after = Duration::ZERO;
        retry.min_delay = Duration::from_millis(1);
        retry.base_delay = Duration::from_millis(1);
        let manager = WsManager::builder(Direct::new("ws://upstream/{name}").unwrap())
            .config(wsmux::Config::default().retry(retry))
            .limiter(Limiter::new())
            .transport(transport)
            .build()
            .unwrap();
        let gateway = build(Gateway::builder(manager)).build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let service = gateway.router().into_make_service_with_connect_info::<SocketAddr>();
        let server = tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self { addr, gateway, server, upstream }
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// A client of `/ws`.
    async fn client(&self) -> Client {
        Client::open(self.tcp().await, "/ws").await.expect("it is let in")
    }

    /// The next socket upstream.
    async fn peer(&mut self) -> Peer {
        soon(self.upstream.accept()).await
    }

    /// Waits until so many clients were told to go.
    async fn until_cut_off(&self, count: u64) {
        soon(async {
            while self.gateway.stats().cut_off != count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits until so many clients are connected.
    async fn until_clients(&self, count: usize) {
        soon(async {
            while self.gateway.stats().clients != count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.server.abort();
    }
}
