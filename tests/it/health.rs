//! Health of a whole manager: what is found, what is not, and what is told of changes.

use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use futures::future::FutureExt as _;
use tokio::time::{self, Instant};
use wsmux::protocol::Direct;
use wsmux::test_util::memory::{self, MemoryServer, Peer};
use wsmux::transport::TransportError;
use wsmux::{
    Cause, Config, Figure, FindingKind, Health, HealthStatus, Limiter, Limits, Message,
    RetryPolicy, Severity, Stamped, Status, Subscription, Thresholds, WsManager,
};

use crate::{DAY, MINUTE, MS, SECOND, alive_tasks, config, manager, manager_with, settle};

fn refused() -> TransportError {
    std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into()
}

fn kinds(manager: &WsManager) -> Vec<FindingKind> {
    manager.health().findings.iter().map(|finding| finding.kind).collect()
}

async fn open(
    manager: &WsManager,
    server: &mut MemoryServer,
    name: &str,
) -> (Subscription<Message>, Peer) {
    let stream = manager.subscribe::<Message>(name).unwrap();
    let peer = server.accept().await;
    settle().await;
    (stream, peer)
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_is_well_passes_over_its_whole_life() {
    let (manager, mut server) = manager();
    assert_eq!(manager.health().status, HealthStatus::Pass);
    let (mut stream, peer) = open(&manager, &mut server, "x").await;
    for _ in 0..600 {
        peer.send("1");
        stream.recv().await.unwrap().unwrap();
        time::sleep(SECOND).await;
        let health = manager.health();
        assert_eq!(health.status, HealthStatus::Pass, "{health}");
    }
    let health = manager.health();
    assert_eq!((health.streams, health.open_streams, health.connections), (1, 1, 1));
    // The last five minutes, but for at most a sixtieth of them.
    assert!((295..=300).contains(&health.activity.messages), "{:?}", health.activity);
    assert_eq!(health.uptime.as_secs(), 600);
    // One loss that is mended at once is no finding either.
    drop(peer);
    let _peer = server.accept().await;
    settle().await;
    assert!(kinds(&manager).is_empty(), "{}", manager.health());
    assert_eq!(manager.health().activity.disconnects.minute, 1);
    drop(stream);
    settle().await;
    assert!(kinds(&manager).is_empty(), "{}", manager.health());
    assert_eq!(manager.health().streams, 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_waits_to_reconnect_is_found_with_its_error_and_how_long_it_is_down() {
    let (manager, mut server) = manager_with(config().retry(RetryPolicy::forever()));
    let _stream = manager.subscribe::<Message>("x").unwrap();
    let since = Instant::now();
    let refusing = tokio::spawn(async move {
        loop {
            server.refuse(refused()).await;
        }
    });
    time::sleep(9 * SECOND).await;
    assert!(kinds(&manager).is_empty(), "{}", manager.health());
    time::sleep(2 * SECOND).await;
    let health = manager.health();
    let finding = &health.findings[0];
    assert_eq!((finding.kind, finding.severity), (FindingKind::StreamDown, Severity::Warn));
    assert_eq!(finding.stream.as_ref().unwrap().as_str(), "x");
    assert_eq!(finding.figure, Figure::Duration(since.elapsed()));
    assert_eq!(finding.threshold, Figure::Duration(10 * SECOND));
    let Some(Cause::Down { error: Some(error), .. }) = &finding.cause else { panic!("{finding}") };
    assert_eq!(error.reason(), refused().reason());
    assert!(finding.to_string().contains("refused"), "{finding}");
    time::sleep(MINUTE).await;
    assert_eq!(manager.health().status, HealthStatus::Fail);
    refusing.abort();
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_hangs_while_it_connects_or_joins_is_found_and_forgotten_once_it_is_open() {
    let (manager, mut server) = manager_with(config().connect_timeout(MINUTE));
    let _stream = manager.subscribe::<Message>("x").unwrap();
    let dial = server.dial().await;
    time::sleep(11 * SECOND).await;
    let health = manager.health();
    let Some(Cause::Down { error: None, status }) = &health.findings[0].cause else { panic!() };
    assert!(matches!(status, Status::Connecting { attempt: 1 }), "{status}");
    let _peer = dial.accept();
    settle().await;
    assert!(kinds(&manager).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ended_fails_until_it_is_open_again_or_left_or_five_minutes_have_passed() {
    let retry = RetryPolicy { max_attempts: Some(0), ..RetryPolicy::default() };
    let (manager, mut server) = manager_with(config().retry(retry));
    let stream = manager.subscribe::<Message>("x").unwrap();
    server.refuse(refused()).await;
    settle().await;
    let ended = || {
        let health = manager.health();
        health.findings.iter().map(|f| (f.kind, f.severity)).collect::<Vec<_>>()
    };
    assert_eq!(ended(), [(FindingKind::StreamEnded, Severity::Fail)]);
    let health = manager.health();
    assert!(matches!(health.findings[0].cause, Some(Cause::Closed(_))), "{health}");
    assert_eq!((health.activity.ended.minute, health.streams), (1, 0));
    drop(stream);

    let (stream, peer) = open(&manager, &mut server, "x").await;
    assert_eq!(ended(), []);
    drop((stream, peer));
    settle().await;
    assert_eq!(ended(), [], "it was left on purpose");

    let stream = manager.subscribe::<Message>("x").unwrap();
    server.refuse(refused()).await;
    settle().await;
    assert_eq!(ended(), [(FindingKind::StreamEnded, Severity::Fail)]);
    drop(stream);
    time::sleep(5 * MINUTE).await;
    assert_eq!(ended(), []);
}

#[tokio::test(start_paused = true)]
async fn a_diagnosis_says_why_a_stream_is_not_open_before_that_is_a_finding() {
    let (manager, mut server) = manager();
    let _stream = manager.subscribe::<Message>("x").unwrap();
    server.refuse(refused()).await;
    settle().await;
    let diagnosis = manager.diagnose();
    assert!(diagnosis.health.findings.is_empty());
    assert!(diagnosis.to_string().contains("connection refused"), "{diagnosis}");
    assert!(diagnosis.to_string().contains("before attempt 2"), "{diagnosis}");
    let _peer = server.accept().await;
    settle().await;
    assert!(!manager.diagnose().to_string().contains("refused"), "{}", manager.diagnose());
}

#[tokio::test(start_paused = true)]
async fn of_many_streams_that_ended_the_latest_are_known_and_all_are_counted() {
    let retry = RetryPolicy { max_attempts: Some(0), ..RetryPolicy::default() };
    let (manager, mut server) = manager_with(config().retry(retry));
    let streams: Vec<_> =
        (0..300).map(|i| manager.subscribe::<Message>(format!("s{i}")).unwrap()).collect();
    for _ in &streams {
        server.refuse(refused()).await;
    }
    settle().await;
    let health = manager.health();
    assert_eq!(health.findings.len(), Health::PER_KIND);
    assert_eq!(health.left_out[&FindingKind::StreamEnded], 256 - Health::PER_KIND);
    assert_eq!(health.activity.ended.minute, 300);
}

#[tokio::test(start_paused = true)]
async fn what_the_program_ends_itself_is_no_finding_but_a_manager_that_is_shut_down_is() {
    let (manager, mut server) = manager();
    let (stream, _peer) = open(&manager, &mut server, "x").await;
    drop(stream);
    settle().await;
    assert!(kinds(&manager).is_empty());
    let _kept = open(&manager, &mut server, "y").await;
    manager.shutdown().await;
    assert_eq!(kinds(&manager), [FindingKind::ShutDown]);
    assert_eq!(manager.health().status, HealthStatus::Fail);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_is_found_and_one_that_only_waits_is_not() {
    let (manager, mut server) = manager_with(config().quiet_after(DAY));
    let (mut stream, peer) = open(&manager, &mut server, "x").await;
    time::sleep(MINUTE).await;
    assert!(kinds(&manager).is_empty(), "there is nothing to read");
    peer.send_all(["1", "2"]);
    time::sleep(31 * SECOND).await;
    let health = manager.health();
    assert_eq!(kinds(&manager), [FindingKind::ReaderStalled]);
    assert_eq!(health.findings[0].figure, Figure::Duration(31 * SECOND));
    stream.recv().await.unwrap().unwrap();
    assert_eq!(kinds(&manager), [FindingKind::ReaderStalled], "one is left");
    stream.recv().await.unwrap().unwrap();
    assert!(kinds(&manager).is_empty());

    let other = manager.subscribe::<Message>("x").unwrap();
    peer.send("3");
    stream.recv().await.unwrap().unwrap();
    time::sleep(31 * SECOND).await;
    assert_eq!(kinds(&manager), [FindingKind::ReaderStalled], "the other does not read");
    drop(other);
    assert!(kinds(&manager).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_a_busy_stream_is_found_though_nothing_gets_old() {
    let (manager, mut server) = manager_with(config().buffer(100));
    let (_stream, peer) = open(&manager, &mut server, "x").await;
    for _ in 0..120 {
        peer.send_all((0..50).map(|i| i.to_string()));
        time::sleep(SECOND).await;
    }
    let health = manager.health();
    assert_eq!(kinds(&manager), [FindingKind::ReaderBehind], "{health}");
    assert!(health.findings[0].advice().contains("polled"), "{health}");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_falls_behind_is_found_before_it_loses_and_its_loss_after() {
    let (manager, mut server) = manager_with(config().buffer(100));
    let (mut stream, peer) = open(&manager, &mut server, "x").await;
    peer.send_all((0..80).map(|i| i.to_string()));
    settle().await;
    assert!(kinds(&manager).is_empty(), "{}", manager.health());
    peer.send("80");
    settle().await;
    assert_eq!(kinds(&manager), [FindingKind::ReaderBehind]);
    assert_eq!(manager.health().findings[0].figure, Figure::Count(81));
    peer.send_all((81..120).map(|i| i.to_string()));
    settle().await;
    while stream.recv().now_or_never().is_some() {}
    assert_eq!(kinds(&manager), [FindingKind::HighLagRate]);
    assert_eq!(manager.health().activity.lagged.minute, 20);
    time::sleep(MINUTE).await;
    assert!(kinds(&manager).is_empty());
    assert_eq!(manager.health().activity.lagged.five_minutes, 20);
}

#[tokio::test(start_paused = true)]
async fn a_lease_without_readers_is_found_after_ten_minutes_of_them() {
    let (manager, mut server) = manager_with(config().quiet_after(DAY));
    let (stream, _peer) = open(&manager, &mut server, "x").await;
    let lease = manager.keep_warm("x").unwrap();
    time::sleep(11 * MINUTE).await;
    assert!(kinds(&manager).is_empty(), "it is read");
    drop(stream);
    time::sleep(10 * MINUTE).await;
    assert!(kinds(&manager).is_empty());
    time::sleep(MS).await;
    assert_eq!(kinds(&manager), [FindingKind::LeaseWithoutReaders]);
    let back = manager.subscribe::<Message>("x").unwrap();
    assert!(kinds(&manager).is_empty());
    drop(back);
    time::sleep(5 * MINUTE).await;
    let second = manager.keep_warm("x").unwrap();
    time::sleep(6 * MINUTE).await;
    assert_eq!(kinds(&manager), [FindingKind::LeaseWithoutReaders], "a second changes nothing");
    drop((lease, second));
    assert!(kinds(&manager).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_is_found_by_its_own_setting() {
    let (transport, mut server) = memory::pair();
    let manager = WsManager::builder(Direct::new("ws://test/").unwrap())
        .config(config())
        .stream("slow", |stream| stream.quiet_after = DAY)
        .limiter(Limiter::new())
        .transport(transport)
        .build()
        .unwrap();
    let (_x, peer) = open(&manager, &mut server, "x").await;
    let _slow = open(&manager, &mut server, "slow").await;
    time::sleep(2 * MINUTE).await;
    let health = manager.health();
    let [finding] = &health.findings[..] else { panic!("{health}") };
    assert_eq!((finding.kind, finding.severity), (FindingKind::StreamQuiet, Severity::Warn));
    assert_eq!(finding.stream.as_ref().unwrap().as_str(), "x");
    assert_eq!(finding.threshold, Figure::Duration(2 * MINUTE));
    peer.send("1");
    settle().await;
    assert!(kinds(&manager).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_lost_again_and_again_is_found() {
    let (manager, mut server) = manager();
    let (_stream, mut peer) = open(&manager, &mut server, "x").await;
    for losses in 1..=4 {
        drop(peer);
        peer = server.accept().await;
        settle().await;
        let expected: &[_] = if losses > 3 { &[FindingKind::FrequentReconnects] } else { &[] };
        assert_eq!(kinds(&manager), expected, "after {losses}");
        time::sleep(20 * SECOND).await;
    }
    assert_eq!(manager.streams()[0].lost_lately, 4);
    time::sleep(4 * MINUTE).await;
    peer.send("1");
    settle().await;
    assert_eq!(manager.streams()[0].lost_lately, 1);
    assert!(!kinds(&manager).contains(&FindingKind::FrequentReconnects));
}

#[tokio::test(start_paused = true)]
async fn many_retries_and_refused_subscriptions_are_found_for_a_minute() {
    let limits = Limits { max_connections: 8, ..Limits::default() };
    let retry = RetryPolicy::forever();
    let (manager, mut server) = manager_with(config().limits(limits).retry(retry));
    let streams: Vec<_> =
        (0..8).map(|i| manager.subscribe::<Message>(format!("s{i}")).unwrap()).collect();
    for _ in 0..31 {
        server.refuse(refused()).await;
    }
    assert!(manager.subscribe::<Message>("one too many").is_err());
    settle().await;
    let found = kinds(&manager);
    assert!(found.contains(&FindingKind::SubscriptionsRefused), "{found:?}");
    assert!(found.contains(&FindingKind::HighRetryRate), "{}", manager.health());
    drop(streams);
    time::sleep(61 * SECOND).await;
    assert!(kinds(&manager).is_empty(), "{}", manager.health());
    assert!(manager.health().activity.retries.hour >= 31);
}

#[tokio::test(start_paused = true)]
async fn more_than_a_hundred_connections_are_found() {
    let (manager, mut server) = manager();
    let mut open = Vec::new();
    for i in 0..101 {
        assert!(kinds(&manager).is_empty());
        let stream = manager.subscribe::<Message>(format!("s{i}")).unwrap();
        open.push((stream, server.accept().await));
    }
    settle().await;
    assert_eq!(kinds(&manager), [FindingKind::TooManyConnections]);
    let lenient = Thresholds::default().connections(101);
    assert_eq!(manager.health_with(&lenient).status, HealthStatus::Pass);
    open.pop();
    settle().await;
    assert!(kinds(&manager).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_changed_its_form_is_found() {
    let (manager, mut server) = manager();
    let mut stream = manager.subscribe::<u64>("x").unwrap();
    let peer = server.accept().await;
    peer.send_all(["1", "2", "three", "four", "five", "six"]);
    settle().await;
    while stream.recv().now_or_never().is_some() {}
    assert!(kinds(&manager).is_empty(), "an occasional word");
    peer.send("seven");
    settle().await;
    while stream.recv().now_or_never().is_some() {}
    assert_eq!(kinds(&manager), [FindingKind::HighDecodeErrorRate]);
    let share = Figure::Share(5.0 / 7.0);
    assert_eq!(manager.health().findings[0].figure, share);
}

#[tokio::test(start_paused = true)]
async fn two_managers_in_memory_are_no_duplicates() {
    let (one, mut server) = manager();
    let (other, mut other_server) = manager();
    let _x = open(&one, &mut server, "x").await;
    let _y = open(&other, &mut other_server, "x").await;
    assert!(kinds(&one).is_empty() && kinds(&other).is_empty());
}

thread_local! {
    /// The start of the wall clock in a test, and how far it runs ahead of that.
    static CLOCK: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A wall clock that runs with the paused one.
fn wall() -> SystemTime {
    let start = CLOCK.get().expect("set by the test");
    SystemTime::UNIX_EPOCH + DAY + start.elapsed()
}

fn sent_at(millis: &u64) -> Option<SystemTime> {
    (*millis > 0).then(|| SystemTime::UNIX_EPOCH + DAY + Duration::from_millis(*millis))
}

/// A manager whose wall clock says a day after 1970 now.
fn dated() -> (WsManager, MemoryServer) {
    CLOCK.set(Some(Instant::now()));
    let (transport, server) = memory::pair();
    let builder = WsManager::builder(Direct::new("ws://test/").unwrap()).config(config());
    let builder = builder.transport(transport).limiter(Limiter::new()).wall_clock(wall);
    (builder.build().unwrap(), server)
}

#[tokio::test(start_paused = true)]
async fn latency_is_the_age_at_arrival_and_not_at_reading() {
    let (manager, mut server) = dated();
    let mut stream = manager.subscribe::<u64>("x").unwrap().latency_by(sent_at);
    assert_eq!((stream.latency(), manager.streams()[0].latency), (None, None));
    let peer = server.accept().await;
    time::sleep_until(CLOCK.get().unwrap() + 500 * MS).await;
    peer.send_all(["400", "0", "bad", "450"]);
    settle().await;
    time::sleep(20 * SECOND).await;
    for _ in 0..4 {
        let _item = stream.recv().await.unwrap();
    }
    let latency = stream.latency().unwrap();
    assert_eq!(latency.count, 2, "one has no timestamp, one cannot be read");
    let about = |said: Duration, right: Duration| said.abs_diff(right) <= right / 100;
    assert!(about(latency.min, 50 * MS) && about(latency.max, 100 * MS), "{latency:?}");
    assert_eq!(latency.ahead, Duration::ZERO);
    assert_eq!(manager.streams()[0].latency, Some(latency));
    assert!(kinds(&manager).is_empty(), "{}", manager.health());

    let strict = Thresholds::default().latency(40 * MS);
    let health = manager.health_with(&strict);
    assert_eq!(health.findings[0].kind, FindingKind::HighLatency);
    time::sleep(2 * MINUTE).await;
    assert_eq!(stream.latency(), None, "it is forgotten");
    assert_eq!(stream.get_ref().name().as_str(), "x");
    let mut plain = stream.into_inner();
    peer.send("7");
    assert_eq!(plain.recv().await.unwrap().unwrap(), 7);
    assert_eq!(manager.streams()[0].latency, None, "and its reader is gone");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_runs_ahead_shows_and_the_highest_of_several_readers_stands() {
    let (manager, mut server) = dated();
    let ahead = |value: &Stamped<u64>| sent_at(&(value.value + 5_000));
    let mut skewed = manager.subscribe::<Stamped<u64>>("x").unwrap().latency_by(ahead);
    let mut plain = manager.subscribe::<u64>("x").unwrap().latency_by(sent_at);
    let peer = server.accept().await;
    time::sleep_until(CLOCK.get().unwrap() + 2 * SECOND).await;
    peer.send("500");
    settle().await;
    skewed.next().await.unwrap().unwrap();
    plain.next().await.unwrap().unwrap();
    let latency = skewed.latency().unwrap();
    assert_eq!((latency.max, latency.ahead), (Duration::ZERO, 3500 * MS));
    assert_eq!(manager.streams()[0].latency, plain.latency());
    assert_eq!(kinds(&manager), [FindingKind::HighLatency]);
}

/// Lines of the health's log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("wsmux::manager")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        panic!("no spans");
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{} {value:?}", self.0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_changes_are_logged_and_the_log_ends_with_the_manager() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let (manager, mut server) = manager_with(Config { quiet_after: MINUTE, ..config() });
    let before = alive_tasks();
    let told = tokio::spawn(manager.diagnose_every(10 * SECOND).run());
    let (stream, peer) = open(&manager, &mut server, "x").await;
    time::sleep(10 * MINUTE).await;
    let taken = || std::mem::take(&mut *lines.0.lock().unwrap());
    let said = taken();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("WARN warn: x: no message for"), "{said:?}");
    peer.send("1");
    time::sleep(11 * SECOND).await;
    let said = taken();
    assert!(said[0].starts_with("INFO resolved: x: stream_quiet"), "{said:?}");
    assert_eq!(said.len(), 1, "{said:?}");

    drop(manager);
    settle().await;
    assert!(!told.is_finished(), "a stream is left");
    drop(stream);
    settle().await;
    assert!(told.is_finished(), "at once, not at the next look");
    settle().await;
    assert_eq!(alive_tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn changes_can_be_followed_as_a_stream_with_thresholds_of_their_own() {
    let (manager, mut server) = manager_with(config().connect_timeout(MINUTE));
    let strict = Thresholds::default().down_warn(SECOND).down_fail(5 * SECOND);
    let mut changes = manager.diagnose_every(SECOND).thresholds(strict);
    assert!(changes.next().now_or_never().is_none(), "all is well");
    let _stream = manager.subscribe::<Message>("x").unwrap();
    let start = Instant::now();
    let change = changes.next().await.unwrap();
    assert_eq!(change.appeared[0].kind, FindingKind::StreamDown);
    assert_eq!((change.status, start.elapsed().as_secs()), (HealthStatus::Warn, 2));
    let change = changes.next().await.unwrap();
    assert_eq!((change.status, start.elapsed().as_secs()), (HealthStatus::Fail, 6));
    let _peer = server.accept().await;
    let change = changes.next().await.unwrap();
    assert_eq!((change.resolved.len(), change.status), (1, HealthStatus::Pass));
    drop((_stream, manager));
    assert!(changes.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn periods_of_nothing_and_of_for_ever_do_no_harm() {
    let (manager, _server) = manager();
    for period in [Duration::ZERO, Duration::MAX] {
        let mut changes = manager.diagnose_every(period);
        assert!(time::timeout(SECOND, changes.next()).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_diagnosis_prints_findings_and_streams() {
    let (manager, mut server) = manager_with(config().connect_timeout(MINUTE));
    let _x = open(&manager, &mut server, "x").await;
    let _down = manager.subscribe::<Message>("down").unwrap();
    time::sleep(11 * SECOND).await;
    let printed = manager.diagnose().to_string();
    assert!(printed.starts_with("warn: 1 of 2 streams open, connections: 2"), "{printed}");
    for line in ["warn  stream_down  down    11 s    10 s", "x       open", "down    connecting"] {
        assert!(printed.contains(line), "{line} in\n{printed}");
    }
}
