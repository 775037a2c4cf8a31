//! A SOCKS5 and a CONNECT proxy before a server: microsocks and tinyproxy, both with credentials.
//!
//! The server is named `localhost`, which the proxy resolves.

use rustix::process::Signal;
use tokio::process::Command;
use wsmux::protocol::{Direct, DisconnectReason};
use wsmux::transport::{Proxy, Tungstenite};
use wsmux::{CloseReason, Config, Message, ProxyFault, StreamError, WsManager};

use crate::numbers::Numbers;
use crate::program::{
    Folder, Program, free_port, installed, until_listening, until_no_connections,
};
use crate::stories::{Server, stories};
use crate::{Reader, builder, config, failed_dial, within};

#[derive(Clone, Copy, Debug)]
enum Kind {
    Connect,
    Socks,
}

/// A proxy and a server behind it.
#[derive(Debug)]
struct Proxied {
    back: Numbers,
    folder: Folder,
    kind: Kind,
    port: u16,
    program: Option<Program>,
}

impl Proxied {
    async fn start(kind: Kind) -> Option<Self> {
        installed(&[match kind {
            Kind::Connect => "tinyproxy",
            Kind::Socks => "microsocks",
        }])?;
        let back = Numbers::node().await?;
        let mut proxied =
            Self { back, folder: Folder::new(), kind, port: free_port(), program: None };
        proxied.up().await;
        Some(proxied)
    }

    async fn up(&mut self) {
        let port = self.port.to_string();
        let mut command;
        match self.kind {
            Kind::Connect => {
                let settings = format!(
                    "Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 20\n\
                     BasicAuth ann word\nConnectPort {}\n",
                    self.back.port()
                );
                self.folder.write("tinyproxy.conf", &settings).unwrap();
                command = Command::new("tinyproxy");
                command.args(["-d", "-c", "tinyproxy.conf"]).current_dir(self.folder.path());
            }
            Kind::Socks => {
                command = Command::new("microsocks");
                command.args(["-i", "127.0.0.1", "-p", &port, "-u", "ann", "-P", "word"]);
            }
        }
        self.program = Some(Program::start(command));
        until_listening(self.port).await;
    }

    fn manager_as(&self, user: &str, config: Config) -> WsManager {
        let scheme = match self.kind {
            Kind::Connect => "http",
            Kind::Socks => "socks5h",
        };
        let proxy = Proxy::new(&format!("{scheme}://{user}@127.0.0.1:{}", self.port)).unwrap();
        let direct = Direct::new(&format!("ws://localhost:{}", self.back.port())).unwrap();
        builder(direct, config).transport(Tungstenite::new().proxy(proxy)).build().unwrap()
    }
}

impl Server for Proxied {
    fn manager(&self, config: Config) -> WsManager {
        self.manager_as("ann:word", config)
    }

    async fn restart(&mut self, signal: Signal) {
        self.program.take().unwrap().end(signal).await;
        self.up().await;
    }

    fn signal(&mut self, signal: Signal) {
        self.program.as_ref().unwrap().signal_all(signal);
    }

    async fn until_used(&mut self) {
        self.back.until_sockets(1).await;
    }

    async fn until_unused(&mut self) {
        self.back.until_sockets(0).await;
        until_no_connections(self.port).await;
    }
}

stories!(tinyproxy, Proxied::start(Kind::Connect), DisconnectReason::Ended);
stories!(microsocks, Proxied::start(Kind::Socks), DisconnectReason::Ended);

/// What becomes of a manager whose proxy is down, whose server is down, and whose password is wrong.
async fn refused(kind: Kind, server_down: ProxyFault) {
    let Some(mut proxied) = Proxied::start(kind).await else { return };
    let manager = proxied.manager(config());
    let mut events = manager.events();
    proxied.back.down(Signal::TERM).await;
    let mut reader = Reader::new(&manager, "numbers");
    assert_eq!(failed_dial(&mut events).await.0, DisconnectReason::Proxy(server_down));
    proxied.back.up().await;
    reader.numbers().await;
    proxied.back.until_sockets(1).await;

    let mut events = manager.events(); // What was refused before is over.
    proxied.program.take().unwrap().end(Signal::KILL).await;
    assert_eq!(failed_dial(&mut events).await.0, DisconnectReason::Ended);
    for _ in 0..5 {
        let unreachable = DisconnectReason::Proxy(ProxyFault::Unreachable);
        assert_eq!(failed_dial(&mut events).await.0, unreachable, "there is no other way");
    }
    proxied.back.until_sockets(0).await;
    proxied.up().await;
    assert_eq!(reader.one_gap().await, DisconnectReason::Ended);

    let stranger = proxied.manager_as("ann:sword", config());
    let mut stream = stranger.subscribe::<Message>("numbers").unwrap();
    match within(stream.recv()).await {
        Some(Err(StreamError::Closed(CloseReason::Fatal(e)))) => {
            assert_eq!(*e.reason(), DisconnectReason::Proxy(ProxyFault::Credentials));
        }
        other => panic!("not the end: {other:?}"),
    }
}

#[tokio::test]
async fn what_tinyproxy_refuses_is_told_and_never_gone_around() {
    refused(Kind::Connect, ProxyFault::Status { status: 500 }).await;
}

#[tokio::test]
async fn what_microsocks_refuses_is_told_and_never_gone_around() {
    refused(Kind::Socks, ProxyFault::Reply { code: 5 }).await;
}
