//! Sockets that are lost without a close frame, or that are open and of no use.

use std::io::ErrorKind;

use tokio::time::Instant;
use wsmux::test_util::Peer;
use wsmux::transport::Frame;
use wsmux::{Config, DisconnectReason, Gap, Heartbeat, Message, StreamError};

use crate::{HOUR, MS, Net, SECOND, config, gap, item, message, within};

fn beating(interval: u32, timeout: u32) -> Config {
    config().heartbeat(Heartbeat { interval: interval * MS, timeout: timeout * MS })
}

/// The reason that a reader gives for the loss of a socket that delivered one message.
async fn lost_by(fault: impl Fn(&Peer)) -> DisconnectReason {
    let net = Net::start().await;
    let mut stream = net.subscribe();
    let peer = net.accept().await;
    assert!(peer.send("before").await);
    assert_eq!(message(&mut stream).await, "before".into());
    fault(&peer);
    assert!(net.accept().await.send("after").await);
    let reason = gap(&mut stream).await;
    assert_eq!(message(&mut stream).await, "after".into());
    drop(stream);
    net.leaves_nothing().await;
    reason
}

#[tokio::test]
async fn a_reset_and_an_end_are_told_apart() {
    let reason = lost_by(Peer::reset).await;
    assert_eq!(reason, DisconnectReason::Io(ErrorKind::ConnectionReset));
    assert_eq!(lost_by(Peer::fin).await, DisconnectReason::Ended);
}

#[tokio::test]
async fn an_end_within_a_message_delivers_nothing_of_it() {
    let net = Net::start().await;
    let mut stream = net.subscribe();
    let peer = net.accept().await;
    assert!(peer.send("whole").await && peer.half_message("a half message").await);
    peer.fin();
    assert!(net.accept().await.send("after").await);
    assert_eq!(message(&mut stream).await, "whole".into());
    assert_eq!(gap(&mut stream).await, DisconnectReason::Ended);
    assert_eq!(message(&mut stream).await, "after".into());
    drop(stream);
    net.leaves_nothing().await;
}

#[tokio::test]
async fn a_socket_that_answers_no_ping_is_dead_within_the_heartbeat() {
    for fault in [Peer::half_open, Peer::stall] {
        let net = Net::with(beating(100, 100)).await;
        let mut stream = net.subscribe();
        let peer = net.accept().await;
        assert!(peer.send("before").await);
        assert_eq!(message(&mut stream).await, "before".into());
        fault(&peer);
        let _next = net.accept().await;
        let Some(Err(StreamError::Gap(Gap::Reconnected { down_for, reason }))) =
            item(&mut stream).await
        else {
            panic!("no gap")
        };
        assert_eq!(reason, DisconnectReason::HeartbeatTimeout);
        assert!((200 * MS..2 * SECOND).contains(&down_for), "{down_for:?}");
        peer.fin();
        drop(stream);
        net.leaves_nothing().await;
    }
}

#[tokio::test]
async fn a_socket_that_answers_pings_lives_however_quiet_it_is() {
    let net = Net::with(beating(20, 10_000)).await;
    let mut stream = net.subscribe();
    let peer = net.accept().await;
    for _ in 0..10 {
        while !matches!(within(peer.recv()).await, Some(Frame::Ping(_))) {}
    }
    assert!(peer.send("still here").await);
    assert_eq!(message(&mut stream).await, "still here".into());
    drop(stream);
    net.leaves_nothing().await;
}

#[tokio::test]
async fn a_socket_that_answers_no_ping_lives_as_long_as_data_flows() {
    const MESSAGES: usize = 40;
    let net = Net::with(beating(20, 500)).await;
    let mut stream = net.subscribe();
    let peer = net.accept().await;
    let start = Instant::now();
    peer.stall();
    peer.delay(20 * MS);
    let messages = (0..MESSAGES).map(|n| Message::from(n.to_string()));
    assert_eq!(within(peer.send_all(messages)).await, MESSAGES);
    for n in 0..MESSAGES {
        assert_eq!(message(&mut stream).await, n.to_string().into());
    }
    assert!(start.elapsed() > 600 * MS, "longer than it takes to be found dead");
    drop(stream);
    peer.fin();
    net.leaves_nothing().await;
}

#[tokio::test]
async fn a_socket_without_data_is_replaced_after_the_data_timeout_though_pongs_come() {
    let net = Net::with(beating(20, 10_000).data_timeout(Some(200 * MS))).await;
    let mut stream = net.subscribe();
    let peer = net.accept().await;
    let start = Instant::now();
    let _next = net.accept().await;
    assert!(start.elapsed() > 150 * MS);
    assert_eq!(gap(&mut stream).await, DisconnectReason::DataTimeout);
    assert!(within(peer.recv_close()).await.is_some(), "it lives, and is told");
    drop(stream);
    net.leaves_nothing().await;
}

#[tokio::test]
async fn a_server_that_goes_away_and_comes_back_is_found_again() {
    let mut forever = config().data_timeout(None);
    forever.retry.max_attempts = None;
    forever.heartbeat.interval = HOUR;
    let net = Net::with(forever).await;
    let mut stream = net.subscribe();
    for _ in 0..5 {
        assert!(net.accept().await.send("up").await);
        assert_eq!(message(&mut stream).await, "up".into());
        net.server.stop_listening().await;
        net.server.drop_all();
        let mut statuses = stream.status_changes();
        let refused = async {
            use futures::StreamExt as _;
            while let Some(status) = statuses.next().await {
                if matches!(status, wsmux::Status::BackingOff { attempt: 3.., .. }) {
                    return;
                }
            }
        };
        within(refused).await;
        net.server.resume().await.unwrap();
        within(stream.ready()).await.unwrap();
        assert_eq!(gap(&mut stream).await, DisconnectReason::Ended);
    }
    drop(stream);
    net.leaves_nothing().await;
}
