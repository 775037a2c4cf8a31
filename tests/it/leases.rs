//! Keeping streams warm without reading them.

use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderMap;
use tokio::time::{self, Instant};
use wsmux::{CloseReason, Gap, Message, Status, StreamInfo, WsManager};

use crate::lines::{Lines, confirm, heard};
use crate::{MINUTE, SECOND, config, end, gap, manager, manager_of, manager_with, message, settle};

fn info(manager: &WsManager) -> StreamInfo {
    let mut streams = manager.streams();
    assert_eq!(streams.len(), 1);
    streams.remove(0)
}

#[tokio::test(start_paused = true)]
async fn a_lease_opens_a_stream_and_holds_it_without_readers() {
    let (manager, mut server) = manager();
    let lease = manager.keep_warm("x").unwrap();
    assert!(matches!(lease.status(), Status::Connecting { attempt: 1 }));
    let mut peer = server.accept().await;
    time::sleep(60 * MINUTE).await;
    assert!(lease.status().is_open());
    assert_eq!(lease.name().as_str(), "x");
    assert_eq!((info(&manager).leases, info(&manager).readers), (1, 0));
    assert_eq!(manager.metrics().readers, 0);
    let left = Instant::now();
    drop(lease);
    assert_eq!(manager.stream_count(), 0);
    peer.closed().await;
    assert_eq!(left.elapsed(), std::time::Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn giving_a_lease_back_starts_the_linger() {
    let (manager, mut server) = manager_with(config().linger(30 * SECOND));
    let lease = manager.keep_warm("x").unwrap();
    let mut peer = server.accept().await;
    time::sleep(10 * MINUTE).await;
    drop(lease);
    time::sleep(20 * SECOND).await;
    let again = manager.keep_warm("x").unwrap();
    time::sleep(10 * MINUTE).await;
    assert!(again.status().is_open() && !server.has_dial());
    let left = Instant::now();
    drop(again);
    peer.closed().await;
    assert_eq!(left.elapsed(), 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_stream_lives_until_its_last_reader_and_its_last_lease_have_gone() {
    let (manager, mut server) = manager();
    let reader = manager.subscribe::<Message>("x").unwrap();
    let leases = [manager.keep_warm("x").unwrap(), manager.keep_warm("x").unwrap()];
    let mut peer = server.accept().await;
    assert_eq!((info(&manager).leases, info(&manager).readers), (2, 1));
    drop(reader);
    time::sleep(MINUTE).await;
    assert_eq!((info(&manager).leases, info(&manager).readers), (2, 0));
    let reader = manager.subscribe::<Message>("x").unwrap();
    drop(leases);
    time::sleep(MINUTE).await;
    assert_eq!((info(&manager).leases, info(&manager).readers), (0, 1));
    assert!(reader.status().is_open() && !server.has_dial());
    drop(reader);
    peer.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_leased_stream_is_not_idle() {
    let (manager, mut server) = manager_with(config().linger(MINUTE));
    let lease = manager.keep_warm("x").unwrap();
    let _peer = server.accept().await;
    time::sleep(10 * MINUTE).await;
    assert_eq!(manager.sweep_idle(std::time::Duration::ZERO), 0);
    drop(lease);
    assert_eq!(manager.sweep_idle(std::time::Duration::ZERO), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_keeps_no_messages() {
    struct Payload(#[expect(dead_code, reason = "counted")] Arc<()>);
    impl AsRef<[u8]> for Payload {
        fn as_ref(&self) -> &[u8] {
            b"payload"
        }
    }
    let (manager, mut server) = manager();
    let _lease = manager.keep_warm("x").unwrap();
    let peer = server.accept().await;
    let alive = Arc::new(());
    for _ in 0..1000 {
        peer.send(Message::Binary(Bytes::from_owner(Payload(Arc::clone(&alive)))));
    }
    settle().await;
    assert_eq!(info(&manager).messages, 1000);
    assert_eq!(Arc::strong_count(&alive), 1, "all of them are gone");

    let mut late = manager.subscribe::<Message>("x").unwrap();
    assert_eq!(late.lag(), 0);
    peer.send("now");
    assert_eq!(message(&mut late).await, "now", "a reader starts at the present");
}

#[tokio::test(start_paused = true)]
async fn messages_are_kept_for_the_slowest_reader_and_go_with_it() {
    let (manager, mut server) = manager();
    let _lease = manager.keep_warm("x").unwrap();
    let slow = manager.subscribe::<Message>("x").unwrap();
    let peer = server.accept().await;
    let payload = Bytes::from(vec![0; 100]);
    peer.send(Message::Binary(payload.clone()));
    settle().await;
    assert_eq!(slow.lag(), 1);
    assert!(!payload.is_unique());
    drop(slow);
    peer.send("next");
    settle().await;
    assert!(payload.is_unique(), "at the latest with the next message");
}

#[tokio::test(start_paused = true)]
async fn a_leased_stream_reconnects_and_a_later_reader_is_told_of_no_gap() {
    let (manager, mut server) = manager();
    let lease = manager.keep_warm("x").unwrap();
    server.accept().await.send("1");
    let peer = server.accept().await;
    settle().await;
    assert!(lease.status().is_open());
    assert_eq!(info(&manager).gaps, 1);
    let mut reader = manager.subscribe::<Message>("x").unwrap();
    peer.send("2");
    assert_eq!(message(&mut reader).await, "2");
    drop(peer);
    server.accept().await.send("3");
    assert!(matches!(gap(&mut reader).await, Gap::Reconnected { .. }));
    assert_eq!(message(&mut reader).await, "3");
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_a_stream_that_ended_stays_ended_and_holds_nothing() {
    let (manager, mut server) = manager();
    let lease = manager.keep_warm("x").unwrap();
    let mut reader = manager.subscribe::<Message>("x").unwrap();
    server.answer(404, HeaderMap::new()).await;
    assert!(matches!(end(&mut reader).await, CloseReason::Fatal(_)));
    assert!(matches!(lease.status(), Status::Closed(CloseReason::Fatal(_))));
    assert_eq!(manager.stream_count(), 0);
    time::sleep(10 * MINUTE).await;
    assert!(!server.has_dial(), "a lease does not open it again");

    let mut again = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    peer.send("1");
    assert_eq!(message(&mut again).await, "1");
    assert!(lease.status().is_closed());
    assert_eq!(info(&manager).leases, 0, "it is another stream's");
    drop((lease, reader));
    settle().await;
    assert!(again.status().is_open());
    drop(again);
    peer.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_leased_name_shares_its_socket_with_names_that_are_read() {
    let (manager, mut server) = manager_of(Lines::default(), config());
    let lease = manager.keep_warm("a1").unwrap();
    let mut read = manager.subscribe::<Message>("a2").unwrap();
    let mut peer = server.accept().await;
    assert_eq!(confirm(&mut peer).await, ["+a1 a2"]);
    peer.send_all(["a1:nobody reads this", "a2:x"]);
    assert_eq!(message(&mut read).await, "x");
    assert_eq!(manager.metrics().unroutable, 0, "it is joined, if not read");
    drop(lease);
    settle().await;
    assert_eq!(heard(&mut peer), ["-a1"]);
    assert!(read.status().is_open());
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_leases() {
    let (manager, mut server) = manager();
    let lease = manager.keep_warm("x").unwrap();
    let mut peer = server.accept().await;
    settle().await;
    manager.shutdown().await;
    peer.closed().await;
    assert!(matches!(lease.status(), Status::Closed(CloseReason::Shutdown)));
    assert!(manager.keep_warm("x").is_err());
}
