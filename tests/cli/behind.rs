//! `wsmux serve` behind nginx, by the configuration in `docs/operations.md`.

use std::io::Write as _;
use std::path::PathBuf;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wsmux::{Text, WsManager};

use super::serve::Gateway;
use super::*;

const PAGE: &str = include_str!("../../docs/operations.md");

/// The block of that language on the page.
fn block(language: &str) -> &'static str {
    let begin = format!("```{language}\n");
    let (_, block) = PAGE.split_once(&begin).expect("it is on the page");
    block.split_once("\n```").expect("it ends").0
}

/// nginx with what the page says, until it is dropped.
struct Nginx {
    _child: Child,
    at: String,
    folder: PathBuf,
}

impl Nginx {
    async fn before(gateway: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = format!("127.0.0.1:{port}");
        let folder = std::env::temp_dir().join(format!("wsmux-nginx-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let page = block("nginx");
        for address in ["127.0.0.1:8443", "127.0.0.1:8080"] {
            assert!(page.contains(address), "{address}");
        }
        let path = folder.display();
        let text = format!(
            "daemon off; master_process off; pid {path}/pid; error_log stderr notice; worker_processes 1;
            events {{ worker_connections 64; }}
            http {{
                client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;
                fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi;
                scgi_temp_path {path}/scgi;
                {}
            }}",
            page.replace("127.0.0.1:8443", &at).replace("127.0.0.1:8080", gateway)
        );
        std::fs::write(folder.join("nginx.conf"), text).unwrap();
        let mut child = Command::new("nginx")
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(folder.join("nginx.conf"))
            .args(["-e", "stderr"])
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("getrlimit(RLIMIT_NOFILE)") {
            assert_ne!(within(stderr.read_line(&mut said)).await.unwrap(), 0, "{said}");
        }
        Self { _child: child, at, folder }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn behind_nginx_as_the_page_has_it_sockets_open_and_events_come_at_once() {
    if std::process::Command::new("nginx").arg("-v").output().is_err() {
        // Past the harness, which keeps to itself what passing tests print: it is counted.
        let _ = std::io::stderr().write_all(b"SKIPPED behind_nginx: nginx is not installed\n");
        return;
    }
    let gateway = Gateway::start(&["--demo"]).await;
    let nginx = Nginx::before(&gateway.at).await;

    let manager = WsManager::connect(&format!("ws://{}/ws", nginx.at)).unwrap();
    let mut trades = manager.subscribe::<Text>("btcusdt@trade").unwrap();
    assert!(within(trades.recv()).await.unwrap().unwrap().contains("trade"));

    let mut events = TcpStream::connect(&nginx.at).await.unwrap();
    let ask = format!("GET /sse/btcusdt@trade HTTP/1.1\r\nhost: {}\r\n\r\n", nginx.at);
    events.write_all(ask.as_bytes()).await.unwrap();
    let mut came = Vec::new();
    while !String::from_utf8_lossy(&came).contains("\ndata: ") {
        assert_ne!(within(events.read_buf(&mut came)).await.unwrap(), 0);
    }
    drop((events, trades));
    within(manager.shutdown()).await;
}
