//! What a request may be that two readers of it might not read alike.
//!
//! A proxy and the server behind it have to agree for whom a request is, and where it ends. hyper reads the
//! end as RFC 9112 wants it, and refuses what has none that is sure: two lengths, a list of them, a coding that
//! is unknown, folded lines, a space before a colon. It leaves to its user what is here.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONNECTION, HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{Request, StatusCode, Version};

use crate::gateway::defect::{Defect, seeded};

/// What is said to a request that may not be, before anybody else sees it.
pub(super) fn refused<B>(request: &Request<B>) -> Option<Response> {
    let why = judge(request).err()?;
    let close = [(CONNECTION, HeaderValue::from_static("close"))];
    Some((StatusCode::BAD_REQUEST, close, Body::from(why)).into_response())
}

/// RFC 9112, section 3.2: one `Host`, which is one; where the target names a host too, it is the same.
fn judge<B>(request: &Request<B>) -> Result<(), &'static str> {
    if seeded(Defect::HostIsNotJudged) {
        return Ok(());
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err("more than one Host\n"),
        (None, None) if request.version() >= Version::HTTP_11 => return Err("no Host\n"),
        (None, None) => return Ok(()),
        (Some(host), None) => host.as_bytes(),
    };
    let named = match Authority::try_from(host) {
        Ok(host) if !host.as_str().contains('@') => Some(host),
        // A target without a host has an empty one.
        _ if host.is_empty() => None,
        _ => return Err("Host is none\n"),
    };
    let Some(target) = request.uri().authority() else { return Ok(()) };
    let port = match request.uri().scheme_str() {
        Some("http") => "80",
        Some("https") => "443",
        _ => "",
    };
    if named.is_some_and(|named| are_same(target, &named, port)) {
        Ok(())
    } else {
        Err("two hosts\n")
    }
}

/// Whether two name one host and one port. Where one names none, or an empty one, that is the scheme's (RFC 3986,
/// section 6.2.3).
fn are_same(one: &Authority, other: &Authority, default: &str) -> bool {
    let port = |authority: &Authority| {
        let port = authority.as_str().strip_prefix(authority.host())?.trim_start_matches(':');
        Some(if port.is_empty() { default } else { port }.to_owned())
    };
    // With a user before it there is no port to be found.
    let ports = port(one).zip(port(other));
    let are_same = ports.is_some_and(|(one, other)| one == other);
    one.host().eq_ignore_ascii_case(other.host()) && (are_same || seeded(Defect::PortIsNotJudged))
}

/// Whether the connection is to end with the answer: hyper does not tell whether there was a
/// `Content-Length` beside a `Transfer-Encoding`, and where there was it has to (RFC 9112, section 6.1).
pub(super) fn is_last<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(TRANSFER_ENCODING) && !seeded(Defect::ChunksGoOn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::defect::are_found;

    fn judged(version: Version, uri: &str, hosts: &[&str]) -> Result<(), &'static str> {
        let mut request = Request::get(uri).version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        judge(&request.body(()).unwrap())
    }

    #[test]
    fn a_request_has_one_host_and_names_no_other() {
        for host in ["a", "a:80", "[::1]:80", ""] {
            assert_eq!(judged(Version::HTTP_11, "/ws", &[host]), Ok(()), "{host}");
        }
        assert_eq!(judged(Version::HTTP_10, "/ws", &[]), Ok(()));
        assert_eq!(judged(Version::HTTP_11, "http://a:80/ws", &["A:80"]), Ok(()));
        assert_eq!(judged(Version::HTTP_11, "http://[::1]:81/ws", &["[::1]:81"]), Ok(()));
        for (uri, hosts) in [
            ("/ws", &[][..]),
            ("/ws", &["a", "a"]),
            ("/ws", &["a b"]),
            ("/ws", &["a/b"]),
            ("/ws", &["u@a"]),
            ("http://b/ws", &["a"]),
            ("http://b/ws", &[""]),
        ] {
            assert!(judged(Version::HTTP_11, uri, hosts).is_err(), "{uri} {hosts:?}");
        }
        assert!(judged(Version::HTTP_10, "/ws", &["a", "b"]).is_err());
    }

    #[test]
    fn one_that_does_not_look_at_hosts_or_ports_is_found_out() {
        are_found(&[
            (Defect::HostIsNotJudged, a_request_has_one_host_and_names_no_other),
            (Defect::HostIsNotJudged, a_port_that_is_the_schemes_own_may_be_left_out),
            (Defect::PortIsNotJudged, a_port_that_is_the_schemes_own_may_be_left_out),
        ]);
    }

    #[test]
    fn a_port_that_is_the_schemes_own_may_be_left_out() {
        for (uri, host) in [
            ("http://a:80/ws", "a"),
            ("http://a/ws", "a:80"),
            ("http://a/ws", "a:"),
            ("http://[::1]:80/ws", "[::1]"),
            ("https://a:443/ws", "a"),
        ] {
            assert_eq!(judged(Version::HTTP_11, uri, &[host]), Ok(()), "{uri} {host}");
        }
        for (uri, host) in [
            ("http://a:443/ws", "a"),
            ("https://a:80/ws", "a"),
            ("http://a:81/ws", "a"),
            ("http://a/ws", "a:81"),
            ("http://a/ws", "a:99999"),
            ("http://a/ws", "a:65616"),
            ("http://b:80/ws", "a"),
            ("http://u@a:80/ws", "a"),
        ] {
            assert!(judged(Version::HTTP_11, uri, &[host]).is_err(), "{uri} {host}");
        }
    }
}
