//! What is said: `Direct`, and a protocol of several names on a socket.
//!
//! | client | server | |
//! |---|---|---|
//! | `+a0#1` | `=a0#1` | join by that number; confirmed |
//! | `-a0#1` | | leave |
//! | | `!a0#1`, `~a0#1` | rejected, ended |
//! | | `a0#1:7:…` | message 7 of the name |
//! | `>a0#7` | | message 7 of the program's own, sent on that name |
//!
//! Each join has its number, so that a session tells confirmations and data of an earlier one apart.

use std::collections::BTreeMap;

use http::header::{HeaderName, HeaderValue};

use super::program::{Form, NAMES, Wire};
use super::server::parse;
use super::world::{SockId, World, number};
use crate::message::Message;
use crate::name::{InvalidName, StreamName};
use crate::protocol::{
    Cx, Dial, DialError, Direct, Lane, Protocol, Request, Response, Session, To,
};
use crate::transport::Frame;

/// What the network is told of a dial beside its URL.
const ATTEMPT: HeaderName = HeaderName::from_static("x-attempt");
const WANTED: HeaderName = HeaderName::from_static("x-wanted");
const SOCK: HeaderName = HeaderName::from_static("x-sock");

/// What the program's own messages begin with that are no lines.
const UNSPEAKABLE: char = '?';

/// `Direct`, or lines; each tells the network which attempt it is.
pub(super) struct Spoken {
    direct: Direct,
    wire: Wire,
    world: World,
}

impl Spoken {
    pub(super) fn new(wire: Wire, world: World) -> Self {
        Self { direct: Direct::new("ws://sim/{name}").unwrap(), wire, world }
    }
}

impl Protocol for Spoken {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        Ok(Lane::new(lane(self.wire, name.as_str())))
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        let request = match self.wire {
            Wire::Direct => self.direct.request(dial)?,
            Wire::Shared => Request::new(&format!("ws://sim/{}", dial.lane.as_str()))?,
        };
        let names: Vec<_> = dial.names.iter().map(StreamName::as_str).collect();
        let value = |text: String| HeaderValue::try_from(text).unwrap();
        Ok(request.header(ATTEMPT, dial.attempt.into()).header(WANTED, value(names.join(","))))
    }

    fn session(&self, dial: &Dial<'_>) -> Box<dyn Session> {
        match self.wire {
            Wire::Direct => self.direct.session(dial),
            Wire::Shared => {
                let sock = dial.response.and_then(|answer| answer.headers().get(SOCK));
                let sock = sock.unwrap().to_str().unwrap().parse().unwrap();
                let world = self.world.clone();
                Box::new(Lines { joins: BTreeMap::new(), next: 0, sock, world })
            }
        }
    }
}

/// What a dial is for: its lane, its attempt and the names that are wanted.
pub(super) fn asked(request: &Request) -> (String, u32, Vec<usize>) {
    let header = |name| request.headers().get(name).unwrap().to_str().unwrap();
    let names = header(WANTED).split(',').filter_map(number).collect();
    (request.url().path()[1..].to_owned(), header(ATTEMPT).parse().unwrap(), names)
}

/// The answer that opens socket `sock`.
pub(super) fn accepted(sock: SockId) -> Response {
    Response::new(101, [(SOCK, HeaderValue::from(sock))].into_iter().collect())
}

pub(super) fn lane(wire: Wire, name: &str) -> &str {
    match wire {
        Wire::Direct => name,
        Wire::Shared => &name[..1],
    }
}

pub(super) fn data(wire: Wire, name: usize, join: u64, number: u64, size: usize) -> String {
    let text = match wire {
        Wire::Direct => format!("{number}:"),
        Wire::Shared => format!("{}#{join}:{number}:", NAMES[name]),
    };
    format!("{text:.<size$}")
}

pub(super) fn ended(name: usize, join: u64) -> String {
    format!("~{}#{join}", NAMES[name])
}

pub(super) fn joined(name: usize, join: u64) -> String {
    format!("={}#{join}", NAMES[name])
}

pub(super) fn rejected(name: usize, join: u64) -> String {
    format!("!{}#{join}", NAMES[name])
}

/// A message of the program's own.
pub(super) fn letter(name: usize, number: usize, form: Form) -> String {
    let mark = if form == Form::Plain { '>' } else { UNSPEAKABLE };
    format!("{mark}{}#{number}", NAMES[name])
}

/// The name and the number of a message of the program's own.
pub(super) fn letter_in(frame: &Frame) -> Option<(usize, usize)> {
    let Frame::Data(message) = frame else { return None };
    let (name, number) = parse(message.as_text()?.strip_prefix(['>', UNSPEAKABLE])?)?;
    Some((name, usize::try_from(number).ok()?))
}

pub(super) fn is_speakable(wire: Wire, form: Form) -> bool {
    wire == Wire::Direct || form == Form::Plain
}

/// What a line of the server's says.
#[derive(Clone, Copy)]
pub(super) enum Said {
    Data { name: usize, join: u64, number: u64 },
    Ended { name: usize, join: u64 },
    Joined { name: usize, join: u64 },
    Rejected { name: usize, join: u64 },
}

pub(super) fn read(text: &str) -> Option<Said> {
    let mark = text.chars().next()?;
    let about = |text: &str| parse(text);
    match mark {
        '=' => about(&text[1..]).map(|(name, join)| Said::Joined { name, join }),
        '!' => about(&text[1..]).map(|(name, join)| Said::Rejected { name, join }),
        '~' => about(&text[1..]).map(|(name, join)| Said::Ended { name, join }),
        _ => {
            let mut parts = text.split(':');
            let (name, join) = parse(parts.next()?)?;
            Some(Said::Data { name, join, number: parts.next()?.parse().ok()? })
        }
    }
}

/// What a line brings, without the join that it is for: the same on each socket.
pub(super) fn payload(message: &Message) -> Message {
    let text = message.as_text().and_then(|text| text.split_once(':'));
    text.map_or_else(|| message.clone(), |(_, rest)| Message::text(rest))
}

/// The number of a message, whichever protocol it came by.
pub(super) fn numbered(message: &Message) -> Option<u64> {
    let mut parts = message.as_text()?.split(':').rev();
    parts.next()?;
    parts.next()?.parse().ok()
}

/// A session of lines.
struct Lines {
    joins: BTreeMap<usize, u64>,
    next: u64,
    sock: SockId,
    world: World,
}

impl Session for Lines {
    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        for name in names {
            self.next += 1;
            let key = number(name.as_str()).unwrap();
            self.joins.insert(key, self.next);
            self.world.lock().asks(self.sock, key, self.next);
            cx.push(format!("+{name}#{}", self.next));
        }
    }

    fn leave(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        for name in names {
            let key = number(name.as_str()).unwrap();
            self.world.lock().leaves(self.sock, key);
            if let Some(join) = self.joins.remove(&key) {
                cx.push(format!("-{name}#{join}"));
            }
        }
    }

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        let said = message.as_text().and_then(read);
        let is_latest = |name, join| self.joins.get(&name) == Some(&join);
        match said {
            Some(Said::Data { name, join, .. }) if is_latest(name, join) => {
                cx.data(To::Name(NAMES[name]), payload(message));
            }
            Some(Said::Joined { name, join }) if is_latest(name, join) => {
                cx.joined(NAMES[name]);
            }
            Some(Said::Rejected { name, join }) if is_latest(name, join) => {
                self.joins.remove(&name);
                cx.rejected(NAMES[name], "no such name");
            }
            Some(Said::Ended { name, join }) if is_latest(name, join) => {
                self.joins.remove(&name);
                cx.ended(NAMES[name]);
            }
            _ => cx.unroutable(message),
        }
    }

    fn send(&mut self, _: &StreamName, message: Message, cx: &mut Cx<'_>) {
        if message.as_text().is_some_and(|text| !text.starts_with(UNSPEAKABLE)) {
            cx.push(message);
        }
    }
}
