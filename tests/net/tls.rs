//! Certificates that are good and bad, and TLS where there is none.
//!
//! No test installs a crypto provider for the process: none is needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wsmux::protocol::Direct;
use wsmux::test_util::{Certificate, MockServer};
use wsmux::transport::{Tls, Tungstenite};
use wsmux::{CloseReason, DisconnectReason};

use crate::{DIALS, Net, builder, config, end, exhausted, fatal, message};

/// A manager that trusts only the server's root, and dials it at `host`.
async fn serving(certificate: Certificate, host: &str) -> Net {
    let server = MockServer::builder().tls(certificate).start().await.unwrap();
    let tls = Tls::empty().add_root_pem(server.root_pem().as_bytes()).unwrap();
    let direct = Direct::new(&format!("wss://{host}:{}/ws", server.addr().port())).unwrap();
    let builder = builder(direct, config()).transport(Tungstenite::new().tls(tls));
    Net::of(server, builder)
}

#[tokio::test]
async fn a_valid_certificate_is_accepted_for_each_of_its_names() {
    for host in ["localhost", "127.0.0.1"] {
        let net = serving(Certificate::Valid, host).await;
        let mut stream = net.subscribe();
        let peer = net.accept().await;
        assert!(peer.send("secret").await);
        assert_eq!(message(&mut stream).await, "secret".into());
        peer.close(1001, "").await;
        assert_eq!(crate::gap(&mut stream).await.label(), "closed");
        net.accept().await.fin();
        assert_eq!(crate::gap(&mut stream).await, DisconnectReason::Ended);
        drop(stream);
        net.leaves_nothing().await;
    }
}

#[tokio::test]
async fn a_bad_certificate_ends_the_stream_at_once() {
    for certificate in [Certificate::Expired, Certificate::OtherName, Certificate::UnknownCa] {
        let net = serving(certificate, "localhost").await;
        let mut stream = net.subscribe();
        let reason = end(&mut stream).await;
        assert_eq!(*fatal(&reason), DisconnectReason::Certificate, "{certificate:?}");
        assert_eq!(net.server.dials(), 1, "no retry");
        assert!(net.server.dialled().is_empty(), "nothing was said to it");
        drop(stream);
        net.leaves_nothing().await;
    }
}

#[tokio::test]
async fn a_root_that_was_not_added_is_not_trusted() {
    let server = MockServer::builder().tls(Certificate::Valid).start().await.unwrap();
    let direct = Direct::new(&server.url()).unwrap();
    // The default transport, with the default roots.
    let builder = builder(direct, config());
    let net = Net::of(server, builder);
    let mut stream = net.subscribe();
    assert_eq!(*fatal(&end(&mut stream).await), DisconnectReason::Certificate);
    assert_eq!(net.server.dials(), 1);
    drop(stream);
    net.leaves_nothing().await;
}

/// What a stream ends for that speaks TLS to a server which does not.
async fn spoken_to_plain(answer: &'static [u8]) -> (CloseReason, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://{}/ws", listener.local_addr().unwrap());
    let dials = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dials);
    let serving = tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            let _ = tcp.read(&mut [0; 4096]).await;
            let _ = tcp.write_all(answer).await;
            let _ = tcp.shutdown().await;
            let _ = tcp.read(&mut [0; 4096]).await;
        }
    });
    let manager = builder(Direct::new(&url).unwrap(), config()).build().unwrap();
    let mut stream = manager.subscribe(crate::NAME).unwrap();
    let reason = end(&mut stream).await;
    serving.abort();
    (reason, dials.load(Ordering::Relaxed))
}

#[tokio::test]
async fn tls_to_a_plain_port_is_named_and_bounded() {
    let (reason, dials) = spoken_to_plain(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    assert_eq!((exhausted(&reason), dials), (&DisconnectReason::Tls, DIALS));
    let (reason, dials) = spoken_to_plain(b"").await;
    assert!(matches!(exhausted(&reason), DisconnectReason::Io(_)), "{reason:?}");
    assert_eq!(dials, DIALS);

    let server = MockServer::start().await.unwrap();
    let direct = Direct::new(&format!("wss://{}/ws", server.addr())).unwrap();
    let builder = builder(direct, config());
    let net = Net::of(server, builder);
    let mut stream = net.subscribe();
    let reason = end(&mut stream).await;
    assert!(matches!(exhausted(&reason), DisconnectReason::Io(_)), "{reason:?}");
    assert_eq!(net.server.dials(), DIALS);
    drop(stream);
    net.leaves_nothing().await;
}

#[tokio::test]
async fn no_tls_to_a_tls_port_is_named_and_bounded() {
    let server = MockServer::builder().tls(Certificate::Valid).start().await.unwrap();
    let direct = Direct::new(&format!("ws://{}/ws", server.addr())).unwrap();
    let builder = builder(direct, config());
    let net = Net::of(server, builder);
    let mut stream = net.subscribe();
    // An alert of TLS is no HTTP.
    assert_eq!(*fatal(&end(&mut stream).await), DisconnectReason::ProtocolViolation);
    assert_eq!(net.server.dials(), 3);
    drop(stream);
    net.leaves_nothing().await;
}
