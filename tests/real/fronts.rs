//! A gateway behind nginx, haproxy and Caddy, by the configurations in `docs/operations.md`.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::process::Command;
use wsmux::test_util::{MockServer, Peer};

use crate::gateway::Gateway;
use crate::program::{Folder, Program, free_port, installed};
use crate::within;

const PAGE: &str = include_str!("../../docs/operations.md");

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Caddy,
    Haproxy,
    Nginx,
}

/// A proxy before a gateway.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) at: String,
    _folder: Folder,
    _program: Program,
}

impl Front {
    /// As the page has it.
    pub(crate) async fn before(gateway: &str, kind: Kind) -> Option<Self> {
        let name = format!("{kind:?}").to_lowercase();
        installed(&[&name])?;
        let language = if matches!(kind, Kind::Caddy) { "caddyfile" } else { &name };
        let page = block(language);
        for address in ["127.0.0.1:8443", "127.0.0.1:8080"] {
            assert_eq!(page.matches(address).count(), 1, "{address}");
        }
        let at = format!("127.0.0.1:{}", free_port());
        let text = page.replace("127.0.0.1:8443", &at).replace("127.0.0.1:8080", gateway) + "\n";
        let folder = Folder::new();
        let mut command = Command::new(name);
        let ready = match kind {
            Kind::Caddy => {
                let text = format!("{{\nadmin off\n}}\n{text}");
                let path = folder.write("Caddyfile", &text).unwrap();
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(path);
                for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
                    command.env(variable, folder.path());
                }
                "serving initial configuration"
            }
            Kind::Haproxy => {
                command.args(["-W", "-db", "-f"]).arg(folder.write("haproxy.cfg", &text).unwrap());
                "Loading success"
            }
            Kind::Nginx => {
                let path = folder.write("nginx.conf", &nginx(&folder, &text)).unwrap();
                command.arg("-p").arg(folder.path()).arg("-c").arg(path).args(["-e", "stderr"]);
                "start worker process "
            }
        };
        let mut program = Program::start(command);
        program.says(ready).await;
        Some(Self { at, _folder: folder, _program: program })
    }
}

/// What is around a server of nginx.
fn nginx(folder: &Folder, text: &str) -> String {
    let path = folder.path().display();
    format!(
        "daemon off; pid {path}/pid; error_log stderr notice; worker_processes 1;
        events {{ worker_connections 64; }}
        http {{
            client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;
            fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;
            {text}
        }}"
    )
}

/// The only block of that language on the page.
fn block(language: &str) -> &'static str {
    let begin = format!("```{language}\n");
    assert_eq!(PAGE.matches(&begin).count(), 1, "{language}");
    let (_, block) = PAGE.split_once(&begin).unwrap();
    block.split_once("\n```").expect("it ends").0
}

/// A client of events, from an address of this machine.
struct Events {
    came: Vec<u8>,
    socket: TcpStream,
}

impl Events {
    async fn open(at: &str, from: &str, headers: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        let mut socket = within(socket.connect(at.parse().unwrap())).await.unwrap();
        let ask = format!("GET /sse/numbers HTTP/1.1\r\nhost: {at}\r\n{headers}\r\n");
        socket.write_all(ask.as_bytes()).await.unwrap();
        Self { came: Vec::new(), socket }
    }

    async fn until(&mut self, part: &str) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.came).into_owned();
            if text.contains(part) {
                return text;
            }
            assert_ne!(within(self.socket.read_buf(&mut self.came)).await.unwrap(), 0, "{text}");
        }
    }

    async fn status(&mut self) -> u16 {
        self.until("\r\n\r\n").await[9..12].parse().unwrap()
    }
}

/// A client of WebSocket, as far as a relay needs one: the frames it gets are short texts.
async fn relay(at: &str) -> Events {
    let headers = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut socket = within(TcpStream::connect(at)).await.unwrap();
    let ask = format!("GET /ws/numbers HTTP/1.1\r\nhost: {at}\r\n{headers}\r\n");
    socket.write_all(ask.as_bytes()).await.unwrap();
    Events { came: Vec::new(), socket }
}

async fn upstream() -> MockServer {
    MockServer::start().await.unwrap()
}

async fn peer(upstream: &MockServer) -> Peer {
    within(upstream.accept()).await
}

async fn what_comes_is_handed_on_at_once(kind: Kind) {
    let upstream = upstream().await;
    let config = "[auth]\nanonymous = true";
    let Some(gateway) = Gateway::over(&upstream.url(), config).await else { return };
    let Some(front) = Front::before(&gateway.at, kind).await else { return };
    // A relay does not say when it has joined its name: the first is there when the name is dialled.
    let mut relay = relay(&front.at).await;
    assert_eq!(relay.status().await, 101);
    let peer = peer(&upstream).await;
    let mut events = Events::open(&front.at, "127.0.0.1", "").await;
    assert_eq!(events.status().await, 200);
    events.until("event: status").await;
    // Each is sent when the one before it has arrived.
    for number in ["the first", "the second", "the third"] {
        assert!(peer.send(number).await);
        events.until(&format!("data: {number}\n\n")).await;
        relay.until(number).await;
    }
}

/// A client has one connection, and is told from others by its address: not by that of the proxy, and
/// not by what it says itself.
async fn clients_are_told_apart(kind: Kind) {
    let upstream = upstream().await;
    let config =
        "proxies = [\"127.0.0.1/32\"]\n[auth]\nanonymous = true\n[limits]\nper_address = 1";
    let Some(gateway) = Gateway::over(&upstream.url(), config).await else { return };
    let Some(front) = Front::before(&gateway.at, kind).await else { return };
    let said = "x-forwarded-for: 192.0.2.1\r\n";
    let mut first = Events::open(&front.at, "127.0.0.2", "").await;
    assert_eq!(first.status().await, 200);
    for headers in ["", said] {
        let mut again = Events::open(&front.at, "127.0.0.2", headers).await;
        assert_eq!(again.status().await, 429, "{headers}");
    }
    let mut other = Events::open(&front.at, "127.0.0.3", said).await;
    assert_eq!(other.status().await, 200);
    // Whoever comes past the proxy is believed nothing.
    let mut past = Events::open(&gateway.at, "127.0.0.4", said).await;
    assert_eq!(past.status().await, 200);
    let mut past = Events::open(&gateway.at, "127.0.0.4", "x-forwarded-for: 192.0.2.2\r\n").await;
    assert_eq!(past.status().await, 429);
}

macro_rules! behind {
    ($($name:ident: $kind:expr;)*) => {$(
        mod $name {
            #[tokio::test]
            async fn events_and_frames_are_handed_on_one_by_one() {
                super::what_comes_is_handed_on_at_once($kind).await;
            }

            #[tokio::test]
            async fn clients_are_told_apart_by_what_the_proxy_says_of_them() {
                super::clients_are_told_apart($kind).await;
            }
        }
    )*};
}

behind! {
    caddy: super::Kind::Caddy;
    haproxy: super::Kind::Haproxy;
    nginx: super::Kind::Nginx;
}

#[tokio::test]
async fn without_a_proxy_that_is_believed_all_behind_it_are_one_client() {
    let upstream = upstream().await;
    let config = "[auth]\nanonymous = true\n[limits]\nper_address = 1";
    let Some(gateway) = Gateway::over(&upstream.url(), config).await else { return };
    let Some(front) = Front::before(&gateway.at, Kind::Nginx).await else { return };
    let mut first = Events::open(&front.at, "127.0.0.2", "").await;
    assert_eq!(first.status().await, 200);
    assert_eq!(Events::open(&front.at, "127.0.0.3", "").await.status().await, 429);
}

/// What the test on events is worth: where they are held back, the first does not come.
#[tokio::test]
async fn a_proxy_that_holds_events_back_is_found_out() {
    let upstream = upstream().await;
    let Some(gateway) = Gateway::over(&upstream.url(), "[auth]\nanonymous = true").await else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    tokio::spawn(holds_back(listener, gateway.at.clone()));
    let mut events = Events::open(&at, "127.0.0.1", "").await;
    assert_eq!(events.status().await, 200);
    let peer = peer(&upstream).await;
    assert!(peer.send("the first").await);
    let first = tokio::time::timeout(Duration::from_secs(2), events.until("the first")).await;
    assert!(first.is_err(), "it was not held back");
    assert!(peer.send("x".repeat(HELD)).await);
    events.until("the first").await;
}

/// What it hands on at once, in bytes.
const HELD: usize = 4096;

/// A proxy for one client: hands the head on, and what follows in blocks.
async fn holds_back(listener: TcpListener, gateway: String) {
    let (client, _) = listener.accept().await.unwrap();
    let server = TcpStream::connect(gateway).await.unwrap();
    let ((mut asks, mut gets), (mut answers, mut asked)) =
        (client.into_split(), server.into_split());
    let hand_on = async {
        let (mut held, mut is_head) = (Vec::new(), true);
        while answers.read_buf(&mut held).await.is_ok_and(|read| read > 0) {
            let is_whole = is_head && held.windows(4).any(|four| four == b"\r\n\r\n");
            if is_whole || held.len() >= HELD {
                gets.write_all(&held).await.unwrap();
                held.clear();
                is_head = false;
            }
        }
    };
    let ask = tokio::io::copy(&mut asks, &mut asked);
    let _ = tokio::join!(ask, hand_on);
}
