//! How a server is made.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use futures::FutureExt as _;

use super::MockServer;
use super::answer::Answer;
use super::dial::{Script, Shared};
use super::peer::Peer;
use super::port::Port;
use super::registry::Registry;
use super::tasks::Lifetime;
use super::tls::{Certificate, Tls};
use super::watched::Watched;

/// Makes a [`MockServer`].
///
/// A path is exact, or ends in `/` and holds all beneath it; the longest that fits wins.
#[derive(Default)]
#[must_use]
pub struct MockServerBuilder {
    script: Script,
    certificate: Option<Certificate>,
    listen: Option<SocketAddr>,
}

impl MockServerBuilder {
    /// Listens here instead of on a free port of 127.0.0.1. Port 0 is a free one.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// Answers dials by their number, from 1 on, whatever their paths; those for which it is `None`
    /// are answered as otherwise. What a test [says of the next ones](MockServer::next_dials) goes
    /// before.
    pub fn dials(
        mut self,
        answer: impl Fn(usize) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        self.script.by_number = Some(Arc::new(answer));
        self
    }

    /// Serves `wss://`.
    pub fn tls(mut self, certificate: Certificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Runs `handler` for each socket on `path`. Other sockets wait for
    /// [`MockServer::accept`].
    pub fn route<F, Fut>(mut self, path: impl Into<String>, handler: F) -> Self
    where
        F: Fn(Peer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let handler = Arc::new(move |peer| handler(peer).boxed());
        self.script.handlers.insert(path.into(), handler);
        self
    }

    /// Answers all dials of `path` in this way.
    pub fn answer(mut self, path: impl Into<String>, answer: Answer) -> Self {
        self.script.answers.insert(path.into(), answer);
        self
    }

    /// Starts the server, on a free port of 127.0.0.1 by default.
    ///
    /// # Errors
    ///
    /// When the port or the certificate cannot be had.
    pub async fn start(self) -> io::Result<MockServer> {
        let tls = self.certificate.map(Tls::new).transpose()?;
        let (acceptor, root_pem) = tls.map(|tls| (tls.acceptor, tls.root_pem)).unzip();
        let (lifetime, tasks) = Lifetime::new();
        let shared = Arc::new(Shared {
            registry: Arc::new(Registry::new()),
            script: Watched::new(self.script),
            tasks,
            tls: acceptor,
        });
        let address = self.listen.unwrap_or((Ipv4Addr::LOCALHOST, 0).into());
        let port = Port::open(Arc::clone(&shared), address).await?;
        Ok(MockServer { shared, port, root_pem, _lifetime: lifetime })
    }
}

impl fmt::Debug for MockServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockServerBuilder")
            .field("certificate", &self.certificate)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}
