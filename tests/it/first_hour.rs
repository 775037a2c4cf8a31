//! What a newcomer reaches for first: the latest message, batches, and a word on what is wrong.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures::{FutureExt as _, StreamExt as _};
use tokio::time;
use wsmux::protocol::Direct;
use wsmux::test_util::memory;
use wsmux::transport::TransportError;
use wsmux::{
    BuildError, Config, DecodeError, DisconnectReason, Event, FromMessage, Gap, Limiter, Message,
    RetryPolicy, Shared, Stamped, Status, StreamError, Text, WsManager,
};

use crate::lines::{Lines as Protocol, accept};
use crate::status::Lines;
use crate::{
    MINUTE, MS, SECOND, config, end, gap, manager, manager_of, manager_with, message, settle,
};

#[tokio::test(start_paused = true)]
async fn the_latest_message_is_there_for_who_comes_late_and_takes_nothing_from_anybody() {
    let (manager, mut server) = manager();
    let mut first = manager.subscribe::<Text>("x").unwrap();
    assert!(first.latest().is_none(), "none has come");
    let peer = server.accept().await;
    peer.send_all(["1", "2"]);
    settle().await;
    assert_eq!(first.latest().unwrap().unwrap(), "2", "whatever was read");
    let late = manager.subscribe::<u64>("x").unwrap();
    assert_eq!(late.latest().unwrap().unwrap(), 2);
    assert_eq!(late.lag(), 0);
    for n in ["1", "2"] {
        assert_eq!(first.recv().await.unwrap().unwrap(), n);
    }
    assert_eq!(first.latest().unwrap().unwrap(), "2", "all have read it");
    peer.send("three");
    settle().await;
    assert!(late.latest().unwrap().is_err(), "read by who asks");
    assert_eq!(manager.metrics().decode_errors, 0, "it was not yielded");
}

#[tokio::test(start_paused = true)]
async fn the_latest_message_stays_without_readers_over_reconnects_and_after_the_end() {
    let (manager, mut server) = manager();
    let lease = manager.keep_warm("x").unwrap();
    let peer = server.accept().await;
    peer.send_all(["1", "2"]);
    settle().await;
    drop(peer);
    settle().await;
    let stream = manager.subscribe::<Stamped<u64>>("x").unwrap();
    let latest = stream.latest().unwrap().unwrap();
    assert_eq!((latest.value, latest.seq, latest.replayed), (2, 1, false));
    time::sleep(MINUTE).await;
    let _peer = server.accept().await;
    settle().await;
    assert_eq!(stream.latest().unwrap().unwrap().received_at, latest.received_at);
    manager.shutdown().await;
    assert_eq!(stream.latest().unwrap().unwrap().seq, 1);
    drop(lease);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_opened_again_has_no_latest_message_yet() {
    let (manager, mut server) = manager_with(config().replay_latest(true));
    let stream = manager.subscribe::<Message>("x").unwrap();
    server.accept().await.send("1");
    settle().await;
    drop(stream);
    settle().await;
    let mut again = manager.subscribe::<Message>("x").unwrap();
    assert!(again.latest().is_none() && again.recv().now_or_never().is_none());
}

static PARSED: AtomicUsize = AtomicUsize::new(0);

struct Parsed;

impl FromMessage for Parsed {
    fn from_message(_: Message) -> Result<Self, DecodeError> {
        PARSED.fetch_add(1, SeqCst);
        Ok(Self)
    }
}

#[tokio::test(start_paused = true)]
async fn late_readers_of_a_quiet_stream_share_what_one_of_them_has_parsed() {
    let (manager, mut server) = manager_with(config().replay_latest(true));
    let _lease = manager.keep_warm("x").unwrap();
    server.accept().await.send("1");
    settle().await;
    for _ in 0..3 {
        let mut reader = manager.subscribe::<Shared<Parsed>>("x").unwrap();
        assert!(reader.latest().unwrap().is_ok());
        assert!(reader.recv().await.unwrap().is_ok() && reader.is_replayed());
    }
    assert_eq!(PARSED.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn with_replay_a_late_reader_gets_the_last_message_first_at_once_and_marked() {
    let (manager, mut server) = manager_with(config().replay_latest(true));
    let mut first = manager.subscribe::<Stamped<u64>>("x").unwrap();
    let peer = server.accept().await;
    peer.send_all(["1", "2"]);
    settle().await;
    let mut late = manager.subscribe::<Stamped<u64>>("x").unwrap();
    let mut plain = manager.subscribe::<Message>("x").unwrap();
    peer.send("3");
    settle().await;
    let read = |item: Option<Result<Stamped<u64>, StreamError>>| {
        let Stamped { value, seq, replayed, .. } = item.unwrap().unwrap();
        (value, seq, replayed)
    };
    assert_eq!(late.lag(), 1, "what is replayed came before");
    assert_eq!(read(late.recv().await), (2, 1, true));
    assert_eq!(read(late.recv().await), (3, 2, false), "and once");
    for expected in [(1, 0, false), (2, 1, false), (3, 2, false)] {
        assert_eq!(read(first.recv().await), expected, "it was there when they came");
    }
    assert!(!plain.is_replayed(), "nothing was yielded");
    assert_eq!((message(&mut plain).await.as_str(), plain.is_replayed()), ("2", true));
    assert_eq!((message(&mut plain).await.as_str(), plain.is_replayed()), ("3", false));
    assert!(plain.recv().now_or_never().is_none());

    let mut later = manager.subscribe::<Message>("x").unwrap();
    message(&mut later).await;
    assert!(later.recv().now_or_never().is_none() && later.is_replayed(), "still the last item");
    drop(peer);
    let _peer = server.accept().await;
    gap(&mut later).await;
    assert!(!later.is_replayed());
}

#[tokio::test(start_paused = true)]
async fn a_replay_may_be_one_names_own_and_is_off_elsewhere() {
    let (transport, mut server) = memory::pair();
    crate::status::care_for_lines();
    let builder = WsManager::builder(Direct::new("ws://test").unwrap()).config(config());
    let builder = builder.transport(transport).limiter(Limiter::new());
    let manager = builder.stream("x", |stream| stream.replay_latest = true).build().unwrap();
    let _leases = ["x", "y"].map(|name| manager.keep_warm(name).unwrap());
    let peers = [server.accept().await, server.accept().await];
    peers.iter().for_each(|peer| peer.send("1"));
    settle().await;
    let [mut x, mut y] = ["x", "y"].map(|name| manager.subscribe::<Message>(name).unwrap());
    assert_eq!(message(&mut x).await, "1");
    assert!(y.recv().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_lag_after_a_replay_counts_from_the_joining_on() {
    let (manager, mut server) = manager_with(config().buffer(2).replay_latest(true));
    let _lease = manager.keep_warm("x").unwrap();
    let peer = server.accept().await;
    peer.send("0");
    settle().await;
    let mut late = manager.subscribe::<Message>("x").unwrap();
    for n in 1..=5 {
        peer.send(n.to_string());
        settle().await;
    }
    assert_eq!((late.lag(), message(&mut late).await.as_str()), (5, "0"));
    assert_eq!(gap(&mut late).await, Gap::Lagged { missed: 3 });
    assert_eq!(message(&mut late).await, "4");
}

#[tokio::test(start_paused = true)]
async fn a_replayed_message_is_no_sign_that_the_stream_is_ready() {
    let (manager, mut server) = manager_with(config().replay_latest(true));
    let _lease = manager.keep_warm("x").unwrap();
    server.accept().await.send("1");
    settle().await; // The peer is gone.
    let mut late = manager.subscribe::<Message>("x").unwrap();
    assert!(late.ready().now_or_never().is_none());
    assert_eq!(message(&mut late).await, "1");
    assert!(late.ready().now_or_never().is_none());
    let peer = server.accept().await;
    late.ready().await.unwrap();
    peer.send("2");
    assert_eq!(message(&mut late).await, "2", "no gap: it came while the stream was down");
}

#[tokio::test(start_paused = true)]
async fn recv_many_takes_what_is_there_and_waits_only_for_the_first() {
    let (manager, mut server) = manager();
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    let mut items = Vec::with_capacity(16);
    assert_eq!(stream.recv_many(&mut items, 0).await, 0, "nobody asked for any");
    assert!(stream.recv_many(&mut items, 9).now_or_never().is_none());
    let peer = server.accept().await;
    peer.send_all(["1", "2"]);
    settle().await;
    peer.send("3");
    drop(peer);
    settle().await;
    let peer = server.accept().await;
    peer.send("4");
    settle().await;
    assert_eq!(stream.recv_many(&mut items, 2).await, 2, "as many as asked for");
    assert_eq!(stream.recv_many(&mut items, usize::MAX).await, 3, "over batches and gaps");
    let shown: Vec<_> =
        items.iter().map(|item| item.as_ref().ok().and_then(Message::as_text)).collect();
    assert_eq!(shown, [Some("1"), Some("2"), Some("3"), None, Some("4")]);
    assert!(matches!(items[3], Err(StreamError::Gap(Gap::Reconnected { .. }))));
    assert_eq!(items.capacity(), 16, "nothing was allocated");
    assert!(stream.recv_many(&mut items, 9).now_or_never().is_none(), "nothing is left");
    manager.shutdown().await;
    assert_eq!(stream.recv_many(&mut items, 9).await, 1);
    assert!(matches!(items[5], Err(StreamError::Closed(_))));
    assert_eq!(stream.recv_many(&mut items, 9).await, 0, "the end");
}

#[tokio::test(start_paused = true)]
async fn recv_many_may_be_cancelled_at_any_time() {
    let (manager, mut server) = manager();
    let mut stream = manager.subscribe::<u64>("x").unwrap();
    let peer = server.accept().await;
    let sending = tokio::spawn(async move {
        for n in 0..300 {
            time::sleep(7 * MS).await;
            peer.send_all([(3 * n).to_string(), (3 * n + 1).to_string(), (3 * n + 2).to_string()]);
        }
        peer
    });
    let mut ticks = time::interval(3 * MS);
    let mut seen = Vec::new();
    while seen.len() < 900 {
        tokio::select! {
            taken = stream.recv_many(&mut seen, 2) => assert!((1..=2).contains(&taken)),
            _ = ticks.tick() => {}
        }
    }
    assert!(seen.into_iter().map(Result::unwrap).eq(0..900));
    sending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn values_come_many_at_once_without_the_notices_between_them() {
    let (manager, mut server) = manager();
    let mut values = manager.subscribe::<u64>("x").unwrap().values();
    let peer = server.accept().await;
    peer.send_all(["1", "bad", "2"]);
    drop(peer);
    settle().await;
    let peer = server.accept().await;
    settle().await;
    let mut items = Vec::new();
    assert_eq!(values.recv_many(&mut items, 9).await, 2);
    assert!(values.recv_many(&mut items, 9).now_or_never().is_none(), "a gap is no value");
    peer.send("3");
    assert_eq!(values.recv_many(&mut items, 9).await, 1);
    assert_eq!((values.recv_many(&mut items, 0).await, items), (0, vec![1, 2, 3]));
    manager.shutdown().await;
    assert_eq!(values.recv_many(&mut Vec::new(), 9).await, 0);
}

fn unknown_host() -> TransportError {
    let e =
        std::io::Error::other("failed to lookup address information: Name or service not known");
    TransportError::new(DisconnectReason::Dns).with_source(e)
}

#[tokio::test(start_paused = true)]
async fn each_failed_dial_is_one_line_with_host_cause_and_what_follows() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let retry = RetryPolicy { max_attempts: Some(2), ..RetryPolicy::default() };
    let protocol = Direct::new("wss://stream.binnance.com:9443/ws?key=secret").unwrap();
    let (manager, mut server) = manager_of(protocol, config().retry(retry));
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    for _ in 0..3 {
        server.refuse(unknown_host()).await;
        settle().await;
    }
    let cause = "the host's name cannot be resolved: failed to lookup address information: Name or \
                 service not known";
    let Status::Closed(reason) = stream.status() else { panic!("{}", stream.status()) };
    assert!(reason.to_string().ends_with(cause), "{reason}");
    end(&mut stream).await;
    let lines = lines.0.lock().unwrap();
    let warnings: Vec<_> = lines.iter().filter(|line| line.starts_with("WARN")).collect();
    let host = "stream.binnance.com:9443";
    assert_eq!(warnings.len(), 3, "{warnings:#?}");
    for (attempt, line) in (2..).zip(&warnings[..2]) {
        let start =
            format!("WARN cannot connect to {host}: {cause}; attempt {attempt} follows in ");
        assert!(line.starts_with(&start), "{line}");
    }
    let last = format!(
        "WARN connection closed for good: {host}: gave up after 3 failed attempts \
         (`Config::retry` sets how many), the last: {cause}"
    );
    assert_eq!(*warnings[2], last);
}

#[tokio::test(start_paused = true)]
async fn a_status_says_what_failed_down_to_the_cause() {
    let (manager, mut server) = manager();
    let stream = manager.subscribe::<Message>("x").unwrap();
    server.refuse(unknown_host()).await;
    settle().await;
    let status = stream.status().to_string();
    assert!(status.starts_with("waiting ") && status.contains(" before attempt 2: "), "{status}");
    assert!(status.ends_with("Name or service not known"), "{status}");
    let last = stream.info().unwrap().last_error.unwrap();
    assert!(status.ends_with(&last.to_string()));
    assert!(last.get_ref().is_some_and(|e| e.is::<std::io::Error>()));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_retried_alone_says_so_in_an_event_and_a_line() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let (manager, mut server) = manager_of(Protocol::default(), config());
    let _streams = ["a1", "a2"].map(|name| manager.subscribe::<Message>(name).unwrap());
    let peer = accept(&mut server).await;
    let mut events = manager.events();
    peer.send("#a1");
    settle().await;
    let Some(Some(Event::StreamRetrying { name, attempt, delay, error })) =
        events.next().now_or_never()
    else {
        panic!("no event");
    };
    assert_eq!((name.as_str(), attempt), ("a1", 2));
    assert_eq!(*error.reason(), DisconnectReason::StreamEnded);
    let line =
        format!("WARN stream a1: the server ended the stream; attempt 2 follows in {delay:.1?}");
    assert_eq!(lines.0.lock().unwrap().last(), Some(&line));
    assert!(events.next().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_an_earlier_failure_has_earned_is_a_line() {
    let lines = Lines::default();
    let (manager, mut server) = manager_with(config().retry(RetryPolicy::never()));
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    server.refuse(unknown_host()).await;
    end(&mut stream).await;
    let _guard = tracing::subscriber::set_default(lines.clone());
    let _again = manager.subscribe::<Message>("x").unwrap();
    settle().await;
    let line = "INFO the first attempt follows in 100.0ms: it waits out what a failure for good has \
                earned";
    assert_eq!(lines.0.lock().unwrap()[1], line);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_read_says_why() {
    let (manager, mut server) = manager();
    let mut numbers = manager.subscribe::<u64>("x").unwrap();
    let mut strings = manager.subscribe::<Stamped<String>>("x").unwrap();
    server.accept().await.send("{}");
    let error = numbers.recv().await.unwrap().unwrap_err().to_string();
    let cause = "invalid type: map, expected u64 at line 1 column 0";
    assert_eq!(error, format!("cannot read the message as `u64`: {cause}"));
    let error = strings.recv().await.unwrap().unwrap_err().to_string();
    assert!(error.contains("`String` is read as JSON; use `Text`"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_manager_may_be_connected_with_settings_in_one_call() {
    let manager = WsManager::connect_with("wss://host/ws", Config::default().buffer(7)).unwrap();
    assert!(format!("{manager:?}").contains("buffer: 7"));
    let refused = WsManager::connect_with("wss://host/ws", Config::default().buffer(0));
    assert!(matches!(refused, Err(BuildError::Config(_))));
    assert!(matches!(WsManager::connect_with("host", config()), Err(BuildError::Url(_))));
    time::sleep(SECOND).await;
}
