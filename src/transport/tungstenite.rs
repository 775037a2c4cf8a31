//! The default transport: TCP, TLS where asked for, and WebSocket frames.
//!
//! The opening handshake and the reading of frames are this crate's own: tungstenite writes requests
//! and messages into a log, and its reading costs several times as much. Its framing and masking of
//! what is sent are used; its types stay in private fields, so that its 0.x version is not part of our
//! API.

mod assembly;
mod decoder;
mod failure;
mod fault;
mod flood;
mod head;
mod intake;
mod opening;
mod row;
mod socket;
#[cfg(test)]
mod testing;
mod writer;

use std::time::Duration;

use tokio::net::TcpStream;

use self::assembly::Assembly;
use super::dial::dial;
use super::proxy::{Environment, Proxy, Route};
use super::stream::Stream;
#[cfg(feature = "rustls")]
use super::tls::Tls;
use super::{Transport, TransportError};
use crate::protocol::{Request, Response, Url};

pub(crate) use self::opening::Opening;
pub use self::socket::TungsteniteSocket;

/// The largest message that is sent, in bytes.
const MAX_SEND: usize = 16 << 20;

/// The default [`Transport`], built on tokio, rustls and parts of tungstenite.
///
/// Frames of more than 16 MiB cannot be sent. No extension is spoken, compression included.
///
/// # Proxies
///
/// By default sockets go through the proxy that the environment names, as those of curl do:
///
/// - `https_proxy` or `HTTPS_PROXY` for `wss://`, `http_proxy` or `HTTP_PROXY` for `ws://`,
///   `all_proxy` or `ALL_PROXY` for both; the lower-case name goes first, and an empty value is
///   none. A CGI program's `HTTP_PROXY` is refused.
/// - What `no_proxy` or `NO_PROXY` names, in the form of [`Proxy::bypass`], is dialled directly; and
///   so is this machine: `localhost` and addresses like 127.0.0.1.
///
/// There is no other direct connection: a value that cannot be read and a proxy that opens no tunnel
/// are errors, [`DisconnectReason::Proxy`](crate::DisconnectReason). [`proxy`](Self::proxy) and
/// [`no_proxy`](Self::no_proxy) say it in the program instead.
///
/// A `wss://` URL without the feature `rustls` fails for good, with
/// [`DisconnectReason::Handshake`](crate::DisconnectReason).
#[derive(Clone, Debug)]
pub struct Tungstenite {
    assembly_timeout: Duration,
    max_message: usize,
    route: Route,
    #[cfg(feature = "rustls")]
    tls: Tls,
}

impl Tungstenite {
    /// The defaults. Reads the environment's variables for proxies: what they are later is not
    /// noticed.
    #[must_use]
    pub fn new() -> Self {
        Self {
            assembly_timeout: Duration::from_secs(60),
            max_message: 16 << 20,
            route: Route::Environment(Environment::of_process()),
            #[cfg(feature = "rustls")]
            tls: Tls::new(),
        }
    }

    /// How long a message may take from its first byte to its last, in one frame or in many. Default
    /// 60 s.
    ///
    /// After it the socket is closed with code 1008, for
    /// [`DisconnectReason::AssemblyTimeout`](crate::DisconnectReason). A single frame that takes
    /// longer than the heartbeat, 30 s by default, is ended by that: nothing can be heard meanwhile.
    #[must_use]
    pub fn assembly_timeout(mut self, limit: Duration) -> Self {
        self.assembly_timeout = limit;
        self
    }

    /// The largest message accepted, in bytes, whether it comes in one frame or in many. Default
    /// 16 MiB.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Goes through `proxy`, but for the hosts that it [leaves out](Proxy::bypass), instead of what
    /// the environment says.
    #[must_use]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.route = Route::Proxy(proxy);
        self
    }

    /// Goes through no proxy, whatever the environment says.
    #[must_use]
    pub fn no_proxy(mut self) -> Self {
        self.route = Route::Direct;
        self
    }

    /// The settings for `wss://`. Default [`Tls::new`].
    #[cfg(feature = "rustls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "rustls")))]
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Loads what the first TLS connection has to load, so that the time is not counted as its own.
    /// What fails here fails there again.
    pub(crate) async fn prepare(&self, url: &Url) {
        #[cfg(feature = "rustls")]
        if url.is_secure() {
            let _ = self.tls.config().await;
        }
        #[cfg(not(feature = "rustls"))]
        let _ = url;
    }

    /// The proxy on the way to `url`.
    pub(crate) fn proxy_for(&self, url: &Url) -> Result<Option<&Proxy>, TransportError> {
        self.route.proxy(url)
    }

    /// Has `tcp`, which leads to `proxy`, lead to `url`'s host.
    pub(crate) async fn tunnel(
        &self,
        proxy: &Proxy,
        tcp: TcpStream,
        url: &Url,
    ) -> Result<Stream, TransportError> {
        #[cfg(feature = "rustls")]
        return proxy.tunnel(tcp, url, &self.tls).await;
        #[cfg(not(feature = "rustls"))]
        proxy.tunnel(tcp, url, ()).await
    }

    /// What the WebSocket to `url` travels on: `stream`, with TLS if the scheme asks for it.
    pub(crate) async fn secure(&self, url: &Url, stream: Stream) -> Result<Stream, TransportError> {
        #[cfg(not(feature = "rustls"))]
        if url.is_secure() {
            return Err(failure::no_tls());
        }
        #[cfg(feature = "rustls")]
        if url.is_secure() {
            return Ok(Stream::Tls(Box::new(self.tls.connect(url.host(), stream).await?)));
        }
        Ok(stream)
    }

    /// Makes of `stream` a WebSocket.
    pub(crate) async fn upgrade(
        &self,
        opening: &Opening,
        mut stream: Stream,
    ) -> Result<(TungsteniteSocket, Response), TransportError> {
        let (response, rest) = opening.perform(&mut stream).await?;
        let assembly = Assembly::new(self.assembly_timeout);
        Ok((TungsteniteSocket::new(stream, &rest, self.max_message, assembly), response))
    }
}

impl Default for Tungstenite {
    fn default() -> Self {
        Self::new()
    }
}

impl Transport for Tungstenite {
    type Socket = TungsteniteSocket;

    async fn connect(
        &self,
        request: &Request,
    ) -> Result<(TungsteniteSocket, Response), TransportError> {
        let (opening, url) = (Opening::of(request)?, request.url());
        #[cfg(not(feature = "rustls"))]
        if url.is_secure() {
            return Err(failure::no_tls());
        }
        let stream = match self.proxy_for(url)? {
            Some(proxy) => self.tunnel(proxy, proxy.dial().await?, url).await?,
            None => Stream::Plain(dial(url.host(), url.port()).await?),
        };
        self.upgrade(&opening, self.secure(url, stream).await?).await
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use http::HeaderValue;
    use http::header::{COOKIE, HOST, RETRY_AFTER, SEC_WEBSOCKET_EXTENSIONS};

    use super::testing::{Server, answered, frame, opened, read, switching};
    use super::*;
    use crate::protocol::DisconnectReason;
    use crate::transport::Frame;

    fn reason<T>(result: Result<T, TransportError>) -> DisconnectReason {
        let e = result.err().expect("a failure");
        let shown = format!("{} {e:?} {:?}", e.in_full(), e.get_ref().map(ToString::to_string));
        assert!(!shown.contains("canary"), "a secret is shown: {shown}");
        e.reason().clone()
    }

    #[tokio::test]
    async fn the_handshake_is_the_one_of_the_rfc() {
        let server = Server::start().await;
        let request = server
            .request()
            .header(COOKIE, HeaderValue::from_static("a=b"))
            .header(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static("permessage-deflate"))
            .header(HOST, HeaderValue::from_static("elsewhere"))
            .subprotocol("v2")
            .subprotocol("v1");
        let transport = Tungstenite::new();
        let (_, (_tcp, head)) =
            tokio::join!(async { transport.connect(&request).await.map(|_| ()) }, async {
                let (mut tcp, head) = server.accept().await;
                let answer = switching(&head, "Sec-WebSocket-Protocol: v1\r\n");
                tokio::io::AsyncWriteExt::write_all(&mut tcp, answer.as_bytes()).await.unwrap();
                (tcp, head)
            });
        assert!(head.starts_with("GET /ws?token=canary HTTP/1.1\r\n"), "{head}");
        for line in [
            &format!("Host: 127.0.0.1:{}", server.port()),
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: v2, v1",
            "authorization: Basic YW5uOmNhbmFyeQ==",
            "cookie: a=b",
        ] {
            assert_eq!(head.lines().filter(|l| *l == line).count(), 1, "{line} in {head}");
        }
        assert!(!head.contains("elsewhere") && !head.contains("deflate"), "{head}");
    }

    #[test]
    fn a_subprotocol_that_no_header_can_carry_fails_the_handshake() {
        let broken = Request::new("ws://host/").unwrap().subprotocol("canary\r\nX: y");
        assert_eq!(reason(Opening::of(&broken)), DisconnectReason::Handshake);
    }

    #[tokio::test]
    async fn a_handshake_and_frames_in_one_segment_lose_nothing() {
        let two = [frame(0x81, b"one"), frame(0x82, b"two")].concat();
        let (mut socket, _tcp) = opened(&Tungstenite::new(), &two).await;
        let frames = read(&mut socket, 9).await.unwrap();
        assert_eq!(frames, [Frame::Data("one".into()), Frame::Data(b"two".to_vec().into())]);
    }

    #[tokio::test]
    async fn the_answer_of_an_open_socket_keeps_its_headers() {
        let answer = |head: &str| switching(head, "X-Limit: 7\r\n");
        let (_, response) = answered(|r| r, answer).await.unwrap();
        assert_eq!(
            (response.status(), &response.headers()["x-limit"]),
            (101, &"7".parse().unwrap())
        );
    }

    #[tokio::test]
    async fn a_429_keeps_its_retry_after_header_and_drops_its_body() {
        let answer = "HTTP/1.1 429 Slow Down\r\nRetry-After: 7\r\nX: canary\r\n\r\ncanary";
        let e = answered(|r| r, |_| answer.into()).await.unwrap_err();
        let response = e.response().unwrap();
        assert_eq!(
            (response.status(), response.headers()[RETRY_AFTER].as_bytes()),
            (429, &b"7"[..])
        );
        assert_eq!(reason::<()>(Err(e)), DisconnectReason::Http { status: 429 });
    }

    #[tokio::test]
    async fn an_answer_that_opens_another_websocket_is_a_handshake_failure() {
        type Answer = fn(&str) -> String;
        let wrong: [(&str, Answer); 6] = [
            ("the accept key", |head| switching(&head.replace("-Key: ", "-Key: x"), "")),
            ("no upgrade", |head| switching(head, "").replace("Upgrade: ", "X: ")),
            ("no connection", |head| switching(head, "").replace("Connection: ", "X: ")),
            ("a subprotocol", |head| switching(head, "Sec-WebSocket-Protocol: v1\r\n")),
            ("an extension", |head| switching(head, "Sec-WebSocket-Extensions: x\r\n")),
            ("a header's bytes", |head| {
                switching(head, "Sec-WebSocket-Protocol: canary\u{fc}\r\n")
            }),
        ];
        for (what, answer) in wrong {
            let result = answered(|r| r, answer).await;
            assert_eq!(reason(result), DisconnectReason::Handshake, "{what}");
        }
        let result = answered(|r| r.subprotocol("v1"), |head| switching(head, "")).await;
        assert_eq!(reason(result), DisconnectReason::Handshake, "no subprotocol");
    }

    #[tokio::test]
    async fn an_answer_that_is_no_http_or_has_no_end_is_a_violation() {
        let flood = |head: &str| switching(head, &"X: y\r\n".repeat(200));
        assert_eq!(reason(answered(|r| r, flood).await), DisconnectReason::ProtocolViolation);
        for answer in ["SSH-2.0-x\r\n\r\n", "HTTP/1.0 503 Unavailable\r\n\r\n"] {
            let result = answered(|r| r, |_| answer.into()).await;
            assert_eq!(reason(result), DisconnectReason::ProtocolViolation, "{answer}");
        }
    }

    #[tokio::test]
    async fn an_end_in_the_handshake_is_unexpected() {
        for answer in ["", "HTTP/1.1 101 Switching Protocols\r\nUpgr"] {
            let result = answered(|r| r, |_| answer.into()).await;
            let expected = DisconnectReason::Io(io::ErrorKind::UnexpectedEof);
            assert_eq!(reason(result), expected, "after {answer:?}");
        }
    }

    #[cfg(feature = "test-util")]
    #[tokio::test]
    async fn frames_travel_over_tls_and_an_end_without_notice_is_an_end() {
        use super::super::tls::tests::Authority;
        use super::testing::head;
        use tokio::io::AsyncWriteExt as _;

        let (authority, server) = (Authority::new(), Server::start().await);
        let transport = Tungstenite::new().tls(authority.trusted());
        let url = format!("wss://127.0.0.1:{}/", server.port());
        let request = Request::new(&url).unwrap();
        let (client, ()) = tokio::join!(transport.connect(&request), async {
            let mut tls = authority.server("127.0.0.1").accept(server.tcp().await).await.unwrap();
            let answer = switching(&head(&mut tls).await, "");
            tls.write_all(&[answer.as_bytes(), &frame(0x81, b"tick")].concat()).await.unwrap();
            tls.flush().await.unwrap();
            tls.into_inner().0.shutdown().await.unwrap();
        });
        let mut socket = client.unwrap().0;
        assert_eq!(read(&mut socket, 9).await.unwrap(), [Frame::Data("tick".into())]);
        assert_eq!(reason(read(&mut socket, 9).await), DisconnectReason::Ended);
    }
}
