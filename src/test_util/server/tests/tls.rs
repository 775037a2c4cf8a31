//! TLS, good and bad.

use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::test_util::Certificate;

async fn tls(server: &MockServer, host: &'static str) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.root_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(server.addr()).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host).unwrap(), tcp).await
}

async fn serve(certificate: Certificate) -> MockServer {
    MockServer::builder().tls(certificate).start().await.unwrap()
}

#[tokio::test]
async fn a_valid_certificate_is_trusted_for_both_of_its_names() {
    let server = serve(Certificate::Valid).await;
    for host in ["localhost", "127.0.0.1"] {
        let stream = within(tls(&server, host)).await.unwrap();
        let (mut client, _) = within(client_async(server.url(), stream)).await.unwrap();
        let peer = within(server.accept()).await;
        assert!(peer.send("secret").await);
        assert_eq!(within(client.next()).await.unwrap().unwrap(), Wire::text("secret"));
        peer.fin();
        assert!(within(client.next()).await.unwrap().is_err(), "no close frame");
    }
    assert!(server.url().starts_with("wss://localhost:"));
}

#[tokio::test]
async fn bad_certificates_are_not_trusted() {
    for (certificate, reason) in [
        (Certificate::Expired, "Expired"),
        (Certificate::OtherName, "NotValidForName"),
        (Certificate::UnknownCa, "UnknownIssuer"),
    ] {
        let server = serve(certificate).await;
        let refused = within(tls(&server, "localhost")).await.unwrap_err();
        assert!(format!("{refused:?}").contains(reason), "{refused:?}");
    }
}

#[tokio::test]
async fn a_socket_over_tls_is_reset_too() {
    let server = serve(Certificate::Valid).await;
    let stream = within(tls(&server, "localhost")).await.unwrap();
    let (mut client, _) = within(client_async(server.url(), stream)).await.unwrap();
    within(server.accept()).await.reset();
    let Some(Err(Error::Io(e))) = within(client.next()).await else { panic!("no error") };
    assert_eq!(e.kind(), io::ErrorKind::ConnectionReset);
}
