//! nats-server's WebSocket listener, over TLS, through a protocol of this test's own.

mod protocol;

use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinHandle;
use wsmux::protocol::DisconnectReason;
use wsmux::transport::{Tls, Tungstenite};
use wsmux::{Config, WsManager};

use self::protocol::Nats;
use crate::program::{Folder, Program, free_port, installed, until_no_connections};
use crate::stories::{Server, stories};
use crate::{Reader, builder, config, until_disconnected};

/// A server, and who publishes numbers there.
#[derive(Debug)]
struct NatsServer {
    certificate: String,
    folder: Folder,
    plain: u16,
    port: u16,
    program: Option<Program>,
    publisher: Option<JoinHandle<()>>,
}

impl NatsServer {
    async fn start() -> Option<Self> {
        installed(&["nats-server"])?;
        let (plain, port) = (free_port(), free_port());
        let folder = Folder::new();
        let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let certificate = signed.cert.pem();
        folder.write("key.pem", &signed.signing_key.serialize_pem()).unwrap();
        folder.write("cert.pem", &certificate).unwrap();
        let settings = format!(
            "listen: \"127.0.0.1:{plain}\"\n\
             websocket {{ listen: \"127.0.0.1:{port}\"\n\
             tls {{ cert_file: \"cert.pem\", key_file: \"key.pem\" }} }}\n"
        );
        folder.write("nats.conf", &settings).unwrap();
        let mut server = Self { certificate, folder, plain, port, program: None, publisher: None };
        server.up().await;
        Some(server)
    }

    async fn up(&mut self) {
        let mut command = Command::new("nats-server");
        command.arg("--config").arg("nats.conf").current_dir(self.folder.path());
        let mut program = Program::start(command);
        program.says("Server is ready").await;
        self.program = Some(program);
        self.publisher = Some(tokio::spawn(publish(self.plain)));
    }
}

/// Publishes numbers, in the protocol as it is spoken over TCP, until the server is gone.
async fn publish(port: u16) {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut from, mut to) = tcp.into_split();
    // What it says is of no interest, but has to be taken.
    let reading = async { while from.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {} };
    let writing = async {
        let mut beat = tokio::time::interval(Duration::from_millis(10));
        to.write_all(b"CONNECT {\"verbose\":false}\r\n").await?;
        for number in 0_u64.. {
            beat.tick().await;
            let payload = number.to_string();
            for name in ["numbers", "others"] {
                let line = format!("PUB {name} {}\r\n{payload}\r\n", payload.len());
                to.write_all(line.as_bytes()).await?;
            }
        }
        Ok::<_, std::io::Error>(())
    };
    tokio::select! {
        () = reading => {}
        _ = writing => {}
    }
}

impl Server for NatsServer {
    fn manager(&self, config: Config) -> WsManager {
        let tls = Tls::empty().add_root_pem(self.certificate.as_bytes()).unwrap();
        let protocol = Nats::new(&format!("wss://127.0.0.1:{}", self.port));
        builder(protocol, config).transport(Tungstenite::new().no_proxy().tls(tls)).build().unwrap()
    }

    async fn restart(&mut self, signal: Signal) {
        self.program.take().unwrap().end(signal).await;
        self.publisher.take().unwrap().await.unwrap();
        self.up().await;
    }

    fn signal(&mut self, signal: Signal) {
        self.program.as_ref().unwrap().signal_all(signal);
    }

    async fn until_unused(&mut self) {
        until_no_connections(self.port).await;
    }
}

stories!(
    nats_over_tls,
    NatsServer::start(),
    DisconnectReason::closed(Some(1001), "Server Shutdown")
);

#[tokio::test]
async fn names_share_a_socket_of_nats_and_leave_it_one_by_one() {
    let Some(mut server) = NatsServer::start().await else { return };
    let manager = server.manager(config());
    let (mut a, mut b) = (Reader::new(&manager, "numbers"), Reader::new(&manager, "others"));
    a.numbers().await;
    b.numbers().await;
    assert_eq!(crate::program::connections(server.port), 1);
    drop(b);
    a.numbers().await;
    drop(a);
    until_disconnected(&manager).await;
    server.until_unused().await;
}
