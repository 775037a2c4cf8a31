//! A manager whose connections run on a thread of its own. Real time: its clock is its own too.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use futures::StreamExt as _;
use futures::executor::{block_on, block_on_stream};
use wsmux::protocol::Direct;
use wsmux::test_util::memory::{self, MemoryServer};
use wsmux::{Config, Limiter, Message, SendError, Status, StreamError, SubscribeError, WsManager};

/// The threads are counted by name, so one test at a time has some.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn dedicated(config: Config) -> (WsManager, MemoryServer) {
    let (transport, server) = memory::pair();
    let builder = WsManager::builder(Direct::new("ws://test/{name}").unwrap()).config(config);
    let builder = builder.transport(transport).limiter(Limiter::new()).dedicated_thread();
    (builder.build().unwrap(), server)
}

/// Threads of this process that are named like the managers' own.
fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "wsmux").count()
}

/// Waits until there are `n` of them: a thread takes its name, and ends, by itself.
fn until_threads(n: usize) {
    while threads() != n {
        thread::yield_now();
    }
}

#[test]
fn a_thread_of_its_own_needs_no_runtime_and_ends_with_the_last_owner() {
    let _alone = alone();
    let (manager, mut server) = dedicated(Config::default());
    until_threads(1);
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = block_on(server.accept());
    block_on(stream.ready()).unwrap();
    peer.send("hello");
    assert_eq!(block_on(stream.next()).unwrap().unwrap().as_text(), Some("hello"));
    block_on(manager.send("x", "there")).unwrap();
    assert!(block_on(peer.recv()).is_some());
    drop(manager);
    peer.send("still here");
    assert_eq!(block_on(stream.next()).unwrap().unwrap().as_text(), Some("still here"));
    assert_eq!(threads(), 1, "a subscription is an owner too");
    drop(stream);
    block_on(peer.closed());
    until_threads(0);
}

#[test]
fn a_manager_that_never_opened_anything_leaves_no_thread() {
    let _alone = alone();
    let managers: Vec<_> = (0..20).map(|_| dedicated(Config::default())).collect();
    until_threads(20);
    drop(managers);
    until_threads(0);
}

#[test]
fn many_managers_have_a_thread_each_and_leave_none() {
    let _alone = alone();
    let mut all = Vec::new();
    for _ in 0..10 {
        let (manager, mut server) = dedicated(Config::default());
        let streams: Vec<_> =
            ["a", "b"].iter().map(|name| manager.subscribe::<Message>(name).unwrap()).collect();
        let peers = [block_on(server.accept()), block_on(server.accept())];
        all.push((streams, peers, server));
    }
    until_threads(10);
    for (streams, peers, _) in &mut all {
        peers.iter().for_each(|peer| peer.send("tick"));
        streams.iter_mut().for_each(|stream| assert!(block_on(stream.next()).unwrap().is_ok()));
    }
    drop(all);
    until_threads(0);
}

#[test]
fn the_last_owner_may_go_inside_a_runtime_and_on_the_thread_itself() {
    let _alone = alone();
    for _ in 0..20 {
        let (manager, mut server) = dedicated(Config::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let _stream = manager.subscribe::<Message>("x").unwrap();
            server.accept().await;
            drop(manager);
        });
        let (manager, mut server) = dedicated(Config::default());
        let (gone, is_gone) = mpsc::channel();
        let mut owner = Some(manager.clone());
        let guard = manager.subscribe_with::<Message>("x", move |_| {
            drop(owner.take());
            gone.send(()).unwrap();
        });
        drop(manager);
        let peer = block_on(server.accept());
        peer.send("last words");
        is_gone.recv().unwrap();
        drop(guard); // Its worker has the last subscription, on the thread itself.
    }
    until_threads(0);
}

#[test]
fn a_shutdown_waits_in_no_runtime_for_sockets_that_close() {
    let _alone = alone();
    let (manager, mut server) = dedicated(Config::default());
    let stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = block_on(server.accept());
    let closed = thread::spawn(move || block_on(peer.closed()));
    block_on(manager.shutdown());
    closed.join().unwrap();
    let items: Vec<_> = block_on_stream(stream).collect();
    assert!(matches!(items[..], [Err(StreamError::Closed(_))]), "{items:?}");
    assert!(matches!(manager.subscribe::<Message>("y"), Err(SubscribeError::Shutdown)));
    assert_eq!(block_on(manager.send("x", "late")), Err(SendError::Closed));
    drop(manager);
    until_threads(0);
}

#[test]
fn of_a_runtime_and_a_thread_the_one_said_last_holds() {
    let _alone = alone();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let builder = || WsManager::builder(Direct::new("ws://test/{name}").unwrap());
    let manager = builder().dedicated_thread().runtime(runtime.handle().clone()).build().unwrap();
    let other = builder().runtime(runtime.handle().clone()).dedicated_thread().build().unwrap();
    until_threads(1);
    drop(other);
    until_threads(0);
    drop(manager);
}

#[test]
fn a_lingering_stream_is_swept_there_and_the_thread_outlives_no_linger() {
    let _alone = alone();
    let linger = std::time::Duration::from_millis(20);
    let (manager, mut server) = dedicated(Config::default().linger(linger));
    let stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = block_on(server.accept());
    let mut status = stream.status_changes();
    drop(stream);
    block_on(peer.closed());
    let last = block_on(async {
        let mut last = None;
        while let Some(next) = status.next().await {
            last = Some(next);
        }
        last
    });
    assert!(matches!(last, Some(Status::Closed(_))), "{last:?}");
    drop(manager);
    until_threads(0);
}
