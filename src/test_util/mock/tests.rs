//! One service, run in both ways.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::protocol::Request;
use crate::test_util::memory::MemorySocket;
use crate::transport::{Frame, Frames, Socket, Transport as _, Tungstenite};

/// Answers `ask`, notes everything else as a fault but `close`, and says `tick` each second.
#[derive(Debug, Default)]
struct Parrot {
    dialled: Vec<String>,
    due: Option<Instant>,
    gone: Vec<SocketId>,
    heard: bool,
    open: Vec<SocketId>,
    pings: usize,
    stuck: bool,
}

impl Service for Parrot {
    fn open(&mut self, socket: SocketId, dial: &Handshake, out: &mut Out) {
        self.dialled.push(format!("{}?{:?}", dial.path, dial.parameter("key")));
        self.open.push(socket);
        out.send(socket, "hello");
    }

    fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
        match message.as_text() {
            Some("ask") => out.answer(socket, "answer"),
            Some("close") => out.close(socket, 4000, "as you like"),
            Some("drop") => out.drop_socket(socket),
            Some("heard") => self.heard = true,
            Some("stuck") => (self.due, self.stuck) = (Some(out.now()), true),
            Some("beat") => self.due = Some(out.now() + Duration::from_secs(1)),
            other => out.fault(socket, format!("{other:?}")),
        }
    }

    fn control(&mut self, _: SocketId, _: &Frame, _: &mut Out) {
        self.pings += 1;
    }

    fn gone(&mut self, socket: SocketId) {
        self.gone.push(socket);
        self.open.retain(|open| *open != socket);
    }

    fn deadline(&self) -> Option<Instant> {
        self.due
    }

    fn tick(&mut self, out: &mut Out) {
        if !self.stuck {
            self.due = self.due.map(|due| due + Duration::from_secs(1));
        }
        self.open.iter().for_each(|socket| out.send(*socket, "tick"));
    }
}

async fn read(socket: &mut impl Socket) -> Option<Frame> {
    let mut frames = Frames::with_budget(1, usize::MAX);
    std::future::poll_fn(|cx| socket.poll_read(cx, &mut frames)).await.ok()?;
    frames.drain().next()
}

async fn say(socket: &mut impl Socket, text: &str) {
    socket.start_send(Frame::Data(text.into())).unwrap();
    std::future::poll_fn(|cx| socket.poll_flush(cx)).await.unwrap();
}

async fn dial() -> (Mock<Parrot>, MemorySocket) {
    let (mock, transport) = Mock::in_memory(Parrot::default());
    let request = Request::new("ws://mock/a?key=b%20c").unwrap();
    let (mut socket, _) = transport.connect(&request).await.unwrap();
    assert_eq!(read(&mut socket).await, Some(Frame::Data("hello".into())));
    (mock, socket)
}

#[tokio::test(start_paused = true)]
async fn a_service_hears_and_says_the_same_in_memory_and_on_a_port() {
    let (mock, mut socket) = dial().await;
    talk(&mock, &mut socket, "/a?Some(\"b c\")").await;
}

#[tokio::test]
async fn a_service_on_a_port_hears_and_says_the_same() {
    let mock = Mock::on_port(Parrot::default()).await.unwrap();
    let request = Request::new(&format!("{}/a?key=b%20c", mock.url())).unwrap();
    let (mut socket, _) = Tungstenite::new().no_proxy().connect(&request).await.unwrap();
    assert_eq!(read(&mut socket).await, Some(Frame::Data("hello".into())));
    talk(&mock, &mut socket, "/a?Some(\"b c\")").await;
}

async fn talk(mock: &Mock<Parrot>, socket: &mut impl Socket, dialled: &str) {
    assert_eq!(mock.tell(|parrot, _| parrot.dialled.clone()), [dialled]);
    say(socket, "ask").await;
    assert_eq!(read(socket).await, Some(Frame::Data("answer".into())));
    say(socket, "what").await;
    mock.send_all("a lie");
    assert_eq!(read(socket).await, Some(Frame::Data("a lie".into())));
    socket.start_send(Frame::Ping("x".into())).unwrap();
    say(socket, "close").await;
    assert_eq!(read(socket).await, Some(Frame::Pong("x".into())));
    assert_eq!(read(socket).await, Some(Frame::Close(Some((4000, "as you like".into())))));
    std::future::poll_fn(|cx| socket.poll_close(cx)).await.unwrap();
    mock.until_sockets(0).await;
    let what: Vec<_> = mock.faults().into_iter().map(|fault| fault.what).collect();
    assert_eq!(what, ["Some(\"what\")"]);
    mock.tell(|parrot, _| assert_eq!((parrot.gone.len(), parrot.pings), (1, 1)));
}

#[tokio::test(start_paused = true)]
async fn answers_come_late_or_never_as_the_test_says() {
    let (mock, mut socket) = dial().await;
    let start = Instant::now();
    for answers in [Answers::After(Duration::from_secs(3)), Answers::Never] {
        mock.answers(answers);
        say(&mut socket, "ask").await;
        say(&mut socket, "heard").await;
        mock.until(|parrot| std::mem::take(&mut parrot.heard).then_some(())).await;
    }
    assert_eq!(read(&mut socket).await, Some(Frame::Data("answer".into())));
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    mock.answers(Answers::AtOnce);
    say(&mut socket, "ask").await;
    assert_eq!(read(&mut socket).await, Some(Frame::Data("answer".into())));
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_service_is_called_when_it_asked_for_it() {
    let (_mock, mut socket) = dial().await;
    let start = Instant::now();
    say(&mut socket, "beat").await;
    for second in 1..=3 {
        assert_eq!(read(&mut socket).await, Some(Frame::Data("tick".into())));
        assert_eq!(start.elapsed(), Duration::from_secs(second));
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_move_its_deadline_is_called_each_millisecond() {
    let (_mock, mut socket) = dial().await;
    let start = Instant::now();
    say(&mut socket, "stuck").await;
    for millis in 0..3 {
        assert_eq!(read(&mut socket).await, Some(Frame::Data("tick".into())));
        assert_eq!(start.elapsed(), Duration::from_millis(millis));
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_dropped_ends_without_a_close_frame() {
    let (mock, mut socket) = dial().await;
    say(&mut socket, "drop").await;
    assert_eq!(read(&mut socket).await, None);
    assert_eq!((mock.sockets().len(), mock.opened()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn dials_are_refused_one_by_one() {
    let (mock, transport) = Mock::in_memory(Parrot::default());
    mock.refuse_next([403, 429]);
    let request = Request::new("ws://mock").unwrap();
    for status in [403, 429] {
        let refused = transport.connect(&request).await.unwrap_err();
        assert_eq!(refused.response().unwrap().status(), status);
    }
    assert!(transport.connect(&request).await.is_ok());
}
