//! Messages of the program's own, over sockets whose kernels have their own mind.

use futures::future::join_all;
use wsmux::{DisconnectReason, SendError};

use crate::{HOUR, MS, NAME, Net, config, gap, within};

/// The largest message that the default transport sends.
const MOST: usize = 16 << 20;

#[tokio::test]
async fn the_largest_message_arrives_and_a_larger_one_costs_no_socket() {
    let net = Net::start().await;
    let stream = net.subscribe();
    let peer = net.accept().await;
    let received = async {
        let message = within(peer.recv_message()).await.unwrap();
        (message.len(), within(peer.recv_message()).await.unwrap())
    };
    let sent = async {
        assert_eq!(net.manager.send(NAME, vec![7; MOST]).await, Ok(()));
        let too_large = net.manager.send(NAME, vec![7; MOST + 1]).await;
        assert_eq!(too_large, Err(SendError::TooLarge { max: MOST }));
        assert_eq!(net.manager.send(NAME, "small").await, Ok(()));
    };
    let (received, ()) = tokio::join!(received, sent);
    assert_eq!(received, (MOST, "small".into()));
    assert!(stream.status().is_open());
    drop(stream);
    net.leaves_nothing().await;
}

#[tokio::test]
async fn what_a_server_that_reads_nothing_may_have_is_unknown_and_the_rest_goes_on() {
    let net = Net::with(config().write_timeout(200 * MS).send_ttl(HOUR)).await;
    let mut stream = net.subscribe();
    let peer = net.accept().await;
    peer.stall();
    let message = |n: u8| vec![n; 1 << 20];
    let sending = join_all((0..32).map(|n| net.manager.send(NAME, message(n))));
    let serving = async {
        let peer = net.accept().await;
        let mut received = Vec::new();
        while received.last() != Some(&31) {
            received.push(within(peer.recv_message()).await.unwrap().into_bytes()[0]);
        }
        (peer, received)
    };
    let (outcomes, (_peer, received)) = tokio::join!(sending, serving);
    let ids = |outcome| {
        let all = (0..32).zip(&outcomes);
        all.filter(|(_, o)| **o == outcome).map(|(n, _)| n).collect::<Vec<u8>>()
    };
    let (sent, unknown) = (ids(Ok(())), ids(Err(SendError::Unknown)));
    assert_eq!(sent.len() + unknown.len(), 32, "{outcomes:?}");
    assert!(!unknown.is_empty() && sent.ends_with(&received));
    assert!(!received.iter().any(|n| unknown.contains(n)), "what is unknown is not sent again");
    assert_eq!(gap(&mut stream).await, DisconnectReason::WriteTimeout);
    peer.fin();
    drop(stream);
    net.leaves_nothing().await;
}
