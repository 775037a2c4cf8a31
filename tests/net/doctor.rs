//! The doctor against servers that are well, and ill in each way.

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use http::header::AUTHORIZATION;
use tokio::net::TcpListener;
use wsmux::DisconnectReason;
use wsmux::doctor::{
    AttemptEnd, CertificateFault, Diagnosis, DoctorError, DoctorOptions, Finding, Outcome, StepKind,
};
use wsmux::test_util::{Answer, Certificate, MockExchange, MockServer, Peer};
use wsmux::transport::{Tls, Tungstenite};

use crate::{MS, SECOND, within};

/// Nothing here waits for as long, unless that is what it is about.
fn options() -> DoctorOptions {
    DoctorOptions::default().timeout(20 * SECOND).listen(20 * SECOND)
}

async fn examined(base: &str, options: DoctorOptions) -> Diagnosis {
    let diagnosis = within(wsmux::doctor(base, "x", options)).await.unwrap();
    let kinds: Vec<_> = diagnosis.steps.iter().map(|step| step.kind).collect();
    assert_eq!(kinds, StepKind::ALL, "each step once, in order");
    let failed = diagnosis.steps.iter().filter(|step| step.outcome == Outcome::Failed).count();
    assert!(failed <= 1, "{diagnosis}");
    for step in &diagnosis.steps {
        let advised = matches!(step.outcome, Outcome::Failed | Outcome::Warning);
        assert_eq!(step.advice().is_some(), advised, "{diagnosis}");
        let done = !matches!(step.outcome, Outcome::NotReached | Outcome::NotApplicable);
        assert_eq!(step.took.is_some(), done && step.kind != StepKind::Clock, "{diagnosis}");
    }
    let json = serde_json::to_value(&diagnosis).unwrap();
    assert_eq!(json["steps"].as_array().unwrap().len(), 9);
    diagnosis
}

fn finding(diagnosis: &Diagnosis, kind: StepKind) -> (Outcome, &Finding) {
    let step = diagnosis.step(kind).unwrap();
    (step.outcome, &step.finding)
}

/// The step that failed and its reason; all behind it was not reached.
fn failed(diagnosis: &Diagnosis) -> (StepKind, DisconnectReason) {
    let step = diagnosis.failed().unwrap_or_else(|| panic!("nothing failed: {diagnosis}"));
    assert_eq!(diagnosis.outcome(), Outcome::Failed);
    for later in diagnosis.steps.iter().filter(|later| later.kind > step.kind) {
        let reached = later.outcome != Outcome::NotReached;
        assert!(!reached || later.kind == StepKind::Clock, "{diagnosis}");
    }
    let Finding::Failed { error, .. } = &step.finding else { panic!("{diagnosis}") };
    (step.kind, error.reason().clone())
}

fn trusting(server: &MockServer) -> Tungstenite {
    Tungstenite::new().tls(Tls::empty().add_root_pem(server.root_pem().as_bytes()).unwrap())
}

fn ms_ahead(ms: i64) -> String {
    let by = Duration::from_millis(ms.unsigned_abs());
    let now = SystemTime::now();
    httpdate::fmt_http_date(if ms < 0 { now - by } else { now + by })
}

#[tokio::test]
async fn an_exchange_that_is_well_passes_each_step() {
    let exchange = MockExchange::start().await.unwrap();
    let date = Answer::Accept.with_header("date", ms_ahead(0)).with_header("server", "mock/1");
    exchange.server().next_dials([date]);
    let diagnosis =
        within(wsmux::doctor(&exchange.url(), "btcusdt@trade", options())).await.unwrap();
    assert_eq!(diagnosis.outcome(), Outcome::Passed, "{diagnosis}");
    assert_eq!(finding(&diagnosis, StepKind::Tls).0, Outcome::NotApplicable);
    assert!(matches!(
        finding(&diagnosis, StepKind::Tcp).1,
        Finding::Connected { attempts }
            if matches!(attempts[..], [ref a] if matches!(a.end, AttemptEnd::Connected { .. }))
    ));
    assert!(matches!(
        finding(&diagnosis, StepKind::Handshake).1,
        Finding::Upgraded { server: Some(server), subprotocol: false } if server == "mock/1"
    ));
    let (_, Finding::Message { binary: false, .. }) = finding(&diagnosis, StepKind::FirstMessage)
    else {
        panic!("{diagnosis}")
    };
    assert!(matches!(finding(&diagnosis, StepKind::Clock), (Outcome::Passed, Finding::Clock(_))));
    assert!(matches!(
        finding(&diagnosis, StepKind::Teardown).1,
        Finding::Closed { code: Some(1000), ended: Some(_) }
    ));
    let text = diagnosis.to_string();
    assert!(
        text.contains("101, a WebSocket, by mock/1") && text.ends_with("All is well."),
        "{text}"
    );
    within(exchange.server().until_sockets(0)).await;
}

#[tokio::test]
async fn a_good_certificate_is_described() {
    let server = MockServer::builder()
        .tls(Certificate::Valid)
        .route("/", |peer: Peer| async move {
            peer.send("hello").await;
        })
        .start()
        .await
        .unwrap();
    let options = options().transport(trusting(&server));
    let base = format!("wss://127.0.0.1:{}", server.addr().port());
    let diagnosis = examined(&base, options).await;
    let (Outcome::Passed, Finding::Secured { cipher, names, valid_for, version, .. }) =
        finding(&diagnosis, StepKind::Tls)
    else {
        panic!("{diagnosis}")
    };
    assert_eq!(*version, Some("1.3"));
    assert!(cipher.unwrap().starts_with("TLS13_"), "{cipher:?}");
    assert_eq!(names, &["localhost", "127.0.0.1"]);
    assert!(valid_for.unwrap() > 100 * 24 * 3600 * SECOND);
}

#[tokio::test]
async fn a_bad_certificate_is_named_with_its_fault() {
    for certificate in [Certificate::Expired, Certificate::OtherName, Certificate::UnknownCa] {
        let server = MockServer::builder().tls(certificate).start().await.unwrap();
        let options = options().transport(trusting(&server));
        let base = format!("wss://127.0.0.1:{}/ws", server.addr().port());
        let diagnosis = examined(&base, options).await;
        assert_eq!(failed(&diagnosis), (StepKind::Tls, DisconnectReason::Certificate));
        let Finding::Failed { certificate: Some(fault), .. } = finding(&diagnosis, StepKind::Tls).1
        else {
            panic!("{diagnosis}")
        };
        let expected = match certificate {
            Certificate::Expired => {
                let at = httpdate::parse_http_date("Wed, 01 Jan 2020 00:00:00 GMT").unwrap();
                CertificateFault::Expired { at }
            }
            Certificate::OtherName => {
                CertificateFault::OtherName { names: vec!["other.example".into()] }
            }
            _ => CertificateFault::UnknownIssuer,
        };
        assert_eq!(*fault, expected);
        assert!(server.dialled().is_empty(), "nothing was said to it");
    }
}

#[tokio::test]
async fn where_nothing_can_be_reached_the_step_is_named() {
    // A label of more than 63 bytes is no name, so no resolver asks the network (RFC 1035 §2.3.4).
    let nowhere = format!("ws://{}.invalid/ws", "x".repeat(64));
    let diagnosis = examined(&nowhere, options()).await;
    assert_eq!(failed(&diagnosis), (StepKind::Dns, DisconnectReason::Dns));
    assert!(diagnosis.to_string().contains("cannot be reached"), "{diagnosis}");

    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let diagnosis = examined(&format!("ws://127.0.0.1:{port}/ws"), options()).await;
    let refused = std::io::ErrorKind::ConnectionRefused;
    assert_eq!(failed(&diagnosis), (StepKind::Tcp, DisconnectReason::Io(refused)));
    let Finding::Failed { attempts, .. } = finding(&diagnosis, StepKind::Tcp).1 else { panic!() };
    assert!(matches!(attempts[0].end, AttemptEnd::Failed { kind, .. } if kind == refused));
    assert!(diagnosis.failed().unwrap().advice().unwrap().contains("nothing listens"));
}

#[tokio::test]
async fn the_wrong_scheme_is_guessed() {
    let server = MockServer::builder().tls(Certificate::Valid).start().await.unwrap();
    let diagnosis = examined(&format!("ws://{}/ws", server.addr()), options()).await;
    assert_eq!(failed(&diagnosis), (StepKind::Handshake, DisconnectReason::ProtocolViolation));
    assert!(diagnosis.failed().unwrap().advice().unwrap().contains("`wss://`"));

    let server = MockServer::start().await.unwrap();
    let diagnosis = examined(&format!("wss://{}/ws", server.addr()), options()).await;
    assert_eq!(failed(&diagnosis).0, StepKind::Tls);
    assert!(diagnosis.failed().unwrap().advice().unwrap().contains("`ws://`"), "{diagnosis}");
}

#[tokio::test]
async fn a_refused_handshake_has_its_status_and_the_clock_all_the_same() {
    for status in [200, 302, 400, 401, 403, 404, 418, 429, 500, 503] {
        let server = MockServer::start().await.unwrap();
        server.next_dials([Answer::status(status).with_header("date", ms_ahead(-60_000))]);
        let diagnosis = examined(&server.url(), options()).await;
        assert_eq!(failed(&diagnosis), (StepKind::Handshake, DisconnectReason::Http { status }));
        let (Outcome::Warning, Finding::Clock(skew)) = finding(&diagnosis, StepKind::Clock) else {
            panic!("{diagnosis}")
        };
        assert!((-63_000..-57_000).contains(&skew.offset_millis), "{skew:?}");
        assert!(diagnosis.to_string().contains("ahead of the server's"), "{diagnosis}");
    }
}

#[tokio::test]
async fn answers_that_are_no_websocket_fail_the_handshake() {
    let hang = options().timeout(500 * MS);
    for (answer, options, reason) in [
        (Answer::WrongAccept, options(), "handshake"),
        (Answer::EndOfFile, options(), "io"),
        (Answer::HeaderFlood, options(), "protocol_violation"),
        (Answer::Hang, hang, "connect_timeout"),
    ] {
        let server = MockServer::start().await.unwrap();
        server.next_dials([answer]);
        let diagnosis = examined(&server.url(), options).await;
        let (kind, why) = failed(&diagnosis);
        assert_eq!((kind, why.label()), (StepKind::Handshake, reason), "{diagnosis}");
    }
}

/// A port that takes connections, and says nothing.
async fn silent_port() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    (listener, host)
}

#[tokio::test]
async fn a_port_that_says_nothing_is_no_firewall_and_refuses_nothing() {
    let (_listener, host) = silent_port().await;
    for (scheme, kind, other) in
        [("ws", StepKind::Handshake, "`wss://`"), ("wss", StepKind::Tls, "`ws://`")]
    {
        let diagnosis = examined(&format!("{scheme}://{host}"), options().timeout(300 * MS)).await;
        assert_eq!(failed(&diagnosis), (kind, DisconnectReason::ConnectTimeout), "{diagnosis}");
        let advice = diagnosis.failed().unwrap().advice().unwrap();
        assert!(!advice.contains("firewall") && advice.contains(other), "{advice}");
        assert!(!diagnosis.verdict().contains("refuses"), "{diagnosis}");
    }
}

#[tokio::test]
async fn what_breaks_an_open_websocket_is_not_laid_to_the_scheme() {
    let reset = found(options(), async |peer| peer.reset()).await;
    let garbage = found(options(), async |peer| assert!(peer.raw(vec![0xff; 64]).await)).await;
    for diagnosis in [reset, garbage] {
        assert_eq!(failed(&diagnosis).0, StepKind::FirstMessage, "{diagnosis}");
        assert!(!diagnosis.failed().unwrap().advice().unwrap().contains("wss://"), "{diagnosis}");
    }
}

/// What is found of a server that does this with its socket.
async fn found(options: DoctorOptions, script: impl AsyncFnOnce(&Peer)) -> Diagnosis {
    let server = MockServer::start().await.unwrap();
    let url = server.url();
    let (diagnosis, _peer) = tokio::join!(examined(&url, options), async {
        let peer = within(server.accept()).await;
        script(&peer).await;
        peer
    });
    diagnosis
}

#[tokio::test]
async fn a_silent_server_is_a_warning() {
    let diagnosis = found(options().listen(50 * MS), async |_| ()).await;
    assert_eq!(diagnosis.outcome(), Outcome::Warning);
    let first = finding(&diagnosis, StepKind::FirstMessage);
    assert!(matches!(first, (Outcome::Warning, Finding::Quiet { pings: 0 })), "{diagnosis}");
    let heartbeat = finding(&diagnosis, StepKind::Heartbeat);
    assert!(matches!(heartbeat, (Outcome::Passed, Finding::Pong { messages: 0, .. })));
}

#[tokio::test]
async fn a_server_without_pongs_fails_unless_it_says_something_else() {
    let options = || options().timeout(SECOND);
    let diagnosis = found(options(), async |peer| {
        peer.stall();
        peer.send("hello").await;
    });
    let diagnosis = diagnosis.await;
    let heartbeat = finding(&diagnosis, StepKind::Heartbeat);
    let dead = matches!(heartbeat, (Outcome::Failed, Finding::NoPong { messages: 0, pings: 0 }));
    assert!(dead, "{diagnosis}");
    assert_eq!(finding(&diagnosis, StepKind::Teardown).0, Outcome::NotReached);

    let diagnosis = found(options(), async |peer| {
        peer.stall();
        peer.delay(20 * MS);
        while peer.send("tick").await {}
    });
    let diagnosis = diagnosis.await;
    let heartbeat = finding(&diagnosis, StepKind::Heartbeat);
    assert!(matches!(heartbeat, (Outcome::Warning, Finding::NoPong { messages: 1.., .. })));
    let teardown = finding(&diagnosis, StepKind::Teardown);
    assert!(matches!(teardown, (Outcome::Warning, Finding::Unanswered { error: None })));
}

#[tokio::test]
async fn a_server_that_pings_is_seen_to() {
    let diagnosis = found(options(), async |peer| {
        peer.ping("alive?").await;
        peer.send("hello").await;
    });
    let diagnosis = diagnosis.await;
    let heartbeat = finding(&diagnosis, StepKind::Heartbeat);
    assert!(matches!(heartbeat, (Outcome::Passed, Finding::Pong { messages: 1, pings: 1 })));
}

#[tokio::test]
async fn a_close_frame_without_an_answer_is_a_warning() {
    let diagnosis = found(options().timeout(SECOND), async |peer| {
        peer.hold_close();
        peer.send("hello").await;
    });
    let diagnosis = diagnosis.await;
    let teardown = finding(&diagnosis, StepKind::Teardown);
    let held = matches!(teardown, (Outcome::Warning, Finding::Unanswered { error: None }));
    assert!(held, "{diagnosis}");
}

#[tokio::test]
async fn a_socket_that_ends_under_us_fails_where_it_was() {
    let diagnosis = found(options(), async |peer| {
        peer.close(4404, "no such stream").await;
    });
    let diagnosis = diagnosis.await;
    let (kind, reason) = failed(&diagnosis);
    assert_eq!((kind, reason.label()), (StepKind::FirstMessage, "closed"));
    assert!(diagnosis.to_string().contains("4404: no such stream"), "{diagnosis}");

    let diagnosis = found(options(), async |peer| peer.fin()).await;
    assert_eq!(failed(&diagnosis), (StepKind::FirstMessage, DisconnectReason::Ended));
}

#[tokio::test]
async fn nothing_that_is_printed_holds_a_secret_or_steers_a_terminal() {
    let server = MockServer::start().await.unwrap();
    server.next_dials([
        Answer::Accept
            .with_header("server", "x\u{9b}31m\u{202e}y")
            .with_header("set-cookie", "canary=1"),
        Answer::status(401).with_header("www-authenticate", "canary"),
    ]);
    let base = server.url().replace("://", "://ann:canary@") + "/{name}?token=canary";
    for _ in 0..2 {
        let options = options()
            .listen(50 * MS)
            .header(AUTHORIZATION, HeaderValue::from_static("Bearer canary"));
        let mut shown = format!("{options:?}");
        let diagnosis = examined(&base, options).await;
        shown += &format!("{diagnosis} {diagnosis:?} {}", serde_json::json!(diagnosis));
        assert!(!shown.contains("canary") && !shown.contains("Y2FuYXJ5"), "{shown}");
        assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{shown}");
        assert!(shown.contains("?***"), "{shown}");
    }
    assert_eq!(server.dialled(), ["/x?token=canary"; 2], "they were there to be shown");
}

#[tokio::test]
async fn what_cannot_be_dialled_is_an_error_with_the_way_out() {
    let refused = async |base: &str, name: &str| {
        wsmux::doctor(base, name, DoctorOptions::default()).await.unwrap_err()
    };
    let e = refused("https://host/", "x").await;
    assert!(matches!(e, DoctorError::Url(_)) && e.to_string().contains("`wss://host/path`"));
    assert!(matches!(refused("ws://host/", "").await, DoctorError::Name(_)));
    assert!(matches!(refused("ws://host/", "..").await, DoctorError::Name(_)));
}

#[tokio::test]
async fn a_diagnosis_goes_anywhere() {
    fn sendable<T: Send + Sync + 'static>(value: T) -> T {
        value
    }
    fn spawnable<F: Future + Send>(future: F) -> F {
        future
    }
    let diagnosis =
        spawnable(wsmux::doctor("ws://127.0.0.1:1", "x", DoctorOptions::default())).await;
    drop(sendable(diagnosis.unwrap()));
}
