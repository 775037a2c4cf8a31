//! What an operator sees: status, snapshots, events, counters and log lines.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Once};

use futures::StreamExt as _;
use futures::future::FutureExt as _;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tokio::time::{self, Instant};
use tracing::field::{Field, Visit};
use tracing::span;
use wsmux::protocol::{Cx, Dial, DialError, Direct, Lane, Protocol, Request, Session, To};
use wsmux::test_util::memory::{MemoryServer, Peer};
use wsmux::transport::{Frame, TransportError};
use wsmux::{
    CloseReason, DisconnectReason, Event, Gap, InvalidName, ManagerMetrics, Message, Overall,
    RetryPolicy, SendError, Status, StatusStream, StreamName, Subscription, Text, WsManager,
};

use crate::{MINUTE, MS, SECOND, config, manager, manager_of, manager_with, settle};

fn refused() -> TransportError {
    std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into()
}

/// All names on one socket; a name is joined once the server says so.
struct Confirmed;

impl Protocol for Confirmed {
    fn lane(&self, _: &StreamName) -> Result<Lane, InvalidName> {
        Ok(Lane::new("all"))
    }

    fn request(&self, _: &Dial<'_>) -> Result<Request, DialError> {
        Ok(Request::new("ws://test/")?)
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        Box::new(Self)
    }
}

impl Session for Confirmed {
    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        names.iter().for_each(|name| cx.push(format!("join {name}")));
    }

    fn leave(&mut self, _: &[StreamName], _: &mut Cx<'_>) {}

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        match message.as_text().and_then(|text| text.split_once(' ')) {
            Some(("joined", name)) => cx.joined(name),
            Some(("rejected", name)) => cx.rejected(name, "no such name"),
            Some(("skipped", name)) => cx.gap(To::Name(name), Some(7)),
            Some((name, payload)) => cx.data(To::Name(name), payload.into()),
            None => cx.unroutable(message),
        }
    }
}

/// The state that a stream of them has come to, if it is another.
fn changed<S: Clone>(states: &mut StatusStream<S>) -> Option<S> {
    let state = states.next().now_or_never()?;
    assert!(states.next().now_or_never().flatten().is_none(), "two states at once");
    state
}

fn said(states: &mut StatusStream) -> Option<String> {
    changed(states).map(|status| match status {
        Status::BackingOff { attempt, .. } => format!("backing off before {attempt}"),
        Status::Closed(reason) => format!("closed: {}", reason.label()),
        status => status.to_string(),
    })
}

#[tokio::test(start_paused = true)]
async fn a_manager_tells_its_overall_status_over_its_whole_life() {
    let (manager, mut server) = manager();
    let mut status = manager.status();
    assert_eq!(changed(&mut status), Some(Overall::Disconnected));
    assert_eq!(changed(&mut status), None);

    let x = manager.subscribe::<Message>("x").unwrap();
    assert_eq!(changed(&mut status), Some(Overall::Connecting), "known at once");
    let peer = server.accept().await;
    settle().await;
    assert_eq!(changed(&mut status), Some(Overall::Connected));
    let y = manager.subscribe::<Message>("y").unwrap();
    let peer_y = server.accept().await;
    settle().await;
    drop(peer);
    settle().await;
    assert_eq!(changed(&mut status), None, "one socket is enough");
    drop(peer_y);
    settle().await;
    assert_eq!(changed(&mut status), Some(Overall::Connecting));
    let _peers = (server.accept().await, server.accept().await);
    settle().await;
    assert_eq!(changed(&mut status), Some(Overall::Connected));
    assert_eq!(status.current(), Overall::Connected);

    drop((x, y));
    assert_eq!(changed(&mut status), Some(Overall::Disconnected));
    drop(manager);
    assert_eq!(status.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_each_state_of_its_life() {
    let (manager, mut server) = manager_of(Confirmed, config());
    let stream = manager.subscribe::<Message>("x").unwrap();
    let mut states = stream.status_changes();
    assert_eq!(said(&mut states).unwrap(), "connecting, attempt 1");
    server.refuse(refused()).await;
    settle().await;
    assert_eq!(said(&mut states).unwrap(), "backing off before 2");
    let dial = server.dial().await;
    assert_eq!(said(&mut states).unwrap(), "connecting, attempt 2");
    let peer = dial.accept();
    settle().await;
    assert_eq!(said(&mut states).unwrap(), "joining");
    peer.send("joined x");
    settle().await;
    assert_eq!(said(&mut states).unwrap(), "open");
    time::sleep(MINUTE).await; // Long enough to start afresh.
    drop(peer);
    settle().await;
    assert_eq!(said(&mut states).unwrap(), "backing off before 2");
    let dial = server.dial().await;
    assert_eq!(said(&mut states).unwrap(), "connecting, attempt 2");
    let _peer = dial.accept();
    manager.shutdown().await;
    assert_eq!(said(&mut states).unwrap(), "closed: shutdown");
    assert!(states.next().await.is_none());
    assert!(stream.status().is_closed());
}

#[tokio::test(start_paused = true)]
async fn the_wait_before_an_attempt_is_told_with_its_cause() {
    let (manager, mut server) = manager();
    let stream = manager.subscribe::<Message>("x").unwrap();
    server.refuse(refused()).await;
    settle().await;
    let refused_at = Instant::now() - MS;
    let Status::BackingOff { attempt: 2, delay, error } = stream.status() else { panic!() };
    assert_eq!(*error.reason(), DisconnectReason::Io(std::io::ErrorKind::ConnectionRefused));
    server.dial().await;
    let waited = refused_at.elapsed();
    assert!(waited >= delay && waited < delay + MS, "{waited:?} for {delay:?}");
}

#[tokio::test(start_paused = true)]
async fn a_status_can_be_had_and_followed_by_name_while_the_stream_is_open() {
    let (manager, mut server) = manager_with(config().linger(MINUTE));
    assert!(manager.stream_status("x").is_none() && manager.watch_status("x").is_none());
    let stream = manager.subscribe::<Message>("x").unwrap();
    let mut states = manager.watch_status("x").unwrap();
    assert_eq!(said(&mut states).unwrap(), "connecting, attempt 1");
    let _peer = server.accept().await;
    settle().await;
    assert_eq!(said(&mut states).unwrap(), "open");
    assert!(manager.stream_status("x").unwrap().is_open());
    drop(stream);
    assert!(manager.stream_status("x").unwrap().is_open(), "it lingers");
    time::sleep(2 * MINUTE).await;
    assert_eq!(said(&mut states).unwrap(), "closed: unused");
    assert!(states.next().await.is_none());
    assert!(manager.stream_status("x").is_none() && manager.watch_status("x").is_none());
}

#[tokio::test(start_paused = true)]
async fn who_follows_a_stream_is_told_when_the_last_manager_lets_it_go() {
    let (manager, mut server) = manager_with(config().linger(MINUTE));
    let stream = manager.subscribe::<Message>("x").unwrap();
    let _peer = server.accept().await;
    settle().await;
    let mut states = manager.watch_status("x").unwrap();
    assert_eq!(said(&mut states).unwrap(), "open");
    let mut events = manager.events();
    let mut overall = manager.status();
    assert_eq!(changed(&mut overall), Some(Overall::Connected));
    drop(stream);
    drop(manager);
    settle().await;
    assert_eq!(said(&mut states).unwrap(), "closed: unused");
    let last = time::timeout(SECOND, events.next()).await.unwrap();
    assert!(matches!(last, Some(Event::StreamSwept { .. })), "{last:?}");
    assert!(events.next().await.is_none());
    assert_eq!(overall.next().await, Some(Overall::Disconnected));
    assert_eq!(overall.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn ready_waits_until_messages_come_in() {
    let (manager, mut server) = manager_of(Confirmed, config());
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    let serving = tokio::spawn(async move {
        server.refuse(refused()).await;
        time::sleep(SECOND).await;
        let peer = server.accept().await;
        time::sleep(SECOND).await;
        peer.send_all(["joined x", "x 1"]);
        peer
    });
    let cancelled = time::timeout(MS, stream.ready()).await;
    assert!(cancelled.is_err());
    assert!(stream.ready().await.is_ok());
    assert!(serving.is_finished() && stream.status().is_open());
    assert!(stream.ready().await.is_ok(), "it still is");
    assert_eq!(stream.recv().await.unwrap().unwrap(), "1".into());
}

#[tokio::test(start_paused = true)]
async fn ready_tells_why_a_stream_ended_instead() {
    let (manager, mut server) = manager_of(Confirmed, config());
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    let peer = server.accept().await;
    peer.send("rejected x");
    for _ in 0..2 {
        let Err(CloseReason::Rejected { reason }) = stream.ready().await else { panic!() };
        assert_eq!(reason, "no such name");
    }
    assert!(matches!(crate::end(&mut stream).await, CloseReason::Rejected { .. }));
    assert!(stream.ready().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_says_all_about_a_stream() {
    let (manager, mut server) = manager_of(Confirmed, config().buffer(4));
    let mut slow = manager.subscribe::<Text>("x").unwrap();
    let mut quick = manager.subscribe::<Text>("x").unwrap();
    let lease = manager.keep_warm("x").unwrap();
    let info = slow.info().unwrap();
    assert_eq!((&*info.name.to_string(), info.lane.as_str()), ("x", "all"));
    assert_eq!((info.readers, info.leases, info.attempt), (2, 1, 1));
    assert_eq!((info.messages, info.bytes, info.gaps, info.lag, info.lagged), (0, 0, 0, 0, 0));
    assert!(info.last_message.is_none() && info.uptime.is_none() && info.last_error.is_none());
    assert!(!info.quiet, "it is not joined");

    server.refuse(refused()).await;
    let peer = server.accept().await;
    settle().await;
    assert_eq!(slow.info().unwrap().attempt, 2);
    assert!(slow.info().unwrap().uptime.is_none());
    peer.send_all(["joined x", "x 12345", "x 1", "skipped x", "x 2", "x 3", "x 4", "x 5"]);
    let joined = Instant::now();
    settle().await;
    while quick.recv().now_or_never().is_some() {}
    let info = slow.info().unwrap();
    assert_eq!((info.messages, info.bytes, info.gaps, info.lag, info.lagged), (6, 10, 1, 6, 2));
    assert_eq!((info.last_message, info.uptime), (Some(joined), Some(MS)));
    assert_eq!(info.attempt, 2);
    assert!(info.status.is_open() && info.last_error.is_some());

    let _lagged = slow.recv().await;
    drop((quick, lease));
    let info = slow.info().unwrap();
    assert_eq!((info.readers, info.leases, info.lag, info.lagged), (1, 0, 4, 4));
    assert_eq!(manager.stream_count(), 1);
    assert_eq!(format!("{:?}", manager.streams()), format!("{:?}", [info]));
    manager.shutdown().await;
    assert!(slow.info().is_none() && manager.streams().is_empty());
    assert_eq!(manager.stream_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_joined_stream_without_a_message_for_two_minutes_is_quiet() {
    let (manager, mut server) = manager();
    let _stream = manager.subscribe::<Message>("x").unwrap();
    let quiet = || manager.streams()[0].quiet;
    time::sleep(5 * SECOND).await;
    let peer = server.accept().await;
    settle().await;
    time::sleep(2 * MINUTE - 2 * MS).await;
    assert!(!quiet());
    time::sleep(2 * MS).await;
    assert!(quiet());
    peer.send("1");
    settle().await;
    assert!(!quiet());
    time::sleep(2 * MINUTE).await;
    assert!(quiet());
    drop(peer);
    settle().await;
    assert!(!quiet(), "it is not quiet but down");
    let _peer = server.accept().await;
    settle().await;
    assert!(!quiet(), "it has just been joined");
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_streams_are_listed_each_once() {
    let (manager, mut server) = manager_of(Confirmed, config());
    let names: Vec<_> = (0..300).map(|i| format!("s{i:03}")).collect();
    let mut streams: Vec<_> =
        names.iter().map(|name| manager.subscribe::<Message>(name).unwrap()).collect();
    let _peer = server.accept().await;
    let listed = || {
        let mut listed: Vec<_> =
            manager.streams().iter().map(|info| info.name.to_string()).collect();
        listed.sort();
        listed
    };
    assert_eq!(listed(), names);
    streams.drain(50..250).for_each(drop);
    assert_eq!(listed(), [&names[..50], &names[250..]].concat());
    assert_eq!(manager.stream_count(), 100);
}

fn label(event: &Event) -> String {
    match event {
        Event::Closed { reason, .. } => format!("closed: {}", reason.label()),
        Event::Connected { attempt, .. } => format!("connected by attempt {attempt}"),
        Event::Disconnected { reason, .. } => format!("disconnected: {}", reason.label()),
        Event::Retrying { attempt, .. } => format!("retrying by attempt {attempt}"),
        Event::StreamClosed { name, reason } => format!("{name} closed: {}", reason.label()),
        Event::StreamOpened { name } => format!("{name} opened"),
        Event::StreamSwept { name } => format!("{name} swept"),
        other => panic!("{other:?}"),
    }
}

/// One stream: refused once, lost once, left; and one whose name is refused.
async fn live(manager: &WsManager, server: &mut MemoryServer) {
    let stream = manager.subscribe::<Message>("x").unwrap();
    server.refuse(refused()).await;
    let peer = server.accept().await;
    peer.send("joined x");
    settle().await;
    drop(peer);
    let mut peer = server.accept().await;
    peer.send_all(["joined x", "x 1", "x 2"]);
    settle().await;
    let _rejected = manager.subscribe::<Message>("y").unwrap();
    peer.send("rejected y");
    settle().await;
    drop(stream);
    peer.closed().await;
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn events_tell_the_life_of_streams_and_connections_in_order() {
    let (manager, mut server) = manager_of(Confirmed, config());
    let _unseen = manager.subscribe::<Message>("before").map(drop);
    settle().await;
    let events = manager.events();
    live(&manager, &mut server).await;
    drop(manager);
    let events: Vec<_> = events.collect().await;
    let expected = [
        "x opened",
        "retrying by attempt 2",
        "connected by attempt 2",
        "disconnected: ended",
        "retrying by attempt 3",
        "connected by attempt 3",
        "y opened",
        "y closed: rejected",
        "x swept",
        "closed: unused",
    ];
    assert_eq!(events.iter().map(label).collect::<Vec<_>>(), expected);
    let connections: std::collections::HashSet<_> = events.iter().filter_map(connection).collect();
    assert_eq!(connections.len(), 1, "a connection outlives its sockets");
}

fn connection(event: &Event) -> Option<wsmux::ConnectionId> {
    match event {
        Event::Closed { connection, .. }
        | Event::Connected { connection, .. }
        | Event::Disconnected { connection, .. }
        | Event::Retrying { connection, .. } => Some(*connection),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_fails_for_good_says_so_once_and_each_stream_too() {
    let (manager, mut server) = manager_of(Confirmed, config().retry(RetryPolicy::never()));
    let _streams = ["x", "y"].map(|name| manager.subscribe::<Message>(name).unwrap());
    let mut events = manager.events();
    server.refuse(refused()).await;
    settle().await;
    let mut seen: Vec<_> =
        std::iter::from_fn(|| events.next().now_or_never().flatten()).map(|e| label(&e)).collect();
    seen[..2].sort();
    let expected =
        ["x closed: retries_exhausted", "y closed: retries_exhausted", "closed: retries_exhausted"];
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn events_that_nobody_reads_are_bounded_and_counted() {
    let retry = RetryPolicy { max_delay: SECOND, ..RetryPolicy::forever() };
    let (manager, mut server) = manager_with(config().retry(retry));
    let [mut unread, mut read] = [0; 2].map(|_| manager.events());
    let mut all = Vec::new();
    let _stream = manager.subscribe::<Message>("x").unwrap();
    for _ in 0..500 {
        drop(server.accept().await); // Connected, Disconnected, Retrying.
        settle().await;
        all.extend(std::iter::from_fn(|| read.next().now_or_never().flatten()));
    }
    assert_eq!((all.len(), read.missed()), (1501, 0));
    let rest: Vec<_> = std::iter::from_fn(|| unread.next().now_or_never().flatten()).collect();
    assert_eq!((rest.len(), unread.missed()), (1024, 1501 - 1024));
    assert_eq!(format!("{rest:?}"), format!("{:?}", &all[1501 - 1024..]), "the latest");
}

/// What the facade was told, by name and labels. Histograms are told by their number of values.
fn facade(recorder: &DebuggingRecorder) -> BTreeMap<String, f64> {
    let told = recorder.snapshotter().snapshot().into_vec();
    let entry = |(key, _, _, value)| {
        let key: metrics_util::CompositeKey = key;
        let labels = key.key().labels().filter(|label| label.key() != "manager");
        let labels: String = labels.map(|label| format!(" {}", label.value())).collect();
        let value = match value {
            DebugValue::Counter(n) => n as f64,
            DebugValue::Gauge(n) => n.into_inner(),
            DebugValue::Histogram(values) => values.len() as f64,
        };
        (format!("{}{labels}", key.key().name().trim_start_matches("ws_manager_")), value)
    };
    told.into_iter().map(entry).collect()
}

/// The counts as the facade has them.
fn as_told(counts: &ManagerMetrics) -> BTreeMap<String, f64> {
    let pairs = [
        ("active_connections", counts.active_connections),
        ("active_connections_hwm", counts.active_connections_hwm),
        ("bytes_total", counts.bytes),
        ("decode_errors_total", counts.decode_errors),
        ("disconnects_total ended", counts.disconnects),
        ("gaps_total reconnected", counts.gaps - 1),
        ("gaps_total sequence", 1),
        ("gaps_total lagged", 1),
        ("handshake_seconds", 3),
        ("lagged_messages_total", counts.lagged),
        ("leases", counts.leases),
        ("messages_total", counts.messages),
        ("readers", counts.readers),
        ("reader_lag_messages", counts.lag),
        ("reconnect_seconds", 1),
        ("retry_count_total", counts.retries),
        ("send_errors_total not_open", counts.send_errors),
        ("sent_messages_total", counts.sent),
        ("stream_cleanups_total rejected", 1),
        ("stream_cleanups_total unused", counts.stream_cleanups - 1),
        ("stream_creations_total", counts.stream_creations),
        ("streams backing_off", counts.streams.backing_off),
        ("streams connecting", counts.streams.connecting),
        ("streams joining", counts.streams.joining),
        ("streams open", counts.streams.open),
        ("streams waiting", counts.streams.waiting),
        ("streams_quiet", counts.quiet_streams),
        ("unroutable_messages_total", counts.unroutable),
    ];
    pairs.into_iter().map(|(name, n)| (name.to_owned(), n as f64)).collect()
}

/// Goes through everything that is counted. What is returned is alive then.
async fn live_and_count(
    manager: &WsManager,
    server: &mut MemoryServer,
) -> (Subscription<u64>, Subscription<u64>, Peer) {
    live(manager, server).await;
    let mut x = manager.subscribe::<u64>("x").unwrap();
    let y = manager.subscribe::<u64>("y").unwrap();
    let peer = server.accept().await;
    peer.send_all(["joined x", "x 100", "x 200", "skipped x", "x 300", "x bad", "z 1", "?"]);
    settle().await;
    let expected: [fn(&_) -> bool; 4] = [
        |item| matches!(item, Err(wsmux::StreamError::Gap(Gap::Lagged { missed: 2 }))),
        |item| matches!(item, Err(wsmux::StreamError::Gap(Gap::Sequence { missed: Some(7) }))),
        |item| matches!(item, Ok(300)),
        |item| matches!(item, Err(wsmux::StreamError::Decode(_))),
    ];
    for is_expected in expected {
        let item = x.recv().await.unwrap();
        assert!(is_expected(&item), "{item:?}");
    }
    assert_eq!(manager.send("x", "1").await, Ok(()));
    assert_eq!(manager.send("nobody's", "1").await, Err(SendError::NotOpen));
    (x, y, peer)
}

#[test]
fn counts_are_exact_and_the_facade_is_told_the_same() {
    let recorder = DebuggingRecorder::new();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    let (counts, told) = metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let (manager, mut server) = manager_of(Confirmed, config().buffer(2));
            let _alive = live_and_count(&manager, &mut server).await;
            (manager.metrics(), facade(&recorder))
        })
    });
    let mut expected = ManagerMetrics::default();
    expected.active_connections_hwm = 1;
    expected.bytes = 2 + 12;
    expected.decode_errors = 1;
    expected.disconnects = 1;
    expected.gaps = 2;
    expected.lagged = 2;
    expected.messages = 6;
    expected.retries = 2;
    expected.send_errors = 1;
    expected.send_errors_by_reason = [("not_open", 1)].into();
    expected.sent = 1;
    expected.stream_cleanups = 2;
    expected.stream_creations = 4;
    expected.unroutable = 2;
    expected.active_connections = 1;
    expected.readers = 2;
    expected.disconnects_by_reason = [("ended", 1)].into();
    expected.gaps_by_cause = [("lagged", 1), ("reconnected", 1), ("sequence", 1)].into();
    expected.stream_cleanups_by_reason = [("rejected", 1), ("unused", 1)].into();
    expected.streams.open = 1;
    expected.streams.joining = 1;
    assert_eq!((counts.handshakes.count(), counts.reconnects.count()), (3, 1));
    expected.handshakes = counts.handshakes.clone();
    expected.reconnects = counts.reconnects.clone();
    expected.uptime = counts.uptime;
    assert_eq!(counts, expected);
    assert_eq!(told, as_told(&counts));
}

#[tokio::test(start_paused = true)]
async fn the_high_water_mark_stays_when_sockets_go() {
    let (manager, mut server) = manager_of(Direct::new("ws://test/").unwrap(), config());
    let mut streams = Vec::new();
    let mut peers = Vec::new();
    for name in ["a", "b", "c"] {
        streams.push(manager.subscribe::<Message>(name).unwrap());
        peers.push(server.accept().await);
    }
    settle().await;
    let counts = manager.metrics();
    assert_eq!(
        (counts.active_connections, counts.active_connections_hwm, counts.readers),
        (3, 3, 3)
    );
    drop(streams);
    settle().await;
    let counts = manager.metrics();
    assert_eq!(
        (counts.active_connections, counts.active_connections_hwm, counts.readers),
        (0, 3, 0)
    );
    assert_eq!((counts.stream_creations, counts.stream_cleanups, counts.disconnects), (3, 3, 0));
    assert!(matches!(peers[0].recv().await, Some(Frame::Close(_))));
}

/// Writes down the lines of this crate.
#[derive(Clone, Default)]
pub(crate) struct Lines(pub(crate) Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("wsmux")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        panic!("no spans");
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Is interested in the lines of this crate, and lets them go.
struct Nobody;

impl tracing::Subscriber for Nobody {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("wsmux")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        panic!("no spans");
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Has somebody be interested in the crate's lines before any of them is met. Else one that is met
/// for the first time by a test that does not listen, while another begins to, is off for both.
pub(crate) fn care_for_lines() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Nobody).unwrap());
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{} {value:?}", self.0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_has_a_line_for_each_event_of_a_life_and_none_for_a_message() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let (manager, mut server) = manager_of(Confirmed, config());
    live(&manager, &mut server).await;
    let without_delay = |line: &String| line.split(" follows").next().unwrap().to_owned();
    let seen: Vec<_> = lines.0.lock().unwrap().iter().map(without_delay).collect();
    let expected = [
        "DEBUG stream opened",
        "WARN cannot connect to test:80: connection refused; attempt 2",
        "INFO connected",
        "INFO disconnected",
        "WARN lost test:80: the connection ended without a close frame; attempt 3",
        "INFO connected",
        "DEBUG stream opened",
        "DEBUG stream closed",
        "DEBUG stream closed",
        "DEBUG connection closed",
    ];
    assert_eq!(seen, expected);

    let mut stream = manager.subscribe::<u64>("x").unwrap();
    let peer = server.accept().await;
    peer.send("joined x");
    settle().await;
    lines.0.lock().unwrap().clear();
    for _ in 0..100 {
        peer.send_all(["x 1", "x bad", "skipped x", "unknown 1", "?"]);
        peer.ping();
        settle().await;
        while stream.recv().now_or_never().is_some() {}
    }
    assert_eq!(*lines.0.lock().unwrap(), [""; 0], "nothing per message, good or bad");
}
