use std::io::Write as _;
use std::process::{Command, Stdio};

use axum::body::Body;
use axum::response::Response;
use http::Request;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use axum::Router;

use super::*;
use crate::config::{Config, RetryPolicy};
use crate::gateway::defect::{Defect, are_found};
use crate::gateway::entrance::Entrance;
use crate::gateway::handle::Gateway;
use crate::manager::WsManager;
use crate::protocol::Direct;
use crate::test_util::memory;

const TOKEN: &str = "canary-of-the-operator";

fn ops() -> (Ops, memory::MemoryServer) {
    let (transport, server) = memory::pair();
    let direct = Direct::new("ws://upstream.example/secret-path").unwrap();
    let config = Config::default().linger(std::time::Duration::from_secs(60));
    let config = config.retry(RetryPolicy::forever());
    let manager = WsManager::builder(direct).config(config).transport(transport).build().unwrap();
    let entrance = Entrance::builder().build();
    (Ops::new(Gateway::new(manager)).entrance(entrance).token(TOKEN), server)
}

async fn ask(router: Router, method: &str, uri: &str, token: Option<&str>) -> Response {
    let mut request = Request::builder().method(method).uri(uri);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    TowerToHyperService::new(router).call(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn body(response: Response) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn status(router: Router, method: &str, uri: &str, token: Option<&str>) -> u16 {
    ask(router, method, uri, token).await.status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn it_lives_from_the_start_and_is_ready_when_that_is_said() {
    let (ops, _server) = ops();
    for router in [|ops: &Ops| ops.public(), |ops: &Ops| ops.admin()] {
        for method in ["GET", "HEAD"] {
            ops.set_ready(false);
            assert_eq!(status(router(&ops), method, "/livez", None).await, 200);
            assert_eq!(status(router(&ops), method, "/readyz", None).await, 503);
            ops.set_ready(true);
            assert_eq!(status(router(&ops), method, "/readyz", None).await, 200);
        }
    }
    assert_eq!(body(ask(ops.public(), "HEAD", "/livez", None).await).await, "");
}

#[tokio::test(start_paused = true)]
async fn health_tells_strangers_the_status_and_operators_the_findings() {
    let (ops, server) = ops();
    let healthy = ask(ops.public(), "GET", "/health", None).await;
    assert_eq!(healthy.status(), 200);
    assert_eq!(healthy.headers()["content-type"], "application/health+json");
    assert_eq!(status(ops.public(), "HEAD", "/health", None).await, 200);

    drop(server);
    let _reader = ops.gateway.manager().subscribe::<crate::message::Text>("a-name").unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(100)).await;
    let failing = ask(ops.public(), "GET", "/health", None).await;
    assert_eq!(failing.status(), 503);
    assert_eq!(body(failing).await, r#"{"status":"fail"}"#);
    let all = ask(ops.admin(), "GET", "/health", Some(TOKEN)).await;
    assert_eq!(all.status(), 503);
    let all = body(all).await;
    assert!(all.contains("a-name"), "{all}");
    assert_eq!(status(ops.public(), "GET", "/livez", None).await, 200, "a restart mends nothing");
}

#[tokio::test(start_paused = true)]
async fn what_operators_may_wants_the_token() {
    let (ops, _server) = ops();
    for (method, uri, good) in [
        ("GET", "/health", 200),
        ("GET", "/metrics", 200),
        ("HEAD", "/metrics", 200),
        ("GET", "/stats", 200),
        ("POST", "/admin/sweep", 200),
        ("POST", "/admin/rotate", 202),
        ("POST", "/admin/reconnect/none", 404),
    ] {
        for wrong in [None, Some(""), Some("canary"), Some("canary-of-the-operatoR")] {
            assert_eq!(status(ops.admin(), method, uri, wrong).await, 401, "{method} {uri}");
        }
        let answer = ask(ops.admin(), method, uri, Some(TOKEN)).await;
        assert_eq!(answer.status().as_u16(), good, "{method} {uri}");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        assert_eq!(status(ops.public(), method, uri, Some(TOKEN)).await == 404, uri != "/health");
    }
    let without = Ops::new(ops.gateway.clone());
    assert_eq!(status(without.admin(), "GET", "/metrics", None).await, 200);
    assert_eq!(status(without.admin(), "POST", "/admin/sweep", None).await, 403);
    assert_eq!(status(ops.admin(), "GET", "/admin/sweep", Some(TOKEN)).await, 405);
}

#[test]
fn one_that_tells_strangers_what_operators_see_is_found_out() {
    are_found(&[
        (Defect::GuardSleeps, what_operators_may_wants_the_token),
        (Defect::HealthTellsAll, health_tells_strangers_the_status_and_operators_the_findings),
    ]);
}

#[tokio::test(start_paused = true)]
async fn operators_sweep_and_reconnect() {
    let (ops, mut server) = ops();
    let mut reader = ops.gateway.manager().subscribe::<crate::message::Text>("a/b").unwrap();
    let peer = server.accept().await;
    reader.ready().await.unwrap();
    assert_eq!(status(ops.admin(), "POST", "/admin/reconnect/a%2Fb", Some(TOKEN)).await, 202);
    let _second = server.accept().await;
    drop((reader, peer));
    let swept = body(ask(ops.admin(), "POST", "/admin/sweep", Some(TOKEN)).await).await;
    assert_eq!(swept, r#"{"closed":1}"#);
    assert_eq!(ops.gateway.manager().stream_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn stats_are_for_people_and_bounded() {
    let (ops, _server) = ops();
    let manager = ops.gateway.manager();
    let leases: Vec<_> = (0..200).map(|n| manager.keep_warm(format!("n{n}")).unwrap()).collect();
    let text = body(ask(ops.admin(), "GET", "/stats", Some(TOKEN)).await).await;
    let stats: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(stats["streams"].as_array().unwrap().len(), 100);
    assert_eq!(stats["clients"], 0);
    assert_eq!(stats["refused"]["origin"], 0);
    for secret in [TOKEN, "secret-path", "upstream.example"] {
        assert!(!text.contains(secret), "{text}");
    }
    drop(leases);
    let alias = ask(ops.admin(), "GET", "/stats?x=y&format=prometheus", Some(TOKEN)).await;
    assert_eq!(alias.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
}

#[tokio::test(start_paused = true)]
async fn metrics_are_clean_and_have_the_library_s_and_the_gateway_s() {
    let (ops, _server) = ops();
    let text = body(ask(ops.admin(), "GET", "/metrics", Some(TOKEN)).await).await;
    for line in [
        "ws_manager_active_connections{manager=\"default\"} 0",
        "ws_gateway_clients{kind=\"websocket\"} 0",
        "ws_gateway_refused_total{reason=\"unauthenticated\"} 0",
        "# TYPE ws_gateway_delivered_total counter",
        "ws_gateway_delivered_total 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    let Some(whole) = promtool(&text) else { return println!("SKIPPED: no promtool") };
    assert_eq!(whole, "", "promtool finds nothing");
    let torn: String = text
        .lines()
        .filter(|l| !l.starts_with("# HELP"))
        .fold(String::new(), |all, line| all + line + "\n");
    assert_ne!(promtool(&torn).unwrap(), "", "and finds what is wrong");
}

#[cfg(feature = "requests")]
#[tokio::test(start_paused = true)]
async fn metrics_have_the_pool_of_batches_where_there_is_one() {
    let (without, _server) = ops();
    let text = body(ask(without.admin(), "GET", "/metrics", Some(TOKEN)).await).await;
    assert!(!text.contains("ws_request_pool"), "{text}");

    let direct = Direct::new("ws://backend.example/secret-path").unwrap();
    let pool = crate::requests::RequestPool::builder(direct, "x");
    let pool = pool.manager(|manager| manager.label("batch")).build().unwrap();
    let manager = without.gateway.manager().clone();
    let gateway = Gateway::builder(manager).batch(pool, |_| None).build();
    let ops = Ops::new(gateway);
    for uri in ["/metrics", "/stats?format=prometheus"] {
        let text = body(ask(ops.admin(), "GET", uri, None).await).await;
        for line in [
            "ws_request_pool_requests_total{manager=\"batch\",outcome=\"answered\"} 0",
            "ws_manager_active_connections{manager=\"batch\"} 0",
            "ws_manager_active_connections{manager=\"default\"} 0",
            "# TYPE ws_manager_active_connections gauge",
            "ws_gateway_delivered_total 0",
        ] {
            assert_eq!(text.lines().filter(|l| *l == line).count(), 1, "{line}\n{text}");
        }
        assert!(!text.contains("backend.example"), "{text}");
        assert_eq!(promtool(&text).unwrap_or_default(), "", "promtool finds nothing");
    }
}

/// What `promtool check metrics` says; `None` where it is not installed.
fn promtool(text: &str) -> Option<String> {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some(String::from_utf8(said).unwrap())
}

#[test]
fn the_token_is_not_printed() {
    let text =
        format!("{:?}", Ops::new(Gateway::new(WsManager::connect("ws://h").unwrap())).token(TOKEN));
    assert!(!text.contains("canary"), "{text}");
}
