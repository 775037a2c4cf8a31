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
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::TransportError;
use super::dial::unbracketed;
use crate::protocol::DisconnectReason;

/// Sessions kept for resumption: a reconnect storm of as many sockets saves a round trip each.
const SESSIONS: usize = 4096;

/// Settings of TLS. Cloning is cheap, and clones share the sessions they resume.
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
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, TransportError> {
        let name = ServerName::try_from(unbracketed(host).to_owned())
            // No certificate is valid for what is neither a DNS name nor an IP address.
            .map_err(|e| TransportError::new(DisconnectReason::Certificate).with_source(e))?;
        let config = self.built.get_or_try_init(|| self.build()).await?;
        TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(failure)
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
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
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
    let mut roots = RootCertStore::empty();
    #[cfg(feature = "rustls-webpki-roots")]
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    #[cfg(feature = "rustls-native-roots")]
    add_native_roots(&mut roots);
    roots
}

/// Adds the operating system's roots, without those that cannot be read: stores in the wild have
/// some, and the others are no worse for it.
#[cfg(feature = "rustls-native-roots")]
fn add_native_roots(roots: &mut RootCertStore) {
    let found = rustls_native_certs::load_native_certs();
    let (added, unusable) = roots.add_parsable_certificates(found.certs);
    let skipped = found.errors.len() + unusable;
    if skipped > 0 {
        let error = found.errors.first().map(tracing::field::display);
        tracing::warn!(added, skipped, error, "unreadable certificates in the system's store");
    }
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
