//! Dials that are not answered by a WebSocket.

use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use tokio::time::Instant;
use wsmux::test_util::{Answer, MockServer};
use wsmux::{CloseReason, Config, DisconnectReason, Status};

use crate::{
    DIALS, MS, Net, PATH, SECOND, builder, config, direct, end, exhausted, fatal, message, within,
};

/// What a stream ends for whose every dial is answered so, and after how many dials.
async fn fate_with(config: Config, answer: Answer) -> (CloseReason, usize) {
    let net = Net::with(config).await;
    net.server.set_answer(PATH, answer);
    let mut stream = net.subscribe();
    let reason = end(&mut stream).await;
    let dials = net.server.dials();
    drop(stream);
    net.leaves_nothing().await;
    (reason, dials)
}

async fn fate(answer: Answer) -> (CloseReason, usize) {
    fate_with(config(), answer).await
}

/// The reason that a stream gave for its one failed dial; the next one opened it.
async fn recovered_from(config: Config, answer: Answer) -> DisconnectReason {
    let net = Net::with(config).await;
    net.server.next_dials([answer]);
    let mut stream = net.subscribe();
    let peer = net.accept().await;
    assert!(peer.send("up").await);
    assert_eq!(message(&mut stream).await, "up".into(), "a failed dial is no gap");
    assert_eq!((net.server.dials(), net.server.max_sockets_on(PATH)), (2, 1));
    let reason = stream.info().unwrap().last_error.unwrap().reason().clone();
    drop(stream);
    net.leaves_nothing().await;
    reason
}

#[tokio::test]
async fn a_status_that_may_pass_is_retried_until_the_policy_gives_up() {
    for status in [408, 418, 425, 429, 500, 502, 503] {
        let (reason, dials) = fate(Answer::status(status)).await;
        assert_eq!(*exhausted(&reason), DisconnectReason::Http { status });
        assert_eq!(dials, DIALS, "{status}");
        let reason = recovered_from(config(), Answer::status(status)).await;
        assert_eq!(reason, DisconnectReason::Http { status });
    }
}

#[tokio::test]
async fn a_status_that_will_not_pass_ends_the_stream_at_once() {
    for status in [200, 301, 400, 404] {
        let answer = Answer::status(status).with_header("location", "/elsewhere");
        let (reason, dials) = fate(answer).await;
        assert_eq!((fatal(&reason), dials), (&DisconnectReason::Http { status }, 1));
    }
}

#[tokio::test]
async fn refused_credentials_end_the_stream_at_once() {
    for status in [401, 403] {
        let (reason, dials) = fate(Answer::status(status)).await;
        let CloseReason::Unauthorized(e) = reason else { panic!("{reason:?}") };
        assert_eq!((e.reason(), dials), (&DisconnectReason::Http { status }, 1));
    }
}

/// How long a client waits that is answered so, by the clock of 1970.
async fn wait_after(status: u16, retry_after: &str) -> Duration {
    let server = MockServer::start().await.unwrap();
    let builder = builder(direct(&server), config()).wall_clock(|| SystemTime::UNIX_EPOCH);
    let net = Net::of(server, builder);
    net.server.set_answer(PATH, Answer::status(status).with_header("retry-after", retry_after));
    let stream = net.subscribe();
    let mut statuses = stream.status_changes();
    let delay = loop {
        if let Status::BackingOff { delay, .. } = within(statuses.next()).await.unwrap() {
            break delay;
        }
    };
    drop((statuses, stream));
    net.leaves_nothing().await;
    delay
}

#[tokio::test]
async fn retry_after_is_a_number_of_seconds_or_a_date_and_bounded() {
    for status in [429, 503] {
        for (retry_after, seconds) in [
            ("7", 7),
            ("Thu, 01 Jan 1970 00:00:09 GMT", 9),
            ("86400", 600),
            ("99999999999999999999999", 600),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 600),
        ] {
            let wait = wait_after(status, retry_after).await;
            let jitter = wait.checked_sub(seconds * SECOND).expect("heeded");
            assert!((MS..=2 * MS).contains(&jitter), "{status}, {retry_after}: {wait:?}");
        }
        for nothing in ["0", "-7", "soon", "Thu, 01 Jan 1970 00:00:00 GMT", ""] {
            // A 429 that says nothing of use asks for the policy's longest delay.
            let says_none = status == 429 && matches!(nothing, "-7" | "soon" | "");
            let floor = if says_none { 10 * MS } else { Duration::ZERO };
            let wait = wait_after(status, nothing).await;
            let jitter = wait.checked_sub(floor).expect("heeded");
            assert!((MS..=2 * MS).contains(&jitter), "{status}, {nothing:?}: {wait:?}");
        }
    }
}

#[tokio::test]
async fn a_429_keeps_all_streams_off_the_host_for_as_long_as_it_says() {
    let net = Net::start().await;
    net.server.next_dials([Answer::status(429).with_header("retry-after", "1")]);
    let mut first = net.subscribe();
    let mut statuses = first.status_changes();
    while !matches!(within(statuses.next()).await, Some(Status::BackingOff { .. })) {}
    let start = Instant::now();
    let mut second = net.manager.subscribe::<wsmux::Message>("y").unwrap();
    within(second.ready()).await.unwrap();
    within(first.ready()).await.unwrap();
    assert!(start.elapsed() > 900 * MS, "{:?}", start.elapsed());
    assert_eq!(net.server.dials(), 3);
    drop((first, second, statuses));
    net.leaves_nothing().await;
}

#[tokio::test]
async fn a_dial_that_is_reset_or_refused_is_retried() {
    for answer in [fate(Answer::Refuse).await.0, {
        let net = Net::start().await;
        net.server.next_dials(vec![Answer::Refuse; DIALS]);
        let reason = end(&mut net.subscribe()).await;
        net.leaves_nothing().await;
        reason
    }] {
        assert!(matches!(exhausted(&answer), DisconnectReason::Io(_)), "{answer:?}");
    }
    let reason = recovered_from(config(), Answer::Refuse).await;
    assert!(matches!(reason, DisconnectReason::Io(_)), "{reason:?}");

    let net = Net::start().await;
    net.server.stop_listening().await;
    let mut stream = net.subscribe();
    let reason = end(&mut stream).await;
    assert_eq!(*exhausted(&reason), DisconnectReason::Io(ErrorKind::ConnectionRefused));
    net.server.resume().await.unwrap();
    let again = net.subscribe();
    net.accept().await;
    drop((stream, again));
    net.leaves_nothing().await;
}

#[tokio::test]
async fn a_handshake_that_hangs_is_given_up_at_the_connect_timeout() {
    let config = config().connect_timeout(50 * MS);
    let start = Instant::now();
    let (reason, dials) = fate_with(config.clone(), Answer::Hang).await;
    assert_eq!((exhausted(&reason), dials), (&DisconnectReason::ConnectTimeout, DIALS));
    assert!(start.elapsed() >= 4 * 50 * MS);
    let config = config.connect_timeout(SECOND);
    let reason = recovered_from(config, Answer::Hang).await;
    assert_eq!(reason, DisconnectReason::ConnectTimeout);
}

#[tokio::test]
async fn a_dialler_that_nobody_waits_for_any_more_lets_go_of_a_hanging_handshake() {
    let net = Net::start().await;
    net.server.set_answer(PATH, Answer::Hang);
    let stream = net.subscribe();
    within(net.server.until_dials(1)).await;
    drop(stream);
    net.leaves_nothing().await;
}

#[tokio::test]
async fn a_handshake_that_drips_is_given_up_at_the_timeout_or_as_an_attack() {
    let slow = Answer::Drip { every: 40 * MS };
    let (reason, dials) = fate_with(config().connect_timeout(100 * MS), slow).await;
    assert_eq!((exhausted(&reason), dials), (&DisconnectReason::ConnectTimeout, DIALS));

    let (reason, dials) = fate(Answer::Drip { every: MS }).await;
    assert_eq!((fatal(&reason), dials), (&DisconnectReason::ProtocolViolation, 3));
    let reason = recovered_from(config(), Answer::Drip { every: MS }).await;
    assert_eq!(reason, DisconnectReason::ProtocolViolation);
}

#[tokio::test]
async fn a_wrong_accept_key_ends_the_stream_at_once() {
    let (reason, dials) = fate(Answer::WrongAccept).await;
    assert_eq!((fatal(&reason), dials), (&DisconnectReason::Handshake, 1));
    let bare = Answer::Raw("HTTP/1.1 101 Switching Protocols\r\n\r\n".into());
    let (reason, dials) = fate(bare).await;
    assert_eq!((fatal(&reason), dials), (&DisconnectReason::Handshake, 1));
}

#[tokio::test]
async fn an_end_in_the_midst_of_the_handshake_is_retried() {
    for answer in [Answer::EndOfFile, Answer::Raw("".into())] {
        let (reason, dials) = fate(answer.clone()).await;
        let eof = DisconnectReason::Io(ErrorKind::UnexpectedEof);
        assert_eq!((exhausted(&reason), dials), (&eof, DIALS));
        assert_eq!(recovered_from(config(), answer).await, eof);
    }
}

#[tokio::test]
async fn what_is_no_http_is_retried_and_fatal_the_third_time() {
    let binary: Vec<u8> = (0..=255).cycle().take(4096).collect();
    for answer in [
        Answer::HeaderFlood,
        Answer::Raw("SSH-2.0-OpenSSH_9.9\r\n".into()),
        Answer::Raw("HTTP/1.0 503 Unavailable\r\n\r\n".into()),
        Answer::Raw(binary.into()),
        Answer::Raw(vec![0; 100_000].into()),
    ] {
        let (reason, dials) = fate(answer.clone()).await;
        assert_eq!((fatal(&reason), dials), (&DisconnectReason::ProtocolViolation, 3));
        let reason = recovered_from(config(), answer).await;
        assert_eq!(reason, DisconnectReason::ProtocolViolation);
    }
}
