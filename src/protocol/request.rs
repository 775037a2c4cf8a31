//! What is dialled, and what the server answered.

use std::fmt;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::{Url, UrlError};
use crate::config::{CredentialsError, Place, Secret};
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
        let headers = url.authorization().map(|value| (AUTHORIZATION, value.clone()));
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

    /// The same, with what `rename` makes of the names that it [joins](Self::joins): for protocols that
    /// wrap another.
    #[must_use]
    pub fn rename(mut self, rename: impl FnMut(&StreamName) -> StreamName) -> Self {
        self.joins = self.joins.iter().map(rename).collect();
        self
    }

    /// Adds `token` where it belongs.
    pub(crate) fn authorized(
        mut self,
        place: &Place,
        token: &Secret,
    ) -> Result<Self, CredentialsError> {
        let token = token.expose();
        if token.is_empty() {
            return Err(CredentialsError::Empty);
        }
        match place {
            Place::Band => {}
            Place::Bearer => self.set_header(AUTHORIZATION, &format!("Bearer {token}"))?,
            Place::Header(name) => self.set_header(name.clone(), token)?,
            Place::Query(name) => {
                // What tells this base from others is not the token of the day.
                self.base.get_or_insert_with(|| self.url.clone());
                self.url = self.url.with_parameter(name, token);
            }
            Place::Subprotocol(prefix) => {
                let subprotocol = format!("{prefix}{token}");
                if !subprotocol.bytes().all(is_token_byte) {
                    return Err(CredentialsError::Subprotocol);
                }
                self.subprotocols.push(subprotocol);
            }
        }
        Ok(self)
    }

    /// Sets a header that is a secret, in place of others of that name.
    fn set_header(&mut self, name: HeaderName, value: &str) -> Result<(), CredentialsError> {
        // What is beyond ASCII, servers read as they like (RFC 9110 §5.5).
        let value = Some(value).filter(|value| value.is_ascii());
        let value = value.and_then(|value| HeaderValue::from_str(value).ok());
        let mut value = value.ok_or(CredentialsError::Header)?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(())
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

/// What a subprotocol may consist of: a `token` of RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
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

    fn authorized(place: &Place, token: &str) -> Result<Request, CredentialsError> {
        let request = Request::new("wss://ann:pass@host/ws?x=1").unwrap().subprotocol("v1");
        request.authorized(place, &token.into())
    }

    #[test]
    fn a_token_goes_where_it_belongs() {
        let bearer = authorized(&Place::Bearer, "canary").unwrap();
        let values: Vec<_> = bearer.headers().get_all(AUTHORIZATION).iter().collect();
        assert_eq!(values, ["Bearer canary"], "in place of the URL's");
        assert!(values[0].is_sensitive());
        let key = HeaderName::from_static("x-api-key");
        let header = authorized(&Place::Header(key.clone()), "canary").unwrap();
        assert_eq!(header.headers()[key], "canary");
        let query = authorized(&Place::Query("token".into()), "a+b").unwrap();
        assert_eq!(
            (query.url().target(), query.base().target()),
            ("/ws?x=1&token=a%2Bb".into(), "/ws?x=1".into())
        );
        let subprotocol = authorized(&Place::Subprotocol("bearer.".into()), "canary").unwrap();
        assert_eq!(subprotocol.subprotocols(), ["v1", "bearer.canary"]);
        let band = authorized(&Place::Band, "canary").unwrap();
        assert!(!format!("{:?}{:?}", band.headers, band.url.target()).contains("canary"));
        for request in [bearer, header, query, subprotocol] {
            assert!(!format!("{request:?} {request:#?}").contains("canary"));
        }
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_refused() {
        let key = HeaderName::from_static("x-api-key");
        for place in [Place::Bearer, Place::Header(key)] {
            for bad in ["line\r\nX: y", "line\n", "nul\0", "é"] {
                assert_eq!(
                    authorized(&place, bad).unwrap_err(),
                    CredentialsError::Header,
                    "{bad:?}"
                );
            }
        }
        let place = Place::Subprotocol(String::new());
        for bad in ["a=", "a/b", "a, b", "a b", "a\r\n", "é"] {
            assert_eq!(
                authorized(&place, bad).unwrap_err(),
                CredentialsError::Subprotocol,
                "{bad:?}"
            );
        }
        for place in [Place::Bearer, Place::Query("t".into()), place, Place::Band] {
            assert_eq!(authorized(&place, "").unwrap_err(), CredentialsError::Empty);
        }
    }
}
