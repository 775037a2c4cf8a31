//! The side without this crate: tokio-tungstenite sockets as its documentation opens them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures::stream::{self, StreamExt as _};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, NamedGroup, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::server::{Feed, Server};

/// Handshakes at once: what our default limiter allows.
pub(crate) const HANDSHAKES: usize = 16;

/// Where to connect.
#[derive(Clone)]
pub(crate) struct Bare {
    address: (&'static str, u16),
    config: WebSocketConfig,
    tls: Arc<ClientConfig>,
    tls_address: (&'static str, u16),
    url: String,
}

impl Bare {
    pub(crate) fn new(server: &Server, feed: Feed) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(server.root().to_vec())).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.resumption = Resumption::disabled();
        Self {
            address: server.address(),
            config: WebSocketConfig::default(),
            tls: Arc::new(tls),
            tls_address: server.tls_address(),
            url: format!("{}/feed", server.base(feed)),
        }
    }

    /// The same, which keeps as many tickets as ours: else theirs would look smaller by what lets us
    /// come back without a full handshake.
    pub(crate) fn keep_tickets(mut self, tickets: usize) -> Self {
        let store = Tickets { kept: Mutex::default(), most: tickets };
        let mut tls = ClientConfig::clone(&self.tls);
        tls.resumption = Resumption::store(Arc::new(store));
        self.tls = Arc::new(tls);
        self
    }

    /// The same with a buffer of another size.
    pub(crate) fn read_buffer(mut self, bytes: usize) -> Self {
        self.config = self.config.read_buffer_size(bytes);
        self
    }

    pub(crate) async fn connect(&self) -> WebSocketStream<TcpStream> {
        self.upgrade(self.tcp().await).await
    }

    pub(crate) async fn connect_tls(&self) -> WebSocketStream<TlsStream<TcpStream>> {
        self.upgrade(self.tls().await).await
    }

    /// `count` sockets.
    pub(crate) async fn connect_many(&self, count: usize) -> Vec<WebSocketStream<TcpStream>> {
        stream::iter(0..count).map(|_| self.connect()).buffer_unordered(HANDSHAKES).collect().await
    }

    /// A stream whose handshake is made by hand, so that nothing is held but the stream itself.
    pub(crate) async fn by_hand<S>(&self, stream: impl Future<Output = S>) -> S
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = stream.await;
        let (_, target) = self.url.split_once(&format!(":{}", self.address.1)).unwrap();
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut end = [0; 4];
        while end != *b"\r\n\r\n" {
            end.rotate_left(1);
            stream.read_exact(&mut end[3..]).await.unwrap();
        }
        stream
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        let tcp = TcpStream::connect(self.address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp
    }

    /// A full handshake: no session is resumed.
    pub(crate) async fn tls(&self) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.tls_address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from(self.tls_address.0).unwrap();
        TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await.unwrap()
    }

    async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> WebSocketStream<S> {
        let request = self.url.as_str().into_client_request().unwrap();
        client_async_with_config(request, stream, Some(self.config)).await.unwrap().0
    }
}

/// The latest tickets of one server, which are rustls's own values.
#[derive(Debug)]
struct Tickets {
    kept: Mutex<VecDeque<Tls13ClientSessionValue>>,
    most: usize,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut kept = self.kept.lock().unwrap();
        if kept.len() == self.most {
            kept.pop_front();
        }
        kept.push_back(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept.lock().unwrap().pop_back()
    }
}
