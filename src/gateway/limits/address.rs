//! Where a client is: its address, by which connections are counted.
//!
//! `X-Forwarded-For` is written by anybody. What is true of it is what a proxy of ours has appended: so
//! it is looked at only where the other end of the socket is such a proxy, from the right, up to the
//! first address that is none. Whatever is left of that was said by the client itself.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use http::HeaderMap;
use ipnet::IpNet;

/// How many hops are looked at; real chains have a few.
const HOPS: usize = 16;

/// Who may say where a client is.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Addresses {
    proxies: Vec<IpNet>,
}

/// What counts as one client: an IPv4 address, or the /64 of an IPv6 address, which is what one
/// customer is given at least (RFC 6177).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Network(IpAddr);

impl Addresses {
    /// Nobody: the other end of the socket is the client.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the proxies in these networks.
    pub fn proxies(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.proxies.extend(networks);
        self
    }

    /// Where the client is that is behind `peer`.
    #[must_use]
    pub fn of(&self, peer: IpAddr, headers: &HeaderMap) -> Network {
        let mut client = peer.to_canonical();
        let lines = headers.get_all("x-forwarded-for").iter().rev();
        let hops = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        for hop in hops.take(HOPS) {
            if !self.trusts(client) {
                break;
            }
            // What is no address ends the search: left of it stands what nobody vouches for.
            let Some(address) = address(hop.trim()) else { break };
            client = address;
        }
        Network::of(client)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&address))
    }
}

/// An address as proxies write it: bare, with a port, or in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    bare().or_else(with_port).or_else(bracketed).map(|address| address.to_canonical())
}

impl Network {
    /// The one an address is in. An IPv4 address in IPv6 clothes is an IPv4 address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => v4.fmt(f),
            IpAddr::V6(v6) => write!(f, "{v6}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(proxies: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let proxies = proxies.iter().map(|network| network.parse().unwrap());
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        Addresses::new().proxies(proxies).of(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn a_header_of_a_client_is_not_believed() {
        assert_eq!(found(&[], "198.51.100.7", &["203.0.113.1"]), "198.51.100.7");
        assert_eq!(found(&["10.0.0.0/8"], "198.51.100.7", &["203.0.113.1"]), "198.51.100.7");
    }

    #[test]
    fn behind_proxies_it_is_the_right_most_address_that_is_none_of_them() {
        let proxies = &["10.0.0.0/8", "2001:db8:ffff::/48"];
        for (forwarded, client) in [
            (&["203.0.113.1"][..], "203.0.113.1"),
            (&["192.0.2.99, 203.0.113.1"], "203.0.113.1"),
            (&["192.0.2.99, 203.0.113.1, 10.1.1.1"], "203.0.113.1"),
            (&["192.0.2.99, 203.0.113.1", "10.1.1.1"], "203.0.113.1"),
            (&["192.0.2.99", "203.0.113.1:4711"], "203.0.113.1"),
            (&["203.0.113.1, [2001:db8:ffff::1]:80"], "203.0.113.1"),
            (&["[2001:db8:1:2:3::4]"], "2001:db8:1:2::/64"),
            (&["::ffff:203.0.113.1"], "203.0.113.1"),
            // Nobody says more: the nearest is what there is.
            (&[], "10.0.0.1"),
            (&["10.1.1.1"], "10.1.1.1"),
            (&["203.0.113.1, unknown"], "10.0.0.1"),
            (&["203.0.113.1, , 10.1.1.1"], "10.1.1.1"),
        ] {
            assert_eq!(found(proxies, "10.0.0.1", forwarded), client, "{forwarded:?}");
        }
    }

    #[test]
    fn a_long_chain_is_not_followed_to_its_end() {
        let chain = format!("203.0.113.1{}", ", 10.1.1.1".repeat(1000));
        assert_eq!(found(&["10.0.0.0/8"], "10.0.0.1", &[&chain]), "10.1.1.1");
    }

    #[test]
    fn an_ipv6_customer_is_one_client_and_a_mapped_address_is_its_ipv4() {
        let of = |text: &str| Network::of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
