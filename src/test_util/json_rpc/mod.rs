//! Servers of JSON-RPC 2.0 with subscriptions: an Ethereum node, and Deribit.

mod calls;
mod deribit;

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};

use self::calls::{Answering, Call, Refusal, calls, notice};
use super::mock::{Handshake, Out, Service, SocketId};
use crate::message::Message;

pub use deribit::MockDeribit;

/// How many calls are kept.
const KEPT: usize = 1000;

/// A node of Ethereum, as far as `eth_subscribe`, `eth_unsubscribe` and calls with
/// [set answers](Self::answer) go. Run it by a [`Mock`](super::Mock).
///
/// Any kind of subscription is granted, unless it is [refused](Self::refuse). Each has an id of its own,
/// which ends with its socket. Clients are audited: for frames that are no calls, numbers used twice on
/// a socket, and ids given back that they do not have.
#[derive(Debug, Default)]
pub struct MockJsonRpc {
    answering: Answering,
    answers: HashMap<String, Result<Value, Refusal>>,
    calls: Vec<(String, Value)>,
    early: Option<Value>,
    last_id: u64,
    refused: HashMap<String, Refusal>,
    silent: HashSet<String>,
    sockets: BTreeMap<SocketId, Node>,
}

/// What a node knows of a socket.
#[derive(Debug, Default)]
struct Node {
    numbers: HashSet<String>,
    /// The parameters of each subscription.
    subscriptions: BTreeMap<String, Value>,
}

impl MockJsonRpc {
    /// Says `result` to all subscriptions of `kind`, and tells how many those are.
    pub fn publish(&mut self, kind: &str, result: &Value, out: &mut Out) -> usize {
        self.publish_all(kind, std::slice::from_ref(result), out)
    }

    /// The same for several results, which a subscription gets in one frame: a batch of notices.
    pub fn publish_all(&mut self, kind: &str, results: &[Value], out: &mut Out) -> usize {
        let mut told = 0;
        for (socket, node) in &self.sockets {
            for (id, _) in node.subscriptions.iter().filter(|(_, params)| params[0] == kind) {
                let notices: Vec<_> = results.iter().map(|result| of(id, result)).collect();
                match &notices[..] {
                    [one] => out.send(*socket, one.to_string()),
                    all => out.send(*socket, Value::from(all).to_string()),
                }
                told += 1;
            }
        }
        told
    }

    /// Refuses subscriptions of `kind` from now on, with an error of `code`.
    pub fn refuse(&mut self, kind: &str, code: i64, message: &str) {
        self.refused.insert(kind.to_owned(), (code, message.to_owned()));
    }

    /// Takes [`refuse`](Self::refuse) back.
    pub fn grant(&mut self, kind: &str) {
        self.refused.remove(kind);
    }

    /// From now on, each subscription has `result` before the answer that tells its id.
    pub fn early(&mut self, result: Option<Value>) {
        self.early = result;
    }

    /// Answers calls of `method` by `result`.
    pub fn answer(&mut self, method: &str, result: Value) {
        self.answers.insert(method.to_owned(), Ok(result));
    }

    /// Answers calls of `method` by an error of `code`.
    pub fn fail(&mut self, method: &str, code: i64, message: &str) {
        self.answers.insert(method.to_owned(), Err((code, message.to_owned())));
    }

    /// Answers calls of `method` never.
    pub fn silence(&mut self, method: &str) {
        self.silent.insert(method.to_owned());
    }

    /// Holds answers back until `count` of a socket are there, and says the last first.
    pub fn reverse(&mut self, count: usize) {
        self.answering.reverse(count);
    }

    /// Whether each answer is said twice from now on.
    pub fn twice(&mut self, twice: bool) {
        self.answering.twice(twice);
    }

    /// Method and parameters of each call so far, the first 1,000.
    #[must_use]
    pub fn calls(&self) -> &[(String, Value)] {
        &self.calls
    }

    /// The parameters of each subscription that there is now, in order of their sockets and ids.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<Value> {
        self.sockets.values().flat_map(|node| node.subscriptions.values().cloned()).collect()
    }

    /// The answer to a call; `None` for no answer.
    fn carry_out(
        &mut self,
        socket: SocketId,
        call: &Call,
        out: &mut Out,
    ) -> Option<Result<Value, Refusal>> {
        if self.calls.len() < KEPT {
            self.calls.push((call.method.clone(), call.params.clone()));
        }
        let node = self.sockets.get_mut(&socket)?;
        if call.id.as_ref().is_some_and(|id| !node.numbers.insert(id.to_string())) {
            out.fault(socket, format!("a number used twice: {call:?}"));
        }
        if self.silent.contains(&call.method) {
            return None;
        }
        Some(match &*call.method {
            "eth_subscribe" => match call.params[0].as_str() {
                None => Err((-32602, "invalid argument 0".into())),
                Some(kind) if self.refused.contains_key(kind) => Err(self.refused[kind].clone()),
                Some(_) => {
                    self.last_id += 1;
                    // Of 32 digits, as nodes have them.
                    let id = format!("{:#034x}", u128::from(self.last_id) * 0x9e37_79b9_7f4a_7c15);
                    node.subscriptions.insert(id.clone(), call.params.clone());
                    if let Some(result) = &self.early {
                        out.send(socket, of(&id, result).to_string());
                    }
                    Ok(id.into())
                }
            },
            "eth_unsubscribe" => {
                let id = call.params[0].as_str().unwrap_or_default();
                if node.subscriptions.remove(id).is_some() {
                    Ok(true.into())
                } else {
                    out.fault(socket, format!("{id} is given back, and is not there"));
                    Err((-32000, "subscription not found".into()))
                }
            }
            method => self.answers.get(method).cloned().unwrap_or_else(|| {
                Err((-32601, format!("the method {method} does not exist/is not available")))
            }),
        })
    }
}

/// A notice of subscription `id`.
fn of(id: &str, result: &Value) -> Value {
    notice("eth_subscription", &json!({"subscription": id, "result": result}))
}

impl Service for MockJsonRpc {
    fn open(&mut self, socket: SocketId, _: &Handshake, _: &mut Out) {
        self.sockets.insert(socket, Node::default());
    }

    fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
        let Some((calls, is_batch)) = calls(message) else {
            return out.fault(socket, format!("no call: {message:?}"));
        };
        let mut answers = Vec::new();
        for call in calls {
            if let Some(outcome) = self.carry_out(socket, &call, out) {
                answers.extend(call.answer(outcome));
            }
        }
        self.answering.say(socket, answers, is_batch, out);
    }

    fn gone(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
        self.answering.gone(socket);
    }
}
