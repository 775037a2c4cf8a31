//! Waiting to be allowed to dial: for a turn at the host, for a pause, for a process that has run out
//! of something. It is seen, it is fair, and it is no attempt.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use tokio::time::{self, Instant};
use wsmux::protocol::Direct;
use wsmux::test_util::memory::{self, MemoryServer};
use wsmux::{
    Config, DialRate, DisconnectReason, FindingKind, Limiter, Limits, Message, RetryPolicy, Status,
    Subscription, WsManager,
};

use crate::{MINUTE, MS, SECOND, config, end, manager_with, settle};

/// EMFILE.
const OUT_OF_DESCRIPTORS: i32 = 24;

fn limited(limiter: &Limiter, config: Config) -> (WsManager, MemoryServer) {
    at("ws://venue/{name}", limiter, config)
}

fn at(base: &str, limiter: &Limiter, config: Config) -> (WsManager, MemoryServer) {
    crate::status::care_for_lines();
    let (transport, server) = memory::pair();
    let builder = WsManager::builder(Direct::new(base).unwrap()).config(config).seed(7);
    (builder.transport(transport).limiter(limiter.clone()).build().unwrap(), server)
}

fn waiting(stream: &Subscription<Message>) -> (Option<usize>, Option<Duration>) {
    let Status::Waiting { position, until } = stream.status() else {
        panic!("{}", stream.status())
    };
    (position, until.map(|until| until.saturating_duration_since(Instant::now())))
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_its_turn_at_a_host_says_its_place_and_until_when() {
    let limiter = Limiter::with_rate(DialRate::new(1, 10 * SECOND));
    let (manager, mut server) = limited(&limiter, config());
    let names = ["a", "b", "c"];
    let mut streams = names.map(|name| manager.subscribe::<Message>(name).unwrap());
    let mut peers = vec![server.accept().await];
    time::sleep(SECOND + MS).await;
    assert!(streams[0].status().is_open());
    assert_eq!(waiting(&streams[1]), (Some(1), Some(9 * SECOND - MS)));
    assert_eq!(waiting(&streams[2]), (Some(2), Some(19 * SECOND - MS)));
    let said = streams[2].status().to_string();
    assert_eq!(said, "waiting to dial, as number 2 at the host, not within 19.0s");

    peers.push(server.accept().await);
    time::sleep(SECOND).await;
    assert_eq!(waiting(&streams[2]).0, Some(1), "moved up");
    peers.push(server.accept().await);
    streams[2].ready().await.unwrap();
    let metrics = manager.metrics();
    assert_eq!((metrics.retries, metrics.streams.open), (0, 3), "waiting is no attempt");
    assert_eq!(streams[2].info().unwrap().attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_it_waits_frees_its_place() {
    let limiter = Limiter::with_rate(DialRate::new(1, 10 * SECOND));
    let (manager, mut server) = limited(&limiter, config());
    let first = manager.subscribe::<Message>("first").unwrap();
    let _peer = server.accept().await;
    let leaving: Vec<_> =
        (0..5).map(|i| manager.subscribe::<Message>(format!("{i}")).unwrap()).collect();
    let last = manager.subscribe::<Message>("last").unwrap();
    settle().await;
    assert_eq!(waiting(&last).0, Some(6));
    drop(leaving);
    time::sleep(2 * SECOND).await;
    assert_eq!(waiting(&last).0, Some(1));
    let start = Instant::now();
    let peer = server.accept().await;
    assert_eq!(peer.request().url().path(), "/last");
    assert!(start.elapsed() <= 8 * SECOND);
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn what_changed_during_a_wait_is_what_is_dialled() {
    let limiter = Limiter::new();
    let (manager, mut server) = limited(&limiter, config());
    let first = manager.subscribe::<Message>("x").unwrap();
    let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("30"))]);
    server.answer(429, headers).await;
    settle().await;
    let second = manager.subscribe::<Message>("y").unwrap();
    settle().await;
    assert_eq!(waiting(&second), (Some(1), Some(30 * SECOND - 2 * MS)));
    drop(second);
    let _y = manager.subscribe::<Message>("y").unwrap();
    drop(first);
    let peer = server.accept().await;
    assert_eq!(peer.request().url().path(), "/y");
    settle().await;
    assert!(!server.has_dial(), "nobody dials what is not wanted any more");
}

#[tokio::test(start_paused = true)]
async fn what_an_end_has_earned_is_waited_out_in_sight() {
    let retry = RetryPolicy { min_delay: SECOND, ..RetryPolicy::never() };
    let (manager, mut server) = manager_with(config().retry(retry));
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    server.refuse(io::Error::from(io::ErrorKind::ConnectionRefused)).await;
    end(&mut stream).await;
    let again = manager.subscribe::<Message>("x").unwrap();
    settle().await;
    let (position, until) = waiting(&again);
    assert_eq!(position, None);
    assert!(until.is_some_and(|until| until > 900 * MS && until <= SECOND), "{until:?}");
    server.accept().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_an_older_socket_to_close_says_so() {
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let (manager, mut server) = manager_with(config().limits(limits));
    let first = manager.subscribe::<Message>("a").unwrap();
    let mut peer = server.accept().await;
    peer.stall(true); // The close handshake takes its time.
    settle().await;
    drop(first);
    let second = manager.subscribe::<Message>("b").unwrap();
    settle().await;
    assert_eq!(waiting(&second), (None, None));
    peer.stall(false);
    peer.closed().await;
    let _peer = server.accept().await;
    settle().await;
    assert!(second.status().is_open());
}

/// The wall clock of the tests of dates.
fn year_2000() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_800)
}

#[tokio::test(start_paused = true)]
async fn a_host_is_left_alone_by_all_for_as_long_as_it_asks_whatever_the_form() {
    let ceiling = 10 * MINUTE;
    let policy = Duration::from_secs(30);
    for (status, retry_after, expected) in [
        (429, Some("60"), MINUTE),
        (418, Some("60"), MINUTE),
        (429, Some("Sat, 01 Jan 2000 00:02:00 GMT"), 2 * MINUTE),
        (429, Some("Fri, 01 Jan 1999 00:02:00 GMT"), Duration::ZERO),
        (429, Some("Fri, 31 Dec 9999 23:59:59 GMT"), ceiling),
        (429, Some("99999999999999999999999"), ceiling),
        (429, None, policy),
        (429, Some("-1"), policy),
        (429, Some("soon"), policy),
        (429, Some(""), policy),
    ] {
        let limiter = Limiter::new();
        let built = |base: &str| {
            let (transport, server) = memory::pair();
            let builder = WsManager::builder(Direct::new(base).unwrap()).config(config());
            let builder = builder.transport(transport).limiter(limiter.clone());
            (builder.wall_clock(year_2000).build().unwrap(), server)
        };
        let (one, mut one_server) = built("ws://venue/one");
        let (two, mut two_server) = built("ws://venue/two");
        let refused = one.subscribe::<Message>("a").unwrap();
        let headers = retry_after.map(|v| (RETRY_AFTER, HeaderValue::from_static(v)));
        one_server.answer(status, headers.into_iter().collect()).await;
        let start = Instant::now();
        settle().await;
        let others =
            [one.subscribe::<Message>("b").unwrap(), two.subscribe::<Message>("a").unwrap()];
        settle().await;
        for (other, place) in others.iter().zip([1, 2]) {
            if expected.is_zero() {
                break;
            }
            assert_eq!(waiting(other), (Some(place), Some(expected - start.elapsed())));
        }
        let _peers = (one_server.accept().await, two_server.accept().await);
        let waited = start.elapsed();
        let expected = expected.max(2 * MS); // They come later.
        assert!(waited >= expected - MS && waited <= expected + MS, "{retry_after:?}: {waited:?}");
        let _peer = one_server.accept().await;
        settle().await;
        assert!(refused.status().is_open());
        assert_eq!(one.metrics().retries, 1, "who waits makes no attempt");
        assert_eq!(two.metrics().retries, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_without_file_descriptors_does_not_spin_and_gives_up_nothing() {
    for code in [OUT_OF_DESCRIPTORS, 23, 99, 105] {
        if code > 24 && !cfg!(target_os = "linux") {
            continue;
        }
        let limiter = Limiter::new();
        let config =
            config().retry(RetryPolicy { max_attempts: Some(1), ..RetryPolicy::default() });
        let (one, mut one_server) = limited(&limiter, config.clone());
        let (two, mut two_server) = at("ws://elsewhere/{name}", &limiter, config);
        let open = one.subscribe::<Message>("open").unwrap();
        let peer = one_server.accept().await;
        settle().await;

        let stream = one.subscribe::<Message>("a").unwrap();
        let start = Instant::now();
        let mut dials = 0;
        while start.elapsed() < MINUTE {
            one_server.refuse(io::Error::from_raw_os_error(code)).await;
            dials += 1;
            settle().await;
            let other = two.subscribe::<Message>("b").unwrap();
            settle().await;
            let (_, until) = waiting(&other);
            assert!(until.is_some_and(|until| until <= SECOND), "{until:?}");
            assert!(!two_server.has_dial(), "another host in another manager waits as well");
            assert!(matches!(waiting(&stream), (Some(1), Some(_))));
        }
        assert!((60..=61).contains(&dials), "{dials} dials in a minute");
        let error = stream.info().unwrap().last_error.unwrap();
        assert!(matches!(error.reason(), DisconnectReason::Io(_)), "{error}");
        let metrics = one.metrics();
        assert_eq!((metrics.exhausted, metrics.retries), (dials, 0), "no attempt is used up");
        let findings = one.health().findings;
        let found = findings.iter().find(|f| f.kind == FindingKind::Exhausted).expect("a finding");
        assert!(found.to_string().contains("ulimit -n"), "{found}");

        let second = two.subscribe::<Message>("b").unwrap();
        let _peers = (one_server.accept().await, two_server.accept().await);
        settle().await;
        assert!(stream.status().is_open() && second.status().is_open() && open.status().is_open());
        assert!(peer.request().url().path().ends_with("open"), "the open socket was left alone");
        assert_eq!(one.metrics().disconnects, 0);
    }
}

/// What a server saw of a herd: when each dial came, and when it was let in.
#[derive(Default)]
struct Seen {
    came: Vec<Instant>,
    let_in: Vec<Instant>,
}

/// A server that refuses while it is down, and lets everybody in otherwise, until `losing` says that
/// all are to be lost.
async fn serve(mut server: MemoryServer, down: (Instant, Instant), seen: Arc<Mutex<Seen>>) {
    let mut peers = Vec::new();
    let mut is_lost = false;
    loop {
        let dial = tokio::select! {
            biased;
            () = time::sleep_until(down.0), if !is_lost => {
                is_lost = true;
                peers.clear();
                continue;
            }
            dial = server.dial() => dial,
        };
        let now = Instant::now();
        seen.lock().unwrap().came.push(now);
        if now >= down.0 && now < down.1 {
            dial.refuse(io::Error::from(io::ErrorKind::ConnectionRefused));
        } else {
            seen.lock().unwrap().let_in.push(now);
            peers.push(dial.accept());
        }
    }
}

/// 1,000 sockets, of one manager or of two that share a limiter, lose their server for a minute.
async fn herd(managers: usize, rate: DialRate) {
    const SOCKETS: usize = 1000;
    let limiter = Limiter::with_rate(rate);
    let limits = Limits { max_connections: SOCKETS, ..Limits::default() };
    let config = config().limits(limits).retry(RetryPolicy::forever());
    let seen = Arc::<Mutex<Seen>>::default();
    let lost_at = Instant::now() + 180 * MINUTE;
    let down = (lost_at, lost_at + MINUTE);
    let mut streams = Vec::new();
    for m in 0..managers {
        let (manager, server) = limited(&limiter, config.clone());
        tokio::spawn(serve(server, down, Arc::clone(&seen)));
        let names = (0..SOCKETS / managers).map(|i| format!("{m}-{i}"));
        streams.extend(names.map(|name| manager.subscribe::<Message>(name).unwrap()));
    }
    time::sleep_until(lost_at - SECOND).await;
    assert!(streams.iter().all(|stream| stream.status().is_open()));
    *seen.lock().unwrap() = Seen::default();

    time::sleep_until(down.1).await;
    for stream in &mut streams {
        stream.ready().await.unwrap();
    }
    let Seen { came, let_in } = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(let_in.len(), SOCKETS, "each came back once");
    let worst = |window: Duration| {
        let within = |i: usize| came[i..].partition_point(|at| *at - came[i] < window);
        (0..came.len()).map(within).max().unwrap()
    };
    let (worst_second, worst_window) = (worst(SECOND), worst(rate.window()));
    let bound = rate.dials() as usize;
    let took = *let_in.last().unwrap() - came[0];
    // As soon as so many dials are allowed, those included that were refused meanwhile.
    let windows = u32::try_from((came.len() - 1) / bound).unwrap();
    let soonest = (rate.window() * windows).max(MINUTE);
    println!(
        "herd of {SOCKETS} over {managers} manager(s), at most {bound} in {:?}: {} dials, {worst_second} \
         in the worst second, {worst_window} in the worst window; all back {took:.1?} after the loss, \
         {:.1?} later than allowed",
        rate.window(),
        came.len(),
        took.saturating_sub(soonest),
    );
    assert!(worst_window <= bound, "{worst_window} dials");
    assert!(worst_second <= bound, "{worst_second} dials");
    let is_the_limiters = rate.window() * u32::try_from(SOCKETS / bound).unwrap() > 30 * SECOND;
    // Where it lets all of them in sooner than their backoff does, that is what they wait for.
    let slack = if is_the_limiters { SECOND } else { 31 * SECOND };
    assert!(took <= soonest + slack, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_herd_comes_back_at_the_rate_of_the_limiter_and_no_later() {
    for rate in [DialRate::new(20, SECOND), DialRate::default(), DialRate::COINBASE] {
        herd(1, rate).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_herd_of_two_managers_that_share_a_limiter_is_one_herd() {
    for rate in [DialRate::new(20, SECOND), DialRate::BINANCE, DialRate::KRAKEN] {
        herd(2, rate).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_nobody_answers_keeps_others_waiting_only_as_long_as_it_may_take() {
    let limits = Limits { handshakes_per_host: 1, ..Limits::default() };
    let (manager, mut server) = manager_with(config().limits(limits));
    let _first = manager.subscribe::<Message>("a").unwrap();
    let second = manager.subscribe::<Message>("b").unwrap();
    let start = Instant::now();
    let _unanswered = server.dial().await;
    settle().await;
    assert_eq!(waiting(&second), (Some(1), None), "it hangs on the other");
    server.accept().await;
    assert_eq!(start.elapsed(), 10 * SECOND);
}
