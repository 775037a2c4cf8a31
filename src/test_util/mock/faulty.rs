//! A service that misbehaves on time.
//!
//! - It goes between a service and its [`Out`]: the service within knows nothing of it.
//! - What strikes, strikes by the count of a socket's messages or by the socket's age, never by chance.
//! - Once a socket has fallen silent or was ended, nothing more is said on it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::dial::{Handshake, SocketId};
use super::out::{Out, Say};
use super::service::Service;
use crate::message::Message;
use crate::test_util::server::{Answer, Garbage};
use crate::transport::Frame;

/// When something strikes a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum After {
    /// Right behind this many messages on it, answers included. 0 is taken as 1.
    Messages(u64),
    /// So long after it was opened.
    Time(Duration),
}

/// What strikes a socket.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Trouble {
    /// It begins to close, with this code.
    Close(u16),
    /// It ends without a close frame.
    Drop,
    /// The protocol below is broken.
    Garbage(Garbage),
    /// Nothing more comes, and the socket stays. Pings of the client are still answered.
    Silence,
}

/// A [`Service`] whose sockets get into trouble, each on its own: once for each
/// [`after`](Self::after).
///
/// ```
/// use wsmux::protocol::Direct;
/// use wsmux::test_util::{After, Faulty, Handshake, Mock, Out, Service, SocketId, Trouble};
/// use wsmux::{Gap, Message, StreamError, Text, WsManager};
///
/// struct Greets;
///
/// impl Service for Greets {
///     fn open(&mut self, socket: SocketId, _: &Handshake, out: &mut Out) {
///         out.send(socket, "hello");
///     }
///
///     fn receive(&mut self, _: SocketId, _: &Message, _: &mut Out) {}
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let greets = Faulty::new(Greets).after(After::Messages(1), Trouble::Drop);
/// let (_mock, transport) = Mock::in_memory(greets);
/// let manager = WsManager::builder(Direct::new("ws://test")?).transport(transport).build()?;
/// let mut hellos = manager.subscribe::<Text>("hellos")?;
/// assert_eq!(&*hellos.recv().await.unwrap()?, "hello");
/// let notice = hellos.recv().await.unwrap().unwrap_err();
/// assert!(matches!(notice, StreamError::Gap(Gap::Reconnected { .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Faulty<S> {
    faults: Vec<(After, Trouble)>,
    service: S,
    sockets: BTreeMap<SocketId, Line>,
}

/// A socket.
#[derive(Debug)]
struct Line {
    is_over: bool,
    opened: Instant,
    said: u64,
    /// Which of the faults have struck.
    struck: Vec<bool>,
}

impl<S: Service> Faulty<S> {
    /// `service`, without any fault.
    pub fn new(service: S) -> Self {
        Self { faults: Vec::new(), service, sockets: BTreeMap::new() }
    }

    /// Has each socket get into `trouble` at this point. At the same point, what was given first strikes
    /// first.
    #[must_use]
    pub fn after(mut self, after: After, trouble: Trouble) -> Self {
        let after = match after {
            After::Messages(messages) => After::Messages(messages.max(1)),
            time => time,
        };
        self.faults.push((after, trouble));
        self
    }

    /// Has the service within do something now: what it says counts, as in
    /// [`Mock::tell`](super::Mock::tell).
    pub fn tell<R>(&mut self, out: &mut Out, order: impl FnOnce(&mut S, &mut Out) -> R) -> R {
        let mut own = out.beside();
        let result = order(&mut self.service, &mut own);
        out.faults.append(&mut own.faults);
        for (due, socket, say) in own.said {
            self.pass(due, socket, say, out);
        }
        result
    }

    fn pass(&mut self, due: Instant, socket: SocketId, say: Say, out: &mut Out) {
        let Some(line) = self.sockets.get_mut(&socket) else {
            return out.said.push((due, socket, say));
        };
        if line.is_over {
            return;
        }
        let is_message = matches!(say, Say::Send(_));
        out.said.push((due, socket, say));
        if is_message {
            line.said += 1;
            let said = line.said;
            line.strike(&self.faults, socket, due, out, |after| after == After::Messages(said));
        }
    }

    /// When the next socket is old enough.
    fn due(&self) -> Option<Instant> {
        let faults = &self.faults;
        let lines = self.sockets.values().filter(|line| !line.is_over);
        lines.flat_map(|line| line.times(faults)).min()
    }
}

impl Line {
    /// When time will strike.
    fn times<'a>(
        &'a self,
        faults: &'a [(After, Trouble)],
    ) -> impl Iterator<Item = Instant> + use<'a> {
        let left = faults.iter().zip(&self.struck).filter(|(_, struck)| !**struck);
        left.filter_map(|((after, _), _)| match after {
            After::Messages(_) => None,
            After::Time(time) => self.opened.checked_add(*time),
        })
    }

    fn strike(
        &mut self,
        faults: &[(After, Trouble)],
        socket: SocketId,
        due: Instant,
        out: &mut Out,
        is_now: impl Fn(After) -> bool,
    ) {
        for ((after, trouble), struck) in faults.iter().zip(&mut self.struck) {
            if *struck || self.is_over || !is_now(*after) {
                continue;
            }
            *struck = true;
            let say = match trouble {
                Trouble::Close(code) => Some(Say::Close(*code, "trouble".into())),
                Trouble::Drop => Some(Say::Drop),
                Trouble::Garbage(garbage) => Some(Say::Garbage(*garbage)),
                Trouble::Silence => None,
            };
            self.is_over = !matches!(trouble, Trouble::Garbage(_));
            out.said.extend(say.map(|say| (due, socket, say)));
        }
    }
}

impl<S: Service> Service for Faulty<S> {
    fn answer(&self) -> Answer {
        self.service.answer()
    }

    fn open(&mut self, socket: SocketId, dial: &Handshake, out: &mut Out) {
        let struck = vec![false; self.faults.len()];
        let line = Line { is_over: false, opened: out.now(), said: 0, struck };
        self.sockets.insert(socket, line);
        self.tell(out, |service, out| service.open(socket, dial, out));
    }

    fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
        self.tell(out, |service, out| service.receive(socket, message, out));
    }

    fn control(&mut self, socket: SocketId, frame: &Frame, out: &mut Out) {
        self.tell(out, |service, out| service.control(socket, frame, out));
    }

    fn gone(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
        self.service.gone(socket);
    }

    fn deadline(&self) -> Option<Instant> {
        self.service.deadline().into_iter().chain(self.due()).min()
    }

    fn tick(&mut self, out: &mut Out) {
        let now = out.now();
        for (socket, line) in &mut self.sockets {
            let opened = line.opened;
            line.strike(&self.faults, *socket, now, out, |after| match after {
                After::Messages(_) => false,
                After::Time(time) => opened.checked_add(time).is_some_and(|due| due <= now),
            });
        }
        if self.service.deadline().is_some_and(|due| due <= now) {
            self.tell(out, Service::tick);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::protocol::{DisconnectReason, Request};
    use crate::test_util::Mock;
    use crate::test_util::memory::{MemorySocket, MemoryTransport};
    use crate::transport::{Frames, Socket as _, Transport as _};

    /// Counts each second, on every socket from 1 on.
    struct Counts {
        due: Instant,
        sockets: BTreeMap<SocketId, u64>,
    }

    impl Service for Counts {
        fn open(&mut self, socket: SocketId, _: &Handshake, _: &mut Out) {
            self.sockets.insert(socket, 0);
        }

        fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
            out.answer(socket, message.clone());
        }

        fn gone(&mut self, socket: SocketId) {
            self.sockets.remove(&socket);
        }

        fn deadline(&self) -> Option<Instant> {
            Some(self.due)
        }

        fn tick(&mut self, out: &mut Out) {
            self.due = out.now() + Duration::from_secs(1);
            for (socket, said) in &mut self.sockets {
                *said += 1;
                out.send(*socket, said.to_string());
            }
        }
    }

    fn mock(after: After, trouble: Trouble) -> (Mock<Faulty<Counts>>, MemoryTransport) {
        let due = Instant::now() + Duration::from_secs(1);
        let counts = Counts { due, sockets: BTreeMap::new() };
        Mock::in_memory(Faulty::new(counts).after(after, trouble))
    }

    async fn dial(transport: &MemoryTransport) -> MemorySocket {
        let request = Request::new("ws://mock/").unwrap();
        transport.connect(&request).await.unwrap().0
    }

    /// What comes until nothing does for an hour: how many messages, and the end.
    async fn read(socket: &mut MemorySocket) -> (u64, String) {
        let mut messages = 0;
        loop {
            let mut frames = Frames::with_budget(1, usize::MAX);
            let read = std::future::poll_fn(|cx| socket.poll_read(cx, &mut frames));
            let read = timeout(Duration::from_secs(3600), read).await;
            let frame = frames.drain().next();
            match (frame, read) {
                (Some(Frame::Data(message)), _) => {
                    messages += 1;
                    assert_eq!(message.as_text(), Some(&*messages.to_string()));
                }
                (Some(other), _) => return (messages, format!("{other:?}")),
                (None, Ok(Err(e))) => return (messages, e.reason().label().to_owned()),
                (None, Ok(Ok(_))) => {}
                (None, Err(_)) => return (messages, "silence".to_owned()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_comes_right_behind_as_many_messages_on_each_socket() {
        let (ended, garbage) = (DisconnectReason::Ended, DisconnectReason::ProtocolViolation);
        for (trouble, end) in [
            (Trouble::Drop, ended.label()),
            (Trouble::Garbage(Garbage::BadUtf8), garbage.label()),
            (Trouble::Silence, "silence"),
            (Trouble::Close(4001), "Close(Some((4001, \"trouble\")))"),
        ] {
            let (_mock, transport) = mock(After::Messages(3), trouble);
            for _ in 0..3 {
                let mut socket = dial(&transport).await;
                assert_eq!(read(&mut socket).await, (3, end.to_owned()));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_comes_when_a_socket_is_old_enough_whatever_was_said() {
        let (_mock, transport) = mock(After::Time(Duration::from_millis(2500)), Trouble::Drop);
        let mut sockets = [dial(&transport).await, dial(&transport).await];
        tokio::time::sleep(Duration::from_millis(2400)).await;
        let mut late = dial(&transport).await;
        for socket in &mut sockets {
            assert_eq!(read(socket).await, (2, DisconnectReason::Ended.label().to_owned()));
        }
        // Its messages come at 3 s and 4 s; it ends at 4.9 s.
        assert_eq!(read(&mut late).await, (2, DisconnectReason::Ended.label().to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_fault_it_is_as_if_it_was_not_there() {
        let counts = Counts { due: Instant::now(), sockets: BTreeMap::new() };
        let (mock, transport) = Mock::in_memory(Faulty::new(counts));
        let mut socket = dial(&transport).await;
        mock.until_sockets(1).await;
        mock.tell(|faulty, out| {
            faulty.tell(out, |_, out| out.fault(SocketId(1), "noted"));
        });
        assert_eq!(mock.faults().len(), 1);
        let first_hour = timeout(Duration::from_secs(3600), read(&mut socket)).await;
        assert!(first_hour.is_err(), "it ended: {first_hour:?}");
    }
}
