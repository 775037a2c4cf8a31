//! The client protocol of NATS, as far as subscribing needs it: names are subjects.
//!
//! The stream of bytes is cut into WebSocket messages anywhere. The server answers a PING after all
//! that was said before it, so its PONG confirms what was asked for.

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use wsmux::protocol::{Cx, Dial, DialError, Lane, Protocol, Request, Session, To, Verdict};
use wsmux::{InvalidName, Message, StreamName};

#[derive(Debug)]
pub(super) struct Nats(Request);

impl Nats {
    pub(super) fn new(url: &str) -> Self {
        Self(Request::new(url).unwrap())
    }
}

impl Protocol for Nats {
    fn lane(&self, _: &StreamName) -> Result<Lane, InvalidName> {
        Ok(Lane::new("nats"))
    }

    fn request(&self, _: &Dial<'_>) -> Result<Request, DialError> {
        Ok(self.0.clone())
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        Box::<Conversation>::default()
    }
}

/// What the next PONG confirms.
#[derive(Debug)]
enum Asked {
    Hello,
    Join(Vec<StreamName>),
}

#[derive(Debug, Default)]
struct Conversation {
    asked: VecDeque<Asked>,
    greeted: bool,
    ids: HashMap<StreamName, u64>,
    names: HashMap<u64, StreamName>,
    next_id: u64,
    unread: BytesMut,
}

/// Something that the server said in whole.
enum Said {
    Error(String),
    Info,
    Message(u64, Bytes),
    Nothing,
    Ping,
    Pong,
}

impl Conversation {
    /// Takes what the server said next, if it is there in whole.
    fn next(&mut self) -> Option<Said> {
        let end = self.unread.windows(2).position(|two| two == b"\r\n")?;
        let line = String::from_utf8_lossy(&self.unread[..end]).into_owned();
        let mut words = line.split_whitespace();
        let said = match words.next() {
            Some("INFO") => Said::Info,
            Some("MSG") => return self.message(end + 2, &line),
            Some("PING") => Said::Ping,
            Some("PONG") => Said::Pong,
            Some("-ERR") => Said::Error(line),
            _ => Said::Nothing,
        };
        let _ = self.unread.split_to(end + 2);
        Some(said)
    }

    /// `MSG subject id [reply-to] length`, and the payload from `start` on.
    fn message(&mut self, start: usize, line: &str) -> Option<Said> {
        let id = line.split_whitespace().nth(2).and_then(|id| id.parse().ok());
        let len = line.split_whitespace().last().and_then(|len| len.parse::<usize>().ok());
        let (Some(id), Some(len)) = (id, len) else { return Some(Said::Error(line.to_owned())) };
        if self.unread.len() < start + len + 2 {
            return None;
        }
        let _ = self.unread.split_to(start);
        let payload = self.unread.split_to(len).freeze();
        let _ = self.unread.split_to(2);
        Some(Said::Message(id, payload))
    }
}

impl Session for Conversation {
    fn open(&mut self, _: &mut Cx<'_>) {} // The server speaks first.

    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        let mut text = String::new();
        for name in names {
            self.next_id += 1;
            text += &format!("SUB {name} {}\r\n", self.next_id);
            self.ids.insert(name.clone(), self.next_id);
            self.names.insert(self.next_id, name.clone());
        }
        self.asked.push_back(Asked::Join(names.to_vec()));
        cx.push(Message::binary(text + "PING\r\n"));
    }

    fn leave(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        for id in names.iter().filter_map(|name| self.ids.remove(name)) {
            self.names.remove(&id);
            cx.push(Message::binary(format!("UNSUB {id}\r\n")));
        }
    }

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        self.unread.extend_from_slice(message.as_bytes());
        while let Some(said) = self.next() {
            match said {
                Said::Error(line) => cx.failed(Verdict::Retry, &line),
                Said::Info if !self.greeted => {
                    self.greeted = true;
                    self.asked.push_back(Asked::Hello);
                    cx.push(Message::binary("CONNECT {\"verbose\":false}\r\nPING\r\n"));
                }
                Said::Message(id, payload) => match self.names.get(&id) {
                    Some(name) => cx.data(To::Name(name.as_str()), payload.into()),
                    None => cx.unroutable(&payload.into()),
                },
                Said::Ping => cx.push(Message::binary("PONG\r\n")),
                Said::Pong => match self.asked.pop_front() {
                    Some(Asked::Hello) => cx.ready(),
                    Some(Asked::Join(names)) => names.iter().for_each(|n| cx.joined(n.as_str())),
                    None => {}
                },
                Said::Info | Said::Nothing => {}
            }
        }
    }
}
