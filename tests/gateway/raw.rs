//! `/ws/{name}`: the relay, byte for byte; and handshakes.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wsmux::protocol::DisconnectReason;
use wsmux::transport::TransportError;
use wsmux::{Message, WsManager};

use crate::client::{Client, TEXT};
use crate::{Stage, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_crates_own_client_reads_by_the_relay_what_the_server_sent() {
    let mut stage = Stage::new().await;
    let manager = WsManager::connect(&format!("ws://{}/ws", stage.addr)).unwrap();
    let mut reader = manager.subscribe::<Message>("a/b @trade").unwrap();
    let peer = stage.peer().await;
    let sent = [Message::text("{\"p\": 1.0 }\n"), Message::binary(vec![0, 255]), Message::text("")];
    soon(reader.ready()).await.unwrap();
    stage.until_clients(1).await;
    soon(async {
        while stage.gateway.stats().names.is_empty() {
            tokio::task::yield_now().await
        }
    })
    .await;
    peer.send_all(sent.clone());
    for message in sent {
        assert_eq!(soon(reader.recv()).await.unwrap().unwrap(), message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_cannot_tell_of_a_gap_is_closed_in_its_place() {
    let mut stage = Stage::new().await;
    let mut client = Client::open(stage.tcp().await, "/ws/a").await.unwrap_or_else(|_| panic!());
    let peer = stage.peer().await;
    peer.send("1");
    assert_eq!(client.message().await, Some((TEXT, b"1".to_vec())));
    peer.fail(TransportError::new(DisconnectReason::Ended));
    let _peer = stage.peer().await;
    assert_eq!(client.closed().await, Some(1012));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_name_and_no_handshake_is_refused_before_an_upgrade() {
    let stage = Stage::built(|builder| builder.names(|_| None)).await;
    assert_eq!(Client::open(stage.tcp().await, "/ws/a").await.err(), Some(404));
    assert_eq!(Client::open(stage.tcp().await, "/ws/%0a").await.err(), Some(404));
    let mut socket = stage.tcp().await;
    socket.write_all(b"GET /ws HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    let mut status = [0; 12];
    soon(socket.read_exact(&mut status)).await.unwrap();
    assert_eq!(&status[9..], b"426");
}

/// Served as a program may: over something that is no TCP socket, which is kept in a box.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_no_tcp_socket_is_served_as_well() {
    let stage = Stage::new().await;
    let news = stage.gateway.publisher("news".try_into().unwrap());
    let (ours, theirs) = tokio::io::duplex(64);
    let service = hyper_util::service::TowerToHyperService::new(stage.gateway.router());
    let io = hyper_util::rt::TokioIo::new(theirs);
    tokio::spawn(
        hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades(),
    );
    let mut client = Client::open(ours, "/ws").await.unwrap_or_else(|_| panic!());
    client.subscribe("news").await;
    // Much more than the pipe holds.
    for number in 0..200 {
        news.publish(number.to_string());
    }
    for number in 0..200 {
        assert_eq!(client.data().await, number);
    }
    client.send(8, &1000_u16.to_be_bytes()).await;
    assert_eq!(client.closed().await, Some(1000));
    client.ended().await;
    stage.until_clients(0).await;
}
