//! What arrives is what was sent, however it is cut, delayed or ended.

use tokio::time::Instant;
use wsmux::test_util::Peer;
use wsmux::{DisconnectReason, Message, Subscription};

use crate::{MS, Net, gap, message};

fn samples() -> Vec<Message> {
    vec![
        "".into(),
        "a".into(),
        "ラーメン 🍜 \0\r\n".into(),
        Message::binary(Vec::new()),
        Message::binary((0..=255).collect::<Vec<u8>>()),
        "x".repeat(125).into(),
        "x".repeat(126).into(),
        "y".repeat(1 << 16).into(),
        Message::binary(vec![0xFF; (1 << 16) - 1]),
        "after".into(),
    ]
}

async fn reads(stream: &mut Subscription<Message>, expected: &[Message]) {
    for expected in expected {
        assert!(message(stream).await == *expected, "of {} bytes", expected.len());
    }
}

async fn opened() -> (Net, Subscription<Message>, Peer) {
    let net = Net::start().await;
    let stream = net.subscribe();
    let peer = net.accept().await;
    (net, stream, peer)
}

#[tokio::test]
async fn empty_binary_and_odd_messages_arrive_as_they_are() {
    let (net, mut stream, peer) = opened().await;
    assert_eq!(peer.send_all(samples()).await, samples().len());
    reads(&mut stream, &samples()).await;
    drop(stream);
    net.leaves_nothing().await;
}

#[tokio::test]
async fn messages_cut_into_single_bytes_are_the_same() {
    let (net, mut stream, peer) = opened().await;
    let short: Vec<_> = samples().into_iter().filter(|message| message.len() < 1000).collect();
    for message in &short {
        assert!(peer.send_sliced(message.clone()).await);
    }
    reads(&mut stream, &short).await;
    drop(stream);
    net.leaves_nothing().await;
}

#[tokio::test]
async fn messages_of_a_mebibyte_and_of_the_limit_arrive_whole() {
    let (net, mut stream, peer) = opened().await;
    let large: [Message; 5] = [
        "ä".repeat(1 << 19).into(),
        "between".into(),
        Message::binary(vec![7; 1 << 20]),
        Message::binary((0..16 << 20).map(|n: u32| n as u8).collect::<Vec<_>>()),
        "after".into(),
    ];
    let (sent, ()) = futures::join!(peer.send_all(large.clone()), reads(&mut stream, &large));
    assert_eq!(sent, large.len());
    drop(stream);
    net.leaves_nothing().await;
}

#[tokio::test]
async fn all_messages_before_an_end_are_delivered_before_its_gap() {
    for count in [1_usize, 2, 127, 128, 129, 500, 1000] {
        let (net, mut stream, peer) = opened().await;
        peer.drop_after(count);
        let messages: Vec<Message> = (0..2000).map(|n| n.to_string().into()).collect();
        assert_eq!(peer.send_all(messages.clone()).await, count);
        assert!(net.accept().await.send("after").await);
        reads(&mut stream, &messages[..count]).await;
        assert_eq!(gap(&mut stream).await, DisconnectReason::Ended);
        reads(&mut stream, &["after".into()]).await;
        assert_eq!(stream.lag(), 0);
        drop(stream);
        net.leaves_nothing().await;
    }
}

#[tokio::test]
async fn delayed_messages_arrive_late_and_whole() {
    let (net, mut stream, peer) = opened().await;
    let start = Instant::now();
    peer.delay(20 * MS);
    assert_eq!(peer.send_all(samples()).await, samples().len());
    reads(&mut stream, &samples()).await;
    assert!(start.elapsed() >= 200 * MS);
    drop(stream);
    net.leaves_nothing().await;
}
