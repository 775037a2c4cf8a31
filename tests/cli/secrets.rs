//! No secret among the arguments is ever shown.

use wsmux::test_util::{Answer, MockServer, Peer};

use crate::{Running, run, serving};

/// `ann:canary` in base64, as its header has it.
const BASE64: &str = "YW5uOmNhbmFyeQ==";

fn secret(server: &MockServer) -> String {
    server.url().replace("://", "://ann:canary@") + "/{name}?token=canary"
}

fn assert_clean(shown: &str) {
    for secret in ["canary", BASE64] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn nothing_that_happens_to_a_stream_has_a_secret_shown() {
    let server = serving(|peer: Peer| async move {
        let query = peer.query().unwrap().to_owned();
        let headers = format!("{:?}", peer.headers());
        // Were they not sent, none could be shown.
        assert!(query.contains("canary") && headers.contains("canary") && headers.contains(BASE64));
        peer.send("hello").await;
        peer.fin();
    });
    let server = server.await;
    for answer in [Answer::Accept, Answer::status(401), Answer::WrongAccept, Answer::Refuse] {
        server.set_answer("/", answer);
        for format in ["pretty", "json", "raw"] {
            let url = secret(&server);
            let header = "X-Key: canary";
            let tail = ["tail", "-vvv", "--retry=1", "-f", format, &url, "x", "-H", header];
            let ran = run(&tail).await;
            assert_clean(&ran.shown());
            assert!(ran.stderr.contains("wsmux"), "it logs: {ran:?}");
        }
        let url = secret(&server);
        for more in [&["-vvv"][..], &["--json"]] {
            let ran = run(&[&["doctor", &url, "x", "-H", "X-Key: canary"], more].concat()).await;
            assert_clean(&ran.shown());
            assert!(ran.shown().contains("?***"), "{ran:?}");
        }
    }
}

#[tokio::test]
async fn a_file_of_headers_is_sent_and_not_shown() {
    let server = MockServer::start().await.unwrap();
    let file = std::env::temp_dir().join(format!("wsmux-cli-{}.txt", std::process::id()));
    std::fs::write(&file, "X-Key: canary\n\nAuthorization: Bearer canary\n").unwrap();
    let argument = format!("@{}", file.display());
    let tail = Running::start(&["tail", &server.url(), "x", "-n1", "--header", &argument]);
    let peer = crate::within(server.accept()).await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!(peer.headers()["x-key"], "canary");
    assert_eq!(peer.headers()["authorization"], "Bearer canary");
    peer.send("hello").await;
    assert_clean(&tail.end().await.shown());
}

#[tokio::test]
async fn arguments_that_make_no_sense_repeat_no_secret() {
    let url = "ws://ann:canary@h/?canary";
    for arguments in [
        &[url][..],
        &[url, "x"],
        &["tail", url],
        &["tail", "https://ann:canary@h/?canary", "x"],
        &["tail", "ws://ann:canary@h:99999/?canary", "x"],
        &["tail", "ws://ann:canary@{name}/", "x"],
        &["tail", "ann:canary@h/ws", "x"],
        &["doctor", url, "x", url],
        &["doctor", "ws://ann:canary@h/#canary", "x"],
        &["tail", url, "x", "--rate", "canary: x"],
        &["tail", url, "x", "--format", url],
        &["tail", url, "x", "-H", "canary"],
        &["tail", url, "x", "-H", "@a: canary"],
        &["tail", url, "x", "-H", "a b: canary"],
        &["tail", url, "x", "-H", "a: canary\nb"],
        &["tail", url, "x", "--haeder", "a: canary"],
    ] {
        let ran = run(arguments).await;
        assert_eq!(ran.code, Some(2), "{arguments:?} {ran:?}");
        assert_clean(&ran.shown());
    }
}
