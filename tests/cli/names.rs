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

#[tokio::test]
async fn upstream_there_are_no_more_names_than_may_be_however_many_are_asked_for() {
    let server = serving(|peer| async move {
        peer.send("tick").await;
        peer.closed().await;
    })
    .await;
    let config = Temporary::new("names", "[auth]\nanonymous = true\n[limits]\nnames = 2\n");
    let url = server.url();
    let gateway = Gateway::start(&["--upstream", &url, "--config", config.path()]).await;
    for (name, expected) in [("a", 200), ("b", 200), ("c", 404), ("d", 404), ("a", 200)] {
        let (status, answer) = ask(&gateway.at, "GET", &format!("/snapshot/{name}"), "").await;
        assert_eq!(status, expected, "{name}: {answer}");
    }
    assert_eq!(server.dials(), 2);
}
