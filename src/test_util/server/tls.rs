//! Certificates made on the fly: good ones, and bad ones to be refused.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::TlsAcceptor;

/// What a TLS server shows of itself.
///
/// Each server has a CA of its own; clients that trust
/// [`MockServer::root_pem`](super::MockServer::root_pem) accept only [`Certificate::Valid`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Certificate {
    /// For `localhost` and `127.0.0.1`.
    Valid,
    /// Was valid until the year 2020.
    Expired,
    /// For another host.
    OtherName,
    /// Signed by a CA that is not the server's.
    UnknownCa,
}

/// The server's side of TLS.
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    pub(super) root_pem: String,
}

impl Tls {
    pub(super) fn new(certificate: Certificate) -> io::Result<Self> {
        Self::make(certificate).map_err(io::Error::other)
    }

    fn make(certificate: Certificate) -> Result<Self, Box<dyn StdError + Send + Sync>> {
        let root = ca("mock CA")?;
        let root_pem = root.pem();
        let known = certificate != Certificate::UnknownCa;
        let issuer = if known { root } else { ca("another mock CA")? };
        let key = KeyPair::generate()?;
        let leaf = leaf(certificate)?.signed_by(&key, &issuer)?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), root_pem })
    }
}

fn ca(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn leaf(certificate: Certificate) -> Result<CertificateParams, rcgen::Error> {
    let names: &[&str] = match certificate {
        Certificate::OtherName => &["other.example"],
        Certificate::Valid | Certificate::Expired | Certificate::UnknownCa => {
            &["localhost", "127.0.0.1"]
        }
    };
    let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "mock server");
    if certificate == Certificate::Expired {
        params.not_after = date_time_ymd(2020, 1, 1);
    }
    Ok(params)
}
