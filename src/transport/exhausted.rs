//! What a process runs out of: file descriptors, local ports, buffers.
//!
//! A dial that fails for want of them has reached nobody, and another meets the same want until
//! something is given back.

use std::error::Error as StdError;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::TransportError;

/// EMFILE and ENFILE: no file descriptor is left, in the process or the system; ENOBUFS: no buffer.
#[cfg(unix)]
const CODES: [i32; 3] = [24, 23, if cfg!(target_os = "linux") { 105 } else { 55 }];
/// WSAEMFILE, WSAENOBUFS.
#[cfg(windows)]
const CODES: [i32; 2] = [10024, 10055];
#[cfg(not(any(unix, windows)))]
const CODES: [i32; 0] = [];

/// Whether a dial failed since the process has run out of something.
pub(crate) fn is_exhausted(e: &TransportError) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = Some(e);
    while let Some(cause) = next {
        // The `source` of these two leaves out what they wrap.
        next = if let Some(e) = cause.downcast_ref::<io::Error>() {
            if is_code(e) {
                return true;
            }
            e.get_ref().map(|wrapped| wrapped as _)
        } else if let Some(e) = cause.downcast_ref::<TransportError>() {
            e.get_ref().map(|wrapped| wrapped as _)
        } else {
            cause.source()
        };
    }
    false
}

fn is_code(e: &io::Error) -> bool {
    e.raw_os_error()
        .is_some_and(|code| CODES.contains(&code) || e.kind() == io::ErrorKind::AddrNotAvailable)
}

/// The error of a process that has no file descriptor left, if it has none. Resolvers read files and
/// open sockets, and do not always say why they could not.
pub(super) fn no_descriptor() -> Option<io::Error> {
    let null = if cfg!(windows) { "NUL" } else { "/dev/null" };
    File::open(null).err().filter(is_code)
}

/// "Address not available" is said where no local port is left, which passes, and where no address
/// of this machine leads to the other one (`::1` without IPv6), which does not. A socket of UDP has
/// ports of its own, and connecting it sends nothing: it tells the two apart.
pub(super) fn told_apart(e: io::Error, address: SocketAddr) -> io::Error {
    if e.kind() != io::ErrorKind::AddrNotAvailable {
        return e;
    }
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    match UdpSocket::bind(any).and_then(|socket| socket.connect(address)) {
        Err(no_way) if no_way.kind() == io::ErrorKind::AddrNotAvailable => {
            io::Error::new(e.kind(), "no address of this machine leads there")
        }
        _ => e,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::protocol::DisconnectReason;

    const WANT: [i32; 4] = [23, 24, 99, 105];

    fn os(code: i32) -> io::Error {
        io::Error::from_raw_os_error(code)
    }

    #[test]
    fn want_is_told_from_other_failures_however_deep_it_is() {
        for code in WANT {
            assert!(is_exhausted(&os(code).into()), "{code}");
            let deep = io::Error::other(io::Error::other(os(code)));
            let e = TransportError::new(DisconnectReason::Dns).with_source(deep);
            assert!(is_exhausted(&e), "{code}");
        }
        let proxied = TransportError::new(DisconnectReason::Dns)
            .with_source(io::Error::other(TransportError::from(os(24))));
        assert!(is_exhausted(&proxied));
        for code in [2, 101, 104, 110, 111, 113] {
            assert!(!is_exhausted(&os(code).into()), "{code}");
        }
        assert!(!is_exhausted(&TransportError::new(DisconnectReason::Dns)));
        assert!(!is_exhausted(&io::Error::from(io::ErrorKind::AddrNotAvailable).into()));
        assert!(no_descriptor().is_none());
    }

    #[test]
    fn an_address_that_can_be_reached_is_short_of_ports() {
        let reachable = "127.0.0.1:9".parse().unwrap(); // The other half is in `tests/net`.
        assert!(is_exhausted(&told_apart(os(99), reachable).into()));
        assert_eq!(told_apart(os(111), reachable).raw_os_error(), Some(111));
    }
}
