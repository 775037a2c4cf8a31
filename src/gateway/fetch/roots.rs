//! Which servers are believed to be who they say they are.
//!
//! The same as [`Tls`](crate::transport::Tls) trusts: the roots that the crate's features name, and what is
//! added.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::error::FetchError;

/// Roots that are added.
#[derive(Clone, Default)]
pub(super) struct Roots(Vec<CertificateDer<'static>>);

impl Roots {
    pub(super) fn add(&mut self, pem: &[u8]) -> Result<(), FetchError> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let all = all.map_err(unusable)?;
        if all.is_empty() {
            return Err(unusable("there is no certificate in the PEM"));
        }
        self.0.extend(all);
        Ok(())
    }

    /// Settings of TLS; without the default roots where it `is_used` for nothing.
    pub(super) fn config(self, is_used: bool) -> Result<ClientConfig, FetchError> {
        let mut roots = if is_used { defaults() } else { RootCertStore::empty() };
        for root in self.0 {
            roots.add(root).map_err(unusable)?;
        }
        if is_used && roots.is_empty() {
            return Err(unusable("no root is trusted: see `FetchBuilder::add_root_pem`"));
        }
        // With a provider of its own: the choice of one for the whole process is the program's.
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions();
        Ok(builder.map_err(unusable)?.with_root_certificates(roots).with_no_client_auth())
    }
}

fn unusable(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> FetchError {
    FetchError::Certificates(why.into())
}

/// The roots that the crate's features name.
fn defaults() -> RootCertStore {
    #[cfg(feature = "rustls-webpki-roots")]
    let compiled_in = webpki_roots::TLS_SERVER_ROOTS;
    #[cfg(not(feature = "rustls-webpki-roots"))]
    let compiled_in = &[];
    #[cfg_attr(not(feature = "rustls-native-roots"), allow(unused_mut, reason = "one of many"))]
    let mut roots: RootCertStore = compiled_in.iter().cloned().collect();
    // Stores in the wild have some that cannot be read; the others are no worse for it.
    #[cfg(feature = "rustls-native-roots")]
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
