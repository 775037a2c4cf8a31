//! Losing sockets and getting them back.

use futures::StreamExt as _;
use http::HeaderMap;
use http::header::{HeaderValue, RETRY_AFTER};
use tokio::time::{self, Instant};
use wsmux::protocol::Direct;
use wsmux::transport::TransportError;
use wsmux::{
    CloseReason, DisconnectReason, FirstRetry, Gap, Limiter, Message, RetryPolicy, Status,
    WsManager,
};

use crate::{MINUTE, MS, SECOND, config, end, gap, manager, manager_with, message, settle};

fn refused() -> TransportError {
    std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into()
}

#[tokio::test(start_paused = true)]
async fn a_lost_socket_is_replaced_and_the_gap_is_in_its_place() {
    let (manager, mut server) = manager();
    let mut stream = manager.subscribe::<Message>("x").unwrap();

    let peer = server.accept().await;
    peer.send("1");
    settle().await;
    let heard = Instant::now();
    peer.send("2");
    drop(peer);
    let peer = server.accept().await;
    let down = heard.elapsed();
    peer.send("3");

    assert_eq!(message(&mut stream).await, "1");
    assert_eq!(message(&mut stream).await, "2");
    let reason = DisconnectReason::Ended;
    assert_eq!(gap(&mut stream).await, Gap::Reconnected { down_for: down, reason });
    assert_eq!(message(&mut stream).await, "3");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_joins_while_the_socket_is_down_is_told_of_no_gap() {
    let (manager, mut server) = manager();
    let mut before = manager.subscribe::<Message>("x").unwrap();
    drop(server.accept().await);
    settle().await;
    assert!(matches!(before.status(), Status::BackingOff { .. }));
    let mut after = manager.subscribe::<Message>("x").unwrap();
    let peer = server.accept().await;
    peer.send("1");
    assert!(matches!(gap(&mut before).await, Gap::Reconnected { .. }));
    assert_eq!(message(&mut before).await, "1");
    assert_eq!(message(&mut after).await, "1");
}

#[tokio::test(start_paused = true)]
async fn dials_that_fail_are_no_gaps() {
    let (manager, mut server) = manager();
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    server.refuse(refused()).await;
    let peer = server.accept().await;
    peer.send("1");
    settle().await;
    drop(peer);
    for _ in 0..3 {
        server.refuse(refused()).await;
    }
    server.accept().await.send("2");
    assert_eq!(message(&mut stream).await, "1");
    let Gap::Reconnected { reason, .. } = gap(&mut stream).await else { panic!() };
    assert_eq!(reason, DisconnectReason::Ended, "the loss, not the dials after it");
    assert_eq!(message(&mut stream).await, "2");
}

#[tokio::test(start_paused = true)]
async fn retries_run_out_after_ten_and_say_why() {
    let (manager, mut server) = manager();
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    let mut other = manager.subscribe::<Message>("x").unwrap();
    for _ in 0..11 {
        server.refuse(refused()).await;
    }
    for stream in [&mut stream, &mut other] {
        let CloseReason::RetriesExhausted { attempts, last } = end(stream).await else { panic!() };
        assert_eq!(attempts, 11, "the first dial and ten retries");
        assert_eq!(*last.reason(), DisconnectReason::Io(std::io::ErrorKind::ConnectionRefused));
    }
    time::sleep(60 * MINUTE).await;
    assert!(!server.has_dial());
    assert_eq!(manager.stream_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn subscribing_again_after_the_end_starts_a_fresh_count() {
    let retry = RetryPolicy { max_attempts: Some(1), ..RetryPolicy::default() };
    let (manager, mut server) = manager_with(config().retry(retry));
    for _ in 0..3 {
        let mut stream = manager.subscribe::<Message>("x").unwrap();
        for _ in 0..2 {
            server.refuse(refused()).await;
        }
        let reason = end(&mut stream).await;
        assert!(matches!(reason, CloseReason::RetriesExhausted { attempts: 2, .. }), "{reason:?}");
    }
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    server.accept().await.send("up");
    assert_eq!(message(&mut stream).await, "up");
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_subscribes_again_and_again_dials_at_a_bounded_rate() {
    let (manager, mut server) = manager();
    let start = Instant::now();
    let looping = tokio::spawn(async move {
        loop {
            let mut stream = manager.subscribe::<Message>("x").unwrap();
            while let Some(item) = stream.next().await {
                assert!(item.is_err());
            }
        }
    });
    let mut dials = Vec::new();
    while start.elapsed() < 10 * MINUTE {
        server.answer(401, HeaderMap::new()).await;
        dials.push(Instant::now());
    }
    looping.abort();
    let waits: Vec<_> = dials.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits[0] >= 100 * MS, "{waits:?}");
    assert!(waits.windows(2).all(|pair| pair[1] >= pair[0]), "{waits:?}");
    assert_eq!(*waits.last().unwrap(), 30 * SECOND, "{waits:?}");
    assert!(dials.len() < 40, "{} dials in ten minutes", dials.len());
}

#[tokio::test(start_paused = true)]
async fn accept_and_close_escalates_because_opening_resets_nothing() {
    let (manager, mut server) = manager_with(config().retry(RetryPolicy::forever()));
    let _stream = manager.subscribe::<Message>("x").unwrap();
    let mut delays = Vec::new();
    for _ in 0..40 {
        let lost = Instant::now();
        let peer = server.accept().await;
        delays.push(lost.elapsed());
        peer.close(1000, "bye");
        drop(peer);
    }
    assert!(delays.iter().skip(1).all(|delay| *delay >= 100 * MS), "{delays:?}");
    let late = delays[10..].iter().sum::<time::Duration>() / 30;
    assert!(late > 10 * SECOND && late < 20 * SECOND, "half of 30 s on average: {late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stable_connection_starts_afresh_and_may_come_back_at_once() {
    let retry = RetryPolicy { first: FirstRetry::Immediate, ..RetryPolicy::default() };
    let (manager, mut server) = manager_with(config().retry(retry));
    let stream = manager.subscribe::<Message>("x").unwrap();
    for _ in 0..30 {
        let peer = server.accept().await;
        time::sleep(10 * SECOND).await;
        let lost = Instant::now();
        drop(peer);
        let peer = server.accept().await;
        assert_eq!(lost.elapsed(), time::Duration::ZERO);
        drop(peer); // A flap: this one waits.
        let lost = Instant::now();
        let dial = server.dial().await;
        assert!(lost.elapsed() >= 100 * MS);
        drop(dial.accept());
    }
    assert!(!stream.status().is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_fatal_error_is_not_retried() {
    for status in [200, 301, 404] {
        let (manager, mut server) = manager();
        let mut stream = manager.subscribe::<Message>("x").unwrap();
        server.answer(status, HeaderMap::new()).await;
        let CloseReason::Fatal(e) = end(&mut stream).await else { panic!() };
        assert_eq!(*e.reason(), DisconnectReason::Http { status });
        time::sleep(60 * MINUTE).await;
        assert!(!server.has_dial());
    }
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_end_the_stream() {
    for status in [401, 403] {
        let (manager, mut server) = manager();
        let mut stream = manager.subscribe::<Message>("x").unwrap();
        server.answer(status, HeaderMap::new()).await;
        assert!(matches!(end(&mut stream).await, CloseReason::Unauthorized(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_heeded() {
    let (manager, mut server) = manager();
    let _stream = manager.subscribe::<Message>("x").unwrap();
    let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("77"))]);
    server.answer(503, headers).await;
    let start = Instant::now();
    server.accept().await;
    let waited = start.elapsed();
    assert!(waited > 77 * SECOND && waited <= 78 * SECOND, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_comes_back_before_the_servers_time_and_not_all_at_it() {
    let mut closed = Vec::new();
    let mut refused = Vec::new();
    for seed in 0..200 {
        let (transport, mut server) = wsmux::test_util::memory::pair();
        let builder = WsManager::builder(Direct::new("ws://test/").unwrap()).config(config());
        let builder = builder.transport(transport).limiter(Limiter::new());
        let manager = builder.seed(seed).build().unwrap();
        let _stream = manager.subscribe::<Message>("x").unwrap();
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]);
        server.answer(503, headers).await;
        let start = Instant::now();
        let mut peer = server.accept().await;
        refused.push(start.elapsed());
        time::sleep(MINUTE).await; // From here on, it counts its failures anew.
        peer.close(1012, "restart");
        peer.closed().await;
        let start = Instant::now();
        server.accept().await;
        closed.push(start.elapsed());
    }
    for (floor, waits) in [(7 * SECOND, refused), (5 * SECOND, closed)] {
        let mut tenths = [0; 10];
        for wait in waits {
            let late = wait.checked_sub(floor).expect("nobody comes before");
            assert!(late >= 90 * MS && late <= SECOND + 2 * MS, "{floor:?}: {late:?}");
            tenths[(late.as_millis() / 100).min(9) as usize] += 1;
        }
        assert!(tenths[1..].iter().all(|n| (5..60).contains(n)), "{floor:?}: {tenths:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_pause_the_host_in_every_manager() {
    let limiter = Limiter::new();
    let other = |base: &str| {
        let (transport, server) = wsmux::test_util::memory::pair();
        crate::status::care_for_lines();
        let builder = WsManager::builder(Direct::new(base).unwrap()).config(config());
        (builder.transport(transport).limiter(limiter.clone()).build().unwrap(), server)
    };
    let (first, mut first_server) = other("ws://venue/a");
    let (second, mut second_server) = other("ws://venue/b");
    let (third, mut third_server) = other("ws://elsewhere/");
    let _x = first.subscribe::<Message>("x").unwrap();
    let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("60"))]);
    first_server.answer(429, headers).await;
    settle().await;

    let start = Instant::now();
    let _y = second.subscribe::<Message>("y").unwrap();
    let _z = third.subscribe::<Message>("z").unwrap();
    third_server.accept().await;
    assert_eq!(start.elapsed(), time::Duration::ZERO, "another host");
    second_server.accept().await;
    assert_eq!(start.elapsed(), 60 * SECOND - MS);
    first_server.accept().await;
    assert!(start.elapsed() > 60 * SECOND && start.elapsed() <= 61 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn connections_of_one_manager_do_not_retry_in_step() {
    let (manager, mut server) = manager();
    let names: Vec<_> = (0..50).map(|i| format!("s{i}")).collect();
    let _streams: Vec<_> =
        names.iter().map(|name| manager.subscribe::<Message>(name).unwrap()).collect();
    let mut peers = Vec::new();
    for _ in &names {
        peers.push(server.accept().await);
    }
    settle().await;
    let lost = Instant::now();
    drop(peers);
    let mut delays = Vec::new();
    for _ in &names {
        delays.push(server.dial().await.request().url().path().len());
        delays.push(lost.elapsed().as_millis() as usize);
    }
    let distinct: std::collections::HashSet<_> = delays.iter().skip(1).step_by(2).collect();
    assert!(distinct.len() > 25, "{distinct:?}");
}

#[tokio::test(start_paused = true)]
async fn the_connect_deadline_holds_for_a_dial_that_hangs() {
    let (manager, mut server) = manager();
    let stream = manager.subscribe::<Message>("x").unwrap();
    let start = Instant::now();
    let mut dial = server.dial().await;
    dial.given_up().await;
    assert_eq!(start.elapsed(), 10 * SECOND);
    settle().await;
    let error = stream.info().unwrap().last_error.unwrap();
    assert_eq!(*error.reason(), DisconnectReason::ConnectTimeout);
}

#[tokio::test(start_paused = true)]
async fn close_codes_are_reasons_in_the_gap() {
    let (manager, mut server) = manager();
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    let peer = server.accept().await;
    peer.send("1");
    peer.close(1012, "restart\r\n");
    settle().await;
    drop(peer);
    let start = Instant::now();
    server.accept().await.send("2");
    assert!(start.elapsed() >= 5 * SECOND - 2 * MS, "a server that restarts is left alone");
    assert_eq!(message(&mut stream).await, "1");
    let Gap::Reconnected { reason, .. } = gap(&mut stream).await else { panic!() };
    assert_eq!(reason, DisconnectReason::Closed { code: Some(1012), reason: "restart".into() });
    assert_eq!(message(&mut stream).await, "2");
}

#[tokio::test(start_paused = true)]
async fn never_means_the_first_loss_ends_the_stream() {
    let (manager, mut server) = manager_with(config().retry(RetryPolicy::never()));
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    let peer = server.accept().await;
    peer.send("1");
    drop(peer);
    assert_eq!(message(&mut stream).await, "1");
    let reason = end(&mut stream).await;
    assert!(matches!(reason, CloseReason::RetriesExhausted { attempts: 1, .. }), "{reason:?}");
}

#[tokio::test(start_paused = true)]
async fn a_loss_that_arrives_together_with_data_is_noticed_at_once() {
    let (manager, mut server) = manager();
    let _stream = manager.subscribe::<Message>("x").unwrap();
    let peer = server.accept().await;
    settle().await;
    let lost = Instant::now();
    peer.send("last");
    drop(peer);
    server.accept().await;
    assert!(lost.elapsed() <= SECOND, "{:?}", lost.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_seated_on_a_connection_that_has_failed_for_good() {
    let (manager, mut server) = manager();
    let mut first = manager.subscribe::<Message>("x").unwrap();
    server.answer(404, HeaderMap::new()).await;
    end(&mut first).await;
    let mut second = manager.subscribe::<Message>("x").unwrap();
    assert!(!second.status().is_closed());
    server.accept().await.send("fresh");
    assert_eq!(message(&mut second).await, "fresh");
}
