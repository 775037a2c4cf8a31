//! What is said on one socket to OKX.
//!
//! - Data is known by its `arg`: by the text that it was confirmed in, or else field by field.
//! - A name that is left and wanted again is not asked for before the venue has confirmed that it was
//!   left: an `arg` does not say which of the two a confirmation belongs to.
//! - What comes of a name before its confirmation is held, as a book's snapshot is.
//! - What is kept grows with names, and with nothing that the server says.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::arg::Arg;
use crate::message::Message;
use crate::name::StreamName;
use crate::protocol::held::Held;
use crate::protocol::json::{Raw, pick};
use crate::protocol::pulse::{Beat, Pulse};
use crate::protocol::{Cx, Mark, Session, To, Verdict, short};

/// When `ping` is said after silence: the venue wants less than 30 s.
const SILENCE: Duration = Duration::from_secs(25);
const PONG: Duration = Duration::from_secs(10);
/// How long before its end a socket is told of it, at the least.
const NOTICE: Duration = Duration::from_secs(30);
/// What one call takes, of the 64 KiB that the venue does.
const MOST_BYTES: usize = 32 << 10;
const MOST_NAMES: usize = 100;
/// Calls that may wait for an answer: to leave, mostly. A socket may make 480 in an hour.
const MOST_CALLS: usize = 1024;

/// Codes that say that it may go well another time: busy, unavailable, too frequent, time-out.
const PASSING: &[&str] = &["50001", "50004", "50011", "50013", "50026", "60014"];
/// Channels of books whose updates are a chain.
const CHAINS: &[&str] = &["books", "books-l2-tbt", "books50-l2-tbt"];

pub(super) struct Channels {
    by_arg: HashMap<Arg, StreamName>,
    /// By the text in which the server writes an `arg`.
    by_text: HashMap<Box<str>, StreamName>,
    calls: BTreeMap<u64, Call>,
    channels: HashMap<StreamName, Channel>,
    held: Held,
    last: u64,
    pulse: Pulse,
}

/// A call that is not answered in full: the names that wait for it.
enum Call {
    Join(Vec<StreamName>),
    Leave(Vec<StreamName>),
}

struct Channel {
    arg: Arg,
    is_chain: bool,
    last: Option<i64>,
    state: State,
    text: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Asked,
    Joined,
    Leaving { wanted: bool },
}

impl Channels {
    pub(super) fn new() -> Self {
        Self {
            by_arg: HashMap::new(),
            by_text: HashMap::new(),
            calls: BTreeMap::new(),
            channels: HashMap::new(),
            held: Held::default(),
            last: 0,
            pulse: Pulse::on_silence(SILENCE, PONG),
        }
    }

    /// Asks for names, or leaves them, in calls that are not too long.
    fn call(&mut self, op: &str, names: Vec<StreamName>, cx: &mut Cx<'_>) {
        let (mut args, mut of, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut names = names.into_iter().peekable();
        while let Some(name) = names.next() {
            let Some(channel) = self.channels.get(&name) else { continue };
            let arg = channel.arg.write();
            bytes += arg.len();
            args.push(arg);
            of.push(name);
            if bytes >= MOST_BYTES || of.len() >= MOST_NAMES || names.peek().is_none() {
                self.last += 1;
                let args = std::mem::take(&mut args).join(",");
                cx.push(format!(r#"{{"id":"{}","op":"{op}","args":[{args}]}}"#, self.last));
                let of = std::mem::take(&mut of);
                let call = if op == "subscribe" { Call::Join(of) } else { Call::Leave(of) };
                self.calls.insert(self.last, call);
                bytes = 0;
            }
        }
        if self.calls.len() > MOST_CALLS {
            cx.failed(Verdict::Retry, "the server does not answer its calls");
        }
    }

    fn forget(&mut self, name: &StreamName) {
        if let Some(channel) = self.channels.remove(name) {
            self.by_arg.remove(&channel.arg);
            if let Some(text) = channel.text {
                self.by_text.remove(&text);
            }
        }
    }

    /// The call that waits for `name` needs no answer for it any more. Those of the one kind alone.
    fn settle(&mut self, name: &StreamName, joins: bool, cx: &mut Cx<'_>) {
        self.calls.retain(|_, call| match call {
            Call::Join(names) if joins => {
                names.retain(|other| other != name);
                !names.is_empty()
            }
            Call::Leave(names) if !joins => {
                names.retain(|other| other != name);
                !names.is_empty()
            }
            Call::Join(_) | Call::Leave(_) => true,
        });
        let is_join = |call: &Call| matches!(call, Call::Join(_));
        if !self.calls.values().any(is_join) {
            // Nothing is waited for: what is held is for nobody.
            self.held.clear().for_each(|message| cx.unroutable(&message));
        }
    }

    fn confirmed(&mut self, name: &StreamName, text: &str, cx: &mut Cx<'_>) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        if channel.state != State::Asked {
            return;
        }
        channel.state = State::Joined;
        if channel.text.is_none() {
            channel.text = Some(text.into());
            self.by_text.insert(text.into(), name.clone());
        }
        cx.joined(name.as_str());
        let (early, lost) = self.held.take(name.as_str());
        if lost {
            cx.gap(To::Name(name.as_str()), None);
        }
        early.into_iter().for_each(|message| channel.deliver(name.as_str(), message, cx));
        self.settle(name, true, cx);
    }

    /// The venue has done what it does about leaving `name`.
    fn left(&mut self, name: &StreamName, cx: &mut Cx<'_>) {
        self.settle(name, false, cx);
        let Some(State::Leaving { wanted }) = self.channels.get(name).map(|c| c.state) else {
            return;
        };
        self.forget(name);
        if wanted {
            self.join(std::slice::from_ref(name), cx);
        }
    }

    /// A call, or one name of it, is refused.
    fn refused(&mut self, fields: &Fields<'_>, cx: &mut Cx<'_>) -> bool {
        if let Some(name) = fields.arg.and_then(Arg::read).and_then(|arg| self.by_arg.get(&arg)) {
            let name = name.clone();
            match self.channels.get(&name).map(|channel| channel.state) {
                Some(State::Asked) => self.refuse(&[name], fields, cx),
                Some(State::Leaving { .. }) => self.left(&name, cx),
                Some(State::Joined) | None => return false,
            }
            return true;
        }
        let number = fields.id.and_then(|id| Raw::new(&id.string()?).u64());
        let Some(call) = number.and_then(|number| self.calls.remove(&number)) else { return false };
        match call {
            Call::Leave(names) => names.iter().for_each(|name| self.left(name, cx)),
            Call::Join(names) if names.len() == 1 => self.refuse(&names, fields, cx),
            Call::Join(mut names) => {
                // It does not say whom it means.
                let rest = names.split_off(names.len() / 2);
                self.call("subscribe", names, cx);
                self.call("subscribe", rest, cx);
            }
        }
        true
    }

    fn refuse(&mut self, names: &[StreamName], fields: &Fields<'_>, cx: &mut Cx<'_>) {
        let string = |field: Option<Raw<'_>>| {
            field.and_then(|field| Some(field.string()?.into_owned())).unwrap_or_default()
        };
        let (code, words) = (string(fields.code), string(fields.msg));
        for name in names {
            self.settle(name, true, cx);
            drop(self.held.take(name.as_str()));
            if self.channels.get(name).is_none_or(|channel| channel.state != State::Asked) {
                continue; // It was left meanwhile.
            }
            self.forget(name);
            match PASSING.contains(&&*code) {
                true => cx.ended(name.as_str()),
                false => {
                    cx.rejected(name.as_str(), &format!("{} ({})", short(&words), short(&code)))
                }
            }
        }
    }

    fn data(&mut self, arg: Raw<'_>, message: &Message, cx: &mut Cx<'_>) -> bool {
        let by_text = self.by_text.get(arg.as_str());
        let name = match by_text {
            Some(name) => Some(name),
            None => Arg::read(arg).and_then(|arg| self.by_arg.get(&arg)),
        };
        let Some((name, channel)) =
            name.and_then(|name| Some((name.clone(), self.channels.get_mut(name)?)))
        else {
            return false;
        };
        match channel.state {
            State::Asked => return self.held.hold(name.as_str(), message.clone()),
            State::Joined => channel.deliver(name.as_str(), message.clone(), cx),
            State::Leaving { .. } => {}
        }
        true
    }
}

/// What of a message is looked at.
struct Fields<'a> {
    arg: Option<Raw<'a>>,
    code: Option<Raw<'a>>,
    data: Option<Raw<'a>>,
    event: Option<Raw<'a>>,
    id: Option<Raw<'a>>,
    msg: Option<Raw<'a>>,
}

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let keys = ["arg", "code", "data", "event", "id", "msg"];
        let [arg, code, data, event, id, msg] = pick(text, keys).ok()?;
        Some(Self { arg, code, data, event, id, msg })
    }
}

impl Channel {
    fn deliver(&mut self, name: &str, message: Message, cx: &mut Cx<'_>) {
        if !self.is_chain {
            return cx.data(To::Name(name), message);
        }
        let text = message.as_text().unwrap_or_default();
        let [action, data] = pick(text, ["action", "data"]).unwrap_or_default();
        let first = data.and_then(|data| data.elements().ok()?.next()?.ok());
        let ids = first.and_then(|book| pick(book.as_str(), ["prevSeqId", "seqId"]).ok());
        let [previous, id] = ids.unwrap_or_default().map(|id| id?.as_str().parse::<i64>().ok());
        let is_snapshot = action.and_then(Raw::string).is_some_and(|action| action == "snapshot");
        let last = std::mem::replace(&mut self.last, id);
        if is_snapshot {
            return cx.data_marked(To::Name(name), message, Mark::default().snapshot());
        }
        if last.is_some() && previous != last {
            cx.gap(To::Name(name), None);
        }
        cx.data(To::Name(name), message);
    }
}

impl Session for Channels {
    fn open(&mut self, cx: &mut Cx<'_>) {
        self.pulse.start(cx.now());
        cx.ready();
    }

    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        let mut new = Vec::new();
        for name in names {
            match self.channels.get_mut(name).map(|channel| &mut channel.state) {
                Some(State::Asked) => {}
                Some(State::Joined) => cx.joined(name.as_str()),
                Some(State::Leaving { wanted }) => *wanted = true,
                None => {
                    let arg = Arg::of_name(name.as_str());
                    let arg = arg.filter(|arg| !self.by_arg.contains_key(arg));
                    let Some(arg) = arg else {
                        cx.rejected(name.as_str(), "another name asks for the same");
                        continue;
                    };
                    self.by_arg.insert(arg.clone(), name.clone());
                    let (is_chain, state) = (CHAINS.contains(&arg.channel()), State::Asked);
                    let channel = Channel { arg, is_chain, last: None, state, text: None };
                    self.channels.insert(name.clone(), channel);
                    new.push(name.clone());
                }
            }
        }
        self.call("subscribe", new, cx);
    }

    fn leave(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        let mut leaving = Vec::new();
        for name in names {
            let Some(channel) = self.channels.get_mut(name) else { continue };
            if !matches!(channel.state, State::Leaving { .. }) {
                leaving.push(name.clone());
            }
            channel.state = State::Leaving { wanted: false };
            drop(self.held.take(name.as_str()));
            self.settle(name, true, cx);
        }
        self.call("unsubscribe", leaving, cx);
    }

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        self.pulse.heard(cx.now());
        let text = message.as_text().unwrap_or_default();
        if text == "pong" {
            return self.pulse.answered();
        }
        let Some(fields) = Fields::read(text) else { return cx.unroutable(message) };
        let event = fields.event.and_then(Raw::string);
        let name = |channels: &Self| {
            let arg = Arg::read(fields.arg?)?;
            channels.by_arg.get(&arg).cloned()
        };
        let is_known = match (event.as_deref(), fields.arg) {
            (None, Some(arg)) if fields.data.is_some() => self.data(arg, message, cx),
            // What was left has no name any more, and is confirmed late.
            (Some("subscribe"), Some(arg)) => {
                name(self).into_iter().for_each(|name| self.confirmed(&name, arg.as_str(), cx));
                true
            }
            (Some("unsubscribe"), Some(_)) => {
                name(self).into_iter().for_each(|name| self.left(&name, cx));
                true
            }
            (Some("error"), _) => self.refused(&fields, cx),
            (Some("notice"), _) => {
                if fields.code.and_then(Raw::string).is_some_and(|code| code == "64008") {
                    cx.reconnect(NOTICE);
                }
                true
            }
            _ => false,
        };
        if !is_known {
            cx.unroutable(message);
        }
    }

    /// There is no form for it on public sockets.
    fn send(&mut self, _: &StreamName, _: Message, _: &mut Cx<'_>) {}

    fn deadline(&self) -> Option<Instant> {
        self.pulse.deadline()
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        match self.pulse.tick(cx.now()) {
            Beat::Ask => cx.push("ping"),
            Beat::Dead => cx.failed(Verdict::Retry, "the server did not answer the ping"),
            Beat::Rest => {}
        }
    }
}
