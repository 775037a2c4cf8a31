//! What a manager counts, and how it is shown: as data, by the facade, as text for Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::FutureExt as _;
use futures::stream::FusedStream as _;
use metrics::{Key, Label, Unit};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tokio::time::{self, Instant};
use wsmux::protocol::{Cx, Dial, DialError, Direct, Lane, Protocol, Request, Session, To};
use wsmux::test_util::memory::{self, MemoryServer};
use wsmux::transport::TransportError;
use wsmux::{
    BuildError, Gap, InvalidLabel, InvalidName, Limiter, ManagerMetrics, Message, MetricsEvery,
    SendError, StreamError, StreamName, WsManager, WsManagerBuilder,
};

use crate::{MINUTE, MS, SECOND, config, manager, manager_with, settle};

/// All names on one socket, joined as soon as they are asked for.
struct Wide;

impl Protocol for Wide {
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

impl Session for Wide {
    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        names.iter().for_each(|name| cx.joined(name.as_str()));
    }

    fn leave(&mut self, _: &[StreamName], _: &mut Cx<'_>) {}

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        match message.as_text().and_then(|text| text.split_once(' ')) {
            Some(("reject", name)) => cx.rejected(name, "no"),
            Some(("skip", name)) => cx.gap(To::Name(name), Some(7)),
            Some((name, payload)) => cx.data(To::Name(name), payload.into()),
            None => cx.unroutable(message),
        }
    }
}

fn built(
    protocol: impl Protocol,
    set: impl FnOnce(WsManagerBuilder) -> WsManagerBuilder,
) -> (WsManager, MemoryServer) {
    let (transport, server) = memory::pair();
    let builder = WsManager::builder(protocol).config(config()).transport(transport).seed(7);
    (set(builder.limiter(Limiter::new())).build().unwrap(), server)
}

fn labelled(label: &str) -> (WsManager, MemoryServer) {
    built(Direct::new("ws://test/{name}").unwrap(), |builder| builder.label(label))
}

/// Runs `test` with paused time; what it counts goes to the recorder.
fn recorded<R>(recorder: &dyn metrics::Recorder, test: impl Future<Output = R>) -> R {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    metrics::with_local_recorder(recorder, || runtime.block_on(test))
}

type Told = BTreeMap<String, f64>;

/// What a recorder was told, as `name{label="value",…}`. Histograms by their number of values.
fn told(snapshotter: &Snapshotter) -> Told {
    let series = |(key, _, _, value): (metrics_util::CompositeKey, _, _, _)| {
        let value = match value {
            DebugValue::Counter(n) => n as f64,
            DebugValue::Gauge(n) => n.into_inner(),
            DebugValue::Histogram(values) => values.len() as f64,
        };
        (shown(key.key()), value)
    };
    snapshotter.snapshot().into_vec().into_iter().map(series).collect()
}

fn shown(key: &Key) -> String {
    let label = |label: &Label| format!("{}={:?}", label.key(), label.value());
    let labels: Vec<_> = key.labels().map(label).collect();
    format!("{}{{{}}}", key.name(), labels.join(","))
}

/// Refused once; lost once; about to be replaced once; one message that cannot be read, one for nobody, a hole in the feed, a
/// reader that lags, a name that is refused; one message sent, and one that is not.
async fn see_everything(manager: &WsManager, server: &mut MemoryServer) -> impl Sized + use<> {
    let mut stream = manager.subscribe::<u64>("x").unwrap();
    let out_of_descriptors = 24;
    server.refuse(std::io::Error::from_raw_os_error(out_of_descriptors)).await;
    server.refuse(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)).await;
    let peer = server.accept().await;
    settle().await;
    drop(peer);
    let peer = server.accept().await;
    settle().await;
    peer.send_all(["x bad", "skip x", "?", "unknown 1", "x 12"]);
    settle().await;
    assert!(matches!(stream.recv().await, Some(Err(StreamError::Gap(Gap::Reconnected { .. })))));
    assert!(matches!(stream.recv().await, Some(Err(StreamError::Decode(_)))));
    assert!(matches!(stream.recv().await, Some(Err(StreamError::Gap(Gap::Sequence { .. })))));
    assert_eq!(stream.recv().await.unwrap().unwrap(), 12);
    for _ in 0..20 {
        peer.send_all((0..100).map(|n| format!("x {n}")));
        settle().await;
    }
    assert!(matches!(stream.recv().await, Some(Err(StreamError::Gap(Gap::Lagged { .. })))));
    let rejected = manager.subscribe::<u64>("y").unwrap();
    peer.send("reject y");
    settle().await;
    let lease = manager.keep_warm("x").unwrap();
    assert_eq!(manager.send("x", "1").await, Ok(()));
    assert_eq!(manager.send("nobody's", "1").await, Err(SendError::NotOpen));
    assert!(manager.reconnect("x"));
    server.refuse(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)).await;
    settle().await;
    (stream, rejected, lease, peer)
}

#[test]
fn every_metric_is_told_with_its_unit_and_its_meaning() {
    let recorder = DebuggingRecorder::new();
    recorded(&recorder, async {
        let (manager, mut server) = built(Wide, |builder| builder.metrics_per_stream(1));
        let _alive = see_everything(&manager, &mut server).await;
        let _counts = manager.metrics();
    });
    let told = recorder.snapshotter().snapshot().into_vec();
    let names: BTreeSet<_> = told.iter().map(|(key, ..)| key.key().name().to_owned()).collect();
    assert_eq!(names.len(), 27, "{names:?}");
    for (key, unit, help, _) in told {
        let name = key.key().name();
        assert!(help.is_some_and(|help| help.ends_with('.')), "{name}");
        let seconds = name.ends_with("_seconds");
        let bytes = name.ends_with("_bytes_total");
        let expected = match (seconds, bytes) {
            (true, _) => Unit::Seconds,
            (_, true) => Unit::Bytes,
            _ => Unit::Count,
        };
        assert_eq!(unit, Some(expected), "{name}");
        let mut labels = key.key().labels();
        assert_eq!(labels.next(), Some(&Label::new("manager", "default")), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_is_installed_late_learns_what_is_and_counts_from_then_on() {
    let (manager, mut server) = labelled("late");
    let _stream = manager.subscribe::<Message>("x").unwrap();
    let _lease = manager.keep_warm("x").unwrap();
    let peer = server.accept().await;
    settle().await;
    peer.send("before");
    settle().await;
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    peer.send("after");
    settle().await;
    let told = told(&recorder.snapshotter());
    let described = recorder.snapshotter().snapshot().into_vec();
    assert!(described.iter().all(|(_, unit, help, _)| unit.is_some() && help.is_some()));
    for (name, value) in [
        (r#"ws_manager_active_connections{manager="late"}"#, 1.0),
        (r#"ws_manager_active_connections_hwm{manager="late"}"#, 1.0),
        (r#"ws_manager_leases{manager="late"}"#, 1.0),
        (r#"ws_manager_messages_total{manager="late"}"#, 1.0),
        (r#"ws_manager_readers{manager="late"}"#, 1.0),
        (r#"ws_manager_streams{manager="late",status="open"}"#, 1.0),
        (r#"ws_manager_streams{manager="late",status="connecting"}"#, 0.0),
    ] {
        assert_eq!(told.get(name), Some(&value), "{name}");
    }
    assert_eq!(manager.metrics().messages, 2);
}

#[test]
fn managers_are_told_apart_by_their_label_and_those_of_one_label_add_up() {
    let recorder = DebuggingRecorder::new();
    let told = recorded(&recorder, async {
        let (spot, mut spot_server) = labelled("spot");
        let (futures, mut futures_server) = labelled("futures");
        let (more, mut more_server) = labelled("spot");
        let mut alive = Vec::new();
        for (manager, server, names) in [
            (&spot, &mut spot_server, &["a", "b"][..]),
            (&futures, &mut futures_server, &["a"]),
            (&more, &mut more_server, &["a", "b", "c"]),
        ] {
            for name in names {
                alive.push((manager.subscribe::<Message>(name).unwrap(), server.accept().await));
            }
        }
        settle().await;
        alive.truncate(5);
        settle().await;
        told(&recorder.snapshotter())
    });
    for (name, value) in [
        (r#"ws_manager_active_connections{manager="spot"}"#, 4.0),
        (r#"ws_manager_active_connections_hwm{manager="spot"}"#, 5.0),
        (r#"ws_manager_active_connections{manager="futures"}"#, 1.0),
        (r#"ws_manager_active_connections_hwm{manager="futures"}"#, 1.0),
        (r#"ws_manager_readers{manager="spot"}"#, 4.0),
        (r#"ws_manager_streams{manager="spot",status="open"}"#, 4.0),
        (r#"ws_manager_stream_creations_total{manager="spot"}"#, 5.0),
        (r#"ws_manager_stream_creations_total{manager="futures"}"#, 1.0),
    ] {
        assert_eq!(told.get(name), Some(&value), "{name}");
    }
}

#[test]
fn a_label_that_cannot_be_one_is_refused() {
    let build =
        |label: &str| WsManager::builder(Direct::new("ws://test/").unwrap()).label(label).build();
    assert_eq!(build("spot").unwrap().label(), "spot");
    let refused = |label: &str| match build(label) {
        Err(BuildError::Label(e)) => e,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(""), InvalidLabel::Empty);
    assert_eq!(refused("a\u{7}"), InvalidLabel::ControlCharacter { at: 1 });
    assert_eq!(refused(&"é".repeat(33)), InvalidLabel::TooLong { len: 66 });
    assert_eq!(WsManager::connect("ws://test/").unwrap().label(), "default");
    assert!(format!("{:?}", build("spot").unwrap()).contains("spot"));
}

#[tokio::test(start_paused = true)]
async fn streams_are_counted_by_what_they_are_doing() {
    let (manager, mut server) = manager_with(config().linger(MINUTE));
    let states = || {
        let streams = manager.metrics().streams;
        (streams.connecting, streams.joining, streams.open, streams.backing_off, streams.waiting)
    };
    assert_eq!(states(), (0, 0, 0, 0, 0));
    let streams = ["x", "y"].map(|name| manager.subscribe::<Message>(name).unwrap());
    assert_eq!(states(), (2, 0, 0, 0, 0));
    server.refuse(TransportError::from(std::io::Error::other("no"))).await;
    let peer = server.accept().await;
    settle().await;
    assert_eq!(states(), (0, 0, 1, 1, 0));
    drop(peer);
    settle().await;
    assert_eq!(states(), (0, 0, 0, 2, 0));
    let _peers = [server.accept().await, server.accept().await];
    settle().await;
    assert_eq!(states(), (0, 0, 2, 0, 0));
    drop(streams);
    settle().await;
    assert_eq!(states(), (0, 0, 2, 0, 0), "they linger");
    time::sleep(2 * MINUTE).await;
    assert_eq!(states(), (0, 0, 0, 0, 0));

    let _z = manager.subscribe::<Message>("z").unwrap();
    let out_of_descriptors = 24;
    server.refuse(std::io::Error::from_raw_os_error(out_of_descriptors)).await;
    settle().await;
    assert_eq!(states(), (0, 0, 0, 0, 1));
}

#[test]
fn quiet_streams_and_the_slowest_reader_are_seen_when_somebody_looks() {
    let recorder = DebuggingRecorder::new();
    recorded(&recorder, async {
        let (manager, mut server) = manager();
        let mut streams = Vec::new();
        let mut peers = Vec::new();
        for name in ["x", "y"] {
            streams.push(manager.subscribe::<Message>(name).unwrap());
            peers.push(server.accept().await);
        }
        settle().await;
        let figures = || {
            let counts = manager.metrics();
            let told = told(&recorder.snapshotter());
            let gauge = |name: &str| told[&format!("ws_manager_{name}{{manager=\"default\"}}")];
            assert!((gauge("streams_quiet") - counts.quiet_streams as f64).abs() < 0.1);
            assert!((gauge("reader_lag_messages") - counts.lag as f64).abs() < 0.1);
            (counts.quiet_streams, counts.lag)
        };
        assert_eq!(figures(), (0, 0));
        peers[0].send_all(["1", "2", "3"]);
        peers[1].send("1");
        settle().await;
        assert_eq!(figures(), (0, 3), "the lag of the slowest");
        time::sleep(3 * MINUTE).await;
        peers[1].send("2");
        settle().await;
        assert_eq!(figures(), (1, 3));
        while streams[0].recv().now_or_never().is_some() {}
        assert_eq!(figures(), (1, 2));
        drop((streams, manager));
        let told = told(&recorder.snapshotter());
        let quiet = told[r#"ws_manager_streams_quiet{manager="default"}"#];
        assert!(quiet.abs() < 0.1, "nobody is quiet any more");
    });
}

async fn next(snapshots: &mut MetricsEvery) -> Option<ManagerMetrics> {
    time::timeout(MINUTE, snapshots.next()).await.expect("in time")
}

#[tokio::test(start_paused = true)]
async fn snapshots_come_at_once_and_each_period_and_are_of_the_moment_they_are_read() {
    let (manager, mut server) = manager();
    let _stream = manager.subscribe::<Message>("x").unwrap();
    let peer = server.accept().await;
    settle().await;
    let start = Instant::now();
    let mut snapshots = manager.metrics_every(10 * SECOND);
    let first = next(&mut snapshots).await.unwrap();
    assert_eq!((start.elapsed(), first.messages, first.readers), (Duration::ZERO, 0, 1));
    peer.send_all(["1", "2", "3", "4", "5"]);
    let second = next(&mut snapshots).await.unwrap();
    assert_eq!((start.elapsed(), second.messages), (10 * SECOND, 5));
    let new = second.since(&first);
    assert!((new.per_second(new.messages) - 0.5).abs() < 0.001);
    time::sleep(35 * SECOND).await;
    peer.send("6");
    settle().await;
    assert_eq!(next(&mut snapshots).await.unwrap().messages, 6);
    assert!(snapshots.next().now_or_never().is_none(), "those missed are left out");
    assert_eq!(next(&mut snapshots).await.unwrap().since(&second).messages, 1);
    assert_eq!(start.elapsed(), 50 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn snapshots_keep_nothing_open_and_end_with_the_manager() {
    let (manager, mut server) = manager();
    let stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    settle().await;
    let mut snapshots = manager.metrics_every(SECOND);
    assert_eq!(next(&mut snapshots).await.unwrap().active_connections, 1);
    drop(manager);
    assert_eq!(next(&mut snapshots).await.unwrap().active_connections, 1, "it has a subscription");
    drop(stream);
    time::timeout(MINUTE, peer.closed()).await.expect("nothing holds the socket");
    assert!(!snapshots.is_terminated());
    assert_eq!(next(&mut snapshots).await, None);
    assert!(snapshots.is_terminated());
    assert_eq!(next(&mut snapshots).await, None);
    assert_eq!(crate::alive_tasks(), 0);
}

#[test]
fn a_stream_of_snapshots_can_be_made_without_a_runtime_and_with_any_period() {
    let manager = WsManager::connect("ws://test/").unwrap();
    let mut zero = manager.metrics_every(Duration::ZERO);
    let mut max = manager.metrics_every(Duration::MAX);
    recorded(&metrics::NoopRecorder, async {
        for _ in 0..10 {
            assert!(zero.next().await.is_some());
        }
        assert!(max.next().await.is_some());
        assert!(time::timeout(MINUTE * 1000, max.next()).await.is_err());
    });
}

/// The series of a text for Prometheus, with their values; the text must be valid as a whole.
fn series(text: &str) -> Told {
    let mut families = BTreeSet::new();
    let mut family = "";
    let mut series = Told::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(line) = line.strip_prefix("# TYPE ") {
            family = line.split(' ').next().unwrap();
            assert!(families.insert(family), "{family} comes twice");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(family), "{name} among those of {family}");
            let before = series.insert(name.to_owned(), value.parse().unwrap());
            assert_eq!(before, None, "{name} comes twice");
        }
    }
    series
}

/// Series of a manager at most, whatever the names of its streams: in the text, where a histogram
/// is 18 of them, and at a recorder.
const SERIES: usize = 110;

/// Series of a stream that is counted by name.
const PER_STREAM: usize = 4;

/// What is wrong with the number of series, if anything.
fn check_bound(found: usize, bound: usize) -> Result<(), String> {
    if found <= bound { Ok(()) } else { Err(format!("{found} series, more than {bound}")) }
}

const NAMES: usize = 10_000;

/// Ten thousand names, each with a message and a gap, a hundred of them at a time.
async fn live_of_many_names(manager: &WsManager, server: &mut MemoryServer) {
    let name = |i| format!("name-{i}\"\\");
    let first = manager.subscribe::<Message>(name(0)).unwrap();
    let peer = server.accept().await;
    settle().await;
    for from in (0..NAMES).step_by(100) {
        let names: Vec<_> = (from..from + 100).map(name).collect();
        let _streams: Vec<_> =
            names.iter().map(|name| manager.subscribe::<Message>(name).unwrap()).collect();
        settle().await;
        for name in &names {
            peer.send_all([format!("{name} 1"), format!("skip {name}")]);
        }
        settle().await;
    }
    drop(first);
    settle().await;
    let counts = manager.metrics();
    assert_eq!((counts.stream_creations, counts.messages), (NAMES as u64, NAMES as u64));
    assert_eq!((counts.stream_cleanups, counts.gaps), (NAMES as u64, NAMES as u64));
}

#[test]
fn ten_thousand_names_stay_under_a_fixed_number_of_series() {
    for (per_stream, more) in [(None, 0), (Some(100), 101), (Some(0), 1)] {
        let recorder = DebuggingRecorder::new();
        let (before, text, told) = recorded(&recorder, async {
            let (manager, mut server) = built(Wide, |builder| match per_stream {
                None => builder,
                Some(max) => builder.metrics_per_stream(max),
            });
            let before = manager.prometheus();
            live_of_many_names(&manager, &mut server).await;
            (before, manager.prometheus(), told(&recorder.snapshotter()))
        });
        let (before, text) = (series(&before), series(&text));
        assert_eq!(check_bound(text.len(), SERIES + PER_STREAM * more), Ok(()));
        assert_eq!(check_bound(told.len(), SERIES + PER_STREAM * more), Ok(()));
        let by_name = |text: &Told| text.keys().filter(|name| name.contains("stream=")).count();
        assert_eq!(by_name(&text), PER_STREAM * more, "{per_stream:?}");
        assert_eq!(text.len() - by_name(&text), before.len() - by_name(&before));
        if per_stream.is_some() {
            let messages = |text: &Told, which: fn(&str) -> bool| -> f64 {
                let by_stream = text.iter().filter(|(name, _)| which(name));
                by_stream.map(|(_, n)| n).sum()
            };
            let all = messages(&text, |name| name.starts_with("ws_manager_messages_total"));
            let by = messages(&text, |name| name.starts_with("ws_manager_stream_messages_total"));
            assert!((all - by).abs() < 0.1, "{all} messages, and {by} by stream");
        }
    }
}

/// A counter that is labelled by name without a bound: what must not be.
#[test]
fn a_counter_by_name_without_a_bound_is_noticed() {
    let recorder = DebuggingRecorder::new();
    recorded(&recorder, async {
        let (manager, mut server) = built(Wide, |builder| builder);
        live_of_many_names(&manager, &mut server).await;
        for i in 0..NAMES {
            metrics::counter!("ws_manager_messages_total", "stream" => format!("name-{i}"))
                .increment(1);
        }
    });
    assert!(check_bound(told(&recorder.snapshotter()).len(), SERIES).is_err());
    let (manager, _server) = built(Wide, |builder| builder);
    let unbounded: String = (0..NAMES)
        .map(|i| format!("ws_manager_streams_quiet{{manager=\"x\",stream=\"name-{i}\"}} 1\n"))
        .collect();
    let text = format!("{}{unbounded}", manager.prometheus().split_once("# HELP").unwrap().0);
    assert!(check_bound(series(&text).len(), SERIES).is_err());
}

#[test]
fn the_text_is_that_of_the_exporters_own_recorder_of_the_same_run() {
    let bounds = wsmux::DurationHistogram::BOUNDS;
    let builder = metrics_exporter_prometheus::PrometheusBuilder::new();
    let recorder = builder.set_buckets(&bounds).unwrap().build_recorder();
    let (ours, theirs) = recorded(&recorder, async {
        let (manager, mut server) =
            built(Wide, |builder| builder.metrics_per_stream(1).label(r#"a "label""#));
        let _alive = see_everything(&manager, &mut server).await;
        (manager.prometheus(), recorder.handle().render())
    });
    // A callback runs on a thread of its own, which a recorder of this one does not hear.
    let comments = |text: &str| -> BTreeSet<String> {
        let comments = text.lines().filter(|line| line.starts_with('#'));
        comments.filter(|line| !line.contains("callback_panics")).map(str::to_owned).collect()
    };
    assert_eq!(comments(&ours), comments(&theirs));
    let (mut ours, theirs) = (series(&ours), series(&theirs));
    // Where nothing was counted yet, a recorder has no series, and the text a zero.
    ours.retain(|name, value| theirs.contains_key(name) || *value != 0.0);
    assert_eq!(ours, theirs);
    assert!(ours.len() > 60, "{ours:?}");
}

#[tokio::test(start_paused = true)]
async fn several_managers_make_one_valid_text() {
    let (spot, mut server) = labelled("spot");
    let (futures, _futures_server) = labelled("futures");
    let (more, _more_server) = labelled("spot");
    let _stream = spot.subscribe::<Message>("x").unwrap();
    let _peer = server.accept().await;
    let _futures = ["x", "y"].map(|name| futures.subscribe::<Message>(name).unwrap());
    let _more = more.subscribe::<Message>("x").unwrap();
    settle().await;
    let text = series(&wsmux::prometheus([&spot, &futures, &more, &spot.clone()]));
    assert_eq!(text.len(), 2 * series(&spot.prometheus()).len());
    assert_eq!(text[r#"ws_manager_readers{manager="spot"}"#], 2.0, "a clone is no other manager");
    assert_eq!(text[r#"ws_manager_readers{manager="futures"}"#], 2.0);
    assert_eq!(text[r#"ws_manager_active_connections{manager="spot"}"#], 1.0);
    assert_eq!(series(&spot.prometheus())[r#"ws_manager_readers{manager="spot"}"#], 1.0);
    assert_eq!(spot.prometheus(), wsmux::prometheus([&spot]), "the same each time");
    assert!(wsmux::prometheus([]).is_empty());
}

#[test]
#[should_panic(expected = "comes twice")]
fn two_texts_one_behind_the_other_are_noticed() {
    let (manager, _server) = built(Wide, |builder| builder);
    series(&format!("{0}{0}", manager.prometheus()));
}

#[tokio::test(start_paused = true)]
async fn a_histogram_counts_how_long_handshakes_and_reconnects_took() {
    let (manager, mut server) = manager();
    let _stream = manager.subscribe::<Message>("x").unwrap();
    let dial = server.dial().await;
    time::sleep(300 * MS).await;
    let peer = dial.accept();
    settle().await;
    drop(peer);
    let _peer = server.accept().await;
    settle().await;
    let counts = manager.metrics();
    assert_eq!((counts.handshakes.count(), counts.handshakes.sum()), (2, 300 * MS));
    assert!(counts.handshakes.quantile(1.0).unwrap() >= 300 * MS);
    assert_eq!(counts.reconnects.count(), 1);
    assert!(counts.reconnects.mean().unwrap() > Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_counted_by_hand_is_counted_the_same() {
    let (manager, mut server) = built(Wide, |builder| builder.metrics_per_stream(1));
    let alive = see_everything(&manager, &mut server).await;
    let counted = manager.metrics();
    // `bad`, `12`, and twenty times the numbers from 0 to 99.
    let (messages, bytes) = (2 + 2000, 3 + 2 + 20 * (10 + 90 * 2));
    assert_eq!((counted.messages, counted.bytes), (messages, bytes));
    assert_eq!((counted.lagged, counted.lag), (2000 - 1024, 1024), "a buffer is left");
    assert_eq!((counted.decode_errors, counted.unroutable), (1, 2));
    assert_eq!((counted.retries, counted.disconnects, counted.gaps), (2, 1, 2));
    assert_eq!(counted.disconnects_by_reason, [("ended", 1)].into());
    let causes = [("lagged", 1), ("reconnected", 1), ("sequence", 1)];
    assert_eq!(counted.gaps_by_cause, causes.into());
    assert_eq!((counted.handshakes.count(), counted.reconnects.count()), (2, 1));
    assert_eq!((counted.active_connections, counted.active_connections_hwm), (1, 1));
    assert_eq!((counted.stream_creations, counted.stream_cleanups), (2, 1));
    assert_eq!((counted.readers, counted.leases, counted.streams.open), (2, 1, 1));
    let of_x = counted.per_stream["x"];
    assert_eq!((of_x.messages, of_x.bytes, of_x.gaps, of_x.lagged), (messages, bytes, 3, 976));
    assert_eq!(counted.per_stream["other"], wsmux::StreamCounts::default());

    drop(alive);
    settle().await;
    let at_the_end = manager.metrics();
    let now = (at_the_end.active_connections, at_the_end.readers, at_the_end.leases);
    assert_eq!((now, at_the_end.lag), ((0, 0, 0), 0));
    assert_eq!(at_the_end.streams, wsmux::StreamStates::default());
    let since = at_the_end.since(&counted);
    assert_eq!(since.stream_cleanups_by_reason, [("unused", 1)].into());
    assert_eq!((since.disconnects, since.messages), (0, 0), "what we close is not lost");
}
