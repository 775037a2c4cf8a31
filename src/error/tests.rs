//! What errors say.

use super::*;
use crate::message::Message;

fn refused() -> Arc<TransportError> {
    Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused).into())
}

fn assert_says<E: StdError>(table: impl IntoIterator<Item = (E, &'static str)>) {
    for (e, text) in table {
        assert_eq!(e.to_string(), text);
    }
}

#[test]
fn who_builds_a_manager_is_told_what_would_work() {
    let syntax = "a b".parse::<http::Uri>().unwrap_err();
    assert_says([
        (
            BuildError::Config(ConfigError::Zero { setting: "buffer" }),
            "invalid configuration: `buffer` is zero: set it to at least 1",
        ),
        (
            BuildError::Config(ConfigError::OutOfOrder { low: "a", high: "b" }),
            "invalid configuration: `a` is above `b`: set `b` to at least `a`",
        ),
        (
            BuildError::Name(InvalidName::Empty),
            "invalid stream name: the name is empty: give the name of a stream",
        ),
        (
            BuildError::Thread(io::Error::other("no more of them")),
            "cannot start a thread: no more of them",
        ),
        (
            BuildError::Url(UrlError::Scheme),
            "invalid URL: the scheme is neither `ws` nor `wss`: write `wss://host/path`",
        ),
        (
            BuildError::Url(UrlError::Syntax(syntax)),
            "invalid URL: this is not a URL: write `wss://host/path`",
        ),
    ]);
}

#[test]
fn who_sends_is_told_what_is_known() {
    assert_says([
        (SendError::Closed, "not sent: the stream ended, subscribe again to go on"),
        (SendError::Expired, "not sent: it could not be written in time (`Config::send_ttl`)"),
        (
            SendError::Full,
            "not sent: too many messages are waiting, send slower or raise `send_queue`",
        ),
        (SendError::NotOpen, "not sent: the stream is not open, subscribe first"),
        (SendError::Refused, "not sent: the stream's protocol has no way to send it"),
        (
            SendError::TooLarge { max: 9 },
            "not sent: the message is larger than the transport's 9 bytes",
        ),
        (
            SendError::Unknown,
            "the socket was lost while the message was written: the server may have it",
        ),
    ]);
}

#[test]
fn who_asks_a_server_is_told_whether_it_may_have_acted() {
    let long = "é".repeat(300);
    assert_says([
        (
            RequestError::Failed("no\r\n such \u{1b}order".into()),
            "the server refused the request: no such order",
        ),
        (
            RequestError::Failed(Message::binary(&b"\x00\x01"[..])),
            "the server refused the request, in 2 bytes",
        ),
        (
            RequestError::NotSent(SendError::NotOpen),
            "not sent: the stream is not open, subscribe first",
        ),
        (
            RequestError::Overrun,
            "the reply is too long: read its parts one by one, or raise `buffer` and `buffer_bytes`",
        ),
        (
            RequestError::TimedOut,
            "no reply came in time (`Config::reply_timeout`): the server may still act",
        ),
        (
            RequestError::Unknown,
            "the socket was lost before the reply came: the server may have acted upon the request",
        ),
    ]);
    let shown = RequestError::Failed(long.as_str().into()).to_string();
    assert_eq!(shown.matches('é').count(), 200);
    assert_eq!(RequestError::from(SendError::Unknown), RequestError::Unknown);
    let full = RequestError::from(SendError::Full);
    assert_eq!(full, RequestError::NotSent(SendError::Full));
    assert!(full.source().is_none(), "its line says it all");
}

#[test]
fn who_is_refused_a_subscription_is_told_the_way_out() {
    assert_says([
        (
            SubscribeError::ConnectionLimit { max: 3 },
            "all 3 connections are in use: drop a subscription or raise `limits.max_connections`",
        ),
        (
            SubscribeError::InvalidName(InvalidName::ControlCharacter { at: 2 }),
            "invalid stream name: control character at byte 2: remove it",
        ),
        (
            SubscribeError::InvalidName(InvalidName::TooLong { len: 5000 }),
            "invalid stream name: the name has 5000 bytes, at most 4096 are allowed",
        ),
        (
            SubscribeError::NoRuntime,
            "no tokio runtime: call inside one, or `builder.runtime(handle)`",
        ),
        (SubscribeError::Shutdown, "the manager has been shut down: build a new one"),
    ]);
}

#[test]
fn a_notice_says_what_is_missing_and_why() {
    let reason = DisconnectReason::closed(Some(1006), "");
    assert_says([
        (
            StreamError::Decode(DecodeError::new("no number", "x".into())),
            "cannot read the message: no number",
        ),
        (
            StreamError::Gap(Gap::Lagged { missed: 3 }),
            "gap: the reader lagged and missed 3: read faster, or raise `buffer`",
        ),
        (
            StreamError::Gap(Gap::Reconnected { down_for: Duration::from_secs(2), reason }),
            "gap: reconnected after 2.0s (closed by the server with code 1006)",
        ),
        (StreamError::Gap(Gap::Sequence { missed: Some(3) }), "gap: the feed skipped 3"),
        (StreamError::Gap(Gap::Sequence { missed: None }), "gap: the feed skipped messages"),
        (StreamError::Closed(CloseReason::Shutdown), "stream closed: the manager was shut down"),
    ]);
}

#[test]
fn the_end_of_a_stream_says_what_failed() {
    let no_token = DialError::Protocol("no token".into());
    assert_says([
        (CloseReason::Aborted, "its task was cut off: the runtime was shut down, or a panic"),
        (CloseReason::Fatal(refused()), "retrying cannot mend this: connection refused"),
        (
            CloseReason::NoRequest(Arc::new(no_token)),
            "the protocol could not make a request: no token",
        ),
        (
            CloseReason::NoRequest(Arc::new(UrlError::Host.into())),
            "the protocol made a request that has no valid URL: the URL names no host: write \
             `wss://host/path`, an IPv6 address as `[::1]`",
        ),
        (
            CloseReason::Rejected { reason: "unknown symbol".into() },
            "rejected by the server: unknown symbol",
        ),
        (
            CloseReason::RetriesExhausted { attempts: 11, last: refused() },
            "gave up after 11 failed attempts (`Config::retry` sets how many), the last: connection refused",
        ),
        (
            CloseReason::Unauthorized(refused()),
            "the server refused the credentials: connection refused",
        ),
        (CloseReason::Unused, "nobody was reading"),
    ]);
}

/// What a printer of the whole chain prints.
fn chain(e: &dyn StdError) -> Vec<String> {
    let mut texts = vec![e.to_string()];
    let mut next = e.source();
    while let Some(e) = next {
        texts.push(e.to_string());
        next = e.source();
    }
    texts
}

#[test]
fn a_cause_is_told_once_and_at_once() {
    let io = || io::Error::other(Layer("outer", Some(Box::new(Layer("inner", None)))));
    let failed = |reason| Arc::new(TransportError::new(reason).with_source(io()));
    let dns = CloseReason::RetriesExhausted { attempts: 1, last: failed(DisconnectReason::Dns) };
    let decode = serde_json::from_str::<u8>("\"x\"").unwrap_err();
    let errors: [(&dyn StdError, &[&str]); 4] = [
        (&*failed(DisconnectReason::Tls), &["TLS could not be set up: outer", "inner"]),
        (&*failed(DisconnectReason::Io(io().kind())), &["outer", "inner"]),
        (
            &StreamError::Closed(dns),
            &[
                "stream closed: gave up after 1 failed attempt (`Config::retry` sets how many), the \
                 last: the host's name cannot be resolved: outer",
                "inner",
            ],
        ),
        (
            &StreamError::Decode(DecodeError::new(decode, "x".into())),
            &[
                "cannot read the message: invalid type: string \"x\", expected u8 at line 1 column 3",
            ],
        ),
    ];
    for (e, lines) in errors {
        assert_eq!(chain(e), lines);
    }
    assert_eq!(failed(DisconnectReason::Tls).in_full(), "TLS could not be set up: outer: inner");
    let cause = failed(DisconnectReason::Tls);
    assert!(cause.get_ref().is_some_and(|e| e.is::<io::Error>()));
}

#[test]
fn a_cause_in_the_servers_words_forges_no_line() {
    let e = TransportError::new(DisconnectReason::Protocol).with_source("no\r\n\u{1b}[31mWARN x");
    assert_eq!(e.to_string(), "the protocol gave the connection up: no[31mWARN x");
}

#[derive(Debug)]
struct Layer(&'static str, Option<Box<Self>>);

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl StdError for Layer {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.1.as_deref().map(|e| e as _)
    }
}
