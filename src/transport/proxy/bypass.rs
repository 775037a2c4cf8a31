//! The hosts that are dialled directly, in the form of `NO_PROXY`.
//!
//! As curl and reqwest read it, and with ports and `*.example.com`, as Go does. What cannot be read
//! matches nothing: its host goes through the proxy.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::dial::unbracketed;

/// Rules, of which one has to match.
#[derive(Debug, Default)]
pub(super) struct Bypass(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    hosts: Hosts,
    /// All, if none is named.
    port: Option<u16>,
}

#[derive(Debug)]
enum Hosts {
    All,
    /// A domain and all below it, in lower case.
    Domain(String),
    Network(IpNet),
}

impl Bypass {
    pub(super) fn new(hosts: &str) -> Self {
        let entries = hosts.split(|c: char| c == ',' || c.is_whitespace());
        Self(entries.filter_map(Rule::new).collect())
    }

    /// Whether `host`, as a URL writes it, is one of them.
    pub(super) fn matches(&self, host: &str, port: u16) -> bool {
        let host = unbracketed(host).to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        self.0.iter().any(|rule| rule.matches(host, port))
    }
}

impl Rule {
    fn new(entry: &str) -> Option<Self> {
        if let Some(hosts) = Hosts::new(entry) {
            return Some(Self { hosts, port: None });
        }
        let (host, port) = entry.rsplit_once(':')?;
        Some(Self { hosts: Hosts::new(host)?, port: Some(port.parse().ok()?) })
    }

    fn matches(&self, host: &str, port: u16) -> bool {
        self.port.is_none_or(|only| only == port)
            && match &self.hosts {
                Hosts::All => true,
                Hosts::Domain(domain) => host
                    .strip_suffix(domain.as_str())
                    .is_some_and(|before| before.is_empty() || before.ends_with('.')),
                Hosts::Network(network) => host
                    .parse()
                    .is_ok_and(|address: IpAddr| network.contains(&address.to_canonical())),
            }
    }
}

impl Hosts {
    fn new(entry: &str) -> Option<Self> {
        let bare = unbracketed(entry);
        if entry == "*" {
            return Some(Self::All);
        }
        if let Ok(network) = bare.parse() {
            return Some(Self::Network(network));
        }
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Some(Self::Network(address.into()));
        }
        let domain = entry.strip_prefix('*').unwrap_or(entry);
        let domain = domain.strip_prefix('.').unwrap_or(domain);
        let domain = domain.strip_suffix('.').unwrap_or(domain);
        let is_domain = !domain.is_empty() && !domain.contains([':', '/', '*', '[', ']']);
        is_domain.then(|| Self::Domain(domain.to_ascii_lowercase()))
    }
}

/// Whether `host` is this machine.
pub(super) fn is_local(host: &str) -> bool {
    let bare = unbracketed(host);
    let named = bare.strip_suffix('.').unwrap_or(bare);
    named == "localhost"
        || named.ends_with(".localhost")
        || bare.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_matches_what_curl_and_reqwest_and_go_say_it_does() {
        for (entries, hosts, others) in [
            (
                "example.com",
                &["example.com", "a.b.example.com", "EXAMPLE.com."][..],
                &["notexample.com", "example.com.evil", "com"][..],
            ),
            (".Example.com", &["example.com", "a.example.com"], &["badexample.com"]),
            ("*.example.com", &["example.com", "a.example.com"], &["badexample.com"]),
            ("example.com.", &["example.com"], &["example.org"]),
            ("*", &["anything", "10.0.0.1", "[::1]"], &[]),
            ("10.0.0.0/8", &["10.255.0.1", "[::ffff:10.0.0.1]"], &["11.0.0.1", "10.example"]),
            ("192.168.1.7", &["192.168.1.7"], &["192.168.1.70", "192.168.1.7.example"]),
            ("fe80::/10", &["[fe80::1]", "[febf::2]"], &["[fec0::1]"]),
            ("::1", &["[::1]"], &["[::2]", "127.0.0.1"]),
            ("[::1]", &["[::1]"], &["[::2]"]),
            ("a.example, b.example", &["a.example", "b.example"], &["c.example"]),
            ("a.example  b.example,,", &["a.example", "b.example"], &["c.example", ""]),
            ("", &[], &["example.com", ""]),
        ] {
            let bypass = Bypass::new(entries);
            for host in hosts {
                assert!(bypass.matches(host, 443), "{entries:?}: {host}");
            }
            for host in others {
                assert!(!bypass.matches(host, 443), "{entries:?}: {host}");
            }
        }
    }

    #[test]
    fn a_port_narrows_an_entry_down() {
        for (entry, host) in [
            ("example.com:8080", "a.example.com"),
            ("10.0.0.1:8080", "10.0.0.1"),
            ("[fe80::1]:8080", "[fe80::1]"),
            ("10.0.0.0/8:8080", "10.1.1.1"),
            ("*:8080", "any.example"),
        ] {
            let bypass = Bypass::new(entry);
            assert!(bypass.matches(host, 8080) && !bypass.matches(host, 443), "{entry}");
        }
    }

    #[test]
    fn what_cannot_be_read_matches_nothing() {
        for entry in
            ["10.0.0.0/99", "http://example.com", "example.com:x", "exam*ple.com", "*.", "["]
        {
            let bypass = Bypass::new(entry);
            assert!(bypass.0.is_empty(), "{entry}: {bypass:?}");
        }
    }

    #[test]
    fn this_machine_has_many_names() {
        for host in ["localhost", "a.localhost", "127.0.0.1", "127.8.9.1", "[::1]", "localhost."] {
            assert!(is_local(host), "{host}");
        }
        for host in ["notlocalhost", "localhost.example", "10.0.0.1", "[::2]", "0.0.0.0"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
