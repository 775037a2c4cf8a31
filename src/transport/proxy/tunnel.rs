//! From a TCP connection to a tunnel.

use std::net::IpAddr;

use tokio::net::TcpStream;

use super::super::TransportError;
use super::super::dial::{dial, resolve, unbracketed};
use super::super::stream::Stream;
#[cfg(feature = "rustls")]
use super::super::tls::Tls;
use super::environment::Environment;
use super::socks::{self, Target};
use super::{Proxy, Scheme, connect, failure};
use crate::protocol::Url;

/// Which way sockets take.
#[derive(Clone, Debug)]
pub(in super::super) enum Route {
    Direct,
    Environment(Environment),
    Proxy(Proxy),
}

impl Route {
    /// The proxy on the way to `url`.
    pub(in super::super) fn proxy(&self, url: &Url) -> Result<Option<&Proxy>, TransportError> {
        match self {
            Self::Direct => Ok(None),
            Self::Environment(environment) => environment.proxy(url).map_err(failure::unusable),
            Self::Proxy(proxy) => Ok(Some(proxy).filter(|proxy| proxy.serves(url))),
        }
    }
}

/// What TLS to a proxy is made with.
#[cfg(feature = "rustls")]
pub(in super::super) type ProxyTls<'a> = &'a Tls;
#[cfg(not(feature = "rustls"))]
pub(in super::super) type ProxyTls<'a> = ();

impl Proxy {
    /// Connects to the proxy.
    pub(in super::super) async fn dial(&self) -> Result<TcpStream, TransportError> {
        dial(&self.host, self.port).await.map_err(|e| self.unreachable(e))
    }

    /// `e` as an error of the way to the proxy.
    pub(crate) fn unreachable(&self, e: TransportError) -> TransportError {
        failure::unreachable(self, e)
    }

    /// Has `tcp`, which leads to the proxy, lead to `url`'s host. Where this machine resolves its
    /// name, its addresses are asked for one after the other, each on a connection of its own.
    pub(in super::super) async fn tunnel(
        &self,
        tcp: TcpStream,
        url: &Url,
        tls: ProxyTls<'_>,
    ) -> Result<Stream, TransportError> {
        let (host, port) = (url.host(), url.port());
        if self.scheme != Scheme::Socks5 {
            return self.ask(tcp, target(host)?, url, tls).await;
        }
        let mut connected = Some(tcp);
        let mut last = None;
        for address in resolve(host, port).await? {
            let tcp = match connected.take() {
                Some(tcp) => tcp,
                None => self.dial().await?,
            };
            match self.ask(tcp, Target::Address(address.ip()), url, tls).await {
                Err(e) if failure::is_about_the_address(&e) => last = Some(e),
                done => return done,
            }
        }
        Err(last.unwrap_or_else(failure::no_address))
    }

    async fn ask(
        &self,
        tcp: TcpStream,
        target: Target<'_>,
        url: &Url,
        tls: ProxyTls<'_>,
    ) -> Result<Stream, TransportError> {
        let mut stream = self.secured(tcp, tls).await?;
        self.open(&mut stream, target, url).await?;
        Ok(stream)
    }

    /// Has `stream`, which leads to the proxy itself, lead to the target.
    async fn open(
        &self,
        stream: &mut Stream,
        target: Target<'_>,
        url: &Url,
    ) -> Result<(), TransportError> {
        let credentials = self.credentials.as_deref();
        let asked = match self.scheme {
            Scheme::Http | Scheme::Https => {
                connect::open(stream, url.host(), url.port(), credentials).await
            }
            Scheme::Socks5 | Scheme::Socks5h => {
                socks::open(stream, target, url.port(), credentials).await
            }
        };
        asked.map_err(|refusal| failure::refused(self, refusal))
    }

    /// Has a stream that leads to the proxy lead to `url`'s host.
    #[cfg(fuzzing)]
    pub(in super::super) async fn open_scripted(
        &self,
        stream: &mut Stream,
        url: &Url,
    ) -> Result<(), TransportError> {
        self.open(stream, target(url.host())?, url).await
    }

    /// What is said to the proxy itself travels on this.
    async fn secured(&self, tcp: TcpStream, tls: ProxyTls<'_>) -> Result<Stream, TransportError> {
        if self.scheme != Scheme::Https {
            return Ok(Stream::Plain(tcp));
        }
        #[cfg(not(feature = "rustls"))]
        {
            let () = tls;
            Err(failure::no_tls(self))
        }
        #[cfg(feature = "rustls")]
        {
            let secured = tls.anonymous().connect(&self.host, Stream::Plain(tcp)).await;
            Ok(Stream::Tls(Box::new(secured.map_err(|e| self.unreachable(e))?)))
        }
    }
}

/// The server as a proxy that resolves names is told of it.
fn target(host: &str) -> Result<Target<'_>, TransportError> {
    let bare = unbracketed(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => Ok(Target::Address(address)),
        Err(_) if bare.len() > 255 => Err(failure::name_too_long()),
        Err(_) => Ok(Target::Name(bare)),
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::super::tls::tests::Authority;
    use super::*;
    use crate::protocol::{DisconnectReason, ProxyFault};

    async fn proxy_on(listener: &TcpListener, host: &str) -> Proxy {
        Proxy::new(&format!("https://{host}:{}", listener.local_addr().unwrap().port())).unwrap()
    }

    #[tokio::test]
    async fn tls_to_the_server_goes_through_tls_to_the_proxy() {
        let authority = Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = proxy_on(&listener, "127.0.0.1").await;
        let (tls, url) = (authority.trusted(), Url::parse("wss://feed.example/").unwrap());
        let client = async {
            let stream = proxy.tunnel(proxy.dial().await.unwrap(), &url, &tls).await.unwrap();
            let mut stream = tls.connect(url.host(), stream).await.unwrap();
            stream.write_all(b"up").await.unwrap();
            stream.flush().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let server = async {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut outer = authority.server("127.0.0.1").accept(tcp).await.unwrap();
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                head.push(char::from(outer.read_u8().await.unwrap()));
            }
            assert!(head.starts_with("CONNECT feed.example:443 HTTP/1.1\r\n"), "{head}");
            outer.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            outer.flush().await.unwrap();
            let mut inner = authority.server("feed.example").accept(outer).await.unwrap();
            assert_eq!(inner.get_ref().1.server_name(), Some("feed.example"));
            let mut said = [0; 2];
            inner.read_exact(&mut said).await.unwrap();
            inner.write_all(b"down").await.unwrap();
            inner.shutdown().await.unwrap();
            said
        };
        let (answer, said) = tokio::join!(client, server);
        assert_eq!((&*answer, &said), ("down", b"up"));
    }

    #[tokio::test]
    async fn a_proxy_with_another_certificate_is_told_nothing() {
        let authority = Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = proxy_on(&listener, "localhost").await;
        let (tls, url) = (authority.trusted(), Url::parse("ws://feed.example/").unwrap());
        let client = async {
            let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            proxy.tunnel(tcp, &url, &tls).await.unwrap_err()
        };
        let server = async {
            let (tcp, _) = listener.accept().await.unwrap();
            assert!(authority.server("another.example").accept(tcp).await.is_err());
        };
        let (e, ()) = tokio::join!(client, server);
        assert_eq!(*e.reason(), DisconnectReason::Proxy(ProxyFault::Certificate));
        assert!(e.to_string().contains(&proxy.to_string()), "{e}");
    }
}
