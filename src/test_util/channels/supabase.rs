//! Supabase Realtime on top: tokens, bindings, and a second word when changes flow.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::MockPhoenix;
use crate::message::Message;
use crate::test_util::mock::{Handshake, Out, Service, SocketId};

/// A [Supabase Realtime](https://supabase.com/docs/guides/realtime) server, over a [`MockPhoenix`].
/// Run it by a [`Mock`](super::super::Mock). Channels are called without `realtime:`.
///
/// Broadcasts of a client reach the others, and itself where it asked for them. Changes flow, and a
/// channel says so, as soon as it has joined.
#[derive(Debug, Default)]
pub struct MockSupabase {
    /// By socket and topic: the id and what was asked for, of each binding.
    bindings: BTreeMap<(SocketId, String), Vec<(u64, Value)>>,
    last_id: u64,
    phoenix: MockPhoenix,
    tokens: Vec<String>,
    valid: Option<String>,
    withheld: bool,
}

impl MockSupabase {
    /// The channels below.
    pub fn phoenix(&mut self) -> &mut MockPhoenix {
        &mut self.phoenix
    }

    /// Accepts joins with this token only.
    pub fn only_token(&mut self, token: &str) {
        self.valid = Some(token.to_owned());
    }

    /// Whether changes do not flow from now on, so that their second word is missing.
    pub fn withhold_changes(&mut self, withheld: bool) {
        self.withheld = withheld;
    }

    /// Each token that was said on an open socket, without those of joins.
    #[must_use]
    pub fn fresh_tokens(&self) -> &[String] {
        &self.tokens
    }

    /// Broadcasts to all who have joined.
    pub fn broadcast(
        &mut self,
        channel: &str,
        event: &str,
        payload: &Value,
        out: &mut Out,
    ) -> usize {
        let payload = json!({"type": "broadcast", "event": event, "payload": payload});
        self.phoenix.publish(&topic(channel), "broadcast", &payload, out)
    }

    /// Tells all who are bound to it of a change.
    pub fn change(&mut self, kind: &str, table: &str, record: &Value, out: &mut Out) {
        for ((socket, topic), bindings) in &self.bindings {
            let matches = |asked: &Value| {
                let is = |key: &str, value: &str| {
                    asked[key].as_str().is_none_or(|asked| asked == "*" || asked == value)
                };
                is("event", kind) && is("schema", "public") && is("table", table)
            };
            let ids: Vec<_> =
                bindings.iter().filter(|(_, asked)| matches(asked)).map(|(id, _)| id).collect();
            let Some(line) = self.phoenix.sockets.get(socket).filter(|_| !ids.is_empty()) else {
                continue;
            };
            let data = json!({
                "type": kind, "schema": "public", "table": table, "record": record, "old_record": {},
                "columns": [{"name": "id", "type": "int8"}], "errors": null,
                "commit_timestamp": "2026-01-01T00:00:00Z",
            });
            let payload = json!({"ids": ids, "data": data});
            out.send(*socket, line.frame(None, None, topic, "postgres_changes", &payload));
        }
    }

    /// Says that the token of a channel has expired, and closes it.
    pub fn expire(&mut self, channel: &str, out: &mut Out) {
        self.system(channel, "system", "error", "Token has expired 0 seconds ago", out);
        self.phoenix.close(&topic(channel), out);
    }

    /// Says something about a channel.
    pub fn system(
        &mut self,
        channel: &str,
        extension: &str,
        status: &str,
        message: &str,
        out: &mut Out,
    ) {
        let payload = json!({"extension": extension, "status": status, "message": message, "channel": channel});
        self.phoenix.publish(&topic(channel), "system", &payload, out);
    }

    /// What a join is answered, with the bindings that it makes.
    fn admit(
        valid: Option<&str>,
        last_id: &mut u64,
        payload: &Value,
    ) -> (super::Joined, Vec<(u64, Value)>) {
        if valid.is_some_and(|valid| payload["access_token"].as_str() != Some(valid)) {
            return (Err("InvalidJWTToken: Token has expired 3 seconds ago".into()), Vec::new());
        }
        let asked = payload["config"]["postgres_changes"].as_array().cloned().unwrap_or_default();
        let bindings: Vec<_> = asked
            .into_iter()
            .map(|asked| {
                *last_id += 1;
                (30_000_000 + *last_id, asked)
            })
            .collect();
        let echo = |(id, asked): &(u64, Value)| {
            let mut echo = asked.clone();
            echo["id"] = json!(id);
            echo
        };
        (Ok(json!({"postgres_changes": bindings.iter().map(echo).collect::<Vec<_>>()})), bindings)
    }

    /// A client's push.
    fn pushed(
        &mut self,
        from: SocketId,
        (topic, event, payload): (String, String, Value),
        out: &mut Out,
    ) {
        match &*event {
            "access_token" => {
                self.tokens.extend(payload["access_token"].as_str().map(Into::into));
            }
            "broadcast" => {
                let echoes = |socket: SocketId| {
                    let own =
                        self.phoenix.joins.iter().rfind(|(s, t, _)| *s == socket && *t == topic);
                    own.is_some_and(|(_, _, join)| join["config"]["broadcast"]["self"] == true)
                };
                for (socket, line) in &self.phoenix.sockets {
                    let listens = line.channels.contains_key(&topic);
                    if listens && (*socket != from || echoes(*socket)) {
                        out.send(*socket, line.frame(None, None, &topic, "broadcast", &payload));
                    }
                }
            }
            _ => {}
        }
    }
}

fn topic(channel: &str) -> String {
    format!("realtime:{channel}")
}

impl Service for MockSupabase {
    fn open(&mut self, socket: SocketId, dial: &Handshake, out: &mut Out) {
        if dial.parameter("apikey").is_none() && !dial.headers.contains_key("x-api-key") {
            out.fault(socket, "there is no apikey");
        }
        self.phoenix.open(socket, dial, out);
    }

    fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
        let (valid, last_id) = (self.valid.as_deref(), &mut self.last_id);
        let mut made = None;
        let push = self.phoenix.hear(socket, message, out, |topic, payload| {
            let (answer, bindings) = Self::admit(valid, last_id, payload);
            made = answer.is_ok().then(|| (topic.to_owned(), bindings));
            answer
        });
        if let Some((topic, bindings)) = made {
            let changes = !bindings.is_empty();
            self.bindings.insert((socket, topic.clone()), bindings);
            let line = self.phoenix.sockets.get(&socket);
            if let Some(line) = line.filter(|_| changes && !self.withheld) {
                let payload = json!({
                    "extension": "postgres_changes", "status": "ok",
                    "message": "Subscribed to PostgreSQL", "channel": topic.strip_prefix("realtime:"),
                });
                out.answer(socket, line.frame(None, None, &topic, "system", &payload));
            }
        }
        let joined = |socket: &SocketId, topic: &String| {
            self.phoenix.sockets.get(socket).is_some_and(|line| line.channels.contains_key(topic))
        };
        self.bindings.retain(|(socket, topic), _| joined(socket, topic));
        if let Some(push) = push {
            self.pushed(socket, push, out);
        }
    }

    fn gone(&mut self, socket: SocketId) {
        self.bindings.retain(|(of, _), _| *of != socket);
        self.phoenix.gone(socket);
    }

    fn deadline(&self) -> Option<Instant> {
        self.phoenix.deadline()
    }

    fn tick(&mut self, out: &mut Out) {
        self.phoenix.tick(out);
    }
}
