//! Close frames: those that the server sends, and those that it does not answer.

use futures::StreamExt as _;
use tokio::time::Instant;
use wsmux::test_util::{MockServer, Peer};
use wsmux::{CloseReason, DisconnectReason, Event, Message, Status, Subscription};

use crate::{
    DIALS, MS, Net, PATH, SECOND, builder, config, direct, end, exhausted, fatal, gap, message,
    within,
};

/// A stream whose server sends a message and this close frame, which the client answers.
async fn closed_with(code: u16) -> (Net, Subscription<Message>) {
    let net = Net::start().await;
    let mut stream = net.subscribe();
    let peer = net.accept().await;
    assert!(peer.send("last").await && peer.close(code, "words").await);
    let answer = within(peer.recv_close()).await.expect("an answer").expect("a code");
    assert_eq!(answer.0, code, "answered with the same code");
    within(net.server.until_sockets_on(PATH, 0)).await;
    assert_eq!(message(&mut stream).await, "last".into());
    (net, stream)
}

fn closed(code: u16) -> DisconnectReason {
    DisconnectReason::closed(Some(code), "words")
}

#[tokio::test]
async fn a_close_that_may_pass_is_a_gap_with_the_servers_words() {
    for code in [1000, 1001, 1002, 1003, 1007, 1009, 1010, 1011, 3000, 3499, 4000, 4499] {
        let (net, mut stream) = closed_with(code).await;
        assert!(net.accept().await.send("next").await);
        assert_eq!(gap(&mut stream).await, closed(code));
        assert_eq!(message(&mut stream).await, "next".into());
        assert_eq!(net.server.max_sockets_on(PATH), 1);
        drop(stream);
        net.leaves_nothing().await;
    }
}

#[tokio::test]
async fn a_close_without_a_code_is_a_gap_too() {
    let net = Net::start().await;
    let mut stream = net.subscribe();
    assert!(net.accept().await.raw(&b"\x88\0"[..]).await);
    net.accept().await;
    assert_eq!(gap(&mut stream).await, DisconnectReason::closed(None, ""));
    drop(stream);
    net.leaves_nothing().await;
}

#[tokio::test]
async fn a_server_that_is_busy_is_left_alone_for_five_seconds() {
    for code in [1008, 1012, 1013] {
        let (net, stream) = closed_with(code).await;
        let mut statuses = stream.status_changes();
        let delay = loop {
            if let Status::BackingOff { delay, .. } = within(statuses.next()).await.unwrap() {
                break delay;
            }
        };
        let jitter = delay.checked_sub(5 * SECOND).expect("left alone");
        assert!((MS..=2 * MS).contains(&jitter), "{code}: {delay:?}");
        drop((statuses, stream));
        net.leaves_nothing().await;
    }
}

#[tokio::test]
async fn a_close_that_will_not_pass_ends_the_stream_at_once() {
    for code in [3500, 3999, 4500, 4999] {
        let (net, mut stream) = closed_with(code).await;
        assert_eq!(*fatal(&end(&mut stream).await), closed(code));
        assert_eq!(net.server.dials(), 1);
        drop(stream);
        net.leaves_nothing().await;
    }
    for code in [4401, 4403] {
        let (net, mut stream) = closed_with(code).await;
        let reason = end(&mut stream).await;
        let CloseReason::Unauthorized(e) = reason else { panic!("{reason:?}") };
        assert_eq!((e.reason(), net.server.dials()), (&closed(code), 1));
        drop(stream);
        net.leaves_nothing().await;
    }
}

#[tokio::test]
async fn a_code_that_must_not_be_sent_is_a_violation_and_the_third_is_fatal() {
    for code in [0_u16, 999, 1005, 1006, 1015, 2000, 5000, u16::MAX] {
        let net = Net::start().await;
        let mut stream = net.subscribe();
        for _ in 0..3 {
            let [high, low] = code.to_be_bytes();
            assert!(net.accept().await.raw(vec![0x88, 2, high, low]).await);
        }
        let named = |reason| matches!(reason, DisconnectReason::Closed { code: Some(1002), .. });
        assert!(named(gap(&mut stream).await) && named(gap(&mut stream).await), "{code}");
        assert!(named(fatal(&end(&mut stream).await).clone()), "{code}");
        drop(stream);
        net.leaves_nothing().await;
    }
}

#[tokio::test]
async fn a_loop_of_accepting_and_closing_is_bounded_and_its_attempts_count_up() {
    async fn close(peer: Peer) {
        peer.close(1001, "").await;
    }
    async fn fin(peer: Peer) {
        peer.fin();
    }
    async fn reset(peer: Peer) {
        peer.reset();
    }
    let builders = [
        (MockServer::builder().route(PATH, close), Some("closed")),
        (MockServer::builder().route(PATH, fin), Some("ended")),
        (MockServer::builder().route(PATH, reset), None),
    ];
    for (server, label) in builders {
        let server = server.start().await.unwrap();
        let manager = builder(direct(&server), config());
        let net = Net::of(server, manager);
        let events = net.manager.events();
        let mut stream = net.subscribe();
        let named = |reason: &DisconnectReason| label.is_none_or(|label| reason.label() == label);
        let reason = loop {
            match within(stream.recv()).await.expect("an end").expect_err("no message") {
                wsmux::StreamError::Closed(reason) => break reason,
                notice => assert!(!notice.is_terminal()),
            }
        };
        assert!(named(exhausted(&reason)), "{reason:?}");
        assert_eq!((net.server.dials(), net.server.max_sockets_on(PATH)), (DIALS, 1));
        drop(stream);
        net.leaves_nothing().await;
        let attempts = events.filter_map(async |event| match event {
            Event::Retrying { attempt, .. } => Some(attempt),
            _ => None,
        });
        assert_eq!(within(attempts.collect::<Vec<_>>()).await, [2, 3, 4]);
    }
}

#[tokio::test]
async fn a_client_that_leaves_says_so_and_waits_for_no_answer_longer_than_the_close_timeout() {
    let net = Net::with(config().close_timeout(50 * MS)).await;
    let mut stream = net.subscribe();
    within(stream.ready()).await.unwrap();
    let peer = net.accept().await;
    peer.hold_close();
    let start = Instant::now();
    drop(stream);
    let close = within(peer.recv_close()).await;
    assert_eq!(close, Some(Some((1000, "".into()))));
    within(net.server.until_sockets(0)).await;
    let took = start.elapsed();
    assert!((50 * MS..SECOND).contains(&took), "{took:?}");
    peer.fin();
    net.leaves_nothing().await;
}

#[tokio::test]
async fn a_shutdown_takes_no_longer_than_the_close_timeout() {
    let net = Net::with(config().close_timeout(50 * MS)).await;
    let mut stream = net.subscribe();
    within(stream.ready()).await.unwrap();
    let peer = net.accept().await;
    peer.hold_close();
    let start = Instant::now();
    within(net.manager.shutdown()).await;
    let took = start.elapsed();
    assert!((50 * MS..SECOND).contains(&took), "{took:?}");
    assert!(matches!(end(&mut stream).await, CloseReason::Shutdown));
    within(net.server.until_sockets(0)).await;
    peer.fin();
    net.leaves_nothing().await;
}

#[tokio::test]
async fn a_server_that_closes_and_keeps_tcp_costs_neither_time_nor_a_second_socket() {
    let net = Net::with(config().close_timeout(crate::HOUR)).await;
    let mut stream = net.subscribe();
    let peer = net.accept().await;
    peer.hold_close();
    assert!(peer.close(1001, "words").await);
    let next = net.accept().await;
    assert!(next.send("next").await);
    assert_eq!(gap(&mut stream).await, closed(1001));
    assert_eq!(message(&mut stream).await, "next".into());
    assert!(within(peer.recv_close()).await.is_some(), "answered all the same");
    assert_eq!(net.server.max_sockets_on(PATH), 1);
    peer.fin();
    drop(stream);
    net.leaves_nothing().await;
}
