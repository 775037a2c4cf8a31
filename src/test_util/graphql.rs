//! A server of graphql-transport-ws.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::mock::{Handshake, Out, Service, SocketId};
use super::server::Answer;
use crate::message::Message;

/// When a socket without `connection_init` is closed, as the reference server has it.
const INIT: Duration = Duration::from_secs(3);
/// How many operations are kept.
const KEPT: usize = 1000;
const SUBPROTOCOL: &str = "graphql-transport-ws";

/// A GraphQL server, as far as the protocol `graphql-transport-ws` goes: it executes nothing. What an
/// operation is, a test tells by a part of its document. Run it by a [`Mock`](super::Mock).
///
/// Sockets are closed as `PROTOCOL.md` of graphql-ws says: 4400 for what is no message, 4401 for an
/// operation before `connection_init`, 4403 for another token than the [only one](Self::only_token), 4406
/// for another subprotocol, 4408 for no `connection_init` in 3 s, 4409 for an id in use, 4429 for a
/// second `connection_init`. Each of these is a fault of the client's too, but for 4403.
#[derive(Debug, Default)]
pub struct MockGraphql {
    /// Parts of documents, and what an operation with that in it is answered.
    answers: Vec<(String, Result<Vec<Value>, Value>)>,
    deaf: bool,
    inits: Vec<Value>,
    operations: Vec<Value>,
    pongs: usize,
    sockets: BTreeMap<SocketId, Line>,
    valid: Option<String>,
}

/// A socket.
#[derive(Debug)]
struct Line {
    closing: bool,
    initialised: bool,
    opened: Instant,
    /// The document of each operation that is not over.
    operations: BTreeMap<String, String>,
    /// Those that the client has completed.
    past: BTreeSet<String>,
}

impl MockGraphql {
    /// Says `payload` as the next of each operation with `part` in its document, and tells how many
    /// those are.
    pub fn publish(&mut self, part: &str, payload: &Value, out: &mut Out) -> usize {
        let mut told = 0;
        for (socket, line) in &self.sockets {
            for (id, _) in line.operations.iter().filter(|(_, document)| document.contains(part)) {
                out.send(*socket, of(id, "next", payload));
                told += 1;
            }
        }
        told
    }

    /// The documents of the operations that are not over, each once.
    #[must_use]
    pub fn documents(&self) -> BTreeSet<String> {
        let lines = self.sockets.values();
        lines.flat_map(|line| line.operations.values().cloned()).collect()
    }

    /// Says `payload` as the next of what clients have completed: late.
    pub fn publish_late(&mut self, payload: &Value, out: &mut Out) {
        for (socket, line) in &self.sockets {
            line.past.iter().for_each(|id| out.send(*socket, of(id, "next", payload)));
        }
    }

    /// Completes each operation with `part` in its document.
    pub fn complete(&mut self, part: &str, out: &mut Out) {
        self.end(part, out, |id| json!({"id": id, "type": "complete"}).to_string());
    }

    /// Ends each operation with `part` in its document by an error of these words.
    pub fn fail(&mut self, part: &str, words: &str, out: &mut Out) {
        self.end(part, out, |id| of(id, "error", &json!([{"message": words}])));
    }

    /// Answers operations with `part` in their document by these payloads, and completes them.
    pub fn answer(&mut self, part: &str, payloads: impl IntoIterator<Item = Value>) {
        self.answers.push((part.to_owned(), Ok(payloads.into_iter().collect())));
    }

    /// Answers operations with `part` in their document by an error of these words.
    pub fn refuse(&mut self, part: &str, words: &str) {
        self.answers.push((part.to_owned(), Err(json!([{"message": words}]))));
    }

    /// Takes only clients whose `connection_init` has this `Authorization`.
    pub fn only_token(&mut self, token: &str) {
        self.valid = Some(token.to_owned());
    }

    /// Says a ping to all sockets.
    pub fn ping(&mut self, out: &mut Out) {
        let ping = r#"{"type":"ping","payload":{"n":1}}"#;
        self.sockets.keys().for_each(|socket| out.send(*socket, ping));
    }

    /// Whether pings and `connection_init` stay without an answer from now on.
    pub fn deaf(&mut self, deaf: bool) {
        self.deaf = deaf;
    }

    /// The pongs so far.
    #[must_use]
    pub fn pongs(&self) -> usize {
        self.pongs
    }

    /// The payload of each `connection_init` so far, `null` for none; the first 1,000.
    #[must_use]
    pub fn inits(&self) -> &[Value] {
        &self.inits
    }

    /// The payload of each `subscribe` so far, the first 1,000.
    #[must_use]
    pub fn operations(&self) -> &[Value] {
        &self.operations
    }

    /// How many operations are not over.
    #[must_use]
    pub fn running(&self) -> usize {
        self.sockets.values().map(|line| line.operations.len()).sum()
    }

    fn end(&mut self, part: &str, out: &mut Out, last: impl Fn(&str) -> String) {
        for (socket, line) in &mut self.sockets {
            line.operations.retain(|id, document| {
                let is_it = document.contains(part);
                if is_it {
                    out.send(*socket, last(id));
                }
                !is_it
            });
        }
    }

    fn close(&mut self, socket: SocketId, code: u16, reason: &str, out: &mut Out) {
        if let Some(line) = self.sockets.get_mut(&socket) {
            line.closing = true;
        }
        if code != 4403 {
            out.fault(socket, format!("{code} {reason}"));
        }
        out.close(socket, code, reason);
    }

    fn initialise(&mut self, socket: SocketId, payload: &Value, out: &mut Out) {
        if self.inits.len() < KEPT {
            self.inits.push(payload.clone());
        }
        let Some(line) = self.sockets.get_mut(&socket) else { return };
        if std::mem::replace(&mut line.initialised, true) {
            return self.close(socket, 4429, "Too many initialisation requests", out);
        }
        if self.valid.as_ref().is_some_and(|valid| payload["Authorization"] != **valid) {
            return self.close(socket, 4403, "Forbidden", out);
        }
        if !self.deaf {
            out.answer(socket, r#"{"type":"connection_ack"}"#);
        }
    }

    fn subscribe(&mut self, socket: SocketId, id: &str, payload: &Value, out: &mut Out) {
        let Some(line) = self.sockets.get_mut(&socket) else { return };
        let Some(document) = payload["query"].as_str() else {
            return self.close(socket, 4400, "Invalid message", out);
        };
        if !line.initialised {
            return self.close(socket, 4401, "Unauthorized", out);
        }
        if line.operations.contains_key(id) {
            let reason = format!("Subscriber for {id} already exists");
            return self.close(socket, 4409, &reason, out);
        }
        if self.operations.len() < KEPT {
            self.operations.push(payload.clone());
        }
        match self.answers.iter().find(|(part, _)| document.contains(part)) {
            None => drop(line.operations.insert(id.to_owned(), document.to_owned())),
            Some((_, Ok(payloads))) => {
                payloads.iter().for_each(|payload| out.answer(socket, of(id, "next", payload)));
                out.answer(socket, json!({"id": id, "type": "complete"}).to_string());
            }
            Some((_, Err(errors))) => out.answer(socket, of(id, "error", errors)),
        }
    }
}

fn of(id: &str, kind: &str, payload: &Value) -> String {
    json!({"id": id, "type": kind, "payload": payload}).to_string()
}

impl Service for MockGraphql {
    fn answer(&self) -> Answer {
        let header = ("Sec-WebSocket-Protocol".to_owned(), SUBPROTOCOL.to_owned());
        Answer::AcceptWith { headers: vec![header] }
    }

    fn open(&mut self, socket: SocketId, dial: &Handshake, out: &mut Out) {
        let (operations, past) = (BTreeMap::new(), BTreeSet::new());
        let opened = out.now();
        let line = Line { closing: false, initialised: false, opened, operations, past };
        self.sockets.insert(socket, line);
        if !dial.asks_for(SUBPROTOCOL) {
            self.close(socket, 4406, "Subprotocol not acceptable", out);
        }
    }

    fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
        let Some(line) = self.sockets.get_mut(&socket).filter(|line| !line.closing) else { return };
        let value: Value =
            message.as_text().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        match (value["type"].as_str(), value["id"].as_str()) {
            (Some("connection_init"), _) => self.initialise(socket, &value["payload"], out),
            (Some("subscribe"), Some(id)) => self.subscribe(socket, id, &value["payload"], out),
            (Some("complete"), Some(id)) => {
                if line.operations.remove(id).is_some() {
                    line.past.insert(id.to_owned());
                }
            }
            (Some("ping"), _) => {
                if !self.deaf {
                    out.send(socket, r#"{"type":"pong"}"#);
                }
            }
            (Some("pong"), _) => self.pongs += 1,
            _ => self.close(socket, 4400, "Invalid message", out),
        }
    }

    fn gone(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
    }

    fn deadline(&self) -> Option<Instant> {
        let late = self.sockets.values().filter(|line| !line.initialised && !line.closing);
        late.map(|line| line.opened + INIT).min()
    }

    fn tick(&mut self, out: &mut Out) {
        let now = out.now();
        let late = self
            .sockets
            .iter()
            .filter(|(_, line)| !line.initialised && !line.closing && line.opened + INIT <= now);
        let late: Vec<_> = late.map(|(socket, _)| *socket).collect();
        for socket in late {
            self.close(socket, 4408, "Connection initialisation timeout", out);
        }
    }
}
