//! What is dialled, and what the server answered.

use std::fmt;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::{Url, UrlError};
use crate::name::StreamName;

/// An opening handshake to be made.
#[derive(Clone)]
pub struct Request {
    /// What the URL was made from, where it has a name in it.
    base: Option<Url>,
    headers: HeaderMap,
    joins: Vec<StreamName>,
    subprotocols: Vec<String>,
    url: Url,
}

impl Request {
    /// A request to `url`.
    ///
    /// # Errors
    ///
    /// When `url` is not the URL of a WebSocket.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        Url::parse(url).map(Self::to)
    }

    /// A request to `url`.
    #[must_use]
    pub fn to(url: Url) -> Self {
        let headers = url.authorization().map(|value| (http::header::AUTHORIZATION, value.clone()));
        Self {
            base: None,
            headers: headers.into_iter().collect(),
            joins: Vec::new(),
            subprotocols: Vec::new(),
            url,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Asks for a subprotocol (RFC 6455 §1.9). A server that grants none of those asked for is
    /// refused.
    #[must_use]
    pub fn subprotocol(mut self, name: impl Into<String>) -> Self {
        self.subprotocols.push(name.into());
        self
    }

    /// Says that this URL joins `names`: no join is sent for them.
    #[must_use]
    pub fn joining(mut self, names: impl IntoIterator<Item = StreamName>) -> Self {
        self.joins.extend(names);
        self
    }

    /// Says that this URL is `base` with a name in it.
    pub(super) fn made_from(mut self, base: &Url) -> Self {
        self.base = Some(base.clone());
        self
    }

    /// The URL without the name that is in it: equal for all names.
    pub(crate) fn base(&self) -> &Url {
        self.base.as_ref().unwrap_or(&self.url)
    }

    /// The URL.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The headers beside those of the handshake itself.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The subprotocols asked for, the most wanted first.
    #[must_use]
    pub fn subprotocols(&self) -> &[String] {
        &self.subprotocols
    }

    /// The names that the URL joins.
    #[must_use]
    pub fn joins(&self) -> &[StreamName] {
        &self.joins
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("url", &self.url)
            .field("headers", &Names(&self.headers))
            .field("subprotocols", &self.subprotocols.len())
            .field("joins", &self.joins)
            .finish()
    }
}

/// The server's answer to an opening handshake.
#[derive(Clone, Default)]
pub struct Response {
    headers: HeaderMap,
    status: u16,
}

impl Response {
    /// An answer.
    #[must_use]
    pub fn new(status: u16, headers: HeaderMap) -> Self {
        Self { headers, status }
    }

    /// The HTTP status: 101 where the WebSocket opened.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &Names(&self.headers))
            .finish()
    }
}

/// Prints the names of headers; their values may be secrets.
struct Names<'a>(&'a HeaderMap);

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys().map(HeaderName::as_str)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_print_shows_no_secret() {
        let request = Request::new("wss://user:canary@host/ws?token=canary")
            .unwrap()
            .header(http::header::COOKIE, HeaderValue::from_static("canary"))
            .subprotocol("canary");
        assert!(!format!("{request:?}").contains("canary"));
        let response = Response::new(101, request.headers().clone());
        assert!(!format!("{response:?}").contains("canary"));
    }
}
