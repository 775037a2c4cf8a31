//! What a service says.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::dial::SocketId;
use crate::message::{Message, Text};
use crate::test_util::server::Garbage;

/// How answers come: acknowledgements, and whatever else a client waits for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Answers {
    /// At once.
    #[default]
    AtOnce,
    /// Late, so that data comes before them.
    After(Duration),
    /// They get lost.
    Never,
}

/// Something that a client did wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Fault {
    /// Where.
    pub socket: SocketId,
    /// What.
    pub what: String,
}

/// A service's only way out. What is said to a socket that has ended is lost.
#[derive(Debug)]
pub struct Out {
    answers: Answers,
    now: Instant,
    pub(super) faults: Vec<Fault>,
    pub(super) said: Vec<(Instant, SocketId, Say)>,
}

/// Something to do on a socket.
#[derive(Clone, Debug)]
pub(super) enum Say {
    Close(u16, Text),
    Drop,
    Garbage(Garbage),
    Ping(Bytes),
    Send(Message),
}

impl Out {
    pub(super) fn new(answers: Answers, now: Instant) -> Self {
        Self { answers, now, faults: Vec::new(), said: Vec::new() }
    }

    /// Another one, for a service within a service.
    pub(super) fn beside(&self) -> Self {
        Self::new(self.answers, self.now)
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Sends a message.
    pub fn send(&mut self, socket: SocketId, message: impl Into<Message>) {
        self.say(socket, Say::Send(message.into()));
    }

    /// Sends a message after a while. Others may come before it.
    pub fn send_after(&mut self, delay: Duration, socket: SocketId, message: impl Into<Message>) {
        self.said.push((self.now + delay, socket, Say::Send(message.into())));
    }

    /// Sends a message that a client waits for, in the way that the test has
    /// [set](super::Mock::answers).
    pub fn answer(&mut self, socket: SocketId, message: impl Into<Message>) {
        if let Some(delay) = hold(self.answers) {
            self.send_after(delay, socket, message);
        }
    }

    /// Sends a ping.
    pub fn ping(&mut self, socket: SocketId, payload: impl Into<Bytes>) {
        self.say(socket, Say::Ping(payload.into()));
    }

    /// Breaks the protocol below. In memory, where there are no frames, the socket ends as one on which
    /// that was seen.
    pub fn garbage(&mut self, socket: SocketId, garbage: Garbage) {
        self.say(socket, Say::Garbage(garbage));
    }

    /// Begins to close a socket.
    pub fn close(&mut self, socket: SocketId, code: u16, reason: impl Into<Text>) {
        self.say(socket, Say::Close(code, reason.into()));
    }

    /// Ends a socket without a close frame.
    pub fn drop_socket(&mut self, socket: SocketId) {
        self.say(socket, Say::Drop);
    }

    /// Notes that the client of a socket did something wrong.
    pub fn fault(&mut self, socket: SocketId, what: impl Into<String>) {
        self.faults.push(Fault { socket, what: what.into() });
    }

    fn say(&mut self, socket: SocketId, say: Say) {
        self.said.push((self.now, socket, say));
    }
}

/// How long `answers` holds an answer back; `None` for ever.
fn hold(answers: Answers) -> Option<Duration> {
    match answers {
        Answers::AtOnce => Some(Duration::ZERO),
        Answers::After(delay) => Some(delay),
        Answers::Never => None,
    }
}
