//! haproxy before a server: its timeouts, reloads and refusals.

use rustix::process::Signal;
use tokio::process::Command;
use wsmux::protocol::DisconnectReason;
use wsmux::{Config, Heartbeat, WsManager};

use crate::numbers::Numbers;
use crate::program::{Folder, Program, free_port, installed, until_no_connections};
use crate::stories::{Server, stories};
use crate::{HOUR, MS, Reader, SECOND, builder, config, direct, failed_dial};

#[derive(Debug)]
struct Haproxy {
    back: Numbers,
    folder: Folder,
    port: u16,
    program: Option<Program>,
}

impl Haproxy {
    async fn start() -> Option<Self> {
        Self::with("60s", "").await
    }

    /// With a timeout for quiet tunnels, and `rules` for requests.
    async fn with(tunnel: &str, rules: &str) -> Option<Self> {
        installed(&["haproxy"])?;
        let back = Numbers::node().await?;
        let (folder, port) = (Folder::new(), free_port());
        let text = format!(
            "global
                hard-stop-after 100ms
            defaults
                mode http
                retries 0
                timeout connect 1s
                timeout client 5s
                timeout server 5s
                timeout tunnel {tunnel}
            frontend front
                bind 127.0.0.1:{port}
                {rules}
                default_backend back
            backend back
                server back 127.0.0.1:{back}\n",
            back = back.port()
        );
        folder.write("haproxy.cfg", &text).unwrap();
        let mut haproxy = Self { back, folder, port, program: None };
        haproxy.up().await;
        Some(haproxy)
    }

    async fn up(&mut self) {
        let mut command = Command::new("haproxy");
        command.args(["-W", "-db", "-f"]).arg(self.folder.path().join("haproxy.cfg"));
        let mut program = Program::start(command);
        program.says("Loading success").await;
        self.program = Some(program);
    }
}

impl Server for Haproxy {
    fn manager(&self, config: Config) -> WsManager {
        builder(direct(self.port), config).build().unwrap()
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

stories!(haproxy_itself, Haproxy::start(), DisconnectReason::Ended);

#[tokio::test]
async fn a_reload_of_haproxy_that_drops_its_sockets_is_one_gap() {
    let Some(haproxy) = Haproxy::start().await else { return };
    let manager = haproxy.manager(config());
    let mut reader = Reader::new(&manager, "numbers");
    reader.numbers().await;
    haproxy.program.as_ref().unwrap().signal(Signal::USR2);
    assert_eq!(reader.one_gap().await, DisconnectReason::Ended);
    assert_eq!(manager.metrics().disconnects, 1);
}

#[tokio::test]
async fn a_heartbeat_keeps_a_quiet_socket_below_the_timeout_of_haproxy() {
    let Some(mut haproxy) = Haproxy::with("1s", "").await else { return };
    let heartbeat = Heartbeat { interval: 300 * MS, timeout: 10 * SECOND };
    let manager = haproxy.manager(config().heartbeat(heartbeat));
    let mut reader = Reader::new(&manager, "quiet");
    reader.next().await.unwrap();
    for _ in 0..10 {
        haproxy.back.program().says("ping").await; // Three seconds in all.
    }
    assert_eq!(manager.metrics().disconnects, 0);
}

#[tokio::test]
async fn a_quiet_socket_that_haproxy_drops_is_a_gap() {
    let Some(haproxy) = Haproxy::with("300ms", "").await else { return };
    let heartbeat = Heartbeat { interval: HOUR, timeout: HOUR };
    let manager = haproxy.manager(config().heartbeat(heartbeat));
    let mut reader = Reader::new(&manager, "quiet");
    reader.next().await.unwrap();
    assert_eq!(reader.next().await, Err(DisconnectReason::Ended));
    reader.next().await.unwrap();
}

#[tokio::test]
async fn the_retry_after_of_haproxy_is_heeded() {
    let rules = "stick-table type ip size 10 expire 1m store http_req_rate(2s)
                http-request track-sc0 src
                http-request return status 429 hdr Retry-After 3 if { sc_http_req_rate(0) gt 1 }";
    let Some(haproxy) = Haproxy::with("60s", rules).await else { return };
    let manager = haproxy.manager(config());
    let mut events = manager.events();
    let mut first = Reader::new(&manager, "first");
    first.numbers().await;
    let mut second = Reader::new(&manager, "second");
    let (reason, delay) = failed_dial(&mut events).await;
    assert_eq!(reason, DisconnectReason::Http { status: 429 });
    assert!(delay >= 3 * SECOND, "{delay:?}");
    second.numbers().await;
    first.numbers().await;
    assert_eq!(manager.metrics().retries, 1, "one was enough");
}

#[tokio::test]
async fn a_503_of_haproxy_is_retried_until_the_server_behind_it_is_up() {
    let Some(mut haproxy) = Haproxy::start().await else { return };
    haproxy.back.down(Signal::TERM).await;
    let manager = haproxy.manager(config());
    let mut events = manager.events();
    let mut reader = Reader::new(&manager, "numbers");
    let (reason, _) = failed_dial(&mut events).await;
    assert_eq!(reason, DisconnectReason::Http { status: 503 });
    haproxy.back.up().await;
    reader.numbers().await;
}
