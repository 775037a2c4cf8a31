//! A WebSocket server whose every move, right or wrong, is scripted.

mod answer;
mod builder;
mod conn;
mod dial;
mod garbage;
mod inbound;
mod io;
mod outbound;
mod outgoing;
mod peer;
mod port;
mod registry;
mod tasks;
#[cfg(test)]
mod tests;
mod tls;
mod watched;
mod wire;
mod work;

use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::join_all;

use crate::message::Message;

use conn::Ending;
use dial::Shared;
use port::Port;

pub use answer::Answer;
pub use builder::MockServerBuilder;
pub use garbage::Garbage;
pub use peer::Peer;
pub(crate) use tasks::{Lifetime, Tasks};
pub use tls::Certificate;
pub(crate) use watched::Watched;
pub(crate) use wire::Encoded;

/// A server on a port of 127.0.0.1, for tests.
///
/// By default it accepts every dial, and holds each socket until told otherwise. Its sockets,
/// handlers and port end when it is dropped.
///
/// All waiting is for events: none of it sleeps, or gives up. Give your test a time limit.
#[derive(Debug)]
pub struct MockServer {
    shared: Arc<Shared>,
    port: Port,
    root_pem: Option<String>,
    _lifetime: Lifetime,
}

impl MockServer {
    /// A server for `ws://` that accepts everything.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub async fn start() -> std::io::Result<Self> {
        Self::builder().start().await
    }

    /// A server made to measure.
    pub fn builder() -> MockServerBuilder {
        MockServerBuilder::default()
    }

    /// Where to dial, without a path: `ws://127.0.0.1:port`, or `wss://localhost:port`.
    #[must_use]
    pub fn url(&self) -> String {
        match self.root_pem {
            None => format!("ws://{}", self.addr()),
            Some(_) => format!("wss://localhost:{}", self.addr().port()),
        }
    }

    /// The server's address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.port.addr
    }

    /// The certificate to trust, in PEM. Empty without TLS.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        self.root_pem.as_deref().unwrap_or_default()
    }

    /// The next socket that no route took, in order of opening. Up to 65,536 wait.
    pub async fn accept(&self) -> Peer {
        Peer(self.shared.registry.accept().await)
    }

    /// Answers the next dials in these ways, whatever their paths. Later ones are answered by path.
    pub fn next_dials(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.script.change(|script| script.next.extend(answers));
    }

    /// Answers all further dials of `path` in this way. See [`MockServerBuilder`] for paths.
    pub fn set_answer(&self, path: impl Into<String>, answer: Answer) {
        self.shared.script.change(|script| script.answers.insert(path.into(), answer));
    }

    /// Sends a message to all sockets on `path`, and tells how many took it. Waits for each.
    pub async fn push(&self, path: &str, message: impl Into<Message>) -> usize {
        self.send_to(Some(path), message.into()).await
    }

    /// Sends a message to all sockets, and tells how many took it. Waits for each.
    pub async fn broadcast(&self, message: impl Into<Message>) -> usize {
        self.send_to(None, message.into()).await
    }

    /// The open sockets, in order of opening.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        self.shared.registry.on(None).into_iter().map(Peer).collect()
    }

    /// The open sockets on `path`, in order of opening.
    #[must_use]
    pub fn peers_on(&self, path: &str) -> Vec<Peer> {
        self.shared.registry.on(Some(path)).into_iter().map(Peer).collect()
    }

    /// Number of open sockets. A socket is open from the handshake until either side has ended the
    /// TCP connection.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.shared.registry.sockets()
    }

    /// Number of open sockets on `path` (without a query, percent-decoded).
    #[must_use]
    pub fn sockets_on(&self, path: &str) -> usize {
        self.shared.registry.sockets_on(path)
    }

    /// The most sockets that were ever open on `path` at once.
    #[must_use]
    pub fn max_sockets_on(&self, path: &str) -> usize {
        self.shared.registry.max_sockets_on(path)
    }

    /// Number of TCP connections so far.
    #[must_use]
    pub fn dials(&self) -> usize {
        self.shared.registry.dials()
    }

    /// Path and query of each request so far, as sent. The last 65,536 are kept.
    #[must_use]
    pub fn dialled(&self) -> Vec<String> {
        self.shared.registry.targets()
    }

    /// Waits until exactly `count` sockets are open.
    pub async fn until_sockets(&self, count: usize) {
        self.shared.registry.until_sockets(None, count).await;
    }

    /// Waits until exactly `count` sockets are open on `path`.
    pub async fn until_sockets_on(&self, path: &str, count: usize) {
        self.shared.registry.until_sockets(Some(path), count).await;
    }

    /// Waits until there were at least `count` TCP connections.
    pub async fn until_dials(&self, count: usize) {
        self.shared.registry.until_dials(count).await;
    }

    /// Ends every socket at once, without a close frame.
    pub fn drop_all(&self) {
        for conn in self.shared.registry.on(None) {
            conn.end(Ending::Fin);
        }
    }

    /// Begins to close every socket. One whose client does not read, so that its queue is full, is
    /// dropped.
    pub fn close_all(&self, code: u16, reason: &str) {
        for conn in self.shared.registry.on(None) {
            if !conn.try_write(Encoded::close(Some((code, reason))), false) {
                conn.end(Ending::Fin);
            }
        }
    }

    /// Has further dials refused. Open sockets stay.
    pub async fn stop_listening(&self) {
        self.port.stop().await;
    }

    /// Listens again, on the same port.
    ///
    /// # Errors
    ///
    /// When the port is lost, which happens only where the system does not let us hold it.
    pub async fn resume(&self) -> std::io::Result<()> {
        self.port.resume().await
    }

    async fn send_to(&self, path: Option<&str>, message: Message) -> usize {
        let frames = Encoded::messages([&message]);
        let conns = self.shared.registry.on(path);
        let writes = conns.iter().map(|conn| conn.write(frames.clone(), false, |_| ()));
        join_all(writes).await.into_iter().sum()
    }
}
