//! Faults of an open socket.

use std::io::ErrorKind;

use futures::SinkExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::error::CapacityError;

use super::*;
use crate::message::Message;
use crate::test_util::{Garbage, Peer};

async fn pair() -> (MockServer, Client, Peer) {
    let server = MockServer::start().await.unwrap();
    let client = connect(&server, "/").await;
    let peer = within(server.accept()).await;
    (server, client, peer)
}

#[tokio::test]
async fn a_reset_is_one() {
    let (server, mut client, peer) = pair().await;
    peer.send("before").await;
    peer.reset();
    assert_eq!(server.sockets(), 0);
    assert_eq!(text(&mut client).await, "before");
    let Some(Err(Error::Io(e))) = next(&mut client).await else { panic!("no error") };
    assert_eq!(e.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_end_without_a_close_frame_is_the_end_of_file() {
    let (_server, mut client, peer) = pair().await;
    // Also where the client has sent what nobody read.
    client.send("unread".into()).await.unwrap();
    peer.send("before").await;
    peer.fin();
    assert_eq!(text(&mut client).await, "before");
    let mut tcp = client.into_inner();
    assert_eq!(within(tcp.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_half_open_socket_is_silent_and_keeps_tcp() {
    let (server, mut client, peer) = pair().await;
    peer.half_open();
    client.send(Wire::Ping("anyone".into())).await.unwrap();
    assert!(!within(peer.send("never")).await);
    let mut tcp = client.into_inner();
    tcp.shutdown().await.unwrap();
    within(server.until_sockets(0)).await;
    let nothing = tcp.try_read(&mut [0]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock, "TCP is still there");
    drop(server);
    // The ping was never read, so that the end may be an RST.
    assert_eq!(within(tcp.read(&mut [0])).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_stalled_socket_still_writes() {
    let (server, mut client, peer) = pair().await;
    peer.stall();
    client.send(Wire::Ping("anyone".into())).await.unwrap();
    assert!(within(peer.send("not a pong")).await);
    assert_eq!(text(&mut client).await, "not a pong");
    drop(client);
    within(server.until_sockets(0)).await;
    assert!(!peer.is_open());
}

#[tokio::test]
async fn a_client_gets_stuck_in_sending_to_a_stalled_socket() {
    let (_server, mut client, peer) = pair().await;
    peer.stall();
    let big = Wire::binary(vec![0; 1 << 20]);
    let stuck = async { while client.send(big.clone()).await.is_ok() {} };
    assert!(tokio::time::timeout(Duration::from_millis(200), stuck).await.is_err());
    assert!(peer.is_open());
}

#[tokio::test]
async fn a_held_close_is_never_answered() {
    let (server, mut client, peer) = pair().await;
    peer.hold_close();
    within(client.close(None)).await.unwrap();
    assert_eq!(within(peer.recv_close()).await, Some(None));
    peer.send("still here").await;
    assert_eq!(text(&mut client).await, "still here");
    let mut tcp = client.into_inner();
    tcp.shutdown().await.unwrap();
    within(server.until_sockets(0)).await;
    assert_eq!(tcp.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[tokio::test]
async fn garbage_of_every_kind_ends_a_client() {
    let server = MockServer::start().await.unwrap();
    for garbage in Garbage::ALL {
        let mut client = connect(&server, "/").await;
        let peer = within(server.accept()).await;
        assert!(peer.send("before").await && peer.garbage(garbage).await);
        assert_eq!(text(&mut client).await, "before");
        // A client may take a bad close frame for a close.
        let end = tokio::time::timeout(Duration::from_secs(30), client.next()).await;
        let end = end.unwrap_or_else(|_| panic!("{garbage:?} went unnoticed"));
        assert!(matches!(end, Some(Err(_) | Ok(Wire::Close(_)))), "{garbage:?}: {end:?}");
    }
}

#[tokio::test]
async fn an_oversize_frame_is_announced() {
    let (_server, mut client, peer) = pair().await;
    assert!(peer.oversize(64 << 30).await);
    let Some(Err(Error::Capacity(CapacityError::MessageTooLong { size, .. }))) =
        next(&mut client).await
    else {
        panic!("no error")
    };
    assert_eq!(size, 64 << 30);
}

#[tokio::test]
async fn a_flood_of_pings_has_all_of_them() {
    let (_server, mut client, peer) = pair().await;
    let flood = tokio::spawn(async move { peer.ping_flood(3000).await && peer.send("over").await });
    let mut pings = 0;
    while let Wire::Ping(_) = next(&mut client).await.unwrap().unwrap() {
        pings += 1;
    }
    assert_eq!(pings, 3000);
    assert!(flood.await.unwrap());
}

#[tokio::test]
async fn a_sliced_message_arrives_whole() {
    let (_server, client, peer) = pair().await;
    let sliced = tokio::spawn(async move { peer.send_sliced("slice by slice").await });
    let mut tcp = client.into_inner();
    let mut reads: Vec<Vec<u8>> = Vec::new();
    while reads.concat().len() < 16 {
        let mut buffer = vec![0; 16];
        let read = within(tcp.read(&mut buffer)).await.unwrap();
        buffer.truncate(read);
        reads.push(buffer);
    }
    assert_eq!(reads.concat(), b"\x81\x0Eslice by slice");
    assert!(reads.len() > 1, "in one read");
    assert!(sliced.await.unwrap());
}

#[tokio::test]
async fn half_a_message_is_never_completed() {
    let (_server, mut client, peer) = pair().await;
    assert!(peer.half_message("a message in two halves").await);
    peer.fin();
    assert!(next(&mut client).await.unwrap().is_err());
}

#[tokio::test]
async fn a_socket_drops_after_so_many_messages() {
    let (server, mut client, peer) = pair().await;
    peer.drop_after(3);
    assert!(peer.send("1").await);
    // Control frames are none.
    assert!(peer.ping("").await);
    let rest = ["2", "3", "4"].map(Message::from);
    assert_eq!(peer.send_all(rest).await, 2);
    assert_eq!(text(&mut client).await, "1");
    assert!(next(&mut client).await.unwrap().unwrap().is_ping());
    assert_eq!([text(&mut client).await, text(&mut client).await], ["2", "3"]);
    assert!(next(&mut client).await.unwrap().is_err(), "no close frame");
    within(server.until_sockets(0)).await;
}

#[tokio::test]
async fn each_message_is_delayed() {
    let (_server, mut client, peer) = pair().await;
    let (start, delay) = (Instant::now(), Duration::from_millis(20));
    peer.delay(delay);
    assert_eq!(within(peer.send_all(["1", "2"].map(Message::from))).await, 2);
    assert!(start.elapsed() >= delay * 2);
    assert_eq!([text(&mut client).await, text(&mut client).await], ["1", "2"]);
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_is_told_so() {
    let (server, client, _peer) = pair().await;
    let mut tcp = client.into_inner();
    tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut end = Vec::new();
    within(tcp.read_to_end(&mut end)).await.unwrap();
    assert_eq!(end[..4], [0x88, 14, 0x03, 0xEA], "1002");
    within(server.until_sockets(0)).await;
}
