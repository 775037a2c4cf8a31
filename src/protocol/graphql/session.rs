//! What is said on one socket to a GraphQL server.
//!
//! - Each operation has an id of its own, a number that is never used again on the socket. What comes
//!   under one that is over is late, and ignored; under one that never was, unroutable.
//! - A name is joined as it is asked for, as nothing confirms it.
//! - What is kept grows with names and requests, and with nothing that the server says.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::de::IgnoredAny;
use tokio::time::Instant;

use super::operation::Defined;
use crate::message::Message;
use crate::name::StreamName;
use crate::protocol::courtesy::Courtesy;
use crate::protocol::json::{Kind, Raw, pick};
use crate::protocol::{Cx, RequestId, Session, To, Unsupported, Verdict, short};

pub(super) struct Operations {
    courtesy: Courtesy,
    defined: Arc<Defined>,
    /// The payload of `connection_init`, until it is said.
    init: Option<String>,
    keep_alive: Option<KeepAlive>,
    last: u64,
    names: HashMap<StreamName, u64>,
    ready: bool,
    requests: HashMap<RequestId, u64>,
    running: HashMap<u64, Running>,
}

/// An operation that is not over.
enum Running {
    /// Of a name, and whether anything came of it.
    Name(StreamName, bool),
    Request(RequestId),
}

/// The client's own pings: when the next is due, and by when the last is to be answered.
struct KeepAlive {
    interval: Duration,
    next: Option<Instant>,
    pending: Option<Instant>,
    timeout: Duration,
}

impl Operations {
    pub(super) fn new(
        defined: Arc<Defined>,
        init: Option<String>,
        keep_alive: Option<(Duration, Duration)>,
    ) -> Self {
        let keep_alive = keep_alive.map(|(interval, timeout)| KeepAlive {
            interval,
            next: None,
            pending: None,
            timeout,
        });
        Self {
            courtesy: Courtesy::default(),
            defined,
            init,
            keep_alive,
            last: 0,
            names: HashMap::new(),
            ready: false,
            requests: HashMap::new(),
            running: HashMap::new(),
        }
    }

    /// Begins an operation of this payload, and tells its number.
    fn begin(&mut self, running: Running, payload: &str, cx: &mut Cx<'_>) -> u64 {
        self.last += 1;
        cx.push(format!(r#"{{"id":"{}","type":"subscribe","payload":{payload}}}"#, self.last));
        self.running.insert(self.last, running);
        self.last
    }

    fn take(&mut self, number: u64) -> Option<Running> {
        let running = self.running.remove(&number)?;
        match &running {
            Running::Name(name, _) => drop(self.names.remove(name)),
            Running::Request(id) => drop(self.requests.remove(id)),
        }
        Some(running)
    }

    /// Tells the server that nobody wants an operation any more.
    fn complete(&mut self, number: u64, cx: &mut Cx<'_>) {
        if self.take(number).is_some() {
            cx.push(format!(r#"{{"id":"{number}","type":"complete"}}"#));
        }
    }

    /// What the server says of operation `number`. Returns whether it has ever been.
    fn of(
        &mut self,
        number: u64,
        kind: &str,
        payload: Option<Raw<'_>>,
        message: &Message,
        cx: &mut Cx<'_>,
    ) -> bool {
        let part = |payload: Raw<'_>| message.part(payload.as_str().as_bytes());
        if kind == "next" {
            let (Some(running), Some(payload)) = (self.running.get_mut(&number), payload) else {
                return payload.is_some() && (1..=self.last).contains(&number);
            };
            match running {
                Running::Name(name, came) => {
                    *came = true;
                    cx.data(To::Name(name.as_str()), part(payload));
                }
                Running::Request(id) => cx.reply(*id, part(payload), false),
            }
            return true;
        }
        match (self.take(number), kind) {
            (None, _) => return (1..=self.last).contains(&number),
            (Some(Running::Name(name, _)), "complete") => cx.ended(name.as_str()),
            (Some(Running::Name(name, came)), _) => match came {
                true => cx.ended(name.as_str()),
                false => cx.rejected(name.as_str(), short(&words(payload))),
            },
            (Some(Running::Request(id)), "complete") => cx.reply(id, None, true),
            (Some(Running::Request(id)), _) => {
                cx.reply_failed(id, payload.map_or_else(|| "".into(), part));
            }
        }
        true
    }

    /// A message that is of no operation. Returns whether it is one of the protocol's.
    fn of_none(&mut self, kind: &str, cx: &mut Cx<'_>) -> bool {
        match kind {
            "connection_ack" if !self.ready => {
                self.ready = true;
                cx.ready();
            }
            "ping" => match self.courtesy.may_answer(cx.now()) {
                true => cx.push(r#"{"type":"pong"}"#),
                false => cx.failed(Verdict::Retry, "the server floods the connection with pings"),
            },
            "pong" => self.keep_alive.iter_mut().for_each(|alive| alive.pending = None),
            _ => return false,
        }
        true
    }
}

/// The first words of the payload of an `error`.
fn words(payload: Option<Raw<'_>>) -> String {
    let first = payload.and_then(|errors| errors.elements().ok()?.next()?.ok());
    let message = first.and_then(|error| error.field("message")?.string());
    message.map_or_else(|| "the server does not say why".to_owned(), std::borrow::Cow::into_owned)
}

impl Session for Operations {
    fn open(&mut self, cx: &mut Cx<'_>) {
        cx.push(match self.init.take() {
            Some(payload) => format!(r#"{{"type":"connection_init","payload":{payload}}}"#),
            None => r#"{"type":"connection_init"}"#.to_owned(),
        });
        if let Some(alive) = &mut self.keep_alive {
            alive.next = Some(cx.now() + alive.interval);
        }
    }

    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        let defined = Arc::clone(&self.defined);
        for name in names {
            let Some(payload) = defined.payload(name.as_str()) else {
                cx.rejected(name.as_str(), "no operation is defined by this name");
                continue;
            };
            if !self.names.contains_key(name) {
                let number = self.begin(Running::Name(name.clone(), false), &payload, cx);
                self.names.insert(name.clone(), number);
            }
            cx.joined(name.as_str());
        }
    }

    fn leave(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        for name in names {
            if let Some(number) = self.names.get(name).copied() {
                self.complete(number, cx);
            }
        }
    }

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        let text = message.as_text().unwrap_or_default();
        let [kind, id, payload] = pick(text, ["type", "id", "payload"]).unwrap_or_default();
        let kind = kind.and_then(Raw::string).unwrap_or_default();
        let number = id.and_then(|id| Raw::new(&id.string()?).u64());
        let is_known = match (&*kind, number) {
            ("next" | "error" | "complete", Some(number)) => {
                self.of(number, &kind, payload, message, cx)
            }
            ("next" | "error" | "complete", None) => false,
            (kind, _) => self.of_none(kind, cx),
        };
        if !is_known {
            cx.unroutable(message);
        }
    }

    /// There is no form for it.
    fn send(&mut self, _: &StreamName, _: Message, _: &mut Cx<'_>) {}

    fn request(
        &mut self,
        id: RequestId,
        body: Message,
        cx: &mut Cx<'_>,
    ) -> Result<(), Unsupported> {
        let text = body.as_text().ok_or(Unsupported)?;
        serde_json::from_str::<IgnoredAny>(text).map_err(|_| Unsupported)?;
        let query = Raw::new(text).field("query").and_then(Raw::kind);
        if query != Some(Kind::String) {
            return Err(Unsupported);
        }
        if let Some(earlier) = self.requests.remove(&id) {
            self.running.remove(&earlier); // It was not written.
        }
        let number = self.begin(Running::Request(id), text, cx);
        self.requests.insert(id, number);
        Ok(())
    }

    fn cancel(&mut self, id: RequestId, cx: &mut Cx<'_>) {
        if let Some(number) = self.requests.get(&id).copied() {
            self.complete(number, cx);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let alive = self.keep_alive.as_ref()?;
        alive.pending.into_iter().chain(alive.next).min()
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        let (Some(alive), now) = (&mut self.keep_alive, cx.now()) else { return };
        if alive.pending.is_some_and(|due| due <= now) {
            (alive.next, alive.pending) = (None, None);
            return cx.failed(Verdict::Retry, "the server did not answer the ping");
        }
        if alive.next.is_some_and(|due| due <= now) {
            cx.push(r#"{"type":"ping"}"#);
            alive.next = Some(now + alive.interval);
            alive.pending.get_or_insert(now + alive.timeout);
        }
    }
}
