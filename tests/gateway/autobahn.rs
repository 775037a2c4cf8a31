//! The server that Autobahn's fuzzing client examines. `scripts/autobahn` starts it, and reads the report.

use std::env;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use wsmux::gateway::{Gateway, GatewayConfig};
use wsmux::{Text, WsManager};

use crate::client::{Client, TEXT};
use crate::{Stage, soon};

/// Where to serve.
const ADDR: &str = "WSMUX_AUTOBAHN_SERVE";

/// The largest cases are of 16 MiB.
fn config() -> GatewayConfig {
    GatewayConfig::default().max_message(64 << 20).queue_bytes(256 << 20)
}

/// Serves until it is killed, if it is asked to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn autobahn_examines_the_gateway() {
    let Ok(addr) = env::var(ADDR) else { return };
    let gateway =
        Gateway::builder(WsManager::connect("ws://127.0.0.1:1").unwrap()).config(config()).build();
    let listener = TcpListener::bind(&addr).await.unwrap();
    let router = gateway.echo_router();
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_examined_echoes() {
    let stage = Stage::with(config()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let router = stage.gateway.echo_router();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let socket = tokio::net::TcpStream::connect(addr).await.unwrap();
    let mut client = Client::open(socket, "/echo").await.unwrap_or_else(|_| panic!());
    client.send(TEXT, b"back").await;
    assert_eq!(client.message().await, Some((TEXT, b"back".to_vec())));
    // The crate's own client agrees.
    let manager = WsManager::connect(&format!("ws://{addr}")).unwrap();
    let mut reader = manager.subscribe::<Text>("echo").unwrap();
    soon(reader.ready()).await.unwrap();
    soon(manager.send("echo", "there")).await.unwrap();
    assert_eq!(&*soon(reader.recv()).await.unwrap().unwrap(), "there");
    server.abort();
}
