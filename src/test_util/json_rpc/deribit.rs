//! Deribit: channels, books in chains, heartbeats that want an answer, and tokens.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::KEPT;
use super::calls::{Answering, Call, Refusal, calls, notice};
use crate::message::Message;
use crate::test_util::mock::{Handshake, Out, Service, SocketId};

/// A server of [Deribit](https://docs.deribit.com), as far as its channels go. Run it by a
/// [`Mock`](crate::test_util::Mock).
///
/// Every channel exists, unless it is [unknown](Self::unknown). A channel that begins with `book.` has a
/// book whose changes are a chain, and begins with a snapshot. Heartbeats come at the interval that a
/// client sets, each second one a `test_request`; a client that does not answer it before the next is
/// dropped. Clients are audited: for that, for frames that are no calls, and for numbers used twice.
#[derive(Debug, Default)]
pub struct MockDeribit {
    /// What follows on the answers to a frame.
    after: Vec<String>,
    answering: Answering,
    auths: Vec<Value>,
    /// The last change of each book.
    books: HashMap<String, u64>,
    deaf: bool,
    early: bool,
    refusals: VecDeque<Refusal>,
    sockets: BTreeMap<SocketId, Line>,
    unknown: HashSet<String>,
    valid: Option<String>,
}

/// A socket.
#[derive(Debug, Default)]
struct Line {
    authenticated: bool,
    beat: Option<Beat>,
    channels: BTreeSet<String>,
    numbers: HashSet<String>,
}

#[derive(Debug)]
struct Beat {
    interval: Duration,
    next: Instant,
    /// A `test_request` waits for its answer.
    asked: bool,
    /// The next is a `test_request`.
    asks: bool,
}

impl MockDeribit {
    /// Says `data` on `channel` to all who have joined it, and tells how many those are.
    pub fn publish(&mut self, channel: &str, data: &Value, out: &mut Out) -> usize {
        let lines = self.sockets.iter().filter(|(_, line)| line.channels.contains(channel));
        lines.map(|(socket, _)| out.send(*socket, of(channel, data).to_string())).count()
    }

    /// Says the next change of a book.
    pub fn change(&mut self, channel: &str, out: &mut Out) -> u64 {
        let (previous, next) = self.advance(channel);
        let change = json!({
            "type": "change", "change_id": next, "prev_change_id": previous,
            "bids": [["new", 42498.5, 300.0]], "asks": [],
        });
        self.publish(channel, &change, out);
        next
    }

    /// Loses the next change of a book: nobody is told of it.
    pub fn lose_change(&mut self, channel: &str) {
        self.advance(channel);
    }

    /// Leaves `channel` out of what it accepts.
    pub fn unknown(&mut self, channel: &str) {
        self.unknown.insert(channel.to_owned());
    }

    /// Refuses the next call to subscribe with an error of `code`; called again, the one after it too.
    pub fn refuse_next(&mut self, code: i64, message: &str) {
        self.refusals.push_back((code, message.to_owned()));
    }

    /// Whether snapshots come before the answer that accepts their channel, from now on.
    pub fn early(&mut self, early: bool) {
        self.early = early;
    }

    /// Whether no heartbeats are sent from now on.
    pub fn deaf(&mut self, deaf: bool) {
        self.deaf = deaf;
    }

    /// Takes only this secret or refresh token from now on.
    pub fn only_token(&mut self, token: &str) {
        self.valid = Some(token.to_owned());
    }

    /// Forgets who its clients are, as it does when their tokens expire.
    pub fn expire(&mut self) {
        self.sockets.values_mut().for_each(|line| line.authenticated = false);
    }

    /// Holds answers back until `count` of a socket are there, and says the last first.
    pub fn reverse(&mut self, count: usize) {
        self.answering.reverse(count);
    }

    /// The parameters of each `public/auth` so far, the first 1,000.
    #[must_use]
    pub fn auths(&self) -> &[Value] {
        &self.auths
    }

    /// The channels that are joined now, once for each socket.
    #[must_use]
    pub fn channels(&self) -> Vec<String> {
        self.sockets.values().flat_map(|line| line.channels.iter().cloned()).collect()
    }

    /// The changes before and after the next one of a book.
    fn advance(&mut self, channel: &str) -> (u64, u64) {
        let last = self.books.entry(channel.to_owned()).or_insert(1000);
        let previous = *last;
        *last += 3; // Ids rise; they do not count.
        (previous, *last)
    }

    fn carry_out(
        &mut self,
        socket: SocketId,
        call: &Call,
        out: &mut Out,
    ) -> Option<Result<Value, Refusal>> {
        let line = self.sockets.get_mut(&socket)?;
        if call.id.as_ref().is_some_and(|id| !line.numbers.insert(id.to_string())) {
            out.fault(socket, format!("a number used twice: {call:?}"));
        }
        if call.method.starts_with("private/") && !line.authenticated {
            return Some(Err((13009, "unauthorized".into())));
        }
        Some(match &*call.method {
            "public/auth" => self.authenticate(socket, &call.params),
            "public/set_heartbeat" => {
                let seconds = call.params["interval"].as_u64().filter(|seconds| *seconds >= 10);
                line.beat = seconds.map(|seconds| Beat::new(seconds, out.now()));
                seconds.map(|_| json!("ok")).ok_or((-32602, "Invalid params".into()))
            }
            "public/test" => {
                line.beat.iter_mut().for_each(|beat| beat.asked = false);
                Ok(json!({"version": "1.2.26"}))
            }
            "public/subscribe" | "private/subscribe" => match self.refusals.pop_front() {
                Some(refusal) => Err(refusal),
                None => Ok(self.subscribe(socket, &names(&call.params), out)),
            },
            "public/unsubscribe" | "private/unsubscribe" => {
                let names = names(&call.params);
                Ok(names.into_iter().filter(|name| line.channels.remove(name)).collect())
            }
            "public/get_time" => Ok(json!(1_699_999_999_000_u64)),
            _ => Err((-32601, "Method not found".into())),
        })
    }

    fn authenticate(&mut self, socket: SocketId, params: &Value) -> Result<Value, Refusal> {
        if self.auths.len() < KEPT {
            self.auths.push(params.clone());
        }
        let token = match params["grant_type"].as_str() {
            Some("client_credentials") if params["client_id"].is_string() => {
                params["client_secret"].as_str()
            }
            Some("refresh_token") => params["refresh_token"].as_str(),
            _ => return Err((-32602, "Invalid params".into())),
        };
        let is_valid = self.valid.as_deref().is_none_or(|valid| token == Some(valid));
        if !is_valid || token.is_none() {
            // Servers quote what they refuse.
            return Err((13004, format!("invalid_credentials {}", token.unwrap_or_default())));
        }
        if let Some(line) = self.sockets.get_mut(&socket) {
            line.authenticated = true;
        }
        Ok(
            json!({"access_token": "a", "refresh_token": "r", "expires_in": 900, "token_type": "bearer"}),
        )
    }

    /// What it accepts, in an order of its own.
    fn subscribe(&mut self, socket: SocketId, names: &[String], out: &mut Out) -> Value {
        let Some(line) = self.sockets.get_mut(&socket) else { return Value::Null };
        let granted = |name: &&String| {
            !self.unknown.contains(*name) && (line.authenticated || !name.starts_with("user."))
        };
        let mut accepted: Vec<_> = names.iter().filter(granted).cloned().collect();
        accepted.reverse();
        for name in &accepted {
            if line.channels.insert(name.clone()) && name.starts_with("book.") {
                let last = *self.books.entry(name.clone()).or_insert(1000);
                let snapshot =
                    json!({"type": "snapshot", "change_id": last, "bids": [], "asks": []});
                let snapshot = of(name, &snapshot).to_string();
                match self.early {
                    true => out.send(socket, snapshot),
                    false => self.after.push(snapshot),
                }
            }
        }
        accepted.into()
    }
}

impl Beat {
    fn new(seconds: u64, now: Instant) -> Self {
        let interval = Duration::from_secs(seconds);
        Self { interval, next: now + interval, asked: false, asks: false }
    }
}

/// The channels that a call names.
fn names(params: &Value) -> Vec<String> {
    let names = params["channels"].as_array().into_iter().flatten();
    names.filter_map(|name| name.as_str().map(Into::into)).collect()
}

/// A notice of a channel.
fn of(channel: &str, data: &Value) -> Value {
    notice("subscription", &json!({"channel": channel, "data": data}))
}

impl Service for MockDeribit {
    fn open(&mut self, socket: SocketId, _: &Handshake, _: &mut Out) {
        self.sockets.insert(socket, Line::default());
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
        self.after.drain(..).for_each(|after| out.answer(socket, after));
    }

    fn gone(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
        self.answering.gone(socket);
    }

    fn deadline(&self) -> Option<Instant> {
        self.sockets.values().filter_map(|line| line.beat.as_ref()).map(|beat| beat.next).min()
    }

    fn tick(&mut self, out: &mut Out) {
        let (now, deaf) = (out.now(), self.deaf);
        self.sockets.retain(|socket, line| {
            let Some(beat) = line.beat.as_mut().filter(|beat| beat.next <= now) else {
                return true;
            };
            if beat.asked {
                out.fault(*socket, "a test_request without an answer");
                out.drop_socket(*socket);
                return false;
            }
            beat.next = now + beat.interval;
            if !deaf {
                let kind = if beat.asks { "test_request" } else { "heartbeat" };
                beat.asked = beat.asks;
                beat.asks = !beat.asks;
                out.send(*socket, notice("heartbeat", &json!({"type": kind})).to_string());
            }
            true
        });
    }
}
