//! The gateway, as a process of its own: publishes as many messages as it is told to on its input.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use wsmux::WsManager;
use wsmux::gateway::auth::{ApiKeys, Auth};
use wsmux::gateway::{Entrance, Gateway, GatewayConfig};

use crate::maker::{key, payload};

/// How many may come at most.
const CLIENTS: usize = 100_000;

pub(crate) fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let manager = WsManager::connect("ws://127.0.0.1:1").unwrap();
        // Nobody answers pings, and what waits while a burst is read is not what is measured.
        let config = GatewayConfig::default()
            .shards(1)
            .ping_interval(Duration::from_secs(3600))
            .queue_bytes(64 << 20);
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
            for _ in 0..line.parse().unwrap_or(0) {
                feed.publish(payload());
            }
        }
    });
}
