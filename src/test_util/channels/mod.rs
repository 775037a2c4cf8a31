//! A server of Phoenix's channels, in both serializers.

mod supabase;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::mock::{Handshake, Out, Service, SocketId};
use crate::message::Message;

pub use supabase::MockSupabase;

/// When a server ends a socket on which nothing came (`Phoenix.Endpoint.socket/3`, `:timeout`).
const IDLE: Duration = Duration::from_secs(60);
/// How many joins and pushes are kept.
const KEPT: usize = 1000;

/// A [Phoenix](https://hexdocs.pm/phoenix) server: every topic can be joined, unless it is
/// [rejected](Self::reject). Run it by a [`Mock`](super::Mock).
///
/// Pushes are kept and answered `ok`. Clients are audited: for frames that cannot be read, topics
/// joined twice, pushes on topics that they have not joined, and silence of a minute.
#[derive(Debug, Default)]
pub struct MockPhoenix {
    deaf: bool,
    joins: Vec<(SocketId, String, Value)>,
    pushes: Vec<(String, String, Value)>,
    rejected: HashMap<String, String>,
    sockets: BTreeMap<SocketId, Line>,
}

/// A socket.
#[derive(Debug)]
struct Line {
    /// The join of each topic.
    channels: BTreeMap<String, String>,
    heard: Instant,
    /// The last join of each topic that is over.
    past: BTreeMap<String, String>,
    v2: bool,
}

/// A frame from a client.
#[derive(Debug)]
struct Frame {
    event: String,
    join_ref: Option<String>,
    payload: Value,
    reference: Option<String>,
    topic: String,
}

/// What a join is answered: its response, or the reason why it is refused.
type Joined = Result<Value, String>;

impl MockPhoenix {
    /// Says `event` on `topic` to all who have joined it, and tells how many those are.
    pub fn publish(&mut self, topic: &str, event: &str, payload: &Value, out: &mut Out) -> usize {
        let lines = self.sockets.iter().filter(|(_, line)| line.channels.contains_key(topic));
        let said = lines
            .map(|(socket, line)| out.send(*socket, line.frame(None, None, topic, event, payload)));
        said.count()
    }

    /// As [`publish`](Self::publish), with a binary payload, to those who speak version 2.
    pub fn publish_binary(&mut self, topic: &str, event: &str, payload: &[u8], out: &mut Out) {
        let mut bytes = vec![2];
        for field in [topic, event] {
            bytes.push(u8::try_from(field.len()).expect("a field of at most 255 bytes"));
        }
        bytes.extend([topic.as_bytes(), event.as_bytes(), payload].concat());
        let lines =
            self.sockets.iter().filter(|(_, line)| line.v2 && line.channels.contains_key(topic));
        lines.for_each(|(socket, _)| out.send(*socket, bytes.clone()));
    }

    /// Says `event` on `topic` as by an instance of the channel that is over: late.
    pub fn publish_late(&mut self, topic: &str, event: &str, payload: &Value, out: &mut Out) {
        for (socket, line) in &self.sockets {
            if let Some(past) = line.past.get(topic) {
                out.send(*socket, line.frame(Some(past), None, topic, event, payload));
            }
        }
    }

    /// Has the channel's process die, for all who have joined it.
    pub fn crash(&mut self, topic: &str, out: &mut Out) {
        self.end(topic, "phx_error", out);
    }

    /// Closes the channel, for all who have joined it.
    pub fn close(&mut self, topic: &str, out: &mut Out) {
        self.end(topic, "phx_close", out);
    }

    /// Refuses further joins of `topic`.
    pub fn reject(&mut self, topic: &str, reason: &str) {
        self.rejected.insert(topic.to_owned(), reason.to_owned());
    }

    /// Takes [`reject`](Self::reject) back.
    pub fn accept(&mut self, topic: &str) {
        self.rejected.remove(topic);
    }

    /// Whether heartbeats stay without an answer from now on.
    pub fn deaf(&mut self, deaf: bool) {
        self.deaf = deaf;
    }

    /// Topic and payload of each join so far, the first 1,000.
    #[must_use]
    pub fn joins(&self) -> Vec<(String, Value)> {
        self.joins.iter().map(|(_, topic, payload)| (topic.clone(), payload.clone())).collect()
    }

    /// Topic, event and payload of each push so far, the first 1,000.
    #[must_use]
    pub fn pushes(&self) -> &[(String, String, Value)] {
        &self.pushes
    }

    /// The topics that are joined now, once for each socket.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        self.sockets.values().flat_map(|line| line.channels.keys().cloned()).collect()
    }

    fn end(&mut self, topic: &str, event: &str, out: &mut Out) {
        for (socket, line) in &mut self.sockets {
            if let Some(join_ref) = line.channels.remove(topic) {
                let (of, none) = (Some(&*join_ref), json!({}));
                out.send(*socket, line.frame(of, of, topic, event, &none));
                line.past.insert(topic.to_owned(), join_ref);
            }
        }
    }

    /// Takes a message; `join` says what a join is answered. Gives a push back.
    fn hear(
        &mut self,
        socket: SocketId,
        message: &Message,
        out: &mut Out,
        join: impl FnOnce(&str, &Value) -> Joined,
    ) -> Option<(String, String, Value)> {
        let line = self.sockets.get_mut(&socket)?;
        line.heard = out.now();
        let Some(frame) = Frame::read(message) else {
            out.fault(socket, format!("a frame that cannot be read: {message:?}"));
            return None;
        };
        match &*frame.event {
            "heartbeat" if frame.topic == "phoenix" => {
                if !self.deaf {
                    out.answer(socket, line.reply(&frame, "ok", &json!({})));
                }
            }
            "phx_join" => self.join(socket, &frame, out, join),
            "phx_leave" => line.leave(socket, &frame, out),
            _ if line.channels.contains_key(&frame.topic) => {
                out.answer(socket, line.reply(&frame, "ok", &json!({})));
                let push = (frame.topic, frame.event, frame.payload);
                if self.pushes.len() < KEPT {
                    self.pushes.push(push.clone());
                }
                return Some(push);
            }
            _ => {
                if !line.past.contains_key(&frame.topic) {
                    out.fault(socket, format!("a push on {}, which is not joined", frame.topic));
                }
                let reason = json!({"reason": "unmatched topic"});
                out.answer(socket, line.reply(&frame, "error", &reason));
            }
        }
        None
    }

    fn join(
        &mut self,
        socket: SocketId,
        frame: &Frame,
        out: &mut Out,
        join: impl FnOnce(&str, &Value) -> Joined,
    ) {
        if self.joins.len() < KEPT {
            self.joins.push((socket, frame.topic.clone(), frame.payload.clone()));
        }
        let Some(line) = self.sockets.get_mut(&socket) else { return };
        let topic = &frame.topic;
        if let Some(old) = line.channels.remove(topic) {
            out.fault(socket, format!("{topic} is joined twice"));
            let old = Some(&*old);
            out.send(socket, line.frame(old, old, topic, "phx_close", &json!({})));
        }
        let answer = match self.rejected.get(topic) {
            Some(reason) => Err(reason.clone()),
            None => join(topic, &frame.payload),
        };
        match answer {
            Ok(response) => {
                line.channels.insert(topic.clone(), frame.reference.clone().unwrap_or_default());
                out.answer(socket, line.reply(frame, "ok", &response));
            }
            Err(reason) => {
                line.past.insert(topic.clone(), String::new());
                out.answer(socket, line.reply(frame, "error", &json!({"reason": reason})));
            }
        }
    }
}

impl Line {
    fn leave(&mut self, socket: SocketId, frame: &Frame, out: &mut Out) {
        out.answer(socket, self.reply(frame, "ok", &json!({})));
        if let Some(join_ref) = self.channels.remove(&frame.topic) {
            if frame.join_ref.as_ref().is_some_and(|of| *of != join_ref) {
                out.fault(socket, format!("{} is left as by an earlier join", frame.topic));
            }
            let of = Some(&*join_ref);
            out.answer(socket, self.frame(of, of, &frame.topic, "phx_close", &json!({})));
            self.past.insert(frame.topic.clone(), join_ref);
        }
    }

    fn reply(&self, to: &Frame, status: &str, response: &Value) -> String {
        let payload = json!({"status": status, "response": response});
        self.frame(
            to.join_ref.as_deref(),
            to.reference.as_deref(),
            &to.topic,
            "phx_reply",
            &payload,
        )
    }

    fn frame(
        &self,
        join_ref: Option<&str>,
        reference: Option<&str>,
        topic: &str,
        event: &str,
        payload: &Value,
    ) -> String {
        match self.v2 {
            true => json!([join_ref, reference, topic, event, payload]),
            false => json!({"topic": topic, "event": event, "payload": payload, "ref": reference}),
        }
        .to_string()
    }
}

impl Frame {
    fn read(message: &Message) -> Option<Self> {
        let Some(text) = message.as_text() else { return Self::read_binary(message.as_bytes()) };
        let string = |value: &Value| value.as_str().map(Into::into);
        let value: Value = serde_json::from_str(text).ok()?;
        let fields = match value.as_array() {
            Some(fields) if fields.len() == 5 => fields.clone(),
            Some(_) => return None,
            None => {
                let keys = ["join_ref", "ref", "topic", "event", "payload"];
                keys.iter().map(|key| value.get(key).cloned().unwrap_or_default()).collect()
            }
        };
        Some(Self {
            event: string(&fields[3])?,
            join_ref: string(&fields[0]),
            payload: fields[4].clone(),
            reference: string(&fields[1]),
            topic: string(&fields[2])?,
        })
    }

    /// A binary push; its payload is shown as an array of numbers. `realtime-js` broadcasts in a form
    /// of its own, with metadata and an encoding.
    fn read_binary(bytes: &[u8]) -> Option<Self> {
        if let [3, join_ref, reference, topic, event, metadata, 1, rest @ ..] = bytes {
            let mut rest = rest;
            let mut field = |len: &u8| {
                let (field, after) = rest.split_at_checked((*len).into())?;
                rest = after;
                String::from_utf8(field.to_vec()).ok()
            };
            let (join_ref, reference) = (field(join_ref), field(reference));
            let (topic, event, _) = (field(topic)?, field(event)?, field(metadata)?);
            let inner: Value = serde_json::from_slice(rest).ok()?;
            let payload = json!({"type": "broadcast", "event": event, "payload": inner});
            return Some(Self { event: "broadcast".into(), join_ref, payload, reference, topic });
        }
        let (&[kind, ref lens @ ..], mut rest) = bytes.split_at_checked(5)? else { return None };
        let mut fields = Vec::new();
        for len in lens {
            let (field, after) = rest.split_at_checked((*len).into())?;
            fields.push(String::from_utf8(field.to_vec()).ok()?);
            rest = after;
        }
        let [join_ref, reference, topic, event] = fields.try_into().ok()?;
        let (join_ref, reference) = (Some(join_ref), Some(reference));
        (kind == 0).then(|| Self { event, join_ref, payload: json!(rest), reference, topic })
    }
}

impl Service for MockPhoenix {
    fn open(&mut self, socket: SocketId, dial: &Handshake, out: &mut Out) {
        let v2 = dial.parameter("vsn").is_some_and(|version| version.starts_with("2."));
        let (channels, past) = (BTreeMap::new(), BTreeMap::new());
        self.sockets.insert(socket, Line { channels, heard: out.now(), past, v2 });
    }

    fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
        self.hear(socket, message, out, |_, _| Ok(json!({})));
    }

    fn gone(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
    }

    fn deadline(&self) -> Option<Instant> {
        self.sockets.values().map(|line| line.heard + IDLE).min()
    }

    fn tick(&mut self, out: &mut Out) {
        let now = out.now();
        self.sockets.retain(|socket, line| {
            let is_idle = line.heard + IDLE <= now;
            if is_idle {
                out.fault(*socket, "nothing was heard for a minute");
                out.drop_socket(*socket);
            }
            !is_idle
        });
    }
}
