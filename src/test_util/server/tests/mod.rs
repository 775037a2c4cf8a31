//! The server against a plain client, over real sockets.

mod answers;
mod faults;
mod sockets;
mod tls;

use std::future::Future;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message as Wire};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::MockServer;

type Client = WebSocketStream<TcpStream>;

async fn dial(server: &MockServer, target: &str) -> Result<Client, Error> {
    let tcp = TcpStream::connect(server.addr()).await?;
    client_async(server.url() + target, tcp).await.map(|(client, _)| client)
}

async fn connect(server: &MockServer, target: &str) -> Client {
    within(dial(server, target)).await.unwrap()
}

/// What never comes fails a test, instead of stopping it.
async fn within<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("it never came")
}

async fn next(client: &mut Client) -> Option<Result<Wire, Error>> {
    within(client.next()).await
}

async fn text(client: &mut Client) -> String {
    next(client).await.unwrap().unwrap().into_text().unwrap().to_string()
}
