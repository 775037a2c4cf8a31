//! Messages of the program's own: when they are written, and what their senders are told.

mod model;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::{join, join_all};
use futures::task::noop_waker;
use tokio::time::{self, Instant};
use wsmux::protocol::{Cx, Dial, DialError, Direct, Lane, Protocol, Request, Session, To, Verdict};
use wsmux::test_util::memory::{self, MemoryServer, Peer};
use wsmux::transport::Frame;
use wsmux::{
    CloseReason, Config, DisconnectReason, Gap, InvalidName, Limiter, Message, SendError,
    StreamName, Subscription, WsManager,
};

use crate::lines::{Lines, accept, confirm, heard};
use crate::{DAY, MINUTE, MS, SECOND, config, end, gap, manager, manager_of, message, settle};

type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), SendError>> + Send + 'a>>;

/// A message that is on its way: the future has been polled.
fn sending<'a>(manager: &'a WsManager, name: &'a str, text: &'a str) -> Sending<'a> {
    let mut sending: Sending<'a> = Box::pin(manager.send(name, text));
    let polled = poll(&mut sending);
    assert!(polled.is_pending(), "{polled:?}");
    sending
}

fn poll(sending: &mut Sending<'_>) -> Poll<Result<(), SendError>> {
    sending.as_mut().poll(&mut Context::from_waker(&noop_waker()))
}

/// A stream `x` with an open socket.
async fn opened() -> (WsManager, MemoryServer, Subscription<Message>, Peer) {
    let (manager, mut server) = manager();
    let stream = manager.subscribe("x").unwrap();
    let peer = server.accept().await;
    settle().await;
    (manager, server, stream, peer)
}

#[tokio::test(start_paused = true)]
async fn a_message_is_sent_once_the_kernel_has_taken_it() {
    let (manager, _server, _stream, mut peer) = opened().await;
    assert_eq!(manager.send("x", "1").await, Ok(()));
    assert_eq!(heard(&mut peer), ["1"]);
    peer.stall(true);
    let mut second = sending(&manager, "x", "2");
    settle().await;
    assert!(poll(&mut second).is_pending());
    assert_eq!(peer.untaken(), [Frame::Data("2".into())]);
    peer.stall(false);
    assert_eq!(second.await, Ok(()));
    assert_eq!(manager.send("x", vec![1, 2]).await, Ok(()));
    assert_eq!(peer.recv().await, Some(Frame::Data("2".into())));
    assert_eq!(peer.recv().await, Some(Frame::Data(vec![1, 2].into())));
}

#[tokio::test(start_paused = true)]
async fn sending_opens_nothing() {
    let (manager, mut server) = manager();
    for name in ["x", "", "a\nb"] {
        assert_eq!(manager.send(name, "1").await, Err(SendError::NotOpen));
    }
    settle().await;
    assert!(!server.has_dial() && manager.stream_count() == 0);
    manager.shutdown().await;
    assert_eq!(manager.send("x", "1").await, Err(SendError::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_enough_to_send() {
    let (manager, mut server) = manager();
    let _lease = manager.keep_warm("x").unwrap();
    let (sent, mut peer) = join(manager.send("x", "1"), server.accept()).await;
    assert_eq!(sent, Ok(()));
    assert_eq!(heard(&mut peer), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_waits_for_its_socket_and_no_longer_than_its_time() {
    let (manager, mut server) = manager();
    let _stream = manager.subscribe::<Message>("x").unwrap();
    let dial = server.dial().await;
    let start = Instant::now();
    assert_eq!(manager.send("x", "1").await, Err(SendError::Expired));
    assert_eq!(start.elapsed(), 5 * SECOND);
    let mut second = sending(&manager, "x", "2");
    time::sleep(4 * SECOND).await;
    let mut peer = dial.accept();
    settle().await;
    assert_eq!(poll(&mut second), Poll::Ready(Ok(())));
    assert_eq!(heard(&mut peer), ["2"], "what has expired is never written");
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_sent_in_order_on_the_next_socket() {
    let (manager, mut server, _stream, peer) = opened().await;
    drop(peer);
    settle().await;
    let sent = ["1", "2", "3"].map(|text| sending(&manager, "x", text));
    let mut peer = server.accept().await;
    assert_eq!(join_all(sent).await, [Ok(()); 3]);
    assert_eq!(heard(&mut peer), ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_dropped_before_it_is_written_never_is() {
    let (manager, mut server, _stream, mut peer) = opened().await;
    drop(sending(&manager, "x", "while it is open, before its task has run"));
    settle().await;
    peer.stall(true);
    let first = sending(&manager, "x", "1");
    settle().await;
    drop(sending(&manager, "x", "behind one that stalls"));
    drop(first); // It is being written: nobody hears how that ends.
    peer.stall(false);
    settle().await;
    assert_eq!(heard(&mut peer), ["1"]);
    drop(peer);
    settle().await;
    drop(sending(&manager, "x", "while it is down"));
    let mut peer = server.accept().await;
    settle().await;
    assert_eq!(manager.send("x", "2").await, Ok(()));
    assert_eq!(heard(&mut peer), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_left_is_unknown_and_what_has_not_goes_to_the_next_socket() {
    for took in [0, 1] {
        let (manager, mut server, mut stream, mut peer) = opened().await;
        peer.stall(true);
        let first = sending(&manager, "x", "1");
        settle().await;
        let second = sending(&manager, "x", "2");
        settle().await;
        assert_eq!(peer.take(took), took);
        assert_eq!(heard(&mut peer).len(), took);
        drop(peer);
        assert_eq!(first.await, Err(SendError::Unknown));
        let mut peer = server.accept().await;
        assert_eq!(second.await, Ok(()));
        assert_eq!(heard(&mut peer), ["2"], "what is unknown is not sent again");
        gap(&mut stream).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stalled_message_stops_neither_reading_nor_the_clocks() {
    let (manager, mut server, mut stream, mut peer) = opened().await;
    peer.stall(true);
    let start = Instant::now();
    let first = sending(&manager, "x", "1");
    settle().await;
    let second = manager.send("x", "2");
    let reading = async {
        for i in 0..9 {
            time::sleep(SECOND).await;
            peer.send(i.to_string());
            assert_eq!(message(&mut stream).await, i.to_string());
        }
        peer.closed().await;
        Instant::now()
    };
    let told = |sent| async move { (sent, start.elapsed()) };
    let (first, second, closed) = tokio::join!(first.then(told), second.then(told), reading);
    assert_eq!(second.0, Err(SendError::Expired), "it waited for its turn");
    assert_eq!(second.1, 5 * SECOND + MS);
    assert_eq!(first.0, Err(SendError::Unknown), "it was being written until the write timeout");
    assert_eq!(first.1, 10 * SECOND);
    assert_eq!(closed, start + 10 * SECOND);
    let mut peer = server.accept().await;
    let Gap::Reconnected { reason, .. } = gap(&mut stream).await else { panic!() };
    assert_eq!(reason, DisconnectReason::WriteTimeout);
    settle().await;
    assert!(heard(&mut peer).is_empty(), "neither is sent again");
}

#[tokio::test(start_paused = true)]
async fn no_more_messages_wait_than_may() {
    let (transport, mut server) = memory::pair();
    let manager = WsManager::builder(Direct::new("ws://test/").unwrap())
        .config(config().send_ttl(DAY))
        .stream("x", |stream| stream.send_queue = 2)
        .transport(transport)
        .limiter(Limiter::new())
        .build()
        .unwrap();
    let _streams = ["x", "y"].map(|name| manager.subscribe::<Message>(name).unwrap());
    let dials = [server.dial().await, server.dial().await];
    let first = sending(&manager, "x", "1");
    let second = sending(&manager, "x", "2");
    assert_eq!(manager.send("x", "3").await, Err(SendError::Full));
    drop(first);
    let third = sending(&manager, "x", "4");
    let others: Vec<_> = (0..256).map(|_| sending(&manager, "y", "y")).collect();
    assert_eq!(manager.send("y", "y").await, Err(SendError::Full));
    let mut peers = dials.map(memory::Dial::accept);
    assert_eq!(join_all(others).await, [Ok(()); 256]);
    assert_eq!(join(second, third).await, (Ok(()), Ok(())));
    let x = peers.iter_mut().find(|peer| peer.request().url().path() == "/x").unwrap();
    assert_eq!(heard(x), ["2", "4"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_above_what_the_transport_takes_costs_nobody_else_anything() {
    let (transport, mut server) = memory::pair();
    let manager = WsManager::builder(Direct::new("ws://test/").unwrap())
        .config(config())
        .transport(transport.max_send(3))
        .build()
        .unwrap();
    let stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    let sent = ["one", "four", "two"].map(|text| sending(&manager, "x", text));
    let too_large = Err(SendError::TooLarge { max: 3 });
    assert_eq!(join_all(sent).await, [Ok(()), too_large, Ok(())]);
    assert_eq!(heard(&mut peer), ["one", "two"]);
    assert!(stream.status().is_open() && stream.info().unwrap().gaps == 0);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_stream_is_told_to_whoever_waits() {
    let (manager, mut server) = manager_of(Lines::default(), config());
    let [mut a1, a2, a3] = ["a1", "a2", "a3"].map(|name| manager.subscribe(name).unwrap());
    let _b1 = manager.subscribe::<Message>("b1").unwrap();
    let peer = server.accept().await;
    let _other = server.accept().await;
    settle().await;
    let [rejected, left, shut] = ["a1", "a2", "b1"].map(|name| sending(&manager, name, "1"));
    peer.send("!a1 no such symbol");
    assert_eq!(rejected.await, Err(SendError::Closed));
    assert!(matches!(end(&mut a1).await, CloseReason::Rejected { .. }));
    drop::<Subscription<Message>>(a2);
    assert_eq!(left.await, Err(SendError::Closed));
    manager.shutdown().await;
    assert_eq!(shut.await, Err(SendError::Closed));
    drop::<Subscription<Message>>(a3);
    let (manager, mut server) =
        manager_of(Lines::default(), Config { retry: wsmux::RetryPolicy::never(), ..config() });
    let _stream = manager.subscribe::<Message>("a1").unwrap();
    let dial = server.dial().await;
    let failed = sending(&manager, "a1", "1");
    dial.refuse(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
    assert_eq!(failed.await, Err(SendError::Closed));
}

#[test]
fn a_runtime_that_goes_away_leaves_no_sender_waiting() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (manager, mut server) = manager();
    let connections = runtime();
    let (stream, peer) = connections.block_on(async {
        let stream = manager.subscribe::<Message>("x").unwrap();
        let peer = server.accept().await;
        tokio::task::yield_now().await;
        peer.stall(true);
        (stream, peer)
    });
    let written = sending(&manager, "x", "1");
    connections.block_on(async { time::sleep(MS).await });
    assert_eq!(peer.untaken().len(), 1);
    let waiting = sending(&manager, "x", "2");
    drop(connections);
    assert_eq!(runtime().block_on(written), Err(SendError::Unknown));
    assert_eq!(futures::executor::block_on(waiting), Err(SendError::Closed));
    drop(stream);
}

#[test]
fn a_message_may_be_sent_from_a_thread_without_a_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let (manager, mut server) =
        manager_of(Direct::new("ws://test/{name}").unwrap(), config().send_ttl(50 * MS));
    let _stream = {
        let _inside = runtime.enter();
        manager.subscribe::<Message>("x").unwrap()
    };
    let dial = runtime.block_on(server.dial());
    let outside = |text| futures::executor::block_on(manager.send("x", text));
    assert_eq!(outside("1"), Err(SendError::Expired));
    let mut peer = dial.accept();
    assert_eq!(outside("2"), Ok(()));
    assert_eq!(heard(&mut peer), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_waits_for_its_own_name_and_not_for_others_on_the_socket() {
    let (manager, mut server) = manager_of(Lines::default(), config().send_ttl(MINUTE));
    let _a = ["a1", "a2"].map(|name| manager.subscribe::<Message>(name).unwrap());
    let mut peer = server.accept().await;
    settle().await;
    heard(&mut peer);
    let mut sent: Vec<_> = [("a2", "a2 first"), ("a1", "a1 first"), ("a2", "a2 second")]
        .map(|(name, text)| sending(&manager, name, text))
        .into();
    peer.send("=a1");
    settle().await;
    assert_eq!(heard(&mut peer), ["a1 first"]);
    let late = sending(&manager, "a1", "a1 second");
    peer.send("=a2");
    settle().await;
    assert_eq!(heard(&mut peer), ["a2 first", "a2 second", "a1 second"], "as they were sent");
    sent.push(late);
    assert_eq!(join_all(sent).await, [Ok(()); 4]);
    // A name that the server has ended is not joined: what is sent then waits for its next join.
    peer.send("#a1");
    settle().await;
    let waiting = sending(&manager, "a1", "a1 third");
    time::sleep(2 * SECOND).await;
    assert_eq!(confirm(&mut peer).await, ["+a1"]);
    assert_eq!(waiting.await, Ok(()));
    assert_eq!(heard(&mut peer), ["a1 third"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_silence_is_watched_is_written_to_all_the_same() {
    let (manager, mut server) =
        manager_of(Direct::new("ws://test/{name}").unwrap(), config().data_timeout(Some(MINUTE)));
    let _stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    for _ in 0..5 {
        time::sleep(MINUTE / 2).await;
        peer.send("not silent");
        settle().await;
        assert_eq!(manager.send("x", "1").await, Ok(()));
        assert_eq!(heard(&mut peer), ["1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn leaves_and_joins_go_first_and_one_message_with_each_of_their_bursts() {
    let protocol = Lines { batch: Some(1), ..Lines::default() };
    let (manager, mut server) = manager_of(protocol, config());
    let [_a1, a2] = ["a1", "a2"].map(|name| manager.subscribe::<Message>(name).unwrap());
    let mut peer = accept(&mut server).await;
    let sent = ["1", "2"].map(|text| sending(&manager, "a1", text));
    let _a3 = manager.subscribe::<Message>("a3").unwrap();
    drop(a2);
    assert_eq!(join_all(sent).await, [Ok(()); 2]);
    assert_eq!(heard(&mut peer), ["-a2", "+a3", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_never_stops_speaking_lets_messages_through() {
    let (manager, mut server) = manager_of(Talker, config());
    let stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    settle().await;
    heard(&mut peer);
    peer.stall(true);
    peer.send("say 1000");
    settle().await;
    let sent = ["1", "2"].map(|text| sending(&manager, "x", text));
    settle().await;
    peer.stall(false);
    assert_eq!(join_all(sent).await, [Ok(()); 2]);
    let said = heard(&mut peer);
    assert_eq!(said.len(), 1002);
    let place = |text| said.iter().position(|said| said == text).unwrap();
    assert!(place("<1>") <= 2 * 64 + 1, "one goes with each burst: {}", place("<1>"));
    assert!(place("<2>") <= place("<1>") + 65, "{}", place("<2>"));
    assert!(stream.status().is_open());
}

#[tokio::test(start_paused = true)]
async fn programs_that_send_all_the_time_stop_no_reading() {
    let (manager, _server, mut stream, mut peer) = opened().await;
    let flood = async {
        loop {
            let burst = (0..200).map(|_| manager.send("x", "x"));
            assert!(join_all(burst).await.iter().all(Result::is_ok));
        }
    };
    let reading = async {
        for i in 0..100 {
            peer.send(i.to_string());
            assert_eq!(message(&mut stream).await, i.to_string());
            while peer.recv().now_or_never().is_some() {}
        }
    };
    tokio::select! {
        () = flood => unreachable!(),
        () = reading => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_protocol_says_how_a_message_is_written_and_may_refuse_it() {
    let (manager, mut server) = manager_of(Talker, config());
    let stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    let sent = ["1", "nothing", "2"].map(|text| sending(&manager, "x", text));
    assert_eq!(join_all(sent).await, [Ok(()), Err(SendError::Refused), Ok(())]);
    assert_eq!(heard(&mut peer), ["<1>", "<2>"]);
    assert!(stream.status().is_open());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_a_session_gives_up_on_goes_to_the_next_socket() {
    let (manager, mut server) = manager_of(Talker, config());
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    settle().await;
    peer.send("give up");
    settle().await;
    let sent = sending(&manager, "x", "1");
    peer.closed().await;
    let mut peer = server.accept().await;
    assert_eq!(sent.await, Ok(()));
    assert_eq!(heard(&mut peer), ["<1>"]);
    gap(&mut stream).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_panics_leaves_no_sender_waiting() {
    let (manager, mut server) = manager_of(Talker, config());
    let mut stream = manager.subscribe::<Message>("x").unwrap();
    let mut peer = server.accept().await;
    let sent = sending(&manager, "x", "panic");
    assert_eq!(sent.await, Err(SendError::Closed), "nothing of it was written");
    assert!(matches!(end(&mut stream).await, CloseReason::Aborted));
    peer.closed().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_and_what_is_not_is_counted() {
    let (manager, _server, _stream, peer) = opened().await;
    manager.send("x", "1").await.unwrap();
    manager.send("y", "1").await.unwrap_err();
    peer.stall(true);
    let (unknown, expired) = (sending(&manager, "x", "2"), manager.send("x", "3"));
    settle().await;
    let (unknown, expired) = join(unknown, expired).await;
    assert_eq!((unknown, expired), (Err(SendError::Unknown), Err(SendError::Expired)));
    let metrics = manager.metrics();
    assert_eq!((metrics.sent, metrics.send_errors), (1, 3));
    let expected = [("expired", 1), ("not_open", 1), ("unknown", 1)];
    assert_eq!(metrics.send_errors_by_reason, expected.into());
}

#[test]
fn the_future_of_a_message_goes_anywhere() {
    fn goes_anywhere(_: impl Send) {}
    let (manager, _server) = manager();
    goes_anywhere(manager.send("x", "1"));
    goes_anywhere(manager.send(String::from("x"), vec![1]));
}

/// A protocol that frames messages, and whose server may have it speak a lot or give up.
struct Talker;

impl Protocol for Talker {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        Ok(Lane::new(name.as_str()))
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        Ok(Request::new("ws://test/")?.joining(dial.names.to_vec()))
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        Box::new(Talking { gives_up: false })
    }
}

struct Talking {
    gives_up: bool,
}

impl Session for Talking {
    fn join(&mut self, _: &[StreamName], _: &mut Cx<'_>) {}

    fn leave(&mut self, _: &[StreamName], _: &mut Cx<'_>) {}

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        match message.as_text().unwrap_or_default().split_once(' ') {
            Some(("say", n)) => (0..n.parse().unwrap()).for_each(|_| cx.push("said")),
            Some(("give", _)) => self.gives_up = true,
            _ => cx.data(To::All, message.clone()),
        }
    }

    fn send(&mut self, name: &StreamName, message: Message, cx: &mut Cx<'_>) {
        assert_eq!(name, "x");
        let text = message.as_text().unwrap_or_default();
        assert_ne!(text, "panic");
        if text != "nothing" {
            cx.push(format!("<{text}>"));
        }
        if self.gives_up {
            cx.failed(Verdict::Retry, "it had enough");
        }
    }
}
