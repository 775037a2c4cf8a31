//! Callbacks: one at a time and in order, a blocked one alone, panics contained, and how each ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use wsmux::compat::CallbackGuard;
use wsmux::protocol::Direct;
use wsmux::test_util::memory;
use wsmux::{
    CloseReason, DecodeError, FromMessage, Gap, Limiter, Message, StreamError, SubscribeError,
    Text, WsManager,
};

use crate::{SECOND, alive_tasks, config, manager, manager_with, message, settle};

type Log = Arc<Mutex<Vec<String>>>;

fn words(item: Result<Text, StreamError>) -> String {
    match item {
        Ok(text) => text.to_string(),
        Err(StreamError::Gap(Gap::Lagged { missed })) => format!("lagged {missed}"),
        Err(StreamError::Gap(_)) => "gap".to_owned(),
        Err(StreamError::Closed(reason)) => reason.label().to_owned(),
        Err(other) => panic!("{other:?}"),
    }
}

/// A callback that writes down what it is called with.
fn writing(log: &Log) -> impl FnMut(Result<Text, StreamError>) + Send + 'static {
    let log = Arc::clone(log);
    move |item| log.lock().unwrap().push(words(item))
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut log.lock().unwrap())
}

/// Counts how often it is dropped, and may panic then.
struct Captured(Arc<AtomicUsize>, bool);

impl Drop for Captured {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        assert!(!self.1, "a drop that panics");
    }
}

#[tokio::test(start_paused = true)]
async fn every_item_comes_in_order_notices_and_the_end_included() {
    let (manager, mut server) = manager();
    let log = Log::default();
    let guard = manager.subscribe_with("x", writing(&log)).unwrap();
    assert_eq!(guard.name().as_str(), "x");
    let peer = server.accept().await;
    peer.send_all((0..1000).map(|n| n.to_string()));
    settle().await;
    assert!(guard.status().is_open());
    assert_eq!(taken(&log), (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());
    drop(peer);
    let peer = server.accept().await;
    peer.send("again");
    settle().await;
    assert_eq!(taken(&log), ["gap", "again"]);
    assert!(!guard.is_finished());
    manager.shutdown().await;
    settle().await;
    assert_eq!(taken(&log), ["shutdown"]);
    assert!(guard.is_finished() && guard.status().is_closed());
    assert_eq!(guard.panics(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_unsubscribing_and_stopping_leave_the_stream() {
    let end: [fn(CallbackGuard); 2] = [drop, CallbackGuard::unsubscribe];
    for end in end {
        let (manager, mut server) = manager();
        let log = Log::default();
        let guard = manager.subscribe_with("x", writing(&log)).unwrap();
        let mut peer = server.accept().await;
        settle().await;
        peer.send("never read");
        end(guard);
        peer.closed().await;
        settle().await;
        assert_eq!((taken(&log).len(), manager.stream_count()), (0, 0));
    }
    let (manager, mut server) = manager();
    let dropped = Arc::new(AtomicUsize::new(0));
    let captured = Captured(Arc::clone(&dropped), false);
    let guard = manager.subscribe_with::<Text>("x", move |_| _ = &captured).unwrap();
    let _peer = server.accept().await;
    guard.stop().await;
    assert_eq!((dropped.load(Ordering::SeqCst), manager.metrics().readers), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_callback_lives_until_its_stream_ends() {
    let (manager, mut server) = manager();
    let log = Log::default();
    manager.subscribe_with("x", writing(&log)).unwrap().forget();
    let peer = server.accept().await;
    peer.send("1");
    settle().await;
    assert_eq!(taken(&log), ["1"]);
    let other = manager.clone();
    drop(manager);
    settle().await;
    peer.send("2");
    settle().await;
    assert_eq!(taken(&log), ["2"]);
    other.shutdown().await;
    settle().await;
    assert_eq!((taken(&log), alive_tasks()), (vec!["shutdown".to_owned()], 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_its_item_is_counted_and_the_next_comes() {
    let (manager, mut server) = manager();
    let log = Log::default();
    let mut write = writing(&log);
    let guard = manager.subscribe_with("x", move |item: Result<Text, _>| {
        let is_even = item.as_ref().is_ok_and(|n| n.parse::<u32>().unwrap() % 2 == 0);
        assert!(!is_even, "no even numbers");
        write(item);
    });
    let guard = guard.unwrap();
    let peer = server.accept().await;
    peer.send_all((0..10).map(|n| n.to_string()));
    settle().await;
    assert_eq!(taken(&log), ["1", "3", "5", "7", "9"]);
    assert_eq!((guard.panics(), manager.metrics().callback_panics), (5, 5));
    peer.send("11");
    settle().await;
    assert_eq!(taken(&log), ["11"]);
}

/// A payload whose drop panics, with another such payload.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::panic_any(Self);
    }
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_at_each_item_and_in_each_drop_ends_in_good_form() {
    let (manager, mut server) = manager();
    let dropped = Arc::new(AtomicUsize::new(0));
    let captured = Captured(Arc::clone(&dropped), true);
    let guard = manager.subscribe_with::<Text>("x", move |_| {
        let _ = &captured;
        std::panic::panic_any(Bomb);
    });
    let guard = guard.unwrap();
    server.accept().await.send_all(["1", "2", "3"]);
    settle().await;
    // Three messages, and the gap after the lost socket.
    let _peer = server.accept().await;
    settle().await;
    assert_eq!(guard.panics(), 4);
    guard.stop().await;
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    assert_eq!(manager.metrics().callback_panics, 5);
    assert_eq!(manager.metrics().readers, 0);
}

struct Picky;

impl FromMessage for Picky {
    fn from_message(message: Message) -> Result<Self, DecodeError> {
        assert_ne!(message.as_text(), Some("bad"), "cannot even decode");
        Ok(Self)
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_decoding_is_contained_too() {
    let (manager, mut server) = manager();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let guard = manager.subscribe_with::<Picky>("x", move |item| {
        item.unwrap();
        count.fetch_add(1, Ordering::SeqCst);
    });
    let guard = guard.unwrap();
    server.accept().await.send_all(["bad", "good", "bad", "good"]);
    settle().await;
    // The lost socket's gap is unwrapped, and panics, once the socket is back.
    assert_eq!((calls.load(Ordering::SeqCst), guard.panics()), (2, 2));
}

/// Ends its callback when it is decoded, and panics when it is dropped.
struct Last;

static LAST: Mutex<Option<CallbackGuard>> = Mutex::new(None);

impl FromMessage for Last {
    fn from_message(_: Message) -> Result<Self, DecodeError> {
        drop(LAST.lock().unwrap().take());
        Ok(Self)
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        panic!("an item that nobody wanted");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_an_item_that_came_too_late_is_contained_too() {
    let (manager, mut server) = manager();
    *LAST.lock().unwrap() = Some(manager.subscribe_with::<Last>("x", drop).unwrap());
    server.accept().await.send("m");
    settle().await;
    assert_eq!(manager.metrics().readers, 0);
    assert_eq!(manager.metrics().callback_panics, 1);
}

#[tokio::test(start_paused = true)]
async fn a_callback_may_subscribe_and_unsubscribe_others_and_itself() {
    let (manager, mut server) = manager();
    let log = Log::default();
    let own: Arc<Mutex<Option<CallbackGuard>>> = Arc::default();
    let others: Arc<Mutex<Vec<CallbackGuard>>> = Arc::default();
    let callback = {
        let (manager, own) = (manager.clone(), Arc::clone(&own));
        let (others, log) = (Arc::clone(&others), Arc::clone(&log));
        move |item: Result<Text, StreamError>| match &*words(item) {
            "open" => {
                let guard = manager.subscribe_with("other", writing(&log)).unwrap();
                others.lock().unwrap().push(guard);
            }
            "close" => others.lock().unwrap().clear(),
            "myself" => drop(own.lock().unwrap().take()),
            other => log.lock().unwrap().push(format!("not {other}")),
        }
    };
    *own.lock().unwrap() = Some(manager.subscribe_with("x", callback).unwrap());
    let mut peer = server.accept().await;
    peer.send("open");
    let mut other = server.accept().await;
    other.send("1");
    settle().await;
    assert_eq!(taken(&log), ["1"]);
    peer.send("close");
    other.closed().await;
    peer.send_all(["myself", "never"]);
    peer.closed().await;
    settle().await;
    assert_eq!(taken(&log), [""; 0]);
    assert_eq!((manager.stream_count(), manager.metrics().readers), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn stopping_inside_the_callback_itself_does_not_wait_for_it() {
    let (manager, mut server) = manager();
    let own: Arc<Mutex<Option<CallbackGuard>>> = Arc::default();
    let inside = Arc::clone(&own);
    let callback = move |_: Result<Text, _>| {
        let guard = inside.lock().unwrap().take().unwrap();
        Handle::current().block_on(guard.stop());
    };
    *own.lock().unwrap() = Some(manager.subscribe_with("x", callback).unwrap());
    let mut peer = server.accept().await;
    peer.send_all(["1", "2"]);
    peer.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_blocked_callback_holds_up_nothing_but_itself_and_lags() {
    let (manager, mut server) = manager_with(config().buffer(4));
    let (release, blocked) = mpsc::channel::<()>();
    let (told, telling) = mpsc::channel();
    let stuck = manager.subscribe_with("x", move |item: Result<Text, _>| {
        told.send(words(item)).unwrap();
        blocked.recv().ok();
    });
    let stuck = stuck.unwrap();
    let mut reader = manager.subscribe::<Message>("x").unwrap();
    let peer = server.accept().await;
    // A thread that blocks stops the paused clock: nothing here may wait for time.
    for n in 0..20 {
        peer.send(n.to_string());
        assert_eq!(message(&mut reader).await, n.to_string());
    }
    assert_eq!(telling.recv().unwrap(), "0");
    drop(release);
    settle().await;
    let seen: Vec<_> = telling.try_iter().collect();
    assert_eq!(seen, ["lagged 15", "16", "17", "18", "19"]);
    stuck.stop().await;
}

#[tokio::test(start_paused = true)]
async fn stop_waits_for_the_call_under_way_and_unsubscribe_does_not() {
    let (manager, mut server) = manager();
    let (release, blocked) = mpsc::channel::<()>();
    let (told, telling) = mpsc::channel();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let guard = manager.subscribe_with::<Text>("x", move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        told.send(()).unwrap();
        blocked.recv().ok();
    });
    let guard = guard.unwrap();
    let peer = server.accept().await;
    peer.send_all(["1", "2"]);
    tokio::task::spawn_blocking(move || telling.recv().map(|()| telling)).await.unwrap().unwrap();
    let mut stop = std::pin::pin!(guard.stop());
    assert!(futures::poll!(&mut stop).is_pending());
    drop(release);
    stop.await;
    assert_eq!(calls.load(Ordering::SeqCst), 1, "the second is not begun");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callbacks_share_a_socket_and_each_gets_everything() {
    let (manager, mut server) = manager();
    let logs: Vec<Log> = (0..1000).map(|_| Log::default()).collect();
    let guards: Vec<_> =
        logs.iter().map(|log| manager.subscribe_with("x", writing(log)).unwrap()).collect();
    let mut peer = server.accept().await;
    for n in 0..10 {
        peer.send(n.to_string());
        settle().await;
    }
    let expected: Vec<_> = (0..10).map(|n| n.to_string()).collect();
    assert!(logs.iter().all(|log| taken(log) == expected));
    assert_eq!(manager.metrics().readers, 1000);
    drop(guards);
    peer.closed().await;
    settle().await;
    assert_eq!((manager.metrics().readers, alive_tasks()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_subscribe_refuses_is_refused_and_nothing_is_kept() {
    let (manager, _server) = manager();
    let dropped = Arc::new(AtomicUsize::new(0));
    let captured = Captured(Arc::clone(&dropped), false);
    let refused = manager.subscribe_with::<Text>("two\nlines", move |_| _ = &captured);
    assert!(matches!(refused, Err(SubscribeError::InvalidName(_))));
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    manager.shutdown().await;
    let refused = manager.subscribe_with::<Text>("x", |_| {});
    assert!(matches!(refused, Err(SubscribeError::Shutdown)));
}

#[test]
fn without_a_runtime_a_callback_is_refused_and_the_builders_will_do() {
    let (transport, mut server) = memory::pair();
    let protocol = || Direct::new("ws://test").unwrap();
    let manager = WsManager::builder(protocol()).transport(transport.clone()).build().unwrap();
    let refused = manager.subscribe_with::<Text>("x", |_| {});
    assert!(matches!(refused, Err(SubscribeError::NoRuntime)));
    assert_eq!(manager.stream_count(), 0);

    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let builder = WsManager::builder(protocol()).transport(transport).limiter(Limiter::new());
    let manager = builder.runtime(runtime.handle().clone()).build().unwrap();
    let (told, telling) = mpsc::channel();
    let guard = manager.subscribe_with::<Text>("x", move |item| told.send(words(item)).unwrap());
    let guard = guard.unwrap();
    runtime.block_on(async {
        let peer = server.accept().await;
        peer.send("1");
        let telling = move || telling.recv_timeout(20 * SECOND).map(|word| (word, telling));
        let (word, _telling) = tokio::task::spawn_blocking(telling).await.unwrap().unwrap();
        assert_eq!(word, "1");
    });
    // Outside of any runtime, on another thread.
    thread::spawn(move || drop(guard)).join().unwrap();
    runtime.block_on(async {
        while manager.metrics().readers > 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_runtime_that_is_shut_down_ends_its_callbacks() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let (transport, mut server) = memory::pair();
    let builder = WsManager::builder(Direct::new("ws://test").unwrap()).transport(transport);
    let manager = builder.limiter(Limiter::new()).build().unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (release, blocked) = mpsc::channel::<()>();
    let (told, telling) = mpsc::channel();
    let guards = runtime.block_on(async {
        let captured = Captured(Arc::clone(&dropped), false);
        let idle = manager.subscribe_with::<Text>("x", move |_| _ = &captured).unwrap();
        let captured = Captured(Arc::clone(&dropped), true);
        let busy = manager.subscribe_with::<Text>("y", move |_| {
            let _ = &captured;
            told.send(()).unwrap();
            blocked.recv().ok();
        });
        let peers = [server.accept().await, server.accept().await];
        peers.iter().for_each(|peer| {
            if peer.request().url().path() == "/y" {
                peer.send("1");
            }
        });
        tokio::task::spawn_blocking(move || telling.recv().unwrap()).await.unwrap();
        [idle, busy.unwrap()]
    });
    runtime.shutdown_background();
    drop(release);
    let finished = futures::future::join_all(guards.map(CallbackGuard::stop));
    futures::executor::block_on(finished);
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
    assert_eq!(manager.metrics().readers, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_one_callback_never_overlap_and_none_begins_after_a_stop() {
    let (transport, mut server) = memory::pair();
    let builder = WsManager::builder(Direct::new("ws://test").unwrap()).transport(transport);
    let manager = builder.limiter(Limiter::new()).build().unwrap();
    let inside = Arc::new(AtomicUsize::new(0));
    let calls = Arc::new(AtomicUsize::new(0));
    let guard = {
        let (inside, calls) = (Arc::clone(&inside), Arc::clone(&calls));
        manager.subscribe_with::<Text>("x", move |_| {
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
            thread::yield_now();
            inside.fetch_sub(1, Ordering::SeqCst);
            calls.fetch_add(1, Ordering::SeqCst);
        })
    };
    let guard = guard.unwrap();
    let peer = server.accept().await;
    while calls.load(Ordering::SeqCst) < 5000 {
        peer.send("n");
        tokio::task::yield_now().await;
    }
    assert_eq!(guard.panics(), 0);
    guard.stop().await;
    let stopped_at = calls.load(Ordering::SeqCst);
    peer.send_all(["n"; 100]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!((calls.load(Ordering::SeqCst), inside.load(Ordering::SeqCst)), (stopped_at, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refused_stream_ends_its_callback_with_the_reason() {
    let (manager, mut server) = manager();
    let log: Arc<Mutex<Vec<CloseReason>>> = Arc::default();
    let write = Arc::clone(&log);
    let guard = manager.subscribe_with::<Text>("x", move |item| match item {
        Err(StreamError::Closed(reason)) => write.lock().unwrap().push(reason),
        other => panic!("{other:?}"),
    });
    let guard = guard.unwrap();
    server.answer(404, http::HeaderMap::new()).await;
    settle().await;
    assert!(matches!(log.lock().unwrap()[..], [CloseReason::Fatal(_)]));
    assert!(guard.is_finished());
    guard.stop().await;
}
