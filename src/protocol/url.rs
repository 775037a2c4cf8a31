//! WebSocket URLs (RFC 6455 §3), taken apart once.

use std::error::Error as StdError;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use data_encoding::BASE64;
use http::HeaderValue;
use http::uri::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but what a query can carry as it is (RFC 3986 §2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A `ws://` or `wss://` URL.
///
/// User-info is not sent as part of the URL: it becomes an `Authorization: Basic` header (RFC
/// 7617). A debugging print shows neither it nor the query.
#[derive(Clone, Eq, PartialEq)]
pub struct Url {
    authorization: Option<HeaderValue>,
    host: String,
    path: String,
    port: u16,
    query: Option<String>,
    secure: bool,
}

impl Url {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// When it is not an absolute `ws://` or `wss://` URL without a fragment.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        if url.contains('#') {
            return Err(UrlError::Fragment);
        }
        let uri: Uri = url.parse().map_err(UrlError::Syntax)?;
        let secure = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            Some(_) => return Err(UrlError::Scheme),
            None => return Err(UrlError::Relative),
        };
        let authority = uri.authority().ok_or(UrlError::Relative)?;
        let (user_info, place) = match authority.as_str().rsplit_once('@') {
            Some((user_info, place)) => (Some(user_info), place),
            None => (None, authority.as_str()),
        };
        let (host, port) = host_and_port(place)?;
        let default = if secure { 443 } else { 80 };
        Ok(Self {
            authorization: user_info.map(authorization).transpose()?,
            host: host.to_ascii_lowercase(),
            path: if uri.path().is_empty() { "/".into() } else { uri.path().into() },
            port: port.unwrap_or(default),
            query: uri.query().map(Into::into),
            secure,
        })
    }

    /// Whether the scheme is `wss`.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host in lower case; an IPv6 address has its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, or the scheme's default.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path; at least `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The query without its `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Host and port as one: what limits and pauses are counted by.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The value of the `Host` header: the port only where it is not the scheme's default.
    #[must_use]
    pub fn host_header(&self) -> String {
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            _ => self.origin(),
        }
    }

    /// Path and query: what the request line asks for.
    #[must_use]
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// The header that stands for the URL's user-info.
    #[must_use]
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// Whether both have the same scheme, host and port.
    #[must_use]
    pub fn same_origin(&self, other: &Self) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }

    /// Whether its host is this machine: what is said to it, nobody on the way can read.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = host.unwrap_or(&self.host);
        let is_local = host == "localhost" || host.ends_with(".localhost"); // RFC 6761 §6.3
        is_local || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    }

    /// The same URL with one more parameter at the end of its query.
    pub(super) fn with_parameter(&self, name: &str, value: &str) -> Self {
        let [name, value] = [name, value].map(|text| utf8_percent_encode(text, UNRESERVED));
        let query = match self.query.as_deref() {
            None | Some("") => format!("{name}={value}"),
            Some(query) => format!("{query}&{name}={value}"),
        };
        Self { query: Some(query), ..self.clone() }
    }

    /// The same origin and credentials with another path and query.
    pub(super) fn with_target(&self, path: String, query: Option<String>) -> Self {
        Self { path, query, ..self.clone() }
    }
}

impl fmt::Display for Url {
    /// Scheme, host, port and path. The query may hold a token and is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "wss" } else { "ws" };
        let query = if self.query.is_some() { "?***" } else { "" };
        write!(f, "{scheme}://{}{}{query}", self.host_header(), self.path)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The host, with its brackets, and the port that is said.
///
/// It is read here, as what reads the rest takes colons, brackets and signs of per cent in any place
/// of a host for a part of it.
fn host_and_port(place: &str) -> Result<(&str, Option<u16>), UrlError> {
    let (host, rest) = match place.strip_prefix('[') {
        Some(inner) => {
            let end = inner.find(']').ok_or(UrlError::Host)?;
            inner[..end].parse::<Ipv6Addr>().map_err(|_| UrlError::Host)?;
            place.split_at(end + 2)
        }
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    if !host.starts_with('[') && (host.is_empty() || !host.bytes().all(is_of_a_name)) {
        return Err(UrlError::Host);
    }
    if rest.is_empty() {
        return Ok((host, None));
    }
    let digits = rest.strip_prefix(':').ok_or(UrlError::Host)?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(port @ 1..) if is_number => Ok((host, Some(port))),
        _ => Err(UrlError::Port),
    }
}

/// What a registered name may hold (RFC 3986 §3.2.2) but for encoded bytes: no resolver decodes them.
fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

fn authorization(user_info: &str) -> Result<HeaderValue, UrlError> {
    if user_info.contains(['@', '[', ']']) {
        return Err(UrlError::UserInfo);
    }
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let mut credentials: Vec<u8> = percent_encoding::percent_decode_str(user).collect();
    credentials.push(b':');
    credentials.extend(percent_encoding::percent_decode_str(password));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(&credentials)))
        .map_err(|_| UrlError::UserInfo)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Why a string is not the URL of a WebSocket.
#[derive(Debug)]
#[non_exhaustive]
pub enum UrlError {
    /// It has a fragment, which RFC 6455 §3 forbids.
    Fragment,
    /// It names no host, or what stands in its place is neither a name nor an address (RFC 3986 §3.2.2).
    Host,
    /// The stream's name changed more of the URL than its own place.
    NameEscapes,
    /// `{name}` stands outside of path and query.
    NamePlace,
    /// The port is not a number from 1 to 65535.
    Port,
    /// It has no scheme or no host.
    Relative,
    /// The scheme is neither `ws` nor `wss`.
    Scheme,
    /// It is no URL at all.
    Syntax(http::uri::InvalidUri),
    /// The user-info cannot be sent, or holds what has to be encoded in it (RFC 3986 §3.2.1).
    UserInfo,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fragment => "a WebSocket URL has no fragment: remove `#` and what follows",
            Self::Host => {
                "the URL names no host: write `wss://host/path`, an IPv6 address as `[::1]`"
            }
            Self::NameEscapes => "the stream's name would change the host or the path of the URL",
            Self::NamePlace => "`{name}` may stand in the path or the query, not before them",
            Self::Port => "the port is not a number from 1 to 65535",
            Self::Relative => "the URL is not absolute: write `wss://host/path`",
            Self::Scheme => "the scheme is neither `ws` nor `wss`: write `wss://host/path`",
            Self::Syntax(_) => "this is not a URL: write `wss://host/path`",
            Self::UserInfo => {
                "user name and password cannot be sent: encode `@`, `[` and `]` as `%40` and so on"
            }
        })
    }
}

impl StdError for UrlError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Syntax(e) => Some(e),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_around_all_of_a_host_or_not_there() {
        assert_eq!(Url::parse("ws://[::1]:8/").unwrap().host(), "[::1]");
        for host in
            ["a[::1]", "a[::1]:8", "[::1", "::1]", "[[::1]]", "[]", "[::1]8", "[host]", "[v1.a]"]
        {
            assert!(Url::parse(&format!("ws://{host}/")).is_err(), "{host}");
        }
    }

    #[test]
    fn what_stands_for_a_host_is_a_name_or_an_address() {
        for host in ["localhost", "a_b.c-d~", "1.2.3.4", "[2001:db8::1]"] {
            assert_eq!(Url::parse(&format!("ws://u:p@{host}:8/")).unwrap().host(), host);
        }
        for place in
            ["ann:[w@d@%r3::1]:8", "%41", "a%2fb", "::1", "a:b:1", "h:+1", "h:", "h: 1", "@", "u@"]
        {
            assert!(Url::parse(&format!("ws://{place}/")).is_err(), "{place}");
        }
        assert!(matches!(Url::parse("ws://a@b@host/"), Err(UrlError::UserInfo)));
    }

    #[test]
    fn a_url_is_taken_apart() {
        let url = Url::parse("wss://Stream.Binance.com:9443/ws?x=1").unwrap();
        assert!(url.is_secure());
        assert_eq!(url.origin(), "stream.binance.com:9443");
        assert_eq!(url.host_header(), "stream.binance.com:9443");
        assert_eq!(url.target(), "/ws?x=1");
        let url = Url::parse("ws://[::1]").unwrap();
        assert_eq!((url.origin().as_str(), url.target().as_str()), ("[::1]:80", "/"));
        assert_eq!(url.host_header(), "[::1]");
        assert_eq!(Url::parse("ws://h?x=1").unwrap().target(), "/?x=1");
    }

    #[test]
    fn what_is_no_websocket_url_is_refused_with_what_would_be_right() {
        let refused = |url: &str| Url::parse(url).unwrap_err().to_string();
        assert!(refused("https://host/").contains("`wss://host/path`"));
        assert!(refused("host/path").contains("`wss://host/path`"));
        assert!(refused("/path").contains("not absolute"));
        assert!(refused("ws://host/#x").contains("fragment"));
        assert!(refused("ws://host:0/").contains("65535"));
        assert!(refused("ws://host:99999/").contains("65535"));
        for bad in ["", "ws://", "ws:///x", "ws://:80/", "ws://a b/", "ws://host/\r\nX: y"] {
            assert!(Url::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn user_info_becomes_a_header_and_is_not_shown() {
        let url = Url::parse("wss://ann:s%40fe@host/ws?token=canary").unwrap();
        let header = url.authorization().unwrap();
        assert_eq!(header, "Basic YW5uOnNAZmU=");
        assert!(header.is_sensitive());
        assert_eq!(format!("{url} {url:?}"), "wss://host/ws?*** wss://host/ws?***");
        assert_eq!(url.host(), "host");
    }

    #[test]
    fn this_machine_is_told_from_others() {
        let is_loopback = |host: &str| Url::parse(&format!("ws://{host}/")).unwrap().is_loopback();
        for host in ["localhost", "a.localhost:80", "127.0.0.1", "127.9.9.9:1", "[::1]:80"] {
            assert!(is_loopback(host), "{host}");
        }
        assert!(is_loopback("[::ffff:127.0.0.1]"));
        for host in ["localhost.evil", "notlocalhost", "10.0.0.1", "0.0.0.0", "[::2]", "127.1.evil"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_parameter_is_encoded_and_comes_last() {
        let with =
            |url: &str| Url::parse(url).unwrap().with_parameter("t k", "a&b=c+d/é\r\n").target();
        let parameter = "t%20k=a%26b%3Dc%2Bd%2F%C3%A9%0D%0A";
        assert_eq!(with("ws://h/ws"), format!("/ws?{parameter}"));
        assert_eq!(with("ws://h/ws?"), format!("/ws?{parameter}"));
        assert_eq!(with("ws://h/ws?x=1"), format!("/ws?x=1&{parameter}"));
    }
}
