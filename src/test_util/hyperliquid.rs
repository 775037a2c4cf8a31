//! Hyperliquid: feeds, confirmed by an echo of their subscription.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::mock::{Handshake, Out, Service, SocketId};
use crate::message::Message;

/// When a socket is closed on which the venue has said nothing.
const SILENCE: Duration = Duration::from_secs(60);
const MINUTE: Duration = Duration::from_secs(60);
/// What an address may have and say.
const SUBSCRIPTIONS: usize = 1000;
const MESSAGES: usize = 2000;

/// A server of [Hyperliquid](https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/websocket)'s
/// feeds, whose clients have one address. Run it by a [`Mock`](super::Mock).
///
/// Every coin exists, unless it is [unknown](Self::unknown); a feed is told to the mock as the
/// subscription that it stands for. An echo has the fields in another order, and defaults that were not asked
/// for. A book begins with its state, and `userFills` with a snapshot. Sockets on which the server said
/// nothing for 60 s are closed. Clients are audited: for messages that are no calls, variants of a book on one
/// socket, subscribing or leaving once more, users who share a socket, and more subscriptions or messages
/// than an address may have.
#[derive(Debug, Default)]
pub struct MockHyperliquid {
    deaf: bool,
    early: bool,
    refusals: Vec<String>,
    said: Vec<Instant>,
    sockets: BTreeMap<SocketId, Line>,
    unknown: HashSet<String>,
}

/// A socket.
#[derive(Debug)]
struct Line {
    /// When something was said to it.
    told: Instant,
    subscriptions: BTreeMap<String, Value>,
}

impl Line {
    fn say(&mut self, socket: SocketId, text: String, out: &mut Out) {
        self.told = out.now();
        out.send(socket, text);
    }
}

impl MockHyperliquid {
    /// Says data to all who have `subscription`, and tells how many those are.
    pub fn publish(&mut self, subscription: &Value, number: u32, out: &mut Out) -> usize {
        let (key, text) = (subscription.to_string(), data(subscription, number, false));
        let mut told = 0;
        for (socket, line) in &mut self.sockets {
            if line.subscriptions.contains_key(&key) {
                line.say(*socket, text.clone(), out);
                told += 1;
            }
        }
        told
    }

    /// Says to all that nothing was traded.
    pub fn publish_nothing(&mut self, out: &mut Out) {
        for (socket, line) in &mut self.sockets {
            line.say(*socket, r#"{"channel":"trades","data":[]}"#.to_owned(), out);
        }
    }

    /// Refuses `coin`: there is no such.
    pub fn unknown(&mut self, coin: &str) {
        self.unknown.insert(coin.to_owned());
    }

    /// Refuses the next call with `words`, without an echo; called again, the one after it too.
    pub fn refuse_next(&mut self, words: &str) {
        self.refusals.push(words.to_owned());
    }

    /// Whether first states come before the confirmation of their feed, from now on.
    pub fn early(&mut self, early: bool) {
        self.early = early;
    }

    /// Whether pings stay without an answer from now on.
    pub fn deaf(&mut self, deaf: bool) {
        self.deaf = deaf;
    }

    /// What is subscribed to now, once for each socket.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<Value> {
        self.sockets.values().flat_map(|line| line.subscriptions.values().cloned()).collect()
    }

    fn call(&mut self, socket: SocketId, call: &Value, out: &mut Out) -> Option<()> {
        let line = self.sockets.get_mut(&socket)?;
        let joins = match call["method"].as_str()? {
            "ping" => {
                if !self.deaf {
                    line.say(socket, r#"{"channel":"pong"}"#.to_owned(), out);
                }
                return Some(());
            }
            "subscribe" => true,
            "unsubscribe" => false,
            _ => return None,
        };
        let subscription = &call["subscription"];
        subscription["type"].as_str()?;
        line.told = out.now();
        if !self.refusals.is_empty() {
            out.answer(socket, error(&self.refusals.remove(0)));
            return Some(());
        }
        let is_unknown =
            subscription["coin"].as_str().is_some_and(|coin| self.unknown.contains(coin));
        if joins && is_unknown {
            out.answer(socket, error(&format!("Invalid subscription {subscription}")));
            return Some(());
        }
        match joins {
            true => self.subscribe(socket, subscription, out),
            false => self.unsubscribe(socket, subscription, out),
        }
        let count: usize = self.sockets.values().map(|line| line.subscriptions.len()).sum();
        if count > SUBSCRIPTIONS {
            out.fault(socket, format!("{count} subscriptions"));
        }
        Some(())
    }

    fn subscribe(&mut self, socket: SocketId, subscription: &Value, out: &mut Out) {
        let Some(line) = self.sockets.get_mut(&socket) else { return };
        let is_alike = |other: &Value| {
            let fields = ["type", "coin", "interval", "user"];
            fields.iter().all(|field| other[field] == subscription[field]) && other != subscription
        };
        if line.subscriptions.values().any(is_alike) {
            out.fault(socket, "variants of a feed on one socket");
        }
        let others = |other: &Value| {
            let (user, own) = (&other["user"], &subscription["user"]);
            user != own && !user.is_null() && !own.is_null()
        };
        if line.subscriptions.values().any(others) {
            out.fault(socket, "users share a socket");
        }
        let key = subscription.to_string();
        if line.subscriptions.insert(key, subscription.clone()).is_some() {
            out.fault(socket, format!("{subscription} once more"));
            return out
                .answer(socket, error(&format!("Already subscribed: {}", echo(subscription))));
        }
        let has_first = matches!(subscription["type"].as_str(), Some("l2Book" | "userFills"));
        let first = has_first.then(|| data(subscription, 0, true));
        let (early, later) = if self.early { (first, None) } else { (None, first) };
        early.into_iter().for_each(|first| out.send(socket, first));
        out.answer(socket, done("subscribe", subscription));
        later.into_iter().for_each(|first| out.answer(socket, first));
    }

    fn unsubscribe(&mut self, socket: SocketId, subscription: &Value, out: &mut Out) {
        let Some(line) = self.sockets.get_mut(&socket) else { return };
        if line.subscriptions.remove(&subscription.to_string()).is_some() {
            return out.answer(socket, done("unsubscribe", subscription));
        }
        if !subscription["coin"].as_str().is_some_and(|coin| self.unknown.contains(coin)) {
            out.fault(socket, format!("{subscription} is left, and is not there"));
        }
        out.answer(socket, error(&format!("Already unsubscribed: {}", echo(subscription))));
    }
}

/// A subscription in the server's words: in another order, and with its defaults.
fn echo(subscription: &Value) -> String {
    let fields = subscription.as_object().cloned().unwrap_or_default();
    let mut all: Vec<_> = fields.into_iter().collect();
    if subscription["type"] == "l2Book" {
        let defaults = ["nSigFigs", "mantissa"].map(|name| (name.to_owned(), Value::Null));
        all.extend(defaults.into_iter().filter(|(name, _)| subscription.get(name).is_none()));
        all.push(("fast".to_owned(), Value::Bool(false)));
    }
    all.reverse();
    let fields = all.iter().map(|(name, value)| format!("{}:{value}", json!(name)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn done(method: &str, subscription: &Value) -> String {
    let echo = echo(subscription);
    format!(
        r#"{{"channel":"subscriptionResponse","data":{{"method":"{method}","subscription":{echo}}}}}"#
    )
}

fn error(words: &str) -> String {
    json!({"channel": "error", "data": words}).to_string()
}

/// A message of a feed, with its number.
fn data(subscription: &Value, n: u32, is_first: bool) -> String {
    let (kind, coin) = (subscription["type"].as_str().unwrap_or_default(), &subscription["coin"]);
    let (channel, data) = match kind {
        "trades" => (kind, json!([{"coin": coin, "n": n}])),
        "candle" => (kind, json!({"t": 1, "s": coin, "i": subscription["interval"], "n": n})),
        "userEvents" => ("user", json!({"fills": [], "n": n})),
        "userFills" => {
            let mut fills = json!({"user": subscription["user"], "fills": [], "n": n});
            if is_first {
                fills["isSnapshot"] = true.into();
            }
            (kind, fills)
        }
        _ => {
            let mut data = Map::new();
            if !coin.is_null() {
                data.insert("coin".to_owned(), coin.clone());
            }
            data.insert("n".to_owned(), n.into());
            (kind, data.into())
        }
    };
    json!({"channel": channel, "data": data}).to_string()
}

impl Service for MockHyperliquid {
    fn open(&mut self, socket: SocketId, _: &Handshake, out: &mut Out) {
        let line = Line { told: out.now(), subscriptions: BTreeMap::new() };
        self.sockets.insert(socket, line);
    }

    fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
        let now = out.now();
        self.said.push(now);
        if self.said.len() > MESSAGES {
            self.said.retain(|at| *at + MINUTE > now);
            if self.said.len() > MESSAGES {
                out.fault(socket, "more than 2,000 messages in a minute");
            }
        }
        let call = serde_json::from_str(message.as_text().unwrap_or_default());
        if self.call(socket, &call.unwrap_or_default(), out).is_none() {
            out.fault(socket, format!("no call: {message:?}"));
        }
    }

    fn gone(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
    }

    fn deadline(&self) -> Option<Instant> {
        self.sockets.values().map(|line| line.told + SILENCE).min()
    }

    fn tick(&mut self, out: &mut Out) {
        let now = out.now();
        self.sockets.retain(|socket, line| {
            let is_silent = line.told + SILENCE <= now;
            if is_silent {
                out.close(*socket, 1000, "Inactive");
            }
            !is_silent
        });
    }
}
