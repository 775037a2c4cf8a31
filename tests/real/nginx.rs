//! nginx before a server: its timeouts, reloads and refusals.

use rustix::process::Signal;
use tokio::process::Command;
use wsmux::protocol::DisconnectReason;
use wsmux::{Config, Heartbeat, WsManager};

use crate::numbers::Numbers;
use crate::program::{Folder, Program, free_port, installed, until_no_connections};
use crate::stories::{Server, stories};
use crate::{
    HOUR, MS, Reader, SECOND, builder, config, direct, failed_dial, lost, until_disconnected,
};

#[derive(Debug)]
struct Nginx {
    back: Numbers,
    folder: Folder,
    port: u16,
    program: Option<Program>,
}

impl Nginx {
    async fn start() -> Option<Self> {
        Self::with("").await
    }

    /// With `settings` for the location.
    async fn with(settings: &str) -> Option<Self> {
        installed(&["nginx"])?;
        let back = Numbers::node().await?;
        let (folder, port) = (Folder::new(), free_port());
        let path = folder.path().display();
        let text = format!(
            "daemon off; pid {path}/pid; error_log stderr notice; worker_processes 1;
            worker_shutdown_timeout 100ms;
            events {{ worker_connections 64; }}
            http {{
                access_log off;
                client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;
                fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi;
                scgi_temp_path {path}/scgi;
                limit_req_zone $uri zone=dials:1m rate=30r/m;
                server {{
                    listen 127.0.0.1:{port};
                    location / {{
                        proxy_pass http://127.0.0.1:{back};
                        proxy_http_version 1.1;
                        proxy_set_header Upgrade $http_upgrade;
                        proxy_set_header Connection upgrade;
                        {settings}
                    }}
                }}
            }}",
            back = back.port()
        );
        folder.write("nginx.conf", &text).unwrap();
        let mut nginx = Self { back, folder, port, program: None };
        nginx.up().await;
        Some(nginx)
    }

    async fn up(&mut self) {
        let mut command = Command::new("nginx");
        command.arg("-p").arg(self.folder.path());
        command.arg("-c").arg(self.folder.path().join("nginx.conf")).args(["-e", "stderr"]);
        let mut program = Program::start(command);
        program.says("start worker process ").await;
        self.program = Some(program);
    }
}

impl Server for Nginx {
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

stories!(nginx_itself, Nginx::start(), DisconnectReason::Ended);

#[tokio::test]
async fn what_is_behind_nginx_is_restarted_and_found_dead_too() {
    let Some(mut nginx) = Nginx::start().await else { return };
    let manager = nginx.manager(config());
    let mut events = manager.events();
    let mut reader = Reader::new(&manager, "numbers");
    reader.numbers().await;
    nginx.back.restart(Signal::TERM).await;
    assert_eq!(reader.one_gap().await, DisconnectReason::closed(Some(1012), "restart"));
    nginx.back.restart(Signal::KILL).await;
    assert_eq!(reader.one_gap().await, DisconnectReason::Ended);
    while lost(&mut events).await.1 != DisconnectReason::Ended {}
    nginx.back.signal(Signal::STOP);
    assert_eq!(lost(&mut events).await.1, DisconnectReason::HeartbeatTimeout);
    nginx.back.signal(Signal::CONT);
    assert_eq!(reader.one_gap().await, DisconnectReason::HeartbeatTimeout);
}

#[tokio::test]
async fn a_reload_of_nginx_that_drops_its_sockets_is_one_gap() {
    let Some(nginx) = Nginx::start().await else { return };
    let manager = nginx.manager(config());
    let mut reader = Reader::new(&manager, "numbers");
    reader.numbers().await;
    nginx.program.as_ref().unwrap().signal(Signal::HUP);
    assert_eq!(reader.one_gap().await, DisconnectReason::Ended);
    assert_eq!(manager.metrics().disconnects, 1);
}

#[tokio::test]
async fn a_heartbeat_keeps_a_quiet_socket_below_the_timeout_of_nginx() {
    let Some(mut nginx) = Nginx::with("proxy_read_timeout 1s;").await else { return };
    let heartbeat = Heartbeat { interval: 300 * MS, timeout: 10 * SECOND };
    let manager = nginx.manager(config().heartbeat(heartbeat));
    let mut reader = Reader::new(&manager, "quiet");
    reader.next().await.unwrap();
    for _ in 0..10 {
        nginx.back.program().says("ping").await; // Three seconds in all.
    }
    assert_eq!(manager.metrics().disconnects, 0);
    drop(reader);
    until_disconnected(&manager).await;
}

#[tokio::test]
async fn a_quiet_socket_that_nginx_drops_is_a_gap() {
    let Some(nginx) = Nginx::with("proxy_read_timeout 300ms;").await else { return };
    let heartbeat = Heartbeat { interval: HOUR, timeout: HOUR };
    let manager = nginx.manager(config().heartbeat(heartbeat));
    let mut reader = Reader::new(&manager, "quiet");
    reader.next().await.unwrap();
    assert_eq!(reader.next().await, Err(DisconnectReason::Ended));
    reader.next().await.unwrap();
}

#[tokio::test]
async fn the_retry_after_of_nginx_is_heeded() {
    let settings = "limit_req zone=dials; limit_req_status 429; add_header Retry-After 2 always;";
    let Some(nginx) = Nginx::with(settings).await else { return };
    let manager = nginx.manager(config());
    let mut events = manager.events();
    let mut reader = Reader::new(&manager, "numbers");
    reader.numbers().await;
    drop(reader);
    until_disconnected(&manager).await;
    // The second dial within two seconds.
    let mut reader = Reader::new(&manager, "numbers");
    let (reason, delay) = failed_dial(&mut events).await;
    assert_eq!(reason, DisconnectReason::Http { status: 429 });
    assert!(delay >= 2 * SECOND, "{delay:?}");
    reader.numbers().await;
    assert_eq!(manager.metrics().retries, 1, "one was enough");
}

#[tokio::test]
async fn a_502_of_nginx_is_retried_until_the_server_behind_it_is_up() {
    let Some(mut nginx) = Nginx::start().await else { return };
    nginx.back.down(Signal::TERM).await;
    let manager = nginx.manager(config());
    let mut events = manager.events();
    let mut reader = Reader::new(&manager, "numbers");
    for _ in 0..3 {
        let (reason, _) = failed_dial(&mut events).await;
        assert_eq!(reason, DisconnectReason::Http { status: 502 });
    }
    nginx.back.up().await;
    reader.numbers().await;
    assert_eq!(manager.metrics().disconnects, 0, "no gap before the first message");
}
