//! A machine that slept, a runtime that stood still, and clocks that are set.

use std::cell::Cell;
use std::time::SystemTime;

use tokio::time::{self, Duration, Instant};
use wsmux::protocol::{Direct, Protocol};
use wsmux::test_util::memory::{self, MemoryServer, Peer};
use wsmux::transport::Frame;
use wsmux::{Config, DisconnectReason, Gap, Heartbeat, Limiter, Message, WsManager};

use crate::lines::{Lines, accept, heard};
use crate::{DAY, MINUTE, SECOND, config, gap, settle};

thread_local! {
    /// When the test began, and what its wall clock then said, in seconds since 1970.
    static CLOCK: Cell<Option<(Instant, i64)>> = const { Cell::new(None) };
}

const TODAY: i64 = 20_000 * 86_400;

/// A wall clock that goes with the paused one, unless it is [`set`].
fn wall() -> SystemTime {
    let (start, seconds) = CLOCK.get().unwrap_or_else(|| (Instant::now(), TODAY));
    CLOCK.set(Some((start, seconds)));
    let seconds = Duration::from_secs(seconds.try_into().unwrap());
    SystemTime::UNIX_EPOCH + seconds + start.elapsed()
}

/// Sets the wall clock forward or back: forward is what a sleep looks like.
fn set(by: i64) {
    wall();
    let (start, seconds) = CLOCK.get().unwrap();
    CLOCK.set(Some((start, seconds + by)));
}

fn manager(protocol: impl Protocol, config: Config) -> (WsManager, MemoryServer) {
    crate::status::care_for_lines();
    let (transport, server) = memory::pair();
    let builder = WsManager::builder(protocol).config(config).transport(transport).seed(7);
    (builder.limiter(Limiter::new()).wall_clock(wall).build().unwrap(), server)
}

fn direct(config: Config) -> (WsManager, MemoryServer) {
    manager(Direct::new("ws://test/{name}").unwrap(), config)
}

/// When the next ping comes, counted from `start`.
async fn ping(peer: &mut Peer, start: Instant) -> Duration {
    assert!(matches!(peer.recv().await, Some(Frame::Ping(_))));
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_probed_by_the_first_timer_after_a_sleep_and_has_five_seconds() {
    let (manager, mut server) = direct(Config::default());
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    let start = Instant::now();
    time::sleep(15 * SECOND).await;
    peer.send("x");
    settle().await;
    set(3600);
    assert_eq!(ping(&mut peer, start).await, 20 * SECOND, "not 20 s after the last message");
    peer.closed().await;
    assert_eq!(start.elapsed(), 25 * SECOND);
    assert_eq!(crate::message(&mut stream).await, "x");
    let _peer = server.accept().await;
    let Gap::Reconnected { reason, .. } = gap(&mut stream).await else { panic!() };
    assert_eq!(reason, DisconnectReason::HeartbeatTimeout);
}

#[tokio::test(start_paused = true)]
async fn a_probe_takes_no_longer_than_a_heartbeat_may() {
    let heartbeat = Heartbeat { interval: 20 * SECOND, timeout: 2 * SECOND };
    let (manager, mut server) = direct(Config::default().heartbeat(heartbeat));
    let _stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    let start = Instant::now();
    set(3600);
    peer.closed().await;
    assert_eq!(start.elapsed(), 22 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn what_one_socket_notices_all_are_probed_for() {
    let (manager, mut server) = direct(Config::default());
    let _first = manager.subscribe::<Message>("first").unwrap();
    let mut first = server.accept().await;
    let start = Instant::now();
    time::sleep(12 * SECOND).await;
    let _second = manager.subscribe::<Message>("second").unwrap();
    let mut second = server.accept().await;
    set(3600);
    assert_eq!(ping(&mut first, start).await, 20 * SECOND);
    assert_eq!(ping(&mut second, start).await, 20 * SECOND, "its own timer is 12 s later");
    first.pong();
    second.pong();
    settle().await;
    for peer in [&mut first, &mut second] {
        assert_eq!(heard(peer), [""; 0], "one ping each");
    }
    for peer in [&mut first, &mut second] {
        let next = ping(peer, start).await;
        assert!(next >= 40 * SECOND && next < 40 * SECOND + settle_time(), "{next:?}");
    }
}

fn settle_time() -> Duration {
    10 * crate::MS
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_costs_one_ping_at_most() {
    for (by, extra) in [(0, 0), (5, 0), (-5, 0), (86_400, 1), (-86_400, 0), (-TODAY, 0)] {
        let (manager, mut server) = direct(Config::default());
        let stream = manager.subscribe::<Message>("x").unwrap();
        let mut peer = server.accept().await;
        let start = Instant::now();
        let mut pings = 0;
        for second in 0..600 {
            time::sleep(SECOND).await;
            if second == 300 {
                set(by);
            }
            // It talks, so that no other ping is due.
            peer.send("x");
            settle().await;
            pings += heard(&mut peer).len();
        }
        assert_eq!(pings, extra, "set by {by} s");
        assert!(stream.status().is_open() && stream.info().unwrap().gaps == 0);
        assert!(start.elapsed() > 600 * SECOND);
        CLOCK.set(None);
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_ask_for_pings_gets_none_for_a_clock_that_is_set() {
    let never = Heartbeat { interval: Duration::MAX, timeout: Duration::MAX };
    let (manager, mut server) = direct(Config::default().heartbeat(never));
    let stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    for _ in 0..10 {
        set(86_400);
        time::sleep(DAY / 2).await;
        peer.send("x");
    }
    settle().await;
    assert_eq!(heard(&mut peer), [""; 0]);
    assert!(stream.status().is_open());
}

#[tokio::test(start_paused = true)]
async fn after_a_stall_there_is_one_ping_at_once_and_no_burst() {
    let (manager, mut server) = direct(Config::default());
    let stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    settle().await;
    time::advance(10 * MINUTE).await; // Thirty heartbeats.
    let woken = Instant::now();
    settle().await;
    assert_eq!(heard(&mut peer), ["(ping)"]);
    peer.pong();
    let next = ping(&mut peer, woken).await;
    assert!(next >= 20 * SECOND && next < 20 * SECOND + settle_time(), "{next:?}");
    assert!(stream.status().is_open());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_was_asked_before_a_stall_is_asked_again_before_it_is_given_up() {
    let (manager, mut server) = direct(Config::default());
    let stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    ping(&mut peer, Instant::now()).await;
    time::advance(MINUTE).await; // Longer than it had: but who could have heard it?
    let woken = Instant::now();
    settle().await;
    assert_eq!(heard(&mut peer), ["(ping)"]);
    assert!(stream.status().is_open());
    peer.closed().await;
    assert!(woken.elapsed() <= 5 * SECOND + settle_time());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_may_answer_late_is_not_asked_for_ever() {
    let heartbeat = Heartbeat { interval: SECOND, timeout: MINUTE };
    let (manager, mut server) = direct(Config::default().heartbeat(heartbeat));
    let _stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    let start = Instant::now();
    assert_eq!(ping(&mut peer, start).await, SECOND);
    assert_eq!(peer.recv().await, None);
    assert_eq!(start.elapsed(), SECOND + MINUTE, "its timer was in time");
}

#[tokio::test(start_paused = true)]
async fn after_a_stall_a_session_ticks_once_and_the_sweeper_sweeps_once() {
    let (manager, mut server) = manager(Lines::default(), config().linger(SECOND));
    let stream = manager.subscribe::<Message>("a1").unwrap();
    let swept = manager.subscribe::<Message>("a2").unwrap();
    let mut peer = accept(&mut server).await;
    heard(&mut peer);
    peer.send("@500");
    settle().await;
    drop(swept);
    settle().await;
    time::advance(DAY / 2).await;
    settle().await;
    let mut said = heard(&mut peer);
    said.sort();
    assert_eq!(said, ["-a2", "tick"]);
    assert!(stream.status().is_open() && manager.stream_count() == 1);
}
