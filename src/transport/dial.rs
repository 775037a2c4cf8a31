//! TCP connections by host name: resolved anew for each attempt, and raced over the host's
//! addresses (RFC 8305), so that one dead address does not cost the connect timeout.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::sleep;

use super::TransportError;
use super::exhausted::{no_descriptor, told_apart};
use crate::protocol::DisconnectReason;

/// How long an address has before the next one is tried beside it (RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to `host`, whose IPv6 address may stand in brackets.
pub(super) async fn dial(host: &str, port: u16) -> Result<TcpStream, TransportError> {
    connect(resolve(host, port).await?, open).await
}

/// The addresses of `host`, in the order they are to be tried.
pub(crate) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, TransportError> {
    lookup_host((unbracketed(host), port)).await.map(interleaved).map_err(unresolved)
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(address).await.map_err(|e| told_apart(e, address))
}

/// Connects to the first of `addresses` that lets it, by `connect`.
pub(crate) async fn connect<F>(
    addresses: Vec<SocketAddr>,
    connect: impl FnMut(SocketAddr) -> F,
) -> Result<TcpStream, TransportError>
where
    F: Future<Output = io::Result<TcpStream>>,
{
    match race(addresses, connect).await {
        Ok(stream) => {
            // A frame waits for nothing: most are small, and each is flushed as a whole.
            stream.set_nodelay(true)?;
            Ok(stream)
        }
        Err(Some(e)) => Err(e.into()),
        Err(None) => Err(unresolved(io::Error::other("the name has no address"))),
    }
}

/// The host without the brackets that a URL puts around an IPv6 address (RFC 3986 §3.2.2).
pub(super) fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn unresolved(e: io::Error) -> TransportError {
    TransportError::new(DisconnectReason::Dns).with_source(no_descriptor().unwrap_or(e))
}

/// IPv6 and IPv4 by turns, in the resolver's order, the family of its first address first (RFC 8305
/// §4).
fn interleaved(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = addresses.peekable();
    let first_is_v6 = addresses.peek().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.partition(|a| a.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = Vec::with_capacity(first.len() + second.len());
    while first.len() + second.len() > 0 {
        mixed.extend(first.next());
        mixed.extend(second.next());
    }
    mixed
}

/// Connects to the first of `addresses` that lets it. The next address is tried where the one
/// before failed, or has had its time; what is still on its way when one succeeds is dropped.
///
/// Fails with the last error, or with none where there was no address.
async fn race<A, S, F>(
    addresses: Vec<A>,
    mut connect: impl FnMut(A) -> F,
) -> Result<S, Option<io::Error>>
where
    F: Future<Output = io::Result<S>>,
{
    let mut waiting = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut last = None;
    loop {
        running.extend(waiting.next().map(&mut connect));
        tokio::select! {
            done = running.next() => match done {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(e)) => last = Some(e),
                None => return Err(last),
            },
            () = sleep(ATTEMPT_DELAY), if waiting.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::pending;

    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    /// What an address does, and after how many milliseconds.
    #[derive(Clone, Copy)]
    enum Address {
        Answers(u64),
        BlackHole,
        Refuses(u64, io::ErrorKind),
    }

    /// Races `addresses`; the result, the milliseconds it took, and those at which each was tried.
    async fn raced(addresses: &[Address]) -> (Result<usize, Option<io::Error>>, u128, Vec<u128>) {
        let start = Instant::now();
        let tried = RefCell::new(Vec::new());
        let all = addresses.iter().copied().enumerate().collect();
        let result = race(all, |(i, address)| {
            tried.borrow_mut().push(start.elapsed().as_millis());
            async move {
                match address {
                    Address::Answers(ms) => {
                        sleep(Duration::from_millis(ms)).await;
                        Ok(i)
                    }
                    Address::BlackHole => pending().await,
                    Address::Refuses(ms, kind) => {
                        sleep(Duration::from_millis(ms)).await;
                        Err(kind.into())
                    }
                }
            }
        })
        .await;
        (result, start.elapsed().as_millis(), tried.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn a_black_holed_first_address_costs_250_ms() {
        let (result, took, _) = raced(&[Address::BlackHole, Address::Answers(0)]).await;
        assert_eq!((result.unwrap(), took), (1, 250));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_first_address_costs_nothing() {
        let refused = Address::Refuses(0, io::ErrorKind::ConnectionRefused);
        let (result, took, _) = raced(&[refused, Address::Answers(0)]).await;
        assert_eq!((result.unwrap(), took), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_address_still_wins_if_it_answers_first() {
        let (result, took, tried) = raced(&[Address::Answers(300), Address::Answers(100)]).await;
        assert_eq!((result.unwrap(), took), (0, 300));
        assert_eq!(tried, [0, 250]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_starts_the_next_address_and_its_250_ms_anew() {
        let refused = Address::Refuses(100, io::ErrorKind::ConnectionRefused);
        let (result, took, tried) =
            raced(&[Address::BlackHole, refused, Address::BlackHole, Address::Answers(0)]).await;
        assert_eq!((result.unwrap(), took), (3, 600));
        assert_eq!(tried, [0, 250, 350, 600]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_error_is_reported_when_all_fail() {
        let reset = Address::Refuses(300, io::ErrorKind::ConnectionReset);
        let refused = Address::Refuses(0, io::ErrorKind::ConnectionRefused);
        let (result, took, _) = raced(&[reset, refused]).await;
        assert_eq!(result.unwrap_err().unwrap().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(took, 300);
        assert!(raced(&[]).await.0.unwrap_err().is_none(), "no address, no error");
    }

    #[test]
    fn families_take_turns_in_the_order_of_the_resolver() {
        let mixed = |addresses: &[&str]| -> Vec<String> {
            let addresses = addresses.iter().map(|a| a.parse().unwrap());
            interleaved(addresses).iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            mixed(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"]),
            ["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]
        );
        assert_eq!(
            mixed(&["1.1.1.1:1", "1.1.1.2:1", "[::1]:1"]),
            ["1.1.1.1:1", "[::1]:1", "1.1.1.2:1"]
        );
        assert!(mixed(&[]).is_empty());
    }

    #[tokio::test]
    async fn a_connection_does_not_wait_to_fill_packets() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = dial("127.0.0.1", server.local_addr().unwrap().port()).await.unwrap();
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn an_ipv6_host_comes_in_brackets() {
        assert_eq!(unbracketed("[::1]"), "::1");
        let Ok(server) = TcpListener::bind("[::1]:0").await else { return }; // no IPv6 here
        dial("[::1]", server.local_addr().unwrap().port()).await.unwrap();
    }

    #[tokio::test]
    async fn a_refused_connection_is_told_from_an_unknown_host() {
        let port = {
            let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
            server.local_addr().unwrap().port()
        };
        let e = dial("127.0.0.1", port).await.unwrap_err();
        assert_eq!(*e.reason(), DisconnectReason::Io(io::ErrorKind::ConnectionRefused));
        // RFC 6761 §6.4: never resolves. A space keeps resolvers from asking the network at all.
        let e = dial("no host.invalid", port).await.unwrap_err();
        assert_eq!(*e.reason(), DisconnectReason::Dns);
    }
}
