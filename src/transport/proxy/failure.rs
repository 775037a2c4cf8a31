//! What kept a tunnel from being opened.
//!
//! Each error names the proxy, by its URL without user-info and by the variable that named it, and
//! says what to do. None quotes the proxy's words.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use super::super::TransportError;
use super::super::exhausted::is_exhausted;
use super::Proxy;
use super::environment::Unusable;
use crate::protocol::{DisconnectReason, ProxyFault, Response};

/// Why a proxy opened no tunnel.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It wants credentials, or others.
    Credentials(Option<Response>),
    Io(io::Error),
    /// A code of SOCKS5 (RFC 1928 §6).
    Reply(u8),
    Status(Response),
    /// What it said is not what a proxy says.
    Violation(&'static str),
}

impl From<io::Error> for Refusal {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// What a user reads of it.
#[derive(Debug)]
struct NoWay {
    cause: Option<Box<dyn StdError + Send + Sync>>,
    text: String,
}

impl fmt::Display for NoWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.cause.as_ref().map_or(Ok(()), |cause| write!(f, ": {cause}"))
    }
}

impl StdError for NoWay {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().and_then(StdError::source)
    }
}

/// `refusal` as an error of the dial.
pub(super) fn refused(proxy: &Proxy, refusal: Refusal) -> TransportError {
    match refusal {
        Refusal::Credentials(response) => {
            let text = if proxy.credentials.is_some() {
                format!("{proxy} refuses the user name and password: check them")
            } else {
                format!(
                    "{proxy} wants a user name and password: write its URL as \
                     `scheme://user:password@host:port`"
                )
            };
            answered(response, no_way(ProxyFault::Credentials, text, None))
        }
        Refusal::Io(e) => unreachable(proxy, e.into()),
        Refusal::Reply(code) => {
            let text = format!("{proxy} answered {}", reply(code));
            no_way(ProxyFault::Reply { code }, text, None)
        }
        Refusal::Status(response) => {
            let status = response.status();
            let text = format!("{proxy} answered CONNECT with HTTP status {status}");
            answered(Some(response), no_way(ProxyFault::Status { status }, text, None))
        }
        Refusal::Violation(what) => {
            let text = format!("{proxy} gave {what}: check its scheme and port");
            no_way(ProxyFault::Violation, text, None)
        }
    }
}

/// There is no connection to the proxy, or it ended. What this process has run out of is not laid to
/// the proxy: whoever dials waits for it.
pub(super) fn unreachable(proxy: &Proxy, e: TransportError) -> TransportError {
    if is_exhausted(&e) {
        return e;
    }
    let fault = match e.reason() {
        DisconnectReason::Certificate => ProxyFault::Certificate,
        _ => ProxyFault::Unreachable,
    };
    no_way(fault, format!("{proxy} cannot be reached"), Some(e.into()))
}

/// The proxy's scheme needs TLS, which is not there.
#[cfg(not(feature = "rustls"))]
pub(super) fn no_tls(proxy: &Proxy) -> TransportError {
    let text = format!(
        "{proxy} needs TLS: enable the feature `rustls-webpki-roots` or `rustls-native-roots`"
    );
    no_way(ProxyFault::Settings, text, None)
}

/// A variable names no proxy. Its value may hold a password, and is not shown.
pub(super) fn unusable(Unusable { error, variable }: &Unusable) -> TransportError {
    let text = format!(
        "the environment's {variable} is not understood; mend or unset it, or name the host in \
         NO_PROXY"
    );
    no_way(ProxyFault::Settings, text, Some(error.clone().into()))
}

/// A resolver that knows the name, and no address of it.
pub(super) fn no_address() -> TransportError {
    TransportError::new(DisconnectReason::Dns).with_source("the name has no address")
}

/// No proxy takes a name of more than 255 bytes; nor does DNS.
pub(super) fn name_too_long() -> TransportError {
    TransportError::new(DisconnectReason::Dns).with_source("the name has more than 255 bytes")
}

/// Whether another address of the server's may do better.
pub(super) fn is_about_the_address(e: &TransportError) -> bool {
    // Network or host unreachable, refused, expired on the way, or a family that is not spoken.
    matches!(e.reason(), DisconnectReason::Proxy(ProxyFault::Reply { code: 3..=6 | 8 }))
}

fn no_way(
    fault: ProxyFault,
    text: String,
    cause: Option<Box<dyn StdError + Send + Sync>>,
) -> TransportError {
    TransportError::new(DisconnectReason::Proxy(fault)).with_source(NoWay { cause, text })
}

/// Keeps the answer, for its `Retry-After`.
fn answered(response: Option<Response>, e: TransportError) -> TransportError {
    TransportError { response: response.map(Box::new), ..e }
}

fn reply(code: u8) -> String {
    let means = match code {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "kind of address not supported",
        _ => "unknown",
    };
    format!("with SOCKS5's code {code}, {means}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_names_the_proxy_and_none_its_words_or_ours() {
        let mut proxy = Proxy::new("http://canary:canary@proxy.example:3128").unwrap();
        proxy.variable = Some("HTTPS_PROXY");
        let response = || Response::new(502, http::HeaderMap::new());
        for refusal in [
            Refusal::Credentials(None),
            Refusal::Io(io::ErrorKind::ConnectionRefused.into()),
            Refusal::Reply(2),
            Refusal::Status(response()),
            Refusal::Violation("an answer that is no HTTP"),
        ] {
            let e = refused(&proxy, refusal);
            let shown = format!("{e} {e:?} {}", e.in_full());
            assert!(e.to_string().contains("http://proxy.example:3128 (of HTTPS_PROXY)"), "{e}");
            assert!(!shown.contains("canary"), "{shown}");
        }
        assert_eq!(refused(&proxy, Refusal::Status(response())).response().unwrap().status(), 502);
    }

    #[cfg(unix)]
    #[test]
    fn what_the_process_has_run_out_of_is_not_the_proxys() {
        let proxy = Proxy::new("http://proxy").unwrap();
        let emfile = || TransportError::from(io::Error::from_raw_os_error(24));
        let e = unreachable(&proxy, emfile());
        assert!(is_exhausted(&e) && matches!(e.reason(), DisconnectReason::Io(_)), "{e}");
        let refused = TransportError::from(io::Error::from(io::ErrorKind::ConnectionRefused));
        let e = unreachable(&proxy, refused);
        assert_eq!(*e.reason(), DisconnectReason::Proxy(ProxyFault::Unreachable));
    }
}
