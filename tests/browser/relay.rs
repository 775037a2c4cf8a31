//! A relay whose links can be cut: while it is closed, each connection is dropped at once.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone)]
pub(crate) struct Relay {
    addr: SocketAddr,
    is_open: Arc<watch::Sender<bool>>,
}

impl Relay {
    pub(crate) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let is_open = Arc::new(watch::Sender::new(true));
        let relay = Self { addr, is_open };
        let sender = Arc::clone(&relay.is_open);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(link(socket, to, sender.subscribe()));
            }
        });
        relay
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Cuts all links, and lets nobody in.
    pub(crate) fn close(&self) {
        self.is_open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.is_open.send_replace(true);
    }
}

async fn link(mut near: TcpStream, to: SocketAddr, mut is_open: watch::Receiver<bool>) {
    if !*is_open.borrow() {
        return;
    }
    let Ok(mut far) = TcpStream::connect(to).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        _ = is_open.wait_for(|is_open| !is_open) => {}
    }
}
