//! Sockets: scripts, counts, and what is done to all at once.

use futures::SinkExt as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::*;
use crate::message::Message;
use crate::test_util::{Answer, Peer};
use crate::transport::Frame;

#[tokio::test]
async fn a_route_runs_its_script_and_the_longest_path_wins() {
    let echo = |peer: Peer| async move {
        while let Some(message) = peer.recv_message().await {
            peer.send(message).await;
        }
    };
    let named = |peer: Peer| async move {
        let name = format!("{}?{}", peer.path(), peer.query().unwrap_or("-"));
        assert_eq!(peer.headers()["upgrade"], "websocket");
        peer.send(name).await;
    };
    let server = MockServer::builder().route("/", echo).route("/ws/", named).start().await.unwrap();
    let mut echoed = connect(&server, "/any").await;
    echoed.send("hello".into()).await.unwrap();
    assert_eq!(text(&mut echoed).await, "hello");
    let mut client = connect(&server, "/ws/a%20b?c=%20").await;
    assert_eq!(text(&mut client).await, "/ws/a b?c=%20");
    assert_eq!(server.dialled(), ["/any", "/ws/a%20b?c=%20"]);
}

#[tokio::test]
async fn a_test_scripts_by_hand_what_no_route_takes() {
    let server = MockServer::start().await.unwrap();
    let mut client = connect(&server, "/").await;
    let peer = within(server.accept()).await;
    client.send("subscribe".into()).await.unwrap();
    within(peer.expect_text("subscribe")).await;
    assert!(peer.send(vec![1, 2]).await);
    assert_eq!(next(&mut client).await.unwrap().unwrap().into_data(), [1, 2][..]);
    let many = ["a", "b", "c"].map(Message::from);
    assert_eq!(peer.send_all(many).await, 3);
    assert_eq!([text(&mut client).await, text(&mut client).await], ["a", "b"]);
}

#[tokio::test]
async fn pings_are_answered_and_shown() {
    let server = MockServer::start().await.unwrap();
    let mut client = connect(&server, "/").await;
    let peer = within(server.accept()).await;
    client.send(Wire::Ping("are you there".into())).await.unwrap();
    assert_eq!(next(&mut client).await.unwrap().unwrap(), Wire::Pong("are you there".into()));
    assert_eq!(within(peer.recv()).await, Some(Frame::Ping("are you there".into())));
    assert!(peer.ping("and you").await);
    assert_eq!(next(&mut client).await.unwrap().unwrap(), Wire::Ping("and you".into()));
    client.flush().await.unwrap();
    assert_eq!(within(peer.recv()).await, Some(Frame::Pong("and you".into())));
}

#[tokio::test]
async fn a_client_that_closes_is_answered_and_shown() {
    let server = MockServer::start().await.unwrap();
    let mut client = connect(&server, "/").await;
    let peer = within(server.accept()).await;
    within(client.close(None)).await.unwrap();
    assert!(matches!(next(&mut client).await, Some(Ok(Wire::Close(None)))));
    assert!(next(&mut client).await.is_none());
    assert_eq!(within(peer.recv_close()).await, Some(None));
    assert_eq!(within(peer.recv()).await, None);
    assert!(!peer.send("too late").await && !peer.is_open());
    within(server.until_sockets(0)).await;
}

#[tokio::test]
async fn a_server_that_closes_gives_its_code_and_waits_for_the_answer() {
    let server = MockServer::start().await.unwrap();
    let mut client = connect(&server, "/").await;
    let peer = within(server.accept()).await;
    assert!(peer.close(1012, "restart").await);
    let Some(Ok(Wire::Close(Some(close)))) = next(&mut client).await else { panic!("no close") };
    assert_eq!((close.code, close.reason.as_str()), (CloseCode::Restart, "restart"));
    assert_eq!(server.sockets(), 1, "not answered yet");
    assert!(next(&mut client).await.is_none());
    let Some(Some((code, _))) = within(peer.recv_close()).await else { panic!("no answer") };
    assert_eq!(code, 1012);
    within(server.until_sockets(0)).await;
}

#[tokio::test]
async fn sockets_and_dials_are_counted() {
    let server = MockServer::start().await.unwrap();
    let mut first = connect(&server, "/a").await;
    let mut second = connect(&server, "/a?again").await;
    let third = connect(&server, "/b").await;
    assert_eq!((server.sockets(), server.sockets_on("/a"), server.sockets_on("/c")), (3, 2, 0));
    assert_eq!(within(server.push("/a", "to a")).await, 2);
    assert_eq!((text(&mut first).await, text(&mut second).await), ("to a".into(), "to a".into()));
    drop((first, third));
    within(server.until_sockets(1)).await;
    within(server.until_sockets_on("/b", 0)).await;
    assert_eq!(within(server.broadcast("to all")).await, 1);
    assert_eq!(text(&mut second).await, "to all");
    assert_eq!(
        (server.dials(), server.max_sockets_on("/a"), server.peers_on("/a").len()),
        (3, 2, 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_dropped_before_the_next_dial_is_not_counted_with_it() {
    let server = MockServer::start().await.unwrap();
    for turn in 0..200 {
        let client = connect(&server, "/one").await;
        if turn % 10 == 3 {
            server.peers()[0].half_open();
        }
        drop(client);
    }
    assert_eq!(server.max_sockets_on("/one"), 1);
}

#[tokio::test]
async fn all_sockets_are_dropped_or_closed_at_once() {
    let server = MockServer::start().await.unwrap();
    let mut clients = [connect(&server, "/a").await, connect(&server, "/b").await];
    server.drop_all();
    assert_eq!(server.sockets(), 0);
    for client in &mut clients {
        assert!(next(client).await.unwrap().is_err(), "no close frame");
    }
    let mut clients = [connect(&server, "/a").await, connect(&server, "/b").await];
    server.close_all(1001, "maintenance");
    for client in &mut clients {
        assert!(matches!(next(client).await, Some(Ok(Wire::Close(Some(_))))));
        assert!(next(client).await.is_none());
    }
    within(server.until_sockets(0)).await;
}

#[tokio::test]
async fn dials_are_refused_while_nobody_listens_and_open_sockets_stay() {
    let server = MockServer::start().await.unwrap();
    let mut client = connect(&server, "/").await;
    for _ in 0..3 {
        server.stop_listening().await;
        assert!(dial(&server, "/").await.is_err());
        server.resume().await.unwrap();
        connect(&server, "/").await;
    }
    assert!(server.peers()[0].send("still here").await);
    assert_eq!(text(&mut client).await, "still here");
    assert_eq!(server.dials(), 4, "refused dials reach nobody");
}

#[tokio::test]
async fn everything_ends_with_the_server() {
    let server = MockServer::builder()
        .route("/loop", |peer: Peer| async move { while peer.send("on and on").await {} })
        .start()
        .await
        .unwrap();
    let mut client = connect(&server, "/").await;
    let peer = within(server.accept()).await;
    let mut looped = connect(&server, "/loop").await;
    let mut cut = connect(&server, "/").await;
    server.peers()[2].half_open();
    server.next_dials([Answer::Hang]);
    let hanging = tokio::spawn(TcpStream::connect(server.addr()));
    let addr = server.addr();
    drop(server);
    within(peer.closed()).await;
    assert!(next(&mut client).await.unwrap().is_err());
    assert!(next(&mut cut).await.unwrap().is_err());
    while next(&mut looped).await.unwrap().is_ok() {}
    assert!(hanging.await.is_ok());
    within(async { while TcpStream::connect(addr).await.is_ok() {} }).await;
}
