//! Subscriptions by an id that the server gives, as Ethereum's nodes have them.
//!
//! - An id is known by the answer to its call. What comes under an id that nobody knows is held as long
//!   as such an answer is out, as it may overtake it.
//! - Each join has an id of its own, so that what a name was left by is never taken for what it is
//!   joined by now: what comes late is for nobody.
//! - An id belongs to one name. A server that gives it twice loses its socket.
//!
//! Source: go-ethereum, "Real-time events" (`eth_subscribe`, `eth_unsubscribe`, `eth_subscription`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::calls::Calls;
use super::session::{Dialogue, Notice, part};
use super::wire::{self, Fault, Outcome};
use crate::name::StreamName;
use crate::protocol::held::Held;
use crate::protocol::json::{Kind, Raw, pick, quote};
use crate::protocol::{Cx, To, Verdict};

/// Codes that say that it may go well another time: internal error (JSON-RPC 2.0, 5.1), resource
/// unavailable and limit exceeded (EIP-1474).
const PASSING: &[i64] = &[-32603, -32002, -32005];

/// The longest id, in bytes as it is written. Those of nodes have 34.
const LONGEST_ID: usize = 256;

pub(super) struct PubSub {
    /// The number of the call that asks for a name.
    asked: HashMap<StreamName, u64>,
    held: Held,
    ids: HashMap<StreamName, Box<str>>,
    /// Ids that are being given back.
    left: HashSet<Box<str>>,
    names: HashMap<Box<str>, StreamName>,
    namespace: Arc<str>,
    /// Calls that an id will be the answer to.
    opening: usize,
}

#[derive(Debug)]
pub(super) enum Call {
    Join(StreamName),
    /// The name was left before it had an id.
    Abandoned,
    Leave(Box<str>),
}

impl PubSub {
    pub(super) fn new(namespace: Arc<str>) -> Self {
        Self {
            asked: HashMap::new(),
            held: Held::default(),
            ids: HashMap::new(),
            left: HashSet::new(),
            names: HashMap::new(),
            namespace,
            opening: 0,
        }
    }

    fn give_back(&mut self, id: Box<str>, calls: &mut Calls<Call>, cx: &mut Cx<'_>) {
        let number = calls.own(Call::Leave(id.clone()));
        let method = format!("{}_unsubscribe", self.namespace);
        cx.push(wire::call(number, &method, &format!("[{id}]")));
        self.left.insert(id);
    }

    fn joined(&mut self, name: StreamName, result: Raw<'_>, cx: &mut Cx<'_>) {
        self.asked.remove(&name);
        let Some(id) = id(result) else {
            return cx.rejected(name.as_str(), "the server gives no id for it");
        };
        if self.names.contains_key(&id) {
            return cx.failed(Verdict::Retry, "the server gives an id to two subscriptions");
        }
        cx.joined(name.as_str());
        let (early, lost) = self.held.take(&id);
        if lost {
            cx.gap(To::Name(name.as_str()), None);
        }
        early.into_iter().for_each(|payload| cx.data(To::Name(name.as_str()), payload));
        self.left.remove(&id);
        self.ids.insert(name.clone(), id.clone());
        self.names.insert(id, name);
    }

    fn refused(&mut self, name: &StreamName, error: Raw<'_>, cx: &mut Cx<'_>) {
        self.asked.remove(name);
        let fault = Fault::read(error);
        match fault.code.is_some_and(|code| PASSING.contains(&code)) {
            true => cx.ended(name.as_str()),
            false => cx.rejected(name.as_str(), &fault.words),
        }
    }

    /// One answer less is out.
    fn opened(&mut self, cx: &mut Cx<'_>) {
        self.opening -= 1;
        if self.opening == 0 {
            self.held.clear().for_each(|payload| cx.unroutable(&payload));
        }
    }
}

impl Dialogue for PubSub {
    type Call = Call;

    fn join(&mut self, names: &[StreamName], calls: &mut Calls<Call>, cx: &mut Cx<'_>) {
        for name in names {
            if self.ids.contains_key(name) {
                cx.joined(name.as_str());
            } else if !self.asked.contains_key(name) {
                let number = calls.own(Call::Join(name.clone()));
                let method = format!("{}_subscribe", self.namespace);
                cx.push(wire::call(number, &method, &params(name.as_str())));
                self.asked.insert(name.clone(), number);
                self.opening += 1;
            }
        }
    }

    fn leave(&mut self, names: &[StreamName], calls: &mut Calls<Call>, cx: &mut Cx<'_>) {
        for name in names {
            if let Some(number) = self.asked.remove(name) {
                calls.turn(number, Call::Abandoned);
            }
            if let Some(id) = self.ids.remove(name) {
                self.names.remove(&id);
                self.give_back(id, calls, cx);
            }
        }
    }

    fn answered(
        &mut self,
        (_, call): (u64, Call),
        outcome: Outcome<'_>,
        calls: &mut Calls<Call>,
        cx: &mut Cx<'_>,
    ) {
        match (call, outcome) {
            (Call::Join(name), Ok(result)) => self.joined(name, result, cx),
            (Call::Join(name), Err(error)) => self.refused(&name, error, cx),
            (Call::Abandoned, Ok(result)) => {
                // One that another name has is a lie, and not to be given back.
                if let Some(id) = id(result).filter(|id| !self.names.contains_key(id)) {
                    drop(self.held.take(&id));
                    self.give_back(id, calls, cx);
                }
            }
            (Call::Abandoned, Err(_)) => {}
            (Call::Leave(id), _) => {
                self.left.remove(&id);
                return;
            }
        }
        self.opened(cx);
    }

    fn notice(&mut self, notice: Notice<'_>, _: &mut Calls<Call>, cx: &mut Cx<'_>) -> bool {
        let Some(params) = notice.params else { return false };
        let Ok([Some(of), Some(result)]) = pick(params.as_str(), ["subscription", "result"]) else {
            return false;
        };
        let payload = part(notice.message, result);
        // Mostly it comes in the form in which it is kept.
        if let Some(name) = self.names.get(of.as_str()) {
            cx.data(To::Name(name.as_str()), payload);
            return true;
        }
        let Some(key) = id(of) else { return false };
        if let Some(name) = self.names.get(&key) {
            cx.data(To::Name(name.as_str()), payload);
            return true;
        }
        self.left.contains(&key) || (self.opening > 0 && self.held.hold(&key, payload))
    }
}

/// An id as JSON, in one form. What is longer than any is none.
fn id(value: Raw<'_>) -> Option<Box<str>> {
    if value.as_str().len() > LONGEST_ID {
        return None;
    }
    match value.kind()? {
        Kind::Number => Some(value.as_str().into()),
        Kind::String => Some(quote(&value.string()?).into()),
        Kind::Array | Kind::Bool | Kind::Null | Kind::Object => None,
    }
}

/// What a name asks for: its kind, and what follows it as JSON.
pub(super) fn split(name: &str) -> (&str, &str) {
    name.split_once(' ').map_or((name, ""), |(kind, rest)| (kind, rest.trim()))
}

fn params(name: &str) -> String {
    match split(name) {
        (kind, "") => format!("[{}]", quote(kind)),
        (kind, rest) => format!("[{},{rest}]", quote(kind)),
    }
}
