//! Asking another server over HTTP: who is of which tier, which keys are good.
//!
//! A [`Fetch`] is one address, and what may be spent on it.
//!
//! - It is `https:`, or a server on this machine: what comes from there decides who may do what, so it has to
//!   come from whoever it should. [`plain`](FetchBuilder::plain) is for networks that are trusted.
//! - An answer has its time, from the look-up of the host to its last byte, and its length. Whatever it is, it
//!   is `200` or a failure; a redirect is one, as the secret would go with it.
//! - Nothing is asked twice: both who ask keep what they know, and ask again by themselves. Only a request that
//!   met a closed connection before it was written goes out again.
//! - Connections are kept and used again, HTTP/1.1. Proxies of the environment are not used.
//! - Neither a secret, nor the query of the address, nor what a server has said is in a print or an error.

mod error;
mod roots;
#[cfg(test)]
pub(in crate::gateway) mod tests;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use self::roots::Roots;
use crate::config::Secret;
use crate::gateway::defect::{Defect, seeded};

pub use self::error::FetchError;

/// Longest head of an answer, in bytes.
const LONGEST_HEAD: usize = 64 << 10;

/// Connections that are kept while nothing is asked.
const IDLE: usize = 2;

/// A server that is asked over HTTP. Cloning is cheap, and clones share their connections.
///
/// ```
/// use wsmux::Secret;
/// use wsmux::gateway::fetch::Fetch;
///
/// let users = Fetch::builder("https://users.example.com/tiers")?
///     .secret_header("authorization", &Secret::new("Bearer s3cr3t"))?
///     .build()?;
/// assert!(!format!("{users:?}").contains("s3cr3t"));
/// # Ok::<(), wsmux::gateway::fetch::FetchError>(())
/// ```
#[derive(Clone)]
pub struct Fetch {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    headers: HeaderMap,
    longest: usize,
    timeout: Duration,
    uri: Uri,
}

/// Builds a [`Fetch`]; made by [`Fetch::builder`].
#[must_use]
pub struct FetchBuilder {
    headers: HeaderMap,
    longest: usize,
    plain: bool,
    roots: Roots,
    timeout: Duration,
    uri: Uri,
}

impl Fetch {
    /// Starts to build one for an address such as `https://users.example.com/tiers`.
    ///
    /// # Errors
    ///
    /// [`FetchError::Address`] when it is none of `https:` or `http:`, or has a user or a password in it: these
    /// belong into [a header](FetchBuilder::secret_header).
    pub fn builder(url: &str) -> Result<FetchBuilder, FetchError> {
        let uri: Uri = url.parse().map_err(|_| FetchError::Address)?;
        let is_http = [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme());
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if !is_http || has_user || uri.host().is_none_or(str::is_empty) {
            return Err(FetchError::Address);
        }
        Ok(FetchBuilder {
            headers: HeaderMap::new(),
            longest: 1 << 20,
            plain: false,
            roots: Roots::default(),
            timeout: Duration::from_secs(5),
            uri,
        })
    }

    /// What JSON it answers to a `GET`.
    pub(in crate::gateway) async fn get<T: DeserializeOwned>(&self) -> Result<T, FetchError> {
        self.ask(Method::GET, Bytes::new()).await
    }

    /// What JSON it answers when this JSON is posted.
    pub(in crate::gateway) async fn post<T: DeserializeOwned>(
        &self,
        json: impl Into<Bytes>,
    ) -> Result<T, FetchError> {
        self.ask(Method::POST, json.into()).await
    }

    /// Where it asks.
    pub(in crate::gateway) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// How long it waits for an answer.
    pub(in crate::gateway) fn timeout(&self) -> Duration {
        self.timeout
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, body: Bytes) -> Result<T, FetchError> {
        let answer = timeout(self.timeout, self.answer(method, body)).await;
        let answer = answer.map_err(|_| FetchError::TimedOut(self.timeout))??;
        serde_json::from_slice(&answer)
            .map_err(|e| FetchError::Unreadable { line: e.line(), column: e.column() })
    }

    async fn answer(&self, method: Method, body: Bytes) -> Result<Bytes, FetchError> {
        let mut request = Request::new(Full::new(body));
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        if method == Method::POST {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(CONTENT_TYPE, json);
        }
        *request.method_mut() = method;
        let unreachable = |e| FetchError::Unreachable(Box::new(e));
        let answer = self.client.request(request).await.map_err(unreachable)?;
        if answer.status() != StatusCode::OK && !seeded(Defect::StatusIsNotJudged) {
            return Err(FetchError::Status(answer.status()));
        }
        let longest = if seeded(Defect::AnswerIsBoundless) { usize::MAX } else { self.longest };
        let body = Limited::new(answer.into_body(), longest).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|e| {
            if e.is::<LengthLimitError>() {
                FetchError::TooLong(self.longest)
            } else {
                FetchError::Unreachable(e)
            }
        })
    }
}

impl FetchBuilder {
    /// Sends a header with each request whose value nothing prints.
    ///
    /// # Errors
    ///
    /// [`FetchError::Header`] when that cannot stand in a header.
    pub fn secret_header(mut self, name: &str, value: &Secret) -> Result<Self, FetchError> {
        let name: HeaderName = name.parse().map_err(|_| FetchError::Header)?;
        let mut value: HeaderValue = value.expose().parse().map_err(|_| FetchError::Header)?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Trusts all certificates in `pem` as roots, beside those that the crate's features name.
    ///
    /// # Errors
    ///
    /// [`FetchError::Certificates`] when there is none in it, or one that cannot be read.
    pub fn add_root_pem(mut self, pem: &[u8]) -> Result<Self, FetchError> {
        self.roots.add(pem)?;
        Ok(self)
    }

    /// Sets how long an answer may be, in bytes. Default 1 MiB.
    pub fn max_answer(mut self, bytes: usize) -> Self {
        self.longest = bytes;
        self
    }

    /// Sets whether another machine may be asked by `http:`. Default no: whoever is on the way could say who
    /// may do what, and reads the secret.
    pub fn plain(mut self, plain: bool) -> Self {
        self.plain = plain;
        self
    }

    /// Sets how long an answer may take, from the look-up of the host to its last byte. Default 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Builds it. Reads the operating system's certificates, where the crate's features say so, and asks nobody
    /// yet.
    ///
    /// # Errors
    ///
    /// [`FetchError::Plain`], or [`FetchError::Certificates`] where no root is trusted.
    pub fn build(self) -> Result<Fetch, FetchError> {
        let is_secure = self.uri.scheme() == Some(&Scheme::HTTPS);
        if !is_secure && !self.plain && !is_this_machine(&self.uri) {
            return Err(FetchError::Plain);
        }
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(self.timeout));
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new().with_tls_config(self.roots.config(is_secure)?);
        let connector = connector.https_or_http().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .http1_max_buf_size(LONGEST_HEAD)
            .pool_max_idle_per_host(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        let Self { headers, longest, timeout, uri, .. } = self;
        Ok(Fetch { client, headers, longest, timeout, uri })
    }
}

fn is_this_machine(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// The address without its query, in which there may be a key.
fn shown(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default();
    format!("{scheme}://{}{}", uri.authority().map_or("", |at| at.as_str()), uri.path())
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch")
            .field("address", &shown(&self.uri))
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FetchBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchBuilder")
            .field("address", &shown(&self.uri))
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
