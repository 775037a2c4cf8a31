//! The server's port: listening on it, and refusing dials to it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::dial::Shared;

const BACKLOG: u32 = 1024;

/// A port that is the server's for as long as it lives.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) addr: SocketAddr,
    shared: Arc<Shared>,
    listening: Mutex<Option<JoinHandle<()>>>,
    /// Bound but not listening: nobody else gets the port while we refuse dials. `None` where the
    /// system does not let two sockets bind one port.
    _claim: Option<TcpSocket>,
}

impl Port {
    pub(super) async fn open(shared: Arc<Shared>, address: SocketAddr) -> io::Result<Self> {
        let claim = bind(address)?;
        let addr = claim.local_addr()?;
        let (claim, listener) = match listen(addr) {
            Ok(listener) => (Some(claim), listener),
            Err(_) => (None, claim.listen(BACKLOG)?),
        };
        let task = shared.tasks.spawn(Arc::clone(&shared).listen(listener));
        Ok(Self { addr, shared, listening: Mutex::new(Some(task)), _claim: claim })
    }

    /// Refuses dials. Does nothing where it does so already.
    pub(super) async fn stop(&self) {
        if let Some(task) = self.listening.lock().await.take() {
            task.abort();
            // When the task is over, its listener is closed.
            let _ = task.await;
        }
    }

    /// Listens again. Does nothing where it does so already.
    pub(super) async fn resume(&self) -> io::Result<()> {
        let mut listening = self.listening.lock().await;
        if listening.is_none() {
            let listener = listen(self.addr)?;
            *listening = Some(self.shared.tasks.spawn(Arc::clone(&self.shared).listen(listener)));
        }
        Ok(())
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    bind(addr)?.listen(BACKLOG)
}

fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Sockets of the listener before us do not stand in the way. On Windows, this would let others
    // take the port.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}
