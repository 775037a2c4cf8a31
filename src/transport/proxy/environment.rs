//! Which proxy the environment's variables name.
//!
//! As curl reads them: the lower-case name goes first, and an empty value is none. A value that
//! cannot be read is an error for each URL that it is for: who set it wants a proxy.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;

use super::bypass::{Bypass, is_local};
use super::{Proxy, ProxyError};
use crate::protocol::Url;

/// The variables' values, read once.
#[derive(Clone)]
pub(crate) struct Environment {
    bypass: Arc<Bypass>,
    plain: Option<Setting>,
    secure: Option<Setting>,
}

type Setting = Result<Proxy, Unusable>;

/// A variable that names no proxy.
#[derive(Clone, Debug)]
pub(crate) struct Unusable {
    pub(super) error: Arc<ProxyError>,
    pub(super) variable: &'static str,
}

impl Environment {
    /// Reads this process' variables.
    pub(crate) fn of_process() -> Self {
        Self::read(|name| env::var_os(name))
    }

    fn read(value: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &'static str| {
            value(name).filter(|value| !value.is_empty()).map(|value| (name, value))
        };
        let first = |names: [&'static str; 2]| names.into_iter().find_map(set);
        let all = || first(["all_proxy", "ALL_PROXY"]);
        let is_cgi = set("REQUEST_METHOD").is_some();
        let setting = |(variable, value): (&'static str, OsString)| {
            // A web server hands a request's header `Proxy` to a CGI program under this name.
            let untrusted = is_cgi && variable == "HTTP_PROXY";
            let proxy = match value.to_str() {
                _ if untrusted => Err(ProxyError::Untrusted),
                Some(url) => Proxy::new(url.trim()),
                None => Err(ProxyError::Text),
            };
            proxy
                .map(|proxy| Proxy { variable: Some(variable), ..proxy })
                .map_err(|error| Unusable { error: Arc::new(error), variable })
        };
        // What is no text in it matches nothing.
        let hosts = first(["no_proxy", "NO_PROXY"]).map(|(_, value)| value);
        let hosts = hosts.unwrap_or_default();
        Self {
            bypass: Arc::new(Bypass::new(&hosts.to_string_lossy())),
            plain: first(["http_proxy", "HTTP_PROXY"]).or_else(all).map(setting),
            secure: first(["https_proxy", "HTTPS_PROXY"]).or_else(all).map(setting),
        }
    }

    /// The proxy for `url`; none for this machine's own servers, which no proxy would reach.
    pub(super) fn proxy(&self, url: &Url) -> Result<Option<&Proxy>, &Unusable> {
        let setting = if url.is_secure() { &self.secure } else { &self.plain };
        if is_local(url.host()) || self.bypass.matches(url.host(), url.port()) {
            return Ok(None);
        }
        setting.as_ref().map(Result::as_ref).transpose()
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("http", &self.plain)
            .field("https", &self.secure)
            .field("bypass", &self.bypass)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::read(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())
        })
    }

    /// What `url` goes through: a proxy, nothing, or a variable that is of no use.
    fn way(variables: &[(&str, &str)], url: &str) -> String {
        match environment(variables).proxy(&Url::parse(url).unwrap()) {
            Ok(proxy) => proxy.map_or("direct".to_owned(), ToString::to_string),
            Err(unusable) => format!("{}!", unusable.variable),
        }
    }

    const WS: &str = "ws://host/";
    const WSS: &str = "wss://host/";

    #[test]
    fn each_scheme_has_its_variable_and_both_have_the_one_for_all() {
        let both = [("http_proxy", "http://a"), ("https_proxy", "http://b")];
        assert_eq!(way(&both, WS), "http://a:80 (of http_proxy)");
        assert_eq!(way(&both, WSS), "http://b:80 (of https_proxy)");
        let all = [("ALL_PROXY", "socks5h://c"), ("HTTPS_PROXY", "http://b")];
        assert_eq!(way(&all, WS), "socks5h://c:1080 (of ALL_PROXY)");
        assert_eq!(way(&all, WSS), "http://b:80 (of HTTPS_PROXY)");
        assert_eq!(way(&[], WS), "direct");
    }

    #[test]
    fn the_lower_case_name_goes_first_and_an_empty_value_is_none() {
        let two = [("HTTPS_PROXY", "http://upper"), ("https_proxy", "http://lower")];
        assert_eq!(way(&two, WSS), "http://lower:80 (of https_proxy)");
        let empty = [("https_proxy", ""), ("HTTPS_PROXY", ""), ("all_proxy", "http://all")];
        assert_eq!(way(&empty, WSS), "http://all:80 (of all_proxy)");
        assert_eq!(way(&[("https_proxy", "")], WSS), "direct");
    }

    #[test]
    fn a_value_that_cannot_be_read_is_no_direct_connection() {
        for value in ["socks4://host", "http://", "http://host:x", " ", "\u{fffd}"] {
            assert_eq!(way(&[("https_proxy", value)], WSS), "https_proxy!", "{value:?}");
            assert_eq!(way(&[("all_proxy", value)], WS), "all_proxy!", "{value:?}");
            assert_eq!(way(&[("https_proxy", value)], WS), "direct", "it is not for this one");
        }
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStringExt as _;
            let odd = Environment::read(|name| {
                (name == "https_proxy").then(|| OsString::from_vec(b"http://\xff".to_vec()))
            });
            assert!(odd.proxy(&Url::parse(WSS).unwrap()).is_err());
        }
    }

    #[test]
    fn a_request_cannot_set_the_proxy_of_a_cgi_program() {
        let cgi = [("HTTP_PROXY", "http://evil"), ("REQUEST_METHOD", "GET")];
        assert_eq!(way(&cgi, WS), "HTTP_PROXY!");
        assert_eq!(way(&cgi[..1], WS), "http://evil:80 (of HTTP_PROXY)");
        let safe = [cgi[0], cgi[1], ("http_proxy", "http://good")];
        assert_eq!(way(&safe, WS), "http://good:80 (of http_proxy)");
    }

    #[test]
    fn what_no_proxy_names_and_this_machine_are_dialled_directly() {
        let variables = [("ALL_PROXY", "http://p"), ("NO_PROXY", "intern.example, 10.0.0.0/8")];
        for url in ["ws://a.intern.example/", "wss://10.1.1.1/", "ws://localhost/", "ws://[::1]/"] {
            assert_eq!(way(&variables, url), "direct", "{url}");
        }
        assert_ne!(way(&variables, WSS), "direct");
        let broken = [("ALL_PROXY", "?"), ("no_proxy", "host")];
        assert_eq!(way(&broken, WSS), "direct", "nobody asks for it");
    }

    #[test]
    fn no_print_shows_a_password() {
        let variables =
            [("http_proxy", "http://u:canary@p"), ("https_proxy", "http://u:canary@p q")];
        let shown = format!("{:#?}", environment(&variables));
        assert!(!shown.contains("canary") && shown.contains("***"), "{shown}");
    }
}
