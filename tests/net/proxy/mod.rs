//! Through proxies, good and bad: what the reader sees, and that nothing goes past them.

mod mock;

use std::net::SocketAddr;

use tokio::net::TcpSocket;
use tokio::time::Instant;
use wsmux::doctor::{DoctorOptions, Finding, Outcome, StepKind};
use wsmux::protocol::Direct;
use wsmux::test_util::{Certificate, MockServer};
use wsmux::transport::{Proxy, Tls, Tungstenite};
use wsmux::{CloseReason, Config, DisconnectReason, ProxyFault, Subscription};

use self::mock::{Does, MockProxy, Speaks};
use crate::secrets::{Shown, logged};
use crate::{
    DIALS, MS, NAME, Net, SECOND, builder, config, end, exhausted, fatal, message, within,
};

/// Resolves nowhere (RFC 6761 §6.4).
const NOWHERE: &str = "feed.invalid";

fn through(scheme: &str, at: SocketAddr) -> Proxy {
    Proxy::new(&format!("{scheme}://canary-user:canary%20password@{at}")).unwrap()
}

const WANTS: Does = Does::Wants("canary-user", "canary password");

/// The server, dialled as `host` through `proxy`.
fn net(server: MockServer, host: &str, proxy: Proxy, config: Config) -> Net {
    let scheme = if server.root_pem().is_empty() { "ws" } else { "wss" };
    let url = format!("{scheme}://{host}:{}/ws", server.addr().port());
    let mut transport = Tungstenite::new().proxy(proxy);
    if scheme == "wss" {
        let tls = Tls::empty().add_root_pem(server.root_pem().as_bytes()).unwrap();
        transport = transport.tls(tls);
    }
    let builder = builder(Direct::new(&url).unwrap(), config).transport(transport);
    Net::of(server, builder)
}

#[tokio::test]
async fn a_stream_goes_through_each_kind_of_proxy_and_its_name_is_the_proxys_to_resolve() {
    for (speaks, scheme) in [(Speaks::Http, "http"), (Speaks::Socks, "socks5h")] {
        for does in [Does::Serves, WANTS] {
            let server = MockServer::start().await.unwrap();
            let port = server.addr().port();
            let proxy = MockProxy::start(speaks, does, server.addr()).await;
            let net = net(server, NOWHERE, through(scheme, proxy.addr), config());
            let mut stream = net.subscribe();
            let peer = net.accept().await;
            assert!(peer.send("up").await);
            assert_eq!(message(&mut stream).await, "up".into());
            peer.fin();
            net.accept().await;
            let targets = vec![format!("{NOWHERE}:{port}"); 2];
            assert_eq!(proxy.seen().targets, targets, "the second dial goes there too");
            assert_eq!(net.server.dials(), 2, "no other way was taken");
            drop((stream, proxy));
            net.leaves_nothing().await;
        }
    }
}

#[tokio::test]
async fn tls_goes_through_the_tunnel_and_names_the_server() {
    for (speaks, scheme) in [(Speaks::Http, "http"), (Speaks::Socks, "socks5h")] {
        let server = MockServer::builder().tls(Certificate::Valid).start().await.unwrap();
        let proxy = MockProxy::start(speaks, WANTS, server.addr()).await;
        let net = net(server, "localhost", through(scheme, proxy.addr), config());
        let mut stream = net.subscribe();
        let peer = net.accept().await;
        assert!(peer.send("secret").await);
        assert_eq!(message(&mut stream).await, "secret".into());
        let hello = &proxy.seen().through[0];
        assert_eq!(hello[0], 22, "TLS is what goes through");
        assert!(
            hello.windows(9).any(|bytes| bytes == b"localhost"),
            "the server's name is asked for"
        );
        drop((stream, proxy));
        net.leaves_nothing().await;
    }
    let server = MockServer::builder().tls(Certificate::OtherName).start().await.unwrap();
    let proxy = MockProxy::start(Speaks::Http, Does::Serves, server.addr()).await;
    let net = net(server, "localhost", through("http", proxy.addr), config());
    let reason = end(&mut net.subscribe()).await;
    assert_eq!(*fatal(&reason), DisconnectReason::Certificate, "a proxy is no authority");
}

#[tokio::test]
async fn with_socks5_this_machine_resolves_the_name() {
    let server = MockServer::start().await.unwrap();
    let proxy = MockProxy::start(Speaks::Socks, Does::Serves, server.addr()).await;
    let net = net(server, "localhost", through("socks5", proxy.addr), config());
    let stream = net.subscribe();
    net.accept().await;
    let target = proxy.seen().targets[0].clone();
    assert!(target.starts_with("127.0.0.1:") || target.starts_with("[::1]:"), "{target}");
    drop(stream);
    net.leaves_nothing().await;

    let server = MockServer::start().await.unwrap();
    let nowhere = self::net(server, NOWHERE, through("socks5", proxy.addr), config());
    let reason = end(&mut nowhere.subscribe()).await;
    assert_eq!(*exhausted(&reason), DisconnectReason::Dns);
    assert_eq!((proxy.seen().targets.len(), nowhere.server.dials()), (1, 0));
}

/// What a stream ends for whose proxy does so, what it says of it, and after how many connections to
/// the proxy. The server is to be left alone.
async fn fate(speaks: Speaks, does: Does, config: Config) -> (CloseReason, String, usize) {
    let scheme = match speaks {
        Speaks::Http => "http",
        Speaks::Socks => "socks5h",
    };
    let server = MockServer::start().await.unwrap();
    let proxy = MockProxy::start(speaks, does, server.addr()).await;
    let net = net(server, "127.0.0.1", through(scheme, proxy.addr), config);
    let mut stream = net.subscribe();
    let reason = end(&mut stream).await;
    assert_eq!(net.server.dials(), 0, "there is no other way than the proxy's");
    let connections = proxy.seen().connections;
    let text = reason.to_string();
    assert!(text.contains(&format!("{scheme}://{}", proxy.addr)), "the proxy is named: {text}");
    drop((stream, proxy));
    net.leaves_nothing().await;
    (reason, text, connections)
}

#[tokio::test]
async fn a_proxy_that_refuses_for_good_ends_the_stream_at_once() {
    let head = |status| Does::Says(format!("HTTP/1.1 {status} Canary\r\n\r\n").into_bytes());
    let wrong = Does::Wants("somebody", "else");
    for (speaks, does, expected) in [
        (Speaks::Http, wrong.clone(), ProxyFault::Credentials),
        (Speaks::Socks, wrong, ProxyFault::Credentials),
        (Speaks::Socks, Does::Says(b"\x05\xff".into()), ProxyFault::Credentials),
        (Speaks::Http, head(403), ProxyFault::Status { status: 403 }),
        (Speaks::Http, head(302), ProxyFault::Status { status: 302 }),
        (Speaks::Socks, Does::Says(b"\x05\0\x05\x02".into()), ProxyFault::Reply { code: 2 }),
    ] {
        let (reason, text, connections) = fate(speaks, does, config()).await;
        assert_eq!(
            (fatal(&reason), connections),
            (&DisconnectReason::Proxy(expected), 1),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_proxy_in_trouble_is_tried_again() {
    let says = |bytes: &[u8]| Does::Says(bytes.into());
    for (speaks, does, expected) in [
        (Speaks::Http, says(b"HTTP/1.1 502 X\r\n\r\n"), ProxyFault::Status { status: 502 }),
        (Speaks::Http, says(b"HTTP/1.0 503 X\r\nA: b\r\n\r\n"), ProxyFault::Status { status: 503 }),
        (Speaks::Socks, says(b"\x05\0\x05\x05\0\x01\0\0\0\0\0\0"), ProxyFault::Reply { code: 5 }),
        (Speaks::Http, says(b""), ProxyFault::Unreachable),
        (Speaks::Http, says(b"HTTP/1.1 200 Conn"), ProxyFault::Unreachable),
        (Speaks::Socks, says(b"\x05"), ProxyFault::Unreachable),
    ] {
        let (reason, text, connections) = fate(speaks, does, config()).await;
        assert_eq!(*exhausted(&reason), DisconnectReason::Proxy(expected), "{text}");
        assert_eq!(connections, DIALS);
    }
}

#[tokio::test]
async fn what_is_no_proxy_is_fatal_the_third_time() {
    let flood = [&b"HTTP/1.1 200 OK\r\n"[..], &b"x: y\r\n".repeat(1 << 18)].concat();
    for (speaks, bytes) in [
        (Speaks::Http, b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
        (Speaks::Http, b"HTTP/1.1 abc\r\n\r\n".to_vec()),
        (Speaks::Http, vec![0; 100_000]),
        (Speaks::Http, flood),
        (Speaks::Socks, b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        (Speaks::Socks, b"\x04\x5a".to_vec()),
    ] {
        let (reason, text, connections) = fate(speaks, Does::Says(bytes), config()).await;
        let expected = DisconnectReason::Proxy(ProxyFault::Violation);
        assert_eq!((fatal(&reason), connections), (&expected, 3), "{text}");
    }
}

#[tokio::test]
async fn a_proxy_that_hangs_or_drips_is_left_at_the_connect_timeout() {
    let drip = b"HTTP/1.1 200 Connection established\r\n".to_vec();
    for (speaks, does) in [
        (Speaks::Http, Does::Hangs),
        (Speaks::Socks, Does::Hangs),
        (Speaks::Http, Does::Drips(drip, 40 * MS)),
        (Speaks::Socks, Does::Drips(b"\x05\0".into(), SECOND)),
    ] {
        let start = Instant::now();
        let (reason, text, connections) =
            fate(speaks, does, config().connect_timeout(100 * MS)).await;
        assert_eq!(*exhausted(&reason), DisconnectReason::ConnectTimeout, "{text}");
        assert_eq!(connections, DIALS);
        assert!(start.elapsed() >= 400 * MS);
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_no_reason_to_go_past_it() {
    // Bound and not listening: it refuses, and nobody else is given the port.
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gone = held.local_addr().unwrap().to_string();
    for address in [&*gone, "no-proxy.invalid:3128"] {
        let server = MockServer::start().await.unwrap();
        let proxy = Proxy::new(&format!("http://u:canary@{address}")).unwrap();
        let net = net(server, "127.0.0.1", proxy, config());
        let reason = end(&mut net.subscribe()).await;
        assert_eq!(*exhausted(&reason), DisconnectReason::Proxy(ProxyFault::Unreachable));
        assert!(reason.to_string().contains(address), "{reason}");
        assert_eq!(net.server.dials(), 0);
    }
}

#[tokio::test]
async fn what_is_left_out_is_dialled_directly() {
    let server = MockServer::start().await.unwrap();
    let proxy = MockProxy::start(Speaks::Http, Does::Says(Vec::new()), server.addr()).await;
    let through = through("http", proxy.addr).bypass("example.com, 127.0.0.0/8");
    let net = net(server, "127.0.0.1", through, config());
    let stream = net.subscribe();
    net.accept().await;
    assert_eq!(proxy.seen().connections, 0);
    drop(stream);
    net.leaves_nothing().await;
}

#[tokio::test]
async fn no_credentials_of_a_proxy_are_shown_whatever_it_does() {
    let encoded = data_encoding::BASE64.encode(b"canary-user:canary password");
    for speaks in [Speaks::Http, Speaks::Socks] {
        for does in [
            WANTS,
            Does::Wants("somebody", "else"),
            Does::Says(b"HTTP/1.1 403 canary-word\r\nx: canary-header\r\n\r\n".into()),
            Does::Says(b"canary-garbage".into()),
            Does::Says(b"\x05\0\x05\x02canary".into()),
            Does::Says(Vec::new()),
            Does::Hangs,
        ] {
            let shown = Shown::default();
            let _logged = logged(&shown);
            let scheme = if matches!(speaks, Speaks::Http) { "http" } else { "socks5" };
            let server = MockServer::start().await.unwrap();
            let proxy = MockProxy::start(speaks, does, server.addr()).await;
            let through = through(scheme, proxy.addr);
            shown.print(&through);
            shown.print(&Tungstenite::new().proxy(through.clone()));
            let net = net(server, "127.0.0.1", through, config().connect_timeout(50 * MS));
            let mut stream = net.subscribe();
            shown_of(&shown, &net, &mut stream).await;
            let text = shown.text();
            let line = text.lines().find(|line| line.contains("canary") || line.contains(&encoded));
            assert_eq!(line, None, "{text}");
            assert!(text.contains(scheme));
        }
    }
}

/// Prints what there is to see of a stream, up to its end or its first message.
async fn shown_of(shown: &Shown, net: &Net, stream: &mut Subscription<wsmux::Message>) {
    let serving = async {
        net.accept().await.send("up").await;
        std::future::pending::<()>().await;
    };
    let reading = async {
        if let Some(Err(e)) = within(stream.recv()).await {
            shown.error(&e);
        }
        shown.print(&stream.info());
        shown.print(&net.manager);
        shown.line(&net.manager.diagnose().to_string());
    };
    tokio::select! {
        () = serving => {}
        () = reading => {}
    }
}

fn doctors(host: &str, server: &MockServer, proxy: Proxy) -> (String, DoctorOptions) {
    let url = format!("ws://{host}:{}/ws", server.addr().port());
    let transport = Tungstenite::new().proxy(proxy);
    (url, DoctorOptions::default().transport(transport).timeout(SECOND).listen(MS))
}

#[tokio::test]
async fn the_doctor_shows_the_proxy_and_what_is_wrong_with_it() {
    let server = MockServer::start().await.unwrap();
    let proxy = MockProxy::start(Speaks::Http, WANTS, server.addr()).await;
    let (url, options) = doctors(NOWHERE, &server, through("http", proxy.addr));
    let diagnosis = within(wsmux::doctor(&url, NAME, options)).await.unwrap();
    let step = diagnosis.step(StepKind::Proxy).unwrap();
    let Finding::Tunnelled { proxy: named, resolves: true, .. } = &step.finding else {
        panic!("{diagnosis}")
    };
    assert_eq!((step.outcome, &**named), (Outcome::Passed, &*format!("http://{}", proxy.addr)));
    assert!(diagnosis.step(StepKind::Handshake).unwrap().outcome == Outcome::Passed, "{diagnosis}");
    assert!(diagnosis.to_string().contains(named) && !diagnosis.to_string().contains("canary"));

    let says = MockProxy::start(Speaks::Http, Does::Hangs, server.addr()).await;
    let refusing = MockProxy::start(Speaks::Http, Does::Wants("a", "b"), server.addr()).await;
    for (at, expected) in [
        (says.addr, DisconnectReason::ConnectTimeout),
        (refusing.addr, DisconnectReason::Proxy(ProxyFault::Credentials)),
    ] {
        let (url, options) = doctors(NOWHERE, &server, through("http", at));
        let diagnosis = within(wsmux::doctor(&url, NAME, options)).await.unwrap();
        let failed = diagnosis.failed().unwrap();
        let Finding::Failed { error, .. } = &failed.finding else { panic!("{diagnosis}") };
        assert_eq!((failed.kind, error.reason()), (StepKind::Proxy, &expected), "{diagnosis}");
        assert!(failed.advice().is_some());
    }
}
