//! Which pages may connect.
//!
//! A browser lets any page open a WebSocket to anywhere, and sends along what it has for that host. It
//! says which page it is in `Origin`, which no page can change. So a request with an `Origin` is refused
//! unless that is known; one without comes from no page, and has to show who it is like any other.

use std::collections::HashSet;
use std::fmt;

use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::uri::Uri;

/// The pages that may connect.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Origins {
    allowed: HashSet<String>,
    any: bool,
}

/// What is no origin: a scheme, a host, and a port where it is not the scheme's own, such as
/// `https://app.example.com`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidOrigin(String);

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no origin, such as `https://app.example.com`", self.0)
    }
}

impl std::error::Error for InvalidOrigin {}

impl Origins {
    /// Pages of the host that is asked, and no others.
    pub fn same_host() -> Self {
        Self::default()
    }

    /// Pages of any host: only where what is served is for everybody.
    pub fn any() -> Self {
        Self { allowed: HashSet::new(), any: true }
    }

    /// Those of this origin, too.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn allow(mut self, origin: &str) -> Result<Self, InvalidOrigin> {
        let is_origin = origin.parse::<Uri>().is_ok_and(|uri| {
            let (scheme, authority) = (uri.scheme_str(), uri.authority());
            let text = scheme.zip(authority).map(|(scheme, host)| format!("{scheme}://{host}"));
            text.is_some_and(|text| text.eq_ignore_ascii_case(origin) && !text.contains('@'))
        });
        if !is_origin {
            return Err(InvalidOrigin(origin.to_owned()));
        }
        self.allowed.insert(origin.to_ascii_lowercase());
        Ok(self)
    }

    /// Whether the page that makes a request may.
    #[must_use]
    pub fn admit(&self, parts: &Parts) -> bool {
        let mut all = parts.headers.get_all(ORIGIN).iter();
        let Some(origin) = all.next() else { return true };
        let (Ok(origin), None) = (origin.to_str(), all.next()) else { return false };
        let origin = origin.to_ascii_lowercase();
        self.any || self.allowed.contains(&origin) || is_same_host(&origin, parts)
    }
}

/// Whether a page is one of the host that it asks. Its scheme is left out of it: whether there was TLS in
/// front is not known here.
fn is_same_host(origin: &str, parts: &Parts) -> bool {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    rest.zip(host).is_some_and(|(rest, host)| rest.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn asked(origins: &[&str]) -> Parts {
        let mut request = Request::get("/ws").header(HOST, "Streams.example.com:8080");
        for origin in origins {
            request = request.header(ORIGIN, *origin);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn by_default_only_pages_of_the_same_host_may_connect() {
        let origins = Origins::same_host();
        for good in ["http://streams.example.com:8080", "https://STREAMS.example.com:8080"] {
            assert!(origins.admit(&asked(&[good])), "{good}");
        }
        for bad in [
            "https://evil.example",
            "https://streams.example.com",
            "https://streams.example.com:8080.evil.example",
            "https://evil.example/streams.example.com:8080",
            "https://x@streams.example.com:8080",
            "ftp://streams.example.com:8080",
            "streams.example.com:8080",
            "null",
            "",
        ] {
            assert!(!origins.admit(&asked(&[bad])), "{bad}");
        }
        assert!(origins.admit(&asked(&[])), "a program has no origin");
        let same = "http://streams.example.com:8080";
        assert!(!origins.admit(&asked(&[same, "https://evil.example"])));
    }

    #[test]
    fn pages_that_are_listed_may_connect() {
        let origins = Origins::same_host().allow("https://App.example.com").unwrap();
        assert!(origins.admit(&asked(&["https://app.example.com"])));
        assert!(!origins.admit(&asked(&["http://app.example.com"])), "the scheme is part of it");
        assert!(!origins.admit(&asked(&["https://app.example.com:444"])));
        assert!(Origins::any().admit(&asked(&["null"])));
    }

    #[test]
    fn what_is_no_origin_is_refused_when_it_is_set() {
        for bad in
            ["", "*", "app.example.com", "https://", "https://a/b", "https://a/", "https://u@a"]
        {
            assert!(Origins::same_host().allow(bad).is_err(), "{bad}");
        }
    }
}
