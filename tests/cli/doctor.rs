//! `wsmux doctor`; what it finds is tested with the library.

use serde_json::Value;
use wsmux::test_util::{Answer, Certificate, MockExchange, MockServer, Peer};

use crate::{run, serving, within};

fn outcomes(json: &Value) -> Vec<&str> {
    let steps = json["steps"].as_array().unwrap();
    steps.iter().map(|step| step["outcome"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_stream_that_is_well_passes_with_0() {
    let exchange = MockExchange::start().await.unwrap();
    let arguments = ["doctor", &exchange.url(), "btcusdt@trade"];
    let ran = run(&arguments).await;
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    let text = ran.text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 1 + 9 + 1, "{text}");
    assert_eq!(*lines.last().unwrap(), "All is well.");
    assert!(lines[1].starts_with("ok    DNS"), "{text}");

    let ran = run(&[&arguments[..], &["--json"]].concat()).await;
    let json: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(json["outcome"], "passed");
    assert_eq!(outcomes(&json)[..2], ["passed", "passed"]);
    assert!(json["steps"][4]["took_ms"].is_f64(), "{json}");
    within(exchange.server().until_sockets(0)).await;
}

#[tokio::test]
async fn each_failure_has_its_step_its_code_and_its_advice() {
    let server = MockServer::builder().tls(Certificate::Expired).start().await.unwrap();
    let ca = std::env::temp_dir().join(format!("wsmux-cli-{}.pem", std::process::id()));
    std::fs::write(&ca, server.root_pem()).unwrap();
    let ran = run(&["doctor", &server.url(), "x", "--ca", ca.to_str().unwrap()]).await;
    std::fs::remove_file(&ca).unwrap();
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.text().contains("expired on 01 Jan 2020") && ran.text().contains("renewed"));
    assert!(ran.text().contains("-     teardown"), "{ran:?}");

    let server = MockServer::start().await.unwrap();
    server.set_answer("/", Answer::status(401));
    let ran = run(&["doctor", &server.url(), "x"]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.text().contains("FAIL  handshake") && ran.text().contains("HTTP status 401"));

    let server = serving(|peer: Peer| async move { peer.fin() }).await;
    let ran = run(&["doctor", &server.url(), "x", "--json"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let json: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(outcomes(&json)[5..7], ["failed", "not_reached"]);
}

#[tokio::test]
async fn a_quiet_stream_is_5() {
    let server = MockServer::start().await.unwrap();
    let ran = run(&["doctor", &server.url(), "x", "--listen", "100ms"]).await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.text().contains("warn  first message"), "{ran:?}");
}
