//! Frames that no server may send, or that are too much.

use wsmux::test_util::{Garbage, Peer};
use wsmux::{DisconnectReason, Limits};

use crate::{Net, PATH, config, end, fatal, gap, message, within};

/// What two gaps and the end say, of a stream whose every socket delivers a message and then does
/// this.
async fn thrice(does: impl AsyncFn(&Peer)) -> [DisconnectReason; 3] {
    let net = Net::start().await;
    let mut stream = net.subscribe();
    for _ in 0..3 {
        let peer = net.accept().await;
        assert!(peer.send("before").await);
        does(&peer).await;
        assert!(within(peer.recv_close()).await.is_some(), "it is told");
    }
    let mut reasons = Vec::new();
    for _ in 0..2 {
        assert_eq!(message(&mut stream).await, "before".into());
        reasons.push(gap(&mut stream).await);
    }
    assert_eq!(message(&mut stream).await, "before".into());
    reasons.push(fatal(&end(&mut stream).await).clone());
    assert_eq!((net.server.dials(), net.server.max_sockets_on(PATH)), (3, 1));
    drop(stream);
    net.leaves_nothing().await;
    reasons.try_into().unwrap()
}

#[tokio::test]
async fn garbage_of_every_kind_is_named_and_the_third_in_a_row_is_fatal() {
    for garbage in Garbage::ALL {
        for reason in thrice(async |peer| assert!(peer.garbage(garbage).await)).await {
            match garbage {
                Garbage::BadCloseCode => {
                    assert!(matches!(reason, DisconnectReason::Closed { code: Some(1002), .. }));
                }
                _ => assert_eq!(reason, DisconnectReason::ProtocolViolation, "{garbage:?}"),
            }
        }
    }
}

#[tokio::test]
async fn text_that_is_not_utf8_is_a_violation_also_in_fragments() {
    for bytes in [&b"\x81\x01\xFF"[..], b"\x01\x01\xC3\x80\x01\x28", b"\x81\x03\xED\xA0\x80"] {
        let net = Net::start().await;
        let mut stream = net.subscribe();
        let peer = net.accept().await;
        assert!(peer.raw(bytes).await);
        let close = within(peer.recv_close()).await.unwrap().unwrap();
        assert_eq!(close.0, 1007, "{bytes:?}");
        net.accept().await;
        assert_eq!(gap(&mut stream).await, DisconnectReason::ProtocolViolation);
        drop(stream);
        net.leaves_nothing().await;
    }
}

#[tokio::test]
async fn garbage_of_several_kinds_is_in_a_row_and_another_failure_breaks_it() {
    let net = Net::start().await;
    let mut stream = net.subscribe();
    assert!(net.accept().await.garbage(Garbage::BadUtf8).await);
    assert!(net.accept().await.garbage(Garbage::BadCloseCode).await);
    net.accept().await.fin();
    assert_eq!(gap(&mut stream).await, DisconnectReason::ProtocolViolation);
    assert_eq!(gap(&mut stream).await.label(), "closed");
    assert!(net.accept().await.send("alive").await);
    assert_eq!(gap(&mut stream).await, DisconnectReason::Ended);
    assert_eq!(message(&mut stream).await, "alive".into());
    drop(stream);
    net.leaves_nothing().await;
}

/// Most memory that this process ever asked for, in KiB, where the system tells.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or_default()
}

async fn oversized_twice(limits: Limits, len: u64) {
    let net = Net::with(config().limits(limits)).await;
    let mut stream = net.subscribe();
    for _ in 0..2 {
        let peer = net.accept().await;
        assert!(peer.send("before").await && peer.oversize(len).await);
        let close = within(peer.recv_close()).await.unwrap().unwrap();
        assert_eq!(close.0, 1009, "it is told");
    }
    assert_eq!(message(&mut stream).await, "before".into());
    assert_eq!(gap(&mut stream).await, DisconnectReason::MessageTooLarge);
    assert_eq!(message(&mut stream).await, "before".into());
    assert_eq!(*fatal(&end(&mut stream).await), DisconnectReason::MessageTooLarge);
    assert_eq!(net.server.dials(), 2);
    drop(stream);
    net.leaves_nothing().await;
}

#[tokio::test]
async fn a_message_that_is_too_large_takes_no_memory_and_is_fatal_the_second_time() {
    let before = peak_kib();
    oversized_twice(Limits::default(), 64 << 30).await;
    oversized_twice(Limits::default(), u64::MAX >> 1).await;
    oversized_twice(Limits { max_message: 1000, ..Limits::default() }, 1001).await;
    // Other tests run beside this one: they do not need gigabytes.
    assert!(peak_kib() - before < 8 << 20, "{before} KiB became {}", peak_kib());
}

#[tokio::test]
async fn a_message_of_fragments_that_are_too_large_together_is_too_large() {
    let net = Net::with(config().limits(Limits { max_message: 1000, ..Limits::default() })).await;
    let mut stream = net.subscribe();
    let peer = net.accept().await;
    assert!(peer.send("x".repeat(1000)).await && peer.raw(&b"\x01\x01x"[..]).await);
    for _ in 0..20 {
        peer.raw([&b"\0\x64"[..], &[b'x'; 100]].concat()).await;
    }
    assert_eq!(message(&mut stream).await.len(), 1000, "up to the limit is fine");
    net.accept().await;
    assert_eq!(gap(&mut stream).await, DisconnectReason::MessageTooLarge);
    drop(stream);
    net.leaves_nothing().await;
}
