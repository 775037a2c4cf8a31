//! A server of Binance's WebSocket API.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::message::Message;
use crate::test_util::mock::{Handshake, Out, Service, SocketId};

/// How many requests are kept.
const KEPT: usize = 1000;

/// Binance's WebSocket API, as far as requests, replies and events go: it knows no market and checks no
/// signature. Run it by a [`Mock`](super::super::Mock).
///
/// A method that a test has said nothing of is answered by its own parameters. Replies come
/// [out of order](Self::reverse), [twice](Self::twice), [never](Self::silence), as
/// [failures](Self::fail), and late or never by [`Mock::answers`](super::super::Mock::answers).
///
/// Faults of clients: what is no request (which the server answers by an error of `id` `null`), an id that
/// waits for an answer already, and a request on a socket that was told to [hold back](Self::limit).
#[derive(Debug, Default)]
pub struct MockBinanceApi {
    answers: BTreeMap<String, (u16, Value)>,
    /// What all is answered, until when.
    limit: Option<(u16, Value, Instant)>,
    queries: Vec<String>,
    requests: Vec<Value>,
    reversed: usize,
    silent: BTreeSet<String>,
    sockets: BTreeMap<SocketId, Line>,
    twice: bool,
}

/// A socket.
#[derive(Debug, Default)]
struct Line {
    held: Vec<String>,
    is_limited: bool,
    waiting: BTreeSet<String>,
}

impl MockBinanceApi {
    /// Answers `method` by `result`.
    pub fn answer(&mut self, method: &str, result: Value) {
        self.answers.insert(method.to_owned(), (200, result));
    }

    /// Answers `method` by an error.
    pub fn fail(&mut self, method: &str, status: u16, code: i64, msg: &str) {
        self.answers.insert(method.to_owned(), (status, json!({"code": code, "msg": msg})));
    }

    /// Answers `method` never.
    pub fn silence(&mut self, method: &str) {
        self.silent.insert(method.to_owned());
    }

    /// Answers all requests before `until` by `status`, 429 or 418, with this `retryAfter`, in milliseconds
    /// since 1970. Who has heard that on a socket is not to ask there before.
    pub fn limit(&mut self, status: u16, retry_after: Option<u64>, until: Instant) {
        let mut error = json!({"code": -1003, "msg": "Too many requests."});
        if let Some(at) = retry_after {
            error["data"] = json!({"retryAfter": at});
        }
        self.limit = Some((status, error, until));
        self.sockets.values_mut().for_each(|line| line.is_limited = false);
    }

    /// Holds replies back until `count` of a socket are there, and says the last first.
    pub fn reverse(&mut self, count: usize) {
        self.reversed = count;
    }

    /// Whether each reply is said twice from now on.
    pub fn twice(&mut self, twice: bool) {
        self.twice = twice;
    }

    /// Says an event to all sockets, of this subscription.
    pub fn event(&mut self, subscription: u32, event: &Value, out: &mut Out) {
        self.say(&json!({"subscriptionId": subscription, "event": event}), out);
    }

    /// Tells all sockets that their key was revoked.
    pub fn revoke(&mut self, out: &mut Out) {
        let error =
            json!({"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."});
        self.say(&json!({"id": null, "status": 401, "error": error}), out);
    }

    /// Tells all sockets that the server is about to go.
    pub fn going(&mut self, out: &mut Out) {
        let event = json!({"e": "serverShutdown", "E": 1_770_123_456_789_u64});
        self.say(&json!({"event": event}), out);
    }

    /// The requests so far, the first 1,000.
    #[must_use]
    pub fn requests(&self) -> &[Value] {
        &self.requests
    }

    /// The query of each dial so far, the first 1,000.
    #[must_use]
    pub fn queries(&self) -> &[String] {
        &self.queries
    }

    fn say(&self, what: &Value, out: &mut Out) {
        self.sockets.keys().for_each(|socket| out.send(*socket, what.to_string()));
    }

    /// Status and body of the answer; `None` for no answer.
    fn outcome(&self, method: &str, params: &Value, now: Instant) -> Option<(u16, Value)> {
        match &self.limit {
            Some((status, error, until)) if now < *until => Some((*status, error.clone())),
            _ if self.silent.contains(method) => None,
            _ => {
                let answer = self.answers.get(method).cloned();
                Some(answer.unwrap_or_else(|| (200, params.clone())))
            }
        }
    }

    fn answered(&mut self, socket: SocketId, answer: String, out: &mut Out) {
        let Some(line) = self.sockets.get_mut(&socket) else { return };
        line.held.push(answer);
        if line.held.len() < self.reversed {
            return;
        }
        if self.reversed > 0 {
            line.held.reverse();
        }
        for answer in line.held.drain(..) {
            if self.twice {
                out.answer(socket, answer.clone());
            }
            out.answer(socket, answer);
        }
    }
}

impl Service for MockBinanceApi {
    fn open(&mut self, socket: SocketId, dial: &Handshake, _: &mut Out) {
        self.sockets.insert(socket, Line::default());
        if self.queries.len() < KEPT {
            self.queries.push(dial.query.clone().unwrap_or_default());
        }
    }

    fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
        let now = out.now();
        let text = message.as_text().unwrap_or_default();
        let request: Value = serde_json::from_str(text).unwrap_or_default();
        let (id, params) = (&request["id"], &request["params"]);
        let (Some(method), true) =
            (request["method"].as_str(), params.is_null() || params.is_object())
        else {
            let error = json!({"code": -1125, "msg": "This is no request."});
            out.fault(socket, format!("no request: {message:?}"));
            return out
                .send(socket, json!({"id": null, "status": 400, "error": error}).to_string());
        };
        let outcome = self.outcome(method, params, now);
        let Some(line) = self.sockets.get_mut(&socket) else { return };
        let limited = self.limit.as_ref().is_some_and(|(_, _, until)| now < *until);
        if limited && std::mem::replace(&mut line.is_limited, true) {
            out.fault(socket, format!("asked while it was to hold back: {text}"));
        }
        if !line.waiting.insert(id.to_string()) {
            out.fault(socket, format!("an id that waits for its answer already: {text}"));
        }
        if self.requests.len() < KEPT {
            self.requests.push(request.clone());
        }
        let Some((status, body)) = outcome else { return };
        line.waiting.remove(&id.to_string());
        let key = if status == 200 { "result" } else { "error" };
        self.answered(socket, json!({"id": id, "status": status, key: body}).to_string(), out);
    }

    fn gone(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
    }
}
