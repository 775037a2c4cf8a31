//! Messages that a server answers: what is written, who is told, and what a lost socket means.

use futures::future::join;
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::{self, Instant};
use wsmux::test_util::memory::{self, MemoryServer, Peer};
use wsmux::transport::Frame;
use wsmux::{Config, Limiter, Message, RequestError, SendError, Subscription, Token, WsManager};

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

#[tokio::test(start_paused = true)]
async fn a_reply_that_nobody_reads_is_bounded_in_bytes_but_for_one_part() {
    let (manager, _server, _stream, mut peer) = opened(config().buffer_bytes(10)).await;
    let (large, small) = ("x".repeat(20), "y".repeat(6));
    let mut replies = manager.request_parts("x", "a");
    settle().await;
    for _ in 0..2 {
        peer.send(format!("+1 {large}"));
        assert_eq!(replies.next().await, Some(Ok(large.as_str().into())), "what is read has room");
    }
    peer.send_all([format!("+1 {small}"), format!("+1 {small}"), "=1 z".to_owned()]);
    settle().await;
    assert_eq!(heard(&mut peer), ["?1 a", "~1"]);
    let items: Vec<_> = replies.by_ref().collect().await;
    assert_eq!(items, [Ok(small.as_str().into()), Err(RequestError::Overrun)]);
    let parts = [format!("+2 {small}"), format!("=2 {small}")];
    let whole = answered(&manager, &mut peer, &[&parts[0], &parts[1]]).await;
    assert_eq!(whole, Err(RequestError::Overrun), "as a whole it is kept until it is complete");
    let whole = answered(&manager, &mut peer, &["+3 12345", "=3 67890"]).await;
    assert_eq!(texts(&whole.unwrap()), ["12345", "67890"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_quotes_a_secret_in_its_refusal_shows_it_to_nobody() {
    let builder = |base: &str| WsManager::builder(Asker::new(base)).config(config());
    for (secret, with_token) in [("canary-token", true), ("canary-password", false)] {
        let (transport, mut dials) = memory::pair();
        let builder = match with_token {
            true => builder("wss://test/ws").credentials(|_| async {
                Ok::<_, std::convert::Infallible>(Token::new("canary-token"))
            }),
            false => builder("wss://ann:canary-password@test/ws"),
        };
        let manager = builder.transport(transport).limiter(Limiter::new()).build().unwrap();
        let _lease = manager.keep_warm("x").unwrap();
        let mut peer = dials.accept().await;
        settle().await;
        let failed = answered(&manager, &mut peer, &[&format!("-1 no such key: {secret}")]).await;
        let Err(e @ RequestError::Failed(_)) = failed else { panic!("{failed:?}") };
        assert_eq!(e, RequestError::Failed("no such key: ***".into()));
        assert!(!format!("{e} {e:?}").contains("canary"), "{e:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_comes_with_the_close_is_a_reply() {
    let (manager, _server, _stream, peer) = opened(config()).await;
    let asked = join(manager.request("x", "a"), manager.request("x", "b"));
    let closing = async {
        settle().await;
        peer.send("=1 one");
        peer.close(1001, "going away"); // In the same read.
    };
    let ((one, two), ()) = join(asked, closing).await;
    assert_eq!(texts(one.unwrap().parts()), ["one"]);
    assert_eq!(two, Err(RequestError::Unknown));
    let (manager, _server, _stream, peer) = opened(config()).await;
    let mut parts = manager.request_parts("x", "a");
    settle().await;
    peer.send("+1 part");
    peer.close(1000, "");
    assert_eq!(parts.next().await, Some(Ok("part".into())));
    assert_eq!(parts.next().await, Some(Err(RequestError::Unknown)), "it was not all");
}

#[tokio::test(start_paused = true)]
async fn a_request_above_what_the_transport_takes_is_not_sent_and_costs_nobody_else_anything() {
    let (transport, mut server) = memory::pair();
    let builder = WsManager::builder(Asker::new("ws://test/ws")).config(config());
    let manager = builder.transport(transport.max_send(8)).build().unwrap();
    let _lease = manager.keep_warm("x").unwrap();
    let mut peer = server.accept().await;
    settle().await;
    let too_large = Err(RequestError::NotSent(SendError::TooLarge { max: 8 }));
    assert_eq!(manager.request("x", "by itself").await, too_large);
    assert_eq!(manager.request("x", "as sent").await, too_large, "`?2 as sent` is ten bytes");
    let asked = heard(&mut peer);
    assert!(!asked.iter().any(|said| said.starts_with('?')), "{asked:?}");
    assert_eq!(texts(&answered(&manager, &mut peer, &["=3 yes"]).await.unwrap()), ["yes"]);
    assert_eq!(heard(&mut peer), ["?3 what"]);
}

#[test]
fn a_request_may_be_made_from_a_thread_without_a_runtime() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_time().build().unwrap();
    let (manager, mut server) = manager_of(Asker::new("ws://test/ws"), config());
    let _lease = {
        let _inside = runtime.enter();
        manager.keep_warm("x").unwrap()
    };
    let mut peer = runtime.block_on(server.dial()).accept();
    let answering = std::thread::spawn(move || {
        let asked = futures::executor::block_on(peer.recv());
        peer.send("=1 one");
        (asked, peer)
    });
    let reply = futures::executor::block_on(manager.request("x", "a"));
    assert_eq!(texts(reply.unwrap().parts()), ["one"]);
    let (asked, _peer) = answering.join().unwrap();
    assert_eq!(asked, Some(Frame::Data("?1 a".into())));
    // And without a runtime its time is counted all the same.
    let hurried = config().reply_timeout(50 * MS);
    let (manager, mut server) = manager_of(Asker::new("ws://test/ws"), hurried);
    let _lease = {
        let _inside = runtime.enter();
        manager.keep_warm("x").unwrap()
    };
    let _peer = runtime.block_on(server.dial()).accept();
    let unanswered = futures::executor::block_on(manager.request("x", "a"));
    assert_eq!(unanswered, Err(RequestError::TimedOut));
}
