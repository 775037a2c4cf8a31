//! Tokens: asked for, shared, used, refused, renewed and rotated.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures::{FutureExt as _, StreamExt as _};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use tokio::sync::Notify;
use tokio::time::Instant;
use wsmux::protocol::{
    Cx, Dial, DialError, Direct, Lane, Protocol, Request, Rotation, Session, To, Url, Verdict,
};
use wsmux::test_util::memory::{self, MemoryServer, Peer};
use wsmux::transport::Frame;
use wsmux::{
    CloseReason, Config, Credentials, CredentialsError, DisconnectReason, Event, InvalidName,
    Limiter, Message, NoToken, RetryPolicy, Status, StreamName, Subscription, Token, TokenReason,
    WsManager,
};

use crate::{DAY, MINUTE, MS, SECOND, config, end, message, settle};

/// How a [`Provider`] answers.
#[derive(Clone)]
enum Answer {
    /// `t1`, `t2`, …: by number of the call.
    Fresh(Option<Duration>),
    Hangs,
    Is(&'static str),
    Fails,
    Panics,
}

/// A provider that counts, and answers as it is told; the last answer holds.
#[derive(Clone)]
struct Provider(Arc<Mutex<Asked>>);

struct Asked {
    answers: VecDeque<Answer>,
    reasons: Vec<TokenReason>,
    /// Held up until it is told to go on.
    gate: Option<Arc<Notify>>,
}

impl Provider {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers = answers.into_iter().collect();
        Self(Arc::new(Mutex::new(Asked { answers, reasons: Vec::new(), gate: None })))
    }

    /// Tokens that differ, each for one attempt.
    fn fresh() -> Self {
        Self::new([Answer::Fresh(None)])
    }

    /// Tokens that differ and live for so long.
    fn living(life: Duration) -> Self {
        Self::new([Answer::Fresh(Some(life))])
    }

    fn calls(&self) -> usize {
        self.reasons().len()
    }

    fn reasons(&self) -> Vec<TokenReason> {
        self.0.lock().unwrap().reasons.clone()
    }

    fn answers(&self, answer: Answer) {
        self.0.lock().unwrap().answers = [answer].into();
    }

    fn credentials(&self) -> Credentials {
        let this = self.clone();
        Credentials::new(move |reason| this.clone().answer(reason))
    }

    async fn answer(self, reason: TokenReason) -> Result<Token, io::Error> {
        let (call, answer, gate) = {
            let mut asked = self.0.lock().unwrap();
            asked.reasons.push(reason);
            let answer = asked.answers[0].clone();
            if asked.answers.len() > 1 {
                asked.answers.pop_front();
            }
            (asked.reasons.len(), answer, asked.gate.clone())
        };
        if let Some(gate) = gate {
            gate.notified().await;
        }
        match answer {
            Answer::Fails => Err(io::Error::new(io::ErrorKind::ConnectionRefused, "secret words")),
            Answer::Fresh(None) => Ok(Token::new(format!("t{call}"))),
            Answer::Fresh(Some(life)) => {
                Ok(Token::new(format!("t{call}")).expires_at(wall() + life))
            }
            Answer::Hangs => pending().await,
            Answer::Is(token) => Ok(Token::new(token)),
            Answer::Panics => panic!("a provider's panic"),
        }
    }
}

thread_local! {
    /// What the wall clock is wrong by, and where the monotonic one began.
    static WRONG_BY: AtomicU64 = const { AtomicU64::new(0) };
    static BEGAN: Instant = Instant::now();
}

/// 30 years after 1970 the wall clock begins.
const BEGIN: Duration = Duration::from_secs(30 * 365 * 86_400);

/// A wall clock that goes with the paused one, and may be set.
fn wall() -> SystemTime {
    let wrong = Duration::from_secs(WRONG_BY.with(|by| by.load(SeqCst)));
    SystemTime::UNIX_EPOCH + BEGIN + BEGAN.with(Instant::elapsed) + wrong
}

/// Sets the wall clock forward by so much in all.
fn set_forward(by: Duration) {
    WRONG_BY.with(|wrong| wrong.store(by.as_secs(), SeqCst));
}

fn manager_with(
    protocol: impl Protocol,
    credentials: Credentials,
    config: Config,
) -> (WsManager, MemoryServer) {
    let (transport, server) = memory::pair();
    let builder = WsManager::builder(protocol).config(config).transport(transport).seed(7);
    let builder = builder.credentials(credentials).wall_clock(wall).limiter(Limiter::new());
    (builder.build().unwrap(), server)
}

fn manager(provider: &Provider) -> (WsManager, MemoryServer) {
    manager_with(direct(), provider.credentials(), config())
}

fn direct() -> Direct {
    Direct::new("wss://test/{name}").unwrap()
}

fn bearer(request: &Request) -> &str {
    request.headers()[AUTHORIZATION].to_str().unwrap().strip_prefix("Bearer ").unwrap()
}

async fn refuse(server: &mut MemoryServer) -> String {
    bearer(&server.answer(401, HeaderMap::new()).await).to_owned()
}

async fn accept(server: &mut MemoryServer) -> (Peer, String) {
    let peer = server.accept().await;
    let token = bearer(peer.request()).to_owned();
    (peer, token)
}

#[tokio::test(start_paused = true)]
async fn each_dial_asks_for_a_token_that_does_not_say_when_it_expires() {
    let provider = Provider::fresh();
    let (manager, mut server) = manager(&provider);
    let mut stream = manager.subscribe::<Message>("a").unwrap();
    for expected in ["t1", "t2"] {
        let request = server.refuse(io::Error::from(io::ErrorKind::ConnectionReset)).await;
        assert_eq!(bearer(&request), expected);
    }
    let (peer, token) = accept(&mut server).await;
    peer.send("x");
    assert_eq!((message(&mut stream).await, &*token), ("x".into(), "t3"));
    assert_eq!(provider.reasons(), [TokenReason::Dial; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_is_used_until_shortly_before() {
    let provider = Provider::living(15 * MINUTE);
    let (manager, mut server) = manager(&provider);
    let _a = manager.subscribe::<Message>("a").unwrap();
    let (peer, first) = accept(&mut server).await;
    let _b = manager.subscribe::<Message>("b").unwrap();
    let (peer_b, second) = accept(&mut server).await;
    assert_eq!((&*first, &*second, provider.calls()), ("t1", "t1", 1));
    drop((peer, peer_b));
    let (_a, third) = accept(&mut server).await;
    assert_eq!((&*third, provider.calls()), ("t1", 1));
}

#[tokio::test(start_paused = true)]
async fn dials_at_one_time_share_one_call_and_who_leaves_cancels_it_for_nobody() {
    let provider = Provider::fresh();
    let gate = Arc::new(Notify::new());
    provider.0.lock().unwrap().gate = Some(Arc::clone(&gate));
    let (manager, mut server) = manager(&provider);
    let mut streams: Vec<_> =
        (0..100).map(|n| manager.subscribe::<Message>(n.to_string()).unwrap()).collect();
    settle().await;
    assert_eq!(provider.calls(), 1);
    streams.drain(..50);
    settle().await;
    gate.notify_one();
    for _ in 0..50 {
        assert_eq!(accept(&mut server).await.1, "t1");
    }
    assert_eq!(provider.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_waits_for_any_more_is_dropped() {
    let provider = Provider::new([Answer::Hangs, Answer::Fresh(None)]);
    let (manager, mut server) = manager(&provider);
    drop(manager.subscribe::<Message>("a").unwrap());
    settle().await;
    let stream = manager.subscribe::<Message>("a").unwrap();
    settle().await;
    drop(stream);
    settle().await;
    let _stream = manager.subscribe::<Message>("a").unwrap();
    assert_eq!(accept(&mut server).await.1, "t2", "and not at the end of the first one's time");
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_replaced_once_and_at_once() {
    for status in [401, 403] {
        let provider = Provider::living(DAY);
        let (manager, mut server) = manager(&provider);
        let mut stream = manager.subscribe::<Message>("a").unwrap();
        let start = Instant::now();
        let refused = server.answer(status, HeaderMap::new()).await;
        let (peer, token) = accept(&mut server).await;
        assert_eq!((bearer(&refused), &*token), ("t1", "t2"));
        assert!(start.elapsed() < MS, "at once");
        assert_eq!(provider.reasons(), [TokenReason::Dial, TokenReason::Refused]);
        peer.send("x");
        assert_eq!(message(&mut stream).await, "x");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_again_is_the_end() {
    let provider = Provider::living(DAY);
    let (manager, mut server) = manager(&provider);
    let mut stream = manager.subscribe::<Message>("a").unwrap();
    assert_eq!(refuse(&mut server).await, "t1");
    assert_eq!(refuse(&mut server).await, "t2");
    let CloseReason::Unauthorized(e) = end(&mut stream).await else { panic!() };
    assert_eq!(*e.reason(), DisconnectReason::Http { status: 401 });
    assert_eq!(provider.calls(), 2);
    // Who subscribes again begins afresh, and not with a token that is known to be refused.
    let _stream = manager.subscribe::<Message>("a").unwrap();
    assert_eq!(accept(&mut server).await.1, "t3");
}

#[tokio::test(start_paused = true)]
async fn other_failures_between_two_refusals_do_not_make_the_second_the_first() {
    let provider = Provider::fresh();
    let (manager, mut server) = manager(&provider);
    let mut stream = manager.subscribe::<Message>("a").unwrap();
    refuse(&mut server).await;
    server.answer(503, HeaderMap::new()).await;
    refuse(&mut server).await;
    assert!(matches!(end(&mut stream).await, CloseReason::Unauthorized(_)));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_joined_with_earns_the_next_one_its_chance() {
    let provider = Provider::living(DAY);
    let (manager, mut server) = manager(&provider);
    let _stream = manager.subscribe::<Message>("a").unwrap();
    refuse(&mut server).await;
    for n in 2..5 {
        let (peer, token) = accept(&mut server).await;
        assert_eq!(token, format!("t{n}"));
        tokio::time::sleep(MINUTE).await;
        let start = Instant::now();
        peer.close(4401, "expired");
        drop(peer);
        let dial = server.dial().await;
        assert!(start.elapsed() < MS, "at once: {:?}", start.elapsed());
        drop(dial.refuse(io::Error::from(io::ErrorKind::ConnectionReset)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_each_token_and_refuses_it_at_once_makes_no_hot_loop() {
    let provider = Provider::living(DAY);
    let (manager, mut server) = manager(&provider);
    let mut stream = manager.subscribe::<Message>("a").unwrap();
    let start = Instant::now();
    let mut sockets = 0;
    let reason = loop {
        tokio::select! {
            biased;
            (peer, _) = accept(&mut server) => {
                sockets += 1;
                settle().await;
                peer.close(4401, "");
            }
            item = stream.recv() => {
                if let Some(Err(wsmux::StreamError::Closed(reason))) = item { break reason }
            }
        }
    };
    assert!(matches!(reason, CloseReason::RetriesExhausted { .. }), "{reason}");
    assert_eq!(sockets, 12, "the first, the one at once, and ten retries");
    assert!(start.elapsed() > 20 * SECOND, "{:?}", start.elapsed());
    assert_eq!(provider.calls(), sockets);
}

#[tokio::test(start_paused = true)]
async fn one_refused_token_is_replaced_once_for_all_who_use_it() {
    let provider = Provider::living(DAY);
    let (manager, mut server) = manager(&provider);
    let _streams: Vec<_> =
        (0..8).map(|n| manager.subscribe::<Message>(n.to_string()).unwrap()).collect();
    let mut dials = Vec::new();
    for _ in 0..8 {
        dials.push(server.dial().await);
    }
    for dial in dials {
        let response = wsmux::protocol::Response::new(401, HeaderMap::new());
        assert_eq!(bearer(dial.request()), "t1");
        dial.refuse(wsmux::transport::TransportError::refused(response));
    }
    for _ in 0..8 {
        assert_eq!(accept(&mut server).await.1, "t2");
    }
    assert_eq!(provider.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_fails_hangs_or_panics_is_retried_like_a_server() {
    let answers = [Answer::Fails, Answer::Hangs, Answer::Panics, Answer::Fresh(None)];
    let provider = Provider::new(answers);
    let (manager, mut server) = manager(&provider);
    let mut events = manager.events();
    let stream = manager.subscribe::<Message>("a").unwrap();
    let mut causes = Vec::new();
    while causes.len() < 3 {
        if let Some(Event::Retrying { error, .. }) = events.next().await {
            assert_eq!(*error.reason(), DisconnectReason::Token);
            let cause = error.get_ref().unwrap().downcast_ref::<NoToken>().unwrap();
            assert_eq!(cause.provider().is_some(), causes.is_empty());
            causes.push(error.to_string());
        }
    }
    assert_eq!(
        causes,
        [
            "no token could be had: its provider failed (connection refused)",
            "no token could be had: its provider took longer than `token_timeout`",
            "no token could be had: its provider panicked",
        ]
    );
    assert!(matches!(stream.status(), Status::BackingOff { attempt: 4, .. }));
    assert_eq!(accept(&mut server).await.1, "t4");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_goes_on_failing_exhausts_the_retries() {
    let provider = Provider::new([Answer::Fails]);
    let (manager, mut server) = manager(&provider);
    let mut stream = manager.subscribe::<Message>("a").unwrap();
    let CloseReason::RetriesExhausted { attempts: 11, last } = end(&mut stream).await else {
        panic!()
    };
    assert_eq!((last.reason(), provider.calls()), (&DisconnectReason::Token, 11));
    assert!(!server.has_dial());
}

#[tokio::test(start_paused = true)]
async fn a_hanging_provider_holds_up_neither_leaving_nor_shutdown() {
    let provider = Provider::new([Answer::Hangs]);
    let (manager, _server) = manager(&provider);
    let stream = manager.subscribe::<Message>("a").unwrap();
    settle().await;
    drop(stream);
    settle().await;
    assert_eq!(crate::alive_tasks(), 0);
    let mut stream = manager.subscribe::<Message>("a").unwrap();
    settle().await;
    let start = Instant::now();
    manager.shutdown().await;
    assert!(start.elapsed() < MS);
    assert!(matches!(end(&mut stream).await, CloseReason::Shutdown));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_cannot_be_sent_is_the_end_and_says_why() {
    for (token, expected) in [
        ("line\r\nX: y", CredentialsError::Header),
        ("café", CredentialsError::Header),
        ("", CredentialsError::Empty),
    ] {
        let (manager, mut server) = manager(&Provider::new([Answer::Is(token)]));
        let mut stream = manager.subscribe::<Message>("a").unwrap();
        let CloseReason::NoRequest(e) = end(&mut stream).await else { panic!() };
        assert!(matches!(*e, DialError::Credentials(e) if e == expected), "{e}");
        assert!(!server.has_dial());
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_go_over_an_open_line_only_to_this_machine_or_if_told_to() {
    type Set = fn(Credentials) -> Credentials;
    let places: [Set; 2] = [|c| c, Credentials::in_band];
    for place in places {
        for (url, is_sent) in [
            ("ws://venue/{name}", false),
            ("wss://venue/{name}", true),
            ("ws://localhost:80/{name}", true),
            ("ws://[::1]/{name}", true),
        ] {
            let credentials = place(Provider::fresh().credentials());
            let direct = Direct::new(url).unwrap();
            let (manager, mut server) = manager_with(direct, credentials, config());
            let mut stream = manager.subscribe::<Message>("a").unwrap();
            settle().await;
            assert_eq!(server.has_dial(), is_sent, "{url}");
            if !is_sent {
                let CloseReason::NoRequest(e) = end(&mut stream).await else { panic!() };
                assert!(e.to_string().contains("`wss://`"), "{e}");
            }
        }
    }
    let config = config().plain_text_credentials(true);
    let direct = Direct::new("ws://venue/{name}").unwrap();
    let (manager, mut server) = manager_with(direct, Provider::fresh().credentials(), config);
    let _stream = manager.subscribe::<Message>("a").unwrap();
    assert_eq!(accept(&mut server).await.1, "t1");
}

#[tokio::test(start_paused = true)]
async fn a_user_name_in_a_url_is_not_shown_to_everybody_on_the_way_either() {
    let direct = Direct::new("ws://ann:pass@venue/{name}").unwrap();
    let (manager, mut server) = crate::manager_of(direct, config());
    let mut stream = manager.subscribe::<Message>("a").unwrap();
    assert!(matches!(end(&mut stream).await, CloseReason::NoRequest(_)));
    assert!(!server.has_dial());
}

#[tokio::test(start_paused = true)]
async fn a_token_goes_where_the_credentials_say_with_any_protocol() {
    let provider = Provider::fresh();
    let key = HeaderName::from_static("x-api-key");
    let dialled = async |credentials: Credentials| {
        let (manager, mut server) = manager_with(direct(), credentials, config());
        let _stream = manager.subscribe::<Message>("a").unwrap();
        server.dial().await.request().clone()
    };
    let request = dialled(provider.credentials().in_header(key.clone())).await;
    assert_eq!(request.headers()[key], "t1");
    let request = dialled(provider.credentials().in_query("token")).await;
    assert_eq!(request.url().target(), "/a?token=t2");
    let request = dialled(provider.credentials().in_subprotocol("bearer.")).await;
    assert_eq!(request.subprotocols(), ["bearer.t3"]);
}

/// Sends its token in a message, and a fresh one too. Says what it saw.
struct Band {
    direct: Direct,
    in_place: bool,
}

struct BandSession {
    in_place: bool,
}

impl Protocol for Band {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        self.direct.lane(name)
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        assert!(dial.token.is_some());
        Ok(Request::to(Url::parse("wss://test/")?))
    }

    fn session(&self, dial: &Dial<'_>) -> Box<dyn Session> {
        assert!(dial.token.is_some());
        Box::new(BandSession { in_place: self.in_place })
    }
}

impl Session for BandSession {
    fn open(&mut self, cx: &mut Cx<'_>) {
        cx.push(format!("auth {}", cx.token().unwrap().expose()));
    }

    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        names.iter().for_each(|name| cx.joined(name.as_str()));
    }

    fn leave(&mut self, _: &[StreamName], _: &mut Cx<'_>) {}

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        match message.as_text().unwrap() {
            "welcome" => cx.ready(),
            words if words.starts_with("refused") => cx.failed(Verdict::NewToken, words),
            _ => cx.data(To::All, message.clone()),
        }
    }

    fn rotate(&mut self, cx: &mut Cx<'_>) -> Rotation {
        if !self.in_place {
            return Rotation::Reconnect;
        }
        cx.push(format!("again {}", cx.token().unwrap().expose()));
        Rotation::InPlace
    }
}

fn band(provider: &Provider, config: Config) -> (WsManager, MemoryServer) {
    let protocol = Band { direct: direct(), in_place: true };
    manager_with(protocol, provider.credentials().in_band(), config)
}

async fn said(peer: &mut Peer) -> String {
    match peer.recv().await {
        Some(Frame::Data(message)) => message.as_text().unwrap().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_in_a_message_is_refused_and_replaced_like_one_in_the_handshake() {
    let provider = Provider::living(DAY);
    let (manager, mut server) = band(&provider, config());
    let mut stream = manager.subscribe::<Message>("a").unwrap();
    let mut peer = server.accept().await;
    assert_eq!(said(&mut peer).await, "auth t1");
    peer.send("refused t1");
    let mut peer = server.accept().await;
    assert_eq!(said(&mut peer).await, "auth t2");
    peer.send("welcome");
    settle().await;
    peer.send("x");
    assert_eq!(message(&mut stream).await, "x");
    peer.send("refused t2");
    let mut peer = server.accept().await;
    assert_eq!(said(&mut peer).await, "auth t3");
    peer.send("refused t3 for good");
    let reason = loop {
        match stream.recv().await {
            Some(Err(wsmux::StreamError::Closed(reason))) => break reason,
            Some(_) => {}
            None => panic!(),
        }
    };
    assert!(matches!(reason, CloseReason::Unauthorized(_)));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_in_place_before_it_expires() {
    let provider = Provider::living(15 * MINUTE);
    let (manager, mut server) = band(&provider, config());
    let mut stream = manager.subscribe::<Message>("a").unwrap();
    let mut peer = server.accept().await;
    assert_eq!(said(&mut peer).await, "auth t1");
    peer.send("welcome");
    let mut last = Instant::now();
    for n in 2..6 {
        assert_eq!(said(&mut peer).await, format!("again t{n}"));
        let after = last.elapsed();
        assert!(after <= 14 * MINUTE + SECOND && after >= 13 * MINUTE, "{after:?}");
        last = Instant::now();
    }
    peer.send("x");
    assert_eq!(message(&mut stream).await, "x", "without a gap");
    assert_eq!(provider.reasons()[1..], [TokenReason::Expiring; 4]);
}

#[tokio::test(start_paused = true)]
async fn many_sockets_renew_with_one_call_at_times_of_their_own() {
    let provider = Provider::living(15 * MINUTE);
    let (manager, mut server) = band(&provider, config());
    let _streams: Vec<_> =
        (0..20).map(|n| manager.subscribe::<Message>(n.to_string()).unwrap()).collect();
    let mut peers = Vec::new();
    for _ in 0..20 {
        let peer = server.accept().await;
        peer.send("welcome");
        peers.push(peer);
    }
    let start = Instant::now();
    let renewed = peers.into_iter().map(async |mut peer| {
        assert_eq!(said(&mut peer).await, "auth t1");
        assert_eq!(said(&mut peer).await, "again t2");
        start.elapsed()
    });
    let mut times = futures::future::join_all(renewed).await;
    times.sort();
    times.dedup_by_key(|time| time.as_secs());
    assert!(times.len() > 10, "{times:?}");
    assert_eq!(provider.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_keeps_the_socket_and_is_paced() {
    let provider = Provider::living(15 * MINUTE);
    let (manager, mut server) = band(&provider, config());
    let mut stream = manager.subscribe::<Message>("a").unwrap();
    let mut peer = server.accept().await;
    assert_eq!(said(&mut peer).await, "auth t1");
    peer.send("welcome");
    provider.answers(Answer::Fails);
    tokio::time::sleep(60 * MINUTE).await;
    let calls = provider.calls();
    assert!((20..400).contains(&calls), "{calls} calls in 46 minutes");
    peer.send("x");
    assert_eq!(message(&mut stream).await, "x");
    provider.answers(Answer::Fresh(Some(DAY)));
    assert!(said(&mut peer).await.starts_with("again"));
    peer.send("refused");
    assert!(!bearer_less(&server.accept().await).is_empty());
}

/// What a request without a header is asked for by.
fn bearer_less(peer: &Peer) -> String {
    peer.request().url().target()
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_by_a_day_makes_neither_a_storm_nor_a_stale_token() {
    let provider = Provider::living(15 * MINUTE);
    let (manager, mut server) = band(&provider, config());
    let _stream = manager.subscribe::<Message>("a").unwrap();
    let mut peer = server.accept().await;
    assert_eq!(said(&mut peer).await, "auth t1");
    peer.send("welcome");
    settle().await;
    // Forward: the token is over by that clock, and is renewed, once.
    set_forward(DAY);
    let start = Instant::now();
    assert_eq!(said(&mut peer).await, "again t2");
    assert!(start.elapsed() <= 61 * SECOND, "{:?}", start.elapsed());
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(provider.calls(), 2);
    // Backward: the wall clock says that there is a day left. The other clock knows better.
    set_forward(Duration::ZERO);
    let start = Instant::now();
    assert_eq!(said(&mut peer).await, "again t3");
    assert!(start.elapsed() <= 4 * MINUTE + SECOND, "{:?}", start.elapsed());
    tokio::time::sleep(60 * MINUTE).await;
    assert!((6..=8).contains(&provider.calls()), "{}", provider.calls());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_comes_expired_is_used_once_and_not_renewed() {
    set_forward(DAY); // The provider's clock is right, and ours is not.
    let provider = Provider::new([Answer::Is("t1")]);
    let expired = |_: TokenReason| async {
        Ok::<_, io::Error>(Token::new("t1").expires_at(SystemTime::UNIX_EPOCH + BEGIN + MINUTE))
    };
    let counted = {
        let provider = provider.clone();
        move |reason| provider.clone().answer(reason).then(move |_| expired(reason))
    };
    let (manager, mut server) = manager_with(direct(), Credentials::new(counted), config());
    let _stream = manager.subscribe::<Message>("a").unwrap();
    let (peer, _) = accept(&mut server).await;
    tokio::time::sleep(DAY).await;
    assert_eq!(provider.calls(), 1);
    drop(peer);
    accept(&mut server).await;
    assert_eq!(provider.calls(), 2);
    set_forward(Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_rotation_gives_each_open_socket_a_fresh_token() {
    let provider = Provider::living(DAY);
    let (manager, mut server) = band(&provider, config());
    let _streams = ["a", "b"].map(|name| manager.subscribe::<Message>(name).unwrap());
    let mut peers = [server.accept().await, server.accept().await];
    for peer in &mut peers {
        assert_eq!(said(peer).await, "auth t1");
        peer.send("welcome");
    }
    settle().await;
    manager.rotate_credentials();
    let start = Instant::now();
    for peer in &mut peers {
        assert_eq!(said(peer).await, "again t2");
    }
    assert!(start.elapsed() < MS);
    assert_eq!(provider.reasons(), [TokenReason::Dial, TokenReason::Rotation]);
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_begins_while_a_token_is_asked_for_asks_again() {
    let provider = Provider::living(DAY);
    let gate = Arc::new(Notify::new());
    provider.0.lock().unwrap().gate = Some(Arc::clone(&gate));
    let (manager, mut server) = manager(&provider);
    let _stream = manager.subscribe::<Message>("a").unwrap();
    settle().await;
    manager.rotate_credentials();
    gate.notify_one();
    settle().await;
    gate.notify_one();
    assert_eq!(accept(&mut server).await.1, "t2");
}

#[tokio::test(start_paused = true)]
async fn without_a_provider_a_refusal_is_the_end_at_once() {
    let (manager, mut server) = crate::manager_with(config().retry(RetryPolicy::forever()));
    let mut stream = manager.subscribe::<Message>("a").unwrap();
    server.answer(401, HeaderMap::new()).await;
    assert!(matches!(end(&mut stream).await, CloseReason::Unauthorized(_)));
}

#[tokio::test(start_paused = true)]
async fn a_rotation_moves_a_socket_that_takes_no_token_without_loss_repeat_or_gap() {
    let provider = Provider::living(DAY);
    let (manager, mut server) = manager(&provider);
    let mut stream = manager.subscribe::<Message>("a").unwrap();
    let (mut old, token) = accept(&mut server).await;
    assert_eq!(token, "t1");
    for n in 2..6 {
        manager.rotate_credentials();
        let (new, token) = accept(&mut server).await;
        assert_eq!(token, format!("t{n}"));
        settle().await;
        moved(&mut stream, old, &new, n * 100).await;
        old = new;
    }
    assert_eq!(stream.info().unwrap().gaps, 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_moves_the_socket_before_it_does() {
    let provider = Provider::living(15 * MINUTE);
    let (manager, mut server) = manager(&provider);
    let mut stream = manager.subscribe::<Message>("a").unwrap();
    let (old, _) = accept(&mut server).await;
    let start = Instant::now();
    let (new, token) = accept(&mut server).await;
    assert_eq!(token, "t2");
    assert!(start.elapsed() <= 14 * MINUTE + SECOND, "{:?}", start.elapsed());
    settle().await;
    moved(&mut stream, old, &new, 0).await;
}

/// Has both sockets bring the same, each in its time, and sees the stream move without a word.
async fn moved(stream: &mut Subscription<Message>, mut old: Peer, new: &Peer, first: usize) {
    let numbers = |from: usize, to: usize| (first + from..first + to).map(|n| n.to_string());
    old.send_all(numbers(0, 50));
    new.send_all(numbers(10, 60));
    for expected in numbers(0, 60) {
        assert_eq!(message(stream).await, expected);
    }
    settle().await;
    old.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_that_is_refused_leaves_the_old_socket_in_its_place() {
    let provider = Provider::living(DAY);
    let (manager, mut server) = manager(&provider);
    let mut stream = manager.subscribe::<Message>("a").unwrap();
    let (old, _) = accept(&mut server).await;
    settle().await;
    manager.rotate_credentials();
    assert_eq!(refuse(&mut server).await, "t2");
    assert_eq!(refuse(&mut server).await, "t3");
    settle().await;
    old.send("1");
    assert_eq!(message(&mut stream).await, "1");
    assert_eq!(stream.info().unwrap().gaps, 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_provider_a_rotation_moves_all_sockets() {
    let (manager, mut server) = crate::manager();
    let _streams = ["a", "b"].map(|name| manager.subscribe::<Message>(name).unwrap());
    let _peers = [server.accept().await, server.accept().await];
    settle().await;
    manager.rotate_credentials();
    let _others = [server.accept().await, server.accept().await];
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_comes_while_a_token_is_asked_for_holds() {
    let (limiter, provider) = (Limiter::new(), Provider::fresh());
    let built = |credentials: Option<Credentials>| {
        let (transport, server) = memory::pair();
        let builder = WsManager::builder(Direct::new("wss://venue/{name}").unwrap());
        let builder = builder.config(config()).transport(transport).limiter(limiter.clone());
        let builder = match credentials {
            Some(credentials) => builder.credentials(credentials),
            None => builder,
        };
        (builder.build().unwrap(), server)
    };
    let (manager, mut server) = built(Some(provider.credentials()));
    let (other, mut other_server) = built(None);
    let busy = |seconds| HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(seconds))]);
    let _other = other.subscribe::<Message>("a").unwrap();
    other_server.answer(429, busy("2")).await;
    let _stream = manager.subscribe::<Message>("a").unwrap();
    settle().await;
    let gate = Arc::new(Notify::new());
    provider.0.lock().unwrap().gate = Some(Arc::clone(&gate));
    other_server.answer(429, busy("60")).await;
    assert_eq!(provider.calls(), 2, "the first has aged while it waited");
    let start = Instant::now();
    provider.0.lock().unwrap().gate = None;
    gate.notify_one();
    server.accept().await;
    assert!(start.elapsed() >= MINUTE - MS, "{:?}", start.elapsed());
}
