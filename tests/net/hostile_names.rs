//! Names that would be something else in a URL arrive as one segment of the path, and as nothing
//! else.

use http::HeaderMap;
use http::header::{HOST, SEC_WEBSOCKET_KEY};
use wsmux::protocol::Direct;
use wsmux::test_util::{MockServer, Peer};
use wsmux::{InvalidName, Message, StreamName, SubscribeError};

use crate::{Net, builder, config, message, within};

const HOSTILE: &[&str] = &[
    "../admin",
    "../../admin",
    "..\\admin",
    "...",
    "a/b",
    "/",
    "//evil.example/",
    "a?b",
    "a?token=b&c=d",
    "a#b",
    "@evil",
    "x@evil:80",
    ":80@evil",
    "http://evil.example/",
    "ws:evil",
    "%2e%2e",
    "%2e%2e%2fadmin",
    "%00",
    "%0d%0aHost:%20evil",
    "%",
    "%zz",
    "a b",
    " HTTP/1.1",
    "a+b",
    "a;b=c",
    "*",
    "[::1]",
    "<script>\"'`",
    "{name}",
    "$(id)|&",
    "BTCUSDT@trade",
    "ラーメン",
    "🍜",
    "e\u{301}",
    "\u{202e}cod.exe",
    "\u{a0}\u{200b}\u{feff}",
    "．．／",
    r#"{"channel":"book","id":[1]}"#,
];

/// The segment that stands for a name: nothing in it but what is itself everywhere in a path.
fn is_one_segment(segment: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@!_.~-:,$%".contains(&byte);
    segment.bytes().all(plain) && !matches!(segment, "" | "." | "..")
}

/// What a handshake says beside its path and its key.
fn headers(peer: &Peer) -> HeaderMap {
    let mut headers = peer.headers().clone();
    assert_eq!(headers.remove(SEC_WEBSOCKET_KEY).map(|key| key.len()), Some(24));
    headers
}

async fn dial(net: &Net, name: &str) -> Peer {
    let mut stream = net.manager.subscribe::<Message>(name).unwrap();
    let peer = net.accept().await;
    assert!(peer.send("up").await);
    assert_eq!(message(&mut stream).await, "up".into());
    drop(stream);
    within(peer.closed()).await;
    peer
}

#[tokio::test]
async fn a_hostile_name_is_one_segment_and_changes_no_header() {
    let net = Net::start().await;
    let expected = headers(&dial(&net, "plain").await);
    assert_eq!(expected[HOST], net.server.addr().to_string());
    let long = ["é".repeat(2048), "/".repeat(4096), "a".repeat(4096)];
    for name in HOSTILE.iter().copied().chain(long.iter().map(String::as_str)) {
        let peer = dial(&net, name).await;
        assert_eq!(peer.path(), format!("/ws/{name}"));
        assert_eq!((peer.query(), headers(&peer)), (None, expected.clone()), "{name}");
        let target = net.server.dialled().pop().unwrap();
        let segment = target.strip_prefix("/ws/").unwrap();
        assert!(is_one_segment(segment), "{target}");
    }
    assert_eq!(net.server.dials(), 1 + HOSTILE.len() + long.len());
    net.leaves_nothing().await;
}

#[tokio::test]
async fn a_hostile_name_is_one_value_of_the_query() {
    let server = MockServer::start().await.unwrap();
    let base = format!("{}/ws?a=1&stream={{name}}&token=2", server.url());
    let builder = builder(Direct::new(&base).unwrap(), config());
    let net = Net::of(server, builder);
    let expected = headers(&dial(&net, "plain").await);
    for name in HOSTILE {
        let peer = dial(&net, name).await;
        assert_eq!((peer.path(), headers(&peer)), ("/ws", expected.clone()), "{name}");
        let query = peer.query().unwrap();
        let value = query.strip_prefix("a=1&stream=").unwrap().strip_suffix("&token=2").unwrap();
        assert!(is_one_segment(value), "{query}");
    }
    net.leaves_nothing().await;
}

#[tokio::test]
async fn a_name_that_cannot_be_sent_is_refused_before_anything_is_dialled() {
    let net = Net::start().await;
    let long = "a".repeat(StreamName::MAX_LEN + 1);
    let names = ["", ".", "..", "a\r\nHost: evil", "a\nb", "\0", "\t", "\u{7f}", "\u{85}", &long];
    for name in names {
        let refused = net.manager.subscribe::<Message>(name).map(|_| ()).unwrap_err();
        assert!(matches!(refused, SubscribeError::InvalidName(_)), "{name:?}: {refused}");
        assert!(net.manager.keep_warm(name).is_err());
    }
    let dots = net.manager.subscribe::<Message>("..").map(|_| ()).unwrap_err();
    assert_eq!(dots, SubscribeError::InvalidName(InvalidName::DotSegment));
    assert_eq!(net.server.dials(), 0);
    net.leaves_nothing().await;
}

#[tokio::test]
async fn names_that_differ_only_in_their_encoding_are_two_streams() {
    let net = Net::start().await;
    let names = ["a b", "a%20b", "a+b", "A b", "e\u{301}", "é"];
    for name in names {
        dial(&net, name).await;
    }
    let mut targets = net.server.dialled();
    targets.sort_unstable();
    targets.dedup();
    assert_eq!(targets.len(), names.len());
    net.leaves_nothing().await;
}
