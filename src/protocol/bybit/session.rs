//! What is said on one socket to Bybit.
//!
//! - Data is known by its topic.
//! - An answer has the number of its call, or names its topics, or neither: then it is that of the call
//!   that waits longest, as the venue answers in order.
//! - A call that is refused has done nothing: what of it is not refused is asked for again.

use std::time::Duration;

use tokio::time::Instant;

use super::name::split;
use crate::config::Secret;
use crate::message::Message;
use crate::name::StreamName;
use crate::protocol::calls::{Call, Calls};
use crate::protocol::json::{Raw, pick, quote};
use crate::protocol::pulse::{Beat, Pulse};
use crate::protocol::roster::{Feed, Look, Refusal, Roster};
use crate::protocol::{Cx, Mark, Rotation, Session, Verdict};

/// "Connect": a client should say `ping` each 20 s.
const PING: Duration = Duration::from_secs(20);
const PONG: Duration = Duration::from_secs(10);

/// Topics whose snapshot holds all that was said before. What a trade calls a snapshot does not.
const STATES: &[&str] = &["orderbook.", "tickers."];
const BOOKS: &str = "orderbook.";
/// What errors say, in small letters, that may go well another time (10006, 10016, 10018).
const PASSING: &[&str] = &["too many visits", "server error", "rate limit"];

pub(super) struct Topics {
    batch: usize,
    calls: Calls,
    is_private: bool,
    is_ready: bool,
    pulse: Pulse,
    roster: Roster<Topic>,
}

/// What one topic's messages tell.
struct Topic {
    is_book: bool,
    is_state: bool,
    last: Option<u64>,
}

/// What of a message is looked at.
#[derive(Default)]
struct Fields<'a> {
    code: Option<Raw<'a>>,
    data: Option<Raw<'a>>,
    kind: Option<Raw<'a>>,
    op: Option<Raw<'a>>,
    req_id: Option<Raw<'a>>,
    success: Option<Raw<'a>>,
    topic: Option<Raw<'a>>,
    words: Option<Raw<'a>>,
}

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut read = Self::default();
        for field in Raw::new(text).fields().ok()? {
            let (key, value) = field.ok()?;
            let place = match &*key {
                "retCode" => &mut read.code,
                "data" => &mut read.data,
                "type" => &mut read.kind,
                "op" => &mut read.op,
                "req_id" => &mut read.req_id,
                "success" => &mut read.success,
                "topic" => &mut read.topic,
                "ret_msg" | "retMsg" => &mut read.words,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        Some(read)
    }

    fn is_success(&self) -> bool {
        let is_zero = self.code.and_then(Raw::u64) == Some(0);
        self.success.and_then(Raw::bool).unwrap_or(is_zero)
    }
}

impl Topic {
    fn of(topic: &str) -> Self {
        let is_state = STATES.iter().any(|state| topic.starts_with(*state));
        Self { is_book: topic.starts_with(BOOKS), is_state, last: None }
    }
}

impl Feed for Topic {
    fn look(&mut self, message: &Message) -> Look {
        if !self.is_state {
            return Look::default();
        }
        let text = message.as_text().unwrap_or_default();
        let [kind, data] = pick(text, ["type", "data"]).unwrap_or_default();
        let is_snapshot = kind.and_then(Raw::string).is_some_and(|kind| kind == "snapshot");
        let number = data.filter(|_| self.is_book).and_then(|data| data.field("u")?.u64());
        let before = std::mem::replace(&mut self.last, number);
        if is_snapshot {
            return Look { gap: None, mark: Mark::default().snapshot() };
        }
        let missed = before.map(|before| number?.checked_sub(before.saturating_add(1)));
        Look { gap: missed.filter(|missed| *missed != Some(0)), mark: Mark::default() }
    }
}

impl Topics {
    pub(super) fn new(is_private: bool, batch: usize) -> Self {
        Self {
            batch,
            calls: Calls::default(),
            is_private,
            is_ready: false,
            pulse: Pulse::steady(PING, PONG),
            roster: Roster::default(),
        }
    }

    /// Asks for topics, or leaves them.
    fn call(&mut self, joins: bool, topics: &[Box<str>], cx: &mut Cx<'_>) {
        for topics in topics.chunks(self.batch) {
            let args: Vec<_> = topics.iter().map(|topic| quote(topic)).collect();
            let number = self.calls.add(joins, topics.to_vec());
            let op = if joins { "subscribe" } else { "unsubscribe" };
            let args = args.join(",");
            cx.push(format!(r#"{{"req_id":"{number}","op":"{op}","args":[{args}]}}"#));
        }
        if self.calls.are_too_many() {
            cx.failed(Verdict::Retry, "the server does not answer its calls");
        }
    }

    /// Says who we are, in the program's words.
    fn authenticate(&mut self, token: &Secret, cx: &mut Cx<'_>) {
        let args = Raw::new(token.expose()).elements();
        let is_list = args.is_ok_and(|mut args| args.all(|arg| arg.is_ok()));
        if !is_list {
            return cx.failed(Verdict::NewToken, "the token is not the `args` of `auth`");
        }
        let number = self.calls.number();
        cx.push(format!(r#"{{"req_id":"{number}","op":"auth","args":{}}}"#, token.expose()));
    }

    fn authenticated(&mut self, fields: &Fields<'_>, cx: &mut Cx<'_>) -> bool {
        if !self.is_private || self.is_ready {
            return false;
        }
        if fields.is_success() {
            self.is_ready = true;
            cx.ready();
        } else {
            cx.failed(Verdict::NewToken, "the server refuses the token");
        }
        true
    }

    /// `topic` is answered as it was asked.
    fn confirmed(&mut self, topic: &str, joins: bool, cx: &mut Cx<'_>) {
        if joins {
            self.roster.confirm(topic, cx);
        } else if let Some(name) = self.roster.left(topic) {
            self.join(&[name], cx);
        }
    }

    /// The answer to a call as a whole. Whether it is known to which.
    fn answer(&mut self, joins: bool, fields: &Fields<'_>, cx: &mut Cx<'_>) -> bool {
        let number = fields.req_id.and_then(Raw::string).filter(|number| !number.is_empty());
        let call = match number {
            Some(number) => {
                Raw::new(&number).u64().and_then(|number| self.calls.take_of(number, joins))
            }
            None => self.calls.take_oldest_of(joins),
        };
        let Some(call) = call else { return false };
        if !joins || fields.is_success() {
            // What is refused to be left is not there: that is what was wanted.
            call.keys.iter().for_each(|topic| self.confirmed(topic, joins, cx));
        } else {
            self.refused(call, fields, cx);
        }
        true
    }

    /// A call to join is refused, because of one topic in it.
    fn refused(&mut self, call: Call, fields: &Fields<'_>, cx: &mut Cx<'_>) {
        let words = fields.words.and_then(Raw::string).unwrap_or_default();
        let (mut keys, named) = (call.keys, words.rsplit_once("topic:"));
        let at =
            named.and_then(|(_, named)| keys.iter().position(|topic| **topic == *named.trim()));
        let guilty = at.or((keys.len() == 1).then_some(0)).map(|at| keys.remove(at));
        if let Some(topic) = guilty {
            let says = |what: &&str| words.to_ascii_lowercase().contains(*what);
            if says(&"already subscribed") {
                self.roster.confirm(&topic, cx);
            } else if PASSING.iter().any(says) {
                self.roster.refuse(&topic, Refusal::Passing, cx);
            } else {
                self.roster.refuse(&topic, Refusal::Final(&words), cx);
            }
            return self.ask_again(&keys, cx);
        }
        // It does not say whom it means.
        let (some, rest) = keys.split_at(keys.len() / 2);
        self.ask_again(some, cx);
        self.ask_again(rest, cx);
    }

    /// Calls once more for those that still wait.
    fn ask_again(&mut self, topics: &[Box<str>], cx: &mut Cx<'_>) {
        let waits = |topic: &str| self.roster.asked(topic).is_some();
        let topics: Vec<_> = topics.iter().filter(|topic| waits(topic)).cloned().collect();
        self.call(true, &topics, cx);
    }

    /// An answer that names its topics, and not its call. Whether it names one that waits.
    fn command(&mut self, data: Raw<'_>, fields: &Fields<'_>, cx: &mut Cx<'_>) -> bool {
        let Ok(lists) = pick(data.as_str(), ["successTopics", "failTopics"]) else { return false };
        let (words, mut is_known) = (fields.words.and_then(Raw::string), false);
        let words = words.as_deref().filter(|words| !words.is_empty());
        for (list, is_success) in lists.into_iter().zip([true, false]) {
            let topics = list.and_then(|list| list.elements().ok()).into_iter().flatten();
            for topic in topics.filter_map(|topic| topic.ok()?.string()) {
                let Some(joins) = self.calls.answered(&topic) else { continue };
                is_known = true;
                match (joins, is_success) {
                    (true, false) => {
                        let why = words.unwrap_or("the server lists it among what it refuses");
                        self.roster.refuse(&topic, Refusal::Final(why), cx);
                    }
                    _ => self.confirmed(&topic, joins, cx),
                }
            }
        }
        is_known
    }
}

impl Session for Topics {
    fn open(&mut self, cx: &mut Cx<'_>) {
        self.pulse.start(cx.now());
        match (self.is_private, cx.token().cloned()) {
            (false, _) => cx.ready(),
            (true, Some(token)) => self.authenticate(&token, cx),
            (true, None) => {
                cx.failed(Verdict::NewToken, "its topics want a token, and there is none")
            }
        }
    }

    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        let mut new = Vec::new();
        for name in names {
            let Some((_, topic)) = split(name.as_str()) else { continue };
            if self.roster.join(name, topic, Topic::of(topic), cx) {
                new.push(topic.into());
            }
        }
        self.call(true, &new, cx);
    }

    /// A call to join that waits goes on waiting: answers that name only topics come in order.
    fn leave(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        let mut leaving = Vec::new();
        for name in names {
            let Some((_, topic)) = split(name.as_str()) else { continue };
            if self.roster.leave(name, topic, cx) {
                leaving.push(topic.into());
            }
        }
        self.call(false, &leaving, cx);
    }

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        let text = message.as_text().unwrap_or_default();
        let Some(fields) = Fields::read(text) else { return cx.unroutable(message) };
        let op = fields.op.and_then(Raw::string);
        let kind = || fields.kind.and_then(Raw::string);
        let is_known = match (op.as_deref(), fields.topic, fields.data) {
            (Some("ping" | "pong"), ..) => {
                self.pulse.answered();
                cx.alive();
                true
            }
            (Some("auth"), ..) => self.authenticated(&fields, cx),
            (Some("subscribe"), ..) => self.answer(true, &fields, cx),
            (Some("unsubscribe"), ..) => self.answer(false, &fields, cx),
            (None, Some(topic), Some(_)) => {
                topic.string().is_some_and(|topic| self.roster.data(&topic, message, cx))
            }
            (None, None, Some(data)) if kind().is_some_and(|kind| kind == "COMMAND_RESP") => {
                self.command(data, &fields, cx)
            }
            _ => false,
        };
        if !is_known {
            cx.unroutable(message);
        }
    }

    /// There is no form for it: orders are not supported.
    fn send(&mut self, _: &StreamName, _: Message, _: &mut Cx<'_>) {}

    /// A socket that is authenticated stays so.
    fn rotate(&mut self, _: &mut Cx<'_>) -> Rotation {
        Rotation::InPlace
    }

    fn deadline(&self) -> Option<Instant> {
        self.pulse.deadline()
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        match self.pulse.tick(cx.now()) {
            Beat::Ask => {
                let number = self.calls.number();
                cx.push(format!(r#"{{"req_id":"{number}","op":"ping"}}"#));
            }
            Beat::Dead => cx.failed(Verdict::Retry, "the server did not answer the ping"),
            Beat::Rest => {}
        }
    }
}
