//! What `docs/failures.md` says and no test that is about something else proves.

use std::io;
use std::io::ErrorKind::{ConnectionRefused, NetworkUnreachable};

use futures::FutureExt as _;
use wsmux::transport::TransportError;
use wsmux::{DisconnectReason, Gap, Message, Status, StreamError};

use crate::{MINUTE, alive_tasks, config, gap, manager, manager_with, message, settle};

#[tokio::test(start_paused = true)]
async fn what_a_server_says_again_on_its_next_socket_is_yielded_again_behind_the_gap() {
    let (manager, mut server) = manager();
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    let peer = server.accept().await;
    peer.send_all(["1", "2"]);
    peer.close(1012, "");
    server.accept().await.send_all(["2", "3"]);
    for said in ["1", "2"] {
        assert_eq!(message(&mut stream).await, said);
    }
    let Gap::Reconnected { reason, .. } = gap(&mut stream).await else { panic!() };
    assert_eq!(reason, DisconnectReason::closed(Some(1012), ""));
    for said in ["2", "3"] {
        assert_eq!(message(&mut stream).await, said, "nothing is hidden");
    }
}

#[tokio::test(start_paused = true)]
async fn a_last_drop_and_a_close_at_one_moment_leave_neither_a_socket_nor_a_dial() {
    for drop_first in [true, false] {
        let (manager, mut server) = manager();
        let mut stream = manager.subscribe::<Message>("x").unwrap();
        let mut peer = server.accept().await;
        stream.ready().await.unwrap();
        if drop_first {
            drop(stream);
            peer.close(1001, "");
        } else {
            peer.close(1001, "");
            drop(stream);
        }
        peer.closed().await;
        settle().await;
        assert_eq!((manager.stream_count(), alive_tasks()), (0, 0), "dropped first: {drop_first}");
        tokio::time::sleep(MINUTE).await;
        assert!(!server.has_dial());
        assert_eq!(manager.metrics().retries, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_finds_no_name_no_way_or_nobody_is_retried_and_the_status_says_so() {
    let failures = [
        (DisconnectReason::Dns, None),
        (DisconnectReason::Io(NetworkUnreachable), Some(NetworkUnreachable)),
        (DisconnectReason::Io(ConnectionRefused), Some(ConnectionRefused)),
    ];
    let (manager, mut server) = manager();
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    for (reason, kind) in failures {
        let dns = || TransportError::new(DisconnectReason::Dns);
        server.refuse(kind.map_or_else(dns, |kind| io::Error::from(kind).into())).await;
        settle().await;
        let Status::BackingOff { .. } = stream.status() else { panic!("{}", stream.status()) };
        assert_eq!(*stream.info().unwrap().last_error.unwrap().reason(), reason);
    }
    server.accept().await.send("found");
    assert_eq!(message(&mut stream).await, "found", "a failed dial is no gap");
}

#[tokio::test(start_paused = true)]
async fn a_socket_is_read_though_none_of_its_readers_reads() {
    let (manager, mut server) = manager_with(config().buffer(4));
    let readers = [0; 2].map(|_| manager.subscribe::<Message>("x").unwrap());
    let peer = server.accept().await;
    for n in 0..1000 {
        peer.send(n.to_string());
        settle().await;
    }
    for mut reader in readers {
        // At once: nothing can be read from the socket in between.
        let first = reader.recv().now_or_never().unwrap().unwrap();
        let lagged = StreamError::Gap(Gap::Lagged { missed: 996 });
        assert_eq!(first.unwrap_err().to_string(), lagged.to_string());
        assert_eq!(message(&mut reader).await, "996");
    }
}
