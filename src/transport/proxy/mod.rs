//! Proxies: what a socket goes through on its way to the server.
//!
//! All that is said to a server goes through a tunnel: HTTP's CONNECT (RFC 9110 §9.3.6) or SOCKS5
//! (RFC 1928), and TLS to the server within it. Where there is a proxy there is no other way: what
//! keeps a tunnel from being opened is an error, never a direct connection.
//!
//! - [`environment`]: which proxy the environment's variables name for a URL.
//! - [`bypass`]: what `NO_PROXY` means.
//! - [`tunnel`]: from a TCP connection to a tunnel; [`connect`] and [`socks`] are what is said.
//! - [`failure`]: what kept a tunnel from being opened.
//!
//! The dialogues are written here: each is a page, and of the crates that have them one brings
//! hyper, and another a second `thiserror`. None of those that read the environment tells a value
//! that it cannot read from one that is not there.

mod bypass;
mod connect;
mod environment;
mod failure;
mod socks;
#[cfg(test)]
mod testing;
mod tunnel;

use std::error::Error as StdError;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::uri::{Authority, Uri};
use percent_encoding::percent_decode_str;

use self::bypass::Bypass;
use crate::protocol::Url;

pub(crate) use self::environment::Environment;
pub(super) use self::tunnel::Route;

/// A proxy: where it is, how it is spoken to, and as whom.
///
/// | URL | spoken | who resolves the server's name | default port |
/// |---|---|---|---|
/// | `http://proxy` | CONNECT | the proxy | 80 |
/// | `https://proxy` | CONNECT, over TLS to the proxy | the proxy | 443 |
/// | `socks5h://proxy` | SOCKS5 | the proxy | 1080 |
/// | `socks5://proxy` | SOCKS5 | this machine | 1080 |
///
/// A URL without a scheme is one of `http://`. User name and password stand in it percent-encoded,
/// `http://user:pass%40word@proxy`, or are given to [`credentials`](Self::credentials); no print
/// shows them. TLS to an `https://` proxy trusts what [`Tls`](super::Tls) trusts, and presents no
/// client certificate.
///
/// ```
/// use wsmux::WsManager;
/// use wsmux::protocol::Direct;
/// use wsmux::transport::{Proxy, Tungstenite};
///
/// let proxy: Proxy = "socks5h://127.0.0.1:9050".parse()?;
/// let manager = WsManager::builder(Direct::new("wss://stream.binance.com:9443/ws")?)
///     .transport(Tungstenite::new().proxy(proxy.bypass("localhost, 10.0.0.0/8")))
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Proxy {
    bypass: Arc<Bypass>,
    credentials: Option<Arc<Credentials>>,
    host: String,
    port: u16,
    scheme: Scheme,
    /// The variable that named it.
    variable: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scheme {
    Http,
    Https,
    Socks5,
    Socks5h,
}

/// A user's name and password. Never printed.
struct Credentials {
    password: String,
    user: String,
}

impl Proxy {
    /// Reads a proxy's URL.
    ///
    /// # Errors
    ///
    /// When it names no proxy that can be spoken to.
    pub fn new(url: &str) -> Result<Self, ProxyError> {
        // What is cut off here may be half of a password, and what is left another host.
        if url.contains(['#', '?']) {
            return Err(ProxyError::Target);
        }
        let full = if url.contains("://") { url } else { &format!("http://{url}") };
        let uri: Uri = full.parse().map_err(ProxyError::Syntax)?;
        let scheme = match uri.scheme_str().map(str::to_ascii_lowercase).as_deref() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some("socks5") => Scheme::Socks5,
            Some("socks5h") => Scheme::Socks5h,
            _ => return Err(ProxyError::Scheme),
        };
        let authority = uri.authority().ok_or(ProxyError::Host)?;
        if !matches!(uri.path(), "" | "/") {
            return Err(ProxyError::Target);
        }
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() {
            return Err(ProxyError::Host);
        }
        let proxy = Self {
            bypass: Arc::default(),
            credentials: None,
            port: port(authority)?.unwrap_or(scheme.default_port()),
            host,
            scheme,
            variable: None,
        };
        match authority.as_str().rsplit_once('@') {
            Some((user_info, _)) => {
                let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
                proxy.credentials(decoded(user)?, decoded(password)?)
            }
            None => Ok(proxy),
        }
    }

    /// Sets user name and password, as they are: nothing is percent-decoded.
    ///
    /// # Errors
    ///
    /// When they cannot be sent: SOCKS5 takes 1 to 255 bytes of each (RFC 1929 §2), and with HTTP a
    /// user's name has no colon (RFC 7617 §2).
    pub fn credentials(
        mut self,
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<Self, ProxyError> {
        let credentials = Credentials { password: password.into(), user: user.into() };
        let Credentials { password, user } = &credentials;
        let can_be_sent = match self.scheme {
            Scheme::Http | Scheme::Https => !user.contains(':'),
            Scheme::Socks5 | Scheme::Socks5h => {
                [user, password].iter().all(|part| (1..=255).contains(&part.len()))
            }
        };
        if !can_be_sent {
            return Err(ProxyError::Credentials);
        }
        self.credentials = Some(Arc::new(credentials));
        Ok(self)
    }

    /// Sets the hosts that are dialled directly, in the form of `NO_PROXY`: entries with commas
    /// between them, each a host with all below it (`example.com` or `.example.com`), an IP address,
    /// a network (`10.0.0.0/8`) or `*` for all, and a port behind it or not (`example.com:8080`).
    /// Compared with what the URL says: no name is resolved for it.
    ///
    /// An entry that cannot be read matches nothing, so that its host goes through the proxy.
    #[must_use]
    pub fn bypass(mut self, hosts: &str) -> Self {
        self.bypass = Arc::new(Bypass::new(hosts));
        self
    }

    /// Its host; an IPv6 address has its brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether the proxy resolves the server's name.
    pub(crate) fn resolves(&self) -> bool {
        self.scheme != Scheme::Socks5
    }

    /// Whether `url` is to be dialled through it.
    pub(super) fn serves(&self, url: &Url) -> bool {
        !self.bypass.matches(url.host(), url.port())
    }
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Socks5 | Self::Socks5h => 1080,
        }
    }
}

fn port(authority: &Authority) -> Result<Option<u16>, ProxyError> {
    let after_user = authority.as_str().rsplit('@').next().unwrap_or_default();
    match authority.port_u16() {
        Some(0) => Err(ProxyError::Port),
        None if after_user.len() > authority.host().len() => Err(ProxyError::Port),
        port => Ok(port),
    }
}

fn decoded(part: &str) -> Result<String, ProxyError> {
    let text = percent_decode_str(part).decode_utf8().map_err(|_| ProxyError::Credentials)?;
    Ok(text.into_owned())
}

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(url: &str) -> Result<Self, ProxyError> {
        Self::new(url)
    }
}

impl fmt::Display for Proxy {
    /// Scheme, host and port, and the variable that named it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.name(), self.host, self.port)?;
        self.variable.map_or(Ok(()), |variable| write!(f, " (of {variable})"))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credentials = self.credentials.as_ref().map(|_| format_args!("***"));
        f.debug_struct("Proxy")
            .field("url", &format_args!("{self}"))
            .field("credentials", &credentials)
            .field("bypass", &self.bypass)
            .finish()
    }
}

/// Why a string is not the URL of a proxy. Shows nothing of it.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProxyError {
    /// User name or password cannot be sent.
    Credentials,
    /// It names no host.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
    /// The scheme is none that is spoken here.
    Scheme,
    /// It is no URL at all.
    Syntax(http::uri::InvalidUri),
    /// It has a path, a query or a fragment.
    Target,
    /// The variable's value is not text.
    Text,
    /// `HTTP_PROXY` in a CGI program, where whoever makes the request sets it.
    Untrusted,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Credentials => {
                "user name or password cannot be sent: percent-encode them; SOCKS5 takes 1 to 255 \
                 bytes of each, and HTTP no colon in the name"
            }
            Self::Host => "the proxy's URL has no host: write `http://host:port`",
            Self::Port => "the proxy's port is not a number from 1 to 65535",
            Self::Scheme => {
                "the proxy's scheme is none of `http`, `https`, `socks5` and `socks5h`: write one \
                 of these"
            }
            Self::Syntax(_) => {
                "this is not the URL of a proxy: write `http://host:port`, and percent-encode user \
                 name and password"
            }
            Self::Target => {
                "a proxy's URL has no path, no query and no fragment: write `http://host:port`, and \
                 percent-encode user name and password"
            }
            Self::Text => "the value is not text",
            Self::Untrusted => {
                "it is not heeded in a CGI program (`REQUEST_METHOD` is set), whose requests could \
                 set it: write `http_proxy`"
            }
        })
    }
}

impl StdError for ProxyError {
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

    fn shown(url: &str) -> String {
        Proxy::new(url).unwrap().to_string()
    }

    #[test]
    fn a_proxys_url_is_taken_apart() {
        for (url, expected) in [
            ("http://Proxy.Example", "http://proxy.example:80"),
            ("proxy.example:3128", "http://proxy.example:3128"),
            ("user:secret@proxy.example:3128", "http://proxy.example:3128"),
            ("https://proxy/", "https://proxy:443"),
            ("socks5://127.0.0.1", "socks5://127.0.0.1:1080"),
            ("socks5h://[::1]:9050", "socks5h://[::1]:9050"),
            ("SOCKS5H://proxy", "socks5h://proxy:1080"),
        ] {
            assert_eq!(shown(url), expected);
        }
    }

    #[test]
    fn what_is_no_proxys_url_is_refused_and_not_shown() {
        type Expected = fn(&ProxyError) -> bool;
        let refused: [(&str, Expected); 16] = [
            ("", |e| matches!(e, ProxyError::Syntax(_))),
            ("http://", |e| matches!(e, ProxyError::Syntax(_))),
            ("http://canary host", |e| matches!(e, ProxyError::Syntax(_))),
            ("http://host\r\nX: canary", |e| matches!(e, ProxyError::Syntax(_))),
            ("http://u:canary@:80", |e| matches!(e, ProxyError::Host)),
            ("http://host:0", |e| matches!(e, ProxyError::Port)),
            ("http://host:99999", |e| matches!(e, ProxyError::Port)),
            ("http://host:", |e| matches!(e, ProxyError::Port)),
            ("socks4://canary", |e| matches!(e, ProxyError::Scheme)),
            ("ftp://canary", |e| matches!(e, ProxyError::Scheme)),
            ("http://host/proxy.pac", |e| matches!(e, ProxyError::Target)),
            ("http://user:12#canary@host", |e| matches!(e, ProxyError::Target)),
            ("http://user:12?canary@host", |e| matches!(e, ProxyError::Target)),
            ("http://user:12/canary@host", |e| matches!(e, ProxyError::Target)),
            ("http://a%3Ab:canary@host", |e| matches!(e, ProxyError::Credentials)),
            ("socks5://canary@host", |e| matches!(e, ProxyError::Credentials)),
        ];
        for (url, expected) in refused {
            let e = Proxy::new(url).unwrap_err();
            assert!(expected(&e), "{url:?}: {e:?}");
            let source = e.source().map(ToString::to_string);
            assert!(!format!("{e} {e:?} {source:?}").contains("canary"), "{e:?}");
        }
        let long = format!("socks5://user:{}@host", "x".repeat(256));
        assert!(matches!(Proxy::new(&long), Err(ProxyError::Credentials)));
        assert!(matches!(Proxy::new("socks5://u:%ff@host"), Err(ProxyError::Credentials)));
    }

    #[test]
    fn credentials_are_percent_decoded_and_never_printed() {
        let proxy = Proxy::new("socks5://canary:canary%3A%40%20@host").unwrap();
        let credentials = proxy.credentials.as_ref().unwrap();
        assert_eq!((&*credentials.user, &*credentials.password), ("canary", "canary:@ "));
        let given = Proxy::new("http://host").unwrap().credentials("canary", "%40canary").unwrap();
        assert_eq!(given.credentials.as_ref().unwrap().password, "%40canary");
        for proxy in [proxy, given] {
            let shown = format!("{proxy} {proxy:?} {proxy:#?}");
            assert!(!shown.contains("canary") && shown.contains("***"), "{shown}");
        }
    }
}
