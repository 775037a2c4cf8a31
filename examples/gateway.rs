//! `cargo run --release --example gateway --features gateway,test-util`: a gateway before a mock exchange,
//! and two who read from it without this crate: a socket that reads events, and one that polls.
//! Needs no network. Open `curl -N http://127.0.0.1:PORT/sse/btcusdt` while it runs.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use wsmux::gateway::Gateway;
use wsmux::test_util::{MockServer, Peer};
use wsmux::{StreamName, WsManager};

/// Asks by HTTP, and returns what is read of the answer.
async fn get(addr: SocketAddr, path: &str) -> std::io::Result<BufReader<TcpStream>> {
    let mut socket = TcpStream::connect(addr).await?;
    socket.write_all(format!("GET {path} HTTP/1.0\r\nHost: here\r\n\r\n").as_bytes()).await?;
    Ok(BufReader::new(socket))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The venue: a price, a hundred times a second.
    let venue = MockServer::builder()
        .route("/ws/", |peer: Peer| async move {
            for price in 0.. {
                if !peer.send(format!(r#"{{"p":{price}}}"#)).await {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .start()
        .await?;

    let manager = WsManager::connect(&format!("{}/ws", venue.url()))?;
    let gateway = Gateway::builder(manager)
        .names(|name| StreamName::try_from(&*format!("{name}@trade")).ok())
        .build();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let service = gateway.router().into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    println!("http://{addr}/sse/btcusdt");

    let mut events = get(addr, "/sse/btcusdt").await?.lines();
    let mut prices = 0;
    while prices < 50 {
        let Some(line) = events.next_line().await? else { break };
        if line.starts_with(r#"data: {"p""#) {
            prices += 1;
        }
    }
    let mut snapshot = String::new();
    get(addr, "/snapshot/btcusdt").await?.read_to_string(&mut snapshot).await?;
    let latest = snapshot.lines().last().unwrap_or_default();
    println!("the latest is {latest}");

    gateway.drain(Duration::from_secs(1)).await;
    let sockets = venue.max_sockets_on("/ws/btcusdt@trade");
    println!("gateway: {prices} prices by events, a snapshot, {sockets} socket upstream");
    Ok(())
}
