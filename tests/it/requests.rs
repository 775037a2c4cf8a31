//! Messages that a server answers: what is written, who is told, and what a lost socket means.

use futures::future::join;
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::{self, Instant};
use wsmux::test_util::memory::{MemoryServer, Peer};
use wsmux::{Config, Message, RequestError, SendError, Subscription, WsManager};

use crate::asker::Asker;
use crate::lines::heard;
use crate::{MINUTE, MS, SECOND, config, manager_of, message, settle};

/// A stream `x` with an open socket.
async fn opened(config: Config) -> (WsManager, MemoryServer, Subscription<Message>, Peer) {
    let asker = Asker::new("ws://test/ws");
    let (manager, mut server) = manager_of(asker, config);
    let stream = manager.subscribe("x").unwrap();
    let peer = server.accept().await;
    settle().await;
    (manager, server, stream, peer)
}

fn texts(parts: &[Message]) -> Vec<&str> {
    parts.iter().filter_map(Message::as_text).collect()
}

/// What `request` of `x` comes to, once the peer has answered with `lines`.
async fn answered(
    manager: &WsManager,
    peer: &mut Peer,
    lines: &[&str],
) -> Result<Vec<Message>, RequestError> {
    let answering = async {
        settle().await;
        peer.send_all(lines.iter().copied());
    };
    let (reply, ()) = join(manager.request("x", "what"), answering).await;
    reply.map(wsmux::Reply::into_parts)
}

#[tokio::test(start_paused = true)]
async fn each_request_gets_the_reply_to_its_own_number() {
    let (manager, _server, mut stream, mut peer) = opened(config()).await;
    let asked = join(manager.request("x", "a"), manager.request("x", "b"));
    let answering = async {
        settle().await;
        assert_eq!(heard(&mut peer), ["?1 a", "?2 b"]);
        peer.send_all(["=2 two", "news", "=1 one"]);
    };
    let ((one, two), ()) = join(asked, answering).await;
    assert_eq!(one.unwrap().message(), Some(&"one".into()));
    assert_eq!(two.unwrap().message(), Some(&"two".into()));
    assert_eq!(message(&mut stream).await, "news", "a reply is nobody's data");
    assert_eq!(manager.metrics().sent, 2);
}

#[tokio::test(start_paused = true)]
async fn a_reply_has_as_many_parts_as_the_server_says() {
    let (manager, _server, _stream, mut peer) = opened(config()).await;
    let parts = answered(&manager, &mut peer, &["+1 a", "+1 b", "=1 c"]).await.unwrap();
    assert_eq!(texts(&parts), ["a", "b", "c"]);
    assert!(answered(&manager, &mut peer, &["=2 "]).await.unwrap().is_empty());
    let failed = answered(&manager, &mut peer, &["+3 a", "-3 no such order", "=3 late"]).await;
    assert_eq!(failed, Err(RequestError::Failed("no such order".into())));
}

#[tokio::test(start_paused = true)]
async fn parts_are_yielded_as_they_come_and_the_stream_ends_with_the_last() {
    let (manager, _server, _stream, peer) = opened(config()).await;
    let mut replies = manager.request_parts("x", "list");
    assert!(replies.next().now_or_never().is_none());
    settle().await;
    peer.send("+1 a");
    assert_eq!(replies.next().await, Some(Ok("a".into())));
    assert!(replies.next().now_or_never().is_none());
    peer.send("=1 b");
    assert_eq!(replies.next().await, Some(Ok("b".into())));
    assert_eq!(replies.next().await, None);
    assert_eq!(replies.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_request_opens_nothing_and_needs_a_protocol_that_has_them() {
    let (manager, _server, _stream, mut peer) = opened(config()).await;
    let not_sent = |e| Err(RequestError::NotSent(e));
    assert_eq!(manager.request("y", "a").await, not_sent(SendError::NotOpen));
    assert_eq!(manager.request("x", "nonsense").await, not_sent(SendError::Refused));
    assert!(heard(&mut peer).is_empty());
    let (direct, mut server) = crate::manager();
    let _stream = direct.subscribe::<Message>("x").unwrap();
    let _peer = server.accept().await;
    assert_eq!(direct.request("x", "a").await, not_sent(SendError::Refused));
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_while_the_stream_is_down_and_expires() {
    let (manager, mut server, _stream, peer) = opened(config()).await;
    drop(peer);
    settle().await;
    let asked = manager.request("x", "a");
    let answering = async {
        let mut peer = server.accept().await;
        settle().await;
        assert_eq!(heard(&mut peer), ["?1 a"]);
        peer.send("=1 one");
        peer
    };
    let (reply, peer) = join(asked, answering).await;
    assert_eq!(texts(reply.unwrap().parts()), ["one"]);
    drop(peer);
    settle().await;
    let start = Instant::now();
    let expired = manager.request("x", "b").await;
    assert_eq!(expired, Err(RequestError::NotSent(SendError::Expired)));
    assert_eq!(start.elapsed(), 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_socket_is_lost_is_unknown_and_not_asked_again() {
    let (manager, mut server, _stream, mut peer) = opened(config()).await;
    let losing = async {
        settle().await;
        assert_eq!(heard(&mut peer), ["?1 a"]);
        peer.send("+1 part");
        drop(peer);
    };
    let (reply, ()) = join(manager.request("x", "a"), losing).await;
    assert_eq!(reply, Err(RequestError::Unknown));
    let mut peer = server.accept().await;
    time::sleep(MINUTE).await;
    assert!(heard(&mut peer).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_does_not_come_times_out_and_is_ignored_when_it_does() {
    let (manager, _server, mut stream, mut peer) = opened(config()).await;
    let start = Instant::now();
    let mut replies = manager.request_parts("x", "a");
    let parts = async {
        time::sleep(20 * SECOND).await;
        peer.send("+1 part");
    };
    let (part, ()) = join(replies.next(), parts).await;
    assert_eq!(part, Some(Ok("part".into())));
    assert_eq!(replies.next().await, Some(Err(RequestError::TimedOut)));
    assert_eq!(start.elapsed(), 50 * SECOND, "each part has its own time");
    assert_eq!(replies.next().await, None);
    drop(replies);
    settle().await;
    assert_eq!(heard(&mut peer), ["?1 a", "~1"], "the session is told");
    peer.send_all(["=1 late", "news"]);
    assert_eq!(message(&mut stream).await, "news");
}

#[tokio::test(start_paused = true)]
async fn dropping_a_request_takes_it_back_or_cancels_it() {
    let (manager, _server, _stream, mut peer) = opened(config()).await;
    drop(manager.request_parts("x", "a"));
    settle().await;
    assert!(heard(&mut peer).is_empty(), "nothing of it was written");
    let asked = manager.request_parts("x", "b");
    settle().await;
    assert_eq!(heard(&mut peer), ["?2 b"]);
    drop(asked);
    settle().await;
    assert_eq!(heard(&mut peer), ["~2"]);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_nobody_reads_is_bounded() {
    let (manager, _server, _stream, mut peer) = opened(config().buffer(2)).await;
    let mut replies = manager.request_parts("x", "a");
    settle().await;
    peer.send_all(["+1 a", "+1 b", "+1 c", "+1 d", "=1 e"]);
    settle().await;
    assert_eq!(heard(&mut peer), ["?1 a", "~1"]);
    let items: Vec<_> = replies.by_ref().collect().await;
    assert_eq!(items, [Ok("a".into()), Ok("b".into()), Err(RequestError::Overrun)]);
    let whole = answered(&manager, &mut peer, &["+2 a", "+2 b", "=2 c"]).await;
    assert_eq!(whole, Err(RequestError::Overrun));
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_of_a_socket_wait_for_replies_than_may() {
    let (manager, _server, _stream, mut peer) = opened(config().send_queue(2000)).await;
    let mut asked: Vec<_> = (0..1025).map(|_| manager.request_parts("x", "a")).collect();
    settle().await;
    let mut last = asked.pop().unwrap();
    assert_eq!(last.next().await, Some(Err(RequestError::NotSent(SendError::Full))));
    assert_eq!(heard(&mut peer).len(), 1024);
    asked.truncate(1023);
    settle().await;
    let reply = answered(&manager, &mut peer, &["=1026 yes"]).await;
    assert_eq!(texts(&reply.unwrap()), ["yes"], "there is room again");
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_replaced_stays_for_the_replies_it_owes() {
    let (manager, mut server, _stream, mut old) = opened(config()).await;
    let mut asked = manager.request_parts("x", "a");
    settle().await;
    assert!(manager.reconnect("x"));
    let mut new = server.accept().await;
    time::sleep(20 * SECOND).await;
    let said = heard(&mut old).into_iter().filter(|said| said != "(ping)");
    assert_eq!(said.collect::<Vec<_>>(), ["?1 a"]);
    let second = async {
        settle().await;
        assert_eq!(heard(&mut new), ["?2 b"], "what is asked now is asked there");
        new.send("=2 two");
    };
    assert!(join(manager.request("x", "b"), second).await.0.is_ok());
    old.send("=1 one");
    assert_eq!(asked.next().await, Some(Ok("one".into())));
    assert_eq!(asked.next().await, None);
    old.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_replaced_waits_no_longer_than_a_reply_may_take() {
    let (manager, mut server, _stream, mut old) = opened(config()).await;
    let mut asked = manager.request_parts("x", "a"); // And is not polled.
    settle().await;
    assert!(manager.reconnect("x"));
    let _new = server.accept().await;
    let start = Instant::now();
    old.closed().await;
    assert!((30 * SECOND..45 * SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(asked.next().await, Some(Err(RequestError::Unknown)));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_left_or_shut_down_leaves_no_request_waiting() {
    let (manager, _server, stream, mut peer) = opened(config()).await;
    let mut asked = manager.request_parts("x", "a");
    settle().await;
    drop(stream);
    assert_eq!(asked.next().await, Some(Err(RequestError::Unknown)));
    peer.closed().await;
    let (manager, _server, _stream, _peer) = opened(config()).await;
    let mut asked = manager.request_parts("x", "a");
    settle().await;
    manager.shutdown().await;
    assert_eq!(asked.next().await, Some(Err(RequestError::Unknown)));
    let late = manager.request("x", "b").await;
    assert_eq!(late, Err(RequestError::NotSent(SendError::Closed)));
    time::sleep(MS).await;
}
