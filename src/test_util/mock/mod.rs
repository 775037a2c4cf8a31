//! Servers of protocols, without I/O: one [`Service`] runs in memory under paused time, and on a real
//! port for clients that others wrote.
//!
//! - A [`Service`] is told what happens on its sockets, and says what is sent, through [`Out`]. It has
//!   no clock of its own and never waits, as a [`Session`](crate::protocol::Session) on the other
//!   side.
//! - [`Mock`] runs it. A test commands it by [`Mock::tell`], between two messages of its clients, and
//!   waits for it by [`Mock::until`].
//! - What a client does wrong, the service notes by [`Out::fault`]; [`Mock::faults`] is the audit.
//!
//! ```
//! use wsmux::protocol::Direct;
//! use wsmux::test_util::{Mock, Out, Service, SocketId};
//! use wsmux::{Message, Text, WsManager};
//!
//! /// Says everything once more.
//! struct Echo;
//!
//! impl Service for Echo {
//!     fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
//!         out.send(socket, message.clone());
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (mock, transport) = Mock::in_memory(Echo);
//! let manager = WsManager::builder(Direct::new("ws://test")?).transport(transport).build()?;
//! let mut echo = manager.subscribe::<Text>("echo")?;
//! manager.send("echo", "hello").await?;
//! assert_eq!(&*echo.recv().await.unwrap()?, "hello");
//! assert!(mock.faults().is_empty());
//! # Ok(())
//! # }
//! ```

mod budget;
mod dial;
mod faulty;
mod host;
mod out;
mod serve;
mod service;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;

use self::host::Host;
use super::memory::{self, MemoryTransport};
use super::server::{Answer, Lifetime, MockServer, MockServerBuilder};
use crate::message::{Message, Text};

pub use budget::Budget;
pub use dial::{Handshake, SocketId};
pub use faulty::{After, Faulty, Trouble};
pub use out::{Answers, Fault, Out};
pub use service::Service;

/// A [`Service`] that runs. All of it ends when this is dropped.
pub struct Mock<S> {
    host: Arc<Host<S>>,
    server: Option<MockServer>,
    _lifetime: Lifetime,
}

impl<S: Service> Mock<S> {
    /// Runs `service` in memory: for `#[tokio::test(start_paused = true)]`.
    #[must_use]
    pub fn in_memory(service: S) -> (Self, MemoryTransport) {
        let (transport, dials) = memory::pair();
        let host = Arc::new(Host::new(service));
        let (lifetime, tasks) = Lifetime::new();
        tasks.spawn(serve::clock(Arc::clone(&host)));
        tasks.spawn(serve::in_memory(Arc::clone(&host), dials, tasks.clone()));
        (Self { host, server: None, _lifetime: lifetime }, transport)
    }

    /// Runs `service` on a free port of 127.0.0.1, under any path.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub async fn on_port(service: S) -> io::Result<Self> {
        Self::on_server(service, MockServer::builder()).await
    }

    /// Runs `service` on a server made to measure, under any path.
    ///
    /// # Errors
    ///
    /// When the port or the certificate cannot be had.
    pub async fn on_server(service: S, server: MockServerBuilder) -> io::Result<Self> {
        let answer = service.answer();
        let host = Arc::new(Host::new(service));
        let served = Arc::clone(&host);
        let handler = move |peer| serve::on_port(Arc::clone(&served), peer);
        let server = server.answer("/", answer).route("/", handler).start().await?;
        let (lifetime, tasks) = Lifetime::new();
        tasks.spawn(serve::clock(Arc::clone(&host)));
        Ok(Self { host, server: Some(server), _lifetime: lifetime })
    }

    /// The server below, for faults of TCP and counts. `None` in memory.
    #[must_use]
    pub fn server(&self) -> Option<&MockServer> {
        self.server.as_ref()
    }

    /// Where to dial, without a path: `ws://127.0.0.1:port`. In memory any host will do, and this is
    /// `ws://mock`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.as_ref().map_or_else(|| "ws://mock".to_owned(), MockServer::url)
    }

    /// Has the service do something now, between two messages of its clients.
    pub fn tell<R>(&self, order: impl FnOnce(&mut S, &mut Out) -> R) -> R {
        self.host.change(order)
    }

    /// Waits until `take` finds in the service what it is looking for.
    pub async fn until<R>(&self, mut take: impl FnMut(&mut S) -> Option<R>) -> R {
        self.host.until(|inner| take(&mut inner.service)).await
    }

    /// Waits until exactly `count` sockets are open.
    pub async fn until_sockets(&self, count: usize) {
        self.host.until(|inner| (inner.sockets().len() == count).then_some(())).await;
    }

    /// Answers the next dials by HTTP `status`, one each.
    pub fn refuse_next(&self, statuses: impl IntoIterator<Item = u16>) {
        match &self.server {
            Some(server) => server.next_dials(statuses.into_iter().map(Answer::status)),
            None => self.host.look(|inner| inner.refusals.extend(statuses)),
        }
    }

    /// From now on, what the service says by [`Out::answer`] comes in this way.
    pub fn answers(&self, answers: Answers) {
        self.host.look(|inner| inner.answers = answers);
    }

    /// Sends `message` to all sockets, whatever the protocol says: a lie, mostly.
    pub fn send_all(&self, message: impl Into<Message>) {
        let (message, sockets) = (message.into(), self.sockets());
        self.tell(|_, out| sockets.iter().for_each(|socket| out.send(*socket, message.clone())));
    }

    /// Closes all sockets.
    pub fn close_all(&self, code: u16, reason: impl Into<Text>) {
        let (reason, sockets) = (reason.into(), self.sockets());
        self.tell(|_, out| {
            sockets.iter().for_each(|socket| out.close(*socket, code, reason.clone()));
        });
    }

    /// Ends all sockets without a close frame.
    pub fn drop_all(&self) {
        let sockets = self.sockets();
        self.tell(|_, out| sockets.iter().for_each(|socket| out.drop_socket(*socket)));
    }

    /// The open sockets, in order of opening.
    #[must_use]
    pub fn sockets(&self) -> Vec<SocketId> {
        self.host.look(|inner| inner.sockets())
    }

    /// How many sockets there have been.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.host.look(|inner| inner.opened())
    }

    /// What clients have done wrong so far: the first 1,000.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.host.look(|inner| inner.faults.clone())
    }
}

impl<S: fmt::Debug> fmt::Debug for Mock<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mock").field("server", &self.server).finish_non_exhaustive()
    }
}
