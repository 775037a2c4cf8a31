//! What clients may have `wsmux serve` dial: names below its base, and so many of them.

use super::serve::{Gateway, Temporary, ask};
use super::*;

/// Whether a path of an upgrade is that of one name below `/base`.
fn is_below(path: &str) -> bool {
    let name = path.strip_prefix("/base/");
    name.is_some_and(|name| {
        !name.is_empty() && name != ".." && !name.contains(['/', '?', '#', '\\'])
    })
}

/// As a client would write it into a path, so that nothing of it is read before the gateway does.
fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn whatever_a_client_asks_for_is_dialled_below_the_base_or_not_at_all() {
    let server = serving(|peer| async move {
        peer.send("tick").await;
        peer.closed().await;
    })
    .await;
    let base = format!("{}/base", server.url().trim_end_matches('/'));
    let gateway = Gateway::start(&["--anonymous", "--upstream", &base]).await;
    let names = [
        "btcusdt@trade",
        "..",
        "../admin",
        "..\\admin",
        "@evil.example",
        "//evil.example/x",
        "wss://evil.example:1@x",
        "x?key=1",
        "x#y",
        "%2e%2e%2fadmin",
        "x\r\nhost: evil.example",
        "x y",
        "\0",
    ];
    for name in names {
        let path = format!("/snapshot/{}", encoded(name));
        let (status, answer) = ask(&gateway.at, "GET", &path, "").await;
        assert!([200, 404].contains(&status), "{name:?}: {answer}");
    }
    let dialled = server.dialled();
    assert!(dialled.contains(&"/base/btcusdt@trade".to_owned()), "{dialled:?}");
    assert!(dialled.iter().all(|path| is_below(path)), "{dialled:?}");
    for elsewhere in ["/admin", "/base/../admin", "/base/x?key=1", "/base/", "/base/.."] {
        assert!(!is_below(elsewhere), "{elsewhere}");
    }
}

/// What is answered where five ask for four names and so many may be upstream, and how many were dialled.
async fn asked_for_four(names: usize) -> (Vec<u16>, usize) {
    let server = serving(|peer| async move {
        peer.send("tick").await;
        peer.closed().await;
    })
    .await;
    let text = format!("[auth]\nanonymous = true\n[limits]\nnames = {names}\n");
    let config = Temporary::new(&format!("names-{names}"), &text);
    let url = server.url();
    let gateway = Gateway::start(&["--upstream", &url, "--config", config.path()]).await;
    let mut statuses = Vec::new();
    for name in ["a", "b", "c", "d", "a"] {
        statuses.push(ask(&gateway.at, "GET", &format!("/snapshot/{name}"), "").await.0);
    }
    (statuses, server.dials())
}

#[tokio::test]
async fn upstream_there_are_no_more_names_than_may_be_however_many_are_asked_for() {
    assert_eq!(asked_for_four(2).await, (vec![200, 200, 404, 404, 200], 2));
}

/// What the limit is for: above it each name that is asked for is dialled.
#[tokio::test]
async fn where_there_may_be_more_names_each_is_dialled() {
    assert_eq!(asked_for_four(7).await, (vec![200; 5], 4));
}
