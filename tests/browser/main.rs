//! The pages and `client.js` in a real browser: what `scripts/browser` runs.
//!
//! ```text
//! browser [--hold]     runs the tests in tests/browser/*.test.mjs; with --hold only the stage, to be looked at
//! ```
//!
//! The stage is a gateway to a mock exchange, behind a relay whose links can be cut. The tests move it by
//! `/stage/…` on another port.

mod relay;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;
use wsmux::gateway::Gateway;
use wsmux::test_util::MockExchange;
use wsmux::{Lease, WsManager};

use relay::Relay;

/// Longer than all tests take.
const LONGEST: Duration = Duration::from_secs(240);

/// Names beside those that the tests read: one page of the dashboard does not hold them.
const SILENT: usize = 130;

/// A name is shown, not run.
const HOSTILE: &str = "<img src=x onerror=\"document.title='run'\">";

#[tokio::main]
async fn main() -> ExitCode {
    let exchange = Arc::new(MockExchange::builder().rate(50).start().await.unwrap());
    let manager = WsManager::connect(&exchange.url()).unwrap();
    let _leases = lease(&manager);
    let gateway = Gateway::new(manager);
    let port = serve(gateway.router().merge(gateway.pages())).await;
    let relay = Relay::start(port).await;
    let stage = serve(stage(gateway, Arc::clone(&exchange), relay.clone())).await;
    let (url, stage) = (format!("http://{}/", relay.addr()), format!("http://{stage}/"));
    println!("{url} moved by {stage}stage/");
    if std::env::args().any(|arg| arg == "--hold") {
        std::future::pending::<()>().await;
    }
    // By `cargo test` alone there is no browser: the script has made ready what it takes.
    let Ok(directory) = std::env::var("TESTS") else {
        println!("run by scripts/browser");
        return ExitCode::SUCCESS;
    };
    let mut tests = Command::new("node");
    tests
        .args(["--test", "--test-concurrency=1", "--test-reporter=spec"])
        .args(tests_in(&directory));
    tests.envs([("STAGE", &stage), ("URL", &url)]);
    match timeout(LONGEST, tests.kill_on_drop(true).status()).await {
        Ok(Ok(status)) if status.success() => ExitCode::SUCCESS,
        ended => {
            eprintln!("node: {ended:?}");
            ExitCode::FAILURE
        }
    }
}

fn tests_in(directory: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_string_lossy().ends_with(".test.mjs")).collect()
}

fn lease(manager: &WsManager) -> Vec<Lease> {
    let names = (0..SILENT).map(|number| format!("silent{number:03}")).chain([HOSTILE.to_owned()]);
    names.map(|name| manager.keep_warm(name).unwrap()).collect()
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    addr
}

/// What moves the stage.
fn stage(gateway: Gateway, exchange: Arc<MockExchange>, relay: Relay) -> Router {
    let (closed, opened) = (relay.clone(), relay);
    let clients = move || async move { gateway.stats().clients.to_string() };
    Router::new()
        .route("/stage/clients", get(clients))
        .route("/stage/lose", post(async move || exchange.drop_sockets()))
        .route("/stage/close", post(async move || closed.close()))
        .route("/stage/open", post(async move || opened.open()))
}
