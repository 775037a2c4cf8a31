//! Nothing that we log or print shows a secret, whatever happens to a stream.

use std::cell::RefCell;
use std::error::Error;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, Once};

use futures::{FutureExt as _, StreamExt as _};
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use wsmux::protocol::{
    Dial, DialError, Direct, Failure, Lane, Protocol, Request, Response, Session, Verdict,
};
use wsmux::test_util::{Answer, Certificate, Garbage, MockServer, Peer};
use wsmux::transport::{Tls, Tungstenite};
use wsmux::{InvalidName, Limits, StreamError, StreamName, Subscription};

use crate::{MS, Net, PATH, builder, config, within};

/// What is shown, by us or by those who print what we hand out.
#[derive(Clone, Default)]
pub(crate) struct Shown(Arc<Mutex<String>>);

impl Shown {
    pub(crate) fn line(&self, text: &str) {
        let mut shown = self.0.lock().unwrap();
        shown.push_str(text);
        shown.push('\n');
    }

    pub(crate) fn print(&self, what: &impl fmt::Debug) {
        self.line(&format!("{what:?}"));
        self.line(&format!("{what:#?}"));
    }

    pub(crate) fn error(&self, e: &dyn Error) {
        let mut next = Some(e);
        while let Some(e) = next {
            self.line(&e.to_string());
            self.print(&e);
            next = e.source();
        }
    }

    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

/// Writes down all that the crate logs.
struct Logged(Shown);

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl<S: tracing::Subscriber> Layer<S> for Logged {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.target().starts_with("wsmux") {
            let mut fields = Fields(format!("{} {}:", metadata.level(), metadata.name()));
            event.record(&mut fields);
            self.0.line(&fields.0);
        }
    }

    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        _: &tracing::span::Id,
        _: Context<'_, S>,
    ) {
        if attributes.metadata().target().starts_with("wsmux") {
            let mut fields = Fields(attributes.metadata().name().to_owned());
            attributes.record(&mut fields);
            self.0.line(&fields.0);
        }
    }
}

/// What this thread writes through the `log` crate: rustls does, and the mock server's tungstenite.
struct LogCrate;

thread_local! {
    static LOGGED: RefCell<Option<(Shown, Said)>> = const { RefCell::new(None) };
}

/// Whether what is said on open sockets is looked at too. The mock server's tungstenite writes it
/// down: what it has got, it has got.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Said {
    Counts,
    PassedOver,
}

impl log::Log for LogCrate {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        LOGGED.with_borrow(|logged| match logged {
            Some((_, Said::PassedOver)) => !metadata.target().starts_with("tungstenite::protocol"),
            Some((_, Said::Counts)) => true,
            None => false,
        })
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = format!("log {} {}: {}", record.level(), record.target(), record.args());
            LOGGED.with_borrow(|logged| logged.iter().for_each(|(shown, _)| shown.line(&line)));
        }
    }

    fn flush(&self) {}
}

/// Looks at the logs of this thread for as long as it is kept.
pub(crate) struct Looking {
    _tracing: DefaultGuard,
}

impl Drop for Looking {
    fn drop(&mut self) {
        LOGGED.set(None);
    }
}

/// Logs of this thread, at every level, but for what is said on open sockets.
pub(crate) fn logged(shown: &Shown) -> Looking {
    logged_with(shown, Said::PassedOver)
}

pub(crate) fn logged_with(shown: &Shown, said: Said) -> Looking {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_boxed_logger(Box::new(LogCrate)).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
    LOGGED.set(Some((shown.clone(), said)));
    let subscriber = tracing_subscriber::registry().with(Logged(shown.clone()));
    Looking { _tracing: tracing::subscriber::set_default(subscriber) }
}

/// Adds secrets to each request, and prints all that a protocol gets to see.
struct Secretive {
    direct: Direct,
    shown: Shown,
}

impl Protocol for Secretive {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        self.direct.lane(name)
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        let key = HeaderName::from_static("x-api-key");
        let request = self
            .direct
            .request(dial)?
            .header(key, HeaderValue::from_static("canary-header"))
            .subprotocol("canary-subprotocol");
        self.shown.print(dial);
        self.shown.print(&request);
        self.shown.print(request.url());
        self.shown.line(&request.url().to_string());
        Ok(request)
    }

    fn session(&self, dial: &Dial<'_>) -> Box<dyn Session> {
        self.shown.print(dial);
        self.shown.print(&dial.response);
        self.direct.session(dial)
    }

    fn classify(&self, failure: &Failure<'_>) -> Option<Verdict> {
        self.shown.print(failure);
        self.shown.print(&failure.response.map(Response::status));
        None
    }
}

/// What a message has to be read as. It never is.
#[derive(Debug, Deserialize)]
struct Number {
    #[expect(dead_code, reason = "read by serde")]
    n: u32,
}

/// Secrets that are sent were there to be shown.
fn assert_sent(peer: &Peer) {
    let sent = format!("{:?} {:?}", peer.query(), peer.headers());
    for canary in ["canary-query", "canary-header", "canary-subprotocol", BASE64] {
        assert!(sent.contains(canary), "{canary} in {sent}");
    }
}

/// The user-info `canary-user:canary-password`.
const BASE64: &str = "Y2FuYXJ5LXVzZXI6Y2FuYXJ5LXBhc3N3b3Jk";

fn secretive(server: &MockServer, shown: &Shown) -> Secretive {
    let url = server.url().replace("://", "://canary-user:canary-password@");
    let direct = Direct::new(&format!("{url}/ws/{{name}}?token=canary-query")).unwrap();
    shown.print(&direct);
    Secretive { direct, shown: shown.clone() }
}

/// A WebSocket, with the subprotocol that was asked for and a secret of the server's.
fn accepting() -> Answer {
    Answer::Accept
        .with_header("set-cookie", "id=canary-cookie")
        .with_header("sec-websocket-protocol", "canary-subprotocol")
}

/// Reads an item and prints all that it says; `false` after the end.
async fn read(shown: &Shown, stream: &mut Subscription<Number>) -> bool {
    match within(stream.recv()).await {
        Some(Ok(number)) => panic!("{number:?}"),
        // It quotes the message, which is the reader's own.
        Some(Err(StreamError::Decode(_))) => true,
        Some(Err(notice)) => {
            shown.error(&notice);
            if let StreamError::Closed(reason) = &notice {
                shown.error(reason);
            }
            shown.print(&stream.info());
            shown.line(&stream.status().to_string());
            shown.print(&stream.status());
            true
        }
        None => false,
    }
}

/// Everything that is shown of a stream whose every dial is answered so, and whose every socket has
/// this done to it.
async fn shown_of(answer: Answer, does: impl AsyncFn(&Peer)) -> String {
    let shown = Shown::default();
    let _logged = logged(&shown);
    let server = MockServer::start().await.unwrap();
    server.set_answer(PATH, answer);
    let config = config().limits(Limits { max_message: 1000, ..Limits::default() });
    let builder = builder(secretive(&server, &shown), config.connect_timeout(50 * MS));
    shown.print(&builder);
    let net = Net::of(server, builder);
    show_all(&shown, net, async |peer| {
        assert_sent(peer);
        does(peer).await;
    })
    .await;
    shown.text()
}

/// Reads a stream to its end, whose every socket has this done to it, and prints all there is to see.
pub(crate) async fn show_all(shown: &Shown, net: Net, does: impl AsyncFn(&Peer)) {
    let mut events = net.manager.events();
    let mut stream = net.manager.subscribe::<Number>(crate::NAME).unwrap();
    let reading = async {
        while read(shown, &mut stream).await {
            shown.print(&net.manager);
            shown.print(&net.manager.streams());
            shown.print(&net.manager.health());
            shown.line(&net.manager.health().to_json());
            shown.line(&net.manager.diagnose().to_string());
            shown.print(&net.manager.metrics());
            shown.line(&net.manager.prometheus());
        }
    };
    let serving = async {
        loop {
            does(&net.server.accept().await).await;
        }
    };
    futures::select_biased! {
        () = reading.fuse() => {}
        () = Box::pin(serving).fuse() => {}
    }
    shown.print(&stream);
    drop(stream);
    while let Some(Some(event)) = events.next().now_or_never() {
        shown.print(&event);
    }
    net.leaves_nothing().await;
}

fn assert_clean(shown: &str, canaries: &[&str]) {
    for canary in ["canary-", BASE64, "Y2FuYXJ5"].iter().chain(canaries) {
        let line = shown.lines().find(|line| line.contains(canary));
        assert_eq!(line, None, "{canary} is shown");
    }
    assert!(shown.contains("WARN") && shown.contains("connection closed for good"), "{shown}");
}

#[tokio::test]
async fn no_answer_to_a_dial_has_a_secret_shown() {
    let subprotocol = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: \
                       Upgrade\r\nSec-WebSocket-Protocol: canary-\u{fc}\r\n\r\n";
    let statuses = [200, 302, 401, 404, 429, 503].map(|status| {
        Answer::status(status)
            .with_header("location", "ws://canary-host/?canary-query")
            .with_header("set-cookie", "id=canary-cookie")
            .with_header("www-authenticate", "canary-realm")
            .with_header("retry-after", "canary-date")
    });
    let raw = ["canary-\r\n\r\n", "HTTP/1.1 canary-\r\nx: canary-\r\n\r\n", subprotocol];
    let others = [
        Answer::Refuse,
        Answer::Hang,
        Answer::EndOfFile,
        Answer::HeaderFlood,
        Answer::WrongAccept,
        Answer::Drip { every: 20 * MS },
        // The subprotocol is not granted, or another one is.
        Answer::Accept.with_header("set-cookie", "id=canary-cookie"),
        Answer::Accept.with_header("sec-websocket-protocol", "canary-other"),
        accepting().with_header("sec-websocket-extensions", "canary-extension"),
    ];
    let raw = raw.map(|bytes| Answer::Raw(bytes.into()));
    for answer in statuses.into_iter().chain(others).chain(raw) {
        let text = format!("{answer:?}");
        let shown = match answer {
            // Nothing is open, so nothing is to be done.
            Answer::AcceptWith { .. } => shown_of(answer, async |_| ()).await,
            answer => shown_of(answer, async |_| unreachable!("it is open")).await,
        };
        assert!(shown.contains("x-api-key"), "requests are printed: {text}");
        assert_clean(&shown, &[]);
    }
}

#[tokio::test]
async fn no_end_of_a_socket_has_a_secret_or_a_message_logged() {
    type End = fn(&Peer);
    let ends: [End; 2] = [Peer::fin, Peer::reset];
    for end in ends {
        let shown = shown_of(accepting(), async |peer| end(peer)).await;
        assert_clean(&shown, &[]);
    }
    for garbage in Garbage::ALL {
        let shown = shown_of(accepting(), async |peer| {
            peer.raw(&b"\x82\x07canary-"[..]).await;
            peer.garbage(garbage).await;
        });
        assert_clean(&shown.await, &[]);
    }
    for bytes in [&b"\x81\x0Dcanary-\xFFcanary"[..], b"\xC1\x07canary-", b"\x89\x7E\x00\x80canary-"]
    {
        let shown = shown_of(accepting(), async |peer| {
            peer.raw(bytes).await;
            peer.fin();
        });
        assert_clean(&shown.await, &[]);
    }
    let oversize = shown_of(accepting(), async |peer| {
        peer.send("canary-".repeat(500)).await;
    });
    assert_clean(&oversize.await, &[]);
}

#[tokio::test]
async fn the_servers_own_words_are_shown_without_what_would_forge_a_line() {
    for code in [1001, 4401, 4500] {
        let words = "words\r\n2027-01-01 WARN forged\u{1b}[31m\u{202e}";
        let shown = shown_of(accepting(), async |peer| {
            peer.close(code, words).await;
        })
        .await;
        assert_clean(&shown, &["\r", "\u{1b}", "\u{202e}"]);
        assert!(shown.contains("words2027"), "{shown}");
        assert!(!shown.lines().any(|line| line.starts_with("2027")));
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_the_readers_alone_and_never_logged() {
    let shown = Shown::default();
    let server = MockServer::start().await.unwrap();
    server.set_answer(PATH, accepting());
    let builder = builder(secretive(&server, &shown), config());
    let net = Net::of(server, builder);
    let _logged = logged(&shown);
    let mut stream = net.manager.subscribe::<Number>(crate::NAME).unwrap();
    let peer = net.accept().await;
    assert!(peer.send(r#"{"n":"canary-message"}"#).await);
    let Some(Err(StreamError::Decode(_))) = within(stream.recv()).await else { panic!() };
    shown.print(&stream);
    shown.print(&stream.info());
    peer.close(4500, "").await;
    assert!(matches!(within(stream.recv()).await, Some(Err(StreamError::Closed(_)))));
    assert_clean(&shown.text(), &[]);
    drop(stream);
    net.leaves_nothing().await;
}

#[tokio::test]
async fn a_bad_certificate_has_no_secret_shown() {
    let shown = Shown::default();
    let _logged = logged(&shown);
    let server = MockServer::builder().tls(Certificate::OtherName).start().await.unwrap();
    let tls = Tls::empty().add_root_pem(server.root_pem().as_bytes()).unwrap();
    shown.print(&tls);
    let transport = Tungstenite::new().tls(tls);
    shown.print(&transport);
    let builder = builder(secretive(&server, &shown), config()).transport(transport);
    let net = Net::of(server, builder);
    let mut stream = net.manager.subscribe::<Number>(crate::NAME).unwrap();
    while read(&shown, &mut stream).await {}
    assert_clean(&shown.text(), &[]);
    drop(stream);
    net.leaves_nothing().await;
}

#[test]
fn a_url_that_is_refused_shows_no_secret() {
    let shown = Shown::default();
    for url in [
        "http://canary-user:canary-password@host/?token=canary-query",
        "ws://canary-user:canary-password@host:99999/?token=canary-query",
        "ws://canary-user:canary-password@/?token=canary-query",
        "ws://canary-user:canary-password@host/#canary-fragment",
        "ws://canary-user:canary-password@ho st/?token=canary-query",
        "ws://canary-user:canary-password@{name}/?token=canary-query",
        "canary-user:canary-password@host/?token=canary-query",
    ] {
        shown.error(&Direct::new(url).unwrap_err());
        shown.error(&wsmux::WsManager::connect(url).unwrap_err());
    }
    assert!(!shown.text().contains("canary"), "{}", shown.text());
}
