//! Proxies, of the environment and of the command line.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use wsmux::test_util::{MockServer, Peer};

use crate::{Ran, Running, command, serving, within};

/// Resolves nowhere (RFC 6761 §6.4): only a proxy can lead there.
const URL: &str = "ws://feed.invalid/";

async fn run_with(arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = command(arguments);
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"] {
        command.env_remove(variable);
    }
    command.envs(variables.iter().copied());
    within(Running::spawn(command).end()).await
}

/// A proxy of HTTP that leads to `server`, as `http://ann:canary@…`.
async fn proxy_to(server: &MockServer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://ann:canary@{}", listener.local_addr().unwrap());
    let server = server.addr();
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                head.push(char::from(tcp.read_u8().await.unwrap()));
            }
            assert!(
                head.starts_with("CONNECT feed.invalid:80 ") && head.contains("YW5uOmNhbmFyeQ==")
            );
            tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let mut server = TcpStream::connect(server).await.unwrap();
            let _ = copy_bidirectional(&mut tcp, &mut server).await;
        }
    });
    url
}

#[tokio::test]
async fn the_environments_proxy_is_gone_through_unless_another_is_named() {
    let server = serving(|peer: Peer| async move {
        peer.send("hello").await;
        std::future::pending().await
    });
    let server = server.await;
    let proxy = proxy_to(&server).await;
    let tail = ["tail", URL, "x", "-n1", "-f", "raw", "--retry=never", "-vvv"];
    let by_option = [&tail[..], &["--proxy", &proxy]].concat();
    for (arguments, variables) in [
        (&tail[..], &[("http_proxy", &*proxy)][..]),
        (&tail[..], &[("HTTP_PROXY", &proxy)]),
        (&tail[..], &[("ALL_PROXY", &proxy), ("NO_PROXY", "other.invalid")]),
        (&by_option[..], &[("ALL_PROXY", "http://127.0.0.1:9"), ("NO_PROXY", "*")]),
    ] {
        let ran = run_with(arguments, variables).await;
        assert_eq!((ran.code, &*ran.text()), (Some(0), "hello\n"), "{ran:?}");
        assert!(!ran.shown().contains("canary"), "{ran:?}");
    }
    let doctor = run_with(&["doctor", URL, "x"], &[("http_proxy", &proxy)]).await;
    assert!(doctor.text().contains("(of http_proxy) leads to the server"), "{doctor:?}");
    assert!(!doctor.shown().contains("canary"), "{doctor:?}");

    let direct = [&tail[..], &["--proxy", "none"]].concat();
    let past = [
        run_with(&direct, &[("ALL_PROXY", &proxy)]).await,
        run_with(&tail, &[("ALL_PROXY", &proxy), ("NO_PROXY", ".invalid")]).await,
    ];
    for ran in past {
        assert_eq!(ran.code, Some(3), "nothing is there without a proxy: {ran:?}");
        assert!(ran.stderr.contains("cannot be resolved"), "{ran:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_cannot_be_used_is_named_and_is_no_direct_connection() {
    let server = MockServer::start().await.unwrap();
    let url = format!("ws://0.0.0.0:{}", server.addr().port());
    let tail = ["tail", &url, "x", "--retry=never", "-vvv"];
    let ran = run_with(&tail, &[("http_proxy", "socks4://ann:canary@proxy")]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.stderr.contains("http_proxy is not understood"), "{ran:?}");
    let cgi = [("HTTP_PROXY", "http://ann:canary@proxy"), ("REQUEST_METHOD", "GET")];
    let ran = run_with(&tail, &cgi).await;
    assert!(ran.stderr.contains("write `http_proxy`"), "{ran:?}");
    let named = run_with(&[&tail[..], &["--proxy", "ftp://canary"]].concat(), &[]).await;
    assert_eq!(named.code, Some(2), "{named:?}");
    for ran in [ran, named] {
        assert!(!ran.shown().contains("canary"), "{ran:?}");
    }
    let doctor = run_with(&["doctor", &url, "x"], &[("all_proxy", "canary:x")]).await;
    assert_eq!(doctor.code, Some(3), "{doctor:?}");
    assert!(doctor.text().contains("FAIL  proxy") && !doctor.text().contains("canary"));
    assert_eq!(server.dials(), 0);
}
