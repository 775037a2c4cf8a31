//! Reads certificates. rustls has no reader of them, but its verifier says what it objects to: so it
//! is asked in a way that it must object to.

use std::error::Error as StdError;
use std::io;
use std::time::{Duration, SystemTime};

use rustls::CertificateError;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{Error, RootCertStore};

use super::CertificateFault;
use crate::transport::TransportError;

/// The first second of the year 10000: no certificate is valid then (RFC 5280 §4.1.2.5).
const TOO_LATE: Duration = Duration::from_secs(253_402_300_800);

/// A name of nobody (RFC 6761 §6.4).
const NOBODY: &str = "nobody.invalid";

/// When the certificate ceases to be valid.
pub(crate) fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    // Its own dates are looked at before its issuer is.
    let refused = verify_server_cert_signed_by_trust_anchor(
        &parsed,
        &RootCertStore::empty(),
        &[],
        UnixTime::since_unix_epoch(TOO_LATE),
        ring::default_provider().signature_verification_algorithms.all,
    );
    match refused {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(not_after.as_secs()))
        }
        _ => None,
    }
}

/// The names that the certificate is for.
pub(crate) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let nobody = ServerName::try_from(NOBODY);
    let (Ok(parsed), Ok(nobody)) = (ParsedCertificate::try_from(certificate), nobody) else {
        return Vec::new();
    };
    match verify_server_name(&parsed, &nobody) {
        Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented,
            ..
        })) => presented.iter().map(|name| bare(name).to_owned()).collect(),
        _ => Vec::new(),
    }
}

/// What was wrong with the server's certificate, where `e` says so and it is one of the common
/// faults.
pub(crate) fn fault(e: &(dyn StdError + 'static)) -> Option<CertificateFault> {
    let at =
        |time: &UnixTime| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()));
    let Error::InvalidCertificate(refusal) = tls_error(e)? else { return None };
    match refusal {
        CertificateError::ExpiredContext { not_after, .. } => {
            Some(CertificateFault::Expired { at: at(not_after)? })
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            Some(CertificateFault::NotYetValid { before: at(not_before)? })
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            Some(CertificateFault::OtherName {
                names: presented.iter().map(|name| bare(name).to_owned()).collect(),
            })
        }
        CertificateError::UnknownIssuer => Some(CertificateFault::UnknownIssuer),
        _ => None,
    }
}

/// The error of TLS among the causes of `e`.
fn tls_error<'e>(e: &'e (dyn StdError + 'static)) -> Option<&'e Error> {
    let mut next = Some(e);
    while let Some(e) = next {
        if let Some(found) = e.downcast_ref() {
            return Some(found);
        }
        next = wrapped(e).map(|inner| inner as &(dyn StdError + 'static)).or_else(|| e.source());
    }
    None
}

/// What `e` speaks for: such errors leave it out of their causes.
fn wrapped<'e>(
    e: &'e (dyn StdError + 'static),
) -> Option<&'e (dyn StdError + Send + Sync + 'static)> {
    let io = e.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    io.or_else(|| e.downcast_ref::<TransportError>()?.get_ref())
}

/// The name in `DnsName("name")` or `IpAddress(address)`, as the verifier prints it.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn a_certificate_says_whom_it_is_for_and_until_when() {
        let names_of = ["host.example", "*.host.example", "127.0.0.1"];
        let mut params = CertificateParams::new(names_of.map(str::to_owned)).unwrap();
        params.not_after = date_time_ymd(2031, 5, 6);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let expected = httpdate::parse_http_date("Tue, 06 May 2031 00:00:00 GMT").unwrap();
        assert_eq!(not_after(&certificate), Some(expected));
        assert_eq!(names(&certificate), names_of);
        let rubbish = CertificateDer::from(vec![1, 2, 3]);
        assert_eq!((not_after(&rubbish), names(&rubbish)), (None, Vec::new()));
    }

    #[test]
    fn a_fault_is_found_among_the_causes() {
        let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, unknown());
        assert_eq!(fault(&unknown()), Some(CertificateFault::UnknownIssuer));
        assert_eq!(fault(&wrapped), Some(CertificateFault::UnknownIssuer));
        let error = TransportError::from(wrapped);
        assert_eq!(fault(&error), Some(CertificateFault::UnknownIssuer));
        assert_eq!(fault(&io::Error::from(io::ErrorKind::Other)), None);
    }
}
