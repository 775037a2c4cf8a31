//! TLS for `wss://`: which roots are trusted, who we are, and what a failed handshake means.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::TransportError;
use super::dial::unbracketed;
use super::stream::Stream;
use super::tickets::Tickets;
use crate::protocol::DisconnectReason;

/// Settings of TLS. Cloning is cheap, and clones share the sessions they resume: 1,024 per host, so
/// that a crowd of sockets that comes back at once is spared the full handshakes.
///
/// | feature | roots that [`Tls::new`] trusts |
/// |---|---|
/// | `rustls` | none but those added |
/// | `rustls-native-roots` | the operating system's |
/// | `rustls-webpki-roots` (default) | Mozilla's, compiled in |
/// | both | all of these |
///
/// TLS 1.2 and 1.3 are spoken. Roots are loaded at the first `wss://` connection, once.
#[derive(Clone)]
pub struct Tls {
    added: Arc<RootCertStore>,
    built: Arc<OnceCell<Arc<ClientConfig>>>,
    client: Option<Arc<CertifiedKey>>,
    default_roots: bool,
}

impl Tls {
    /// Trusts the roots that the crate's features name.
    #[must_use]
    pub fn new() -> Self {
        Self { default_roots: true, ..Self::empty() }
    }

    /// Trusts no root but those added with [`add_root_pem`](Self::add_root_pem) and
    /// [`add_root_der`](Self::add_root_der), whatever features are enabled.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            added: Arc::new(RootCertStore::empty()),
            built: Arc::default(),
            client: None,
            default_roots: false,
        }
    }

    /// Trusts all certificates in `pem` as roots too.
    ///
    /// # Errors
    ///
    /// When there is no certificate in it, or one that cannot be read.
    pub fn add_root_pem(self, pem: &[u8]) -> Result<Self, TlsError> {
        certificates(pem)?.into_iter().try_fold(self, Self::add_root)
    }

    /// Trusts a certificate as root too.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn add_root_der(self, der: impl Into<Vec<u8>>) -> Result<Self, TlsError> {
        self.add_root(CertificateDer::from(der.into()))
    }

    /// Presents a certificate to servers that ask for one. `chain` starts with it and goes on with
    /// the issuers' that a server may not know; `key` is its unencrypted private key, as PKCS#8,
    /// PKCS#1 or SEC1.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read, or the key is not the certificate's.
    pub fn client_certificate_pem(mut self, chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| match e {
            PemError::NoItemsFound => TlsError::NoKey,
            e => TlsError::Pem(e.into()),
        })?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|e| TlsError::ClientCertificate(e.into()))?;
        self.client = Some(Arc::new(certified));
        self.built = Arc::default();
        Ok(self)
    }

    /// Makes `stream` a TLS stream to `host`.
    pub(super) async fn connect(
        &self,
        host: &str,
        stream: Stream,
    ) -> Result<TlsStream<Stream>, TransportError> {
        let name = ServerName::try_from(unbracketed(host).to_owned())
            // No certificate is valid for what is neither a DNS name nor an IP address.
            .map_err(|e| TransportError::new(DisconnectReason::Certificate).with_source(e))?;
        let config = self.config().await?;
        TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(failure)
    }

    /// The same without the client's certificate, which is the server's business alone.
    pub(super) fn anonymous(&self) -> Self {
        match self.client {
            Some(_) => Self { built: Arc::default(), client: None, ..self.clone() },
            None => self.clone(),
        }
    }

    /// The settings as rustls wants them. Loads the roots, the first time.
    pub(super) async fn config(&self) -> Result<&Arc<ClientConfig>, TransportError> {
        self.built.get_or_try_init(|| self.build()).await
    }

    fn add_root(mut self, root: CertificateDer<'_>) -> Result<Self, TlsError> {
        Arc::make_mut(&mut self.added).add(root).map_err(|e| TlsError::Root(e.into()))?;
        self.built = Arc::default();
        Ok(self)
    }

    async fn build(&self) -> Result<Arc<ClientConfig>, TransportError> {
        let mut roots = RootCertStore::clone(&self.added);
        if self.default_roots {
            // The operating system's store is read from files.
            let defaults = spawn_blocking(default_roots).await.map_err(not_set_up)?;
            roots.extend(defaults.roots);
        }
        if roots.is_empty() {
            return Err(TransportError::new(DisconnectReason::Certificate).with_source(NO_ROOTS));
        }
        // Without a provider of its own, rustls panics unless exactly one is linked in.
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(not_set_up)?
            .with_root_certificates(roots);
        let mut config = match &self.client {
            Some(client) => builder
                .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(client)))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::store(Arc::new(Tickets::default()));
        Ok(Arc::new(config))
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("added_roots", &self.added.len())
            .field("client_certificate", &self.client.is_some())
            .field("default_roots", &self.default_roots)
            .finish()
    }
}

const NO_ROOTS: &str = "no root certificate is trusted: enable the feature `rustls-webpki-roots` or \
                        `rustls-native-roots`, or give one to `Tls::add_root_pem`";

/// What a failure on a TLS stream means: a certificate stays what it is, and the rest may pass.
pub(super) fn failure(e: io::Error) -> TransportError {
    let reason = match e.get_ref().and_then(|e| e.downcast_ref()) {
        None => return e.into(),
        Some(
            rustls::Error::InvalidCertificate(_)
            | rustls::Error::NoCertificatesPresented
            | rustls::Error::UnsupportedNameType,
        ) => DisconnectReason::Certificate,
        Some(_) => DisconnectReason::Tls,
    };
    TransportError::new(reason).with_source(e)
}

fn not_set_up(e: impl StdError + Send + Sync + 'static) -> TransportError {
    TransportError::new(DisconnectReason::Tls).with_source(e)
}

/// The roots that the crate's features name.
fn default_roots() -> RootCertStore {
    #[cfg(feature = "rustls-webpki-roots")]
    let compiled_in = webpki_roots::TLS_SERVER_ROOTS;
    #[cfg(not(feature = "rustls-webpki-roots"))]
    let compiled_in = &[];
    let roots: RootCertStore = compiled_in.iter().cloned().collect();
    #[cfg(feature = "rustls-native-roots")]
    let roots = with_native_roots(roots);
    roots
}

/// Adds the operating system's roots, without those that cannot be read: stores in the wild have
/// some, and the others are no worse for it.
#[cfg(feature = "rustls-native-roots")]
fn with_native_roots(mut roots: RootCertStore) -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let (added, unusable) = roots.add_parsable_certificates(found.certs);
    let skipped = found.errors.len() + unusable;
    if skipped > 0 {
        let error = found.errors.first().map(tracing::field::display);
        tracing::warn!(added, skipped, error, "unreadable certificates in the system's store");
    }
    roots
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|e| TlsError::Pem(e.into()))?;
    if all.is_empty() { Err(TlsError::NoCertificate) } else { Ok(all) }
}

/// Why a certificate or a key cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// The client's certificate or key cannot be used, or they do not belong together.
    ClientCertificate(Box<dyn StdError + Send + Sync>),
    /// There is no certificate in the PEM.
    NoCertificate,
    /// There is no private key in the PEM.
    NoKey,
    /// The PEM is damaged.
    Pem(Box<dyn StdError + Send + Sync>),
    /// The root is no X.509 certificate.
    Root(Box<dyn StdError + Send + Sync>),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientCertificate(_) => {
                "the client certificate cannot be used: give the chain with the client's own \
                 certificate first, and the key that belongs to it"
            }
            Self::NoCertificate => {
                "no certificate in the PEM: it starts with `-----BEGIN CERTIFICATE-----`"
            }
            Self::NoKey => {
                "no private key in the PEM: give it unencrypted, as PKCS#8, PKCS#1 or SEC1"
            }
            Self::Pem(_) => "the PEM is damaged: give the file's whole content, unchanged",
            Self::Root(_) => "the root cannot be read: give an X.509 certificate",
        })
    }
}

impl StdError for TlsError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::ClientCertificate(e) | Self::Pem(e) | Self::Root(e) => Some(&**e),
            Self::NoCertificate | Self::NoKey => None,
        }
    }
}

#[cfg(all(test, feature = "test-util"))]
pub(super) mod tests {
    use futures::future::join_all;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
    use rustls::ServerConfig;
    use rustls::server::WebPkiClientVerifier;
    use rustls::server::danger::ClientCertVerifier;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::{TlsAcceptor, server};

    use super::*;

    /// A certificate authority.
    pub(in super::super) struct Authority {
        issuer: Issuer<'static, KeyPair>,
        pem: String,
    }

    impl Authority {
        pub(in super::super) fn new() -> Self {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let pem = params.self_signed(&key).unwrap().pem();
            Self { issuer: Issuer::new(params, key), pem }
        }

        pub(in super::super) fn trusted(&self) -> Tls {
            Tls::empty().add_root_pem(self.pem.as_bytes()).unwrap()
        }

        /// The PEM of a certificate for `name` and of its key.
        fn certificate(
            &self,
            name: &str,
            edit: impl FnOnce(&mut CertificateParams),
        ) -> (String, String) {
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            edit(&mut params);
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
        }

        pub(in super::super) fn server(&self, name: &str) -> TlsAcceptor {
            self.server_with(name, |_| ())
        }

        fn server_with(
            &self,
            name: &str,
            edit: impl FnOnce(&mut CertificateParams),
        ) -> TlsAcceptor {
            Self::acceptor(self.certificate(name, edit), WebPkiClientVerifier::no_client_auth())
        }

        /// A server that wants its clients' certificates from the same authority.
        fn server_for_clients(&self, name: &str) -> TlsAcceptor {
            let verifier = WebPkiClientVerifier::builder_with_provider(
                Arc::clone(&self.trusted().added),
                Arc::new(ring::default_provider()),
            );
            Self::acceptor(self.certificate(name, |_| ()), verifier.build().unwrap())
        }

        fn acceptor(
            (chain, key): (String, String),
            clients: Arc<dyn ClientCertVerifier>,
        ) -> TlsAcceptor {
            let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_client_cert_verifier(clients)
                .with_single_cert(
                    certificates(chain.as_bytes()).unwrap(),
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap();
            Arc::new(config).into()
        }
    }

    type Ends = (Result<TlsStream<Stream>, TransportError>, Option<server::TlsStream<TcpStream>>);

    async fn connected(tls: &Tls, host: &str, server: &TlsAcceptor) -> Ends {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = async {
            tls.connect(host, Stream::Plain(TcpStream::connect(address).await.unwrap())).await
        };
        let server = async { server.accept(listener.accept().await.unwrap().0).await.ok() };
        tokio::join!(client, server)
    }

    async fn refusal(tls: &Tls, host: &str, server: &TlsAcceptor) -> TransportError {
        connected(tls, host, server).await.0.unwrap_err()
    }

    #[tokio::test]
    async fn a_trusted_root_vouches_for_a_name_and_for_an_address() {
        let authority = Authority::new();
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            let server = authority.server(unbracketed(host));
            let (client, server) = connected(&authority.trusted(), host, &server).await;
            let client = client.unwrap();
            assert_eq!(
                client.get_ref().1.protocol_version(),
                Some(rustls::ProtocolVersion::TLSv1_3)
            );
            let expected = (host == "localhost").then_some(host); // RFC 6066 §3: no addresses in SNI
            assert_eq!(server.unwrap().get_ref().1.server_name(), expected);
        }
    }

    #[tokio::test]
    async fn a_certificate_that_is_not_valid_is_told_from_other_failures() {
        let (ours, theirs) = (Authority::new(), Authority::new());
        let tls = ours.trusted();
        let expired = ours.server_with("localhost", |p| p.not_after = date_time_ymd(2000, 1, 1));
        let early = ours.server_with("localhost", |p| p.not_before = date_time_ymd(2999, 1, 1));
        for (what, host, server) in [
            ("expired", "localhost", expired),
            ("not yet valid", "localhost", early),
            ("unknown issuer", "localhost", theirs.server("localhost")),
            ("other name", "localhost", ours.server("example.com")),
            ("other address", "127.0.0.1", ours.server("127.0.0.2")),
            ("no name at all", "a host", ours.server("localhost")),
        ] {
            let e = refusal(&tls, host, &server).await;
            assert_eq!(*e.reason(), DisconnectReason::Certificate, "{what}");
        }
    }

    #[tokio::test]
    async fn without_any_root_the_way_out_is_named() {
        let server = Authority::new().server("localhost");
        let e = refusal(&Tls::empty(), "localhost", &server).await;
        assert_eq!(*e.reason(), DisconnectReason::Certificate);
        assert!(e.to_string().contains("Tls::add_root_pem"), "{e}");
    }

    #[cfg(feature = "rustls-webpki-roots")]
    #[tokio::test]
    async fn the_default_roots_do_not_vouch_for_strangers() {
        let e = refusal(&Tls::new(), "localhost", &Authority::new().server("localhost")).await;
        assert_eq!(*e.reason(), DisconnectReason::Certificate);
        assert!(default_roots().len() > 100);
    }

    #[tokio::test]
    async fn tls_to_a_port_without_tls_may_pass() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut tcp = listener.accept().await.unwrap().0;
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let e = Authority::new()
            .trusted()
            .connect("localhost", Stream::Plain(client))
            .await
            .unwrap_err();
        assert_eq!(*e.reason(), DisconnectReason::Tls);
    }

    #[tokio::test]
    async fn an_end_in_the_tls_handshake_is_unexpected() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut tcp = listener.accept().await.unwrap().0;
        tcp.shutdown().await.unwrap();
        let e = Authority::new()
            .trusted()
            .connect("localhost", Stream::Plain(client))
            .await
            .unwrap_err();
        assert_eq!(*e.reason(), DisconnectReason::Io(io::ErrorKind::UnexpectedEof));
    }

    #[tokio::test]
    async fn a_client_certificate_is_presented() {
        let authority = Authority::new();
        let server = authority.server_for_clients("localhost");
        let (chain, key) = authority.certificate("ann", |_| ());
        let tls = authority.trusted();
        let tls = tls.client_certificate_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        let (_client, end) = connected(&tls, "localhost", &server).await;
        let presented = end.unwrap().get_ref().1.peer_certificates().unwrap().to_vec();
        assert_eq!(presented, certificates(chain.as_bytes()).unwrap());
        // In TLS 1.3 the refusal comes with the first read (RFC 8446 §4.4.2.4).
        let (client, end) = connected(&authority.trusted(), "localhost", &server).await;
        assert!(end.is_none());
        let e = failure(client.unwrap().read(&mut [0]).await.unwrap_err());
        assert_eq!(*e.reason(), DisconnectReason::Tls);
    }

    #[tokio::test]
    async fn clones_resume_each_others_sessions() {
        let authority = Authority::new();
        let (tls, server) = (authority.trusted(), authority.server("localhost"));
        let mut kinds = Vec::new();
        for tls in [tls.clone(), tls] {
            let (client, end) = connected(&tls, "localhost", &server).await;
            let (mut client, mut end) = (client.unwrap(), end.unwrap());
            // The tickets travel ahead of the first byte.
            end.write_all(b"x").await.unwrap();
            end.flush().await.unwrap();
            client.read_u8().await.unwrap();
            kinds.push(client.get_ref().1.handshake_kind().unwrap());
        }
        assert_eq!(kinds, [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]);
    }

    /// Of `n` sockets that come back to a host at once, how many resume a session, says the server.
    async fn resumed(tls: &Tls, n: usize, server: &TlsAcceptor) -> usize {
        let mut resumed = 0;
        for _ in 0..2 {
            let sockets = join_all((0..n).map(|_| connected(tls, "localhost", server))).await;
            resumed = 0;
            for (client, end) in sockets {
                let (mut client, mut end) = (client.unwrap(), end.unwrap());
                end.write_all(b"x").await.unwrap();
                end.flush().await.unwrap();
                client.read_u8().await.unwrap();
                let kind = end.get_ref().1.handshake_kind();
                resumed += usize::from(kind == Some(rustls::HandshakeKind::Resumed));
            }
        }
        resumed
    }

    #[tokio::test]
    async fn a_hundred_sockets_that_come_back_at_once_all_resume() {
        let authority = Authority::new();
        let tls = authority.trusted();
        assert_eq!(resumed(&tls, 100, &authority.server("localhost")).await, 100);
    }

    #[tokio::test]
    async fn a_store_of_eight_tickets_per_host_resumes_eight() {
        let authority = Authority::new();
        let mut config = ClientConfig::clone(authority.trusted().config().await.unwrap());
        config.resumption = Resumption::in_memory_sessions(4096);
        let tls = authority.trusted();
        tls.built.set(Arc::new(config)).unwrap();
        assert_eq!(resumed(&tls, 100, &authority.server("localhost")).await, 8);
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_way_out() {
        let authority = Authority::new();
        let (chain, key) = authority.certificate("ann", |_| ());
        let (_, other_key) = authority.certificate("ben", |_| ());
        let refused = |result: Result<Tls, TlsError>| result.unwrap_err().to_string();
        let tls = Tls::empty;
        assert!(refused(tls().add_root_pem(b"")).contains("BEGIN CERTIFICATE"));
        assert!(refused(tls().add_root_pem(key.as_bytes())).contains("BEGIN CERTIFICATE"));
        assert!(refused(tls().add_root_pem(&chain.as_bytes()[..100])).contains("damaged"));
        assert!(refused(tls().add_root_der(b"x".to_vec())).contains("X.509"));
        let client = |key: &str| tls().client_certificate_pem(chain.as_bytes(), key.as_bytes());
        assert!(refused(client(&chain)).contains("PKCS#8"));
        assert!(refused(client(&other_key)).contains("belongs to it"));
        assert!(client(&other_key).unwrap_err().source().is_some());
        let shown = format!("{:?}", client(&key).unwrap());
        assert_eq!(shown, "Tls { added_roots: 0, client_certificate: true, default_roots: false }");
    }
}
